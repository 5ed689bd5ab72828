"""Blocks of transformers, composed of attention, fully connected layers and layer norms.

The output of each sublayer of a block is added to its input. Each sublayer has a layer norm, before
the sublayer or after the sum:

    pre-norm:   x = x + sublayer(norm(x))
    post-norm:  x = norm(x + sublayer(x))
"""

from typing import Any

import numpy as np

from npdl.functional._arrays import check_float, describe, is_several
from npdl.functional._checks import check_flag, check_int, check_number, refusal
from npdl.functional._kernels.attention import allowed_keys
from npdl.functional._kernels.masked_steps import Replaced, replace_steps
from npdl.functional._layer import Layer, Params, Shape, layer, no_params
from npdl.functional.combinators._children import connected
from npdl.functional.combinators._declared import declared
from npdl.functional.combinators._feed_forward import feed_forward
from npdl.functional.combinators._joins import add
from npdl.functional.layers._dropout import dropout as dropped
from npdl.functional.layers._normalization import layer_norm
from npdl.functional.layers.activations._rectifiers import relu
from npdl.functional.layers.attention._multi_head import check_options, multi_head_attention
from npdl.tree import Array

__all__ = ["transformer_decoder_block", "transformer_encoder_block"]


@layer
def transformer_encoder_block(
    heads: int,
    hidden_units: int,
    *,
    activation: Layer = relu(),  # noqa: B008 - an immutable value
    norm: Layer = layer_norm(),  # noqa: B008
    dropout: float = 0.0,
    bias: bool = True,
    pre_norm: bool = True,
    causal: bool = False,
    kv_heads: int | None = None,
    window: int | None = None,
    rotary: float | None = None,
) -> Layer:
    """Apply self-attention to a sequence, then a feed-forward network to each time step.

    First ``x = x + A(N(x))``, then ``x = x + D(N(x))``; or, with the norms after the sums,
    ``x = N(x + A(x))``, then ``x = N(x + D(x))``.

    Here A is :func:`multi_head_attention`, and N is the norm. D is the feed-forward network
    ``dense``, activation, ``dense``; it restores the number of features.

    The input is ``x`` or ``(x, mask)``, of shapes (batch, time, features) and (batch, time). The
    mask is True for time steps with data. The values of a masked step, including NaN and infinity,
    do not affect other steps or gradients. Its output has no meaning. :func:`stack` passes one
    mask to several blocks. A final ``layer_norm()`` usually follows several pre-norm blocks.

    Parameters
    ----------
    heads : int
        The number of heads, a divisor of the number of features.
    hidden_units : int
        The number of hidden units of the feed-forward network after the activation, often four
        times the features.
    activation : Layer
        The activation of the hidden units. A gated one, such as :func:`swiglu`, halves the number
        of units: the first ``dense`` then has 2 · hidden_units.
    norm : Layer
        The normalization, such as ``layer_norm(epsilon=1e-12)`` or :func:`rms_norm`.
    dropout : float
        The dropped fraction, in training, of the attention weights, of the hidden units and of
        the output of each sublayer.
    bias : bool
        Whether attention and the feed-forward network have biases.
    pre_norm : bool
        Whether the norms come before the sublayers; otherwise after the sums, as in the paper.
    causal : bool
        Whether a time step attends only to itself and to earlier steps, as in a language model
        without an encoder.
    kv_heads, window, rotary
        As in :func:`multi_head_attention`: shared heads of keys and values, sliding-window
        attention and rotary positions.

    Returns
    -------
    Layer
        The output is one array of the shape of `x`. The parameters are a dict with the keys
        ``attention``, ``attention_norm``, ``feed_forward`` and ``feed_forward_norm``, and keys of
        nodes without parameters.

    Raises
    ------
    ValueError
        If `heads` does not divide the number of features, or the input or its mask has a wrong
        shape.

    References
    ----------
    Vaswani et al.: Attention is all you need, 2017, section 3.1; for pre-norm, Xiong et al.: On
    layer normalization in the transformer architecture, 2020.

    Examples
    --------
    Two blocks with a mask:

    >>> import numpy as np
    >>> import npdl.functional as F
    >>> block = F.transformer_encoder_block(heads=2, hidden_units=32)
    >>> model = F.graph(
    ...     ("ids", "mask"),
    ...     {
    ...         "words": (F.embedding(100, 8), "ids"),
    ...         "steps": (F.sinusoidal_positions(), "words"),
    ...         "blocks": (F.stack(block, block), ("steps", "mask")),
    ...         "norm": (F.layer_norm(), "blocks"),
    ...     },
    ...     "norm",
    ... )
    >>> params = model.init(0, ((5,), (5,)))
    >>> ids = np.array([[7, 1, 4, 9, 2], [5, 3, 0, 0, 0]])
    >>> y = model(params, (ids, ids != 0))
    >>> y.shape
    (2, 5, 8)

    The masked steps do not affect the other steps:

    >>> bool(np.allclose(y[1:, :2], model(params, (ids[1:, :2], None)), atol=1e-5))
    True
    """
    name = "transformer_encoder_block"
    heads, hidden_units = _check_needed(name, heads, hidden_units, activation, norm)
    dropout = check_number(dropout, f"{name}(8, 2048, dropout=0.1)", "in [0, 1)")
    causal = check_flag(causal, f"{name}(8, 2048, causal=True)")
    check_options(f"{name}(8, 2048", heads, kv_heads, window, rotary)
    bias = check_flag(bias, f"{name}(8, 2048, bias=False)")

    attention = multi_head_attention(
        heads,
        kv_heads=kv_heads,
        causal=causal,
        window=window,
        rotary=rotary,
        dropout=dropout,
        bias=bias,
    )
    parts = {
        "attention": (attention, ("steps_mask",)),
        "feed_forward": (feed_forward(hidden_units, activation, dropout, bias), ()),
    }
    finite = _finite_steps(name, causal, window)
    return _block(name, ("x", "mask"), finite, parts, norm, dropout, pre_norm)


@layer
def transformer_decoder_block(
    heads: int,
    hidden_units: int,
    *,
    activation: Layer = relu(),  # noqa: B008
    norm: Layer = layer_norm(),  # noqa: B008
    dropout: float = 0.0,
    bias: bool = True,
    pre_norm: bool = True,
    kv_heads: int | None = None,
    window: int | None = None,
    rotary: float | None = None,
) -> Layer:
    """Apply causal self-attention to a sequence, then cross-attention to a second sequence.

    First ``x = x + A(N(x))``, then ``x = x + C(N(x), m)``, then ``x = x + D(N(x))``; or, with the
    norms after the sums, ``x = N(x + A(x))``, and so on.

    Here A is causal :func:`multi_head_attention` of `x`, and C is attention from `x` to the memory
    m. N and D are defined as in :func:`transformer_encoder_block`.

    The input is ``(x, memory)``, ``(x, memory, memory_mask)`` or
    ``(x, memory, memory_mask, mask)``, of shapes (batch, time, features), (batch, steps, other
    features), (batch, steps) and (batch, time). The masks are True for time steps with data, and
    may be `None`. The last one is the mask of `x`. It is not needed for padding at the end of `x`,
    since no step attends to later ones. :func:`stack` passes memory and masks to several blocks,
    and adds the gradients of the memory.

    Parameters
    ----------
    heads, hidden_units, activation, norm, dropout, bias, pre_norm, kv_heads, window, rotary
        As in :func:`transformer_encoder_block`. The memory is not normalized. `window` and `rotary`
        concern self-attention only.

    Returns
    -------
    Layer
        The output has the shape of `x`. The parameters are a dict with the keys ``attention``,
        ``cross_attention`` and ``feed_forward``, their norms, such as ``attention_norm``, and
        nodes without parameters.

    Raises
    ------
    ValueError
        If `heads` does not divide the number of features; if the batch sizes of `x` and the memory
        differ; or if an input or a mask has a wrong shape.

    References
    ----------
    Vaswani et al.: Attention is all you need, 2017, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> block = F.transformer_decoder_block(heads=2, hidden_units=32)
    >>> model = F.stack(block, block)
    >>> params = model.init(0, ((5, 8), (7, 6)))
    >>> x, memory = np.ones((3, 5, 8), np.float32), np.ones((3, 7, 6), np.float32)
    >>> model(params, (x, memory)).shape
    (3, 5, 8)
    """
    name = "transformer_decoder_block"
    heads, hidden_units = _check_needed(name, heads, hidden_units, activation, norm)
    dropout = check_number(dropout, f"{name}(8, 2048, dropout=0.1)", "in [0, 1)")
    bias = check_flag(bias, f"{name}(8, 2048, bias=False)")
    check_options(f"{name}(8, 2048", heads, kv_heads, window, rotary)

    common: dict[str, Any] = {"kv_heads": kv_heads, "dropout": dropout, "bias": bias}
    attention = multi_head_attention(heads, causal=True, window=window, rotary=rotary, **common)
    cross = multi_head_attention(heads, cross=True, **common)
    parts = {
        "attention": (attention, ("steps_mask",)),
        "cross_attention": (cross, ("memory", "memory_mask")),
        "feed_forward": (feed_forward(hidden_units, activation, dropout, bias), ()),
    }
    inputs = ("x", "memory", "memory_mask", "mask")
    finite = _finite_steps(name, True, window)
    return _block(name, inputs, finite, parts, norm, dropout, pre_norm)


def _check_needed(
    name: str, heads: Any, hidden_units: Any, activation: Any, norm: Any
) -> tuple[int, int]:
    if not isinstance(activation, Layer):
        raise TypeError(refusal(activation, f"{name}(8, 2048, activation=gelu())", "a layer"))
    if not isinstance(norm, Layer):
        raise TypeError(refusal(norm, f"{name}(8, 2048, norm=rms_norm())", "a layer"))
    return (
        check_int(heads, f"{name}(heads=8, hidden_units=2048)"),
        check_int(hidden_units, f"{name}(8, hidden_units=2048)"),
    )


def _block(
    name: str,
    inputs: tuple[str, ...],
    finite: Layer,
    parts: dict[str, tuple[Layer, tuple[str, ...]]],
    norm: Layer,
    dropout: float,
    pre_norm: bool,
) -> Layer:
    """Connect sublayers with their norms, dropouts and sums; each reads `x` and other inputs."""
    pre_norm = check_flag(pre_norm, f"{name}(8, 2048, pre_norm=False)")
    # Masked steps are replaced, as in attention, before the norms and dense layers.
    nodes: dict[Any, Any] = {("steps", "steps_mask", "lost"): (finite, ("x", "mask"), None)}
    x = "steps"
    for part, (inner, others) in parts.items():
        normed, noisy, total = f"{part}_norm", f"{part}_dropout", f"{part}_sum"
        if pre_norm:
            nodes[normed] = (norm, x)
        source = normed if pre_norm else x
        nodes[part] = (inner, (source, *others) if others else source)
        nodes[noisy] = (dropped(dropout), part)
        nodes[total] = (add(), (x, noisy))
        if not pre_norm:
            nodes[normed] = (norm, total)
        x = total if pre_norm else normed
    nodes["y"] = (_lost_steps(), (x, "lost"), None)
    return connected(declared(name, inputs, nodes, "y", optional=len(parts) - 1))


@layer
def _finite_steps(name: str, causal: bool, window: int | None = None) -> Layer:
    """Replace steps that are not finite; the outputs are `x`, the mask and the lost steps."""
    ordered = causal or window is not None

    def checked(x: Any) -> tuple[Array, Any]:
        steps, mask = x if isinstance(x, tuple) else (x, None)
        check_float(steps, name)
        if steps.ndim != 3:
            raise ValueError(
                f"{name}: expected x of shape (batch, time, features), got {describe(steps)}"
            )
        return steps, mask

    def apply(params: Params, x: Any) -> tuple[Any, Any]:
        steps, mask = checked(x)
        fits = type(mask) is np.ndarray and mask.dtype == bool and mask.shape == steps.shape[:2]
        # Attention raises an error about any other mask.
        mask_of_steps = mask if fits else None

        def attended() -> Array:
            time = steps.shape[1]
            allowed = allowed_keys(time, time, causal=causal, window=window)
            return allowed if mask_of_steps is None else allowed & mask_of_steps[:, None, :, None]

        steps, replaced = replace_steps(steps, mask_of_steps, attended if ordered else None)
        return (steps, mask, replaced.lost), (replaced, isinstance(x, tuple))

    def backward(params: Params, cache: Any, g: Any) -> tuple[None, Any]:
        replaced, several = cache
        dx = replaced.gradient(g[0])
        return None, (dx, None) if several else dx

    def out_shape(shape: Shape) -> Shape:
        steps, mask = shape if is_several(shape) else (shape, None)
        if len(steps) != 2 or not isinstance(steps[1], int):
            raise ValueError(
                f"{name}: expected the shape (time, features) of one example of x, got {steps!r}"
            )
        return tuple(steps), mask, None

    def step(params: Params, x: Any, state: None) -> tuple[Any, None]:
        # Attention itself keeps non-finite steps from earlier ones, which are in its state.
        return (*checked(x), None), None

    return Layer(no_params, apply, backward, out_shape, step=step)


@layer
def _lost_steps() -> Layer:
    """Set the outputs of lost steps to NaN, since they depend on a step that is not finite."""

    def apply(params: Params, x: tuple[Array, Array | None]) -> tuple[Array, Replaced]:
        y, lost = x
        replaced = Replaced(None, lost)
        return replaced.outputs(y), replaced

    def backward(params: Params, replaced: Replaced, g: Array) -> tuple[None, Any]:
        return None, (replaced.cotangent(g), None)

    return Layer(no_params, apply, backward, lambda shape: shape[0], keeps_axes=True, step=True)
