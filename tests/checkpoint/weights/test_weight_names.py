"""The argument `names`: paths of arrays, layers and combinators, in both directions."""

import numpy as np
import pytest
from arrays import normal

import npdl.functional as F
from npdl import tree
from npdl.checkpoint import CheckpointError, from_keras, from_torch, to_keras, to_torch


def drawn(**shapes):
    """Return arrays by name, with dots for double underscores."""
    return {
        name.replace("__", "."): normal(*shape, seed=i)
        for i, (name, shape) in enumerate(shapes.items())
    }


def dense(*units):
    return F.serial(*[F.dense(count, bias=False) for count in units])


# Arrays


def test_an_array_is_read_by_its_own_name():
    model, source = F.serial(F.dense(4), F.tanh(), F.dense(4)), drawn(
        w1=(4, 4), w2=(4, 4), b2=(4,), b1=(4,)
    )  # fmt: skip
    names = {"0/weight": "w1", "0/bias": "b1", "2/weight": "w2", "2/bias": "b2"}
    params = from_torch(source, model, model.init(0, (4,)), names)
    for path, name in names.items():
        np.testing.assert_array_equal(dict(tree.items(params))[path], source[name].T)
    written = to_torch(params, model, names)
    assert written.keys() == source.keys()
    for name, array in source.items():
        np.testing.assert_array_equal(written[name], array)


def test_the_other_arrays_of_a_layer_are_matched_as_a_module():
    model = F.serial(F.dense(3), F.dense(3))
    source = drawn(table=(3, 3), out__bias=(3,), hidden__weight=(3, 3), hidden__bias=(3,))
    names = {"1/weight": "table", "1": "out"}
    params = from_torch(source, model, model.init(0, (3,)), names)
    np.testing.assert_array_equal(params[0]["weight"], source["hidden.weight"].T)
    np.testing.assert_array_equal(params[1]["weight"], source["table"].T)
    np.testing.assert_array_equal(params[1]["bias"], source["out.bias"])
    assert to_torch(params, model, names | {"0": "hidden"}).keys() == source.keys()


def test_tied_arrays_are_read_twice_and_written_once():
    model = F.serial(F.embedding(7, 3), F.dense(7, bias=False))
    source = drawn(wte__weight=(7, 3))
    names = {"0/table": "wte.weight", "1/weight": "wte.weight"}
    params = from_torch(source, model, model.init(0, (2,)), names)
    again = from_torch(source, model, params, {"0": "wte", "1/weight": "wte.weight"})
    assert tree.all_close(again, params, rtol=0, atol=0)
    np.testing.assert_array_equal(params[0]["table"], params[1]["weight"].T)
    assert not np.shares_memory(params[0]["table"], params[1]["weight"])
    np.testing.assert_array_equal(
        to_torch(params, model, names)["wte.weight"], source["wte.weight"]
    )
    params[1]["weight"][0, 0] += 1
    with pytest.raises(ValueError, match=r"two different arrays have the name 'wte\.weight'"):
        to_torch(params, model, names)


HEADS = drawn(
    q__weight=(6, 6), k__weight=(6, 6), v__weight=(6, 6), o__weight=(6, 6),
    q__bias=(6,), k__bias=(6,), v__bias=(6,), o__bias=(6,),
)  # fmt: skip


def test_several_arrays_are_joined_to_one():
    model = F.multi_head_attention(2)
    names = {
        "weight": ("q.weight", "k.weight", "v.weight"),
        "bias": ("q.bias", "k.bias", "v.bias"),
        "output_weight": "o.weight",
        "output_bias": "o.bias",
    }
    params = from_torch(HEADS, model, model.init(0, (5, 6)), names)
    joined = np.concatenate([HEADS[f"{part}.weight"] for part in "qkv"])
    np.testing.assert_array_equal(params["weight"], joined.T)
    np.testing.assert_array_equal(params["bias"][6:12], HEADS["k.bias"])
    written = to_torch(params, model, names)
    assert written.keys() == HEADS.keys()
    for name, array in HEADS.items():
        np.testing.assert_array_equal(written[name], array)


def test_joined_arrays_may_have_different_numbers_of_rows():
    model, source = dense(7), drawn(a=(4, 2), b=(1, 2), c=(2, 2))
    names = {"0/weight": ("a", "b", "c")}
    params = from_torch(source, model, model.init(0, (2,)), names)
    np.testing.assert_array_equal(params[0]["weight"], np.concatenate([*source.values()]).T)
    with pytest.raises(ValueError, match="of 7 rows, which are not 3 equal parts for a, b, c"):
        to_torch(params, model, names)


def test_arrays_of_one_projection_can_be_named_one_by_one():
    model = F.multi_head_attention(2, cross=True, bias=False)
    names = {"query_weight": "q.weight", "context_weight": ("k.weight", "v.weight")}
    names |= {"output_weight": "o.weight"}
    source = {name: array for name, array in HEADS.items() if "bias" not in name}
    params = from_torch(source, model, model.init(0, ((5, 6), (4, 6))), names)
    np.testing.assert_array_equal(params["query_weight"], source["q.weight"].T)
    np.testing.assert_array_equal(params["context_weight"][:, 6:], source["v.weight"].T)
    del names["query_weight"]
    with pytest.raises(
        ValueError, match=r"'in_proj_weight' of the model = .* several arrays of npdl"
    ):
        from_torch(source, model, model.init(0, ((5, 6), (4, 6))), names)


def test_one_or_both_biases_of_a_cell_can_be_named():
    model, source = F.lstm(4), drawn(w=(16, 3), u=(16, 4), b=(16,), c=(16,))
    names = {"weight": "w", "recurrent_weight": "u"}
    like = model.init(0, (None, 3))
    both = from_torch(source, model, like, names | {"bias": ("b", "c")})
    source.pop("c")
    one = from_torch(source, model, like, names | {"bias": "b"})
    order = [8, 9, 10, 11, *range(8), 12, 13, 14, 15]  # g, i, f, o
    np.testing.assert_array_equal(one["bias"], source["b"][order])
    assert not np.array_equal(both["bias"], one["bias"])
    np.testing.assert_array_equal(to_torch(one, model, names | {"bias": "b"})["b"], source["b"])
    names["bias"] = ("b", "c")
    written = to_torch(both, model, names)
    assert not written["c"].any()
    assert tree.all_close(from_torch(written, model, like, names), both, rtol=0, atol=0)


def test_keras_arrays_have_names_too():
    model = F.multi_head_attention(2, bias=False)
    source = {name: normal(6, 2, 3, seed=i) for i, name in enumerate("qkv")}
    source["o"] = normal(2, 3, 6)
    names = {"weight": ("q", "k", "v"), "output_weight": "o"}
    params = from_keras(source, model, model.init(0, (5, 6)), names)
    np.testing.assert_array_equal(params["weight"][:, :6], source["q"].reshape(6, 6))
    written = to_keras(params, model, names)
    for name, array in source.items():
        np.testing.assert_array_equal(written[name], array)


# Combinators


def test_a_combinator_is_read_from_the_module_around_its_layers():
    model = F.graph(
        "x", {"old": (dense(3, 3), "x"), "new": (dense(3, 3), "old"), "y": (dense(3), "new")}, "y"
    )
    source = drawn(
        student__0__weight=(3, 3), student__1__weight=(3, 3), head__weight=(3, 3),
        teacher__0__weight=(3, 3), teacher__1__weight=(3, 3),
    )  # fmt: skip
    names = {"old": "teacher", "new": "student"}
    params = from_torch(source, model, model.init(0, (3,)), names)
    np.testing.assert_array_equal(params["old"][1]["weight"], source["teacher.1.weight"].T)
    np.testing.assert_array_equal(params["new"][0]["weight"], source["student.0.weight"].T)
    np.testing.assert_array_equal(params["y"][0]["weight"], source["head.weight"].T)
    written = to_torch(params, model, names | {"y/0": "head"})
    assert written.keys() == source.keys()
    for name, array in source.items():
        np.testing.assert_array_equal(written[name], array)


def test_the_empty_path_is_the_whole_model():
    model, source = dense(3, 3), drawn(
        a__x__0__weight=(3, 3), a__x__1__weight=(3, 3), b__x__0__weight=(3, 3)
    )  # fmt: skip
    like = model.init(0, (3,))
    with pytest.raises(CheckpointError, match=r"unexpected: b\.x\.0\.weight"):
        from_torch(source, model, like, {"": "a"})
    for prefix in ("a", "a.x"):
        params = from_torch(source, model, like, {"": prefix}, partial=True)
        np.testing.assert_array_equal(params[1]["weight"], source["a.x.1.weight"].T)
    assert list(to_torch(params, model, {"": "a.x"})) == ["a.x.0.weight", "a.x.1.weight"]
    assert list(to_keras(params, model, {"": "a/x"})) == ["a/x/0/kernel", "a/x/1/kernel"]


def test_the_longest_path_counts():
    model = F.serial(dense(3, 3), dense(3))
    source = drawn(body__0__weight=(3, 3), extra__weight=(3, 3), body__deep__weight=(3, 3))
    names = {"": "body", "0/1": "extra", "1": "body.deep"}
    params = from_torch(source, model, model.init(0, (3,)), names)
    found = [params[0][0], params[0][1], params[1][0]]
    for part, name in zip(found, source, strict=True):
        np.testing.assert_array_equal(part["weight"], source[name].T)


def test_the_parts_of_a_block_can_be_named():
    block = F.transformer_encoder_block(2, 5)
    model, like = F.serial(block), F.serial(block).init(0, (4, 6))
    plain = to_torch(like, model)
    assert "0.self_attn.in_proj_weight" in plain
    names = {
        "0/attention": "attn", "0/attention_norm": "ln_1", "0/feed_forward_norm": "ln_2",
        "0/feed_forward/0": "mlp.up", "0/feed_forward/3/weight": "down",
        "0/feed_forward/3/bias": "b",
    }  # fmt: skip
    written = to_torch(like, model, names)
    assert {"attn.out_proj.bias", "ln_1.weight", "ln_2.bias", "mlp.up.weight", "down"} < set(
        written
    )
    params = from_torch(written, model, like, names)
    assert tree.all_close(params, like, rtol=0, atol=0)


# Files with more arrays than a model


def test_further_arrays_are_ignored_on_request():
    model, like = dense(3), dense(3).init(0, (2,))
    source = drawn(fc__weight=(3, 2), other__weight=(5, 2), other__bias=(5,))
    with pytest.raises(CheckpointError, match="unexpected: other"):
        from_torch(source, model, like)
    params = from_torch(source, model, like, partial=True)
    np.testing.assert_array_equal(params[0]["weight"], source["fc.weight"].T)
    source["second.weight"] = source["fc.weight"]
    with pytest.raises(CheckpointError, match="equal names and shapes"):
        from_torch(source, model, like, partial=True)
    assert from_torch(source, model, like, {"0": "fc"}, partial=True)


# Errors

MODEL = F.serial(dense(3, 3), F.relu(), F.dense(3))
LIKE = MODEL.init(0, (3,))
SOURCE = drawn(a__weight=(3, 3), b__weight=(3, 3), c__weight=(3, 3), c__bias=(3,), d=(2, 3))
WRONG = {
    "no path": ({"1": "a"}, ValueError, r"not the path of a layer .* '0/0', '0/1', '2'; n"),
    "part of a path": ({"0/": "a"}, ValueError, "'0/' is not the path of a layer"),
    "a number": ({0: "a"}, ValueError, "names: 0 is not the path of a layer"),
    "no name": ({"2": None}, TypeError, "name of a module or an array for '2', .* got None"),
    "a list": ({"2/bias": ["c.bias"]}, TypeError, r"for '2/bias', .* got \['c\.bias'\]"),
    "no names": ({"2/bias": ()}, TypeError, r"for '2/bias', .* got \(\)"),
    "two modules": ({"2": ("a", "c")}, TypeError, r"for '2', .* got \('a', 'c'\)"),
    "no array": ({"2/bias": "e"}, ValueError, r"mapping has no array 'e'; it has 'a.weight'"),
    "a module for an array": ({"2/bias": "c"}, ValueError, "has no array 'c'"),
    "an array for a layer": ({"2": "c.bias"}, ValueError, r"no module 'c\.bias'; it has '', 'a', "),
    "no module": ({"0": "e"}, ValueError, "names: the mapping has no module 'e'"),
    "another shape": ({"0/0/weight": "d"}, CheckpointError, r"d is \[2, 3\], but 0/0/weight"),
    "joined, of other sizes": (
        {"0/0/weight": ("d", "b.weight")},
        CheckpointError,
        r"the arrays d, b\.weight are \[2, 3\], \[3, 3\], but 0/0/weight .* \[3, 3\]",
    ),
    "joined, of other axes": (
        {"0/0/weight": ("d", "c.bias")}, CheckpointError, r"are \[2, 3\], \[3\], but"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("names", "kind", "message"), WRONG.values(), ids=WRONG)
def test_wrong_names_are_refused_with_the_reason(names, kind, message):
    with pytest.raises(kind, match=message):
        from_torch(SOURCE, MODEL, LIKE, names)


def test_arrays_without_a_counterpart_are_named():
    model = F.batch_norm()
    source = drawn(weight=(3,), bias=(3,), running_mean=(3,), running_var=(3,))
    with pytest.raises(ValueError, match=r"'count' of batch_norm.* is not an array of PyTorch"):
        from_torch(source, model, model.init(0, (3,)), {"count": "weight"})
    names = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
    params = from_torch(source, model, model.init(0, (3,)), names)
    assert params["count"] == 1


def test_the_biases_of_cells_are_listed():
    model, names = F.lstm(4), {"weight": "w", "recurrent_weight": "u", "bias": ("a", "b", "c")}
    source = drawn(w=(16, 3), u=(16, 4), a=(16,), b=(16,), c=(16,))
    with pytest.raises(ValueError, match=r"is 'bias_ih', 'bias_hh' in PyTorch; .* tuple of 2"):
        from_torch(source, model, model.init(0, (None, 3)), names)


def test_a_long_list_of_names_is_cut_in_errors():
    source = {f"layer_{i}.weight": np.ones((3, 3), "f") for i in range(500)}
    with pytest.raises(ValueError, match=r"has no module 'e'; .* and 481 others") as caught:
        from_torch(source, MODEL, LIKE, {"0": "e"})
    assert len(str(caught.value)) < 1000
