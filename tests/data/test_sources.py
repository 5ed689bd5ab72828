"""Each source trains to the bits of the array, and wrong sources are refused at once."""

import numpy as np
import pytest
from arrays import normal, same_bits

import npdl.functional as F
from npdl.data import source
from npdl.training import evaluate, fit, predict

COUNT = 23
X, IDS = normal(COUNT, 4), np.arange(COUNT) * 7 % 3
X[X < 0] = 0  # for sparse matrices
NAMES = ["a", "b", "c", "d"]
MODEL = F.serial(F.dense(6), F.tanh(), F.dense(3))
LOSS = F.softmax_cross_entropy


def memmap(path):
    x = np.memmap(path / "x", np.float32, "w+", shape=X.shape)
    x[...] = X
    return source(x, IDS)


def pandas_frame(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.astype(np.float64), columns=NAMES)
    frame["label"] = IDS
    frame.index = frame.index[::-1] + 100
    return source(frame[NAMES], frame["label"], dtype=np.float32)


def pandas_mixed_columns(path):
    pandas = pytest.importorskip("pandas")
    columns = {
        name: X[:, i].astype(np.float64 if i else np.float32) for i, name in enumerate("abcd")
    }
    frame = pandas.DataFrame(columns).astype({"b": "Float64"})
    return source(frame, pandas.Series(IDS, dtype="Int64"), dtype=np.float32)


def polars_frame(path):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({name: X[:, i] for i, name in enumerate(NAMES)})
    return source(frame, polars.Series("label", IDS))


def sparse_matrix(path, kind="csr_array"):
    sparse = pytest.importorskip("scipy.sparse")
    return source(getattr(sparse, kind)(X), IDS)


def sparse_columns(path):
    return sparse_matrix(path, "csc_matrix")


def sparse_coordinates(path):
    return sparse_matrix(path, "coo_array")


def h5py_data_sets(path):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(path / "data.h5", "w")
    return source(file.create_dataset("x", data=X), file.create_dataset("y", data=IDS))


def zarr_arrays(path):
    zarr = pytest.importorskip("zarr")
    x = zarr.create_array(store={}, shape=X.shape, dtype="f4", chunks=(5, 4))
    y = zarr.create_array(store={}, shape=IDS.shape, dtype="i8", chunks=(5,))
    x[...], y[...] = X, IDS
    return source(x, y)


def hugging_face(path):
    datasets = pytest.importorskip("datasets")
    columns = {"name": list("abcdefghijklmnopqrstuvw"), "x": X, "label": IDS}
    return source(datasets.Dataset.from_dict(columns), columns=["x", "label"])


def torch_tensors(path):
    torch = pytest.importorskip("torch")
    return source(torch.from_numpy(X).requires_grad_(), torch.from_numpy(IDS))


def torch_tensor_dataset(path):
    torch = pytest.importorskip("torch")
    return source(torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(IDS)))


class Examples:
    """A data set of single examples, as for PyTorch and Grain."""

    def __init__(self, item=lambda row: (X[row], IDS[row])):
        self.item = item

    def __len__(self):
        return COUNT

    def __getitem__(self, row):
        assert type(row) is int
        return self.item(row)


def examples(path):
    return source(Examples())


def examples_as_dicts(path):
    return source(Examples(lambda row: {"y": IDS[row], "x": X[row]}), columns=["x", "y"])


SOURCES = [
    memmap, pandas_frame, pandas_mixed_columns, polars_frame, sparse_matrix, sparse_columns,
    sparse_coordinates, h5py_data_sets, zarr_arrays, hugging_face, torch_tensors,
    torch_tensor_dataset, examples, examples_as_dicts,
]  # fmt: skip


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_a_source_trains_to_the_bits_of_the_array(make, tmp_path):
    def train(data, held_out):
        return fit(
            MODEL, LOSS, F.adam(0.1), data, epochs=3, batch_size=5, validation=held_out,
            metrics={"accuracy": F.accuracy}, progress=False,
        )  # fmt: skip

    data = make(tmp_path)
    expected = train((X, IDS), (X, IDS))
    assert same_bits(train(data, data), expected)
    params, sizes = expected[0].params, {"batch_size": 4}
    assert same_bits(predict(MODEL, params, data, **sizes), predict(MODEL, params, X, **sizes))
    assert same_bits(
        evaluate(MODEL, params, data, loss=LOSS, **sizes),
        evaluate(MODEL, params, (X, IDS), loss=LOSS, **sizes),
    )


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_rows_are_returned_in_the_order_of_the_request(make, tmp_path):
    data = make(tmp_path)
    assert len(data) == COUNT
    for rows in (np.array([7, 2, 2, 22, 0]), np.arange(5, 9), np.array([4])):
        x, y = data[rows]
        assert type(x) is np.ndarray
        assert x.flags.writeable
        assert same_bits((x, y), (X[rows], IDS[rows]))
    assert same_bits(data[3:6], (X[3:6], IDS[3:6]))
    assert same_bits(data[-1], (X[-1:], IDS[-1:]))


def test_several_inputs_are_a_tuple():
    x, y, weights = source((X, IDS), IDS, X[:, 0])[np.array([3, 1])]
    assert same_bits((x, y, weights), ((X[[3, 1]], IDS[[3, 1]]), IDS[[3, 1]], X[[3, 1], 0]))
    (pair, _) = source(Examples(lambda row: ((X[row], IDS[row]), IDS[row])))[np.array([3, 1])]
    assert same_bits(pair, (X[[3, 1]], IDS[[3, 1]]))


class Stored:
    """A data set in a file, which reads rows in rising order only."""

    shape, dtype = X.shape, X.dtype

    def __init__(self):
        self.reads = []

    def __getitem__(self, rows):
        self.reads.append(rows)
        assert isinstance(rows, slice) or np.all(np.diff(rows) > 0)
        return X[rows]


def test_rows_of_a_file_are_read_once_in_rising_order():
    stored = Stored()
    data = source(stored, IDS)
    rows = np.array([9, 3, 9, 4])
    assert same_bits(data[rows][0], X[rows])
    assert stored.reads[-1].tolist() == [3, 4, 9]
    data[np.array([6, 5, 7])]
    assert stored.reads[-1] == slice(5, 8)


def test_only_floats_are_converted():
    x, y, flags = source(X.astype(np.float16), IDS, IDS > 1, dtype=np.float64)[:2]
    assert [array.dtype.name for array in (x, y, flags)] == ["float64", "int64", "bool"]


def test_a_table_with_text_or_missing_values_is_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"size": X[:, 0], "city": ["Oslo"] * COUNT, "rank": IDS})
    with pytest.raises(TypeError, match=r"x: the column 'city' must have .*, got (str|object)"):
        source(frame, IDS)
    with pytest.raises(TypeError, match=r"targets\[0\]: the column 'city' must have numbers"):
        source(X, frame["city"])
    with pytest.raises(TypeError, match="the column 'rank' must have numbers, got category"):
        source(frame[["rank"]].astype("category"))
    gaps = pandas.Series([None, *IDS[1:]], dtype="Int64", name="gaps")
    with pytest.raises(ValueError, match=r"the column 'gaps' has 1 missing values.*fillna"):
        source(X, gaps)
    with pytest.raises(ValueError, match="the table has no columns"):
        source(frame[[]], IDS)


def test_a_polars_table_with_text_or_missing_values_is_refused():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"size": X[:, 0], "city": ["Oslo"] * COUNT})
    with pytest.raises(TypeError, match="the column 'city' must have numbers, got String"):
        source(frame, IDS)
    with pytest.raises(ValueError, match=r"the column 'gaps' has 1 missing values.*fill_null"):
        source(X, polars.Series("gaps", [None, *IDS[1:].tolist()]))


def ragged(row):
    return X[row, : 3 + (row == 5)], IDS[row]


def uneven(row):
    return (X[row], IDS[row])[: 1 + (row != 5)]


WRONG = {
    "lengths": (lambda: source(X, IDS[1:]), r"differ: x has 23, targets\[0\] has 22"),
    "lengths of inputs": (lambda: source((X, X[1:]), IDS), r"x has 23, x\[1\] has 22"),
    "no rows": (lambda: source(X[:0], IDS[:0]), "x is empty"),
    "no inputs": (lambda: source(()), "x is empty"),
    "a number": (lambda: source(np.float32(3)), "x is a single number"),
    "a path": (lambda: source("x.npy"), "x: expected an array, a table.*got str"),
    "a dict": (lambda: source({"x": X}), "x: expected an array, a table.*got dict"),
    "a masked array": (lambda: source(np.ma.array(X)), "x: expected a NumPy array, got Masked"),
    "float16": (lambda: source(X.astype(np.float16)), r"first row.*float16.*astype"),
    "texts": (lambda: source(X.astype(str)), r"first row.*astype"),
    "a data type": (lambda: source(X, dtype=np.float16), "expected float32 or float64.*float16"),
    "an int type": (lambda: source(X, dtype=int), "expected float32 or float64.*int64"),
    "targets of a data set": (lambda: source(Examples(), IDS), "pass it alone"),
    "columns of an array": (lambda: source(X, columns=["x"]), "only for data sets"),
    "a string of columns": (lambda: source(Examples(), columns="x"), "a list of names, got 'x'"),
    "columns of tuples": (lambda: source(Examples(), columns=["x"]), "leave columns out"),
    "dicts": (lambda: source(Examples(lambda row: {"x": X[row]})), r"the keys \['x'\]; name"),
    "missing keys": (
        lambda: source(Examples(lambda row: {"x": X[row]}), columns=["x", "y"]),
        r"no 'y' among the keys \['x'\]",
    ),
    "ragged rows": (lambda: source(Examples(ragged))[3:7], r"row 3 is .*\[3\], but row 5 .*\[4\]"),
    "targets of rows": (lambda: source(Examples(uneven))[3:7], r"numbers of targets: \[1, 2\]"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_source_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_missing_column_of_a_data_set_is_refused():
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"x": X, "label": IDS})
    with pytest.raises(ValueError, match="no column 'y', but 'x', 'label'"):
        source(data, columns=["x", "y"])
    with pytest.raises(ValueError, match=r"name the columns.*'x', 'label'"):
        source(data)
