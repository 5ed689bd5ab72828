"""Every public layer in onnxruntime: the table of cases, dynamic axes, masks and large inputs."""

import numpy as np
import pytest
from cases import CASES
from onnx_models import agree, exported, noisy, shape_of

import npdl.functional as F
from npdl import random
from npdl.onnx._registry import rule_of

# No layer reads the second input of an empty stack, and an unread input is float32.
UNREAD = {"stack of nothing"}
each_case = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if name not in UNREAD]
)


@each_case
def test_onnxruntime_agrees_over_the_table(case, tmp_path):
    params, x = case.params(), case.x(3)
    running = exported(tmp_path, case.layer, params, shape_of(x, case.shape))
    agree(running, case.layer, params, x)
    agree(running, case.layer, params, case.x(5, seed=4))
    if case.empty:
        agree(running, case.layer, params, case.x(0))


def test_every_public_layer_has_a_rule_or_parts():
    def check(layer):
        if rule_of(layer) is None:
            assert layer.parts is not None, layer
            for node in layer.parts.nodes:
                check(node.layer)

    for case in CASES.values():
        check(case.layer)


# Dynamic sizes: the model, its shape, and functions from sizes to inputs.


def normal(*shape, seed=3):
    return random.generator((seed, *shape)).normal(size=shape).astype(np.float32)


def mask(batch, time, seed=5):
    """Steps without data anywhere; the last example has none with data."""
    found = random.generator((seed, batch, time)).random((batch, time)) < 0.6
    found[-1] = False
    return found


def ids(batch, time):
    return random.generator((7, batch, time)).integers(0, 11, (batch, time))


def masked(features):
    return lambda batch, time: (normal(batch, time, features), mask(batch, time))


RECURRENT = {
    "rnn": F.rnn(5, return_state=True),
    "gru": F.gru(5, return_sequence=True, reverse=True),
    "gru, reset before": F.gru(5, reset_after=False, activation=F.softsign()),
    "lstm": F.lstm(5, return_sequence=True, return_state=True),
    "lstm, reversed": F.lstm(5, reverse=True, activation=F.hard_tanh()),
    "bidirectional": F.bidirectional(F.gru(4, return_sequence=True), join="add"),
}
ATTENTION = {
    "attention": F.multi_head_attention(2),
    "causal attention": F.multi_head_attention(2, units=5, causal=True),
    "encoder block": F.transformer_encoder_block(2, 9, activation=F.gelu()),
    "causal encoder block": F.transformer_encoder_block(2, 9, pre_norm=False, causal=True),
}
TRANSFORMER = F.graph(
    ("ids", "mask"),
    {
        "words": (F.serial(F.embedding(11, 6, padding_id=3), F.sinusoidal_positions()), "ids"),
        "steps": (F.learned_positions(20), "words"),
        "blocks": (F.stack(*[F.transformer_encoder_block(2, 7)] * 2), ("steps", "mask")),
    },
    "blocks",
)
SENTENCES = F.serial(
    *(F.embedding(11, 6), F.transpose((0, 2, 1))),
    F.parallel(
        *[
            F.serial(F.conv1d(4, width, padding="same"), F.relu(), F.global_max_pool())
            for width in (2, 3, 4)
        ],
        join="concatenate",
    ),
)
WINDOWS = F.serial(
    F.conv1d(4, 3, stride=2, padding="same"),
    F.group_norm(2),
    F.avg_pool1d(3, stride=2, padding="same"),
    F.max_pool1d(2, padding=1),
    F.flatten(axes=2),
)
IMAGES = F.serial(
    F.conv2d(4, 3, stride=(2, 1), padding="same"),
    F.conv2d_transpose(2, 3, stride=2, padding="same"),
    F.max_pool2d((2, 3), stride=2, padding="same"),
    F.global_avg_pool(),
)
DYNAMIC = {
    **{name: (layer, ((None, 3), (None,)), masked(3)) for name, layer in RECURRENT.items()},
    **{name: (layer, ((None, 6), (None,)), masked(6)) for name, layer in ATTENTION.items()},
    "cross attention": (
        F.multi_head_attention(2, cross=True),
        ((None, 6), (None, 4), (None,)),
        lambda batch, time: (normal(batch, 2 * time, 6), *masked(4)(batch, time)),
    ),
    "decoder block": (
        F.transformer_decoder_block(2, 7),
        ((None, 6), (None, 4), (None,), (None,)),
        lambda batch, time: (
            *(normal(batch, 2 * time, 6), *masked(4)(batch, time), mask(batch, 2 * time)),
        ),
    ),
    "transformer": (
        TRANSFORMER,
        ((None,), (None,)),
        lambda batch, time: (ids(batch, time), mask(batch, time)),
    ),
    "transformer without a mask": (
        TRANSFORMER,
        ((None,), None),
        lambda batch, time: (ids(batch, time), None),
    ),
    "convolution of words": (SENTENCES, (None,), ids),
    "windows of sequences": (WINDOWS, (2, None), lambda batch, time: normal(batch, 2, 3 * time)),
    "windows of images": (
        IMAGES,
        (3, None, None),
        lambda batch, time: normal(batch, 3, time, 2 * time),
    ),
    "ids behind shapes": (
        F.serial(F.expand_dims(-1), F.flatten(), F.embedding(11, 3)),
        (None,),
        ids,
    ),
    "joined ids": (
        F.graph(
            ("first", "second"),
            {"both": (F.concatenate(), ("first", "second")), "y": (F.embedding(11, 2), "both")},
            ("y", "second"),
        ),
        ((None,), (None,)),
        lambda batch, time: (ids(batch, time), ids(batch, 2 * time)),
    ),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_batch_and_time_are_dynamic(name, tmp_path):
    model, shape, inputs = DYNAMIC[name]
    params = noisy(model.init(0, example_shape(inputs(1, 8))))
    running = exported(tmp_path, model, params, shape)
    for batch, time in ((2, 5), (3, 9), (1, 4)):
        agree(running, model, params, inputs(batch, time))


def example_shape(x):
    if isinstance(x, tuple):
        return tuple(map(example_shape, x))
    return None if x is None else x.shape[1:]


def test_a_learned_table_is_not_extended(tmp_path):
    model = F.learned_positions(3)
    running = exported(tmp_path, model, model.init(0, (3, 2)), (None, 2))
    agree(running, model, model.init(0, (3, 2)), normal(2, 3, 2))
    with pytest.raises(Exception, match="broadcast"):
        running.run(None, {"input": normal(2, 4, 2)})


def test_long_sinusoidal_positions_keep_their_digits(tmp_path):
    model = F.sinusoidal_positions()
    running = exported(tmp_path, model, (), (None, 7))
    agree(running, model, (), normal(1, 5000, 7))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block", [False, True])
def test_numbers_that_are_not_finite_reach_no_other_step(block, causal, tmp_path):
    attention = F.multi_head_attention(2, causal=causal)
    model = F.transformer_encoder_block(2, 9, causal=causal) if block else attention
    params = noisy(model.init(0, (6, 4)))
    x, known = normal(4, 6, 4), np.ones((4, 6), bool)
    x[0, 2], known[0, 2] = np.nan, False
    x[1, 3, 1], known[1, 3] = np.inf, False
    x[2, 5], known[2, 5], known[2, 0] = 1e30, False, False
    x[3, 1], known[3] = np.nan, False
    agree(exported(tmp_path, model, params, ((6, 4), (6,))), model, params, (x, known))
    if causal:
        x[2, 5] = np.inf
        agree(exported(tmp_path, model, params, (6, 4)), model, params, x)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_a_sequence_of_no_steps_is_an_error_of_onnxruntime(name, tmp_path):
    layer = getattr(F, name)(4, return_sequence=True)
    running = exported(tmp_path, layer, layer.init(0, (5, 3)), (None, 3))
    with pytest.raises(Exception, match="Scan"):
        running.run(None, {"input": normal(2, 0, 3)})


def test_padding_of_recurrent_layers_has_no_effect(tmp_path):
    for model in (F.lstm(4, return_sequence=True), F.gru(4), F.rnn(4, reverse=True)):
        params = noisy(model.init(0, (6, 3)))
        x, known = normal(3, 6, 3), mask(3, 6)
        x[~known] = np.nan
        agree(exported(tmp_path, model, params, ((6, 3), (6,))), model, params, (x, known))


ELEMENTWISE = "elliot elu gelu hard_sigmoid hard_silu hard_tanh leaky_relu linear mish relu selu"
ELEMENTWISE += " sigmoid silu softplus softsign symmetric_elliot tanh"


@pytest.mark.parametrize("name", ELEMENTWISE.split())
def test_activations_have_npdls_limits(name, tmp_path):
    layer = getattr(F, name)()
    large = [np.inf, 1e30, 1e4, 200.0, 88.0, 20.0, 3.0, 1e-3, 0.0]
    x = np.array([large, [-value for value in large]], np.float32)
    agree(exported(tmp_path, layer, (), (len(large),)), layer, (), x)


@pytest.mark.parametrize("name", [*ELEMENTWISE.split(), "softmax"])
def test_nan_stays_nan(name, tmp_path):
    layer, x = getattr(F, name)(), normal(2, 3, 4)
    x[0, 1, 2] = np.nan
    agree(exported(tmp_path, layer, (), (3, 4)), layer, (), x)


@pytest.mark.parametrize("opset", [13, 15, 17, 18, 21])
def test_every_opset_computes_the_same(opset, tmp_path):
    model = F.serial(
        *(F.conv2d(4, 3), F.group_norm(2), F.gelu(), F.global_max_pool()),
        *(F.expand_dims(1), F.transformer_encoder_block(2, 3), F.lstm(3), F.layer_norm()),
    )
    params = noisy(model.init(0, (2, 5, 6)))
    running = exported(tmp_path, model, params, (2, 5, 6), opset=opset)
    agree(running, model, params, normal(3, 2, 5, 6))
