"""A layer made of layers declares its parts; run as a graph, they compute the same outputs."""

import inspect

import numpy as np
import pytest
from arrays import normal
from cases import CASES
from small_layers import noisy

import npdl.functional as F
from npdl import checkpoint, random, tree
from npdl.functional import combinators
from npdl.functional.combinators._parts import at, bound, found
from npdl.functional.combinators._rebuilt import rebuilt
from npdl.functional.layers import activations
from npdl.gradcheck import check_gradients
from npdl.training import fit


def run(layer, params, x, train=False, rng=None):
    """Apply each node of a declaration to its sources; return the outputs."""
    parts, values = layer.parts.of(x)
    for node in parts.nodes:
        key = rng if rng is None or node.number is None else random.fold(rng, node.number)
        y, _ = node.layer.apply(
            at(params, node.path), found(values, node.sources), train=train, rng=key
        )
        values |= bound(parts.name, node.names, y)
    return found(values, parts.outputs)


@F.layer
def gated(inner):
    """y = x sigmoid(norm(f(x))), with a norm that is not an argument."""
    norm, gate = F.batch_norm(axis=-1), F.sigmoid()

    def init(rng, shape):
        return {
            "inner": inner.init(random.fold(rng, 0), shape),
            "norm": norm.init(random.fold(rng, 1), shape),
        }

    def apply(params, x, *, train=False, rng=None):
        key = None if rng is None else random.fold(rng, 0)
        y, first = inner.apply(params["inner"], x, train=train, rng=key)
        y, second = norm.apply(params["norm"], y, train=train)
        y, third = gate.apply((), y)
        return x * y, (x, y, first, second, third)

    def backward(params, cache, g):
        x, y, first, second, third = cache
        _, into_gate = gate.backward((), third, g * x)
        of_norm, into_norm = norm.backward(params["norm"], second, into_gate)
        of_inner, dx = inner.backward(params["inner"], first, into_norm)
        return {"inner": of_inner, "norm": of_norm}, g * y + dx

    def update_stats(params, cache):
        first, second = (None, None) if cache is None else cache[2:4]
        return {
            "inner": inner.update_stats(params["inner"], first),
            "norm": norm.update_stats(params["norm"], second),
        }

    parts = F.parts(
        "x",
        {
            "inner": (inner, "x"),
            "norm": (norm, "inner"),
            "gate": (gate, "norm", None),
            "y": (F.multiply(), ("x", "gate"), None),
        },
        "y",
    )
    return F.Layer(init, apply, backward, lambda shape: shape, update_stats, parts)


MORE = {
    "a frozen dropout": (F.freeze(F.serial(F.dense(4), F.dropout(0.5))), (3,)),
    "dropout in a residual": (F.residual(F.dense(3), F.dropout(0.5)), (3,)),
    "dropout in branches": (F.parallel(F.dropout(0.5), F.dropout(0.5)), (3,)),
    "a concatenation": (F.parallel(F.dropout(0.5), F.dense(2), join="concatenate"), (3,)),
    "branches that stay apart": (F.parallel(F.dropout(0.5), F.dense(2), join=None), (3,)),
    "dropout in a stack": (F.stack(F.dense(4), F.dropout(0.5), F.dense(2)), (3,)),
    "dropout in a block": (F.transformer_encoder_block(2, 8, dropout=0.3), (5, 4)),
    "a block of norms": (F.transformer_encoder_block(2, 8, activation=F.layer_norm()), (5, 4)),
    "causal": (F.transformer_encoder_block(2, 8, causal=True, pre_norm=False), (5, 4)),
    "one step": (F.one_step(F.gru(3)), (4,)),
    "a user's": (gated(F.dense(3)), (3,)),
    "a user's with dropout": (F.serial(gated(F.dropout(0.5))), (3,)),
}


def inputs_of(case):
    return case.x(4) if hasattr(case, "x") else normal(4, *case[1])


DECLARED = {name: case for name, case in CASES.items() if case.layer.parts is not None} | MORE


def made(case):
    layer, shape = (case.layer, case.shape) if hasattr(case, "x") else case
    params, x = layer.init(0, shape), inputs_of(case)
    _, cache = layer.apply(params, x, train=True, rng=(7,))
    return layer, layer.update_stats(params, cache), x


@pytest.mark.parametrize("case", DECLARED.values(), ids=DECLARED)
@pytest.mark.parametrize("train", [False, True])
def test_the_declared_parts_compute_the_same_as_the_combinator(case, train):
    layer, params, x = made(case)
    rng = (5, 1) if train else None
    y = layer.apply(params, x, train=train, rng=rng)[0]
    assert tree.all_close(run(layer, params, x, train, rng), y, rtol=0, atol=0)


@pytest.mark.parametrize("case", DECLARED.values(), ids=DECLARED)
def test_the_declared_shapes_equal_the_shapes_of_the_combinator(case):
    layer, shape = (case.layer, case.shape) if hasattr(case, "x") else case
    parts, shapes = layer.parts.of_shape(shape)
    for node in parts.nodes:
        out = node.layer.out_shape(found(shapes, node.sources))
        shapes |= bound(parts.name, node.names, out)
    assert found(shapes, parts.outputs) == layer.out_shape(shape)


KEEPING = [case for case in CASES.values() if case.layer.keeps_axes]


@pytest.mark.parametrize("case", KEEPING, ids=lambda case: repr(case.layer)[:50])
def test_a_layer_that_keeps_the_axes_has_as_many_of_them(case):
    shape = case.shape[0] if isinstance(case.shape[0], tuple) else case.shape
    assert len(case.layer.out_shape(case.shape)) == len(shape)


@pytest.mark.parametrize("name", activations.__all__)
def test_all_activations_but_gated_ones_keep_the_axes(name):
    # A gated activation joins two features to one.
    assert getattr(F, name)().keeps_axes == (name not in ("glu", "swiglu"))


def test_all_public_combinators_declare_their_parts():
    names = {
        name
        for name in combinators.__all__
        if hasattr(getattr(combinators, name), "is_constructor")
        and "Layer" in str(inspect.signature(getattr(combinators, name)))
    }
    # Joins have no children; the cell of `scan` has other values in each step.
    without = {"add", "multiply", "concatenate", "scan"}
    declared = {case.layer.call.name for case in CASES.values() if case.layer.parts is not None}
    declared |= {layer.call.name for layer, _ in MORE.values()}
    assert names - without <= declared


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda child: F.stack(F.tanh(), child), 1),
        (lambda child: F.residual(F.tanh(), F.tanh(), child), 2),
        (lambda child: F.graph("x", {"a": (F.tanh(), "x"), "b": (child, "a")}, "b"), 1),
        (gated, 0),
    ],
)
def test_a_node_has_the_key_of_its_position(make, number):
    log = []
    model = make(noisy(log))
    params = model.init((5, 1), (3,))
    model.apply(params, normal(4, 3), train=True, rng=(5, 1))
    rebuilt(model, lambda child: child).apply(params, normal(4, 3), train=True, rng=(5, 1))
    keys = [entry[-1] for entry in log]
    assert keys == [(5, 1, number)] * 3


# A combinator of the user's, in every tool


def test_a_user_s_combinator_has_the_right_gradients():
    check_gradients(gated(F.dense(3)), (3,), train=True)


def test_a_user_s_combinator_in_a_summary():
    rows = F.summary(F.serial(gated(F.serial(F.dense(3)))), (3,)).rows
    assert [(row.depth, row.name, row.label, row.trained, row.untrained) for row in rows] == [
        (0, "", "serial", 0, 0),
        (1, "0", "gated", 0, 0),
        (2, "inner", "serial", 0, 0),
        (3, "0", "dense(units=3)", 12, 0),
        (2, "norm", "batch_norm(axis=-1)", 6, 7),
    ]


def test_check_finite_searches_the_combinators_of_users():
    @F.layer
    def faulty():
        def apply(params, x):
            return x * np.float32(np.inf), None

        return F.Layer(
            lambda rng, shape: (), apply, lambda params, cache, g: (None, g), lambda shape: shape
        )

    model = F.serial(F.dense(3), gated(F.serial(F.tanh(), faulty())))
    data = normal(8, 3), np.arange(8) % 3
    with pytest.raises(FloatingPointError, match="the output is not finite") as caught:
        fit(
            model, F.softmax_cross_entropy, F.sgd(0.1), data, batch_size=8, progress=False,
            check_finite=True,
        )  # fmt: skip
    notes = "\n".join(caught.value.__notes__)
    for place in ("in serial[1] = faulty()", "in gated['inner'] = serial(", "in serial[1] = gated"):
        assert place in notes


def test_a_user_s_combinator_takes_weights_of_pytorch():
    model = gated(F.dense(3))
    like = model.init(0, (3,))
    state = {
        "linear.weight": normal(3, 3),
        "linear.bias": normal(3, seed=1),
        "norm.weight": normal(3, seed=2),
        "norm.bias": normal(3, seed=3),
        "norm.running_mean": normal(3, seed=4),
        "norm.running_var": normal(3, seed=5) ** 2,
        "norm.num_batches_tracked": np.array(9),
    }
    params = checkpoint.from_torch(state, model, like)
    assert np.array_equal(params["inner"]["weight"], state["linear.weight"].T)
    assert np.array_equal(params["norm"]["mean"], state["norm.running_mean"])


@pytest.mark.parametrize("inner", [F.dense(3), F.batch_norm(), F.residual(F.batch_norm())])
def test_a_frozen_combinator_of_a_user_keeps_all_statistics(inner):
    layer, params, x = made((gated(inner), (3,)))
    frozen = F.freeze(layer)
    x = x + 3
    assert np.array_equal(frozen(params, x, train=True, rng=1), layer(params, x))
    _, cache = frozen.apply(params, x, train=True, rng=1)
    assert frozen.update_stats(params, cache) is params


def test_dropout_in_a_frozen_combinator_of_the_user_s_drops():
    layer, params, x = made((gated(F.dropout(0.5)), (3,)))
    frozen = F.freeze(layer)
    dropped = frozen(params, x, train=True, rng=1)
    assert not np.array_equal(dropped, layer(params, x))
    assert np.array_equal(dropped, frozen(params, x, train=True, rng=1))


def test_an_inner_norm_is_frozen_without_a_declaration():
    @F.layer
    def before(inner):
        made = F.serial(F.batch_norm(), inner)
        return F.Layer(made.init, made.apply, made.backward, made.out_shape, made.update_stats)

    layer, params, x = made((before(F.batch_norm()), (3,)))
    x = x + 3
    assert np.array_equal(F.freeze(layer)(params, x, train=True), layer(params, x))


def test_statistics_in_the_activation_of_a_block_are_folded_in():
    block = F.transformer_encoder_block(2, 8, activation=F.batch_norm(axis=-1))
    params, x = block.init(0, (5, 4)), normal(6, 5, 4)
    _, cache = block.apply(params, x, train=True)
    after = block.update_stats(params, cache)
    assert float(after["feed_forward"][1]["count"]) == 1
    assert block(after, x).shape == x.shape


# Layers with other children


@pytest.mark.parametrize("case", DECLARED.values(), ids=DECLARED)
def test_a_layer_rebuilt_of_the_same_parts_computes_the_same(case):
    layer, params, x = made(case)
    again = rebuilt(layer, lambda child: child)
    y, cache = layer.apply(params, x)
    other, other_cache = again.apply(params, x)
    assert tree.all_close(other, y, rtol=0, atol=0)
    g = tree.map(lambda part: normal(*part.shape, seed=3), y)
    dx = layer.backward(params, cache, g)[1]
    assert tree.all_close(again.backward(params, other_cache, g)[1], dx, rtol=1e-5, atol=1e-6)


def test_a_layer_of_other_functions_does_not_equal_the_first():
    layer = F.serial(F.dense(3))
    again = rebuilt(layer, lambda child: child)
    assert repr(again) == repr(layer)
    assert again != layer
    assert layer == F.serial(F.dense(3))


# Declarations that do not hang together


NODE = {"y": (F.dense(2), "x")}
BAD = {
    "a node": (lambda: F.parts("x", {"y": F.dense(2)}, "y"), TypeError, "'y' must be .layer, sou"),
    "a name": (lambda: F.parts("x", {0: (F.dense(2), "x")}, "x"), TypeError, "a tuple of names"),
    "no name": (lambda: F.parts("x", {(): (F.dense(2), "x")}, "x"), TypeError, "got .."),
    "a path": (
        lambda: F.parts("x", {"y": (F.dense(2), "x", "y")}, "y"),
        TypeError,
        "the path of node 'y' must be None or a tuple of keys, as in .0,., got 'y'",
    ),
    "a source": (lambda: F.parts("a", NODE, "y"), ValueError, "node 'y' reads 'x'"),
    "an output": (lambda: F.parts("x", NODE, "z"), ValueError, "the output 'z' is neither"),
    "no names": (lambda: F.parts(3, NODE, "y"), TypeError, "inputs must be a name"),
    "optional": (lambda: F.parts("x", NODE, "y", optional=-1), ValueError, "optional must be"),
    "trained": (lambda: F.parts("x", NODE, "y", trained=1), TypeError, "trained must be True"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_a_wrong_declaration_is_refused_with_the_right_call(call, error, message):
    with pytest.raises(error, match=f"^parts: .*{message}"):
        call()
