"""Pictures show the data: lines, cells, tiles, points and words."""

import math
import subprocess
import sys

import numpy as np
import pytest

import npdl
import npdl.functional as F
from npdl.callbacks import History

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from npdl import plot, tree

HISTORY = {"loss": [2.0, 1.0, 0.5], "val_loss": [2.5, 1.5, 1.25], "accuracy": [0.2, 0.6, 0.8]}
MATRIX = np.array([[8, 2, 0], [0, 3, 1], [0, 0, 0]])
CNN = F.serial(F.conv2d(5, 3, padding="same"), F.relu(), F.flatten(), F.dense(4))
CNN_PARAMS = CNN.init(0, (2, 6, 7))
IMAGE = np.random.default_rng(0).normal(size=(2, 6, 7)).astype(np.float32)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def drawn(ax):
    """The lines of axes by their labels: x, y, style, colour."""
    return {
        line.get_label(): (
            line.get_xdata().tolist(),
            line.get_ydata().tolist(),
            line.get_linestyle(),
            to_hex(line.get_color()),
        )
        for line in ax.lines
    }


def test_each_metric_has_axes_with_validation_dashed():
    loss, accuracy = plot.learning_curves(HISTORY)
    assert [ax.get_ylabel() for ax in (loss, accuracy)] == ["loss", "accuracy"]
    colour = drawn(loss)["training"][3]
    assert drawn(loss) == {
        "training": ([1, 2, 3], [2.0, 1.0, 0.5], "-", colour),
        "validation": ([1, 2, 3], [2.5, 1.5, 1.25], "--", colour),
    }
    (line,) = drawn(accuracy).values()
    assert line[:3] == ([1, 2, 3], [0.2, 0.6, 0.8], "-")
    assert line[3] != colour


def test_the_history_of_compat_is_drawn_with_its_epochs():
    model = npdl.Model([npdl.layers.Dense(n_out=2, n_in=3), npdl.layers.Softmax(n_out=2)])
    model.compile(loss="scce", optimizer="sgd")
    x, y = np.ones((4, 3)), np.array([0, 1, 1, 0])
    history = model.fit(x, y, epochs=7, initial_epoch=4, verbose=0, validation_data=(x, y))
    assert isinstance(history, History)
    first = plot.learning_curves(history)[0]
    values = drawn(first)
    assert values["training"][:2] == ([5, 6, 7], history.history["loss"])
    assert values["validation"][:2] == ([5, 6, 7], history.history["val_loss"])


def test_a_single_epoch_is_a_mark():
    (ax,) = plot.learning_curves({"loss": [1.5], "val_loss": [1.75]})
    training, validation = ax.lines
    assert training.get_marker() == validation.get_marker() == "o"
    assert training.get_markerfacecolor() != validation.get_markerfacecolor()
    ax.figure.draw_without_rendering()
    assert [tick for tick in ax.get_xticks() if 0.9 < tick < 1.1] == [1]


def test_single_values_between_nans_are_marks():
    nan = float("nan")
    (ax,) = plot.learning_curves({"loss": [1.0, nan, 2.0, 3.0, nan, 4.0], "val_loss": [1, 2]})
    training, validation = ax.lines
    assert training.get_markevery() == [0, 5]
    assert training.get_marker() == "o"
    assert validation.get_marker() == "None"


def test_curves_are_drawn_into_the_given_axes():
    given = Figure().subplots(1, 2)
    assert plot.learning_curves(HISTORY, ax=given) == tuple(given)
    assert [len(ax.lines) for ax in given] == [2, 1]


def test_cells_show_counts_coloured_by_their_share_of_the_row():
    ax = plot.confusion_matrix(MATRIX, labels=["cat", "dog", "eel"])
    assert texts(ax) == ["8", "2", "0", "0", "3", "1", "0", "0", "0"]
    assert [text.get_position() for text in ax.texts[:4]] == [(0, 0), (1, 0), (2, 0), (0, 1)]
    np.testing.assert_allclose(
        ax.images[0].get_array(), [[0.8, 0.2, 0], [0, 0.75, 0.25], [0, 0, 0]]
    )
    for axis in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in axis] == ["cat", "dog", "eel"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


def test_the_numbers_of_cells_stay_inside_them_in_small_axes_too():
    given = Figure(figsize=(2.5, 2.5)).subplots()
    ax = plot.confusion_matrix(np.full((9, 9), 12345), ax=given)
    ax.figure.draw_without_rendering()
    cell = ax.get_window_extent().width / 9
    widths = [text.get_window_extent().width for text in ax.texts]
    assert max(widths) <= cell
    assert min(widths) > cell / 4


def test_filters_are_tiles_row_by_row_on_one_scale():
    weight = np.arange(-20, 16, dtype=np.float32).reshape(4, 1, 3, 3)
    ax = plot.filters(weight, columns=3)
    image = ax.images[0].get_array().filled(np.nan)
    assert image.shape == (7, 11)
    np.testing.assert_array_equal(image[:3, :3], weight[0, 0])
    np.testing.assert_array_equal(image[:3, 8:], weight[2, 0])
    np.testing.assert_array_equal(image[4:, :3], weight[3, 0])
    assert np.isnan(image[3]).all()
    assert np.isnan(image[4:, 3:]).all()
    assert ax.images[0].get_clim() == (-20, 20)


def test_filters_of_three_channels_are_colours_around_zero():
    weight = np.zeros((2, 3, 4, 4))
    weight[1, 0], weight[1, 2] = 2.0, -1.0
    image = plot.filters(weight).images[0].get_array()
    np.testing.assert_allclose(image[:4, :4], 0.5)
    np.testing.assert_allclose(image[0, 6], [1.0, 0.5, 0.25])


def test_filters_of_zeros_are_white():
    assert plot.filters(np.zeros((1, 1, 2, 2))).images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize("layer", [1, -3])
def test_feature_maps_are_the_outputs_of_the_layer(layer):
    ax = plot.feature_maps(CNN, CNN_PARAMS, IMAGE, layer=layer, columns=5)
    expected = F.serial(*CNN.call.positional[:2])(CNN_PARAMS[:2], IMAGE[None])[0]
    image = ax.images[0].get_array().filled(np.nan)
    tiles = [image[:, 8 * i : 8 * i + 7] for i in range(5)]
    np.testing.assert_allclose(tiles, expected)
    assert ax.get_title() == "1: relu()"


def test_points_are_the_principal_components():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    spread = rng.normal(size=(40, 5)) * [5, 3, 0.1, 0.1, 0.1]
    table = spread @ axes.T + 7
    ax = plot.embedding(table)
    points = np.array(ax.lines[0].get_data())
    variances = np.linalg.eigvalsh(np.cov(table.T))[::-1]
    np.testing.assert_allclose(points.var(1, ddof=1), variances[:2])
    # The plane keeps the distances of points that differ nowhere else.
    lost = np.ptp(spread[:, 2:], axis=0).max()
    between = np.linalg.norm(points[:, 3] - points[:, 8])
    assert abs(between - np.linalg.norm(table[3] - table[8])) < lost
    shares = variances / variances.sum()
    assert ax.get_xlabel() == f"component 1 ({100 * shares[0]:.0f} % of the variance)"
    assert ax.get_ylabel() == f"component 2 ({100 * shares[1]:.0f} % of the variance)"


def test_labels_that_repeat_are_classes():
    table = np.random.default_rng(0).normal(size=(30, 4))
    classes = np.arange(30) % 10
    ax = plot.embedding(table, classes)
    every = np.array(plot.embedding(table).lines[0].get_data())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list("0123456789")
    looks = set()
    for k, line in enumerate(ax.lines):
        np.testing.assert_array_equal(line.get_data(), every[:, classes == k])
        looks.add((line.get_color(), line.get_marker()))
    assert len(looks) == len({colour for colour, _ in looks}) == 10


def test_more_classes_than_colours_have_other_marks():
    table, names = np.random.default_rng(0).normal(size=(60, 4)), np.array(["a long name"] * 60)
    ax = plot.embedding(table, [f"{name} {i % 30}" for i, name in enumerate(names)])
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 30
    ax.figure.draw_without_rendering()
    assert ax.get_window_extent().width > 4.5 * ax.figure.dpi


def test_words_are_next_to_their_points_and_never_overlap():
    table = np.random.default_rng(1).normal(size=(40, 6))
    words = [f"word{i}" for i in range(40)]
    ax = plot.embedding(table, words)
    points = np.array(ax.lines[0].get_data()).T
    for text in ax.texts:
        np.testing.assert_array_equal(text.xy, points[words.index(text.get_text())])
    assert len(ax.texts) > 30
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("count", [3, 4])
def test_dollars_in_labels_are_not_mathematics(count, tmp_path):
    labels = ["$$", "$\\frac{$", "a$b$", "$$"][:count]
    for name, ax in {
        "words": plot.embedding(np.eye(count), labels),
        "matrix": plot.confusion_matrix(np.eye(count), labels),
        "graph": plot.graph(F.graph("$\\frac{$", {"$$": (F.relu(), "$\\frac{$")}, "$$"), (3,)),
    }.items():
        ax.figure.savefig(tmp_path / f"{name}.png")


def test_gradients_are_marked_by_path_and_missing_ones_listed():
    grads = (
        {"weight": np.array([[3e-4, -4e-4]], np.float32), "bias": np.zeros(2)},
        None,
        {"table": np.array([1.0, np.inf]), "scale": np.array([1e-30, 1e-30], np.float32)},
    )
    ax = plot.gradient_flow(grads)
    paths = [label.get_text() for label in ax.get_yticklabels()]
    assert paths == ["0/bias", "0/weight", "2/scale", "2/table"]
    rms, mean = (line.get_xdata() for line in ax.lines)
    np.testing.assert_allclose(rms, [np.nan, 1e-4 * 12.5**0.5, 1e-30, np.nan], rtol=1e-6)
    np.testing.assert_allclose(mean, [np.nan, 3.5e-4, 1e-30, np.nan], rtol=1e-6)
    assert [(text.get_text(), text.get_position()[1]) for text in ax.texts] == [
        ("zero", 0),
        ("not finite", 3),
    ]
    assert ax.get_xscale() == "log"
    low, high = ax.get_xlim()
    assert low < 1e-30 < 3.5e-4 < high


def test_outputs_and_gradients_of_layers_are_marked_by_path():
    model = F.serial(F.dense(2, bias=False), F.relu(), F.tanh())
    params = ({"weight": np.array([[3.0, -4.0]])}, (), ())
    x = np.array([[1.0]])
    ax = plot.layer_flow(F.trace_layers(model, params, x, lambda y: (0.0, np.ones_like(y))))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0].startswith("0: dense")
    assert labels[1:] == ["1: relu()", "2: tanh()"]
    output, gradient = (line.get_xdata() for line in ax.lines)
    np.testing.assert_allclose(output, [12.5**0.5, 4.5**0.5, np.tanh(3) / 2**0.5])
    slope = 1 - np.tanh(3) ** 2
    np.testing.assert_allclose(gradient, [slope / 2**0.5, ((slope**2 + 1) / 2) ** 0.5, 1])
    ax = plot.layer_flow(F.trace_layers(model, params, x))
    assert np.isnan(ax.lines[1].get_xdata()).all()
    assert not ax.texts


LONG = [f"a name of a class in forty letters, no {i:02}" for i in range(12)]
NUMBERS = np.random.default_rng(0).normal(size=(12, 4))
NAN, INF = float("nan"), float("inf")


def small():
    return Figure(figsize=(2, 2), layout="constrained").subplots()


# Each is drawn without a warning.
UNUSUAL = {
    "labels of 40 letters": lambda: plot.confusion_matrix(np.eye(2), LONG[:2]),
    "twelve of them": lambda: plot.confusion_matrix(np.eye(12), LONG),
    "labels of 5000 letters": lambda: plot.confusion_matrix(np.eye(2), ["x" * 5000, "y"]),
    "labels in small axes": lambda: plot.confusion_matrix(np.eye(3), LONG[:3], ax=small()),
    "labels of several lines": lambda: plot.confusion_matrix(np.eye(2), ["a\nb", "\n\n"]),
    "labels without letters": lambda: plot.confusion_matrix(np.eye(2), ["", ""]),
    "one class": lambda: plot.confusion_matrix([[3]]),
    "no example": lambda: plot.confusion_matrix(np.zeros((2, 2))),
    "huge counts": lambda: plot.confusion_matrix(np.full((3, 3), 1e300)),
    "tiny shares": lambda: plot.confusion_matrix(np.full((3, 3), 5e-324)),
    "huge vectors": lambda: plot.embedding(NUMBERS * 1e200),
    "the largest vectors": lambda: plot.embedding(NUMBERS / np.abs(NUMBERS).max() * 1e300),
    "tiny vectors": lambda: plot.embedding(NUMBERS * 1e-310),
    "vectors far away": lambda: plot.embedding(NUMBERS + 1e250),
    "equal vectors": lambda: plot.embedding(np.full((5, 3), 1e200), list("abcde")),
    "huge vectors with words": lambda: plot.embedding(NUMBERS * 1e200, LONG),
    "words of 5000 letters": lambda: plot.embedding(NUMBERS[:2], ["x" * 5000, "y"]),
    "classes of 5000 letters": lambda: plot.embedding(NUMBERS, ["x" * 5000] * 12),
    "classes without a name": lambda: plot.embedding(NUMBERS, ["", "_a"] * 6),
    "two points": lambda: plot.embedding(np.eye(2)),
    "a loss that is NaN": lambda: plot.learning_curves({"loss": [NAN, NAN]})[0],
    "a loss that overflows": lambda: plot.learning_curves({"loss": [1, 1e308, -INF]})[0],
    "huge losses": lambda: plot.learning_curves({"loss": [1e308, 1e308], "val_loss": [1]})[0],
    "large losses": lambda: plot.learning_curves({"loss": [1e300, -1e300]})[0],
    "tiny losses": lambda: plot.learning_curves({"loss": [5e-324, 1e-320]})[0],
    "a metric of 5000 letters": lambda: plot.learning_curves({"x" * 5000: [1, 2]})[0],
    "a metric of dollars": lambda: plot.learning_curves({"$\\frac{$": [1, 2]})[0],
    "huge and tiny gradients": lambda: plot.gradient_flow(
        [np.full(3, 1.7e308), np.full(2, 5e-324)]
    ),
    "gradients far apart": lambda: plot.gradient_flow([np.full(3, 1e139), np.full(2, 1e-139)]),
    "gradients of zero": lambda: plot.gradient_flow([np.zeros(2), np.zeros((0, 2))]),
    "paths of 5000 letters": lambda: plot.gradient_flow({"x" * 5000: np.ones(2)}),
    "paths of dollars": lambda: plot.gradient_flow({"$\\frac{$": np.ones(2)}),
    "huge filters": lambda: plot.filters(np.array([1e300, -1e300]).reshape(1, 1, 1, 2)),
    "tiny filters": lambda: plot.filters(np.full((2, 3, 2, 2), 5e-324)),
    "one number": lambda: plot.filters(np.ones((1, 1, 1, 1))),
    "maps of zeros": lambda: plot.feature_maps(CNN, CNN_PARAMS, 0 * IMAGE, 1),
    "huge maps": lambda: plot.feature_maps(CNN, CNN_PARAMS, np.float32(1e37) * IMAGE, 0),
    "long names of nodes": lambda: plot.graph(
        F.graph("x" * 90, {"y": (F.relu(), "x" * 90)}, "y"), (3,)
    ),
}


@pytest.mark.parametrize("picture", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_names_and_numbers_are_drawn_without_a_warning(picture, tmp_path):
    ax = picture()
    ax.figure.figure.savefig(tmp_path / "picture.png", dpi=40)
    assert ax.get_window_extent().width > 20 * 40 / 72


def test_long_labels_keep_both_ends():
    ax = plot.confusion_matrix(np.eye(2), ["first " + "x" * 500 + " end", "short"])
    for axis in (ax.get_xticklabels(), ax.get_yticklabels()):
        long, short = [label.get_text() for label in axis]
        assert short == "short"
        assert long.startswith("first x")
        assert long.endswith("x end")
        assert "…" in long
    points = np.array(plot.embedding(NUMBERS * 1e200).lines[0].get_data())
    np.testing.assert_allclose(
        points, 1e200 * np.array(plot.embedding(NUMBERS).lines[0].get_data())
    )


def test_many_classes_have_a_picture_without_numbers():
    ax = plot.confusion_matrix(np.eye(300))
    assert not ax.texts
    assert [label.get_text() for label in ax.get_xticklabels()][:3] == ["0", "5", "10"]


def test_gradients_beyond_the_axis_say_so():
    ax = plot.gradient_flow([np.full(3, 1e200), np.full(2, 1e-200), np.ones(1)])
    assert texts(ax) == ["above 1e+140", "below 1e-140"]


TRACED = F.trace_layers(
    F.serial(F.dense(3), F.residual(F.tanh()), F.lstm(2, return_state=True)),
    F.serial(F.dense(3), F.residual(F.tanh()), F.lstm(2, return_state=True)).init(0, (4, 5)),
    np.ones((2, 4, 5), np.float32),
    lambda y: (0.0, tree.map(np.zeros_like, y)),
)

PICTURES = {
    "confusion_matrix": lambda ax: plot.confusion_matrix(MATRIX, ax=ax),
    "embedding": lambda ax: plot.embedding(np.eye(3), list("abc"), ax=ax),
    "feature_maps": lambda ax: plot.feature_maps(CNN, CNN_PARAMS, IMAGE, 0, ax=ax),
    "filters": lambda ax: plot.filters(np.ones((2, 3, 2, 2)), ax=ax),
    "gradient_flow": lambda ax: plot.gradient_flow(CNN_PARAMS, ax=ax),
    "graph": lambda ax: plot.graph(CNN, (2, 6, 7), ax=ax),
    "layer_flow": lambda ax: plot.layer_flow(TRACED, ax=ax),
    "learning_curves": lambda ax: plot.learning_curves({"loss": [2, 1]}, ax=ax)[0],
}


def test_each_picture_is_in_the_table():
    assert sorted(PICTURES) == plot.__all__


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_drawn_into_passed_axes_or_a_new_figure(picture, tmp_path):
    given = Figure().subplots()
    assert picture(given) is given
    assert given.lines or given.images or given.patches
    own = picture(None)
    assert own is not given
    own.figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_values_other_than_axes_are_refused(picture):
    with pytest.raises(TypeError, match="ax must be axes of Matplotlib"):
        picture(3)


def test_pictures_need_no_pyplot():
    program = "import sys; from npdl import plot; plot.filters([[[[1.0]]]]); print(*sys.modules)"
    loaded = subprocess.check_output(
        [sys.executable, "-c", program], text=True, encoding="utf-8"
    ).split()
    assert "matplotlib.figure" in loaded
    assert "matplotlib.pyplot" not in loaded


NOT_NUMBERS = {
    "a string of digits": ([1.0, "0.5"], "got '0.5' at index 1"),
    "strings in an array": (np.array(["1", "2"]), "at index 0"),
    "None": ([None, 1.0], "got None at index 0"),
    "ragged": ([1.0, [2.0, 3.0]], r"got \[2.0, 3.0\] at index 1"),
    "ragged within": ([[1.0, [2.0]], 1.0], "at index 0"),
    "two axes": (np.ones((2, 2)), "at index 0"),
    "complex": ([1.0, 1j], "got 1j at index 1"),
    "masked": (np.ma.array([1.0, 2.0], mask=[False, True]), "at index 1"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), "at index 0"),
    "an object": ([1.0, object()], "at index 1"),
}


@pytest.mark.parametrize(("values", "message"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
@pytest.mark.parametrize("name", ["loss", "val_loss", "accuracy"])
def test_invalid_entries_are_named(values, message, name):
    with pytest.raises(TypeError, match=f"'{name}' must be a list of numbers.*{message}"):
        plot.learning_curves({"loss": [1.0, 0.5], name: values})


@pytest.mark.parametrize("values", ["12", {"1": 2}, np.array(1.0), None, (), np.ones(0)], ids=repr)
def test_a_figure_without_a_list_of_numbers_is_refused(values):
    with pytest.raises(ValueError, match="'loss' must have a number per epoch"):
        plot.learning_curves({"loss": values})


def test_numbers_of_all_kinds_are_drawn():
    values = (1, 2.5, np.float32(3), np.int8(4), np.array(5.0), True, math.nan, 10**400)
    (axes,) = plot.learning_curves({"loss": values})
    drawn = axes.get_lines()[0].get_ydata()
    np.testing.assert_array_equal(drawn, [1, 2.5, 3, 4, 5, 1, np.nan, np.inf])
    with pytest.raises(TypeError, match="the name of a metric must be a string, got 1"):
        plot.learning_curves({1: values})


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'npdl-functional\[plot\]'"):
        plot.confusion_matrix(MATRIX)


TWO = Figure().subplots(1, 2)
BAD = {
    "no history": (lambda: plot.learning_curves([1, 2]), TypeError, "expected the history of fit"),
    "empty history": (lambda: plot.learning_curves({}), ValueError, "the history is empty"),
    "words": (lambda: plot.learning_curves({"loss": ["a"]}), TypeError, "'loss' must be a list"),
    "a number": (lambda: plot.learning_curves({"loss": 1.0}), ValueError, "per epoch, got 1"),
    "no epochs": (lambda: plot.learning_curves({"loss": []}), ValueError, "per epoch, got []"),
    "axes": (
        lambda: plot.learning_curves({"loss": [1]}, ax=TWO),
        ValueError,
        "the history has 1 metrics (loss), but ax has 2 axes",
    ),
    "not square": (
        lambda: plot.confusion_matrix(np.ones((2, 3))),
        ValueError,
        "must be square, [true, predicted]",
    ),
    "negative": (lambda: plot.confusion_matrix([[1, -2], [0, 1]]), ValueError, "number -2"),
    "vector": (lambda: plot.confusion_matrix([1, 2]), ValueError, "must have 2 axes"),
    "empty": (lambda: plot.confusion_matrix(np.ones((0, 0))), ValueError, "at least one number"),
    "strings": (lambda: plot.confusion_matrix([["a"]]), TypeError, "must be an array of numbers"),
    "labels": (lambda: plot.confusion_matrix(MATRIX, "ab"), ValueError, "2 labels for 3 classes"),
    "channels": (
        lambda: plot.filters(np.ones((2, 5, 3, 3))),
        ValueError,
        "but the filters have 5; choose one, such as weight[:, :1]",
    ),
    "dense weight": (lambda: plot.filters(np.ones((2, 5))), ValueError, "must have 4 axes"),
    "NaN": (
        lambda: plot.filters(np.full((1, 1, 2, 2), np.nan)),
        ValueError,
        "has NaN or infinite numbers",
    ),
    "huge table": (
        lambda: plot.embedding(np.full((3, 3), 1.7e308)),
        ValueError,
        "the table has numbers beyond 1e+300, the limit of an axis",
    ),
    "infinite image": (
        lambda: plot.feature_maps(CNN, CNN_PARAMS, IMAGE * np.float32(INF), 0),
        ValueError,
        "the image has NaN or infinite numbers",
    ),
    "columns": (
        lambda: plot.filters(np.ones((1, 1, 2, 2)), columns=0),
        ValueError,
        "filters: columns must be a positive int, as in filters(…, columns=8), got 0",
    ),
    "not serial": (
        lambda: plot.feature_maps(F.relu(), (), IMAGE, 0),
        TypeError,
        "expected a serial(...), got relu()",
    ),
    "no such layer": (
        lambda: plot.feature_maps(CNN, CNN_PARAMS, IMAGE, 4),
        ValueError,
        "one of the 4 layers, 0 to 3, got 4",
    ),
    "other params": (
        lambda: plot.feature_maps(CNN, CNN_PARAMS[:2], IMAGE, 0),
        ValueError,
        "feature_maps: expected the parameters of 4 layers",
    ),
    "a batch": (
        lambda: plot.feature_maps(CNN, CNN_PARAMS, IMAGE[None], 0),
        ValueError,
        "expected one image (channels, height, width), got float32[1, 2, 6, 7]",
    ),
    "no map": (
        lambda: plot.feature_maps(CNN, CNN_PARAMS, IMAGE, 2),
        ValueError,
        "the output of 2: flatten() is float32[1, 210], expected (batch, channels",
    ),
    "one row": (lambda: plot.embedding(np.ones((1, 3))), ValueError, "needs two rows and two"),
    "names": (lambda: plot.embedding(np.eye(3), ["a"]), ValueError, "1 labels for 3 rows"),
    "classes": (
        lambda: plot.embedding(np.eye(120), np.arange(120) % 60),
        ValueError,
        "60 classes; at most 50 are distinguishable",
    ),
    "no gradient": (lambda: plot.gradient_flow((None, ())), ValueError, "the tree has no gradient"),
    "no trace": (lambda: plot.layer_flow({}), TypeError, "F.trace_layers(model, params, x, loss)"),
    "gradient of words": (
        lambda: plot.gradient_flow({"a": np.array(["b"])}),
        TypeError,
        "a must be an array of numbers, got <U1",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_inputs_are_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
