"""The picture of a model: its boxes without overlaps, and the boxes that each arrow connects."""

import itertools

import numpy as np
import pytest
from cases import CASES

import npdl.functional as F
from npdl import tree

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from npdl import plot

RESIDUAL = F.serial(F.dense(8), F.residual(F.relu(), F.dense(8)), F.dense(3))
BRANCHES = F.serial(
    F.parallel(
        F.serial(F.conv2d(4, 1), F.relu()),
        F.conv2d(6, 3, padding="same"),
        F.residual(F.conv2d(2, 3, padding="same")),
        join="concatenate",
        axis=1,
    ),
    F.freeze(F.serial(F.flatten(), F.dense(5))),
)
GRAPH = F.graph(
    ("source", "mask"),
    {
        "words": (F.embedding(50, 8), "source"),
        "thought": (F.lstm(6), ("words", "mask")),
        "aside": (F.serial(F.lstm(9), F.relu()), ("words", "mask")),
        "scores": (F.dense(4), "aside"),
    },
    ("scores", "thought"),
)
NESTED = F.residual(
    F.residual(F.dense(4)),
    F.parallel(F.dense(4), F.residual(F.dense(4), F.tanh())),
)
STACK = F.stack(F.lstm(8, return_sequence=True), F.lstm(4, return_sequence=True))


def boxes(ax):
    """The text and the rectangle (left, right, top, bottom) of each box; texts of a box joined."""
    found = []
    for patch in ax.patches:
        if isinstance(patch, FancyBboxPatch) and patch.get_linestyle() == "-":
            left, right = patch.get_x(), patch.get_x() + patch.get_width()
            top, bottom = patch.get_y(), patch.get_y() + patch.get_height()
            inside = [
                text.get_text()
                for text in ax.texts
                if left < text.get_position()[0] < right and top < text.get_position()[1] < bottom
            ]
            found.append(("|".join(inside), (left, right, top, bottom)))
    return found


def frames(ax):
    return [
        (p.get_gid(), p.get_x(), p.get_x() + p.get_width(), p.get_y(), p.get_y() + p.get_height())
        for p in ax.patches
        if isinstance(p, FancyBboxPatch) and p.get_linestyle() == "--"
    ]


def lines(ax):
    """The points of each arrow, the first and last ones those that it connects."""
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    return [arrow._path_original for arrow in arrows]


def connected(ax):
    """Which box leads to which: arrows followed through the borders of frames."""
    places = boxes(ax)

    def box_at(point, side):
        for name, (left, right, top, bottom) in places:
            edge = bottom if side == "below" else top
            if left < point[0] < right and abs(point[1] - edge) < 1e-6:
                return name
        return None

    pieces = [(path.vertices[0], path.vertices[-1]) for path in lines(ax)]
    found = set()

    def follow(source, point):
        target = box_at(point, "above")
        if target is not None:
            found.add((source, target))
            return
        onward = [end for start, end in pieces if np.allclose(start, point, atol=1e-6)]
        assert onward, f"an arrow from {source} ends nowhere, at {point}"
        for end in onward:
            follow(source, end)

    for start, end in pieces:
        source = box_at(start, "below")
        if source is not None:
            follow(source, end)
    return found


C4, C6 = (
    "conv2d(filters=4, kernel_size=1)|4 × 7 × 6",
    "conv2d(filters=6, kernel_size=3,|padding='same')|6 × 7 × 6",
)
WORDS = "embedding(vocabulary=50,|units=8)|7 × 8"
FIRST, SECOND = (f"lstm(units={n},|return_sequence=True)|5 × {n}" for n in (8, 4))
FORWARD, REVERSE = "gru(units=4)|4", "gru(units=4, reverse=True)|4"
# Chains of boxes, separated by arrows.
TABLE = {
    "a single layer": (F.dense(3), (4,), "input|4 → dense(units=3)|3 → output|3"),
    "a residual": (
        RESIDUAL,
        (5,),
        "input|5 → dense(units=8)|8 → relu|8 → dense(units=8)|8 → + → dense(units=3)|3 → output|3",
        "dense(units=8)|8 → +",
    ),
    "branches": (
        BRANCHES,
        (2, 7, 6),
        f"input|2 × 7 × 6 → {C4} → relu|4 × 7 × 6 → concatenate|12 × 7 × 6",
        f"input|2 × 7 × 6 → {C6} → concatenate|12 × 7 × 6 → flatten|504 → dense(units=5)|5",
        f"input|2 × 7 × 6 → {C6.replace('6', '2', 1).replace('|6', '|2')} → +",
        "input|2 × 7 × 6 → + → concatenate|12 × 7 × 6",
        "dense(units=5)|5 → output|5",
    ),
    "a graph": (
        GRAPH,
        ((7,), (7,)),
        f"source|7 → {WORDS} → lstm(units=6)|6 → thought|6",
        f"{WORDS} → lstm(units=9)|9 → relu|9 → dense(units=4)|4 → scores|4",
        "mask|7 → lstm(units=6)|6",
        "mask|7 → lstm(units=9)|9",
    ),
    "unused layers": (
        F.serial(F.graph("x", {"y": (F.dense(3), "x"), "z": (F.tanh(), "y")}, "y"), F.relu()),
        (3,),
        "input|3 → dense(units=3)|3 → relu|3 → output|3",
        "dense(units=3)|3 → tanh|3",
    ),
    "a sum with a name": (
        F.graph("x", {"y": (F.dense(3), "x"), "z": (F.add(), ("x", "y"))}, "z"),
        (3,),
        "x|3 → dense(units=3)|3 → + → z|3",
        "x|3 → +",
    ),
    "a stack with a mask": (
        STACK,
        ((5, 3), (5,)),
        f"input 0|5 × 3 → {FIRST} → {SECOND} → output|5 × 4",
        f"input 1|5 → {FIRST}",
        f"input 1|5 → {SECOND}",
    ),
    "both directions": (
        F.bidirectional(F.gru(4)),
        ((5, 3), (5,)),
        f"x|5 × 3 → {FORWARD} → concatenate|8 → output|8",
        f"x|5 × 3 → {REVERSE} → concatenate|8",
        f"mask|5 → {FORWARD}",
        f"mask|5 → {REVERSE}",
    ),
    "branches that stay apart": (
        F.parallel(F.dense(3), F.dense(2), join=None),
        (4,),
        "input|4 → dense(units=3)|3 → output 0|3",
        "input|4 → dense(units=2)|2 → output 1|2",
    ),
    "nothing": (F.serial(), (3,), "input|3 → serial|3 → output|3"),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_arrows_connect_the_boxes_of_layers_as_the_model_does(row):
    model, shape, *chains = row
    expected = {pair for chain in chains for pair in itertools.pairwise(chain.split(" → "))}
    assert connected(plot.graph(model, shape)) == expected


def overlap(a, b):
    return min(a[1], b[1]) - max(a[0], b[0]) > 0.01 and min(a[3], b[3]) - max(a[2], b[2]) > 0.01


def within(a, b):
    """Whether a rectangle is in another, by less than the width of a line."""
    return b[0] < a[0] and a[1] < b[1] and b[2] <= a[2] and a[3] <= b[3]


# Of the layers that all tests share, those made of others.
COMBINED = {
    name: (case.layer, case.shape)
    for name, case in CASES.items()
    if any(isinstance(part, F.Layer) for part in tree.leaves(case.layer.call.positional))
    or case.layer.call.name in ("graph", "freeze")
}
DRAWN = COMBINED | {name: row[:2] for name, row in TABLE.items()} | {"nested": (NESTED, (4,))}


@pytest.mark.parametrize(("model", "shape"), DRAWN.values(), ids=DRAWN)
def test_boxes_and_frames_are_apart_and_arrows_pass_them(model, shape):
    ax = plot.graph(model, shape)
    places = [place for _, place in boxes(ax)]
    assert len(places) >= 2
    assert not any(overlap(a, b) for a, b in itertools.combinations(places, 2))
    for _, *frame in frames(ax):
        assert all(within(box, frame) or not overlap(box, frame) for box in places)
        for _, *other in frames(ax):
            if other != frame:
                nested = within(frame, other) or within(other, frame)
                assert nested or not overlap(frame, other)
    ax.figure.draw_without_rendering()
    titles = [text.get_window_extent() for text in ax.texts if text.get_ha() == "left"]
    areas = [title.transformed(ax.transData.inverted()).extents for title in titles]
    places += [(left, right, top, bottom) for left, bottom, right, top in areas]
    for path in lines(ax):
        assert (np.diff(path.vertices[:, 1]) >= -1e-9).all()
        points = path.to_polygons(closed_only=False)[0]
        x, y = np.linspace(points[:-1], points[1:], 20).reshape(-1, 2).T
        for left, right, top, bottom in places:
            inside = (left < x) & (x < right) & (top + 0.01 < y) & (y < bottom - 0.01)
            assert not inside.any()


def test_a_chain_and_the_way_through_a_residual_are_straight():
    ax = plot.graph(RESIDUAL, (5,))
    middles = [(place[0] + place[1]) / 2 for _, place in boxes(ax)]
    assert np.ptp(middles) < 1


def test_boxes_and_frames_have_the_paths_of_the_parameters():
    ax = plot.graph(BRANCHES, (2, 7, 6))
    named = {patch.get_gid() for patch in ax.patches} - {None, ""}
    assert named == {"0", "0/0", "0/0/0", "0/0/1", "0/1", "0/2", "0/2/0", "1", "1/0", "1/1"}
    assert {gid for gid, *_ in frames(ax)} == {"0", "0/0", "0/2", "1"}
    labels = [text.get_text() for text in ax.texts]
    for label, count in (("parallel", 1), ("serial", 2), ("residual", 1), ("freeze", 1)):
        assert labels.count(label) == count


def test_layers_with_parameters_have_another_colour():
    ax = plot.graph(F.serial(F.dense(3), F.relu(), F.batch_norm()), (4,))
    colours = {patch.get_gid(): patch.get_facecolor() for patch in ax.patches if patch.get_gid()}
    assert colours["0"] == colours["2"] != colours["1"]


@pytest.mark.parametrize("size", [2.0, 5.0, 20.0])
def test_texts_fit_into_their_boxes_in_axes_of_any_size(size):
    given = Figure(figsize=(size, size)).subplots()
    ax = plot.graph(BRANCHES, (2, 7, 6), ax=given)
    ax.figure.draw_without_rendering()
    inverse = ax.transData.inverted()
    for name, (left, right, _, _) in boxes(ax):
        for text in ax.texts:
            if text.get_text() in name.split("|") and left < text.get_position()[0] < right:
                box = text.get_window_extent().transformed(inverse)
                assert box.width < right - left


def test_a_combinator_that_does_not_declare_its_parts_is_a_box():
    @F.layer
    def twice(inner):
        def init(rng, shape):
            return inner.init(rng, shape)

        def apply(params, x):
            return 2 * inner(params, x), x

        def backward(params, x, g):
            _, cache = inner.apply(params, x)
            return inner.backward(params, cache, 2 * g)

        return F.Layer(init, apply, backward)

    ax = plot.graph(F.serial(twice(F.dense(3))), (4,))
    assert [name for name, _ in boxes(ax)] == [
        "input|4",
        "twice(inner=dense(units=3))|3",
        "output|3",
    ]


def test_long_calls_are_cut():
    inner = F.conv1d(7, 3, padding="same", weight_init=F.he_uniform(), bias_init=F.constant(0.5))
    ax = plot.graph(F.serial(F.freeze(inner)), (5, 3))
    (_, name, _) = sorted(boxes(ax), key=lambda box: box[1][2])
    assert name[0].endswith("…)|7 × 3")


BAD = {
    "no layer": (lambda: plot.graph([1], (3,)), TypeError, "expected a layer, got [1]"),
    "no shape": (lambda: plot.graph(F.dense(3), 3), TypeError, "the shape of one example"),
    "axes": (lambda: plot.graph(F.dense(3), (3,), ax="a"), TypeError, "ax must be axes"),
    "another shape": (lambda: plot.graph(NESTED, (5,)), ValueError, "residual: the layers turn"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_inputs_are_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
