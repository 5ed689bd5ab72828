"""Multi-head attention of a sequence to itself or to another sequence."""

from typing import Any

import numpy as np

from npdl.functional._arrays import check_names
from npdl.functional._checks import (
    check_flag,
    check_function,
    check_int,
    check_key,
    check_mode,
    check_number,
    refusal,
)
from npdl.functional._initializers import Initializer, glorot_uniform, zeros
from npdl.functional._kernels.attention import allowed_keys, keep_scales
from npdl.functional._kernels.masked_steps import Replaced
from npdl.functional._layer import Layer, Params, Shape, layer
from npdl.functional.layers.attention._inputs import check_inputs, check_sizes
from npdl.functional.layers.attention._mixing import Mixed, all_weights, mix, mix_backward
from npdl.functional.layers.attention._next_steps import next_context, next_steps
from npdl.functional.layers.attention._projections import Projections
from npdl.random import KeyLike

__all__ = ["check_options", "multi_head_attention"]


@layer
def multi_head_attention(
    heads: int,
    *,
    units: int | None = None,
    kv_heads: int | None = None,
    cross: bool = False,
    causal: bool = False,
    window: int | None = None,
    rotary: float | None = None,
    dropout: float = 0.0,
    bias: bool = True,
    return_weights: bool = False,
    weight_init: Initializer = glorot_uniform(),  # noqa: B008 - an immutable value
    bias_init: Initializer = zeros(),  # noqa: B008
) -> Layer:
    """Mix the steps of a sequence by their scores: ``y = softmax(Q Kᵀ / √d + b) V`` for each head.

    Q are the queries, K the keys and V the values, with d features per head. They are matrix
    products with weights. The outputs of the heads are concatenated and multiplied by one more
    weight. The bias of the scores b is an optional input.

    The input is

    - ``x``, ``(x, mask)`` or ``(x, mask, b)``, where `x` is (batch, time, features) and the mask
      (batch, time); `x` is the source of queries, keys and values; or,
    - with ``cross=True``, ``(x, context)``, ``(x, context, mask)`` or ``(x, context, mask, b)``;
      the context (batch, steps, other features) is the source of keys and values, and the mask is
      (batch, steps).

    The mask is true at steps with data. No query attends to a masked step, even if its values are
    NaN or infinite. A masked step of `x` is still a query: its output is computed from its own
    values, or from zeros if these are not finite. The output of a query without any unmasked key
    is zero. The gradient of a mask is `None`.

    The bias b is (time, steps), (batch, time, steps) or (batch, heads, time, steps), with sizes of
    1 for equal examples or heads. Floats are added to the scores, and have a gradient. Booleans
    are true where a query attends to a key. The mask and b may be `None`.

    Parameters
    ----------
    heads : int
        The number of heads. It divides the features of `x`: each head has d = features / heads.
    units : int, optional
        The number of output features; by default, the number of features of `x`.
    kv_heads : int, optional
        The number of heads of keys and values, a divisor of `heads`. A group of heads / kv_heads
        query heads shares one of them (grouped-query attention). By default, `heads`.
    cross : bool
        Whether a second sequence is the source of keys and values.
    causal : bool
        Whether a step attends only to itself and to earlier steps. Not allowed with `cross`. The
        outputs are NaN from the first non-finite step on; earlier outputs are not affected.
    window : int, optional
        A step attends only to steps at a distance of less than `window` (sliding-window
        attention). Not allowed with `cross`.
    rotary : float, optional
        The base of rotary positions, often 10000.0: queries and keys are rotated in proportion to
        their position, so that scores depend on distances. The features i and i + d/2 of a head
        are rotated by the angle ``t · base^(-2i / d)``. Not allowed with `cross`.
    dropout : float
        The fraction of attention weights (after the softmax) to drop in training.
    bias : bool
        Whether the layer adds a bias after each matrix product.
    return_weights : bool
        Whether the output is the tuple ``(y, weights)``, with the weights of the softmax before
        dropout, (batch, heads, time, steps).
    weight_init, bias_init : Initializer
        Initial values; Glorot's uniform for each of the four products, and zeros by default.

    Returns
    -------
    Layer
        From (batch, time, features) to (batch, time, units). Parameters: ``weight`` (features,
        features + 2 · kv_heads · d), with columns for queries, keys and values in this order. With
        `cross`, ``query_weight`` (features, features) and ``context_weight`` (other features,
        2 · kv_heads · d) replace it. ``output_weight`` (features, units); and a ``bias`` for each
        weight, ``query_bias`` and so on. The transposed weights are PyTorch's ``in_proj_weight``
        and ``out_proj.weight``.

    Raises
    ------
    ValueError
        If the heads do not divide the features; if a sequence has no steps; if the mask is not
        boolean or has another shape than the keys; if the bias has another shape than the scores.

    References
    ----------
    Vaswani et al.: Attention is all you need, 2017, section 3.2; for `kv_heads`, Ainslie et al.:
    GQA, 2023; for `window`, Beltagy, Peters, Cohan: Longformer, 2020, section 3.1; for `rotary`, Su
    et al.: RoFormer, 2021, section 3.2.

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
    shared, window, rotary = check_options(
        "multi_head_attention(4", heads, kv_heads, window, rotary
    )
    cross = check_flag(cross, "multi_head_attention(4, cross=True)")
    causal = check_flag(causal, "multi_head_attention(4, causal=True)")
    bias = check_flag(bias, "multi_head_attention(4, bias=False)")
    return_weights = check_flag(return_weights, "multi_head_attention(4, return_weights=True)")
    dropout = check_number(dropout, "multi_head_attention(4, dropout=0.1)", "in [0, 1)")
    check_function(weight_init, "multi_head_attention(4, weight_init=he_uniform())")
    check_function(bias_init, "multi_head_attention(4, bias_init=zeros())")
    if cross:
        _check_cross(causal=causal, window=window, rotary=rotary)
    form = Projections(heads, shared, cross, bias, rotary)
    ordered = causal or window is not None

    def init(rng: KeyLike, shape: Shape) -> Params:
        _, features, _, others = check_sizes(shape, form)
        size = features if units is None else units
        return form.init(rng, features, others, size, weight_init, bias_init)

    def apply(
        params: Params,
        x: Any,
        *,
        train: bool = False,
        rng: KeyLike | None = None,
        keep_cache: bool = True,
    ) -> tuple[Any, Any]:
        check_mode(train, rng)
        key = check_key("multi_head_attention", rng) if train and dropout else None
        check_names("multi_head_attention", params, form.names)
        given = check_inputs(params, x, form)
        order = allowed_keys(*given.times, causal=causal, window=window) if ordered else None
        sequences, replaced = given.finite(order)
        qkv = form.forward(params, sequences)
        keep_scale = None if key is None else keep_scales(key, qkv, dropout)
        mixed = mix(
            qkv, heads, given.allowed(order), given.bias, keep_scale, keep_cache or return_weights
        )
        y = outputs(params, mixed, replaced)
        return y, (given._replace(sequences=sequences), mixed, replaced) if keep_cache else None

    def outputs(params: Params, mixed: Mixed, replaced: Replaced) -> Any:
        y = form.output(params, mixed.outputs)
        if mixed.reached is not None:
            y *= mixed.reached.any(axis=1)
        y = replaced.outputs(y)
        return (y, all_weights(mixed, heads, replaced)) if return_weights else y

    def backward(
        params: Params, cache: Any, g: Any, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        given, mixed, replaced = cache
        g, g_weights = g if return_weights else (g, None)
        if g is None:
            weight = params["output_weight"]
            g = np.zeros((*mixed.outputs.shape[:2], weight.shape[1]), weight.dtype)
        g = replaced.cotangent(g)
        if g_weights is not None:
            g_weights = replaced.cotangent(g_weights.swapaxes(1, 2)).swapaxes(1, 2)
        if mixed.reached is not None:
            g = g * mixed.reached.any(axis=1)
        grads, g_mixed = form.output_backward(params, mixed.outputs, g)
        joined, views = form.gradients_like(params, given.sequences)
        d_bias = np.zeros_like(given.bias) if input_grad and given.bias is not None else None
        mix_backward(mixed, heads, g_mixed, g_weights, views, d_bias)
        others, dx = form.backward(params, given.sequences, joined, views, input_grad)
        if not input_grad:
            return grads | others, None
        dx[-1] = replaced.gradient(dx[-1])
        return grads | others, given.gradients(dx, d_bias)

    def out_shape(shape: Shape) -> Shape:
        steps, features, keys, _ = check_sizes(shape, form)
        y = (steps, features if units is None else units)
        return (y, (heads, steps, keys)) if return_weights else y

    def step(params: Params, x: Any, state: Any) -> tuple[Any, Any]:
        check_names("multi_head_attention", params, form.names)
        given = check_inputs(params, x, form)
        if given.bias_shape:
            raise ValueError(
                "multi_head_attention: one step takes no bias of the scores; leave it out"
            )
        following = next_context if cross else next_steps
        qkv, allowed, replaced, state = following(form, params, given, state, window)
        mixed = mix(qkv, heads, allowed, None, None, return_weights)
        return outputs(params, mixed, replaced), state

    return Layer(init, apply, backward, out_shape, step=step if cross or causal else False)


def check_options(
    call: str, heads: int, kv_heads: Any, window: Any, rotary: Any
) -> tuple[int, int | None, float | None]:
    """Return the heads of keys and values, the window and the rotary base, or raise.

    The right call in the errors starts with `call`.
    """
    if kv_heads is not None:
        kv_heads = check_int(kv_heads, f"{call}, kv_heads=2)")
        if heads % kv_heads:
            raise ValueError(
                refusal(kv_heads, f"{call}, kv_heads=2)", f"a divisor of the {heads} heads")
            )
    if window is not None:
        window = check_int(window, f"{call}, window=128)")
    if rotary is not None:
        rotary = check_number(rotary, f"{call}, rotary=10000.0)", "above 0")
    return heads if kv_heads is None else kv_heads, window, rotary


def _check_cross(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(
                f"multi_head_attention: {name}={value} orders the steps of one sequence, and "
                f"cross=True attends to another one; use one of the two"
            )
