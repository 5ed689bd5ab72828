"""Data that are not plain arrays of numbers are refused with the remedy."""

import numpy as np
import pytest
from arrays import normal

import npdl
import npdl.functional as F
from npdl import checkpoint
from npdl.training import evaluate, fit, predict

X, Y = normal(8, 3), normal(8, 1, seed=1)
MODEL = F.dense(1)
PARAMS = MODEL.init(0, (3,))


class Table:
    """A table with columns, like a DataFrame."""

    def __array__(self, dtype=None, copy=None):
        return X

    def __len__(self):
        return 3

    def __getitem__(self, name):
        raise KeyError(name)


class Sparse:
    """A sparse matrix; NumPy does not make it dense."""

    def toarray(self):
        return X

    def __len__(self):
        raise TypeError("sparse array length is ambiguous")

    def __getitem__(self, rows):
        return self


class Tensor:
    """A tensor of PyTorch."""

    __module__ = "torch"

    def __array__(self, dtype=None, copy=None):
        return X


STRANGE = {
    "masked array": (np.ma.array(X, mask=X > 0), "MaskedArray.*np.asarray"),
    "matrix": (X.view(np.matrix), "matrix.*np.asarray"),
    "recarray": (X.view(np.recarray), "recarray.*np.asarray"),
    "float16": (X.astype(np.float16), r"float16.*astype\(np.float32\)"),
    "long double": (X.astype(np.longdouble), r"astype\(np.float32\)"),
    "texts": (X.astype(str), r"astype\(np.float32\)"),
    "objects": (X.astype(object), r"object.*astype\(np.float32\)"),
    "a table": (Table(), r"Table.*np.asarray"),
    "a sparse matrix": (Sparse(), r"Sparse.*toarray\(\)"),
    "a tensor": (Tensor(), r"Tensor.*np.asarray\(x.detach\(\).cpu\(\)\)"),
}
each = pytest.mark.parametrize(("strange", "message"), STRANGE.values(), ids=STRANGE)


@each
def test_data_are_refused_with_the_remedy(strange, message):
    if type(strange) is np.ndarray and strange.dtype == np.float64:
        pytest.skip("a long double is a float64 here")
    loss, optimizer = F.mean_squared_error, F.sgd(0.1)
    for data in ((strange, Y), (X, strange), (X, Y, strange)):
        with pytest.raises(TypeError, match=message):
            fit(MODEL, loss, optimizer, data, progress=False)
        with pytest.raises(TypeError, match=message):
            fit(MODEL, loss, optimizer, (X, Y), validation=data, progress=False)
        with pytest.raises(TypeError, match=message):
            evaluate(MODEL, PARAMS, data, metrics={"loss": loss})
    with pytest.raises(TypeError, match=message):
        predict(MODEL, PARAMS, strange)


@pytest.mark.parametrize("alone", [Table(), Sparse(), Tensor(), X, X.view(np.matrix)])
def test_an_array_alone_is_refused(alone):
    message = rf"must be a tuple \(x, \*targets\) of arrays.*got {type(alone).__name__}|float32"
    with pytest.raises(TypeError, match=message):
        fit(MODEL, F.mean_squared_error, F.sgd(0.1), alone, progress=False)


def test_arrays_of_a_file_are_data(tmp_path):
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    mapped[...] = X
    assert np.array_equal(predict(MODEL, PARAMS, mapped), predict(MODEL, PARAMS, X))
    fit(MODEL, F.mean_squared_error, F.sgd(0.1), (mapped, Y), epochs=1, progress=False)


@pytest.mark.parametrize("kind", [np.ma.MaskedArray, np.matrix, np.recarray])
def test_value_and_grad_refuses_other_classes_of_arrays(kind):
    step = F.value_and_grad(MODEL, lambda outputs, targets: (0.0, outputs))
    for x, y in ((X.view(kind), Y), (X, Y.view(kind))):
        with pytest.raises(TypeError, match=f"{kind.__name__}.*np.asarray"):
            step(PARAMS, x, y)


@pytest.mark.parametrize("kind", [np.ma.MaskedArray, np.matrix])
def test_weights_of_other_libraries_are_arrays_too(kind):
    weights = {"fc.weight": X[:1], "fc.bias": np.zeros(1, np.float32)}
    assert checkpoint.from_torch(weights, MODEL, PARAMS)["weight"].shape == (3, 1)
    half = {name: array.astype(np.float16) for name, array in weights.items()}
    assert checkpoint.from_torch(half, MODEL, PARAMS)["weight"].dtype == np.float32
    with pytest.raises(TypeError, match=f"the entry 'fc.weight'.*{kind.__name__}.*np.asarray"):
        checkpoint.from_torch(weights | {"fc.weight": X[:1].view(kind)}, MODEL, PARAMS)


@pytest.mark.parametrize("kind", [np.ma.MaskedArray, np.matrix, np.recarray])
def test_a_model_refuses_other_classes_of_arrays(kind):
    model = npdl.Model([npdl.layers.Dense(n_out=1, n_in=3)])
    model.compile(loss="mse")
    x, weight = X.view(kind), np.ones(8)
    weight = weight.view(np.ma.MaskedArray if kind is np.matrix else kind)
    calls = [
        lambda: model.fit(x, Y, max_iter=1, verbose=0),
        lambda: model.fit(X, Y.view(kind), max_iter=1, verbose=0),
        lambda: model.fit(X, Y, max_iter=1, verbose=0, validation_data=(x, Y)),
        lambda: model.fit(X, Y, max_iter=1, verbose=0, sample_weight=weight),
        lambda: model.train_on_batch(x, Y),
        lambda: model.evaluate(x, Y),
        lambda: model.predict(x),
        lambda: model.layers[0].forward(x),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"expected a NumPy array.*np\.asarray"):
            call()
    model.predict(X.astype(np.float16))
    model.predict(X.tolist())


def test_a_frozen_normalization_of_a_model_evaluates_in_training():
    model = npdl.Model([npdl.layers.Dense(n_out=4, n_in=3), npdl.layers.BatchNormal()])
    model.compile(loss="mse")
    model.train_on_batch(X, normal(8, 4))
    dense, norm = model.layers
    hidden = dense.forward(X)
    assert not np.allclose(norm.forward(hidden, train=True), norm.forward(hidden, train=False))
    norm.trainable = False
    before = norm.forward(hidden, train=False)
    assert np.array_equal(norm.forward(hidden, train=True), before)
    assert np.array_equal(norm.forward(hidden, train=False), before)
