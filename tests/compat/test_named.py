"""Representations of instances of the stateful API."""

import numpy as np

import npdl


def test_repr_of_an_instance_is_its_constructor_call():
    layer = npdl.layers.Dense(3, n_in=2, activation=npdl.activations.Elliot(2))
    assert repr(layer) == "Dense(n_out=3, n_in=2, activation=Elliot(steepness=2))"
    assert str(layer) == "Dense"
    assert repr(npdl.optimizers.Adam(0.8, lr=0.1)) == "Adam(beta1=0.8, lr=0.1)"
    assert repr(npdl.layers.LSTM(n_out=4)) == "LSTM(n_out=4)"
    assert repr(npdl.objectives.MSE()) == "MeanSquaredError()"


def test_repr_shows_type_and_shape_of_arrays():
    layer = npdl.layers.Embedding(np.zeros((500, 4)), static=False)
    assert repr(layer) == "Embedding(embed_words=float64[500, 4], static=False)"


def test_repr_of_a_subclass_shows_its_own_arguments():
    class Wide(npdl.layers.Dense):
        def __init__(self, times=2):
            super().__init__(8 * times, activation="relu")

    assert repr(Wide(times=3)) == "Wide(times=3)"


def test_a_users_class_may_share_the_name_of_a_library_class():
    saved = npdl.layers.Dense(3, n_in=2).to_json()

    class Dense(npdl.layers.Layer):
        def __init__(self, units):
            self.units = units

    assert type(npdl.layers.Layer.from_json(saved)) is npdl.layers.Dense
    mine = npdl.layers.Layer.from_json(Dense(4).to_json())
    assert type(mine) is Dense
    assert mine.units == 4
