"""How constructors are called: options by name, true flags, errors with the right call.

The tests read the signatures of all public constructors, so that a new one is covered too.
"""

import importlib.util
import inspect
import math
import re
import types
from fractions import Fraction

import numpy as np
import pytest

import npdl.functional as F
from npdl._constructor import Recorded, RecordedFunction

X = np.ones((2, 3), np.float32)

# A value for each argument that a constructor needs, by its name, or else by its type.
NEEDED = {
    "boundaries": (3,),
    "cell": F.graph(("x", "h"), {"y": (F.concatenate(), ("x", "h"))}, ("y", "h")),
    "f": lambda x: x,
    "inner": F.lstm(2),
    "inputs": "x",
    "nodes": {"y": (F.dense(2), "x")},
    "optimizer": F.sgd(0.1),
    "optimizers": {"*": F.sgd(0.1)},
    "outputs": "y",
    "schedule": 0.1,
    "schedules": (0.1, 0.2),
    "select": "*bias",
    "shape": (3,),
    "state": (4,),
    "pad padding": (1, 1),
    "padding": 1,
    "padding_id": 1,
    "transpose axes": (0, 2, 1),
}


class Tensor:
    """An array of another library."""

    def __array__(self, dtype=None, copy=None):
        return X


def public_constructors():
    for name in F.__all__:
        function = getattr(F, name)
        if inspect.isfunction(function):
            signature = inspect.signature(function)
            made = signature.return_annotation
            if isinstance(made, type) and issubclass(made, Recorded):
                yield name, function, signature.parameters


ALL = {name: (function, parameters) for name, function, parameters in public_constructors()}
if importlib.util.find_spec("autograd") is None:
    del ALL["from_function"]
each = pytest.mark.parametrize("name", ALL)


def types_of(parameter):
    """Return the types in the annotation of a parameter."""
    kind = parameter.annotation
    return kind.__args__ if isinstance(kind, types.UnionType) else (kind,)


def value_for(name, parameter):
    for key in (f"{name} {parameter.name}", parameter.name):
        if key in NEEDED:
            return NEEDED[key]
    for kind, value in ((bool, True), (int, 2), (float, 0.5)):
        if kind in types_of(parameter):
            return value
    raise AssertionError(f"add a value for {parameter.name} of {name} to NEEDED")


def needed(name, without=None):
    """Return the arguments without which a constructor cannot be called."""
    return {
        p.name: value_for(name, p)
        for p in ALL[name][1].values()
        if p.default is p.empty and p.kind is not p.VAR_POSITIONAL and p.name != without
    }


def arguments_of(kind):
    """Return each argument of a type, of each constructor."""
    return [
        (name, p.name)
        for name, (_, parameters) in ALL.items()
        for p in parameters.values()
        if kind in types_of(p) and p.kind is not p.VAR_POSITIONAL
    ]


def call(name, **changes):
    """Call a constructor with the arguments that it needs, and others."""
    function, parameters = ALL[name]
    rest = [p for p in parameters.values() if p.kind is p.VAR_POSITIONAL]
    args = [F.sgd(0.1) if p.annotation is F.Optimizer else F.dense(2) for p in rest]
    return function(*args, **needed(name) | changes)


def refusal(name, argument, value, error=(TypeError, ValueError)):
    with pytest.raises(error) as caught:
        call(name, **{argument: value})
    return str(caught.value)


@each
def test_a_constructor_takes_the_needed_arguments_by_name(name):
    assert isinstance(call(name), F.Layer | F.Optimizer | RecordedFunction)


@each
def test_a_flag_is_never_taken_by_position(name):
    for parameter in ALL[name][1].values():
        if bool in types_of(parameter):
            assert parameter.kind is parameter.KEYWORD_ONLY


@each
def test_at_most_two_arguments_are_taken_by_position(name):
    kinds = [p.kind for p in ALL[name][1].values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= (3 if name == "graph" else 2)


@each
def test_too_many_arguments_by_position_are_an_error(name):
    function, parameters = ALL[name]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        return
    by_position = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [p for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    args = [value_for(name, p) if p.default is p.empty else p.default for p in by_position]
    extra = next((value_for(name, p) if p.default is p.empty else p.default for p in options), 7)
    named = {p.name: value_for(name, p) for p in options[1:] if p.default is p.empty}
    with pytest.raises(TypeError, match=rf"^{name}\(\) takes .*: {name}\(") as caught:
        function(*args, extra, **named)
    if parameters:
        assert f"the call is {name}({', '.join(parameters)[:5]}" in str(caught.value) or options
    if options:
        assert f"options are keyword-only: {name}(" in str(caught.value)
        assert f"{options[0].name}={extra!r}" in str(caught.value)


@each
def test_an_unknown_option_is_an_error_that_lists_the_options(name):
    with pytest.raises(TypeError, match=f"{name}.. got an unexpected keyword .*'colour'") as caught:
        call(name, colour=1)
    for parameter in ALL[name][1]:
        assert parameter in str(caught.value)


@pytest.mark.parametrize(
    ("name", "argument"), arguments_of(bool) + arguments_of(int) + arguments_of(float)
)
def test_a_misspelt_option_is_an_error_that_spells_it(name, argument):
    function, parameters = ALL[name]
    rest = [F.dense(2)] if name == "parallel" else []
    value = value_for(name, parameters[argument])
    with pytest.raises(TypeError, match=f"{argument}s is called {argument}"):
        function(*rest, **needed(name, without=argument), **{f"{argument}s": value})


@pytest.mark.parametrize(("name", "argument"), arguments_of(bool))
def test_a_flag_is_a_boolean_and_nothing_else(name, argument):
    expected = rf"\w+: {argument} must be True or False, as in \w+\(.*{argument}="
    for value in (1, 0, 8, 1.0, "yes", None, np.int64(1), (True,)):
        assert re.search(expected, refusal(name, argument, value, TypeError)), value


@pytest.mark.parametrize(("name", "argument"), arguments_of(bool))
def test_a_flag_of_numpy_is_a_flag(name, argument):
    for value in (True, False):
        made, same = (call(name, **{argument: flag}) for flag in (np.bool_(value), value))
        assert made == same
        assert repr(made) == repr(same)


def takes(name, argument, value):
    """Whether an argument takes `None`, which has a separate meaning, or a negative int."""
    if value is None:
        return type(None) in types_of(ALL[name][1][argument])
    return type(value) is int and argument in ("axis", "axes")


@pytest.mark.parametrize(("name", "argument"), arguments_of(int) + arguments_of(tuple[int, ...]))
def test_a_count_is_an_int_and_nothing_else(name, argument):
    for value in (True, np.True_, 1.5, 2.0, "3", None, -3, math.nan, Fraction(2)):
        if not takes(name, argument, value):
            message = refusal(name, argument, value)
            assert f"{name}: {argument} must be" in message, value
            assert f"as in {name}(" in message, value


@pytest.mark.parametrize(("name", "argument"), arguments_of(float))
def test_a_rate_is_a_finite_number_and_nothing_else(name, argument):
    for value in (True, np.False_, math.nan, "0.1", None, 1j):
        if not takes(name, argument, value):
            message = refusal(name, argument, value)
            assert f"{argument} must be a number" in message, value
            assert "as in " in message, value


@pytest.mark.parametrize(("name", "argument"), arguments_of(int) + arguments_of(float))
def test_a_number_of_numpy_is_a_number(name, argument):
    value = ALL[name][1][argument].default
    if not isinstance(value, int | float):
        value = value_for(name, ALL[name][1][argument])
    made, same = (call(name, **{argument: number}) for number in (np.asarray(value)[()], value))
    assert made == same
    assert repr(made) == repr(same)


@pytest.mark.parametrize("name", [name for name in ALL if "activation" in ALL[name][1]])
@pytest.mark.parametrize("value", ["gelu", F.gelu, None], ids=["name", "constructor", "nothing"])
def test_an_activation_is_a_layer_and_nothing_else(name, value):
    message = refusal(name, "activation", value, TypeError)
    assert f"{name}: activation must be a layer, as in {name}(" in message


RATES = ["warmup", *(name for name in ALL if "learning_rate" in ALL[name][1])]


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", [F.dense(2), F.serial(F.dense(2), F.relu()), F.cosine_decay])
def test_a_schedule_is_neither_a_layer_nor_a_constructor(name, value):
    argument = "schedule" if name == "warmup" else "learning_rate"
    message = refusal(name, argument, value, ValueError)
    assert "must be a number of at least 0, or a schedule" in message


INITIALIZERS = [
    (name, argument)
    for name, (_, parameters) in ALL.items()
    for argument in parameters
    if argument.endswith("_init")
]


@pytest.mark.parametrize(("name", "argument"), INITIALIZERS)
def test_an_initializer_is_checked_where_it_is_given(name, argument):
    for value in ("he_uniform", 0.1, F.he_uniform, None, F.dense(2)):
        message = refusal(name, argument, value, TypeError)
        assert f"{name}: {argument} must be an initializer, as in {name}(" in message, value


# Data in the place of options


@each
def test_data_for_an_option_are_an_error_with_the_right_call(name):
    function, parameters = ALL[name]
    needs = [p for p in parameters.values() if p.default is p.empty]
    rest = {p.name: value_for(name, p) for p in needs[1:]}
    kinds = (
        "is a layer: y = ",
        "is an optimizer: state = ",
        "returns a function, which takes data",
    )
    for value in (X, X[0], Tensor(), [[1.0, 2.0], [3.0, 4.0]], [0.5, -1.5], (X, X), {"a": X}):
        if isinstance(value, list) and name == "uniform":
            continue  # two bounds
        with pytest.raises(TypeError) as caught:
            function(value, **rest)
        assert any(kind in str(caught.value) for kind in kinds), value
        assert "array(" not in str(caught.value), value


# Habits from other libraries: a call, and a part of its error

HABITS = {
    "Linear": (lambda: F.dense(4, 8), "the size of the input follows from the data: dense(8)"),
    "Linear without bias": (lambda: F.dense(4, 8, False), "data: dense(8, bias=False)"),
    "Dense with activation": (
        lambda: F.dense(10, "relu"),
        "a separate layer: serial(dense(10), relu())",
    ),
    "a layer for activation": (lambda: F.dense(10, F.gelu()), "serial(dense(10), gelu())"),
    "a constructor for it": (lambda: F.conv2d(16, 3, F.tanh), "serial(conv2d(16, 3), tanh())"),
    "activation=": (
        lambda: F.dense(8, activation="relu"),
        "a separate layer: serial(dense(8), relu())",
    ),
    "use_bias=": (lambda: F.dense(8, use_bias=False), "called bias: dense(8, bias=False)"),
    "no padding": (lambda: F.dense(8, padding=1), "the call is dense(units, *, bias=True"),
    "in_features=": (lambda: F.dense(in_features=4, out_features=8), "is called units: dense(8)"),
    "input_shape=": (lambda: F.conv2d(8, 3, input_shape=(3, 9, 9)), "from the data: conv2d(8, 3)"),
    "kernel_initializer=": (
        lambda: F.dense(8, kernel_initializer=F.zeros()),
        "kernel_initializer is called weight_init: dense(8, weight_init=zeros())",
    ),
    "Conv2d": (
        lambda: F.conv2d(3, 16, 3),
        "from the data: conv2d(16, 3); options are keyword-only: ",
    ),
    "Conv2d with stride": (lambda: F.conv2d(3, 16, 3, 2), "data: conv2d(16, 3, stride=2)"),
    "Conv2D": (lambda: F.conv2d(16, 3, 1), "options are keyword-only: conv2d(16, 3, stride=1)"),
    "Conv2D, same": (lambda: F.conv2d(16, 3, 1, "same"), "(16, 3, stride=1, padding='same')"),
    "Conv1d": (
        lambda: F.conv1d(3, 16, 3),
        "the size of the input follows from the data: conv1d(16",
    ),
    "ConvTranspose2d": (
        lambda: F.conv2d_transpose(16, 8, 2, 2),
        "the size of the input follows from the data: conv2d_transpose(8, 2, stride=2)",
    ),
    "LSTM": (lambda: F.lstm(4, 8), "the size of the input follows from the data: lstm(8)"),
    "GRU": (lambda: F.gru(4, 8), "the size of the input follows from the data: gru(8)"),
    "RNN": (lambda: F.rnn(4, 8), "the size of the input follows from the data: rnn(8)"),
    "return_sequences=": (
        lambda: F.lstm(8, return_sequences=True),
        "lstm(8, return_sequence=True)",
    ),
    "num_layers=": (lambda: F.lstm(8, num_layers=2), "stack(…) applies several layers"),
    "GroupNorm": (lambda: F.group_norm(2, 8), "follows from the data: group_norm(2)"),
    "BatchNorm2d": (lambda: F.batch_norm(3), "follows from the data: batch_norm()"),
    "LayerNorm, eps": (lambda: F.layer_norm(64, 1e-5), "data: layer_norm(epsilon=1e-05)"),
    "MultiheadAttention": (
        lambda: F.multi_head_attention(8, 2),
        "the size of the input follows from the data: multi_head_attention(2)",
    ),
    "TransformerEncoderLayer": (
        lambda: F.transformer_encoder_block(512, 8, 2048),
        "the size of the input follows from the data: transformer_encoder_block(8, 2048)",
    ),
    "num_key_value_heads=": (
        lambda: F.multi_head_attention(8, num_key_value_heads=2),
        "num_key_value_heads is called kv_heads: multi_head_attention(8, kv_heads=2)",
    ),
    "norm_first=": (
        lambda: F.transformer_encoder_block(8, 32, norm_first=True),
        "norm_first is called pre_norm: transformer_encoder_block(8, 32, pre_norm=True)",
    ),
    "MaxPool2d": (lambda: F.max_pool2d(2, 2), "options are keyword-only: max_pool2d(2, stride=2)"),
    "Dropout(p=)": (lambda: F.dropout(p=0.5), "p is called rate: dropout(0.5)"),
    "ReLU(inplace=)": (lambda: F.relu(inplace=True), "no layer writes to its input: relu()"),
    "Embedding": (
        lambda: F.embedding(num_embeddings=100, embedding_dim=8),
        "embedding_dim is called units: embedding(100, 8)",
    ),
    "reshape": (lambda: F.reshape(2, -1), "pass several numbers as one tuple: reshape((2, -1))"),
    "permute": (lambda: F.transpose(0, 2, 1), "one tuple: transpose((0, 2, 1))"),
    "NumPy's normal": (lambda: F.normal(0.0, 0.02), "normal(0.02, mean=0.0)"),
    "bounds": (lambda: F.uniform(0.0, 1.0), "one tuple: uniform((0.0, 1.0))"),
    "an initializer's shape": (lambda: F.glorot_uniform((3, 4)), "glorot_uniform()(…)"),
    "Adam's betas": (lambda: F.adam(1e-3, 0.8), "options are keyword-only: adam(0.001, beta1=0.8)"),
    "Adam(lr=)": (lambda: F.adam(lr=1e-3), "lr is called learning_rate: adam(0.001)"),
    "SGD with momentum": (lambda: F.momentum(0.1, 0.9), "only: momentum(0.1, decay=0.9)"),
    "Sequential": (lambda: F.serial([F.dense(2)]), "a list of layers as serial(*layers)"),
    "add": (lambda: F.add(X, X), "add() is a layer: y = add()(params, x)"),
    "a flag of value_and_grad": (
        lambda: F.value_and_grad(F.relu(), F.huber, True),
        "options are keyword-only: value_and_grad(relu(), huber, input_grad=True)",
    ),
}


@pytest.mark.parametrize(("call", "text"), HABITS.values(), ids=HABITS)
def test_a_call_of_another_library_is_an_error_with_the_remedy(call, text):
    with pytest.raises(TypeError) as caught:
        call()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_right_call_is_only_shown_if_it_works():
    with pytest.raises(TypeError, match=r"dense\(4, 8\)") as caught:
        F.dense(4, 8)
    assert "bias=8" not in str(caught.value)


def test_a_size_for_axes_is_refused_with_a_hint():
    with pytest.raises(ValueError, match=r"the sizes follow from the data.*got 64"):
        F.layer_norm(64)


# Constructors of users


@F.layer
def masked_by(mask, scale=2.0, *, flag=False):
    """y = m x, with a constant array."""

    def apply(params, x):
        if mask.shape != x.shape[1:]:
            raise ValueError("another shape")
        return mask * x, None

    return F.Layer(lambda rng, shape: (), apply, lambda params, cache, g: (None, mask * g))


@F.layer
def failing(mask):
    raise ValueError("not this array")


def test_a_constructor_of_a_user_takes_arrays():
    assert masked_by(X[0])((), X).shape == (2, 3)
    with pytest.raises(ValueError, match=r"^not this array$"):
        failing(X)


def test_a_users_constructor_has_errors_with_the_right_call():
    with pytest.raises(TypeError, match=r"options are keyword-only: masked_by\(1, 2, flag=True\)$"):
        masked_by(1, 2, True)
    with pytest.raises(TypeError, match=r"flags is called flag: masked_by\(1, flag=True\)$"):
        masked_by(1, flags=True)


def test_an_error_inside_a_constructor_of_a_user_is_kept():
    @F.layer
    def block(units):
        return F.serial(F.dense(units, 3))

    with pytest.raises(TypeError, match=r"^dense\(\) takes 1 .*: dense\(8, 3\)"):
        block(8)


# Configurations of older calls


def test_options_by_position_in_a_configuration_are_errors():
    with pytest.raises(TypeError, match=r"options are keyword-only: dense\(4, bias=False\)"):
        F.from_config({"call": "dense", "positional": [4, False]})
    made = F.from_config({"call": "dense", "positional": [4], "arguments": {"bias": False}})
    assert made == F.dense(4, bias=False)


# Options of losses and metrics

OPTIONS = [
    (F.huber, "delta"),
    (F.binary_cross_entropy, "epsilon"),
    (F.categorical_cross_entropy, "epsilon"),
    (F.hellinger_distance, "epsilon"),
    (F.softmax_cross_entropy, "label_smoothing"),
    (F.binary_accuracy, "threshold"),
    (F.top_k_accuracy, "k"),
    (F.confusion_matrix, "classes"),
]


@pytest.mark.parametrize(("function", "option"), OPTIONS)
@pytest.mark.parametrize("value", [True, "0.1", math.nan, [0.1]], ids=repr)
def test_an_option_of_a_loss_or_metric_is_a_number(function, option, value):
    p = np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match=rf"^{function.__name__}: {option} must be .*, as in "):
        function(p, np.array([[1, 0], [0, 1]]), **{option: value})
