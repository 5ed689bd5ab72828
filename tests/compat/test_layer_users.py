"""User-defined layers, activations and initializers, next to and inside library layers."""

import json

import numpy as np
import pytest
from arrays import normal64, same_bits
from compat_layers import BATCH, N_IN, N_OUT, TIME, after

import npdl
import npdl.functional as F
from npdl import layers
from npdl.checkpoint import CheckpointError
from npdl.compat._function_loss import FunctionLoss
from npdl.compat.layers.base import Parameter, Stateful
from npdl.training import Checkpoint


class Scale(layers.Layer):
    """y = a x, with one trained number, as in old scripts."""

    def __init__(self, start=2.0):
        self.start = start

    def connect_to(self, prev_layer):
        self.out_shape = prev_layer.out_shape
        self.a, self.da = np.full(1, self.start), None

    def forward(self, x, *args, **kwargs):
        self.last_input = x
        return self.a * x

    def backward(self, pre_grad, *args, **kwargs):
        self.da = np.array([np.sum(pre_grad * self.last_input)])
        return self.a * pre_grad

    @property
    def params(self):
        return [self.a]

    @property
    def grads(self):
        return [self.da]


class Narrow(layers.Dense):
    """A Dense layer with additional arguments."""

    def __init__(self, factor):
        super().__init__(N_OUT * factor, activation="relu")


class Normal(Stateful):
    """A functional layer with names for its arrays."""

    gain = Parameter("scale")
    offset = Parameter("shift")

    def _build(self, shape):
        return F.layer_norm()


class Sums(layers.Recurrent):
    """A recurrent layer with a user-defined step: the running sum of the features."""

    def forward(self, x, *args, **kwargs):
        sums = np.cumsum(x.sum(axis=2, keepdims=True), axis=1)
        return np.repeat(sums, self.n_out, axis=2)


class Sine(npdl.activations.Activation):
    def forward(self, x):
        self.last_forward = x
        return np.sin(x)

    def derivative(self, x=None):
        return np.cos(self.last_forward if x is None else x)


class Slope(npdl.initializations.Initializer):
    def call(self, size):
        return np.arange(np.prod(size)).reshape(size) / 10


def test_a_users_layer_has_param_grads_and_a_configuration():
    layer = Scale(start=3.0)
    layer.connect_to(after(N_IN))
    x = normal64(BATCH, N_IN)
    assert np.array_equal(layer.forward(x), 3 * x)
    assert np.array_equal(layer.backward(np.ones_like(x)), np.full_like(x, 3))
    [(a, da)] = layer.param_grads
    assert a is layer.a
    assert da == np.array([x.sum()])
    loaded = layers.Layer.from_json(json.dumps(layer.to_json()))
    assert type(loaded) is Scale
    assert loaded.start == 3.0


def test_the_base_has_no_parameters_and_names_missing_methods():
    layer = layers.Layer()
    assert str(layer) == "Layer"
    assert (layer.params, layer.grads, layer.param_grads) == ([], [], [])
    assert (layer.first_layer, layer.out_shape) == (False, None)
    for call in (
        lambda: layer.forward(1),
        lambda: layer.backward(1),
        lambda: layer.connect_to(None),
        layer.to_json,
    ):
        with pytest.raises(NotImplementedError, match=r"Layer\."):
            call()


def test_a_subclass_of_a_layer_has_its_own_configuration():
    layer = Narrow(factor=3)
    assert layer.to_json() == {"class": "layers.Narrow", "factor": 3}
    layer.connect_to(after(N_IN))
    assert layer.parameter_names == ("W", "b")
    assert layer.forward(normal64(BATCH, N_IN)).shape == (BATCH, 3 * N_OUT)


def test_a_functional_layer_can_name_its_arrays():
    layer = Normal()
    layer.connect_to(after(N_IN))
    layer.gain = [1, 2, 3]
    x = normal64(BATCH, N_IN)
    y = layer.forward(x)
    layer.backward(y)
    assert [array.shape for array in layer.params] == [(N_IN,), (N_IN,)]
    assert np.array_equal(layer.doffset, y.sum(axis=0))


def test_a_users_recurrent_layer_gets_its_sizes():
    layer = Sums(n_out=N_OUT, return_sequence=True)
    layer.connect_to(after(TIME, N_IN))
    assert layer.out_shape == (None, TIME, N_OUT)
    assert layer.n_in == N_IN
    assert layer.params == []
    assert layer.forward(normal64(BATCH, TIME, N_IN)).shape == (BATCH, TIME, N_OUT)
    with pytest.raises(NotImplementedError, match=r"Recurrent\.forward"):
        layers.Recurrent(n_out=N_OUT).forward(1)


ACTIVATED = {
    "dense": (lambda: layers.Dense(N_OUT, activation=Sine()), (N_IN,)),
    "convolution": (lambda: layers.Convolution(2, (2, 2), activation=Sine()), (1, 3, 4)),
    "rnn": (lambda: layers.SimpleRNN(n_out=N_OUT, activation=Sine()), (TIME, N_IN)),
    "gru": (lambda: layers.GRU(n_out=N_OUT, activation=Sine()), (TIME, N_IN)),
    "lstm": (lambda: layers.LSTM(n_out=N_OUT, activation=Sine()), (TIME, N_IN)),
}


@pytest.mark.parametrize(("make", "shape"), ACTIVATED.values(), ids=ACTIVATED)
def test_a_users_activation_has_exact_gradients_in_every_layer(make, shape):
    npdl.utils.set_dtype("float64")
    layer, x = make(), normal64(BATCH, *shape)
    layer.connect_to(after(*shape))
    g = normal64(*layer.forward(x).shape, seed=2)
    dx, d = layer.backward(g), normal64(*x.shape, seed=3)
    ends = [np.sum(g * layer.forward(x + step * d)) for step in (1e-6, -1e-6)]
    assert abs((ends[0] - ends[1]) / 2e-6 - np.sum(dx * d)) < 1e-7
    assert layer.to_json()["activation"] == {"class": "activations.Sine"}


def test_a_users_initializer_initializes_the_weights():
    layer = layers.Dense(N_OUT, n_in=N_IN, init=Slope())
    layer.connect_to()
    assert np.array_equal(layer.W, np.arange(6, dtype=np.float32).reshape(3, 2) / 10)
    rnn = layers.SimpleRNN(n_out=N_OUT, n_in=N_IN, inner_init=Slope())
    rnn.connect_to()
    assert np.array_equal(rnn.U, np.arange(4, dtype=np.float32).reshape(2, 2) / 10)


def test_a_functional_layer_accepts_its_parameters():
    model = F.serial(F.dense(N_OUT), F.dropout(0.5), F.relu())
    params = model.init(0, (N_IN,))
    layer = layers.Functional(model, params, input_shape=(N_IN,))
    layer.connect_to()
    x = normal64(BATCH, N_IN).astype(np.float32)
    assert np.array_equal(layer.forward(x, train=False), model(params, x))
    assert (layer.forward(x) == 0).mean() > (layer.forward(x, train=False) == 0).mean()
    for array in layer.params:
        array[...] = 0
    assert params[0]["weight"].all()
    assert "params" not in layer.to_json()


def test_a_functional_layer_keeps_ids_as_ints():
    layer = layers.Functional(F.embedding(5, 2), input_shape=(3,))
    layer.connect_to()
    assert layer.forward([[4, 0, 1]]).shape == (1, 3, 2)


class Shifted(Scale):
    """A layer with an argument of any type."""

    def __init__(self, by):
        super().__init__()
        self.by = by


ARGUMENTS = {
    "a list": [1, 2.5, None],
    "a tuple": (1, (2, "a")),
    "tuples in a list": [(1, 2), [3], ()],
    "a dict": {"a": [1], 2: (True,)},
    "an array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "an array of booleans": [np.array([True, False])],
    "a functional layer": F.serial(F.dense(3), F.relu()),
    "an initializer": F.constant(0.5),
    "an instance": npdl.activations.Elliot(2.0),
    "instances": [npdl.activations.Tanh(), (npdl.initializations.Zero(),)],
}


def arguments_equal(a, b):
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(arguments_equal, a, b))
    if isinstance(a, npdl.activations.Activation | npdl.initializations.Initializer):
        return type(a) is type(b) and a.to_json() == b.to_json()
    return same_bits(a, b) if isinstance(a, np.ndarray) else a == b


@pytest.mark.parametrize("value", ARGUMENTS.values(), ids=ARGUMENTS)
def test_an_argument_of_a_users_layer_survives_json(value, tmp_path):
    layer = Shifted(value)
    loaded = layers.Layer.from_json(json.dumps(layer.to_json()))
    assert arguments_equal(value, loaded.by)
    assert loaded.to_json() == layer.to_json()
    model = npdl.Model([layers.Dense(n_out=2, n_in=3), layer])
    model.compile(loss="mse")
    model.save(tmp_path / "model.npz")
    assert arguments_equal(value, npdl.Model.load(tmp_path / "model.npz").layers[1].by)


class Residual(layers.Functional):
    """A wrapped layer with another argument than its base class."""

    def __init__(self, units):
        super().__init__(F.residual(F.dense(units)), input_shape=(units,))


class Huber(FunctionLoss):
    """A wrapped loss with another argument than its base class."""

    def __init__(self, delta):
        super().__init__("huber")
        self.delta = delta


class Table(layers.Embedding):
    """An embedding with another argument than its base class."""

    def __init__(self, rows):
        super().__init__(input_size=rows, n_out=2)


@pytest.mark.parametrize(
    ("instance", "name", "arguments"),
    [
        (Residual(3), "layers.Residual", {"units": 3}),
        (Huber(0.5), "objectives.Huber", {"delta": 0.5}),
        (Table(4), "layers.Table", {"rows": 4}),
        (FunctionLoss(F.huber), "objectives.FunctionLoss", {"function": "huber"}),
    ],
)
def test_a_configuration_has_the_arguments_of_its_own_class(instance, name, arguments):
    config = instance.to_json()
    assert config == {"class": name, **arguments}
    loaded = type(instance).from_json(json.dumps(config))
    assert type(loaded) is type(instance)
    assert loaded.to_json() == config


def test_numpy_scalars_become_numbers_in_a_configuration():
    for value in (np.float64(0.5), np.int8(3), np.bool_(True)):
        loaded = layers.Layer.from_json(json.dumps(Shifted([value]).to_json()))
        assert loaded.by == [value.item()]
        assert type(loaded.by[0]) is type(value.item())


@pytest.mark.parametrize("value", [print, {1}, b"x", 1j, np.array([None]), Scale])
def test_an_argument_that_json_lacks_is_named(value):
    with pytest.raises(TypeError, match=r"layers\.Shifted has an argument that JSON cannot store"):
        Shifted(value).to_json()


@pytest.mark.parametrize(
    "value",
    [np.full(500_000, 1 / 3), np.zeros((300_000, 1)), print],
    ids=["long", "rows", "function"],
)
def test_a_run_is_saved_without_an_argument_too_large_for_json(value, tmp_path):
    x, y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)

    def run(epochs, **options):
        model = npdl.Model([layers.Dense(n_out=2, n_in=3), Shifted(value)])
        model.compile(loss="mse")
        model.fit(x, y, epochs=epochs, verbose=0, checkpoint=Checkpoint(tmp_path), **options)
        return model

    run(1)
    [path] = Checkpoint(tmp_path).paths()
    with pytest.raises(CheckpointError, match="holds no configuration of a model"):
        npdl.Model.load(path)
    assert run(2, resume=True).optimizer.iterations == 2
