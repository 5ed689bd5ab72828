"""Keras scripts: names, orders and defaults of arguments, and their meaning in this API."""

import inspect
import io

import numpy as np
import pytest
from arrays import same_bits
from npdl.layers import (
    GRU,
    LSTM,
    Activation,
    AveragePooling2D,
    BatchLSTM,
    BatchNormal,
    BatchNormalization,
    Conv2D,
    Convolution,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Functional,
    Input,
    Linear,
    MaxPooling,
    MaxPooling2D,
    MeanPooling,
    SimpleRNN,
    Softmax,
)
from npdl.objectives import MAE, SCCE
from npdl.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    Momentum,
    NesterovMomentum,
    RMSprop,
)

import npdl
import npdl.functional as F
from npdl.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, TensorBoard

rng = np.random.RandomState(0)
X, Y = rng.normal(size=(40, 6)), np.arange(40) % 3
ONE_HOT = npdl.utils.one_hot(Y, 3)
IMAGES, NUMBERS = rng.normal(size=(10, 1, 8, 8)), rng.normal(size=(10, 1))


def classifier(*options, **keywords):
    npdl.utils.set_seed(1)
    model = npdl.Model([Dense(8, n_in=6), Softmax(3)])
    model.compile(*options, **keywords)
    return model


def regression(*options, **keywords):
    npdl.utils.set_seed(1)
    model = npdl.Model([Dense(8, n_in=6), Linear(1)])
    model.compile(*options, **keywords)
    return model


def trained(model, *data, **keywords):
    npdl.utils.set_seed(2)
    model.fit(*data, epochs=2, batch_size=8, verbose=0, **keywords)
    return model.get_weights()


# Names of arguments

SAME = {
    "Dense": (lambda: Dense(units=8, input_dim=6), lambda: Dense(n_out=8, n_in=6)),
    "Dense, an activation": (lambda: Dense(8, "relu"), lambda: Dense(8, activation="relu")),
    "Dense, initializers": (
        lambda: Dense(8, kernel_initializer="zeros", bias_initializer="zeros"),
        lambda: Dense(8, init="zeros"),
    ),
    "Dense, defaults": (
        lambda: Dense(8, use_bias=True, kernel_regularizer=None, bias_constraint=None),
        lambda: Dense(8, use_bias=True),
    ),
    "LSTM": (lambda: LSTM(8), lambda: LSTM(n_out=8)),
    "GRU": (lambda: GRU(8), lambda: GRU(n_out=8)),
    "SimpleRNN": (
        lambda: SimpleRNN(8, return_sequences=True, recurrent_initializer="orthogonal"),
        lambda: SimpleRNN(n_out=8, return_sequence=True, inner_init="orthogonal"),
    ),
    "BatchLSTM": (
        lambda: BatchLSTM(units=8, recurrent_activation="tanh", unroll=True, dropout=0.0),
        lambda: BatchLSTM(n_out=8, gate_activation="tanh"),
    ),
    "Embedding": (
        lambda: Embedding(input_dim=9, output_dim=4, input_length=5, static=False),
        lambda: Embedding(input_size=9, n_out=4, nb_seq=5, static=False),
    ),
    "Dropout": (lambda: Dropout(rate=0.3), lambda: Dropout(p=0.3)),
    "Convolution": (
        lambda: Convolution(filters=4, kernel_size=3, strides=(2, 2), data_format="channels_first"),
        lambda: Convolution(nb_filter=4, filter_size=3, stride=(2, 2)),
    ),
    "MaxPooling": (lambda: MaxPooling(pool_size=2, strides=(2, 2)), lambda: MaxPooling(2)),
    "BatchNormal": (
        lambda: BatchNormal(beta_initializer="zeros", center=True, scale=True),
        lambda: BatchNormal(beta_init="zeros"),
    ),
    "Adam": (
        lambda: Adam(learning_rate=0.1, beta_1=0.8, amsgrad=False),
        lambda: Adam(lr=0.1, beta1=0.8),
    ),
    "SGD": (lambda: SGD(0.1, momentum=0.0, nesterov=False), lambda: SGD(0.1)),
    "RMSprop": (lambda: RMSprop(learning_rate=0.1, clipvalue=1), lambda: RMSprop(lr=0.1, clip=1)),
}


@pytest.mark.parametrize(("keras", "here"), SAME.values(), ids=SAME)
def test_arguments_are_accepted_under_keras_names(keras, here):
    ours = here()
    assert repr(keras()) == repr(ours)
    assert type(ours).from_json(keras().to_json()).to_json() == ours.to_json()


CLASSES = {
    "Conv2D": (
        lambda: Conv2D(4, 3, 2, "same", activation="relu"),
        lambda: Convolution(4, 3, stride=2, activation="relu", padding="same"),
    ),
    "Conv2D is linear": (
        lambda: Conv2D(4, (3, 3)),
        lambda: Convolution(4, (3, 3), stride=1, activation=None, padding="valid"),
    ),
    "MaxPooling2D": (MaxPooling2D, lambda: MaxPooling((2, 2))),
    "AveragePooling2D": (lambda: AveragePooling2D(3, strides=3), lambda: MeanPooling(3)),
    "BatchNormalization": (
        lambda: BatchNormalization(momentum=0.9),
        lambda: BatchNormal(axis="channels", momentum=0.9, epsilon=1e-3),
    ),
    "BatchNormalization(axis=1)": (
        lambda: BatchNormalization(1),
        lambda: BatchNormal(axis=1, momentum=0.99, epsilon=1e-3),
    ),
    "Input": (lambda: Input((6,)), lambda: Functional(F.serial(), input_shape=(6,))),
    "Input by name": (lambda: Input(shape=(6,)), lambda: Functional(F.serial(), input_shape=(6,))),
}


@pytest.mark.parametrize(("keras", "here"), CLASSES.values(), ids=CLASSES)
def test_layers_of_keras_names_are_layers_of_this_api(keras, here):
    assert type(keras()) is type(here())
    assert keras().to_json() == here().to_json()


def test_sequential_is_an_alias_of_model():
    assert npdl.Sequential is npdl.Model
    assert npdl.model.Sequential is npdl.Model


def test_the_documented_signatures_are_unchanged():
    assert str(inspect.signature(Dense)).startswith("(n_out: int, n_in: int | None = None, init")
    assert [*inspect.signature(npdl.Model.fit).parameters][:4] == ["self", "X", "Y", "max_iter"]
    assert [*inspect.signature(npdl.Model.compile).parameters] == [
        "self",
        "loss",
        "optimizer",
        "metrics",
    ]


REFUSED = {
    "a regularizer": (lambda: Dense(8, kernel_regularizer="l2"), "F.adamw"),
    "a regularizer set": (lambda: setattr(Dense(8), "bias_regularizer", "l2"), "F.adamw"),
    "a constraint": (lambda: Dense(8, kernel_constraint="nonneg"), "constraints"),
    "a bias initializer": (lambda: Dense(8, bias_initializer="ones"), r"assign layer\.b"),
    "SGD with momentum": (lambda: SGD(0.1, momentum=0.9), r"Momentum\(momentum=0.9"),
    "SGD with Nesterov": (lambda: SGD(0.1, nesterov=True), "NesterovMomentum"),
    "Momentum with Nesterov": (lambda: Momentum(nesterov=True), "NesterovMomentum"),
    "clipping by norm": (lambda: Adam(clipnorm=1.0), r"clip=1\.0"),
    "weight decay": (lambda: Adam(weight_decay=0.1), "F.adamw"),
    "a mask to fit": (
        lambda: classifier().fit(X, Y, mask=np.ones((40, 1))),
        "npdl.training.fit takes the mask",
    ),
    "a mask": (
        lambda: Embedding(input_dim=9, output_dim=4, mask_zero=True),
        r"Functional\(F.graph",
    ),
    "overlapping windows": (lambda: MaxPooling(2, strides=1), "do not overlap"),
    "padding of a pooling": (lambda: MaxPooling2D(2, padding="same"), "fill the image"),
    "a state": (lambda: LSTM(8, stateful=True), "layer.c0"),
    "channels last": (lambda: Conv2D(8, 3, data_format="channels_last"), "channels, rows"),
    "two names": (lambda: Dense(8, units=9), "Dense"),
    "two names by keyword": (
        lambda: Dense(n_out=8, units=9),
        "are the same argument",
    ),
    "unknown": (lambda: Dense(8, unit=9), r"unknown argument 'unit'.*did you mean 'units'\?"),
    "more by position": (lambda: LSTM(8, "relu"), "by keyword"),
    "twice for a layer of Keras": (lambda: Conv2D(8, 3, filters=4), "multiple values"),
    "unknown to fit": (lambda: classifier().fit(X, Y, epoch=3), "did you mean 'epochs'"),
    "steps_per_epoch": (lambda: classifier().fit(X, Y, steps_per_epoch=3), "one pass over"),
    "validation_freq": (lambda: classifier().fit(X, Y, validation_freq=2), "one pass over"),
    "a generator": (lambda: classifier().fit(((x, 0) for x in X), Y), "train_on_batch"),
    "a generator alone": (lambda: classifier().fit((x, 0) for x in X), "train_on_batch"),
    "a source": (lambda: classifier().fit(range, Y), "train_on_batch"),
    "two inputs": (lambda: classifier().fit([X, X[:, :3]], Y), "inhomogeneous"),
    "class weights in a list": (lambda: classifier().fit(X, Y, class_weight=[1, 2]), "dict"),
    "a class by a string": (lambda: classifier().fit(X, Y, class_weight={"0": 2.0}), "for '0'"),
    "a weight that is no number": (
        lambda: classifier().train_on_batch(X, Y, class_weight={0: float("nan")}),
        "a finite, non-negative weight",
    ),
    "strings": (lambda: classifier().fit(X.astype(str), Y), "X: expected an array of numbers"),
    "objects": (lambda: classifier().predict(X.astype(object)), "X: expected an array of numbers"),
    "complex": (lambda: classifier().fit(X + 1j, Y), "X: expected an array of numbers"),
    "complex in a layer": (lambda: classifier().forward(X + 1j), "array of numbers"),
    "complex targets": (lambda: regression().fit(X, X[:, :1] + 1j), "Y: expected an array of num"),
    "a layer as the list": (lambda: npdl.Model(Dense(8, n_in=4)), r"Model\(\[Dense"),
    "metrics that are no list": (lambda: classifier(metrics=3), "metrics must be a list"),
    "figures of a batch": (lambda: classifier().train_on_batch(X, Y, return_dict=True), "evaluate"),
    "a mask of a call": (lambda: classifier()(X, mask=X), "does not pass masks"),
    "negative class weights": (
        lambda: classifier().fit(X, Y, class_weight={0: -1.0}),
        "non-negative",
    ),
    "validation data": (lambda: classifier().fit(X, Y, validation_data=X), "must be a tuple"),
    "one example": (lambda: classifier().predict(X[0]), r"X\[None\] is a batch of one"),
    "one example to fit": (lambda: classifier().fit(X[:, 0], Y), r"\(batch, 6\)"),
    "a loss that is no loss": (lambda: classifier(loss=np.mean).fit(X, Y), "its gradient"),
    "a loss with weights": (
        lambda: regression(loss=F.huber).fit(X, X[:, :1], sample_weight=np.ones(40)),
        "one number for all examples",
    ),
    "two optimizers": (lambda: classifier("adam", "scce", optimizer="sgd"), "optimizer"),
    "weights before compile": (lambda: npdl.Model([Dense(2, n_in=1)]).get_weights(), "compile"),
    "a name that two layers have": (
        lambda: npdl.Model([Dense(2, n_in=1), Dense(2)]).get_layer("dense"),
        "2 layers have the name 'dense'",
    ),
    "a graph": (lambda: npdl.Model(inputs=1, outputs=2), "F.graph"),
    "steps": (lambda: classifier().evaluate(X, Y, steps=2), "one pass over"),
    "a file of Keras": (lambda: classifier().save("net.npz", overwrite=False), "is replaced"),
    "weights by name": (lambda: classifier().load_weights("net.npz", by_name=True), "order"),
    "a seed": (lambda: Dropout(0.5, seed=3), "set_seed"),
    "a dtype": (lambda: Dense(8, dtype="float64"), "set_dtype"),
    "a table": (lambda: Embedding(5, 4, weights=[np.ones((5, 4))]), r"Embedding\(table\)"),
    "more sizes of a table": (lambda: Embedding(5, 4, 3), r"Embedding\(5, 8, static=False\)"),
    "a shape that is a number": (lambda: Input(4), r"shape=\(4,\)"),
    "averaged weights": (lambda: Adam(use_ema=True), "average_params"),
    "momentum elsewhere": (lambda: RMSprop(momentum=0.9), "Momentum"),
    "another loss": (lambda: classifier(loss="huber"), "npdl.functional.huber"),
    "a generator by its method": (lambda: classifier().fit_generator, "train_on_batch"),
    "trainable weights": (lambda: classifier().trainable_weights, "model.params"),
    "a baseline": (lambda: EarlyStopping(baseline=0.5), "best previous one"),
    "late patience": (lambda: EarlyStopping(start_from_epoch=3), "first epoch"),
    "whole models": (lambda: ModelCheckpoint("a.npz", save_weights_only=False), "model.save"),
    "histograms": (lambda: TensorBoard("logs", histogram_freq=1), "metrics of each epoch"),
    "files between epochs": (lambda: ModelCheckpoint("a.npz", save_freq=9), "every_steps"),
    "trainable that is no boolean": (lambda: Dense(8, trainable="no"), "True or False"),
    "padding by a number": (lambda: Convolution(8, 3, padding=1), r"F.conv2d\(8, 3, padding=1\)"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_arguments_without_counterpart_raise_with_advice(call, message):
    with pytest.raises((TypeError, ValueError, RuntimeError, AttributeError), match=message):
        call()


def test_arguments_without_effect_are_accepted(tmp_path):
    model = npdl.Sequential([Input((6,), dtype="float32"), Dense(3, "softmax")], name="net")
    model.compile(Adam(name="adam", use_ema=False), "scce", run_eagerly=False, jit_compile="auto")
    assert np.array_equal(model(X, training=False, mask=None), model.predict_on_batch(x=X))
    assert model.test_on_batch(X, Y, return_dict=True).keys() == {"loss"}
    model.train_on_batch(X, Y, reset_metrics=True)
    lines = []
    model.summary(line_length=80, print_fn=lines.append)
    model.save(tmp_path / "net.npz", overwrite=True, include_optimizer=True)
    assert lines
    for make in (
        lambda **options: EarlyStopping("loss", start_from_epoch=0, baseline=None, **options),
        lambda **options: ReduceLROnPlateau("loss", **options),
        lambda **options: ModelCheckpoint("a.npz", save_weights_only=True, **options),
    ):
        assert make(verbose=1).config() == make().config()


def test_an_input_layer_passes_ids():
    ids = np.arange(12).reshape(4, 3)
    npdl.utils.set_seed(0)
    model = npdl.Sequential([Input((3,), dtype="int32"), Embedding(12, 5, static=False), LSTM(4)])
    model.compile("sgd", "mse")
    before = model.layers[1].W.copy()
    model.fit(ids, np.ones((4, 4)), epochs=1, verbose=0)
    assert repr(model.layers[1]) == "Embedding(static=False, input_size=12, n_out=5)"
    assert np.all(np.any(before != model.layers[1].W, axis=1))
    layer, params = model.to_functional()
    np.testing.assert_array_equal(layer(params, ids), model.predict(ids))


def test_a_momentum_in_the_position_of_clip_warns():
    with pytest.warns(UserWarning, match=r"Momentum\(momentum=0.9, lr=0.1\)") as caught:
        assert SGD(0.1, 0.9).clip == 0.9
    assert caught[0].filename == __file__
    assert SGD(0.1, clip=0.9).clip == 0.9
    assert SGD(0.1, 5.0).clip == 5.0


# Positional arguments

RATES = [
    *((cls, value) for cls in (Adam, Adamax, Momentum, NesterovMomentum) for value in (1e-3, 0.1)),
    (RMSprop, 0.01),
    (Adadelta, 0.1),
    (Adagrad, 0.01),
]


@pytest.mark.parametrize(("cls", "value"), RATES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_a_rate_in_the_position_of_another_argument_is_refused(cls, value):
    with pytest.raises(ValueError, match=rf"{cls.__name__}\(lr="):
        cls(value)
    assert cls(lr=value).lr == value
    assert cls(learning_rate=value).learning_rate == value


def test_the_documented_argument_positions_are_unchanged():
    assert repr(Adam(0.9, 0.99, 1e-7, 0.1)) == "Adam(beta1=0.9, beta2=0.99, epsilon=1e-07, lr=0.1)"
    assert repr(Adam(0.1, lr=0.2)) == "Adam(beta1=0.1, lr=0.2)"
    assert Adam(beta1=0.0).beta1 == 0
    assert Adagrad(1e-7).epsilon == 1e-7
    assert SGD(1e-3).lr == 1e-3
    assert Momentum(0.5).momentum == 0.5


def test_optimizers_and_models_have_learning_rate():
    optimizer = Adam()
    optimizer.learning_rate = 0.5
    assert optimizer.lr == optimizer.learning_rate == 0.5


# Compile

ORDERS = [
    ((), {"loss": "scce", "optimizer": "adam", "metrics": ["accuracy"]}),
    (("scce", "adam", ["accuracy"]), {}),
    (("adam", "scce", ["accuracy"]), {}),
    (("adam",), {"loss": "sparse_categorical_crossentropy", "metrics": ["acc"]}),
    ((Adam(),), {"loss": SCCE(), "metrics": "accuracy"}),
    (("adam", SCCE()), {"metrics": {"accuracy": npdl.Model.accuracy}}),
]


@pytest.mark.parametrize(("args", "keywords"), ORDERS, ids=[str(i) for i in range(len(ORDERS))])
def test_compile_accepts_both_argument_orders(args, keywords):
    model, expected = classifier(*args, **keywords), classifier("scce", "adam")
    assert type(model.optimizer) is Adam
    assert model.metrics_names == ["loss", "accuracy"]
    assert same_bits(trained(model, X, Y), trained(expected, X, Y))


LOSSES = {
    "categorical_crossentropy": ("scce", classifier, ONE_HOT),
    "sparse_categorical_crossentropy": ("scce", classifier, Y),
    "binary_crossentropy": ("bce", classifier, ONE_HOT),
    "mean_squared_error": ("mse", regression, X[:, :1]),
    "mean_absolute_error": (MAE(), regression, X[:, :1]),
    "mae": ("MAE", regression, X[:, :1]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_accepted_under_keras_names(name):
    here, make, targets = LOSSES[name]
    assert same_bits(trained(make(loss=name), X, targets), trained(make(loss=here), X, targets))


def test_a_functional_loss_is_accepted(tmp_path):
    by_function, by_name = regression(loss=F.mean_absolute_error), regression(loss="mae")
    for a, b in zip(trained(by_function, X, X[:, :1]), trained(by_name, X, X[:, :1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert by_function.evaluate(X, X[:, :1]) == pytest.approx(by_name.evaluate(X, X[:, :1]))
    by_function.save(tmp_path / "model.npz")
    loaded = npdl.Model.load(tmp_path / "model.npz")
    assert loaded.evaluate(X, X[:, :1]) == by_function.evaluate(X, X[:, :1])


def test_metrics_are_accepted_by_name():
    model = regression("mse", "sgd", metrics=["mae", "mse", "mean_absolute_error"])
    target = X[:, :1].astype(np.float32)
    model.fit(X, target, epochs=1, verbose=0)
    values = model.evaluate(X, target, return_dict=True)
    outputs = model.predict(X)
    assert list(values) == model.metrics_names == ["loss", "mae", "mse", "mean_absolute_error"]
    assert values["mse"] == pytest.approx(values["loss"])
    assert values["mae"] == pytest.approx(np.mean(np.abs(outputs - target)), rel=1e-5)
    assert npdl.Model.from_json(model.to_json()).metrics_names == model.metrics_names


def test_binary_accuracy_counts_each_output():
    targets = (rng.normal(size=(40, 3)) > 0).astype(int)
    model = npdl.Model([Dense(3, "sigmoid", n_in=6)])
    model.compile("sgd", "binary_crossentropy", metrics=["binary_accuracy"])
    value = model.evaluate(X, targets, batch_size=7, return_dict=True)["binary_accuracy"]
    assert value == pytest.approx(np.mean((model.predict(X) > 0.5) == targets))
    model = npdl.Model([Dense(1, "sigmoid", n_in=6)])
    model.compile("sgd", "binary_crossentropy", metrics=["binary_accuracy", "accuracy"])
    _, value, same = model.evaluate(X, targets[:, 0])
    assert value == same == np.mean((model.predict(X)[:, 0] > 0.5) == targets[:, 0])


# Fit, evaluate, predict


def test_fit_accepts_keras_names_and_defaults():
    expected = trained(classifier(), X, Y)
    assert same_bits(trained(classifier(), x=X, y=Y), expected)
    assert same_bits(trained(classifier(), X, y=Y, workers=1, steps_per_epoch=None), expected)
    model = classifier()
    assert model.evaluate(x=X, y=Y) == model.evaluate(X, Y)
    assert np.array_equal(model.predict(x=X), model.predict(X))


@pytest.mark.parametrize(("epochs", "size"), [(32, 10), (64, 20), (128, 3)])
def test_a_batch_size_before_the_epochs_warns(epochs, size):
    with pytest.warns(UserWarning, match=f"epochs={size}, batch_size={epochs} by keyword"):
        classifier().fit(X[:4], Y[:4], epochs, size, verbose=0)


@pytest.mark.parametrize(("epochs", "size"), [(3, 64), (10, 32), (5, 20), (16, 8)])
def test_the_documented_order_of_fit_does_not_warn(epochs, size):
    classifier().fit(X[:4], Y[:4], epochs, size, verbose=0)


def test_a_class_weight_is_the_weight_of_its_examples():
    weights = np.where(Y == 1, 5.0, np.where(Y == 2, 0.5, 1.0))
    expected = trained(classifier(), X, Y, sample_weight=weights)
    for targets in (Y, ONE_HOT, Y[:, None]):
        got = trained(classifier(), X, targets, class_weight={1: 5.0, 2: 0.5})
        assert same_bits(got, expected)
    half = trained(classifier(), X, Y, class_weight={1: 5, 2: 0.5}, sample_weight=np.full(40, 0.5))
    assert same_bits(half, trained(classifier(), X, Y, sample_weight=weights / 2))


def test_validation_data_may_have_weights():
    weights = np.linspace(0, 2, 40)
    model = classifier("scce", SGD(lr=0.0))
    history = model.fit(X, Y, epochs=1, validation_data=(X, Y, weights), verbose=0).history
    values = model.loss.forward(model.predict(X), Y)
    assert history["val_loss"] == [pytest.approx(np.mean(values * weights), rel=1e-5)]
    assert model.evaluate(X, Y, sample_weight=weights) == pytest.approx(history["val_loss"][0])


def test_validation_data_take_precedence_over_a_fraction():
    with pytest.warns(UserWarning, match="trained on all examples"):
        got = trained(classifier(), X, Y, validation_split=0.5, validation_data=(X[:4], Y[:4]))
    assert same_bits(got, trained(classifier(), X, Y))


TARGETS = {
    "a column of labels": (classifier, Y[:, None], Y),
    "labels in floats": (classifier, Y.astype(float), Y),
    "a column of floats": (classifier, Y[:, None].astype(np.float32), Y),
    "lists": (classifier, Y.tolist(), Y),
    "one axis for one column": (regression, X[:, 0], X[:, :1]),
}


@pytest.mark.parametrize(("make", "given", "plain"), TARGETS.values(), ids=TARGETS)
def test_an_axis_of_length_one_in_targets_is_optional(make, given, plain):
    loss = "scce" if make is classifier else "mse"
    models = [make(loss, metrics=["accuracy"] if make is classifier else None) for _ in range(2)]
    data = [(X, given), (X, plain)]
    histories = [
        model.fit(*pair, epochs=2, validation_data=pair, shuffle=False, verbose=0).history
        for model, pair in zip(models, data, strict=True)
    ]
    assert histories[0] == histories[1]
    assert models[0].evaluate(X, given) == models[1].evaluate(X, plain)
    assert models[0].train_on_batch(X, given) == models[1].train_on_batch(X, plain)


def test_accuracy_accepts_a_column_of_labels():
    outputs = np.eye(3)[[0, 1, 2, 2]]
    assert npdl.Model.accuracy(outputs, [[0], [1], [2], [1]]) == 0.75
    assert npdl.Model.accuracy(outputs, np.array([[0.0], [1.0], [2.0], [2.0]])) == 1


def test_label_sequences_may_have_a_last_axis_of_length_one():
    model = npdl.Model([SimpleRNN(n_out=4, n_in=2, return_sequence=True), Softmax(3)])
    model.compile("scce")
    x, labels = rng.normal(size=(5, 7, 2)), rng.randint(3, size=(5, 7))
    assert model.evaluate(x, labels[..., None]) == model.evaluate(x, labels)


@pytest.mark.parametrize("labels", [Y + 0.5, np.where(Y == 0, np.nan, Y)], ids=["halves", "nan"])
def test_labels_that_are_not_integers_are_refused(labels):
    with pytest.raises(TypeError, match="class labels are ints"):
        classifier("scce").fit(X, labels, verbose=0)


def test_models_have_the_methods_of_keras():
    model = classifier("scce", metrics=["accuracy"])
    outputs = model.predict(X)
    assert np.array_equal(model.predict_on_batch(X), outputs)
    assert np.array_equal(model.predict_proba(X), outputs)
    assert np.array_equal(model(X), outputs)
    assert np.array_equal(model.predict_classes(X), outputs.argmax(axis=1))
    assert model.test_on_batch(X, Y) == model.evaluate(X, Y)
    assert model.evaluate(X, Y, return_dict=True) == dict(
        zip(["loss", "accuracy"], model.evaluate(X, Y), strict=True)
    )
    assert (model.input_shape, model.output_shape) == ((None, 6), (None, 3))
    assert model.count_params() == 6 * 8 + 8 + 8 * 3 + 3 == sum(map(np.size, model.weights))
    assert repr(model) == "Model([Dense(n_out=8, n_in=6), Softmax(n_out=3)])"
    assert repr(npdl.Model()) == "Model([])"
    printed, file = [], io.StringIO()
    model.summary(print_fn=printed.append)
    model.summary(file)
    assert "\n".join(printed) + "\n" == file.getvalue()


def test_layers_have_names_and_weights():
    model = npdl.Model([Dense(4, n_in=6, name="first"), BatchNormal(), Dense(3, "softmax")])
    model.compile("scce")
    assert [layer.name for layer in model.layers] == ["first", "batch_normal", "dense"]
    layer = model.get_layer("first")
    assert layer is model.get_layer(index=0) is model.layers[0]
    assert layer.output_shape == (None, 4)
    before = layer.get_weights()
    layer.set_weights([array + 1 for array in before])
    assert np.array_equal(layer.W, before[0] + 1)
    assert layer.weights[0] is layer.W
    assert [a.shape for a in model.get_layer("batch_normal").get_weights()][:2] == [(4,), (4,)]
    assert npdl.Model.from_json(model.to_json()).layers[0].name == "first"
    assert model.pop() is not model.layers[-1]
    with pytest.raises(RuntimeError, match="compile"):
        model.predict(X)


def test_a_summary_before_compile_shows_the_known_sizes():
    file = io.StringIO()
    npdl.Model([Dense(4, n_in=6), Flatten(), LSTM(3)]).summary(file)
    assert "(batch, 4)" in file.getvalue()
    assert "not known yet" in file.getvalue()


# Layers


def test_a_convolution_with_padding_keeps_the_image_size():
    layer = Convolution(4, (3, 3), input_shape=(1, 8, 8), padding="same", activation=None)
    layer.connect_to()
    assert layer.out_shape == (None, 4, 8, 8)
    expected = F.conv2d(4, (3, 3), padding="same")
    x = IMAGES.astype(np.float32)
    assert np.array_equal(layer.forward(x), expected(layer.tree[0], x))
    assert Convolution.from_json(layer.to_json()).padding == "same"


@pytest.mark.parametrize(
    "layer", [Dense(3, n_in=6), Linear(3, n_in=6), Softmax(3, n_in=6)], ids=str
)
def test_layers_accept_use_bias_false(layer):
    layer = type(layer)(3, n_in=6, use_bias=False)
    model = npdl.Model([layer])
    model.compile("mse")
    assert layer.b is None
    assert layer.db is None
    assert [array.shape for array in layer.params] == [(6, 3)]
    model.fit(X, ONE_HOT, epochs=1, verbose=0)
    assert len(layer.grads) == len(model.get_weights()) == 1
    assert npdl.Model.from_json(model.to_json()).count_params() == 18


def test_batch_normalization_normalizes_each_channel():
    for shape, axis in (((6,), 1), ((5, 6), 2), ((3, 4, 4), 1)):
        x = rng.normal(size=(8, *shape))
        layers = (
            BatchNormalization(input_shape=shape),
            BatchNormal(epsilon=1e-3, momentum=0.99, axis=axis, input_shape=shape),
        )
        for layer in layers:
            layer.connect_to()
        assert np.array_equal(*(layer.forward(x) for layer in layers))


def test_an_activation_can_be_a_layer():
    model, other = (
        npdl.Model([Linear(3, n_in=6), Activation("softmax")]),
        npdl.Model([Softmax(3, n_in=6)]),
    )
    for each in (model, other):
        each.compile("scce", "adam")
    other.set_weights(model.get_weights())
    assert same_bits(trained(model, X, Y), trained(other, X, Y))


def test_an_activation_after_a_default_activation_warns():
    for before in (Dense(3, n_in=6), Convolution(2, (3, 3), input_shape=(1, 8, 8))):
        model = npdl.Model([before, Activation("relu")])
        with pytest.warns(UserWarning, match="by default, and ReLU follows it"):
            model.compile("mse")
    for silent in (Dense(3, n_in=6, activation=None), Dense(3, "tanh", n_in=6), Linear(3, n_in=6)):
        npdl.Model([silent, Activation("relu")]).compile("mse")


def test_a_first_layer_accepts_input_shape():
    models = {
        "Dense": [Dense(3, input_shape=(6,))],
        "Input": [Input(shape=(6,)), Dense(3)],
        "Dropout": [Dropout(0.5, input_shape=(6,)), Dense(3)],
        "LSTM": [Input((2, 3)), LSTM(4), Dense(3)],
        "LSTM with a shape": [LSTM(4, input_shape=(2, 3)), Dense(3)],
        "Flatten": [Flatten(input_shape=(2, 3)), Dense(3)],
        "MaxPooling": [MaxPooling(2, input_shape=(2, 2, 2)), Flatten(), Dense(3)],
    }
    for name, layers in models.items():
        model = npdl.Model(layers)
        model.compile("mse")
        x = rng.normal(size=(4, *model.input_shape[1:]))
        assert model.predict(x).shape == (4, 3), name
        loaded = npdl.Model.from_json(model.to_json())
        assert loaded.input_shape == model.input_shape, name


def test_an_image_shape_with_channels_last_warns():
    for make in (lambda: Convolution(8, 3, input_shape=(32, 32, 3)), lambda: Input((28, 28, 1))):
        with pytest.warns(UserWarning, match="channels come first"):
            make()


def test_a_random_untrained_table_warns_once():
    ids = rng.randint(9, size=(40, 5))

    def model(**options):
        made = npdl.Model(
            [Embedding(input_size=9, n_out=4, **options), SimpleRNN(n_out=3), Softmax(3)]
        )
        made.compile("scce")
        return made

    once = model()
    with pytest.warns(UserWarning, match="static=False"):
        once.fit(ids, Y, epochs=1, verbose=0)
    once.fit(ids, Y, epochs=1, verbose=0)
    by_batch = model()
    with pytest.warns(UserWarning, match="static=False"):
        by_batch.train_on_batch(ids, Y)
    model(static=False).fit(ids, Y, epochs=1, verbose=0)
    model(static=True).fit(ids, Y, epochs=1, verbose=0)
    loaded = model()
    loaded.set_weights(once.get_weights())
    loaded.fit(ids, Y, epochs=1, verbose=0)
    assigned = model()
    assigned.layers[0].W[...] = 1
    assigned.fit(ids, Y, epochs=1, verbose=0)
