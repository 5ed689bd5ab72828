"""The loop over time of all recurrent layers, with masks, states and directions.

A :class:`Cell` defines one step, forward and backward; :func:`recurrent` builds the layer from it.

A step is a block (features, batch) in memory. The recurrent matrix product ``Uᵀh`` then has many
rows and few columns. For this shape, BLAS is up to 1.5 times as fast as for the transpose, and each
gate is one contiguous block. The other matrix products are computed once, for all steps together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npdl.functional._arrays import (
    check_float,
    check_mask,
    check_params,
    describe,
    is_example,
    is_several,
)
from npdl.functional._checks import check_flag, check_function
from npdl.functional._initializers import Initializer
from npdl.functional._kernels.blas_sums import sum_of_columns
from npdl.functional._layer import Layer, Params, Shape
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["Cell", "columns", "recurrent"]

Arrays = tuple[Array, ...]
Finish = Callable[[Array], dict[str, Array]]


class Cell(NamedTuple):
    """One step of a recurrent layer, forward and backward.

    The sizes: `z` and its gradient `dz` are (gates · units, time, batch), each state is
    (time + 1, units, batch), beginning with the initial one.
    """

    name: str
    # The names of the blocks of columns in weight, recurrent_weight and bias.
    gates: tuple[str, ...]
    # forward(params, z, states) -> (step, cell_cache), where z is ``Wᵀx + b`` of all steps. In a
    # joined cell, z is a function z(t, out) that writes ``Uᵀh + Wᵀx + b`` of step t into `out`.
    # step(t) writes states[...][t + 1] from states[...][t].
    forward: Callable[[Params, Any, Arrays], tuple[Callable[[int], None], Any]]
    # backward(params, states, cell_cache, dz) -> (step, finish): step(t, *d_states) overwrites the
    # gradients of the states after step t with those before it, and sets dz[:, t].
    # finish(dz_matrix) returns the gradients of all parameters but weight and bias.
    backward: Callable[[Params, Arrays, Any, Array], tuple[Callable[..., None], Finish]]
    # Whether one matrix product of (U, W, b) and (h, x, 1) computes all gate inputs of a step.
    joined: bool = False
    # Number of arrays in the state; the first one is the output.
    states: int = 1
    biases: tuple[str, ...] = ("bias",)
    # Constants to add to the initial biases of gates.
    shifts: dict[str, float] = {}  # noqa: RUF012 - never written to


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
        _, n_features = _shape(cell, units, shape)

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

    def apply(params: Params, x: Any) -> tuple[Any, Any]:
        x, mask, state, count = _inputs(cell, units, params, x)
        examples, has_state = len(x), state is not None
        x, mask, state = _filled(x, mask, state)
        batch, time, _ = x.shape
        x, masked = _in_order(x, reverse), _masked(mask, reverse)
        stacked_inputs = None
        states = tuple(np.empty((time + 1, units, batch), x.dtype) for _ in range(cell.states))
        # One matrix product for the inputs of all steps is faster than one per step, but needs a
        # sum per step. With few features, the sums cost more than the product saves.
        if cell.joined and 4 * x.shape[2] <= units:
            stacked_inputs = _stacked_inputs(x, masked, units)
            states = (stacked_inputs[:, :units], *states[1:])
            z: Any = _joined_product(params, stacked_inputs)
        else:
            z = params["weight"].T @ _rows(x, masked).T
            z += params["bias"][:, None]
            z = z.reshape(n_columns, time, batch)
            z = _two_products(params, z, states[0]) if cell.joined else z
        for i, array in enumerate(states):
            array[0] = 0 if state is None else state[i].T
        step, cell_cache = cell.forward(params, z, states)
        y = np.empty((examples, time, units), x.dtype) if return_sequence else None
        sequence = None if y is None else _in_order(y, reverse)
        carried = _carried(masked, time)
        for t in range(time):
            step(t)
            if carried[t] is not None:
                for array in states:
                    np.copyto(array[t + 1], array[t], where=carried[t])
            if sequence is not None:
                sequence[:, t] = states[0][t + 1].T[:examples]
        cache = (x, masked, stacked_inputs, states, cell_cache, examples, count, has_state)
        last = tuple(array[time].T[:examples].copy() for array in states)
        outputs = last[0] if y is None else y
        return (outputs, _state(last)) if return_state else outputs, cache

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        x, masked, stacked_inputs, states, cell_cache, examples, count, has_state = cache
        batch, time, n_features = x.shape
        g, g_state = g if return_state else (g, None)
        d_states = _last_d_states(g_state, states)
        if g is not None and not return_sequence:
            d_states[0][:, :examples] += g.T
        sequence = _in_order(g, reverse) if g is not None and return_sequence else None
        block = np.empty((examples, units), x.dtype)
        dz = np.empty((n_columns, time, batch), x.dtype)
        step, finish = cell.backward(params, states, cell_cache, dz)
        carried = _carried(masked, time)
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
            joined = columns(stacked_inputs[:-1]) @ flat.T
            grads = {
                "weight": joined[units:-1],
                "bias": joined[-1],
                "recurrent_weight": joined[:units],
            }
        else:
            grads = {
                "weight": _rows(x, masked).T @ flat.T,
                "bias": sum_of_columns(flat),
            }
            if cell.joined:
                grads["recurrent_weight"] = columns(states[0][:-1]) @ flat.T
        grads |= finish(flat)
        if not input_grad:
            return grads, None
        dx: Any = (flat.T @ params["weight"].T).reshape(time, batch, n_features)
        dx = _in_order(dx.transpose(1, 0, 2)[:examples], reverse)
        if count > 1:
            d_state = (
                _state(tuple(array.T[:examples].copy() for array in d_states))
                if has_state
                else None
            )
            dx = (dx, None, d_state)[:count]
        return grads, dx

    def out_shape(shape: Shape) -> Shape:
        time, _ = _shape(cell, units, shape)
        out = (time, units) if return_sequence else (units,)
        return (out, _state(((units,),) * cell.states)) if return_state else out

    return Layer(init, apply, backward, out_shape)


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


def _filled(x: Array, mask: Array | None, state: Any) -> tuple[Array, Array | None, Any]:
    """Repeat the last example up to a multiple of four, for batches of 8 or more.

    A recurrent matrix product with 30 columns takes 1.3 times as long as with 32. The gradient of
    the copies is zero. Zeros in place of copies might overflow a state.
    """
    missing = -len(x) % 4
    if len(x) < 8 or not missing:
        return x, mask, state

    def filled(array: Array) -> Array:
        return np.concatenate([array, *[array[-1:]] * missing])

    return (
        filled(x),
        None if mask is None else filled(mask),
        None if state is None else tuple(map(filled, state)),
    )


def _stacked_inputs(x: Array, masked: Array | None, units: int) -> Array:
    """Return (time + 1, units + features + 1, batch): space for h, then x, then ones."""
    batch, time, n_features = x.shape
    stacked_inputs = np.empty((time + 1, units + n_features + 1, batch), x.dtype)
    stacked_inputs[:time, units:-1] = _steps(x, masked).transpose(0, 2, 1)
    stacked_inputs[:, -1] = 1
    return stacked_inputs


def _joined_product(params: Params, stacked_inputs: Array) -> Callable[[int, Array], None]:
    """Return a function that writes ``Uᵀh + Wᵀx + b`` of a step."""
    parts = params["recurrent_weight"], params["weight"], params["bias"][None]
    weight = np.concatenate(parts).T

    def product(t: int, out: Array) -> None:
        np.matmul(weight, stacked_inputs[t], out=out)

    return product


def _two_products(params: Params, z: Array, hidden: Array) -> Callable[[int, Array], None]:
    """Return a function that writes ``Uᵀh + z`` of a step."""
    weight = params["recurrent_weight"].T

    def product(t: int, out: Array) -> None:
        np.matmul(weight, hidden[t], out=out)
        out += z[:, t]

    return product


def columns(array: Array) -> Array:
    """Return (time, units, batch) as a matrix (units, time · batch)."""
    time, units, batch = array.shape
    return array.transpose(1, 0, 2).reshape(units, time * batch)


def _rows(x: Array, masked: Array | None) -> Array:
    """Return (batch, time, features) as a matrix (time · batch, features), zero at masked steps."""
    batch, time, n_features = x.shape
    return _steps(x, masked).reshape(time * batch, n_features)


def _steps(x: Array, masked: Array | None) -> Array:
    """Return (time, batch, features), zero at masked steps."""
    steps = x.transpose(1, 0, 2)
    if masked is not None:
        # Padding, which may be NaN, must not reach a matrix product.
        steps = steps.copy()
        steps[masked] = 0
    return steps


def _in_order(array: Array, reverse: bool) -> Array:
    """Return (batch, time, ...) in the order of the loop; the function is its own inverse."""
    return array[:, ::-1] if reverse else array


def _masked(mask: Array | None, reverse: bool) -> Array | None:
    """Return (time, batch), true at masked steps; `None` if no step is masked."""
    return None if mask is None or mask.all() else ~_in_order(mask, reverse).T


def _carried(masked: Array | None, time: int) -> list[Any]:
    """Return for each step the boolean mask of masked examples, or `None` without any."""
    if masked is None:
        return [None] * time
    return [row if row.any() else None for row in masked]


def _state(arrays: tuple[Any, ...]) -> Any:
    return arrays[0] if len(arrays) == 1 else arrays


def _last_d_states(g_state: Any, states: Arrays) -> list[Array]:
    """Return the gradients of the last states in new arrays."""
    given = g_state if len(states) > 1 else (g_state,)
    d_states = [np.zeros(array.shape[1:], array.dtype) for array in states]
    for array, g in zip(d_states, given or (), strict=False):
        if g is not None:
            array[:, : len(g)] += g.T
    return d_states


def _inputs(
    cell: Cell, units: int, params: Params, given: Any
) -> tuple[Array, Array | None, Any, int]:
    """Check `x`, `(x, mask)` or `(x, mask, state)`; return the three and the number of inputs."""
    name, parts = cell.name, given if isinstance(given, tuple) else (given,)
    if len(parts) > 3 or not parts:
        raise ValueError(
            f"{name}: the input is x, (x, mask) or (x, mask, state), got {describe(given)}"
        )
    x, mask, state = (*parts, None, None)[:3]
    n_columns = len(cell.gates) * units
    shapes: dict[str, Shape] = {
        "weight": (len(params["weight"]) if "weight" in params else 1, n_columns),
        "recurrent_weight": (units, n_columns),
        **dict.fromkeys(cell.biases, (n_columns,)),
    }
    check_params(name, params, shapes)
    weight = params["weight"]
    check_float(x, name, weight.dtype)
    if x.ndim != 3 or x.shape[2] != len(weight):
        raise ValueError(
            f"{name}: these params take (batch, time, features) with {len(weight)} features, but "
            f"the input is {describe(x)}"
        )
    batch = len(x)
    check_mask(name, mask, x)
    if state is not None:
        state = state if cell.states > 1 else (state,)
        if not isinstance(state, tuple) or len(state) != cell.states:
            raise ValueError(
                f"{name}: the state must be a tuple of {cell.states} arrays, got {describe(state)}"
            )
        for array in state:
            check_float(array, f"{name}, state", weight.dtype)
            if array.shape != (batch, units):
                raise ValueError(
                    f"{name}: for the input {describe(x)} each array of the state must be "
                    f"[{batch}, {units}], (batch, units), got {describe(array)}"
                )
    return x, mask, state, len(parts)


def _shape(cell: Cell, units: int, shape: Any) -> tuple[Any, int]:
    """Check the shape of an example; return its time and features."""
    several = is_several(shape)
    first, mask, state = (*shape, None, None)[:3] if several else (shape, None, None)
    if not is_example(first, axes=2, known=1) or (several and len(shape) > 3):
        raise ValueError(
            f"{cell.name}: expected the shape of one example, (time, features), such as (20, 64) "
            f"or (None, 64), or ((time, features), (time,)) with a mask, got {shape!r}"
        )
    time, n_features = first
    if mask is not None and tuple(mask) != (time,):
        raise ValueError(
            f"{cell.name}: the mask of sequences of shape {first} has the shape ({time},), "
            f"got {mask}"
        )
    expected = _state(((units,),) * cell.states)
    if state is not None and tuple(state) != expected:
        raise ValueError(f"{cell.name}: the state has the shape {expected}, got {state}")
    return time, n_features
