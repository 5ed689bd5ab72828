import pickle
from collections import OrderedDict, defaultdict

import attrs
import numpy as np
import pytest
from arrays import Pair, Record, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import FLOATS, arrays, keys, scalars, trees

import npdl.functional as F
from npdl import tree

drawn = settings(max_examples=80)
numbers = st.integers(0, 1 << 20)


@attrs.frozen
class Private:
    """Its argument has another name than its field."""

    _hidden: object
    kept: object = attrs.field(alias="given")


class Special(dict):
    pass


class Row(list):
    pass


class Word(tuple):
    __slots__ = ()


# Every kind of node, with the same leaves 1, 2, 3 in order.
NODES = {
    "dict": ({"b": 2, "a": 1, "c": 3}, ["a", "b", "c"]),
    "tuple": ((1, 2, 3), ["0", "1", "2"]),
    "list": ([1, 2, 3], ["0", "1", "2"]),
    "NamedTuple": (Pair(1, (2, 3)), ["first", "second/0", "second/1"]),
    "attrs record": (Record(weight=1, bias=[2, 3]), ["weight", "bias/0", "bias/1"]),
    "attrs record with private fields": (Private(1, (2, 3)), ["_hidden", "kept/0", "kept/1"]),
    "OrderedDict": (OrderedDict(b=2, a=1, c=3), ["a", "b", "c"]),
    "defaultdict": (defaultdict(list, {"b": 2, "a": 1, "c": 3}), ["a", "b", "c"]),
    "subclass of dict": (Special(b=2, a=1, c=3), ["a", "b", "c"]),
    "subclass of list": (Row([1, 2, 3]), ["0", "1", "2"]),
    "subclass of tuple": (Word((1, 2, 3)), ["0", "1", "2"]),
    "ints as keys": ({10: 3, 9: 2, 1: 1}, ["1", "9", "10"]),
    "keys of several types": ({"b": 3, 1: 1, "a": 2}, ["1", "a", "b"]),
    "a number and its digits as keys": ({"1": 2, 1: 1, "2": 3}, ["1", "1", "2"]),
    "tuples as keys": ({("b", 1): 3, ("a", 2): 2, "": 1}, ["", "('a', 2)", "('b', 1)"]),
    "None inside": ({"c": (None, 3), "b": None, "a": (1, None, 2)}, ["a/0", "a/2", "c/1"]),
    "empty nodes": ({"a": (), "b": (1, {}, [2]), "c": {"d": 3}, "e": []},
                    ["b/0", "b/2/0", "c/d"]),
    "deep": ({"a": ({"b": [1, Pair({"c": (2,)}, 3)]},)},
             ["a/0/b/0", "a/0/b/1/first/c/0", "a/0/b/1/second"]),
}  # fmt: skip
nodes = pytest.mark.parametrize(("node", "paths"), NODES.values(), ids=NODES)


@nodes
def test_leaves_and_paths_follow_fields_and_sorted_keys(node, paths):
    assert tree.leaves(node) == [1, 2, 3]
    assert tree.paths(node) == paths
    assert list(tree.items(node)) == list(zip(paths, [1, 2, 3], strict=True))
    assert tree.flatten(node)[0] == [1, 2, 3]


@nodes
def test_map_keeps_the_kind_of_every_node_and_the_order_of_keys(node, paths):
    before = pickle.dumps(node)
    mapped = tree.map(lambda leaf: 10 * leaf, node)
    assert tree.leaves(mapped) == [10, 20, 30]
    assert identical_or_equal(tree.map(lambda leaf: leaf // 10, mapped), node)
    added = tree.map(lambda a, b: a + b, node, mapped)
    assert identical_or_equal(tree.map(lambda leaf: leaf // 11, added), node)
    assert pickle.dumps(node) == before


@nodes
def test_unflatten_puts_the_leaves_back(node, paths):
    leaves, structure = tree.flatten(node)
    for template in (structure, node):
        assert identical_or_equal(tree.unflatten(template, leaves), node)
    other = tree.unflatten(structure, ["x", "y", "z"])
    assert list(tree.items(other)) == list(zip(paths, "xyz", strict=True))


def identical_or_equal(a, b):
    """Equality of type and order too, for the kinds of nodes that `identical` does not know."""
    same_order = not isinstance(a, dict) or list(a) == list(b)
    return (
        type(a) is type(b) and a == b and same_order and same_bits(tree.leaves(a), tree.leaves(b))
    )


@pytest.mark.parametrize(
    "keys", [(1, "1"), (2, "10", "2"), (None, "None"), ((1, "a"), "(1, 'a')")], ids=str
)
def test_the_order_of_leaves_ignores_the_order_of_insertion(keys):
    node = {key: i for i, key in enumerate(keys)}
    turned = dict(reversed(node.items()))
    assert tree.leaves(turned) == tree.leaves(node)
    assert tree.unflatten(turned, tree.leaves(node)) == node


def test_a_defaultdict_keeps_its_factory():
    mapped = tree.map(lambda leaf: leaf, defaultdict(list, a=1))
    assert mapped["new"] == []


@pytest.mark.parametrize(
    "leaf",
    [3, 0.5, "text", b"bytes", np.ones(2), np.float32(1), np.ones(()), {1}, F.dense(2), print],
    ids=lambda leaf: type(leaf).__name__,
)
def test_everything_else_is_a_leaf(leaf):
    assert tree.leaves(leaf) == [leaf] if np.ndim(leaf) == 0 else tree.leaves(leaf)[0] is leaf
    assert tree.paths(leaf) == [""]
    assert tree.map(lambda same: same, leaf) is leaf
    assert tree.flatten(leaf)[1] is tree.LEAF


def test_a_layer_is_one_leaf_although_it_is_an_attrs_record():
    model = F.serial(F.dense(2), F.dense(3))
    assert tree.leaves({"model": model, "others": (model,)}) == [model, model]


@pytest.mark.parametrize("empty", [None, (), [], {}, (None, {}), {"a": [None, ()]}])
def test_trees_without_leaves(empty):
    assert tree.leaves(empty) == []
    assert tree.paths(empty) == []
    assert tree.map(fail, empty) == empty
    assert tree.unflatten(empty, []) == empty
    assert tree.count(empty) == 0
    assert tree.astype(empty, np.float64) == empty
    vector, unravel = tree.ravel(empty)
    assert same_bits(vector, np.zeros(0, np.float32))
    assert unravel(vector) == empty
    assert tree.all_close(empty, empty)


def fail(*args):
    raise AssertionError("there is no leaf")


# Drawn trees


@drawn
@given(trees(arrays() | scalars))
def test_flatten_and_unflatten_are_inverse(given_tree):
    leaves, structure = tree.flatten(given_tree)
    assert same_bits(tree.unflatten(structure, leaves), given_tree)
    assert tree.leaves(structure) == [tree.LEAF] * len(leaves)
    assert len(tree.paths(given_tree)) == len(leaves)


@drawn
@given(trees(arrays(["<f4"])))
def test_ravel_and_its_way_back_are_inverse(given_tree):
    vector, unravel = tree.ravel(given_tree)
    assert vector.shape == (tree.count(given_tree),)
    assert vector.dtype == np.float32
    assert same_bits(unravel(vector), given_tree)
    joined = [leaf.ravel() for leaf in tree.leaves(given_tree)]
    assert same_bits(vector, np.concatenate([np.zeros(0, np.float32), *joined]))


@drawn
@given(trees(arrays(FLOATS)), st.sampled_from([np.float32, np.float64]))
def test_astype_changes_floats_and_nothing_else(given_tree, dtype):
    with np.errstate(all="ignore"):
        changed = tree.astype((given_tree, np.arange(3), True, 0.5, "text"), dtype)
    assert all(leaf.dtype == dtype for leaf in tree.leaves(changed[0]))
    assert same_bits(changed[1:], (np.arange(3), True, 0.5, "text"))
    assert tree.paths(changed[0]) == tree.paths(given_tree)


@drawn
@given(trees(numbers, keys=keys) | trees(numbers, keys=st.integers()))
def test_the_order_of_leaves_agrees_with_jax(given_tree):
    jax = pytest.importorskip("jax")

    def plain(node):
        """JAX knows no attrs records, and does not sort the keys of an OrderedDict."""
        if isinstance(node, Record):
            return (plain(node.weight), plain(node.bias))
        if isinstance(node, dict):
            return {key: plain(child) for key, child in node.items()}
        if isinstance(node, Pair):
            return Pair(plain(node.first), plain(node.second))
        return type(node)(map(plain, node)) if isinstance(node, tuple | list) else node

    node = plain(given_tree)
    assert tree.leaves(node) == jax.tree.leaves(node)
    leaves, structure = jax.tree.flatten(node)
    assert jax.tree.unflatten(structure, leaves) == tree.unflatten(node, leaves)
    assert jax.tree.map(lambda n: n + 1, node) == tree.map(lambda n: n + 1, node)


@drawn
@given(trees(numbers), st.data())
def test_aligned_gives_one_entry_for_each_leaf_and_none(given_tree, data):
    """Cut subtrees out at random: exactly the leaves below them are None."""

    def cut(node):
        children = tree._children(node)
        if node is None or data.draw(st.integers(0, 4)) == 0:
            return None
        return (
            node
            if children is None
            else tree._rebuild(node, {k: cut(c) for k, c in children.items()})
        )

    gradients = cut(given_tree)
    kept = dict(tree.items(gradients))
    expected = [kept.get(path) for path in tree.paths(given_tree)]
    assert tree.aligned(gradients, given_tree) == expected
    doubled = tree.map(lambda p, g: p + g, given_tree, gradients)
    assert dict(tree.items(doubled)) == {path: 2 * leaf for path, leaf in kept.items()}


@drawn
@given(trees(numbers, keys=st.sampled_from("abc")), trees(numbers, keys=st.sampled_from("abc")))
def test_map_and_aligned_agree_on_which_trees_fit(a, b):
    def outcome(call):
        try:
            return call()
        except ValueError:
            return "differ"

    mapped = outcome(lambda: tree.leaves(tree.map(lambda x, y: (x, y), b, a)))
    aligned = outcome(lambda: tree.aligned(a, b))
    assert (mapped == "differ") == (aligned == "differ")


# None


def test_map_has_none_wherever_one_of_the_trees_has_it():
    params = {"a": (1, 2), "b": {"c": 3}, "d": 4}
    grads = {"a": None, "b": {"c": 30}, "d": None}
    assert tree.map(lambda p, g: p - g, params, grads) == {"a": None, "b": {"c": -27}, "d": None}
    assert tree.map(lambda g, p: p - g, grads, params) == {"a": None, "b": {"c": -27}, "d": None}
    assert tree.map(fail, params, None) is None


def test_add_counts_none_as_zero_at_any_depth():
    a = {"x": (1, None), "y": None, "z": {"w": 5}}
    b = {"x": (10, 20), "y": (30, 40), "z": None}
    expected = {"x": (11, 20), "y": (30, 40), "z": {"w": 5}}
    assert tree.add(a, b) == expected
    assert tree.add(b, a) == expected
    assert tree.add(None, None) is None
    assert tree.add(a, None) == a


def test_add_makes_a_new_array_and_leaves_both_sides():
    a, b = np.ones(3), np.full(3, 2.0)
    a.flags.writeable = b.flags.writeable = False
    total = tree.add((a,), (b,))[0]
    assert total.tolist() == [3, 3, 3]
    assert total is not a


# Mismatches

MISMATCHES = {
    "missing key": (
        {"a": {"x": 1, "y": 2}},
        {"a": {"x": 1, "z": 2}},
        "the trees differ at a: a dict of 2 (x, y) against a dict of 2 (x, z); only the first has "
        "y; only the second has z",
    ),
    "longer": (
        (1, (2, 3)),
        (1, (2, 3, 4)),
        "the trees differ at 1: a tuple of 2 (0, 1) against a tuple of 3 (0, 1, 2); only the second"
        " has 2",
    ),
    "leaf against node": (
        {"a": (np.ones((2, 3), np.float32),)},
        {"a": ({"weight": 1},)},
        "the trees differ at a/0: an array float32[2, 3] against a dict of 1 (weight)",
    ),
    "node against leaf": (
        [Pair(1, (2,))],
        [Pair(1, 2)],
        "the trees differ at 0/second: a tuple of 1 (0) against a leaf of type int",
    ),
    "the root": (
        1,
        (1,),
        "the trees differ at the root: a leaf of type int against a tuple of 1 (0)",
    ),
    "record": (
        Record(1, 2),
        {"weight": 1},
        "the trees differ at the root: a Record of 2 (weight, bias) against a dict of 1 (weight); "
        "only the first has bias",
    ),
    "empty": (
        {"a": ()},
        {"a": (1,)},
        "the trees differ at a: a tuple of 0 () against a tuple of 1 (0); only the second has 0",
    ),
}
mismatches = pytest.mark.parametrize(("a", "b", "message"), MISMATCHES.values(), ids=MISMATCHES)


@mismatches
def test_a_mismatch_names_the_path_both_sides_and_the_keys(a, b, message):
    calls = [
        lambda: tree.map(lambda *leaves: leaves, a, b),
        lambda: tree.aligned(a, like=b),
        lambda: tree.all_close(a, b),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="differ") as raised:
            call()
        assert str(raised.value) == message
    with pytest.raises(ValueError, match=r"the trees differ at .* against "):
        tree.add(a, b)


def test_a_mismatch_of_a_third_tree_is_found():
    with pytest.raises(ValueError, match=r"differ at a: a tuple of 1 \(0\) against a tuple of 2"):
        tree.map(lambda *leaves: leaves, {"a": (1,)}, {"a": (1,)}, {"a": (1, 2)})


def test_a_mismatch_of_wide_nodes_is_still_short():
    wide = {f"key{i}": i for i in range(1000)}
    with pytest.raises(ValueError, match="differ") as raised:
        tree.map(fail, wide, {**wide, "other": 1})
    assert "a dict of 1000 (key0, key1, " in str(raised.value)
    assert str(raised.value).endswith("only the second has other")
    assert len(str(raised.value)) < 400


def test_all_close_takes_none_for_a_difference_of_structure():
    with pytest.raises(ValueError, match="differ at a: None against an array"):
        tree.all_close({"a": None}, {"a": np.ones(2)})
    with pytest.raises(ValueError, match=r"differ at a/0: a leaf of type int against None"):
        tree.all_close({"a": (1,)}, {"a": (None,)})


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
def test_unflatten_wants_as_many_leaves_as_there_are_places(count):
    with pytest.raises(ValueError, match=f"the structure has 3 leaves, got {count}"):
        tree.unflatten({"a": (0, 0), "b": 0}, list(range(count)))


# Numbers


def test_ravel_refuses_several_data_types_and_names_them():
    mixed = {"weight": np.ones(2, np.float32), "step": np.ones((), np.int64)}
    with pytest.raises(TypeError, match="step is int64, weight is float32"):
        tree.ravel(mixed)


def test_ravel_gives_a_new_vector_and_views_into_the_passed_one():
    array = np.arange(6.0).reshape(2, 3)
    vector, unravel = tree.ravel({"a": array})
    assert not np.shares_memory(vector, array)
    back = unravel(vector)["a"]
    assert np.shares_memory(back, vector)
    vector[:] = 7
    assert (back == 7).all()


@pytest.mark.parametrize("shape", [(5,), (7,), (6, 1), (2, 3), ()])
def test_the_way_back_takes_vectors_of_its_size_only(shape):
    unravel = tree.ravel({"a": np.zeros((2, 3))})[1]
    with pytest.raises(ValueError, match="expected a vector of 6 numbers, got shape"):
        unravel(np.zeros(shape))


def test_the_way_back_takes_any_data_type():
    _, unravel = tree.ravel({"a": np.zeros((2, 3), np.float32)})
    assert unravel(np.ones(6, np.int8))["a"].dtype == np.int8


def test_count_counts_numbers():
    assert tree.count({"a": np.zeros((2, 3)), "b": (np.zeros(()), None, 5, np.zeros((0, 9)))}) == 8


CLOSE = {
    "equal": (np.ones(2), np.ones(2), True),
    "near": (np.ones(2), np.ones(2) + 1e-7, True),
    "far": (np.ones(2), np.array([1, 1.001]), False),
    "another shape that broadcasts": (np.ones(2), np.ones((3, 2)), False),
    "NaN": (np.array([np.nan]), np.array([np.nan]), False),
    "infinite": (np.array([np.inf]), np.array([np.inf]), True),
}


@pytest.mark.parametrize(("a", "b", "expected"), CLOSE.values(), ids=CLOSE)
def test_all_close_compares_shapes_and_values_of_every_leaf(a, b, expected):
    assert tree.all_close({"x": 1, "y": (a,)}, {"x": 1, "y": (b,)}) is expected


def test_all_close_follows_its_tolerances():
    assert tree.all_close(np.ones(1), np.full(1, 1.1), rtol=0.2)
    assert not tree.all_close(np.zeros(1), np.full(1, 0.1), rtol=0.2)
    assert tree.all_close(np.zeros(1), np.full(1, 0.1), atol=0.2)


def test_astype_makes_new_arrays():
    array = np.ones(2, np.float32)
    assert tree.astype(array, np.float32) is not array


@given(st.lists(keys, max_size=5, unique=True))
def test_a_key_is_a_step_of_the_path(steps):
    nested = 1
    for step in reversed(steps):
        nested = {step: nested}
    assert tree.paths(nested) == ["/".join(steps)]
