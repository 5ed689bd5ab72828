"""A model at the next steps of a sequence, with the state after the previous steps.

Layers that declare ``step`` have this form themselves. Combinators need no code of their own: the
declaration of their parts suffices. Nodes that do not depend on the sequence, such as an encoder,
are computed once, and their outputs are part of the state.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from npdl._calls import shown
from npdl.functional._layer import Layer, Params
from npdl.functional.combinators._children import check_params, note_apply, short
from npdl.functional.combinators._parts import Node, Parts, at, bound, flat, found
from npdl.functional.combinators._rebuilt import first_call

__all__ = ["decode_step"]

# step(params, x, state) -> (y, state)
Step = Callable[[Params, Any, Any], tuple[Any, Any]]
# The names of the combinators around a layer, each with the label of its child.
Places = tuple[tuple[str, str], ...]


def decode_step(model: Layer) -> Callable[..., tuple[Any, Any]]:
    """Return a function that computes the outputs of a model at the next steps of a sequence.

    ``(yₜ, hₜ) = f(xₜ, hₜ₋₁)``, where xₜ are one or several steps, and h is the state: the keys and
    values of attention, the states of recurrent layers, and the positions. The outputs equal the
    outputs of the whole sequence in evaluation mode, up to rounding. The time of a step with causal
    attention is proportional to the number of steps before it.

    Parameters
    ----------
    model : Layer
        A model whose outputs do not depend on later steps: causal attention, cross-attention,
        recurrent layers that run forward, positions, and layers that treat each step separately,
        in combinators.

    Returns
    -------
    callable
        ``step(params, x, state=None) -> (y, state)``, a pure function. `x` is (batch, steps, ...),
        or ids (batch, steps). In a tuple, the first input is the sequence; further inputs, such as
        the memory of a decoder, are passed in each call. A mask of `x` has the steps of `x`. The
        state is `None` before the first step. It is a tree of arrays, whose first axis is the
        batch: one state may have several continuations, also in another order of the examples.

    Raises
    ------
    ValueError
        If the output of a layer depends on later steps, or if a layer of your own does not declare
        ``Layer(..., step=...)``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> block = F.transformer_encoder_block(2, 32, causal=True)
    >>> model = F.serial(F.embedding(100, 8), F.learned_positions(16), block, F.dense(100))
    >>> params = model.init(0, (5,))
    >>> ids, step = np.array([[7, 1, 4, 9, 2]]), F.decode_step(model)
    >>> y, state = step(params, ids[:, :2])
    >>> for t in range(2, 5):
    ...     y, state = step(params, ids[:, t : t + 1], state)
    >>> np.allclose(y[:, -1], model(params, ids)[:, -1], atol=1e-5)
    True
    """
    if not isinstance(model, Layer):
        raise TypeError(f"decode_step: expected a layer, got {shown(model)}")

    @functools.cache
    def step_of(count: int | None) -> Step:
        moves = True if count is None else (True, *[False] * (count - 1))
        return _step_of(model, moves, ())

    # Raise now if a layer has no one-step form. The result does not depend on optional inputs.
    parts = model.parts
    step_of(None if parts is None else _least_count(parts))

    def step(params: Params, x: Any, state: Any = None) -> tuple[Any, Any]:
        return step_of(len(x) if isinstance(x, tuple) else None)(params, x, state)

    return step


def _least_count(parts: Parts) -> int | None:
    """Return a number of inputs that fits; `None` for one input without a tuple."""
    counts: list[int | None] = [None, *range(1, len(flat(parts.inputs)) + 1)]
    return next(count for count in counts if parts.given(count) is not None)


def _step_of(layer: Layer, moves: Any, places: Places) -> Step:
    """Return the one-step form of a layer; `moves` are booleans for inputs, true for sequences."""
    if layer.step is True:
        return _alone(layer)
    if layer.step is not False:
        return layer.step
    if layer.parts is None:
        raise _missing_step(layer, places)
    return _step_of_parts(layer, moves, places)


def _alone(layer: Layer) -> Step:
    """Return the one-step form of a layer that treats each step separately."""
    # Layers without a mode are called directly, which saves the time of the adapter.
    apply = getattr(layer.apply, "plain", None) or functools.partial(layer.apply, keep_cache=False)
    return lambda params, x, state: (apply(params, x)[0], None)


class _Move(NamedTuple):
    """A node, its one-step form, and the key of its state; nodes of the context have no form."""

    node: Node
    step: Step | None
    key: str


def _step_of_parts(layer: Layer, moves: Any, places: Places) -> Step:
    """Return the one-step form of a combinator."""
    parts, moving = layer.parts.of(moves)
    call = first_call(layer)
    name = parts.name or (call.name if call else "Layer")
    reached = parts.reached()
    plan: list[_Move] = []
    used = {*flat(parts.outputs)}
    for node in parts.nodes:
        moves_now = any(moving.get(source) for source in node.read)
        moving |= dict.fromkeys(node.written, moves_now)
        if reached.isdisjoint(node.written):
            continue
        step = None
        if moves_now:
            here = (*places, (name, node.label or node.written[0]))
            step = _step_of(node.layer, found(moving, node.sources), here)
            used.update(node.read)
        plan.append(_Move(node, step, node.written[0]))
    constant = [each for move in plan if move.step is None for each in move.node.written]
    kept = [each for each in constant if each in used]

    def step_of_parts(params: Params, x: Any, state: Any) -> tuple[Any, Any]:
        values = bound(name, parts.inputs, x)
        if state is None:
            check_params(name, parts, params)
        else:
            values |= {each: state.get(each) for each in kept}
        following: dict[str, Any] = {}
        for node, step, key in plan:
            if step is None and state is not None:
                continue
            sources, names = node.sources, node.names
            given = values.get(sources) if type(sources) is str else found(values, sources)
            p = at(params, node.path)
            try:
                if step is None:
                    y = node.layer.apply(p, given, keep_cache=False)[0]
                else:
                    y, after = step(p, given, None if state is None else state.get(key))
                    if after is not None:
                        following[key] = after
            except Exception as error:
                if node.path:
                    note_apply(error, f"{name}[{node.path[-1]!r}]", node.layer, p, given)
                raise
            if type(names) is str:
                values[names] = y
            else:
                values |= bound(name, names, y)
        following |= {each: values[each] for each in kept if values.get(each) is not None}
        return found(values, parts.outputs), following or None

    return step_of_parts


def _missing_step(layer: Layer, places: Places) -> ValueError:
    place = " → ".join(f"{name}[{label}]" for name, label in places)
    return ValueError(
        f"decode_step: {short(layer)}{f' in {place}' if place else ''} has no one-step form, since "
        f"its outputs may depend on later steps; attention needs causal=True, a recurrent layer "
        f"reverse=False, and a layer of your own that treats each step separately "
        f"Layer(…, step=True)"
    )
