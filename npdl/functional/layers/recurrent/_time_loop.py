"""The loop over time of all recurrent layers, with masks, states and directions.

:func:`recurrent` builds a layer from a cell, which defines one step.

A step is a block (features, batch) in memory. The recurrent matrix product ``Uᵀh`` then has many
rows and few columns. For this shape, BLAS is up to 1.5 times as fast as for the transpose, and each
gate is one contiguous block. The other matrix products are computed once, for all steps together.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from npdl.functional._checks import check_flag, check_function
from npdl.functional._initializers import Initializer
from npdl.functional._kernels.blas_sums import sum_of_columns
from npdl.functional._layer import Layer, Params, Shape
from npdl.functional.layers.recurrent._cell import (
    Cell,
    Memory,
    States,
    before_steps,
    by_step,
    one_or_tuple,
)
from npdl.functional.layers.recurrent._sequences import (
    carried_steps,
    check_inputs,
    check_shape,
    filled_batch,
    in_order,
    masked_steps,
    steps_of,
)
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["recurrent"]


def recurrent(
    cell: Cell,
    units: int,
    *,
    return_sequence: bool,
    return_state: bool,
    reverse: bool,
    weight_init: Initializer,
    recurrent_weight_init: Initializer,
    bias_init: Initializer,
) -> Layer:
    """Build the layer that applies a cell to each step of a sequence."""
    name, n_columns = cell.name, len(cell.gates) * units
    return_sequence = check_flag(return_sequence, f"{name}(128, return_sequence=True)")
    return_state = check_flag(return_state, f"{name}(128, return_state=True)")
    reverse = check_flag(reverse, f"{name}(128, reverse=True)")
    check_function(weight_init, f"{name}(128, weight_init=he_uniform())")
    check_function(recurrent_weight_init, f"{name}(128, recurrent_weight_init=orthogonal())")
    check_function(bias_init, f"{name}(128, bias_init=zeros())")

    def init(rng: KeyLike, shape: Shape) -> Params:
        _, n_features = check_shape(cell, units, shape)

        def blocks(role: str, initialize: Initializer, *rows: int) -> list[Array]:
            return [initialize(fold(rng, role, gate), (*rows, units)) for gate in cell.gates]

        params = {
            "weight": np.hstack(blocks("weight", weight_init, n_features)),
            "recurrent_weight": np.hstack(blocks("recurrent_weight", recurrent_weight_init, units)),
        }
        for role in cell.biases:
            params[role] = np.hstack(blocks(role, bias_init))
        for gate, shift in cell.shifts.items():
            start = cell.gates.index(gate) * units
            params["bias"][start : start + units] += shift
        return params

    def run(params: Params, x: Any, keep_cache: bool) -> tuple[Any, Any, Any]:
        """Return the outputs, the last state and the cache."""
        x, mask, state, count = check_inputs(cell, units, params, x)
        examples, has_state = len(x), state is not None
        x, mask, state = filled_batch(x, mask, state)
        batch, time, _ = x.shape
        x, masked = in_order(x, reverse), masked_steps(mask, reverse)
        stacked_inputs = None
        memory = Memory(time, batch, x.dtype, keep_cache)
        states = tuple(memory.state(units) for _ in range(cell.states))
        y = np.empty((examples, time, units), x.dtype) if return_sequence else None
        sequence = None if y is None else in_order(y, reverse).transpose(1, 2, 0)
        if sequence is not None and batch == 1:  # the steps of the output are the states
            states, sequence = ([states[0][0], *sequence], *states[1:]), None
        # One matrix product for the inputs of all steps is faster than one per step, but needs a
        # sum per step. With few features, the sums cost more than the product saves.
        if cell.joined and 4 * x.shape[2] <= units and batch >= _FEWEST_JOINED:
            stacked_inputs = _stacked_inputs(x, masked, units)
            states = (list(stacked_inputs[:, :units]), *states[1:])
            z: Any = _joined_product(params, stacked_inputs)
        else:
            z = _input_product(params["weight"], cell.input_bias(params), steps_of(x, masked))
            z = _two_products(params, z, states[0]) if cell.joined else z
        for i, steps in enumerate(states):
            steps[0][...] = 0 if state is None else state[i].T
        step, kept = cell.forward(params, z, states, memory)
        carried = carried_steps(masked, time)
        caches = []
        for t in range(time):
            step_cache = step(t)
            if keep_cache:
                caches.append(step_cache)
            if carried[t] is not None:
                for steps in states:
                    np.copyto(steps[t + 1], steps[t], where=carried[t])
            if sequence is not None:
                sequence[t] = states[0][t + 1][:, :examples]
        last = tuple(steps[time].T[:examples].copy() for steps in states)
        outputs = last[0] if y is None else y
        cache = (x, masked, stacked_inputs, states, kept, caches, examples, count, has_state)
        return outputs, one_or_tuple(last), cache if keep_cache else None

    def apply(params: Params, x: Any, *, keep_cache: bool = True) -> tuple[Any, Any]:
        y, last, cache = run(params, x, keep_cache)
        return (y, last) if return_state else y, cache

    def step(params: Params, x: Any, state: Any) -> tuple[Any, Any]:
        if state is not None:
            x, mask = (*x, None)[:2] if isinstance(x, tuple) else (x, None)
            x = (x, mask, state)
        y, last, _ = run(params, x, False)
        return (y, last) if return_state else y, last

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        x, masked, stacked_inputs, states, kept, caches, examples, count, has_state = cache
        batch, time, n_features = x.shape
        g, g_state = g if return_state else (g, None)
        d_states = _last_d_states(g_state, states)
        if g is not None and not return_sequence:
            d_states[0][:, :examples] += g.T
        sequence = in_order(g, reverse) if g is not None and return_sequence else None
        block = np.empty((examples, units), x.dtype)
        dz = np.empty((n_columns, time, batch), x.dtype)
        step, finish = cell.backward(params, states, kept, caches, dz)
        carried = carried_steps(masked, time)
        for t in range(time - 1, -1, -1):
            if sequence is not None:
                # A contiguous copy first: a transposed read of `sequence` would miss the cache.
                block[...] = sequence[:, t]
                d_states[0][:, :examples] += block.T
            if carried[t] is None:
                step(t, *d_states)
            else:
                _step_and_carry(step, t, d_states, carried[t])
            if t % 16 == 0:
                _drop_vanished(d_states)
        flat = dz.reshape(n_columns, time * batch)
        if stacked_inputs is not None:
            joined = before_steps(list(stacked_inputs)) @ flat.T
            grads = {
                "weight": joined[units:-1],
                "bias": joined[-1],
                "recurrent_weight": joined[:units],
            }
        else:
            grads = {
                "weight": _as_rows(steps_of(x, masked)).T @ flat.T,
                "bias": sum_of_columns(flat),
            }
            if cell.joined:
                grads["recurrent_weight"] = before_steps(states[0]) @ flat.T
        grads |= finish(flat)
        if not input_grad:
            return grads, None
        dx: Any = (flat.T @ params["weight"].T).reshape(time, batch, n_features)
        dx = in_order(dx.transpose(1, 0, 2)[:examples], reverse)
        if count > 1:
            d_state = (
                one_or_tuple(tuple(array.T[:examples].copy() for array in d_states))
                if has_state
                else None
            )
            dx = (dx, None, d_state)[:count]
        return grads, dx

    def out_shape(shape: Shape) -> Shape:
        time, _ = check_shape(cell, units, shape)
        out = (time, units) if return_sequence else (units,)
        return (out, one_or_tuple(((units,),) * cell.states)) if return_state else out

    return Layer(init, apply, backward, out_shape, step=False if reverse else step)


# A joined matrix product copies the weights, which costs more than it saves for fewer examples.
_FEWEST_JOINED = 8


def _drop_vanished(d_states: list[Array]) -> None:
    """Set tiny gradients to zero.

    A vanishing gradient becomes subnormal, and arithmetic with subnormal numbers takes ten times as
    long.
    """
    for array in d_states:
        array *= np.abs(array) >= 1e8 * float(np.finfo(array.dtype).tiny)


def _step_and_carry(
    step: Callable[..., None], t: int, d_states: list[Array], carried: Array
) -> None:
    """Compute the backward pass of a step; gradients of masked examples are carried through."""
    before = [array.copy() for array in d_states]
    for array in d_states:
        np.copyto(array, 0, where=carried)
    step(t, *d_states)
    for array, past in zip(d_states, before, strict=True):
        np.copyto(array, past, where=carried)


def _stacked_inputs(x: Array, masked: Array | None, units: int) -> Array:
    """Return (time + 1, units + features + 1, batch): space for h, then x, then ones."""
    batch, time, n_features = x.shape
    stacked_inputs = np.empty((time + 1, units + n_features + 1, batch), x.dtype)
    stacked_inputs[:time, units:-1] = steps_of(x, masked).transpose(0, 2, 1)
    stacked_inputs[:, -1] = 1
    return stacked_inputs


def _joined_product(params: Params, stacked_inputs: Array) -> Callable[[int, Array], None]:
    """Return a function that writes ``Uᵀh + Wᵀx + b`` of a step."""
    parts = params["recurrent_weight"], params["weight"], params["bias"][None]
    product_of = np.concatenate(parts).T.dot

    def product(t: int, out: Array) -> None:
        product_of(stacked_inputs[t], out)

    return product


def _input_product(weight: Array, bias: Array, steps: Array) -> Array:
    """Return ``Wᵀx + b`` of all steps, (gates · units, time, batch)."""
    time, batch, _ = steps.shape
    if batch == 1:  # the transpose, in which each step is contiguous
        z = steps[:, 0] @ weight
        z += bias
        return z.T[:, :, None]
    z = weight.T @ _as_rows(steps).T
    z += bias[:, None]
    return z.reshape(len(z), time, batch)


def _as_rows(steps: Array) -> Array:
    """Return (time, batch, features) as a matrix (time · batch, features)."""
    return steps.reshape(steps.shape[0] * steps.shape[1], steps.shape[2])


def _two_products(params: Params, z: Array, hidden: list[Array]) -> Callable[[int, Array], None]:
    """Return a function that writes ``Uᵀh + z`` of a step."""
    product_of, z_steps = params["recurrent_weight"].T.dot, by_step(z)

    def product(t: int, out: Array) -> None:
        product_of(hidden[t], out)
        out += z_steps[t]

    return product


def _last_d_states(g_state: Any, states: States) -> list[Array]:
    """Return the gradients of the last states in new arrays."""
    given = g_state if len(states) > 1 else (g_state,)
    d_states = [np.zeros(steps[0].shape, steps[0].dtype) for steps in states]
    for array, g in zip(d_states, given or (), strict=False):
        if g is not None:
            array[:, : len(g)] += g.T
    return d_states
