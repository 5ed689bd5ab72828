"""The table of a model: its rows, its totals, and how it looks as text and as HTML."""

import io
import textwrap
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from cases import CASES

import npdl
import npdl.functional as F
from npdl import tree

CNN = F.serial(
    F.conv2d(6, 3, padding="same"),
    F.batch_norm(),
    F.max_pool2d(2),
    F.flatten(),
    F.freeze(F.dense(10)),
)
TABLES = {
    "a convolutional network, a part of it frozen": (
        CNN,
        (1, 8, 8),
        """
        layer                                           output            trained  not trained
        --------------------------------------------------------------------------------------
        input                                           (batch, 1, 8, 8)
        serial                                          (batch, 10)
          0: conv2d(filters=6, kernel_size=3, padd...)  (batch, 6, 8, 8)       60
          1: batch_norm()                               (batch, 6, 8, 8)       12           13
          2: max_pool2d(size=2)                         (batch, 6, 4, 4)
          3: flatten()                                  (batch, 96)
          4: freeze                                     (batch, 10)
            dense(units=10)                             (batch, 10)                        970
        --------------------------------------------------------------------------------------
        1,055 parameters, 4.22 kB; 72 are trained, 983 are not
        """,
    ),
    "a residual": (
        F.serial(F.residual(F.dense(8), F.tanh(), F.dense(4)), F.dense(3)),
        (4,),
        """
        layer                  output      parameters
        ---------------------------------------------
        input                  (batch, 4)
        serial                 (batch, 3)
          0: residual          (batch, 4)
            0: dense(units=8)  (batch, 8)          40
            1: tanh()          (batch, 8)
            2: dense(units=4)  (batch, 4)          36
          1: dense(units=3)    (batch, 3)          15
        ---------------------------------------------
        91 parameters, 364 bytes
        """,
    ),
    "a graph of two inputs": (
        F.graph(
            ("words", "mask"),
            {
                "vectors": (F.embedding(50, 8), "words"),
                "thought": (F.lstm(6), ("vectors", "mask")),
            },
            "thought",
        ),
        ((7,), (7,)),
        """
        layer                                           output                    parameters
        ------------------------------------------------------------------------------------
        input                                           ((batch, 7), (batch, 7))
        graph(inputs=('words', 'mask'), outputs='t...)  (batch, 6)
          vectors: embedding(vocabulary=50, units=8)    (batch, 7, 8)                    400
          thought: lstm(units=6)                        (batch, 6)                       360
        ------------------------------------------------------------------------------------
        760 parameters, 3.04 kB
        """,
    ),
    "both directions": (
        F.bidirectional(F.gru(5)),
        (None, 3),
        """
        layer                            output            parameters
        -------------------------------------------------------------
        input                            (batch, None, 3)
        bidirectional                    (batch, 10)
          0: gru(units=5)                (batch, 5)               150
          1: gru(units=5, reverse=True)  (batch, 5)               150
        -------------------------------------------------------------
        300 parameters, 1.2 kB
        """,
    ),
    "nothing to train": (
        F.relu(),
        (),
        """
        layer   output    parameters
        ----------------------------
        input   (batch,)
        relu()  (batch,)
        ----------------------------
        no parameters
        """,
    ),
}


@pytest.mark.parametrize(("model", "shape", "expected"), TABLES.values(), ids=TABLES)
def test_a_summary_prints_as_a_table(model, shape, expected):
    assert repr(F.summary(model, shape)) == textwrap.dedent(expected).strip()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_layer_has_a_summary_with_its_shape_and_numbers(case):
    summary = F.summary(case.layer, case.shape)
    params = case.layer.init(0, case.shape)
    untrained = [leaf for path, leaf in tree.items(params) if path in case.untrained]
    assert summary.rows[0].shape == case.layer.out_shape(case.shape)
    assert summary.count == tree.count(params)
    assert summary.untrained == tree.count(untrained)
    assert summary.bytes == sum(leaf.nbytes for leaf in tree.leaves(params))


def test_a_user_s_combinator_shows_the_parts_that_it_declares():
    @F.layer
    def twice(inner):
        def apply(params, x):
            y, first = inner.apply(params, x)
            y, second = inner.apply(params, y)
            return y, (first, second)

        def backward(params, caches, g):
            grads, g = inner.backward(params, caches[1], g)
            more, g = inner.backward(params, caches[0], g)
            return tree.add(grads, more), g

        nodes = {"first": (inner, "x", ()), "second": (inner, "first", ())}
        return F.Layer(inner.init, apply, backward, parts=F.parts("x", nodes, "second"))

    summary = F.summary(F.serial(twice(F.dense(4)), F.relu()), (4,))
    found = [(row.depth, row.name, row.label, row.trained) for row in summary.rows]
    assert found == [
        (0, "", "serial", 0),
        (1, "0", "twice", 0),
        (2, "", "dense(units=4)", 20),
        (2, "", "dense(units=4)", 0),
        (1, "1", "relu()", 0),
    ]


def test_the_parts_of_a_transformer_block_are_rows():
    block = F.transformer_encoder_block(2, 5, activation=F.tanh())
    rows = F.summary(block, (3, 4)).rows
    assert [(row.depth, row.name, row.label, row.trained) for row in rows] == [
        (0, "", "transformer_encoder_block(heads=2, hidden_units=5)", 0),
        (1, "attention_norm", "layer_norm()", 8),
        (1, "attention", "multi_head_attention(heads=2)", 80),
        (1, "attention_dropout", "dropout(rate=0.0)", 0),
        (1, "attention_sum", "add()", 0),
        (1, "feed_forward_norm", "layer_norm()", 8),
        (1, "feed_forward", "feed_forward(units=5, dropout=0.0)", 0),
        (2, "0", "dense(units=5)", 25),
        (2, "1", "tanh()", 0),
        (2, "2", "dropout(rate=0.0)", 0),
        (2, "3", "dense_like()", 24),
        (1, "feed_forward_dropout", "dropout(rate=0.0)", 0),
        (1, "feed_forward_sum", "add()", 0),
    ]


def test_a_combinator_s_own_parameters_count_in_its_row():
    @F.layer
    def scaled(inner):
        def init(rng, shape):
            own = {"scale": np.ones(3, np.float32), "fixed": np.zeros(7, np.float32)}
            return {"inner": inner.init(rng, shape)} | own

        def apply(params, x):
            y, cache = inner.apply(params["inner"], x)
            return params["scale"] * y, (y, cache)

        def backward(params, cache, g):
            grads, dx = inner.backward(params["inner"], cache[1], params["scale"] * g)
            return {"inner": grads, "scale": (cache[0] * g).sum(axis=0), "fixed": None}, dx

        parts = F.parts("x", {"inner": (inner, "x")}, "inner")
        return F.Layer(init, apply, backward, inner.out_shape, parts=parts)

    rows = F.summary(scaled(F.dense(3)), (3,)).rows
    assert [(row.label, row.trained, row.untrained) for row in rows] == [
        ("scaled", 3, 7),
        ("dense(units=3)", 12, 0),
    ]


def test_an_array_that_several_layers_begin_with_counts_in_each():
    start = np.ones(3, np.float32)

    @F.layer
    def scaled():
        return F.Layer(
            lambda rng, shape: {"a": start},
            lambda params, x: (params["a"] * x, x),
            lambda params, x, g: ({"a": (g * x).sum(axis=0)}, params["a"] * g),
            lambda shape: shape,
        )

    assert F.summary(F.serial(scaled(), scaled()), (3,)).trained == 6


def test_undeclared_layers_among_the_arguments_have_no_rows():
    @F.layer
    def closed(inner):
        return F.Layer(inner.init, inner.apply, inner.backward, inner.out_shape)

    (row,) = F.summary(closed(F.dense(4)), (3,)).rows
    assert (row.label, row.trained) == ("closed(inner=dense(units=4))", 16)


def test_freezing_covers_the_children_of_user_combinators():
    @F.layer
    def pretrained(units):
        return F.freeze(F.serial(F.dense(units), F.batch_norm()))

    summary = F.summary(F.serial(pretrained(2), F.dense(2)), (3,))
    assert (summary.trained, summary.untrained) == (6, 17)


def test_nodes_without_an_output_are_not_trained():
    model = F.graph("x", {"used": (F.dense(4), "x"), "idle": (F.dense(2), "x")}, "used")
    summary = F.summary(model, (3,))
    assert [row.trained for row in summary.rows] == [0, 16, 0]
    assert [row.untrained for row in summary.rows] == [0, 0, 8]


def test_a_summary_is_the_same_each_time_and_says_nothing_else(capfd):
    first, second = F.summary(CNN, (1, 8, 8)), F.summary(CNN, (1, 8, 8))
    assert first == second
    assert first != F.summary(CNN, (1, 6, 6))
    assert capfd.readouterr() == ("", "")


def partly(check):
    """Return a layer with one parameter that is trained and one that is not, which checks `x`."""

    def init(rng, shape):
        return {"a": np.zeros(3, np.float32), "fixed": np.zeros(2, np.float32)}

    def apply(params, x):
        check(x)
        first = x[0] if isinstance(x, tuple) else x
        return first.astype(np.float32), None

    def backward(params, cache, g):
        return {"a": np.zeros(3, np.float32), "fixed": None}, None

    return F.Layer(init, apply, backward, lambda shape: shape)


def takes_ids(x):
    np.zeros(4)[x]


def takes_a_mask_that_may_be_missing(x):
    assert x[0].dtype == np.float32
    assert x[1] is None or x[1].dtype == bool


def takes_ids_and_a_mask(x):
    takes_ids(x[0])
    assert x[1] is None or x[1].dtype == bool


def needs_examples(x):
    assert len(x) > 0


def warns(x):
    np.mean(np.zeros(0))


@pytest.mark.parametrize(
    ("check", "shape"),
    [
        (takes_ids, (5,)),
        (takes_a_mask_that_may_be_missing, ((5, 2), (5,))),
        (takes_ids_and_a_mask, ((5,), (5,))),
        (needs_examples, (5,)),
        (warns, (5,)),
    ],
)
def test_layers_of_any_input_report_their_untrained_parameters(check, shape):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = F.summary(F.serial(partly(check)), shape)
    assert (summary.trained, summary.untrained) == (3, 2)
    assert not caught


def test_a_layer_that_takes_no_examples_computes_nothing():
    seen = []
    F.summary(F.serial(F.dense(4), partly(lambda x: seen.append(len(x)))), (3,))
    assert set(seen) == {0}


def test_activations_inside_a_layer_are_not_its_children():
    (row,) = F.summary(F.rnn(4, activation=F.silu()), (5, 3)).rows
    assert (row.label, row.trained) == ("rnn(units=4, activation=silu())", 32)


def test_a_layer_that_cannot_be_tried_counts_as_trained():
    @F.layer
    def picky():
        def apply(params, x):
            raise ValueError("never")

        return F.Layer(
            lambda rng, shape: {"a": np.zeros(3, np.float32)}, apply, apply, lambda shape: shape
        )

    assert F.summary(picky(), (2,)).trained == 3


class Reader(HTMLParser):
    """Collects the text of the cells of each row, and raises for tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.rows = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "tr" in self.open and self.rows[-1]:
            self.rows[-1][-1] += data


def test_a_notebook_shows_the_same_cells():
    @F.layer
    def named(text):
        return F.relu()

    reader = Reader()
    reader.feed(F.summary(F.serial(F.dense(2), named("<b>&")), (3,))._repr_html_())
    assert not reader.open
    assert reader.rows == [
        ["layer", "output", "parameters"],
        ["input", "(batch, 3)", ""],
        ["serial", "(batch, 2)", ""],
        ["0: dense(units=2)", "(batch, 2)", "8"],
        ["1: named(text='<b>&')", "(batch, 2)", ""],
        ["8 parameters, 32 bytes"],
    ]


def test_sizes_are_written_with_three_digits():
    ends = [
        F.summary(F.dense(units, bias=False), (features,))._repr_html_()
        for units, features in ((1, 1), (25, 10), (1000, 500))
    ]
    for text, end in zip(["4 bytes", "1 kB", "2 MB"], ends, strict=True):
        assert text in end


BAD = {
    "no layer": (lambda: F.summary("model", (3,)), TypeError, "expected a layer, got 'model'"),
    "no shape": (lambda: F.summary(F.dense(2), 3), TypeError, r"such as \(64,\), got 3"),
    "a shape that does not fit": (
        lambda: F.summary(F.serial(F.dense(2), F.conv2d(3, 3)), (4,)),
        ValueError,
        "conv2d: expected the shape of one example",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_error_names_the_place():
    with pytest.raises(ValueError, match="conv2d") as caught:
        F.summary(F.serial(F.dense(2), F.conv2d(3, 3)), (4,))
    assert any("serial[1]" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "shift_jis"])
def test_a_summary_is_printed_in_the_encoding_of_any_terminal(encoding):
    model = npdl.Model([npdl.layers.Dense(n_out=4, n_in=3), npdl.layers.Softmax(n_out=2)])
    model.compile(loss="mse")
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    print(F.summary(CNN, (1, 8, 8)), file=file)
    model.summary(file)
    file.flush()
    assert b"not trained" in file.buffer.getvalue()
