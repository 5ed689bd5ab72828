"""The table of layers: every constructor, with shapes whose sizes all differ.

`tests/functional/layers/test_layers.py` runs every check that a layer must pass over each row.
"""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

import npdl.functional as F
from npdl import random, tree


def normal_inputs(generator: np.random.Generator, batch: int, shape: Any) -> Any:
    """Normal float32 numbers, for one shape or for several."""
    if shape and isinstance(shape[0], tuple):
        return tuple(normal_inputs(generator, batch, part) for part in shape)
    return generator.normal(size=(batch, *shape)).astype(np.float32)


@attrs.frozen
class Case:
    """One row: a layer, the shape of an example, and its special properties."""

    layer: F.Layer
    shape: Any
    inputs: Callable[[np.random.Generator, int, Any], Any] = normal_inputs
    # Paths of parameters that are not trained: their gradient must be None, all others not.
    untrained: tuple[str, ...] = ()
    # Whether the layer needs a key in training.
    random: bool = False
    # Whether evaluation needs statistics first, which one step in training mode makes.
    statistics: bool = False
    # Whether a batch of no examples is an error (a batch norm has no statistics of it).
    empty: bool = True

    def x(self, batch: int, seed: int = 1) -> Any:
        return self.inputs(random.generator((seed, batch)), batch, self.shape)

    def params(self, dtype: Any = np.float32) -> Any:
        """Initial parameters with some noise, so that none is zero."""
        params = self.layer.init(0, self.shape)
        generator = random.generator(7)
        noisy = tree.unflatten(
            params,
            [
                leaf
                if path in self.untrained
                else (leaf + 0.1 * generator.normal(size=leaf.shape)).astype(leaf.dtype)
                for path, leaf in tree.items(params)
            ],
        )
        if self.statistics:
            _, cache = self.layer.apply(noisy, self.x(6, seed=2), train=True, rng=3)
            noisy = self.layer.update_stats(noisy, cache)
        return tree.astype(noisy, dtype)


CASES: dict[str, Case] = {}


def add(name: str, layer: F.Layer, shape: Any, **special: Any) -> None:
    assert name not in CASES, name
    CASES[name] = Case(layer, shape, **special)


# dense
add("dense", F.dense(5), (3,))
add("dense without bias", F.dense(5, bias=False), (3,))
add("dense over leading axes", F.dense(5), (2, 4, 3))

# combinators
add("serial", F.serial(F.dense(4), F.dense(2)), (3,))
add("empty serial", F.serial(), (3,))
add("residual", F.residual(F.dense(4), F.dense(3)), (3,))
add("parallel, added", F.parallel(F.dense(4), F.serial(F.dense(2), F.dense(4))), (3,))
add("parallel, multiplied", F.parallel(F.dense(4), F.dense(4), F.dense(4), join="multiply"), (3,))
add("parallel, concatenated", F.parallel(F.dense(4), F.dense(2), join="concatenate"), (3,))
add("parallel, a tuple", F.parallel(F.dense(4), F.dense(2), join=None), (3,))
add(
    "freeze",
    F.serial(F.dense(4), F.freeze(F.dense(2)), F.dense(5)),
    (3,),
    untrained=("1/bias", "1/weight"),
)
add(
    "graph of two inputs and two outputs",
    F.graph(
        ("left", "right"),
        {
            "wide": (F.dense(4), "left"),
            "same": (F.dense(4), "right"),
            ("first", "second"): (F.parallel(F.dense(2), F.dense(6), join=None), "wide"),
            "end": (F.dense(3), "same"),
        },
        ("second", "end", "first"),
    ),
    ((3,), (5,)),
)
add(
    "graph whose ways meet",
    F.graph(
        "x",
        {"a": (F.dense(4), "x"), "b": (F.dense(4), "a"), "sum": (F.add(), ("a", "b", "a"))},
        "sum",
    ),
    (3,),
)
add(
    "siamese branches",
    F.graph(
        ("left", "right"),
        {
            "a": (F.serial(F.dense(4), F.tanh()), "left"),
            "b": (F.serial(F.dense(4), F.tanh()), "right", "a"),
            "both": (F.multiply(), ("a", "b")),
        },
        "both",
    ),
    ((3,), (3,)),
)
add("add", F.add(), ((2, 3), (2, 3), (2, 3)))
add("multiply", F.multiply(), ((2, 3), (2, 3), (2, 3)))
add("concatenate", F.concatenate(), ((2, 3), (2, 1), (2, 4)))
add("concatenate channels", F.concatenate(axis=1), ((2, 3), (4, 3)))

add("remat", F.serial(F.dense(4), F.remat(F.serial(F.dense(5), F.tanh())), F.dense(2)), (3,))

# normalization
_STATISTICS = {"statistics": True, "empty": False}
_UNTRAINED = ("count", "mean", "variance")
add("batch norm", F.batch_norm(), (3,), untrained=_UNTRAINED, **_STATISTICS)
add(
    "batch norm of images",
    F.batch_norm(momentum=0.3, epsilon=1e-2),
    (2, 4, 3),
    untrained=_UNTRAINED,
    **_STATISTICS,
)
add(
    "batch norm of volumes without scale",
    F.batch_norm(scale=False),
    (3, 2, 4, 5),
    untrained=_UNTRAINED,
    **_STATISTICS,
)
add(
    "batch norm of sequences without shift",
    F.batch_norm(axis=-1, shift=False),
    (4, 3),
    untrained=_UNTRAINED,
    **_STATISTICS,
)
add(
    "batch norm of rows without parameters",
    F.batch_norm(axis=2, scale=False, shift=False),
    (4, 3, 2),
    untrained=_UNTRAINED,
    **_STATISTICS,
)
add(
    "batch norm behind others",
    F.serial(F.dense(4), F.batch_norm(), F.freeze(F.dense(2)), F.residual(F.batch_norm())),
    (3,),
    untrained=(
        *("1/count", "1/mean", "1/variance", "2/bias", "2/weight"),
        *("3/0/count", "3/0/mean", "3/0/variance"),
    ),
    **_STATISTICS,
)
add(
    "remat of batch norm",
    F.remat(F.serial(F.dense(4), F.batch_norm(), F.dropout(0.3))),
    (3,),
    untrained=("1/count", "1/mean", "1/variance"),
    random=True,
    **_STATISTICS,
)
add("layer norm", F.layer_norm(), (5,))
add("layer norm over two axes", F.layer_norm(axes=(-2, -1), epsilon=1e-2), (2, 4, 3))
add("layer norm without shift", F.layer_norm(shift=False), (2, 4))
add("layer norm without scale", F.layer_norm(scale=False), (2, 4))
add("layer norm without parameters", F.layer_norm(scale=False, shift=False), (5,))
add("group norm", F.group_norm(2), (6, 3, 4))
add("group norm of features", F.group_norm(2, epsilon=1e-2, shift=False), (6,))
add("group norm of volumes", F.group_norm(2, scale=False), (4, 2, 3, 5))
add("instance norm", F.group_norm(3, scale=False, shift=False), (3, 5))
add("rms norm", F.rms_norm(), (2, 5))
add("rms norm over two axes", F.rms_norm(axes=(-2, -1), epsilon=1e-2), (2, 4, 3))
add("rms norm without scale", F.rms_norm(scale=False), (5,))

# activations
add("linear", F.linear(), (2, 5))
add("sigmoid", F.sigmoid(), (2, 5))
add("tanh", F.tanh(), (2, 5))
add("softsign", F.softsign(), (2, 5))
add("symmetric_elliot", F.symmetric_elliot(), (2, 5))
add("symmetric_elliot, steep", F.symmetric_elliot(steepness=2.5), (2, 5))
add("elliot", F.elliot(), (2, 5))
add("elliot, flat", F.elliot(0.4), (2, 5))
add("hard_sigmoid", F.hard_sigmoid(), (2, 5))
add("hard_tanh", F.hard_tanh(), (2, 5))
add("softmax", F.softmax(), (5,))
add("softmax over the last axis", F.softmax(), (2, 4, 5))
add("log_softmax", F.log_softmax(), (5,))
add("log_softmax over the last axis", F.log_softmax(), (2, 4, 5))

# rectifiers
add("relu", F.relu(), (2, 5))
add("relu, of many elements", F.relu(), (31, 33))
add("leaky_relu", F.leaky_relu(), (2, 5))
add("leaky_relu, steep", F.leaky_relu(slope=0.3), (2, 5))
add("elu", F.elu(), (2, 5))
add("elu, deep", F.elu(alpha=1.7), (2, 5))
add("selu", F.selu(), (2, 5))
add("softplus", F.softplus(), (2, 5))
add("silu", F.silu(), (2, 5))
add("hard_silu", F.hard_silu(), (2, 5))
add("gelu", F.gelu(), (2, 5))
add("gelu, approximate", F.gelu(approximate=True), (2, 5))
add("glu", F.glu(), (2, 6))
add("glu with another activation", F.glu(F.gelu()), (3, 4))
add("swiglu", F.swiglu(), (2, 6))
add("mish", F.mish(), (2, 5))

# dropout
add("dropout", F.dropout(0.3), (4, 5), random=True)
add("dropout of nothing", F.dropout(0.0), (4, 5))
add("dropout of channels", F.dropout(0.6, shared=(2, 3)), (11, 4, 5), random=True)
add("dropout of features", F.dropout(0.4, shared=(-2,)), (4, 9), random=True)
add("gaussian_noise", F.gaussian_noise(0.2), (4, 5), random=True)

# reshape
add("flatten", F.flatten(), (2, 4, 5))
add("flatten, two axes stay", F.flatten(axes=2), (2, 4, 5))
add("flatten of single numbers", F.flatten(), ())
add("reshape", F.reshape((5, 8)), (2, 4, 5))
add("reshape, one size left open", F.reshape((2, -1, 2)), (4, 5))
add("expand_dims", F.expand_dims(1), (4, 5))
add("expand_dims at the end", F.expand_dims(-1), (4, 5))
add("squeeze", F.squeeze(2), (4, 1, 5))
add("squeeze at the end", F.squeeze(-1), (4, 5, 1))
add("transpose", F.transpose((0, 3, 1, 2)), (2, 4, 5))


# embedding
def _ids(below: int) -> Callable[..., Any]:
    """Ids below a number, most of them small."""
    return lambda generator, batch, shape: generator.integers(0, below, (2, batch, *shape)).min(0)


add("embedding", F.embedding(7, 4), (5,), inputs=_ids(7))
add("embedding with padding", F.embedding(6, 3, padding_id=1), (2, 5), inputs=_ids(6))
add("embedding of one id", F.embedding(9, 4), (), inputs=_ids(9))
add("unembedding", F.unembedding(7), (5, 4))
add("unembedding of single vectors", F.unembedding(7), (4,))
add(
    "tied embedding",
    F.graph(
        "ids",
        {
            "words": (F.embedding(7, 4), "ids"),
            "thoughts": (F.dense(4), "words"),
            "scores": (F.unembedding(7), "thoughts", "words"),
        },
        "scores",
    ),
    (5,),
    inputs=_ids(7),
)
add(
    "static embedding",
    F.serial(F.freeze(F.embedding(7, 4)), F.dense(3)),
    (5,),
    inputs=_ids(7),
    untrained=("0/table",),
)


# recurrent
def _masked(generator: np.random.Generator, batch: int, shape: Any) -> Any:
    """The input and a mask with gaps at the end and within, at the beginning, and throughout."""
    x, _, *state = normal_inputs(generator, batch, shape)
    time = np.arange(shape[0][0])
    kinds = np.stack([(time < 4) & (time != 1), time > 1, time < 0])
    return (x, np.resize(kinds, (batch, time.size)), *state)


def _unmasked(generator: np.random.Generator, batch: int, shape: Any) -> Any:
    """The input and the state."""
    x, _, state = normal_inputs(generator, batch, shape)
    return x, None, state


_SEQUENCE, _MASKED = (5, 2), ((5, 2), (5,))
_STATE, _STATES = ((5, 2), (5,), (6,)), ((5, 2), (5,), ((6,), (6,)))
add("rnn", F.rnn(6), _SEQUENCE)
add("rnn, sequence", F.rnn(6, return_sequence=True), _SEQUENCE)
add("rnn, softsign", F.rnn(6, activation=F.softsign(), reverse=True), _SEQUENCE)
add(
    "rnn, all",
    F.rnn(6, return_sequence=True, return_state=True, reverse=True, activation=F.silu()),
    _STATE,
    inputs=_masked,
)
add("gru", F.gru(6), _SEQUENCE)
add("gru, sequence", F.gru(6, return_sequence=True), _SEQUENCE)
add("gru, masked", F.gru(6), _MASKED, inputs=_masked)
add(
    "gru, all",
    F.gru(6, return_sequence=True, return_state=True, reverse=True),
    _STATE,
    inputs=_masked,
)
add(
    "gru, other activations",
    F.gru(6, activation=F.softsign(), gate_activation=F.elliot(), return_state=True),
    _STATE,
    inputs=_unmasked,
)
add("gru, reset before", F.gru(6, reset_after=False), _SEQUENCE)
add("gru, reset before, sequence", F.gru(6, reset_after=False, return_sequence=True), _SEQUENCE)
add(
    "gru, reset before, all",
    F.gru(6, reset_after=False, return_sequence=True, return_state=True, reverse=True),
    _STATE,
    inputs=_masked,
)
add(
    "gru, reset before, other activations",
    F.gru(6, reset_after=False, activation=F.linear(), gate_activation=F.elliot()),
    _STATE,
    inputs=_unmasked,
)
add("lstm", F.lstm(6), _SEQUENCE)
add("lstm, sequence", F.lstm(6, return_sequence=True), _SEQUENCE)
_COMPOSED = F.serial(F.softsign(), F.tanh())
add("lstm, composed activation", F.lstm(6, activation=_COMPOSED), _SEQUENCE)
add("lstm, masked", F.lstm(6, reverse=True), _MASKED, inputs=_masked)
add("lstm, state", F.lstm(6, forget_bias=0.5, return_state=True), _STATES, inputs=_unmasked)
add(
    "lstm, all",
    F.lstm(6, return_sequence=True, return_state=True, reverse=True),
    _STATES,
    inputs=_masked,
)
add(
    "lstm, other activations",
    F.lstm(6, activation=F.silu(), gate_activation=F.elliot(), return_sequence=True),
    _MASKED,
    inputs=_masked,
)
add(
    "stacked recurrent layers",
    F.serial(F.lstm(6, return_sequence=True), F.gru(7, return_sequence=True), F.rnn(8)),
    _SEQUENCE,
)

# bidirectional
add("bidirectional", F.bidirectional(F.lstm(6)), _SEQUENCE)
add("bidirectional, sequence", F.bidirectional(F.gru(6, return_sequence=True)), _SEQUENCE)
add("bidirectional, added", F.bidirectional(F.rnn(6), join="add"), _MASKED, inputs=_masked)
add("bidirectional, a tuple", F.bidirectional(F.rnn(6), join=None), _SEQUENCE)
add(
    "bidirectional, all",
    F.bidirectional(F.lstm(6, return_sequence=True, return_state=True)),
    ((5, 2), (5,), (((6,), (6,)), ((6,), (6,)))),
    inputs=_masked,
)
add("one_step", F.one_step(F.lstm(6)), (2,))
add("one_step with a state", F.one_step(F.gru(6, return_sequence=True)), ((2,), (6,)))


# scan
def _cell(units: int) -> F.Layer:
    """A step hₜ = tanh(xₜ W + b + hₜ₋₁ U) with the output y = softsign(hₜ)."""
    nodes: dict[Any, Any] = {
        "a": (F.dense(units), "x"),
        "b": (F.dense(units, bias=False), "h"),
        "sum": (F.add(), ("a", "b")),
        "new": (F.tanh(), "sum"),
        "y": (F.softsign(), "new"),
    }
    return F.graph(("x", "h"), nodes, ("y", "new"))


def _cell_of_two(units: int) -> F.Layer:
    """A step with two arrays in the state, layers whose workspaces differ, and dropout."""
    nodes: dict[Any, Any] = {
        "both": (F.concatenate(), ("x", "h")),
        "a": (F.dense(units), "both"),
        "n": (F.layer_norm(), "a"),
        "g": (F.gelu(), "n"),
        "d": (F.dropout(0.2), "g"),
        "c_new": (F.add(), ("d", "c")),
        "h_new": (F.tanh(), "c_new"),
    }
    return F.graph(("x", ("h", "c")), nodes, ("h_new", ("h_new", "c_new")))


add("scan", F.scan(_cell(6), (6,)), _SEQUENCE)
add("scan, sequence", F.scan(_cell(6), (6,), return_sequence=True, reverse=True), _SEQUENCE)
add("scan, masked", F.scan(_cell(6), (6,)), _MASKED, inputs=_masked)
add(
    "scan, all",
    F.scan(_cell(6), (6,), return_sequence=True, return_state=True, reverse=True),
    _STATE,
    inputs=_masked,
)
add(
    "scan of two states",
    F.scan(_cell_of_two(6), ((6,), (6,)), return_sequence=True, return_state=True),
    _STATES,
    inputs=_masked,
    random=True,
)
add("scan in both directions", F.bidirectional(F.scan(_cell(6), (6,))), _MASKED, inputs=_masked)
add("one_step of scan", F.one_step(F.scan(_cell(6), (6,))), ((2,), (6,)))


# attention
def _with_masks(*places: int) -> Callable[..., Any]:
    """Normal numbers, but masks at some places: with gaps, without the first steps, all false."""

    def inputs(generator: np.random.Generator, batch: int, shape: Any) -> Any:
        x = list(normal_inputs(generator, batch, shape))
        for place in places:
            time = np.arange(shape[place][0])
            kinds = np.stack([(time < 4) & (time != 1), time > 1, time < 0])
            x[place] = np.resize(kinds, (batch, time.size))
        return tuple(x)

    return inputs


_SELF, _CROSS = ((5, 6), (5,)), ((5, 6), (7, 4), (7,))
add("attention", F.multi_head_attention(2), (5, 6))
add("attention, masked", F.multi_head_attention(2), _SELF, inputs=_with_masks(1))
add("causal attention", F.multi_head_attention(3, units=4, causal=True, bias=False), (5, 6))
add(
    "causal attention, masked",
    F.multi_head_attention(2, causal=True),
    _SELF,
    inputs=_with_masks(1),
)
add("cross attention", F.multi_head_attention(3, cross=True, bias=False), ((5, 6), (7, 4)))
add(
    "cross attention, masked",
    F.multi_head_attention(2, units=9, cross=True),
    _CROSS,
    inputs=_with_masks(2),
)
add("attention with dropout", F.multi_head_attention(2, dropout=0.3), (5, 6), random=True)
add(
    "cross attention with dropout, masked",
    F.multi_head_attention(2, cross=True, dropout=0.3),
    _CROSS,
    inputs=_with_masks(2),
    random=True,
)

_GROUPED = F.multi_head_attention(4, kv_heads=2, units=5, return_weights=True)
add("grouped-query attention with weights", _GROUPED, (5, 12))
add(
    "causal attention with rotary positions, masked",
    F.multi_head_attention(3, kv_heads=1, causal=True, rotary=100.0),
    ((5, 12), (5,)),
    inputs=_with_masks(1),
)
add(
    "causal attention with a window and dropout",
    F.multi_head_attention(2, causal=True, window=2, dropout=0.3, bias=False),
    (5, 6),
    random=True,
)
add("attention with a window", F.multi_head_attention(2, window=3, rotary=10.0), (7, 8))
add(
    "attention with a bias of scores, masked",
    F.multi_head_attention(2, causal=True),
    ((5, 6), (5,), (5, 5)),
    inputs=_with_masks(1),
)
add(
    "cross attention with a bias per head",
    F.multi_head_attention(4, kv_heads=2, cross=True, return_weights=True),
    ((5, 8), (7, 4), (7,), (4, 5, 7)),
    inputs=_with_masks(2),
)

# tokens
add("class_token", F.class_token(), (5, 6))
add("first_step", F.first_step(), (5, 6))

# positions
add("sinusoidal_positions", F.sinusoidal_positions(), (5, 6))
add("sinusoidal_positions of an odd number of features", F.sinusoidal_positions(), (5, 7))
add("learned_positions", F.learned_positions(9), (5, 6))

# transformer
_DECODER = ((5, 6), (7, 4), (7,), (5,))
add("encoder block", F.transformer_encoder_block(2, 9), (5, 6))
add("encoder block, masked", F.transformer_encoder_block(3, 9), _SELF, inputs=_with_masks(1))
add(
    "encoder block, causal",
    F.transformer_encoder_block(2, 9, activation=F.gelu(), causal=True),
    (5, 6),
)
add("encoder block, post-norm", F.transformer_encoder_block(2, 9, pre_norm=False), (5, 6))
add(
    "encoder block, post-norm, causal, masked",
    F.transformer_encoder_block(2, 9, activation=F.tanh(), pre_norm=False, causal=True),
    _SELF,
    inputs=_with_masks(1),
)
add(
    "encoder block with dropout",
    F.transformer_encoder_block(2, 9, dropout=0.2),
    (5, 6),
    random=True,
)
add(
    "encoder block of Llama",
    F.transformer_encoder_block(
        *(4, 9),
        activation=F.swiglu(),
        norm=F.rms_norm(epsilon=1e-6),
        bias=False,
        causal=True,
        kv_heads=2,
        rotary=100.0,
        window=3,
    ),
    ((5, 8), (5,)),
    inputs=_with_masks(1),
)
add("decoder block", F.transformer_decoder_block(2, 9), ((5, 6), (7, 4)))
add(
    "decoder block, masked memory",
    F.transformer_decoder_block(3, 9, activation=F.gelu()),
    _DECODER[:3],
    inputs=_with_masks(2),
)
add(
    "decoder block, post-norm, masked",
    F.transformer_decoder_block(2, 9, pre_norm=False),
    _DECODER,
    inputs=_with_masks(2, 3),
)
add(
    "decoder block with all arguments",
    F.transformer_decoder_block(
        *(4, 9),
        activation=F.glu(),
        norm=F.rms_norm(),
        bias=False,
        pre_norm=False,
        kv_heads=2,
        window=3,
        rotary=100.0,
    ),
    ((5, 8), (7, 4), (7,), (5,)),
    inputs=_with_masks(2, 3),
)
add(
    "decoder block with dropout",
    F.transformer_decoder_block(2, 9, dropout=0.2, pre_norm=False),
    _DECODER[:2],
    random=True,
)

# stack
add("stack of one input", F.stack(F.dense(4), F.tanh(), F.dense(5)), (3,))
add("stack of nothing", F.stack(), ((3, 4), (5,)), inputs=_with_masks(1))
add(
    "stack of encoder blocks, masked",
    F.stack(F.transformer_encoder_block(2, 9), F.transformer_encoder_block(3, 7, pre_norm=False)),
    _SELF,
    inputs=_with_masks(1),
)
add(
    "stack of decoder blocks, masked",
    F.stack(
        F.transformer_decoder_block(2, 9), F.transformer_decoder_block(3, 7, activation=F.tanh())
    ),
    _DECODER,
    inputs=_with_masks(2, 3),
)
add(
    "stack of recurrent layers, masked",
    F.stack(F.lstm(6, return_sequence=True), F.gru(4, return_sequence=True, reverse=True)),
    _MASKED,
    inputs=_masked,
)

# convolution
add("conv2d", F.conv2d(4, (3, 2)), (2, 7, 5))
add("conv2d, all", F.conv2d(6, 3, stride=2, padding="same", dilation=2, groups=2), (4, 9, 7))
add("conv2d, same with an even kernel", F.conv2d(4, (2, 4), padding="same"), (3, 5, 7))
add("conv2d of single pixels", F.conv2d(4, 1), (3, 5, 2))
add("conv2d of single pixels, strided", F.conv2d(4, 1, stride=(2, 3)), (3, 5, 8))
add("conv2d, depthwise", F.conv2d(6, 3, groups=3, padding=1), (3, 5, 4))
add("conv2d, the kernel as large as the image", F.conv2d(3, (4, 5)), (2, 4, 5))
add("conv2d, more stride than kernel", F.conv2d(4, 2, stride=(3, 4)), (3, 7, 9))
add("conv2d, dilated", F.conv2d(4, (3, 2), dilation=(2, 3)), (3, 7, 6))
add("conv2d, padded on one side", F.conv2d(4, 3, padding=((0, 2), (3, 0))), (2, 5, 7))
add("conv2d, more padding than kernel", F.conv2d(4, 2, padding=(3, 4), bias=False), (3, 5, 2))
add("conv2d, more filters than channels", F.conv2d(9, 3, padding=1), (2, 5, 4))
add("conv1d", F.conv1d(4, 3, stride=2, padding=1, bias=False), (2, 8))
add("conv1d, all", F.conv1d(6, 3, stride=2, padding=(4, 1), dilation=2, groups=2), (4, 9))
add("conv1d, same", F.conv1d(4, 4, padding="same"), (3, 7))
add("conv1d, depthwise", F.conv1d(5, 3, groups=5), (5, 7))

# transposed convolution
add("conv2d_transpose", F.conv2d_transpose(4, (3, 2)), (2, 5, 7))
add(
    "conv2d_transpose, all",
    F.conv2d_transpose(6, 3, stride=2, padding=1, output_padding=1, dilation=2, groups=2),
    (4, 5, 3),
)
add("conv2d_transpose, same", F.conv2d_transpose(3, 4, stride=(3, 2), padding="same"), (2, 3, 5))
add("conv2d_transpose of single pixels", F.conv2d_transpose(4, 1), (3, 5, 2))
add("conv2d_transpose, depthwise", F.conv2d_transpose(6, 3, groups=3, stride=2), (3, 4, 5))
add("conv2d_transpose, more stride than kernel", F.conv2d_transpose(4, 2, stride=3), (3, 4, 5))
add(
    "conv2d_transpose, cut off on one side",
    F.conv2d_transpose(4, 3, padding=((0, 2), (1, 0)), bias=False),
    (2, 5, 7),
)

# padding and magnitude
add("pad", F.pad((2, 1), value=0.5), (3, 4))
add("pad of images", F.pad(((1, 0), (2, 3))), (2, 4, 5))
add("pad, reflected", F.pad((3, 2), mode="reflect"), (2, 4))
add("pad, reflected on one side", F.pad((0, 4), mode="reflect"), (5,))
add("upsample2d", F.upsample2d(), (2, 4, 5))
add("upsample2d of a pair", F.upsample2d((3, 1)), (2, 4, 5))
add("upsample2d, bilinear", F.upsample2d((2, 3), "bilinear"), (2, 4, 5))
add("pixel_shuffle", F.pixel_shuffle(2), (8, 4, 5))
add("pad of images, reflected", F.pad([[3, 1], [0, 4]], mode="reflect"), (2, 4, 5))
add("magnitude", F.magnitude(), (6, 5))
add("magnitude along the last axis", F.magnitude(axis=-1), (3, 4))


# pooling
add("max_pool2d", F.max_pool2d(2), (3, 4, 6))
add("max_pool2d, pixels left over", F.max_pool2d((2, 3)), (2, 5, 7))
add("max_pool2d, overlapping", F.max_pool2d(3, stride=2, padding=1), (2, 7, 5))
add("max_pool2d, overlapping a good deal", F.max_pool2d((3, 4), stride=1), (2, 5, 7))
add("max_pool2d, same", F.max_pool2d((2, 5), stride=(1, 2), padding="same"), (2, 4, 7))
add("max_pool2d, more stride than window", F.max_pool2d(2, stride=(3, 4)), (2, 7, 9))
add(
    "max_pool2d, padded on one side", F.max_pool2d(4, stride=2, padding=((3, 0), (0, 2))), (2, 5, 7)
)
add("max_pool2d, the window as large as the image", F.max_pool2d((5, 4)), (2, 5, 4))
add("max_pool1d", F.max_pool1d(2), (3, 8))
add("max_pool1d, all", F.max_pool1d(3, stride=2, padding=(2, 1)), (2, 8))
add("avg_pool2d", F.avg_pool2d(2), (3, 4, 6))
add("avg_pool2d, pixels left over", F.avg_pool2d((2, 3)), (2, 5, 7))
add("avg_pool2d, overlapping", F.avg_pool2d(3, stride=2, padding=1), (2, 7, 5))
add("avg_pool2d, overlapping a good deal", F.avg_pool2d((3, 4), stride=1), (2, 5, 7))
add("avg_pool2d, same", F.avg_pool2d((2, 5), stride=(1, 2), padding="same"), (2, 4, 7))
add(
    "avg_pool2d, padding counted",
    F.avg_pool2d(3, stride=2, padding=((2, 0), (1, 2)), count_padding=True),
    (2, 5, 7),
)
add("avg_pool1d", F.avg_pool1d(2), (3, 8))
add("avg_pool1d, all", F.avg_pool1d(3, stride=2, padding=(2, 1), count_padding=True), (2, 8))

# global pooling
add("global_max_pool", F.global_max_pool(), (3, 4, 5))
add("global_max_pool of sequences", F.global_max_pool(), (3, 5))
add("global_max_pool of volumes", F.global_max_pool(), (2, 3, 4, 5))
add("global_avg_pool", F.global_avg_pool(), (3, 4, 5))
add("global_avg_pool of sequences", F.global_avg_pool(), (3, 5))
add("global_avg_pool of volumes", F.global_avg_pool(), (2, 3, 4, 5))
add(
    "convolution and pooling",
    F.serial(F.conv2d(4, 3), F.max_pool2d(2), F.conv2d(5, 2, padding=1), F.global_avg_pool()),
    (2, 7, 9),
)
