"""A recurrent layer from one step: any layer of an input and a state."""

import functools
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.functional._arrays import check_array, check_mask, describe, is_example, is_several
from npdl.functional._checks import check_flag, check_mode, refusal
from npdl.functional._dual import as_dual, is_dual
from npdl.functional._layer import Layer, Params, Shape, keep_params, layer
from npdl.functional.combinators._children import check_layers, short
from npdl.functional.combinators._rebuilt import in_dual_numbers
from npdl.tree import Array

__all__ = ["scan"]


@layer
def scan(
    cell: Layer,
    state: Any,
    *,
    return_sequence: bool = False,
    return_state: bool = False,
    reverse: bool = False,
) -> Layer:
    """Apply a cell to each step of a sequence: ``hₜ = f(xₜ, hₜ₋₁)``, with the state h.

    Parameters
    ----------
    cell : Layer
        One step, from ``(x, state)`` to ``(y, state)``; all steps share its parameters. For
        example, a :func:`graph`, or a :func:`from_function` with two inputs and two outputs.
    state : tuple
        The shape of one example's state: ``(8,)``, or ``((8,), (8,))`` for two arrays.
    return_sequence : bool
        Whether the output is y of all steps, or of the last one only.
    return_state : bool
        Whether the output is the tuple ``(y, state)``, with the state after the last step.
    reverse : bool
        Whether the steps are computed from the last one to the first one.

    Returns
    -------
    Layer
        Its input is `x` (batch, time, ...), ``(x, mask)`` or ``(x, mask, state)``, as for
        :func:`lstm`; so :func:`bidirectional` and :func:`one_step` accept it. The initial state is
        zero by default. A masked step carries the state through and repeats the previous output,
        zeros before the first step. It has the parameters of the cell. In training, step t gets
        the key ``fold(rng, t)``.

    Raises
    ------
    ValueError
        If an input has a wrong shape, or the cell returns a state of another shape.
    TypeError
        If the cell has running statistics.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> nodes = {
    ...     "a": (F.dense(4), "x"),
    ...     "b": (F.dense(4, bias=False), "h"),
    ...     "sum": (F.add(), ("a", "b")),
    ...     "y": (F.tanh(), "sum"),
    ... }
    >>> cell = F.graph(("x", "h"), nodes, ("y", "y"))
    >>> model = F.scan(cell, (4,), return_sequence=True)
    >>> params = model.init(0, (5, 3))
    >>> model(params, np.ones((2, 5, 3), np.float32)).shape
    (2, 5, 4)
    """
    check_layers("scan", (cell,))
    if cell.update_stats is not keep_params:
        raise TypeError(f"scan: running statistics of a cell are not supported, got {short(cell)}")
    shapes = _state_shape(state)
    return_sequence = check_flag(return_sequence, "scan(cell, (8,), return_sequence=True)")
    return_state = check_flag(return_state, "scan(cell, (8,), return_state=True)")
    reverse = check_flag(reverse, "scan(cell, (8,), reverse=True)")
    of_dual_numbers = functools.cache(lambda: in_dual_numbers(cell))

    def init(rng: random.KeyLike, shape: Shape) -> Params:
        return cell.init(rng, (_checked_shape(shape)[1:], shapes))

    def apply(
        params: Params,
        x: Any,
        *,
        train: bool = False,
        rng: random.KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Any, Any]:
        check_mode(train, rng)
        key = None if rng is None else random.key(rng)
        x, mask, before, given = _inputs(x, shapes, params)
        step = of_dual_numbers() if any(map(is_dual, tree.leaves((params, x)))) else cell
        masks, order = _masks(mask, x.shape[1]), _order(x.shape[1], reverse)
        y: Any = None
        ys, caches = [], []
        plain = getattr(step.apply, "plain", None)  # saves the time of an adapter
        for t in order:
            if plain is not None:
                result, cache = plain(params, (x[:, t], before))
            else:
                mode = {"train": train, "rng": None if key is None else random.fold(key, t)}
                result, cache = step.apply(params, (x[:, t], before), keep_cache=keep_cache, **mode)
            if y is None:
                _check_step(cell, result, before)
            new, after = result
            keep = masks[t]
            if keep is not None:
                y = np.zeros_like(new) if y is None else y
                new, after = _chosen(keep, new, y), _chosen(keep, after, before)
            y, before = new, after
            if keep_cache:
                caches.append(cache)
            if return_sequence:
                ys.append(y)
        if return_sequence or y is None:
            y = _sequence(ys[::-1] if reverse else ys, x, cell, shapes)
            y = y if return_sequence else y.sum(axis=1)
        outputs = (y, before) if return_state else y
        return outputs, (x, masks, given, caches) if keep_cache else None

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        x, masks, given, caches = cache
        g, d_state = g if return_state else (g, None)
        dx = np.zeros(x.shape, x.dtype) if input_grad and x.dtype.kind in "fc" else None
        grads: Params = None
        order = _order(x.shape[1], reverse)
        d_y = None if return_sequence else g
        for t, kept in zip(order[::-1], caches[::-1], strict=True):
            if return_sequence and g is not None:
                d_y = g[:, t] if d_y is None else d_y + g[:, t]
            before = skipped = None
            if masks[t] is not None:
                # Of masked examples, output and state go back to the step before.
                (before, d_y), (skipped, d_state) = _split(masks[t], d_y), _split(masks[t], d_state)
            if d_y is not None or d_state is not None:
                part, (d_x, d_state) = cell.backward(params, kept, (d_y, d_state))
                grads = _accumulated(grads, part)
                if dx is not None and d_x is not None:
                    dx[:, t] = d_x
            d_y, d_state = before, d_state if skipped is None else tree.add(d_state, skipped)
        if not input_grad:
            return grads, None
        gradients = (dx, None, d_state if given == 3 else None)
        return grads, gradients[: abs(given)] if given != 1 else dx

    def out_shape(shape: Shape) -> Shape:
        time, *features = _checked_shape(shape)
        y, after = cell.out_shape((tuple(features), shapes))
        y = (time, *y) if return_sequence else y
        return (y, after) if return_state else y

    return Layer(init, apply, backward, out_shape)


def _state_shape(state: Any) -> Any:
    """Return the shape of the state of one example, or a tuple of shapes."""
    shapes = state if is_several(state) else (state,)
    if not all(is_example(shape, least=1) or shape == () for shape in shapes):
        expected = "the shape of one example, or a tuple of shapes"
        raise ValueError(refusal(state, "scan(cell, state=(8,))", expected))
    return tuple(map(tuple, shapes)) if is_several(state) else tuple(state)


def _checked_shape(shape: Any) -> Shape:
    """Return (time, ...) of an example of `x`, `(x, mask)` or `(x, mask, state)`."""
    first = shape[0] if is_several(shape) else shape
    if not is_example(first, known=max(len(first) - 1, 0)) or len(first) < 1:
        raise ValueError(
            f"scan: expected the shape of one example, (time, ...), such as (20, 64), or "
            f"((time, ...), (time,)) with a mask, got {shape!r}"
        )
    return tuple(first)


def _inputs(given: Any, shapes: Any, params: Params) -> tuple[Array, Array | None, Any, int]:
    """Return `x`, the mask, the initial state, and the number of inputs.

    The number is -3 if the third of three inputs, the state, is `None`.
    """
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(
            f"scan: the input is x, (x, mask) or (x, mask, state), got {describe(given)}"
        )
    x, mask, state = (*parts, None, None)[:3]
    check_array(x, "scan")
    if x.ndim < 2:
        raise ValueError(f"scan: expected x (batch, time, ...), got {describe(x)}")
    check_mask("scan", mask, x)
    if state is None:
        floats = (leaf for leaf in tree.leaves((x, params)) if leaf.dtype.kind in "fc")
        dtype = next(floats, np.zeros(0, np.float32)).dtype
        several = shapes if is_several(shapes) else (shapes,)
        zeros = tuple(as_dual(np.zeros((len(x), *shape), dtype)) for shape in several)
        count = -3 if len(parts) == 3 else len(parts)
        return x, mask, zeros if is_several(shapes) else zeros[0], count
    arrays = all(isinstance(leaf, np.ndarray) for leaf in tree.leaves(state))
    if not arrays or tree.map(np.shape, state) != _batched(shapes, len(x)):
        raise ValueError(
            f"scan: for the input {describe(x)} the state must have the shape "
            f"{_batched(shapes, len(x))}, got {describe(state)}"
        )
    return x, mask, state, len(parts)


def _batched(shapes: Any, batch: int) -> Any:
    """Return the shapes with the size of the batch."""
    if is_several(shapes):
        return tuple(_batched(shape, batch) for shape in shapes)
    return (batch, *shapes)


def _masks(mask: Array | None, time: int) -> list[Array | None]:
    """Return for each step the booleans of unmasked examples, or `None` if all are unmasked."""
    if mask is None:
        return [None] * time
    return [None if row.all() else row for row in mask.T]


def _order(time: int, reverse: bool) -> range:
    return range(time - 1, -1, -1) if reverse else range(time)


def _check_step(cell: Layer, result: Any, before: Any) -> None:
    """Raise unless the result of one step is an output and a state."""
    if not isinstance(result, tuple) or len(result) != 2 or isinstance(result[0], tuple):
        raise ValueError(
            f"scan: the cell must return (y, state), with one array y, got {describe(result)} from "
            f"{short(cell)}"
        )
    if tree.map(np.shape, result[1]) != tree.map(np.shape, before):
        raise ValueError(
            f"scan: the cell must return a state like the one that it gets, {describe(before)}, "
            f"got {describe(result[1])} from {short(cell)}"
        )


def _chosen(mask: Array, new: Any, old: Any) -> Any:
    """Return the new arrays for unmasked examples, the old ones for masked examples."""

    def choose(a: Array, b: Array) -> Any:
        return as_dual(np.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b))

    return tree.map(choose, new, old)


def _split(mask: Array, g: Any) -> tuple[Any, Any]:
    """Return the gradient for masked examples, and for unmasked ones."""
    if g is None:
        return None, None
    zeros = tree.map(np.zeros_like, g)
    return _chosen(mask, zeros, g), _chosen(mask, g, zeros)


def _accumulated(total: Params, part: Params) -> Params:
    """Return the sum of gradients; the dicts and arrays of the total belong to the caller."""
    if total is None:
        return tree.map(lambda leaf: as_dual(np.array(leaf)), part)
    if type(part) is np.ndarray:
        total += part
    elif type(part) is dict:
        for name, leaf in part.items():
            total[name] = _accumulated(total[name], leaf)
    elif type(part) is tuple:
        return tuple(map(_accumulated, total, part))
    elif part is not None:
        return tree.add(total, part)
    return total


def _sequence(ys: list[Array], x: Array, cell: Layer, shapes: Any) -> Array:
    """Return the outputs (batch, time, ...) of all steps."""
    if ys:
        return as_dual(np.stack(ys, axis=1))  # type: ignore[no-any-return]
    shape = cell.out_shape((x.shape[2:], shapes))[0]
    return np.zeros((len(x), 0, *shape), x.dtype if x.dtype.kind in "fc" else np.float32)
