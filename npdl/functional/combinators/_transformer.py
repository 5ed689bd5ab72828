"""Blocks of transformers, composed of attention, fully connected layers and layer norms.

The output of each part of a block is added to its input, and each part has a layer norm, before
it or behind the sum:

    pre-norm:   x = x + part(norm(x))
    post-norm:  x = norm(x + part(x))
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from npdl.functional._checks import check_flag, check_int, check_number, refusal
from npdl.functional._kernels.masked_steps import Replaced, replace_steps
from npdl.functional._layer import Array, Layer, Params, Shape, check_float, describe, layer
from npdl.functional.combinators._graph import add, graph
from npdl.functional.combinators._serial import serial
from npdl.functional.layers._dense import dense
from npdl.functional.layers._dropout import dropout as dropped
from npdl.functional.layers._normalization import layer_norm
from npdl.functional.layers.activations._rectifiers import relu
from npdl.functional.layers.attention._multi_head import multi_head_attention
from npdl.random import KeyLike

__all__ = ["transformer_decoder_block", "transformer_encoder_block"]


@layer
def transformer_encoder_block(
    heads: int,
    hidden_units: int,
    *,
    activation: Layer = relu(),  # noqa: B008 - an immutable value
    dropout: float = 0.0,
    pre_norm: bool = True,
    causal: bool = False,
) -> Layer:
    """Let the steps of a sequence attend to one another, then change each one by itself.

    First ``x = x + A(N(x))``, then ``x = x + D(N(x))``; or, with the norms behind the sums,
    ``x = N(x + A(x))``, then ``x = N(x + D(x))``.

    Here A is :func:`multi_head_attention`, N is :func:`layer_norm`, and D is the feed-forward
    network ``dense``, activation, ``dense``, which gives as many features as there were.

    The input is ``x`` or ``(x, mask)``, of shapes (batch, time, features) and (batch, time). The
    mask is true where there is data. The numbers of a masked step do not reach other steps or
    gradients, NaN and infinity included, and its own output means nothing. :func:`stack` gives a
    mask to several blocks. Several pre-norm blocks are usually followed by a last
    ``layer_norm()``.

    Parameters
    ----------
    heads : int
        The number of heads, which divides the features.
    hidden_units : int
        The number of hidden units of the feed-forward network, often four times the features.
    activation : Layer
        What follows the hidden units.
    dropout : float
        The fraction that is dropped in training, of the attention weights, of the hidden units and
        of the output of each part.
    pre_norm : bool
        Whether the norms stand before the parts; else they stand behind the sums, as in the paper.
    causal : bool
        Whether a step attends only to itself and to those before it, as in a language model that
        has no encoder.

    Returns
    -------
    Layer
        Gives one array, of the shape of `x`. Parameters: a dict of those of ``attention``,
        ``attention_norm``, ``feed_forward`` and ``feed_forward_norm``, beside the nodes that have
        none.

    Raises
    ------
    ValueError
        If the heads do not divide the features, or the input or its mask has a wrong shape.

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

    The steps that are masked make no difference to the others:

    >>> bool(np.allclose(y[1:, :2], model(params, (ids[1:, :2], None)), atol=1e-5))
    True
    """
    name = "transformer_encoder_block"
    heads, hidden_units = _check_needed(name, heads, hidden_units, activation)
    causal = check_flag(causal, f"{name}(8, 2048, causal=True)")

    def parts(features: int) -> Parts:
        attention = multi_head_attention(heads, causal=causal, dropout=dropout)
        return {
            "attention": (attention, ("mask",)),
            "feed_forward": (_feed_forward(hidden_units, activation, dropout, features), ()),
        }

    return _block(name, ("x", "mask"), 1, parts, dropout, pre_norm, causal)


@layer
def transformer_decoder_block(
    heads: int,
    hidden_units: int,
    *,
    activation: Layer = relu(),  # noqa: B008
    dropout: float = 0.0,
    pre_norm: bool = True,
) -> Layer:
    """Let the steps of a sequence attend to those before them, and to a second sequence.

    First ``x = x + A(N(x))``, then ``x = x + C(N(x), m)``, then ``x = x + D(N(x))``; or, with the
    norms behind the sums, ``x = N(x + A(x))``, and so on.

    Here A is causal :func:`multi_head_attention` of `x`, C the same from `x` to the memory m, and N
    and D are those of :func:`transformer_encoder_block`.

    The input is ``(x, memory)``, ``(x, memory, memory_mask)`` or
    ``(x, memory, memory_mask, mask)``, of shapes (batch, time, features), (batch, steps, other
    features), (batch, steps) and (batch, time). The masks are true where there is data, and may be
    `None`. The last one is that of `x`; without it, padding at the end of `x` makes no difference
    either, since no step attends to later ones. :func:`stack` gives memory and masks to several
    blocks, and adds up the gradients of the memory.

    Parameters
    ----------
    heads, hidden_units, activation, dropout, pre_norm
        As in :func:`transformer_encoder_block`. The memory itself is not normalized.

    Returns
    -------
    Layer
        Keeps the shape of `x`. Parameters: a dict of those of ``attention``, ``cross_attention``
        and ``feed_forward``, of ``attention_norm`` and so on, beside the nodes that have none.

    Raises
    ------
    ValueError
        If the heads do not divide the features, `x` and the memory are batches of different
        sizes, or an input or a mask has a wrong shape.

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
    heads, hidden_units = _check_needed(name, heads, hidden_units, activation)

    def parts(features: int) -> Parts:
        attention = multi_head_attention(heads, causal=True, dropout=dropout)
        cross = multi_head_attention(heads, cross=True, dropout=dropout)
        return {
            "attention": (attention, ("mask",)),
            "cross_attention": (cross, ("memory", "memory_mask")),
            "feed_forward": (_feed_forward(hidden_units, activation, dropout, features), ()),
        }

    inputs = ("x", "memory", "memory_mask", "mask")
    return _block(name, inputs, 2, parts, dropout, pre_norm, True)


# The parts of a block by name: a layer, and the names of its inputs beside x.
Parts = dict[str, tuple[Layer, tuple[str, ...]]]


def _check_needed(name: str, heads: Any, hidden_units: Any, activation: Any) -> tuple[int, int]:
    if not isinstance(activation, Layer):
        raise TypeError(refusal(activation, f"{name}(8, 2048, activation=gelu())", "a layer"))
    return (
        check_int(heads, f"{name}(heads=8, hidden_units=2048)"),
        check_int(hidden_units, f"{name}(8, hidden_units=2048)"),
    )


def _feed_forward(units: int, activation: Layer, dropout: float, features: int) -> Layer:
    return serial(dense(units), activation, dropped(dropout), dense(features))


def _block(
    name: str,
    inputs: tuple[str, ...],
    needed: int,
    parts: Callable[[int], Parts],
    dropout: float,
    pre_norm: bool,
    causal: bool,
) -> Layer:
    """Connect the parts; all inputs but the first `needed` may be left out."""
    dropout = check_number(dropout, f"{name}(8, 2048, dropout=0.1)", "in [0, 1)")
    pre_norm = check_flag(pre_norm, f"{name}(8, 2048, pre_norm=False)")

    # Only the input tells how many features the feed-forward network has to restore.
    @functools.cache
    def of_width(features: int) -> Layer:
        return _connected(inputs, parts(features), dropout, pre_norm)

    of_width(1)  # raises here if an argument is wrong

    def filled(given: tuple[Any, ...]) -> tuple[Any, ...]:
        if not needed <= len(given) <= len(inputs):
            ways = [f"({', '.join(inputs[:i])})" for i in range(needed, len(inputs) + 1)]
            ways[0] = inputs[0] if needed == 1 else ways[0]
            raise ValueError(f"{name}: expected {' or '.join(ways)}, got {describe(given)}")
        return (*given, *[None] * (len(inputs) - len(given)))

    def of_shape(shape: Shape) -> tuple[Layer, tuple[Any, ...]]:
        several = bool(shape) and isinstance(shape[0], tuple | list)
        given = filled(tuple(shape) if several else (shape,))
        if len(given[0]) != 2 or not isinstance(given[0][1], int):
            raise ValueError(
                f"{name}: expected the shape (time, features) of one example of x, got {shape!r}"
            )
        return of_width(given[0][1]), given

    def init(rng: KeyLike, shape: Shape) -> Params:
        inner, given = of_shape(shape)
        return inner.init(rng, given)

    def apply(
        params: Params, x: Any, *, train: bool = False, rng: KeyLike | None = None
    ) -> tuple[Array, Any]:
        several = isinstance(x, tuple)
        given = filled(x if several else (x,))
        check_float(given[0], name)
        if given[0].ndim != 3:
            raise ValueError(
                f"{name}: expected x of shape (batch, time, features), got {describe(given[0])}"
            )
        steps, replaced = _without_masked(given[0], given[-1], causal)
        given = (steps, *given[1:])
        y, cache = of_width(steps.shape[2]).apply(params, given, train=train, rng=rng)
        return replaced.outputs(y), (cache, len(x) if several else 0, replaced)

    def backward(
        params: Params, cache: Any, g: Array, *, input_grad: bool = True
    ) -> tuple[Params, Any]:
        inner_cache, count, replaced = cache
        inner, g = of_width(g.shape[2]), replaced.cotangent(g)
        grads, dx = inner.backward(params, inner_cache, g, input_grad=input_grad)
        if dx is None:
            return grads, None
        dx = (replaced.gradient(dx[0]), *dx[1:])
        return grads, dx[:count] if count else dx[0]

    def out_shape(shape: Shape) -> Shape:
        inner, given = of_shape(shape)
        return inner.out_shape(given)

    return Layer(init, apply, backward, out_shape)


def _without_masked(x: Array, mask: Any, causal: bool) -> tuple[Array, Replaced]:
    """Replace the masked steps as attention does, before norms and dense layers see them."""
    fits = type(mask) is np.ndarray and mask.dtype == bool and mask.shape == x.shape[:2]
    return replace_steps(x, mask if fits else None, causal)  # attention refuses other masks


def _connected(inputs: tuple[str, ...], parts: Parts, dropout: float, pre_norm: bool) -> Layer:
    """Return the graph of the parts, each with its norm, dropout and sum."""
    nodes: dict[str | tuple[str, ...], tuple[Layer, Any]] = {}
    x = inputs[0]
    for part, (inner, others) in parts.items():
        norm, noisy, total = f"{part}_norm", f"{part}_dropout", f"{part}_sum"
        if pre_norm:
            nodes[norm] = (layer_norm(), x)
        source = norm if pre_norm else x
        nodes[part] = (inner, (source, *others) if others else source)
        nodes[noisy] = (dropped(dropout), part)
        nodes[total] = (add(), (x, noisy))
        if not pre_norm:
            nodes[norm] = (layer_norm(), total)
        x = total if pre_norm else norm
    return graph(inputs, nodes, x)
