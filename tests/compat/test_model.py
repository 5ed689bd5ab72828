"""Models of stateful layers: training, evaluation, files, and the functional form."""

import io
import json
import re
import textwrap

import numpy as np
import pytest
from arrays import same_bits
from npdl.layers import (
    BatchNormal,
    Convolution,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Functional,
    Layer,
    Linear,
    MaxPooling,
    SimpleRNN,
    Softmax,
)

import npdl
import npdl.functional as F
from npdl.callbacks import Callback
from npdl.checkpoint import CheckpointError
from npdl.gradcheck import check_gradients


@pytest.fixture(autouse=True)
def _fresh_state():
    """Set a new generator for each test, and restore the package's generator."""
    rng, dtype = npdl.utils.get_rng(), npdl.utils.get_dtype()
    npdl.utils.set_seed(5)
    yield
    npdl.utils.set_rng(rng)
    npdl.utils.set_dtype(dtype)


def examples(count=50, features=6, classes=3, seed=0):
    generator = np.random.RandomState(seed)
    labels = generator.randint(classes, size=count)
    centres = generator.normal(size=(classes, features))
    return centres[labels] + 0.3 * generator.normal(size=(count, features)), labels


X, Y = examples()
ONE_HOT = npdl.utils.one_hot(Y, 3)


def global_state():
    return np.random.get_state()[1].copy()  # noqa: NPY002


def mlp(**options):
    model = npdl.Model()
    model.add(Dense(n_out=8, n_in=6))
    model.add(Softmax(n_out=3))
    model.compile(**options)
    return model


def same_weights(a, b):
    return same_bits(a.get_weights(), b.get_weights())


# Training


def test_fit_equals_steps_of_functional_layers():
    """Compare with one epoch of SGD on sums over the batch, written with pure functions."""
    model = mlp(optimizer=npdl.optimizers.SGD(lr=0.02))
    layer, params = model.to_functional()
    model.fit(X, Y, max_iter=1, batch_size=16, shuffle=False, verbose=0)
    for start in range(0, len(X), 16):
        x, y = X[start : start + 16].astype(np.float32), Y[start : start + 16]
        outputs, cache = layer.apply(params, x)
        _, g = F.categorical_cross_entropy(outputs, y)
        grads, _ = layer.backward(params, cache, g * len(x))
        params = F.apply_updates(params, npdl.tree.map(lambda d: np.float32(-0.02) * d, grads))
    trained = model.to_functional()[1]
    assert npdl.tree.all_close(trained, params, rtol=1e-5, atol=1e-6)


def test_int_labels_and_one_hot_rows_train_equally():
    by_int, by_row = mlp(), mlp()
    by_row.set_weights(by_int.get_weights())
    for model, targets in ((by_int, Y), (by_row, ONE_HOT)):
        npdl.utils.set_seed(7)
        model.fit(X, targets, max_iter=3, verbose=0)
    assert same_weights(by_int, by_row)


def test_fit_changes_neither_arrays_nor_the_global_generator():
    x, y, state = X.copy(), ONE_HOT.copy(), global_state()
    x.flags.writeable = y.flags.writeable = False
    mlp().fit(x, y, max_iter=2, verbose=0)
    assert np.array_equal(x, X)
    assert np.array_equal(global_state(), state)


def test_every_example_counts_even_in_a_short_last_batch():
    seen = []

    class Watching(Linear):
        def forward(self, input, *args, **kwargs):
            if kwargs["train"]:
                seen.extend(np.asarray(input)[:, 0])
            return super().forward(input, *args, **kwargs)

    model = npdl.Model([Watching(n_out=3, n_in=6), Softmax(n_out=3)])
    model.compile()
    model.fit(X, Y, max_iter=1, batch_size=16, verbose=0)
    np.testing.assert_array_equal(np.sort(seen), np.sort(X[:, 0]))
    assert not np.array_equal(seen, X[:, 0])


def test_the_same_seed_gives_the_same_bits():
    models = []
    for _ in range(2):
        npdl.utils.set_seed(3)
        model = npdl.Model([Dense(8, n_in=6), Dropout(0.4), Softmax(3)])
        model.compile(optimizer="adam")
        model.fit(X, Y, max_iter=3, verbose=0)
        models.append(model)
    assert same_weights(*models)


def test_fit_prints_a_line_per_epoch():
    file = io.StringIO()
    mlp().fit(X, Y, max_iter=2, validation_split=0.2, file=file)
    number = r"\d\.\d{4}"
    part = rf"-\[loss {number}, acc {number}\]; "
    assert re.fullmatch(
        "".join(rf"iter {i}, train{part}valid{part}\n" for i in (1, 2)), file.getvalue()
    )


def test_verbose_0_is_silent(capsys):
    mlp().fit(X, Y, epochs=1, verbose=0)
    assert capsys.readouterr() == ("", "")


def test_history_has_means_over_examples():
    model = mlp(optimizer=npdl.optimizers.SGD(lr=0.0))
    history = model.fit(X, Y, epochs=2, batch_size=16, validation_data=(X, ONE_HOT), verbose=0)
    loss, accuracy = model.evaluate(X, Y, metrics=["accuracy"])
    assert history.epoch == [0, 1]
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for prefix in ("", "val_"):
        np.testing.assert_allclose(history.history[f"{prefix}loss"], [loss] * 2, rtol=1e-5)
        np.testing.assert_allclose(history.history[f"{prefix}accuracy"], [accuracy] * 2, rtol=1e-6)


def test_a_regression_has_no_accuracy():
    model = npdl.Model([Linear(n_out=1, n_in=6)])
    model.compile(loss="mse", optimizer="adam")
    file = io.StringIO()
    history = model.fit(X, X[:, :1], epochs=2, file=file)
    assert set(history.history) == {"loss"}
    assert "acc" not in file.getvalue()


def test_a_users_metric_is_evaluated():
    def mean_output(outputs, targets):
        return outputs.mean()

    history = mlp().fit(X, Y, epochs=1, metrics=[mean_output], verbose=0)
    assert history.history["mean_output"][0] == pytest.approx(1 / 3)
    assert mlp(metrics={"third": mean_output}).evaluate(X, Y)[1] == pytest.approx(1 / 3)


def test_sample_weights_0_and_2_omit_and_repeat_an_example():
    weight = np.r_[np.zeros(20), 2 * np.ones(10), np.ones(20)]
    model, other = mlp(), mlp()
    other.set_weights(model.get_weights())
    model.fit(X, Y, epochs=2, batch_size=50, shuffle=False, sample_weight=weight, verbose=0)
    rows = np.r_[20:30, 20:50]
    other.fit(X[rows], Y[rows], epochs=2, batch_size=50, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_validation_split_takes_the_end_of_the_data():
    model, other = mlp(), mlp()
    other.set_weights(model.get_weights())
    for one, data, options in (
        (model, (X, Y), {"validation_split": 0.3}),
        (other, (X[:35], Y[:35]), {"validation_data": (X[35:], Y[35:])}),
    ):
        npdl.utils.set_seed(1)
        one.history = one.fit(*data, epochs=2, verbose=0, **options).history
    assert same_weights(model, other)
    assert model.history == other.history


def test_callbacks_are_called_in_order_and_can_stop_training():
    calls = []

    class Log(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                calls.append(name.removeprefix("on_"))
            return super().__getattribute__(name)

        def on_epoch_end(self, epoch, logs=None):
            assert logs["loss"] > 0
            self.model.stop_training = epoch == 3

    log = Log()
    history = mlp().fit(X, Y, epochs=9, initial_epoch=2, batch_size=30, callbacks=[log], verbose=0)
    batch = ["train_batch_begin", "train_batch_end"]
    epoch = ["epoch_begin", *batch, *batch, "epoch_end"]
    assert calls == ["train_begin", *epoch, *epoch, "train_end", "train_exit"]
    assert history.epoch == [2, 3]
    assert log.params["steps"] == 2


def test_train_on_batch_is_a_step_of_fit():
    model, other = mlp(), mlp()
    other.set_weights(model.get_weights())
    history = model.fit(X, Y, epochs=1, batch_size=50, shuffle=False, verbose=0)
    loss = other.train_on_batch(X, Y)
    assert same_weights(model, other)
    assert history.history["loss"] == [loss]


def test_predict_runs_in_evaluation_mode_and_batches():
    model = npdl.Model([Dense(8, n_in=6), Dropout(0.9), BatchNormal(), Softmax(3)])
    model.compile()
    model.fit(X, Y, epochs=1, verbose=0)
    once = model.predict(X)
    np.testing.assert_allclose(model.predict(X, batch_size=7), once, rtol=1e-5)
    assert model.evaluate(X, Y) == pytest.approx(-np.log(once[np.arange(50), Y]).mean(), rel=1e-5)


# The softmax


def loss_of(model, x, y):
    return float(np.sum(model.loss.forward(model.forward(x, train=True), y)))


ENDS = {
    "Softmax, SCCE": ([Dense(4, n_in=6), Softmax(3)], "scce", Y),
    "Dense with softmax, SCCE": ([Dense(3, n_in=6, activation="softmax")], "scce", ONE_HOT),
    "softmax inside": (
        [Dense(4, n_in=6, activation="softmax"), Dense(3, activation="softmax")],
        "scce",
        Y,
    ),
    "softmax, hellinger": ([Dense(4, n_in=6), Softmax(3)], "hed", Y),
    "softmax, bce": ([Dense(4, n_in=6), Softmax(3)], "bce", ONE_HOT),
    "sigmoid, scce": ([Dense(3, n_in=6, activation="sigmoid")], "scce", Y),
    "sigmoid, bce": ([Dense(4, n_in=6), Dense(3, activation="sigmoid")], "bce", ONE_HOT),
    "softmax, then dropout of nothing": ([Softmax(3, n_in=6), Dropout(0.0)], "scce", Y),
}


@pytest.mark.parametrize(("layers", "loss", "targets"), ENDS.values(), ids=ENDS)
def test_the_gradients_of_a_model_are_gradients_of_its_loss(layers, loss, targets):
    npdl.utils.set_dtype("float64")
    model = npdl.Model([Layer.from_json(layer.to_json()) for layer in layers])
    model.compile(loss=loss)
    model.backward(model.loss_gradient(model.forward(X, train=True), targets))
    grads = [g.copy() for g in model.grads]
    generator = np.random.RandomState(1)
    direction = [generator.normal(size=p.shape) for p in model.params]
    values, h = [], 1e-5
    for sign in (1, -1):
        for p, d in zip(model.params, direction, strict=True):
            p += sign * h * d
        values.append(loss_of(model, X, targets))
        for p, d in zip(model.params, direction, strict=True):
            p -= sign * h * d
    numeric = (values[0] - values[1]) / (2 * h)
    analytic = sum(np.vdot(g, d) for g, d in zip(grads, direction, strict=True))
    assert analytic == pytest.approx(numeric, rel=1e-6)


def test_mse_has_half_of_the_exact_gradient_as_documented():
    npdl.utils.set_dtype("float64")
    model = npdl.Model([Linear(n_out=3, n_in=6)])
    model.compile(loss="mse")
    outputs = model.forward(X)
    model.backward(model.loss_gradient(outputs, ONE_HOT))
    np.testing.assert_allclose(model.layers[0].dW, X.T @ (outputs - ONE_HOT))


# User-defined layers


class Scaled(Layer):
    """y = a x."""

    def connect_to(self, prev_layer=None):
        self.out_shape = prev_layer.out_shape
        self.a, self.da = np.ones(self.out_shape[-1]), None

    def forward(self, input, *args, **kwargs):
        self.last = input
        return self.a * input

    def backward(self, pre_grad, *args, **kwargs):
        self.da = (pre_grad * self.last).sum(axis=0)
        return self.a * pre_grad

    @property
    def params(self):
        return [self.a]

    @property
    def grads(self):
        return [self.da]


class Doubled(Layer):
    """A minimal layer: `forward` has only the input; no parameters; not a subclass."""

    def connect_to(self, prev_layer=None):
        self.out_shape = prev_layer.out_shape

    def forward(self, input):
        return 2 * input

    def backward(self, pre_grad):
        return 2 * pre_grad


def test_a_users_layers_work_in_a_model(tmp_path):
    model = npdl.Model([Dense(5, n_in=6), Scaled(), Doubled(), Softmax(3)])
    model.compile(optimizer=npdl.optimizers.Adam(lr=0.05))
    history = model.fit(X, Y, max_iter=60, verbose=0)
    assert history.history["accuracy"][-1] == 1
    assert not np.allclose(model.layers[1].a, 1)
    model.save(tmp_path / "own.npz")
    loaded = npdl.Model.load(tmp_path / "own.npz")
    assert same_weights(model, loaded)
    with pytest.raises(TypeError, match="Scaled is your own layer"):
        model.to_functional()


class Cube(npdl.activations.Activation):
    def forward(self, input):
        self.last_forward = input
        return input**3

    def derivative(self, input=None):
        x = self.last_forward if input is None else input
        return 3 * x**2


class Absolute(npdl.objectives.Objective):
    def forward(self, outputs, targets):
        return np.abs(outputs - targets)

    def backward(self, outputs, targets):
        return np.sign(outputs - targets)


class Tenth(npdl.initializations.Initializer):
    def call(self, size):
        return np.full(size, 0.1)

    __call__ = call


class Plain(npdl.optimizers.Optimizer):
    def update(self, params, grads):
        for p, g in zip(params, grads, strict=True):
            p -= self.lr * g
        super().update(params, grads)


def test_a_users_other_classes_work_in_a_model(tmp_path):
    model = npdl.Model([Dense(4, n_in=6, init=Tenth(), activation=Cube()), Linear(1, init=Tenth())])
    model.compile(loss=Absolute(), optimizer=Plain(lr=0.002))
    assert np.all(np.float32(0.1) == model.layers[0].W)
    target = X[:, :1] - X[:, 1:2]
    history = model.fit(X, target, epochs=40, verbose=0)
    assert history.history["loss"][-1] < 0.7 * history.history["loss"][0]
    assert model.optimizer.iterations == 40
    model.save(tmp_path / "own.npz")
    loaded = npdl.Model.load(tmp_path / "own.npz")
    assert np.array_equal(loaded.predict(X), model.predict(X))
    assert loaded.optimizer.iterations == 40


class Passing(Dropout):
    """A layer with the documented signature of forward."""

    def forward(self, input, *args, **kwargs):
        return super().forward(input, *args, **kwargs)


def test_a_forward_with_kwargs_gets_train_false_in_evaluation():
    model = npdl.Model([Dense(8, n_in=6), Passing(0.5), Softmax(3)])
    model.compile()
    assert np.array_equal(model.predict(X), model.predict(X))
    assert not np.array_equal(model.forward(X), model.forward(X))


def test_a_users_loss_may_have_targets_of_any_shape():
    class Pairs(npdl.objectives.Objective):
        def forward(self, outputs, targets):
            return (outputs - targets.reshape(outputs.shape)) ** 2

        def backward(self, outputs, targets):
            return outputs - targets.reshape(outputs.shape)

    model = npdl.Model([Linear(4, n_in=6)])
    model.compile(loss=Pairs(), optimizer="adam")
    history = model.fit(X, np.ones((50, 2, 2)), epochs=2, verbose=0)
    assert set(history.history) == {"loss"}


# Layers in several models


def test_a_trained_layer_can_follow_a_new_layer():
    trained = Dense(8, n_in=4)
    npdl.Model([trained, Softmax(2)]).compile()
    model = npdl.Model([Dense(4, n_in=6), trained, Softmax(3)])
    model.compile()
    before, weights = model.get_weights()[0], trained.W.copy()
    assert np.array_equal(trained.W, weights)
    model.fit(X, Y, epochs=1, verbose=0)
    assert not np.array_equal(model.get_weights()[0], before)


def test_two_models_with_one_softmax_have_exact_gradients():
    layer = Softmax(3, n_in=6)
    one, other = npdl.Model([layer]), npdl.Model([layer])
    one.compile(loss="scce")
    one.backward(one.loss_gradient(one.forward(X), Y))
    expected = layer.dW.copy()
    other.compile(loss="mse")
    other.forward(X)
    one.backward(one.loss_gradient(one.forward(X), Y))
    np.testing.assert_array_equal(layer.dW, expected)


def test_the_last_layer_can_be_replaced():
    model = mlp()
    kept = model.layers[0].W.copy()
    model.layers.pop()
    model.add(Softmax(5))
    with pytest.raises(RuntimeError, match="after the last add"):
        model.predict(X)
    model.compile()
    assert model.predict(X).shape == (50, 5)
    np.testing.assert_array_equal(model.layers[0].W, kept)
    model.layers.insert(1, Dense(7))
    model.compile()
    assert model.predict(X).shape == (50, 5)


def test_a_single_last_example_joins_the_batch_before():
    model = npdl.Model([Dense(4, n_in=6), BatchNormal(), Softmax(3)])
    model.compile()
    sizes = []
    model.forward = lambda x, train=True: (
        sizes.append(len(x)),
        type(model).forward(model, x, train),
    )[1]
    model.fit(X[:33], Y[:33], epochs=1, batch_size=16, verbose=0)
    assert sizes[-2:] == [16, 17]


def test_the_accuracy_of_one_column_has_the_threshold_0_5():
    outputs, targets = np.array([[0.2], [0.7], [0.9], [0.4]]), np.array([[0], [1], [0], [1]])
    assert npdl.Model.accuracy(outputs, targets) == 0.5
    model = npdl.Model([Dense(1, n_in=6, activation="sigmoid")])
    model.compile("bce", "sgd", metrics=["accuracy"])
    target = (X[:, :1] > 0).astype(int)
    history = model.fit(X, target, epochs=1, verbose=0)
    assert 0 < history.history["accuracy"][0] < 1


# Files


def big():
    model = npdl.Model(
        [
            Convolution(nb_filter=3, filter_size=(3, 3), input_shape=(1, 8, 8)),
            MaxPooling((2, 2)),
            BatchNormal(axis=1),
            Flatten(),
            Dropout(0.3),
            Dense(7, activation=npdl.activations.Elliot(2)),
            Softmax(3),
        ]
    )
    model.compile(loss="hed", optimizer=npdl.optimizers.Adam(lr=0.01, decay=0.1, clip=3))
    return model


IMAGES = np.random.RandomState(2).normal(size=(50, 1, 8, 8))


@pytest.mark.parametrize("generator", ["RandomState", "Generator", "numpy.random"])
def test_training_resumes_from_a_file_with_the_same_bits(tmp_path, generator):
    if generator == "Generator":
        npdl.utils.set_rng(np.random.default_rng(3))
    if generator == "numpy.random":
        npdl.utils.set_rng(np.random)
    model = big()
    model.fit(IMAGES, Y, epochs=2, batch_size=16, verbose=0)
    model.metrics = {"accuracy": model.accuracy}
    model.save(tmp_path / "model.npz")
    model.fit(IMAGES, Y, epochs=2, batch_size=16, verbose=0)
    npdl.utils.set_seed(99)
    loaded = npdl.Model.load(tmp_path / "model.npz")
    assert type(npdl.utils.get_rng()).__name__ in (generator, "module")
    loaded.fit(IMAGES, Y, epochs=2, batch_size=16, verbose=0)
    assert same_weights(model, loaded)
    assert loaded.evaluate(IMAGES, Y) == model.evaluate(IMAGES, Y)
    assert np.array_equal(model.predict(IMAGES), loaded.predict(IMAGES))


def test_a_float64_model_is_loaded_in_float64(tmp_path):
    npdl.utils.set_dtype("float64")
    model = big()
    model.fit(IMAGES, Y, epochs=1, verbose=0)
    model.save(tmp_path / "model.npz")
    npdl.utils.set_dtype("float32")
    loaded = npdl.Model.load(tmp_path / "model.npz")
    assert same_weights(model, loaded)
    assert npdl.utils.get_dtype() == "float32"


def test_from_json_returns_an_equal_model():
    model = big()
    config = json.loads(model.to_json())
    assert [layer["class"] for layer in config["layers"]][:2] == [
        "layers.Convolution",
        "layers.MaxPooling",
    ]
    for given in (model.to_json(), config):
        other = npdl.Model.from_json(given)
        assert json.loads(other.to_json()) == config
        other.set_weights(model.get_weights())
        np.testing.assert_array_equal(
            other.forward(IMAGES[:4], train=False), model.forward(IMAGES[:4], train=False)
        )


def test_get_weights_copies_params_then_statistics():
    model = big()
    shapes = [array.shape for array in model.get_weights()]
    assert shapes[:2] == [(3, 1, 3, 3), (3,)]
    assert shapes[-4:] == [(27, 7), (7,), (7, 3), (3,)]
    before = model.get_weights()
    model.fit(IMAGES, Y, epochs=1, verbose=0)
    after = model.get_weights()
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    model.set_weights(before)
    assert all(map(np.array_equal, model.get_weights(), before))


def damaged(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def test_a_file_of_another_model_or_a_truncated_file_raises(tmp_path):
    other, model = mlp(), big()
    other.save(tmp_path / "other.npz")
    model.save(tmp_path / "cut.npz")
    npdl.checkpoint.save(tmp_path / "tree.npz", {"a": np.ones(2)})
    damaged(tmp_path / "cut.npz")
    before, rng = model.get_weights(), npdl.utils.get_rng().get_state()[1].copy()
    for name in ("other.npz", "cut.npz", "tree.npz"):
        with pytest.raises(CheckpointError, match=r"does not match|damaged"):
            model.load_weights(tmp_path / name)
    for name in ("cut.npz", "tree.npz"):
        with pytest.raises(CheckpointError, match=r"no configuration of a model|damaged"):
            npdl.Model.load(tmp_path / name)
    assert all(map(np.array_equal, model.get_weights(), before))
    assert np.array_equal(npdl.utils.get_rng().get_state()[1], rng)


def test_load_weights_changes_only_the_weights(tmp_path):
    saved, model = mlp(optimizer="adam"), mlp()
    saved.fit(X, Y, epochs=2, verbose=0)
    saved.save(tmp_path / "model.npz")
    state = npdl.utils.get_rng().get_state()[1].copy()
    model.load_weights(tmp_path / "model.npz")
    assert same_weights(model, saved)
    assert model.optimizer.iterations == 0
    assert np.array_equal(npdl.utils.get_rng().get_state()[1], state)


# Conversion from and to functional layers


def test_a_model_and_its_functional_form_have_the_same_bits():
    model = big()
    model.fit(IMAGES, Y, epochs=1, verbose=0)
    layer, params = model.to_functional()
    x = IMAGES.astype(np.float32)
    assert np.array_equal(layer(params, x), model.predict(IMAGES))
    back = npdl.Model.from_functional(layer, params)
    assert np.array_equal(back.predict(x), model.predict(IMAGES))
    # Parameters are copied in both directions.
    model.fit(IMAGES, Y, epochs=1, verbose=0)
    assert np.array_equal(layer(params, x), back.predict(x))


def test_the_functional_form_has_the_exact_softmax_derivative():
    layer, params = mlp().to_functional()
    check_gradients(layer, (6,), params=npdl.tree.astype(params, np.float64))


def test_any_functional_layer_trains_as_a_model(tmp_path):
    layer = F.serial(F.residual(F.layer_norm(), F.dense(6), F.gelu()), F.dense(3), F.softmax())
    model = npdl.Model.from_functional(layer, layer.init(0, (6,)), input_shape=(6,))
    assert [str(part) for part in model.layers] == ["Functional"] * 3
    model.compile(optimizer=npdl.optimizers.Adam(lr=0.02))
    history = model.fit(X.astype(np.float32), Y, epochs=40, verbose=0)
    assert history.history["accuracy"][-1] == 1
    model.save(tmp_path / "model.npz")
    loaded = npdl.Model.load(tmp_path / "model.npz")
    assert np.array_equal(loaded.predict(X), model.predict(X))
    model.add(Dense(2))
    model.compile(loss="mse")
    assert model.layers[-1].out_shape == (None, 2)


def test_functional_forms_of_all_layers_can_be_saved(tmp_path):
    layers = [
        npdl.layers.BatchLSTM(n_out=4, n_in=2, nb_seq=6, return_sequence=True),
        BatchNormal(),
        npdl.layers.MeanPooling((6, 1)),
        Flatten(),
        Softmax(3),
    ]
    model = npdl.Model(layers)
    model.compile()
    layer, params = model.to_functional()
    other = npdl.Model.from_functional(layer, params, input_shape=(6, 2))
    other.compile()
    other.save(tmp_path / "model.npz")
    x = IMAGES.reshape(50, 64)[:5, :12].reshape(5, 6, 2).astype(np.float32)
    loaded = npdl.Model.load(tmp_path / "model.npz")
    assert np.array_equal(loaded.predict(x), model.predict(x))


def test_the_summary_is_a_table():
    file = io.StringIO()
    big().summary(file)
    assert file.getvalue() == textwrap.dedent(
        """\
        layer        output            parameters
        -----------------------------------------
        Convolution  (batch, 3, 6, 6)          30
        MaxPooling   (batch, 3, 3, 3)
        BatchNormal  (batch, 3, 3, 3)          13
        Flatten      (batch, 27)
        Dropout      (batch, 27)
        Dense        (batch, 7)               196
        Softmax      (batch, 3)                24
        -----------------------------------------
        263 parameters; 256 are trained, 7 are not
        """
    )


# Bad input

UNFIT = {
    "not a layer": (lambda: npdl.Model().add("Dense"), TypeError, "expected a layer.*'Dense'"),
    "a functional layer": (lambda: npdl.Model().add(F.relu()), TypeError, "Functional"),
    "twice the same": (
        lambda: npdl.Model([layer := Dense(3, n_in=3), layer]),
        ValueError,
        "is already in the model",
    ),
    "no layers": (lambda: npdl.Model().compile(), ValueError, "no layers"),
    "no input size": (
        lambda: npdl.Model([Dense(3)]).compile(),
        ValueError,
        r"first layer needs the size of its input, as in Dense\(n_out=10, n_in=64\)",
    ),
    "axes": (
        lambda: npdl.Model([Dense(3, n_in=6), Convolution(2, (3, 3))]).compile(),
        ValueError,
        "Convolution|conv2d",
    ),
    "a loss": (lambda: mlp(loss="hinge"), ValueError, "mse.*'hinge'"),
    "an optimizer": (lambda: mlp(optimizer="adamw"), ValueError, "adam.*'adamw'"),
    "a metric": (lambda: mlp(metrics=["hinge"]), ValueError, "unknown metric 'hinge'"),
    "fit before compile": (
        lambda: npdl.Model([Dense(3, n_in=6)]).fit(X, Y),
        RuntimeError,
        r"call compile\(loss=..., optimizer=...\) first",
    ),
    "predict before compile": (
        lambda: npdl.Model([Dense(3, n_in=6)]).predict(X),
        RuntimeError,
        r"call compile\(loss=..., optimizer=...\) first",
    ),
    "targets": (lambda: mlp().fit(X, Y[1:]), ValueError, r"\(50, 6\) and \(49,\)"),
    "no examples": (lambda: mlp().fit(X[:0], Y[:0]), ValueError, "at least one"),
    "classes": (lambda: mlp().fit(X, Y + 1, verbose=0), ValueError, "3 classes"),
    "columns": (lambda: mlp().fit(X, ONE_HOT[:, :2], verbose=0), ValueError, "expected outputs"),
    "features": (lambda: mlp().fit(X[:, :5], Y, verbose=0), ValueError, "take 6 features"),
    "split": (lambda: mlp().fit(X, Y, validation_split=1.0), ValueError, "validation_split"),
    "split of text": (lambda: mlp().fit(X, Y, validation_split="0.1"), ValueError, "'0.1'"),
    "the name of the loss": (
        lambda: mlp(metrics={"loss": npdl.Model.accuracy}),
        ValueError,
        "'loss' is the name of a value that fit reports",
    ),
    "split of -0.1": (lambda: mlp().fit(X, Y, validation_split=-0.1), ValueError, "-0.1"),
    "batch": (lambda: mlp().fit(X, Y, batch_size=0), ValueError, "batch_size must be"),
    "epochs": (lambda: mlp().fit(X, Y, epochs=-1), ValueError, "epochs"),
    "weights": (lambda: mlp().fit(X, Y, sample_weight=[1, 2]), ValueError, "sample_weight"),
    "no predictions": (lambda: mlp().predict(X[:0]), ValueError, "at least one example"),
    "set_weights": (lambda: mlp().set_weights([X]), ValueError, "another model"),
    "unknown class": (
        lambda: npdl.Model.from_json('{"layers": [{"class": "layers.Dens", "n_out": 3}]}'),
        ValueError,
        "unknown class 'layers.Dens'.*layers.Dense",
    ),
    "unknown argument": (
        lambda: npdl.Model.from_json('{"layers": [{"class": "layers.Dense", "units": 3}]}'),
        ValueError,
        "Dense.*n_out",
    ),
    "unknown key": (lambda: npdl.Model.from_json('{"layer": []}'), ValueError, "layers"),
}


@pytest.mark.parametrize(("call", "error", "message"), UNFIT.values(), ids=UNFIT)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


CHANGES_NOTHING = {
    "a wrong class at the end": {"Y": np.r_[Y[:-1], 9]},
    "validation of other features": {"validation_data": (X[:, :3], Y)},
    "validation of other classes": {"validation_data": (X, Y + 1)},
    "validation that is no pair": {"validation_data": X},
    "negative weights": {"sample_weight": -np.ones(50)},
}


@pytest.mark.parametrize("options", CHANGES_NOTHING.values(), ids=CHANGES_NOTHING)
def test_data_that_do_not_fit_raise_before_any_change(options):
    model = npdl.Model([Dense(8, n_in=6), BatchNormal(), Softmax(3)])
    model.compile()
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError)):
        model.fit(X, options.pop("Y", Y), batch_size=5, shuffle=False, verbose=0, **options)
    assert all(map(np.array_equal, model.get_weights(), before))
    with pytest.raises(TypeError, match="arrays of numbers"):
        model.set_weights([before[0] + 1, *[array.astype(str) for array in before[1:]]])
    assert all(map(np.array_equal, model.get_weights(), before))


def test_a_failed_compile_leaves_the_model_unchanged():
    model = npdl.Model([Dense(3, n_in=6), SimpleRNN(n_out=2)])
    before = [dict(vars(layer)) for layer in model.layers]
    with pytest.raises(ValueError, match="expected") as caught:
        model.compile()
    assert caught.value.__notes__ == ["in layer 1 of the model, SimpleRNN"]
    assert [dict(vars(layer)) for layer in model.layers] == before
    assert model.loss is None


def test_a_second_compile_keeps_the_weights():
    model = mlp()
    before = model.get_weights()
    model.compile(loss="mse", optimizer="sgd")
    assert all(map(np.array_equal, model.get_weights(), before))


def test_backward_ends_at_the_first_layer_with_parameters():
    table = np.eye(4)
    model = npdl.Model([Embedding(table), SimpleRNN(n_out=3), Softmax(2)])
    model.compile()
    ids = np.random.RandomState(0).randint(4, size=(5, 6))
    assert model.backward(model.loss_gradient(model.forward(ids), np.arange(5) % 2)) is None
    assert np.array_equal(model.layers[0].W, table)


def test_functional_is_exported():
    assert Functional is npdl.layers.Functional


def test_predict_keeps_no_caches():
    model = npdl.Model()
    model.add(Dense(n_out=4, n_in=3))
    model.add(Functional(F.dropout(0.5)))
    model.compile(loss="mse", optimizer="sgd")
    x = np.ones((5, 3), np.float32)
    outputs = model.forward(x, train=False)
    assert model.layers[0].cache is not None
    assert same_bits(model.predict(x), outputs)
    assert all(layer.cache is None for layer in model.layers)
    with pytest.raises(RuntimeError, match=r"backward: call forward"):
        model.backward(outputs)
    model.forward(x)
    model.backward(outputs)
