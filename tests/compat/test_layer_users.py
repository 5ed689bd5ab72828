"""User-defined layers, activations and initializers, next to and inside library layers."""

import json

import numpy as np
import pytest
from arrays import normal64
from compat_layers import BATCH, N_IN, N_OUT, TIME, after

import npdl
import npdl.functional as F
from npdl import layers
from npdl.compat.layers.base import Parameter, Stateful


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
