"""Multi-head attention of a sequence to itself or to another sequence."""

import math
from typing import Any

import numpy as np

from npdl.functional._arrays import (
    check_float,
    check_mask,
    check_names,
    check_types,
    describe,
    is_example,
    is_several,
)
from npdl.functional._checks import (
    check_flag,
    check_function,
    check_int,
    check_key,
    check_mode,
    check_number,
)
from npdl.functional._initializers import Initializer, glorot_uniform, zeros
from npdl.functional._kernels.attention import (
    attend,
    attend_backward,
    blocked_steps,
    by_head,
    keep_scales,
)
from npdl.functional._kernels.blas_sums import sum_of_rows
from npdl.functional._kernels.masked_steps import replace_steps
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.random import KeyLike, fold
from npdl.tree import Array

__all__ = ["multi_head_attention"]


@layer
def multi_head_attention(
    heads: int,
    *,
    units: int | None = None,
    cross: bool = False,
    causal: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008 - an immutable value
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Mix the steps of a sequence by their scores: ``y = softmax(Q Kᵀ / √d) V`` for each head.

    Q are the queries, K the keys and V the values, with d features per head. They are matrix
    products with weights. The outputs of the heads are concatenated and multiplied by one more
    weight.

    The input is

    - ``x`` or ``(x, mask)``, of shapes (batch, time, features) and (batch, time); `x` is the source
      of queries, keys and values; or,
    - with ``cross=True``, ``(x, context)`` or ``(x, context, mask)``; the context (batch, steps,
      other features) is the source of keys and values, and the mask is (batch, steps).

    The mask is true at steps with data. No query attends to a masked step, even if its values are
    NaN or infinite. A masked step of `x` is still a query: its output is computed from its own
    values, or from zeros if these are not finite. The output of a query without any unmasked key
    is zero. The gradient of a mask is `None`.

    Parameters
    ----------
    heads : int
        The number of heads. It divides the features of `x`: each head has d = features / heads.
    units : int, optional
        The number of output features; by default, the number of features of `x`.
    cross : bool
        Whether a second sequence is the source of keys and values.
    causal : bool
        Whether a step attends only to itself and to earlier steps. Not allowed with `cross`. The
        outputs are NaN from the first non-finite step on; earlier outputs are not affected.
    dropout : float
        The fraction of attention weights (after the softmax) to drop in training.
    bias : bool
        Whether the layer adds a bias after each matrix product.
    weight_init, bias_init : Initializer
        Initial values; Glorot's uniform for each of the four products, and zeros by default.

    Returns
    -------
    Layer
        From (batch, time, features) to (batch, time, units). Parameters: ``weight`` (features,
        3 · features), with columns for queries, keys and values in this order. With `cross`,
        ``query_weight`` (features, features) and ``context_weight`` (other features,
        2 · features) replace it. ``output_weight`` (features, units); and a ``bias`` for each
        weight, ``query_bias`` and so on. The transposed weights are PyTorch's ``in_proj_weight``
        and ``out_proj.weight``.

    Raises
    ------
    ValueError
        If the heads do not divide the features; if a sequence has no steps; if the mask is not
        boolean or has another shape than the keys.

    References
    ----------
    Vaswani et al.: Attention is all you need, 2017, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.multi_head_attention(2, causal=True)
    >>> params = model.init(0, (5, 6))
    >>> x, mask = np.ones((3, 5, 6), np.float32), np.ones((3, 5), bool)
    >>> model(params, (x, mask)).shape
    (3, 5, 6)
    """
    heads = check_int(heads, "multi_head_attention(heads=4)")
    if units is not None:
        units = check_int(units, "multi_head_attention(4, units=64)")
    cross = check_flag(cross, "multi_head_attention(4, cross=True)")
    causal = check_flag(causal, "multi_head_attention(4, causal=True)")
    bias = check_flag(bias, "multi_head_attention(4, bias=False)")
    dropout = check_number(dropout, "multi_head_attention(4, dropout=0.1)", "in [0, 1)")
    check_function(weight_init, "multi_head_attention(4, weight_init=he_uniform())")
    check_function(bias_init, "multi_head_attention(4, bias_init=zeros())")
    if cross and causal:
        raise ValueError(
            "multi_head_attention: causal=True orders the steps of one sequence, and cross=True "
            "attends to another one; use one of the two"
        )

    # One matrix product per input sequence computes all its projections (Q, K, V).
    sources = ("query_", "context_") if cross else ("",)
    kinds = ("weight", "bias") if bias else ("weight",)
    names = {f"{name}{kind}" for name in (*sources, "output_") for kind in kinds}

    def init(rng: KeyLike, shape: Shape) -> Params:
        _, features, others = _sizes(shape, cross, heads)
        parts = [
            weight_init(fold(rng, name), (size, features))
            for name, size in (("query", features), ("key", others), ("value", others))
        ]
        joined = [parts[:1], parts[1:]] if cross else [parts]
        weights = {
            f"{name}weight": np.concatenate(group, axis=1)
            for name, group in zip(sources, joined, strict=True)
        }
        size = features if units is None else units
        weights["output_weight"] = weight_init(fold(rng, "output"), (features, size))
        if not bias:
            return weights
        biases = {
            name.replace("weight", "bias"): weight.shape[1:] for name, weight in weights.items()
        }
        return weights | {name: bias_init(fold(rng, name), size) for name, size in biases.items()}

    def apply(
        params: Params,
        x: Any,
        *,
        train: bool = False,
        rng: KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Array, Any]:
        check_mode(train, rng)
        key = check_key("multi_head_attention", rng) if train and dropout else None
        check_names("multi_head_attention", params, names)
        inputs, mask = _checked(params, x, sources)
        last, replaced = replace_steps(inputs[-1], mask, causal)
        inputs = (*inputs[:-1], last)
        width = inputs[0].shape[2]
        qkv: list[Array] = []
        for array, name in zip(inputs, sources, strict=True):
            projections = _rows(array).dot(params[f"{name}weight"])
            if bias:
                projections += params[f"{name}bias"]
            if not qkv:
                projections[:, :width] *= (width // heads) ** -0.5  # the queries
            qkv += by_head(projections, array, heads, width)
        blocked, reached = blocked_steps(mask, causal, qkv)
        keep_scale = None if key is None else keep_scales(key, qkv, dropout)
        mixed, weights = attend(qkv, blocked, keep_scale, keep_cache)
        y = _rows(mixed).dot(params["output_weight"])
        if bias:
            y += params["output_bias"]
        y = y.reshape(*mixed.shape[:2], y.shape[1])
        if reached is not None:
            y *= reached
        count = len(x) if isinstance(x, tuple) else 0
        y = replaced.outputs(y)
        return y, (inputs, qkv, weights, keep_scale, mixed, reached, count, replaced)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        inputs, qkv, weights, keep_scale, mixed, reached, count, replaced = cache
        g = replaced.cotangent(g)
        g = _rows(g if reached is None else g * reached)
        grads = {"output_weight": _rows(mixed).T @ g}
        if bias:
            grads["output_bias"] = sum_of_rows(g)
        g_mixed = (g @ params["output_weight"].T).reshape(mixed.shape)
        projections = [
            np.empty((math.prod(array.shape[:2]), params[f"{name}weight"].shape[1]), g.dtype)
            for array, name in zip(inputs, sources, strict=True)
        ]
        out = [
            part
            for rows, array in zip(projections, inputs, strict=True)
            for part in by_head(rows, array, heads, mixed.shape[2])
        ]
        attend_backward(qkv, weights, keep_scale, mixed, g_mixed, out)
        projections[0][:, : mixed.shape[2]] *= (mixed.shape[2] // heads) ** -0.5
        dx: list[Array] = []
        for array, name, rows in zip(inputs, sources, projections, strict=True):
            grads[f"{name}weight"] = _rows(array).T @ rows
            if bias:
                grads[f"{name}bias"] = sum_of_rows(rows)
            if input_grad:
                dx.append((rows @ params[f"{name}weight"].T).reshape(array.shape))
        if not input_grad:
            return grads, None
        dx[-1] = replaced.gradient(dx[-1])
        return grads, (*dx, *[None] * (count - len(dx))) if count else dx[0]

    def out_shape(shape: Shape) -> Shape:
        steps, features, _ = _sizes(shape, cross, heads)
        return (steps, features if units is None else units)

    return Layer(init, apply, backward, out_shape)


def _checked(
    params: Params, x: Any, sources: tuple[str, ...]
) -> tuple[tuple[Array, ...], Array | None]:
    """Return the sequences, and the mask of the last one."""
    count = len(sources)
    given = x if isinstance(x, tuple) else (x,)
    if not count <= len(given) <= count + 1:
        expected = "x or (x, mask)" if count == 1 else "(x, context) or (x, context, mask)"
        raise ValueError(f"multi_head_attention: expected {expected}, got {describe(x)}")
    inputs, mask = given[:count], given[count] if len(given) > count else None
    check_types("multi_head_attention", params)
    for array, name in zip(inputs, sources, strict=True):
        weight = params[f"{name}weight"]
        check_float(array, "multi_head_attention", weight.dtype)
        if array.ndim != 3 or array.shape[2] != weight.shape[0] or array.shape[1] == 0:
            raise ValueError(
                f"multi_head_attention: expected (batch, time, {weight.shape[0]}) with a time of "
                f"one step or more, got {describe(array)}"
            )
    if len(inputs[0]) != len(inputs[-1]):
        raise ValueError(
            f"multi_head_attention: x and its context are batches of different sizes: "
            f"{describe(inputs)}"
        )
    check_mask("multi_head_attention", mask, inputs[-1], "keys")
    return inputs, mask


def _sizes(shape: Any, cross: bool, heads: int) -> tuple[Any, int, int]:
    """Return the steps and features of an example, and the features of its context."""
    given = tuple(shape) if is_several(shape) else (shape,)
    count = 2 if cross else 1
    sequences, mask = given[:count], given[count] if len(given) > count else None
    if not count <= len(given) <= count + 1 or not all(
        is_example(sequence, axes=2, known=1) for sequence in sequences
    ):
        expected = (
            "((time, features), (steps, features)), and (steps,) at the end for a mask"
            if cross
            else "(time, features), or ((time, features), (time,)) with a mask"
        )
        raise ValueError(
            f"multi_head_attention: expected the shape of one example, {expected}, got {shape!r}"
        )
    (steps, features), (keys, others) = sequences[0], sequences[-1]
    if mask is not None and tuple(mask) != (keys,):
        raise ValueError(
            f"multi_head_attention: the mask of an example of {keys} keys has the shape ({keys},), "
            f"got {mask!r}"
        )
    if features % heads:
        raise ValueError(
            f"multi_head_attention: {heads} heads do not divide the {features} features of x"
        )
    return steps, features, others


def _rows(x: Array) -> Array:
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])
