"""The models of the examples, trained for a moment, and models in the style of Keras."""

import inspect
import runpy
from pathlib import Path

import numpy as np
import pytest
from onnx_models import agree, exported, session

import npdl
import npdl.functional as F
from npdl import onnx, random, training, tree
from npdl.onnx import _registry

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    """Return a function that trains a model of an example, in either style.

    It returns the layer, its parameters and the inputs of the training.
    """
    monkeypatch.syspath_prepend(EXAMPLES)
    fit, kept = training.fit, []

    def fit_and_keep(model, loss, optimizer, data, **options):
        state, history = fit(model, loss, optimizer, data, **options | {"progress": False})
        kept.append((model, state.params, data[0]))
        return state, history

    class KeptModel(npdl.Model):
        def fit(self, X, Y, *args, **options):
            history = super().fit(X, Y, *args, **options | {"verbose": 0})
            kept.append((self, self.to_functional(), X))
            return history

    monkeypatch.setattr(training, "fit", fit_and_keep)
    monkeypatch.setattr(npdl, "Model", KeptModel)

    def run(script, style, arguments):
        train = runpy.run_path(str(EXAMPLES / f"{script}.py"))[style]
        train(**{name: arguments[name] for name in inspect.signature(train).parameters})
        return kept.pop()

    return run


def images(count=130):
    generator = random.generator(1)
    return generator.random((count, 1, 8, 8)).astype(np.float32), generator.integers(10, size=count)


def texts(count=48, time=30, below=40):
    return random.generator(2).integers(0, below, (count, time))


IMAGES = images()
IDS = texts(70)
CLASSES = random.generator(3).integers(4, size=48)

# The arguments of the functions that train the models of the examples.
COMMON = {"epochs": 1, "batch_size": 16, "shards": None, "key": random.key(0)}
DIGITS = COMMON | {"training": IMAGES, "validation": IMAGES}
SENTENCES = COMMON | {"training": (texts(), CLASSES), "vocabulary": 40, "classes": 4}
CHARACTERS = COMMON | {"characters": 40, "data": (IDS, IDS)}

# Example, arguments, and the shape of one example.
TRAINED = {
    "digits": ("digits", DIGITS, (1, 8, 8)),
    "digits with a CNN": ("digits_cnn", DIGITS, (1, 8, 8)),
    "sentences with a CNN": ("sentences", SENTENCES | {"name": "cnn"}, (None,)),
    "sentences with an LSTM": ("sentences", SENTENCES | {"name": "lstm"}, ((None,), (None,))),
    "characters with an RNN": ("characters", CHARACTERS | {"name": "rnn"}, (None,)),
    "characters with an LSTM": ("characters", CHARACTERS | {"name": "lstm"}, (None,)),
    "characters with a transformer": ("characters", CHARACTERS | {"name": "transformer"}, (None,)),
}


def some(x):
    """Return a batch of another size than in training."""
    return tree.map(lambda array: array[:7], x)


@pytest.mark.parametrize("name", TRAINED)
def test_the_functional_models_of_the_examples_agree(name, example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    script, arguments, shape = TRAINED[name]
    model, params, x = example(script, "functional", arguments)
    agree(exported(tmp_path, model, params, shape), model, params, some(x))


@pytest.mark.parametrize("name", [name for name in TRAINED if "transformer" not in name])
def test_the_stateful_models_of_the_examples_agree(name, example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    script, arguments, _ = TRAINED[name]
    model, (layer, params), x = example(script, "compat", arguments)
    model.export_onnx(tmp_path / "model.onnx")
    running = session(tmp_path / "model.onnx")
    agree(running, layer, params, some(x))
    found = running.run(None, {"input": np.asarray(some(x), running_type(running))})[0]
    np.testing.assert_allclose(found, model.predict(some(x)), rtol=1e-5, atol=1e-5)


def running_type(running):
    return {"tensor(float)": np.float32, "tensor(int64)": np.int64}[running.get_inputs()[0].type]


# The layers that the chatbot defines itself.


@pytest.fixture
def chatbot_rules(monkeypatch):
    monkeypatch.setattr(_registry, "_RULES", dict(_registry._RULES))

    @onnx.rule("unknown_words")
    def unknown_words(graph, params, words, *, rate):
        return words

    @onnx.rule("initial_state")
    def initial_state(graph, params, ends, memory, mask):
        (_, c), (_, c_back) = ends
        outside = graph.node("Not", graph.node("Unsqueeze", graph.cast(mask, bool), [2]))
        seen = memory - 4 * graph.cast(outside, np.float32)
        steps = graph.node("ArgMax", seen, axis=1, keepdims=1)
        strongest = graph.node("GatherElements", memory, steps, axis=1)
        joined = graph.node("Concat", c, c_back, axis=1)
        return graph.node("Squeeze", strongest, [1]), joined

    @onnx.rule("attention")
    def attention(graph, params, queries, memory, mask):
        seen = queries @ params["weight"] @ graph.node("Transpose", memory, perm=[0, 2, 1])
        known = graph.node("Unsqueeze", graph.cast(mask, bool), [1])
        scores = seen + graph.node("Where", known, 0.0, -1e9)
        weights = graph.node("Softmax", scores, axis=-1)
        return graph.node("Concat", queries, weights @ memory, axis=2), weights


def test_the_trained_chatbot_agrees(chatbot_rules, tmp_path):
    from bot import load
    from data import words_of_question

    bot = load()
    parts, params = bot.parts(), bot.params
    questions = [words_of_question(text) for text in ("How are you?", "What is your name")]
    ids = [bot.asked.read(words) for words in questions]
    length = max(map(len, ids))
    question = np.array([[*row, *[0] * (length - len(row))] for row in ids])
    mask = np.array([[True] * len(row) + [False] * (length - len(row)) for row in ids])
    before = np.array([[1, 5, 9], [1, 7, 2]])
    shape = ((None,), (None,), (None,))
    running = exported(tmp_path, parts.whole, params, shape)
    assert [value.name for value in running.get_inputs()] == ["question", "mask", "before"]
    agree(running, parts.whole, params, (question, mask, before))
    agree(running, parts.whole, params, (question[:1, :2], mask[:1, :2], before[:1, :1]))

    asked = params["asked"][1]["table"][question]
    encoded = exported(tmp_path, parts.encoder, params["memory"], ((None, 64), (None,)))
    agree(encoded, parts.encoder, params["memory"], (asked, mask))

    memory, state = parts.encoder(params["memory"], (asked, mask))
    said = params["said"][1]["table"][before]
    shapes = ((None, 64), (None, 128), (None,), ((128,), (128,)))
    decoded = exported(tmp_path, parts.decoder, params["scores"], shapes)
    assert [value.type for value in decoded.get_inputs()][2] == "tensor(bool)"
    names = [value.name for value in decoded.get_outputs()]
    assert names == ["scores", "weights", "next_state_0", "next_state_1"]
    agree(decoded, parts.decoder, params["scores"], (said, memory, mask, state))


# Models in the style of Keras


def test_the_chatbot_asks_for_its_rules(tmp_path):
    from model import make_parts

    whole = make_parts(9, 9).whole
    params = whole.init(0, ((3,), (3,), (4,)))
    with pytest.raises(NotImplementedError, match=r"unknown_words\(rate=0.15\) in graph\[asked\]"):
        onnx.save(tmp_path / "bot.onnx", whole, params, ((3,), (3,), (4,)))


L = npdl.layers
STATEFUL = {
    "dense": ([L.Dense(4, n_in=3, activation="elliot"), L.Softmax(2)], (3,), ["batch", 3]),
    "words": (
        [L.Embedding(input_size=9, n_out=4), L.LSTM(5), L.Dense(2)],
        "ids",
        ["batch", "input_axis1"],
    ),
    "words of one length": (
        [L.Embedding(input_size=9, n_out=4, nb_seq=6), L.GRU(5)],
        "ids",
        ["batch", 6],
    ),
    "images": (
        [
            *(L.Convolution(3, (2, 2), input_shape=(2, 6, 5)), L.BatchNormal()),
            *(L.MeanPooling((1, 2)), L.Flatten(), L.Dropout(0.5), L.Dense(3)),
        ],
        (2, 6, 5),
        ["batch", 2, 6, 5],
    ),
    "a norm by position": ([L.BatchNormal(input_shape=(3, 4), axis=0)], (3, 4), ["batch", 3, 4]),
    "sequences": ([L.SimpleRNN(4, n_in=3)], (7, 3), ["batch", "input_axis1", 3]),
    "a functional layer": (
        [L.Functional(F.residual(F.layer_norm(), F.dense(4)), input_shape=(4,)), L.Dense(2)],
        (4,),
        ["batch", 4],
    ),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_stateful_model_is_exported(name, tmp_path):
    layers, shape, sizes = STATEFUL[name]
    npdl.utils.set_seed(0)
    model = npdl.Model(layers)
    model.compile(loss="mse")
    x = texts(5, 6, 9) if shape == "ids" else random.generator(0).normal(size=(5, *shape))
    model.export_onnx(tmp_path / "model.onnx")
    running = session(tmp_path / "model.onnx")
    assert running.get_inputs()[0].shape == sizes
    found = running.run(None, {"input": x.astype(running_type(running))})[0]
    np.testing.assert_allclose(found, model.predict(x), rtol=1e-5, atol=1e-5)


def test_a_stateful_model_without_a_shape_asks_for_it(tmp_path):
    layer = F.serial(F.dense(4), F.relu())
    model = npdl.Model.from_functional(layer, layer.init(0, (3,)))
    with pytest.raises(ValueError, match=r'export_onnx\("model.onnx", input_shape=\(64,\)\)'):
        model.export_onnx(tmp_path / "model.onnx")
    model.export_onnx(tmp_path / "model.onnx", input_shape=(3,))
    x = np.ones((2, 3), np.float32)
    agree(session(tmp_path / "model.onnx"), *model.to_functional(), x)
    model.predict(x)
    model.export_onnx(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_a_stateful_activation_of_a_user_needs_a_rule(tmp_path, monkeypatch):
    class Square(npdl.activations.Activation):
        def forward(self, X):
            return X * X

        def derivative(self, X=None):
            return 2 * X

    monkeypatch.setattr(_registry, "_RULES", dict(_registry._RULES))
    model = npdl.Model([L.Dense(2, n_in=3, activation=Square())])
    model.compile(loss="mse")
    with pytest.raises(NotImplementedError, match=r"rule\(npdl\.compat\.activations\.stateful\)"):
        model.export_onnx(tmp_path / "model.onnx")
    onnx.rule(npdl.activations.stateful)(lambda graph, params, x, *, activation: x * x)
    model.export_onnx(tmp_path / "model.onnx")
    x = np.ones((2, 3), np.float32)
    agree(session(tmp_path / "model.onnx"), *model.to_functional(), x)


def test_a_stateful_layer_of_a_user_is_refused(tmp_path):
    class Twice(npdl.layers.Layer):
        def forward(self, X):
            return 2 * X

        def connect_to(self, prev_layer=None):
            self.out_shape = prev_layer.out_shape

    model = npdl.Model([L.Dense(2, n_in=3), Twice()])
    model.compile(loss="mse")
    with pytest.raises(TypeError, match="is your own layer"):
        model.export_onnx(tmp_path / "model.onnx")
    with pytest.raises(RuntimeError, match="compile"):
        npdl.Model([L.Dense(2, n_in=3)]).export_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_default_regressor_agrees_in_the_units_of_its_targets(outputs, tmp_path):
    pytest.importorskip("sklearn")
    from npdl.sklearn import NpdlRegressor

    x = random.generator(0).normal(size=(60, 4)).astype(np.float32)
    fitted = NpdlRegressor(hidden=(8,), epochs=2).fit(x, 100 * x[:, :outputs] + 5)
    model, params = fitted.layer_, fitted.params_
    agree(exported(tmp_path, model, params, (4,)), model, params, x)
