"""Undocumented features of release 0.4.0 that scripts rely on."""

import copy
import io
import warnings

import numpy as np
import pytest
from arrays import same_bits
from npdl.layers import (
    GRU,
    LSTM,
    BatchLSTM,
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
    MeanPooling,
    SimpleRNN,
    Softmax,
)
from npdl.optimizers import Adadelta, Adagrad, Adam, Adamax, Momentum, NesterovMomentum, RMSprop

import npdl
import npdl.functional as F
from npdl import tree
from npdl.callbacks import ModelCheckpoint
from npdl.checkpoint import CheckpointError
from npdl.training._checkpoint import Checkpoint

rng = np.random.RandomState(0)
X, Y = rng.normal(size=(40, 6)), np.arange(40) % 3
IMAGES = rng.normal(size=(40, 2, 6, 6))


def compiled(layers, *options, **keywords):
    model = npdl.Model(layers)
    model.compile(*options, **keywords)
    return model


def mlp(*options, **keywords):
    return compiled([Dense(8, n_in=6), Softmax(3)], *options, **keywords)


# Names


def test_private_names_of_old_scripts_can_be_imported():
    from npdl.initializations import _one, _zero

    assert np.array_equal(_one((2, 2)), np.ones((2, 2)))
    assert np.array_equal(_zero((2,)), np.zeros(2))


def test_the_module_recurrent_has_all_recurrent_layers():
    from npdl.layers import recurrent

    for cls in (npdl.layers.Recurrent, SimpleRNN, GRU, LSTM, BatchLSTM):
        assert getattr(recurrent, cls.__name__) is cls


WRITTEN = {
    "ReLU": npdl.activations.get("relu"),
    "Activation": npdl.activations.Activation(),
    "HeNormal": npdl.initializations.get("he_normal"),
    "Initializer": npdl.initializations.Initializer(),
    "SoftmaxCategoricalCrossEntropy": npdl.objectives.get("scce"),
    "Objective": npdl.objectives.Objective(),
    "Adam": npdl.optimizers.get("adam"),
    "Optimizer": npdl.optimizers.Optimizer(lr=0.1),
    "Dense": Dense(2),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_str_of_an_instance_is_its_class_name(name):
    assert str(WRITTEN[name]) == f"{WRITTEN[name]}" == name


# Sizes

WRONG = {
    "Dense": (lambda: Dense(3, n_in=9), (4,)),
    "Linear": (lambda: Linear(3, n_in=9), (4,)),
    "GRU": (lambda: GRU(n_out=3, n_in=9), (5, 4)),
    "BatchLSTM": (lambda: BatchLSTM(n_out=3, n_in=9), (5, 4)),
    "Convolution": (lambda: Convolution(3, (3, 3), input_shape=(9, 7, 7)), (2, 6, 5)),
    "BatchNormal": (lambda: BatchNormal(input_shape=(9,)), (4,)),
    "Functional": (lambda: Functional(F.dense(3), input_shape=(9,)), (4,)),
}


@pytest.mark.parametrize(("make", "before"), WRONG.values(), ids=WRONG)
def test_the_size_of_the_layer_before_takes_precedence(make, before):
    layer = make()
    with pytest.warns(UserWarning, match=r"the output \(None, .*\), which is used"):
        layer.connect_to(layer_before(before))
    x = rng.normal(size=(2, *before))
    assert layer.forward(x).shape[0] == 2


def layer_before(shape):
    before = Dense(1, n_in=1)
    before.out_shape = (None, *shape)
    return before


def test_an_equal_size_does_not_warn():
    compiled([Dense(4, n_in=6), Dense(5, n_in=4), Softmax(3)])


@pytest.mark.parametrize("batch", [None, 10, 1])
def test_an_image_shape_may_include_the_batch(batch):
    layer = Convolution(2, (3, 3), input_shape=(batch, 2, 6, 6))
    layer.connect_to()
    assert layer.forward(IMAGES).shape == (40, 2, 4, 4)


def test_arrays_are_none_before_initialization():
    for layer in (Dense(3), SimpleRNN(n_out=3), Convolution(2, (3, 3)), BatchLSTM(n_out=2)):
        assert set(layer.params) == {None}
        assert set(layer.grads) == {None}
    assert Dense(3).W is None
    with pytest.raises(RuntimeError, match="compile"):
        npdl.Model([Dense(3, n_in=6)]).get_weights()


# Instances are copied


def test_one_optimizer_instance_can_train_several_models():
    optimizer, weights = Adam(lr=0.01), []
    for _ in range(2):
        npdl.utils.set_seed(1)
        model = mlp("scce", optimizer)
        model.fit(X, Y, epochs=3, verbose=0)
        weights.append(model.get_weights())
    assert same_bits(*weights)
    assert optimizer.iterations == 0
    compiled([Dense(5, n_in=6), Softmax(3)], "scce", optimizer).fit(X, Y, epochs=1, verbose=0)


def test_the_rate_is_changed_in_the_models_optimizer():
    optimizer = Adam(lr=0.01)
    model = mlp("scce", optimizer)
    optimizer.lr = 5
    assert model.optimizer.lr == 0.01
    model.optimizer.lr = 0.5
    assert model.learning_rate == 0.5
    assert optimizer.lr == 5


def test_compile_with_the_models_optimizer_keeps_its_state():
    model = mlp("scce", "adam")
    model.fit(X, Y, epochs=1, verbose=0)
    model.compile("scce", model.optimizer)
    assert model.optimizer.iterations == 1


def test_one_activation_instance_works_in_several_layers():
    activation = npdl.activations.Elliot(2)
    layers = [Dense(4, n_in=6, activation=activation), Dense(4, activation=activation)]
    assert layers[0].activation is not layers[1].activation
    activation.steepness = 9
    assert layers[0].activation.steepness == 2


# Arrays of optimizers


def numbers(seed):
    generator = np.random.RandomState(seed)
    return [generator.normal(size=shape) for shape in ((3, 2), (2,))]


def moments(decay, power):
    def expected(grads):
        value = [np.zeros_like(g) for g in grads[0]]
        for step in grads:
            value = [decay * v + (1 - decay) * g**power for v, g in zip(value, step, strict=True)]
        return value

    return expected


def velocity(grads):
    value = [np.zeros_like(g) for g in grads[0]]
    for step in grads:
        value = [0.9 * v - 0.1 * g for v, g in zip(value, step, strict=True)]
    return value


KEPT = {
    "Momentum": (Momentum(lr=0.1), "velocity", velocity),
    "NesterovMomentum": (NesterovMomentum(lr=0.1), "velocity", velocity),
    "Adagrad": (
        Adagrad(),
        "cache",
        lambda grads: [sum(g**2 for g in p) for p in zip(*grads, strict=True)],
    ),
    "RMSprop": (RMSprop(), "cache", moments(0.9, 2)),
    "Adadelta": (Adadelta(), "cache", moments(0.9, 2)),
    "Adam, ms": (Adam(), "ms", moments(0.9, 1)),
    "Adam, vs": (Adam(), "vs", moments(0.999, 2)),
    "Adamax": (Adamax(), "ms", moments(0.9, 1)),
}


@pytest.mark.parametrize(("optimizer", "name", "rule"), KEPT.values(), ids=KEPT)
def test_optimizer_arrays_have_their_old_names(optimizer, name, rule):
    optimizer = copy.deepcopy(optimizer)
    params, grads = numbers(0), [numbers(1), numbers(2)]
    assert getattr(optimizer, name) is None
    for step in grads:
        optimizer.update(params, step)
    for got, expected in zip(getattr(optimizer, name), rule(grads), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_optimizers_have_their_other_old_arrays():
    for optimizer, name in ((Adadelta(), "delta"), (Adamax(), "vs")):
        optimizer.update(numbers(0), numbers(1))
        assert [array.shape for array in getattr(optimizer, name)] == [(3, 2), (2,)]


def test_a_users_optimizer_may_omit_the_base_constructor():
    class Leaps(npdl.optimizers.Optimizer):
        def __init__(self, lr=0.5):
            self.lr = lr

        def update(self, params, grads):
            for p, g in zip(params, grads, strict=True):
                p -= self.lr * np.sign(g)
            super().update(params, grads)

    optimizer, p = Leaps(), np.zeros(2)
    optimizer.update([p], [np.array([1.0, -1.0])])
    assert np.array_equal(p, [-0.5, 0.5])
    assert (optimizer.iterations, optimizer.lr) == (1, 0.5)
    model = mlp("scce", Leaps(0.01))
    model.fit(X, Y, epochs=1, verbose=0)
    assert model.optimizer.iterations == 1


def test_layers_have_attributes_for_activation_classes():
    assert LSTM(n_out=2).activation_cls is npdl.activations.Tanh
    assert GRU(n_out=2, gate_activation="relu").gate_activation_cls is npdl.activations.ReLU


@pytest.mark.parametrize(
    ("count", "fraction", "kept"), [(40, 0.49, 21), (39, 0.1, 36), (7, 0.1, 7)]
)
def test_the_number_of_validation_examples_is_rounded_down(count, fraction, kept):
    seen = []

    class Watching(Linear):
        def forward(self, input, *args, train=True, **kwargs):
            seen.extend(input[:, 0] if train else ())
            return super().forward(input, *args, train=train, **kwargs)

    model = compiled([Watching(3, n_in=6), Softmax(3)])
    model.fit(X[:count], Y[:count], epochs=1, validation_split=fraction, verbose=0)
    assert np.array_equal(np.sort(seen), np.sort(X[:kept, 0]))


# Freezing

MODELS = {
    "Dense": lambda: [Dense(5, n_in=6), Dense(4), Softmax(3)],
    "Convolution": lambda: [Convolution(2, (3, 3), input_shape=(2, 6, 6)), Flatten(), Softmax(3)],
    "BatchNormal": lambda: [BatchNormal(input_shape=(6,)), Dense(4), Softmax(3)],
    "LSTM": lambda: [LSTM(n_out=4, n_in=6), Dense(4), Softmax(3)],
    "BatchLSTM": lambda: [BatchLSTM(n_out=4, n_in=6), Dense(4), Softmax(3)],
    "Functional": lambda: [Functional(F.dense(4), input_shape=(6,)), Dense(3), Softmax(3)],
    "Embedding": lambda: [
        Embedding(input_size=9, n_out=4, static=False),
        SimpleRNN(n_out=3),
        Softmax(3),
    ],
}


def data_for(model):
    if isinstance(model.layers[0], Embedding):
        return rng.randint(9, size=(40, 5)), Y
    shape = model.input_shape[1:]
    return rng.normal(size=(40, *[5 if n is None else n for n in shape])), Y


@pytest.mark.parametrize("at", [0, -2, -1])
@pytest.mark.parametrize("name", MODELS)
def test_an_untrainable_layer_is_constant_until_trainable(name, at):
    model = compiled(MODELS[name](), "scce", "adam")
    data, layer = data_for(model), model.layers[at]
    model.fit(*data, epochs=1, verbose=0)
    layer.trainable = False
    frozen, others = layer.get_weights(), model.get_weights()
    model.fit(*data, epochs=2, verbose=0)
    assert same_bits(layer.get_weights()[: len(layer.params)], frozen[: len(layer.params)])
    assert not same_bits(model.get_weights(), others)
    layer.trainable = True
    model.fit(*data, epochs=1, verbose=0)
    assert not layer.params or not same_bits(layer.get_weights(), frozen)


def test_freezing_is_kept_in_files_and_the_functional_form(tmp_path):
    model = compiled([Dense(4, n_in=6), Dense(5), Softmax(3)], "scce")
    model.layers[1].trainable = False
    layer, params = model.to_functional()
    _, grads, _ = F.value_and_grad(layer, F.categorical_cross_entropy)(
        params, X.astype(np.float32), Y
    )
    assert [grad is None for grad in grads] == [False, True, False]
    model.save(tmp_path / "model.npz")
    loaded = npdl.Model.load(tmp_path / "model.npz")
    assert [each.trainable for each in loaded.layers] == [True, False, True]
    file = io.StringIO()
    loaded.summary(file)
    assert "71 parameters; 46 are trained, 25 are not" in file.getvalue()


def test_a_whole_model_can_be_frozen():
    model = mlp()
    model.trainable = False
    before = model.get_weights()
    model.fit(X, Y, epochs=1, verbose=0)
    assert same_bits(model.get_weights(), before)
    assert not model.trainable
    model.trainable = True
    model.fit(X, Y, epochs=1, verbose=0)
    assert not same_bits(model.get_weights(), before)


def test_backward_ends_at_the_first_trained_layer():
    model = compiled([Dense(4, n_in=6), Dense(5), Softmax(3)], "scce")
    model.layers[0].trainable = model.layers[1].trainable = False
    model.train_on_batch(X, Y)
    assert model.layers[2].first_layer
    assert [g is None for g in model.grads] == [True] * 4 + [False] * 2


class Stretched(Layer):
    def connect_to(self, prev_layer=None):
        self.out_shape = prev_layer.out_shape
        self.a, self.da = np.ones(self.out_shape[-1]), None

    def forward(self, input, *args, **kwargs):
        self.last = input
        return self.a * input

    def backward(self, pre_grad, *args, **kwargs):
        self.da = (pre_grad * self.last).sum(axis=0)
        return self.a * pre_grad

    params = property(lambda self: [self.a])
    grads = property(lambda self: [self.da])


def test_a_users_layer_can_be_frozen_and_named():
    model = compiled(
        [Dense(4, n_in=6), Stretched(name="scale", trainable=False), Softmax(3)], "scce"
    )
    model.fit(X, Y, epochs=1, verbose=0)
    layer = model.get_layer("scale")
    assert np.array_equal(layer.a, np.ones(4))
    loaded = npdl.Model.from_json(model.to_json())
    assert (loaded.layers[1].trainable, loaded.layers[1].name) == (False, "scale")
    layer.trainable = True
    model.fit(X, Y, epochs=1, verbose=0)
    assert not np.array_equal(layer.a, np.ones(4))


def test_a_users_layer_may_define_attributes_of_layers():
    class Titled(Layer):
        def __init__(self, units, name="mine"):
            self.units, self.name, self.weights = units, name.upper(), np.zeros(units)
            self.kernel_regularizer = self.output_shape = 7

    layer = Titled(units=3)
    assert (layer.name, layer.weights.shape, layer.output_shape) == ("MINE", (3,), 7)
    assert Layer.from_json(layer.to_json()).name == "MINE"


def test_need_grad_and_static_agree_with_trainable():
    layer = LSTM(n_out=2, n_in=3, need_grad=False)
    assert not layer.trainable
    layer.need_grad = True
    assert layer.trainable
    table = Embedding(np.eye(4))
    assert not table.trainable
    table.trainable = True
    assert not table.static
    assert len(table.params) == 1
    assert repr(LSTM(n_out=2)) == "LSTM(n_out=2)"


# Files


def bare(layer, shape=None):
    model = npdl.Model.from_functional(layer, layer.init(0, (6,)), input_shape=shape)
    model.compile("mse", "sgd")
    return model


LAYER = F.serial(F.dense(8), F.relu(), F.dense(3))


def test_a_model_without_known_input_shape_is_not_saved(tmp_path):
    model = bare(LAYER)
    with pytest.raises(ValueError, match="call predict"):
        model.save(tmp_path / "model.npz")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("layer", [LAYER, F.dense(3), F.embedding(9, 3)], ids=str)
def test_a_model_gets_the_input_shape_from_data(tmp_path, layer):
    ids = layer.call.name == "embedding"
    x = rng.randint(9, size=(40, 6)) if ids else X
    model = npdl.Model.from_functional(layer, layer.init(0, (6,)))
    model.compile("mse", "sgd")
    y = model.predict(x) * 2
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.npz")
    loaded = npdl.Model.load(tmp_path / "model.npz")
    assert np.array_equal(loaded.predict(x), model.predict(x))


def test_a_checkpoint_without_input_shape_can_be_loaded(tmp_path):
    model = bare(LAYER)
    folder = Checkpoint(tmp_path / "run")
    model.fit(X, X[:, :3], epochs=2, checkpoint=folder, verbose=0)
    newest = sorted((tmp_path / "run").glob("*.npz"))[-1]
    assert np.array_equal(npdl.Model.load(newest).predict(X), model.predict(X))


def test_saving_creates_a_missing_folder(tmp_path):
    model = mlp()
    model.save(tmp_path / "a" / "b" / "model.npz")
    model.save_weights(tmp_path / "c" / "weights.npz")
    assert npdl.Model.load(tmp_path / "a" / "b" / "model.npz").predict(X).shape == (40, 3)


def test_saving_with_a_bad_suffix_creates_no_folder(tmp_path):
    for save in (mlp().save, mlp().save_weights):
        with pytest.raises(ValueError, match=r"suffix '\.h5'"):
            save(tmp_path / "a" / "model.h5")
    assert not any(tmp_path.iterdir())


def test_load_weights_reads_every_file_with_weights(tmp_path):
    model = mlp("scce", "adam")
    keeper = ModelCheckpoint(tmp_path / "best.npz", "loss", save_best_only=True)
    model.fit(
        X, Y, epochs=2, callbacks=[keeper], checkpoint=Checkpoint(tmp_path / "run"), verbose=0
    )
    model.save(tmp_path / "model.npz")
    model.save_weights(tmp_path / "weights.npz")
    files = [*tmp_path.glob("*.npz"), sorted((tmp_path / "run").glob("*.npz"))[-1]]
    assert len(files) == 4
    for file in files:
        other = mlp()
        other.load_weights(file)
        assert same_bits(other.get_weights(), model.get_weights())
    with pytest.raises(CheckpointError, match="does not match"):
        compiled([Dense(4, n_in=6), Softmax(3)]).load_weights(tmp_path / "best.npz")
    with pytest.raises(CheckpointError, match=r"call load_weights.*files of weights"):
        npdl.Model.load(tmp_path / "best.npz")


def test_load_without_generator_keeps_the_generator(tmp_path):
    mlp().save(tmp_path / "model.npz")
    npdl.utils.set_seed(3)
    before = npdl.utils.random.get_state()
    npdl.Model.load(tmp_path / "model.npz", generator=False)
    assert npdl.utils.random.get_state() == before
    npdl.Model.load(tmp_path / "model.npz")
    assert npdl.utils.random.get_state() != before


@F.layer
def times(by=2.0):
    """y = by · x."""
    return F.Layer(
        lambda rng, shape: (), lambda params, x: (by * x, None), lambda params, _, g: (None, by * g)
    )


def test_load_accepts_a_users_constructors(tmp_path):
    inner = F.serial(F.dense(4), times(3.0))
    model = compiled([Functional(inner, input_shape=(6,)), Softmax(3)])
    model.save(tmp_path / "model.npz")
    for call in (
        lambda: npdl.Model.load(tmp_path / "model.npz"),
        lambda: npdl.Model.from_json(model.to_json()),
    ):
        with pytest.raises(ValueError, match=r"Model\.load\(path, constructors=.*'times'"):
            call()
    for loaded in (
        npdl.Model.load(tmp_path / "model.npz", constructors=[times]),
        npdl.Model.from_json(model.to_json(), constructors=[times]),
    ):
        assert loaded.layers[0].layer == inner
    loaded.set_weights(model.get_weights())
    assert np.array_equal(loaded.predict(X), model.predict(X))


def test_files_may_contain_softmax_before_cross_entropy():
    layer = F.serial(F.dense(3), npdl.activations.softmax_before_cross_entropy())
    model = compiled([Functional(layer, input_shape=(6,))], "scce")
    assert npdl.Model.from_json(model.to_json()).layers[0].layer == layer


# The functional form

FORMS = {
    "images": lambda: [
        Convolution(3, (3, 3), input_shape=(2, 6, 6)),
        BatchNormal(),
        MaxPooling((2, 2)),
        BatchNormal(axis=1),
        MeanPooling((2, 1)),
        Flatten(),
        Dropout(0.1),
        Softmax(3),
    ],
    "sequences": lambda: [
        LSTM(n_out=4, n_in=6, nb_seq=5, return_sequence=True),
        BatchLSTM(n_out=4, return_sequence=True),
        BatchNormal(),
        MaxPooling((5, 2)),
        BatchNormal(axis=2),
        Flatten(),
        Dense(4, activation="elliot"),
        Softmax(3),
    ],
    "frozen": lambda: [
        GRU(n_out=4, n_in=6, nb_seq=5, return_sequence=True),
        BatchLSTM(n_out=4, return_sequence=True, need_grad=False),
        MeanPooling((5, 1), trainable=False),
        BatchNormal(trainable=False),
        Flatten(),
        Softmax(3, trainable=False),
    ],
}


@pytest.mark.parametrize("name", FORMS)
def test_the_functional_form_needs_no_private_constructor(name):
    model = compiled(FORMS[name](), "scce", "adam")
    x = IMAGES if name == "images" else rng.normal(size=(40, 5, 6))
    model.fit(x, Y, epochs=1, verbose=0)
    layer, params = model.to_functional()
    again = F.from_config(layer.config())
    assert again == layer
    assert eval(repr(layer), {**vars(F)}) == layer
    assert np.array_equal(again(params, x.astype(np.float32)), model.predict(x))
    assert tree.map(np.shape, layer.init(0, x.shape[1:])) == tree.map(np.shape, params)
    back = npdl.Model.from_functional(again, params, input_shape=x.shape[1:])
    assert np.array_equal(back.predict(x), model.predict(x))


def test_both_forms_train_equally():
    model = compiled(FORMS["sequences"](), "mse", npdl.optimizers.SGD(lr=0.01))
    x = rng.normal(size=(40, 5, 6))
    targets = npdl.utils.one_hot(Y, 3)
    other = npdl.Model.from_functional(*model.to_functional(), input_shape=(5, 6))
    other.compile("mse", npdl.optimizers.SGD(lr=0.01))
    for each in (model, other):
        each.fit(x, targets, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.predict(x), other.predict(x), rtol=1e-5, atol=1e-6)


def test_a_single_layer_keeps_its_functional_form():
    layer = F.dense(4)
    params = layer.init(0, (6,))
    form, copies = npdl.Model.from_functional(layer, params).to_functional()
    assert form == layer
    assert tree.all_close(copies, params, rtol=0, atol=0)
    form, copies = npdl.Model.from_functional(F.serial(layer), (params,)).to_functional()
    assert form == F.serial(layer)


def test_pooling_accepts_images_of_another_size():
    layer = MaxPooling((2, 2))
    layer.connect_to(layer_before((2, 6, 6)))
    for shape in ((3, 2, 4, 8), (3, 4, 8), (3, 2, 6, 6)):
        x = rng.normal(size=shape)
        y = layer.forward(x)
        assert y.shape == (*shape[:-2], shape[-2] // 2, shape[-1] // 2)
        dx = layer.backward(np.ones_like(y))
        assert dx.shape == x.shape
        assert dx.sum() == y.size


# Functional layers in training


def test_a_functional_batch_norm_trains():
    inner = F.serial(F.dense(8), F.batch_norm(), F.dropout(0.2))
    for fit in (
        lambda model: model.fit(X, Y, epochs=3, validation_split=0.1, verbose=0),
        lambda model: model.train_on_batch(X, Y),
        lambda model: model.fit(X, Y, epochs=1, validation_data=(X[:1], Y[:1]), verbose=0),
    ):
        npdl.utils.set_seed(0)
        model = compiled([Functional(inner, input_shape=(6,)), Softmax(2 + 1)], "scce", "adam")
        fit(model)
        assert np.isfinite(model.predict(X)).all()


def test_the_check_before_training_has_no_side_effects():
    inner = F.serial(F.dense(8), F.batch_norm(), F.dropout(0.2))
    model = compiled([Functional(inner, input_shape=(6,)), Softmax(3)], "scce")
    before, state = model.get_weights(), npdl.utils.random.get_state()
    with pytest.raises(ValueError, match="3 classes"):
        model.fit(X, Y + 1, verbose=0)
    assert same_bits(model.get_weights(), before)
    assert npdl.utils.random.get_state() == state


def test_ordinary_scripts_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = mlp(loss=npdl.objectives.SCCE(), optimizer=npdl.optimizers.SGD(lr=0.005))
        model.fit(
            X, npdl.utils.one_hot(Y), max_iter=2, batch_size=64, validation_split=0.1, verbose=0
        )


# Loss values, as documented in docs/compat.md

P = np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])
T = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def test_old_loss_values_follow_from_new_values():
    old_mse = 0.5 * np.mean(np.sum((P - T) ** 2, axis=1))
    old_bce = np.mean(-np.sum(T * np.log(P) + (1 - T) * np.log(1 - P), axis=1))
    mse, bce = npdl.objectives.MSE().forward(P, T), npdl.objectives.BCE().forward(P, T)
    assert 0.5 * np.mean(np.sum(mse, axis=1)) == pytest.approx(old_mse)
    assert np.mean(mse) == pytest.approx(2 / 3 * old_mse)
    assert np.mean(np.sum(bce, axis=1)) == pytest.approx(old_bce)
    assert np.mean(bce) == pytest.approx(old_bce / 3)
    old_scce = np.mean(-np.sum(T * np.log(P), axis=1))
    assert np.mean(npdl.objectives.SCCE().forward(P, T)) == pytest.approx(old_scce)


def test_hellinger_distance_agrees_with_its_definition():
    p = np.array([[0.81, 0.19]])
    assert npdl.objectives.HeD().forward(p, [0])[0] == pytest.approx(0.3162, abs=1e-4)


def test_a_frozen_batch_norm_uses_constant_statistics():
    model = compiled([BatchNormal(input_shape=(6,)), Dense(4), Softmax(3)], "scce")
    model.fit(X, Y, epochs=2, verbose=0)
    layer = model.layers[0]
    layer.trainable = False
    before = layer.get_weights()
    in_training = layer.forward(X, train=True)
    assert np.array_equal(in_training, layer.forward(X, train=False))
    model.fit(3 + X, Y, epochs=1, verbose=0)
    assert same_bits(layer.get_weights(), before)
