import numpy as np
import pytest
from arrays import normal, read_only
from small_layers import counting, failing, masked_sum, notes_of, split, spy

import npdl.functional as F
from npdl import checkpoint, random, tree
from npdl.gradcheck import check_gradients


def product():
    """y = a b, of two inputs."""
    return F.Layer(
        lambda rng, shape: (),
        lambda params, x: (x[0] * x[1], x),
        lambda params, x, g: ((), (g * x[1], g * x[0])),
        lambda shape: shape[0],
    )


# The output of a graph


def test_a_chain_is_a_serial():
    chain = F.graph(
        "x", {"a": (F.dense(4), "x"), "b": (F.tanh(), "a"), "c": (F.dense(2), "b")}, "c"
    )
    same = F.serial(F.dense(4), F.tanh(), F.dense(2))
    params, x = chain.init(7, (3,)), normal(5, 3)
    tuples = tuple(params.values())
    assert list(params) == ["a", "b", "c"]
    assert tree.all_close(tuples, same.init(7, (3,)), rtol=0, atol=0)
    y, cache = chain.apply(params, x)
    expected, same_cache = same.apply(tuples, x)
    assert np.array_equal(y, expected)
    grads, dx = chain.backward(params, cache, y)
    same_grads, same_dx = same.backward(tuples, same_cache, y)
    assert tree.all_close(tuple(grads.values()), same_grads, rtol=0, atol=0)
    assert np.array_equal(dx, same_dx)
    assert chain.out_shape((3,)) == (2,)


def test_nodes_of_several_inputs_and_outputs_are_wired_by_name():
    model = F.graph(
        ("left", "right"),
        {
            ("one", "two"): (split(), "left"),
            "up": (product(), ("two", "right")),
            "down": (product(), ("one", "up")),
        },
        ("down", "right", "two"),
    )
    left, right = normal(2, 3), normal(2, 3, seed=1)
    params = model.init(0, ((3,), (3,)))
    down, same, two = model(params, (left, right))
    assert list(params) == ["one", "up", "down"]
    assert np.array_equal(two, 2 * left)
    assert same is right
    assert np.array_equal(down, left * (2 * left * right))
    assert model.out_shape(((3,), (3,))) == ((3,), (3,), (3,))
    check_gradients(model, ((3,), (3,)))


def test_a_tuple_of_one_name_means_a_tuple_of_one_array():
    model = F.graph(("x",), {"a": (F.dense(2), "x")}, ("a",))
    params, x = model.init(0, ((3,),)), normal(4, 3)
    (y,), cache = model.apply(params, (x,))
    _, (dx,) = model.backward(params, cache, (y,))
    assert dx.shape == x.shape
    with pytest.raises(ValueError, match=r"expected a tuple of 1 for x, got float32\[4, 3\]"):
        model(params, x)


def test_lists_of_names_are_tuples():
    made = [
        F.graph(kind("xy"), {"a": (product(), kind("xy"))}, kind("a")) for kind in (list, tuple)
    ]
    left = made[0].init(0, ((3,), (3,)))
    x = (normal(2, 3), normal(2, 3, seed=1))
    assert np.array_equal(made[0](left, x)[0], made[1](left, x)[0])
    check_gradients(made[0], ((3,), (3,)))


def test_the_key_of_a_node_is_its_position_in_the_key():
    model = F.graph("x", {"b": (F.dense(4), "x"), "a": (F.dense(4), "x")}, ("a", "b"))
    params = model.init(3, (5,))
    for i, name in enumerate("ba"):
        expected = F.dense(4).init(random.fold((3,), i), (5,))
        assert tree.all_close(params[name], expected, rtol=0, atol=0)


# Absent inputs


def test_a_source_may_be_none():
    model = F.graph("x", {"sum": (masked_sum(), ("x", None)), "y": (F.dense(2), "sum")}, "y")
    params, x = model.init(0, (4, 3)), normal(2, 4, 3)
    assert np.allclose(model(params, x), F.dense(2)(params["y"], x.sum(axis=1)), rtol=1e-6)
    check_gradients(model, (4, 3))


def test_an_input_may_be_none_and_a_mask_gets_no_gradient():
    model = F.graph(("x", "mask"), {"sum": (masked_sum(), ("x", "mask"))}, "sum")
    params, x = model.init(0, ((4, 3), (4,))), normal(2, 4, 3)
    assert np.allclose(model(params, (x, None)), x.sum(axis=1), rtol=1e-6)
    mask = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
    y, cache = model.apply(params, (x, mask))
    assert np.allclose(y, (x * mask[:, :, None]).sum(axis=1), rtol=1e-6)
    _, (dx, nothing) = model.backward(params, cache, np.ones_like(y))
    assert nothing is None
    assert np.array_equal(dx, np.ones_like(x) * mask[:, :, None])
    check_gradients(model, ((4, 3), (4,)), x=(x, mask))


# Shared parameters


def twins():
    return F.graph(
        ("left", "right"),
        {
            "a": (F.serial(F.dense(4), F.batch_norm(), F.dropout(0.2)), "left"),
            "b": (F.serial(F.dense(4), F.batch_norm(), F.dropout(0.2)), "right", "a"),
            "y": (F.concatenate(), ("a", "b")),
        },
        "y",
    )


def test_nodes_that_share_parameters_are_initialized_once():
    model = F.graph(
        "x", {"a": (F.dense(3), "x"), "b": (F.dense(3), "a", "a"), "c": (F.dense(2), "b")}, "c"
    )
    params, x = model.init(0, (3,)), normal(5, 3)
    assert list(params) == ["a", "c"]
    expected = F.dense(3)(params["a"], F.dense(3)(params["a"], x))
    assert np.array_equal(model(params, x), F.dense(2)(params["c"], expected))
    with pytest.raises(ValueError, match="expected a dict of the parameters of a, c,"):
        model(params | {"b": params["a"]}, x)


def test_gradients_of_shared_parameters_are_added():
    model = F.graph("x", {"a": (F.dense(3), "x"), "b": (F.dense(3), "a", "a")}, ("a", "b"))
    check_gradients(model, (3,))
    twice = F.graph("x", {"a": (F.dense(3), "x"), "b": (F.dense(3), "a")}, ("a", "b"))
    params, x = model.init(0, (3,)), normal(5, 3)
    g = (normal(5, 3, seed=2), normal(5, 3, seed=3))
    grads, dx = model.backward(params, model.apply(params, x)[1], g)
    both = {"a": params["a"], "b": params["a"]}
    apart, other_dx = twice.backward(both, twice.apply(both, x)[1], g)
    assert tree.all_close(grads["a"], tree.add(apart["a"], apart["b"]), rtol=1e-6)
    assert np.array_equal(dx, other_dx)


def test_branches_with_shared_parameters_draw_their_own_masks_and_share_statistics():
    model = twins()
    params, x = model.init(0, ((3,), (3,))), normal(8, 3)
    y, cache = model.apply(params, (x, x), train=True, rng=1)
    assert not np.array_equal(y[:, :4], y[:, 4:])
    after = model.update_stats(params, cache)
    assert after["a"][1]["count"] == 2
    y = model(after, (x, x))
    assert np.array_equal(y[:, :4], y[:, 4:])


def test_summaries_and_files_have_shared_parameters_once(tmp_path):
    model = twins()
    params = model.init(0, ((3,), (3,)))
    summary = F.summary(model, ((3,), (3,)))
    assert summary.count == tree.count(params) == 16 + 8 + 9
    checkpoint.save(tmp_path / "twins.npz", params)
    assert tree.all_close(checkpoint.load(tmp_path / "twins.npz", params), params, atol=0)


def test_shared_parameters_are_trained_if_one_use_trains_them():
    model = F.graph(
        "ids",
        {
            "words": (F.freeze(F.embedding(7, 4)), "ids"),
            "scores": (F.unembedding(7), "words", "words"),
        },
        "scores",
    )
    params, ids = model.init(0, (5,)), np.array([[1, 2, 3]])
    y, cache = model.apply(params, ids)
    grads, _ = model.backward(params, cache, y)
    expected = y.reshape(-1, 7).T @ params["words"]["table"][ids[0]]
    assert np.allclose(grads["words"]["table"], expected, rtol=1e-5)
    summary = F.summary(model, (5,))
    assert (summary.trained, summary.untrained) == (28, 0)
    assert [row.depth for row in summary.rows] == [0, 1, 2, 1]


def test_a_shared_node_of_other_sizes_is_an_error():
    model = F.graph("x", {"a": (F.dense(4), "x"), "b": (F.dense(4), "a", "a")}, "b")
    with pytest.raises(ValueError, match="these params take 3 features") as raised:
        model(model.init(0, (3,)), normal(2, 3))
    assert "graph['a']" in raised.value.__notes__[0]


# Gradients


def test_gradients_of_a_value_with_several_readers_are_added():
    model = F.graph(
        "x",
        {
            "a": (F.dense(3), "x"),
            "b": (F.tanh(), "a"),
            "square": (product(), ("a", "a")),
            "c": (product(), ("b", "square")),
            "d": (product(), ("c", "a")),
        },
        ("d", "a", "d"),
    )
    check_gradients(model, (3,))
    identity = F.graph("x", {"twice": (product(), ("x", "x"))}, ("x", "twice", "x"))
    x = normal(2, 3)
    y, cache = identity.apply(identity.init(0, (3,)), x)
    _, dx = identity.backward({"twice": ()}, cache, y)
    assert np.allclose(dx, 2 * x + 2 * x * x**2, rtol=1e-5)


def test_adding_gradients_writes_into_none_of_them():
    model = F.graph("x", {"a": (F.tanh(), "x")}, ("x", "x", "a"))
    x = normal(2, 3)
    _, cache = model.apply({"a": ()}, x)
    g = read_only(tuple(np.ones((2, 3), np.float32) for _ in range(3)))
    first = model.backward({"a": ()}, cache, g)[1]
    assert np.array_equal(first, model.backward({"a": ()}, cache, g)[1])
    assert all((part == 1).all() for part in g)


def calls_of(model, log, shape, g_of=lambda y: y, input_grad=False):
    """Run backward; return its result and the log of the spies."""
    several = isinstance(shape[0], tuple)
    x = tuple(normal(2, *part) for part in shape) if several else normal(2, *shape)
    params = model.init(0, shape)
    y, cache = model.apply(params, x)
    log.clear()
    grads, dx = model.backward(params, cache, g_of(y), input_grad=input_grad)
    return grads, dx, list(log)


def test_nodes_of_unused_outputs_have_none_as_gradient():
    log = []
    model = F.graph(
        "x",
        {"a": (spy(log, "a"), "x"), "b": (spy(log, "b"), "a"), "c": (spy(log, "c"), "a"),
         "unread": (spy(log, "unread"), "b")},
        ("b", "c"),
    )  # fmt: skip
    grads, _, calls = calls_of(model, log, (3,), lambda y: (None, y[1]))
    assert calls == [("c", True), ("a", False)]
    assert grads["b"] is None
    assert grads["unread"] is None
    assert grads["a"] is not None
    grads, dx, calls = calls_of(model, log, (3,), lambda y: (None, None), input_grad=True)
    assert grads == dict.fromkeys(["a", "b", "c", "unread"])
    assert dx is None
    assert calls == []


def test_an_unused_one_of_the_outputs_of_a_node_is_none():
    model = F.graph("x", {"a": (F.dense(3), "x"), ("one", "two"): (split(), "a")}, "two")
    check_gradients(model, (3,))
    both = F.graph("x", {"a": (F.dense(3), "x"), ("one", "two"): (split(), "a")}, ("two", "one"))
    params, x = both.init(0, (3,)), normal(2, 3)
    y, cache = both.apply(params, x)
    _, dx = both.backward(params, cache, (None, y[1]))
    assert np.allclose(dx, y[1] @ params["a"]["weight"].T, rtol=1e-6)


def test_an_unread_input_has_none_for_its_gradient():
    model = F.graph(("x", "y"), {"a": (F.dense(2), "x")}, "a")
    params = model.init(0, ((3,), (4,)))
    z, cache = model.apply(params, (normal(2, 3), normal(2, 4)))
    _, dx = model.backward(params, cache, z)
    assert dx[1] is None
    assert dx[0].shape == (2, 3)


def test_each_node_computes_only_the_needed_gradients():
    log = []
    model = F.graph(
        ("x", "y"),
        {
            "plain": (spy(log, "plain", False), "x"),
            "trained": (spy(log, "trained"), "plain"),
            "frozen": (F.freeze(spy(log, "frozen")), "y"),
            "after": (spy(log, "after", False), "frozen"),
            "both": (product(), ("trained", "after")),
            "end": (spy(log, "end"), "both"),
        },
        "end",
    )
    grads, dx, calls = calls_of(model, log, ((3,), (3,)))
    assert dx is None
    assert calls == [("end", True), ("trained", False)]
    assert grads["frozen"] is None
    assert grads["trained"]["a"].shape == ()
    _, dx, calls = calls_of(model, log, ((3,), (3,)), input_grad=True)
    assert [name for name, _ in calls] == ["end", "after", "frozen", "trained", "plain"]
    assert all(wanted for _, wanted in calls)
    assert [part.shape for part in dx] == [(2, 3), (2, 3)]


def test_statistics_are_folded_in_by_name():
    model = F.graph(
        "x", {"a": (counting(), "x"), "b": (F.dense(2), "a"), "c": (counting(), "b")}, "c"
    )
    params = model.init(0, (3,))
    _, cache = model.apply(params, normal(6, 3), train=True)
    after = model.update_stats(params, cache)
    assert [float(after[name]["seen"]) for name in "ac"] == [6, 6]
    assert after["b"] is params["b"]
    assert params["a"]["seen"] == 0


# Errors


def test_the_notes_name_the_node():
    def model(where):
        inner = F.graph("x", {"bad": (failing(where), "x")}, "bad")
        return F.graph(
            ("x", "y"), {"good": (F.tanh(), "x"), "end": (F.serial(inner), "good")}, "end"
        )

    broken = failing("apply")
    params = {"good": (), "end": ({"bad": broken.init(0, (3,))},)}
    x = (normal(2, 3), normal(2, 4))
    assert notes_of(lambda: model("apply")(params, x)) == [
        "in graph['bad'] = failing(), given float32[2, 3]",
        "in serial[0] = graph(inputs='x', nodes={'bad': (failing(), 'x')}, outputs='bad'), "
        "given float32[2, 3]",
        "in graph['end'] = serial(…), given float32[2, 3]",
    ]
    assert notes_of(lambda: model("init").init(0, ((3,), (4,)))) == [
        "in graph['bad'] = failing(where='init'), initialized for the shape (3,)",
        "in serial[0] = graph(…), initialized for the shape (3,)",
        "in graph['end'] = serial(…), initialized for the shape (3,)",
    ]
    y, cache = model("backward").apply(params, x)
    assert notes_of(lambda: model("backward").backward(params, cache, y)) == [
        "in backward of graph['bad'] = failing(where='backward'), given float32[2, 3]",
        "in backward of serial[0] = graph(…), given float32[2, 3]",
        "in backward of graph['end'] = serial(…), given float32[2, 3]",
    ]


OK = {"a": (F.dense(2), "x")}
BAD = {
    "an unknown source": (
        ("x", {"a": (F.dense(2), "y")}, "a"),
        ValueError,
        "node 'a' reads 'y', which is neither an input nor an earlier node; known here are 'x'",
    ),
    "a later node": (
        ("x", {"a": (F.dense(2), "b"), "b": (F.dense(2), "x")}, "a"),
        ValueError,
        "node 'a' reads 'b', which is neither",
    ),
    "itself": (("x", {"a": (F.dense(2), "a")}, "a"), ValueError, "node 'a' reads 'a'"),
    "one of several sources": (
        (("x", "y"), {"a": (F.dense(2), ("x", "z"))}, "a"),
        ValueError,
        "reads 'z', which is neither .* known here are 'x', 'y'",
    ),
    "an unknown output": (
        ("x", OK, "b"),
        ValueError,
        "the output 'b' is neither an input nor a node; known are 'x', 'a'",
    ),
    "one of several outputs": (("x", OK, ("a", "b")), ValueError, "the output 'b' is neither"),
    "a node called as an input": (
        ("x", {"x": (F.dense(2), "x")}, "x"),
        ValueError,
        "'x' is used twice",
    ),
    "two outputs of one name": (
        ("x", {("a", "a"): (split(), "x")}, "a"),
        ValueError,
        "'a' is used twice",
    ),
    "two nodes of one output": (
        ("x", {**OK, ("b", "a"): (split(), "x")}, "a"),
        ValueError,
        "'a' is used twice",
    ),
    "two inputs of one name": ((("x", "x"), OK, "a"), ValueError, "'x' is used twice"),
    "no source": (("x", {"a": F.dense(2)}, "a"), TypeError, "node 'a' must be .layer, source."),
    "no layer": (("x", {"a": ("x", F.dense(2))}, "a"), TypeError, "node 'a' must be .layer"),
    "too much": (("x", {"a": (F.dense(2), "x", "y", "z")}, "a"), TypeError, "node 'a' must be"),
    "shared with nothing": (
        ("x", {"a": (F.dense(2), "x", "y")}, "a"),
        ValueError,
        "shares the parameters of 'y', which is not an earlier node; earlier nodes are none",
    ),
    "shared with an input": (
        ("x", {"a": (F.dense(2), "x"), "b": (F.dense(2), "x", "x")}, "a"),
        ValueError,
        "node 'b' shares the parameters of 'x', .* earlier nodes are 'a'",
    ),
    "shared with two": (
        ("x", {"a": (F.dense(2), "x"), "b": (F.dense(2), "x", ("a", "a"))}, "a"),
        ValueError,
        r"shares the parameters of \('a', 'a'\)",
    ),
}


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD.values(), ids=BAD)
def test_a_disconnected_graph_is_refused_at_construction(arguments, kind, message):
    with pytest.raises(kind, match=f"^graph: .*{message}"):
        F.graph(*arguments)


INPUTS = {
    "one for two": (lambda x: x[0], r"expected a tuple of 2 for x, y, got float32\[2, 3\]"),
    "three for two": (lambda x: (*x, x[0]), r"expected a tuple of 2 for x, y, got \(float32"),
    "nothing": (lambda x: None, "expected a tuple of 2 for x, y, got None"),
}


@pytest.mark.parametrize(("change", "message"), INPUTS.values(), ids=INPUTS)
def test_another_number_of_inputs_is_refused(change, message):
    model = F.graph(("x", "y"), {"a": (product(), ("x", "y"))}, "a")
    with pytest.raises(ValueError, match=message):
        model({"a": ()}, change((normal(2, 3), normal(2, 3))))


def test_a_wrong_number_of_outputs_is_an_error_at_its_node():
    model = F.graph("x", {("a", "b", "c"): (split(), "x")}, "a")
    with pytest.raises(ValueError, match=r"expected a tuple of 3 for a, b, c, got") as raised:
        model({"a": ()}, normal(2, 3))
    assert raised.value.__notes__[0].startswith("in graph['a'] = split(), given float32[2, 3]")


PARAMS = {
    "a tuple": lambda params: tuple(params.values()),
    "a node missing": lambda params: {"a": params["a"]},
    "a node too many": lambda params: {**params, "c": ()},
    "another name": lambda params: {"a": params["a"], "B": params["b"]},
    "nothing": lambda params: None,
}


@pytest.mark.parametrize("change", PARAMS.values(), ids=PARAMS)
def test_the_parameters_of_another_model_are_refused(change):
    model = F.graph("x", {"a": (F.dense(2), "x"), "b": (F.dense(2), "a")}, "b")
    params = change(model.init(0, (3,)))
    message = (
        r"^graph: expected a dict of the parameters of a, b, .*do they belong to another model\?"
    )
    with pytest.raises(ValueError, match=message):
        model(params, normal(2, 3))


def test_the_order_of_the_dict_of_parameters_makes_no_difference():
    model = F.graph("x", {"b": (F.dense(2), "x"), "a": (F.dense(2), "b")}, "a")
    params, x = model.init(0, (3,)), normal(2, 3)
    turned = {"a": params["a"], "b": params["b"]}
    assert np.array_equal(model(turned, x), model(params, x))
    check_gradients(model, (3,), params=turned)
