import json
import pickle
import pickletools
from collections import namedtuple

import numpy as np
import pytest

import npdl.functional as F
from npdl._constructor import Recorded, RecordedFunction, _frozen, constructor
from npdl.functional import from_config

Size = namedtuple("Size", "height width")


@constructor
def made(a, b=2, *rest, c=3, **others):
    """A constructor with every kind of parameter; it returns its arguments."""
    return RecordedFunction(lambda: (a, b, rest, c, others))


@constructor
def plain(a=1, b=None, c=(1, 2)):
    return RecordedFunction(lambda: (a, b, c))


@constructor
def positional(a, b=2, /, c=3):
    return RecordedFunction(lambda: (a, b, c))


@constructor
def start(depth=2, *parts):
    return RecordedFunction(lambda: (depth, parts))


OWN = (made, plain, positional, start)
NAMES = {item.__name__: item for item in OWN} | {"array": np.array, "float32": np.float32, "np": np}
NAMES |= {name: getattr(F, name) for name in F.__all__}

# A value, and how it prints.
CALLS = {
    "nothing": (plain(), "plain()"),
    "by position": (plain(5, "text"), "plain(a=5, b='text')"),
    "by keyword, in the order of the signature": (plain(b=True, a=0.5), "plain(a=0.5, b=True)"),
    "defaults are left out": (plain(1, None, c=(1, 2)), "plain()"),
    "a list is a tuple": (plain(c=[1, [2, []]]), "plain(c=(1, (2, ())))"),
    "a list equal to the default": (plain(c=[1, 2]), "plain()"),
    "a dict": (plain({"k": [1], 2: None}), "plain(a={'k': (1,), 2: None})"),
    "rest": (made(1, 5, 6, 7), "made(1, 5, 6, 7)"),
    "rest behind a default": (made(1, 2, 6), "made(1, 2, 6)"),
    "only rest behind a default": (start(2, 5), "start(2, 5)"),
    "no rest": (start(2), "start()"),
    "rest and keywords": (made(1, 5, 6, c=4, d=8), "made(1, 5, 6, c=4, d=8)"),
    "keywords of any name": (made(1, x=[1], e=None), "made(a=1, x=(1,), e=None)"),
    "positional only": (positional(1), "positional(1)"),
    "positional only, in full": (positional(1, 5, 6), "positional(1, 5, c=6)"),
    "NumPy's numbers": (plain(np.int64(5), np.True_, np.float64(0.5)), "plain(a=5, b=True, c=0.5)"),
    "an array": (plain(np.array([1, 2])), "plain(a=array([1, 2]))"),
    "float32": (plain(np.ones(1, np.float32)), "plain(a=array([1.], dtype=float32))"),
    "nested": (plain([made(1), {"k": plain(2)}]), "plain(a=(made(a=1), {'k': plain(a=2)}))"),
    "layers": (
        F.serial(F.dense(3, bias=False), F.residual(F.dense(4))),
        "serial(dense(units=3, bias=False), residual(dense(units=4)))",
    ),
    "an initializer": (
        F.dense(units=3, weight_init=made(1)),
        "dense(units=3, weight_init=made(a=1))",
    ),
    "a graph": (
        F.graph("x", {("a", "b"): (F.parallel(F.dense(1), join=None), "x")}, ("a",)),
        "graph(inputs='x', nodes={('a', 'b'): (parallel(dense(units=1), join=None), 'x')}, "
        "outputs=('a',))",
    ),
}
calls = pytest.mark.parametrize(("value", "text"), CALLS.values(), ids=CALLS)


def returned(value):
    """The arguments of `made` and the others, with lists as tuples."""
    return repr(_frozen(value())) if isinstance(value, RecordedFunction) else None


@calls
def test_repr_is_the_call_and_evaluates_to_an_equal_value(value, text):
    assert repr(value) == text
    same = eval(text, dict(NAMES))
    assert same == value
    assert returned(same) == returned(value)


@calls
def test_pickle_and_json_give_an_equal_value(value, text):
    config = json.loads(json.dumps(value.config()))
    for same in (pickle.loads(pickle.dumps(value)), from_config(config, constructors=OWN)):
        assert type(same) is type(value)
        assert same == value
        assert hash(same) == hash(value)
        assert repr(same) == text
        assert same.config() == value.config()


@calls
def test_the_configuration_is_plain_json_whose_names_are_strings(value, text):
    def check(item):
        assert type(item) in (dict, list, str, int, float, bool, type(None))
        for part in item.values() if isinstance(item, dict) else item if type(item) is list else ():
            check(part)

    assert value.config()["call"] == text.partition("(")[0]
    check(value.config())


def test_the_values_given_reach_the_function_as_they_are():
    array = np.ones(2)
    a, _, c = plain(array, c=[1, 2])()
    assert a is array
    assert c == [1, 2]
    assert made(1, 2, 3, c=4, d=5)() == (1, 2, (3,), 4, {"d": 5})


def test_the_wrapped_function_keeps_name_signature_and_errors():
    assert made.__name__ == "made"
    assert made.__doc__.startswith("A constructor")
    with pytest.raises(TypeError, match=r"made\(\) missing 1 required"):
        made()
    with pytest.raises(TypeError, match="unexpected keyword argument 'd'"):
        plain(d=1)


# Equality

DIFFERENT = [
    plain(),
    plain(2),
    plain("1"),
    plain(b=2),
    plain((1,)),
    plain((1, 2)),
    plain(((1, 2),)),
    plain({"k": 1}),
    plain({"k": 2}),
    plain({"k": 1, "l": 1}),
    plain({"l": 1, "k": 1}),
    plain(np.array([1, 2])),
    plain(np.array([1, 3])),
    plain(np.array([[1, 2]])),
    plain(np.array([1, 2], np.float32)),
    plain(plain()),
    plain(made(1)),
    made(1),
    made(1, 2, 3),
    made(1, 2, 3, 4),
    made(1, k=1),
    F.dense(3),
    F.dense(3, bias=False),
    F.serial(),
    F.serial(F.dense(3)),
    F.serial(F.dense(3), F.dense(3)),
    F.residual(F.dense(3)),
]


def test_values_of_different_calls_are_different():
    for i, a in enumerate(DIFFERENT):
        for j, b in enumerate(DIFFERENT):
            assert (a == b) is (i == j)
            assert (a != b) is (i != j)
    assert len(set(DIFFERENT)) == len(DIFFERENT)


EQUAL = {
    "ints and floats": (plain(2), plain(2.0)),
    "truth values and ints": (plain(b=1), plain(b=True)),
    "a NumPy number": (plain(np.float64(0.5)), plain(0.5)),
    "lists and tuples": (plain([1, [2]]), plain((1, (2,)))),
    "arrays": (plain(np.arange(3)), plain(np.arange(3))),
    "arrays that print alike": (plain(np.arange(5000)), plain(np.arange(5000))),
    "zeros": (plain(0.0), plain(-0.0)),
    "by position and by keyword": (made(1, 5), made(b=5, a=1)),
    "layers": (F.serial(F.dense(1)), F.serial(F.dense(np.int64(1)))),
    "sets": (plain({1, 2}), plain({2, 1})),
}


@pytest.mark.parametrize(("a", "b"), EQUAL.values(), ids=EQUAL)
def test_values_of_equal_calls_are_equal_and_hash_alike(a, b):
    assert a == b
    assert b == a
    assert hash(a) == hash(b)
    assert len({a, b}) == 1


def test_a_constructor_of_the_same_name_is_another_one():
    def again():
        @constructor
        def plain(a=1):
            return RecordedFunction(lambda: a)

        return plain

    first, second = again(), again()
    assert first(2) == first(2)
    assert first(2) != second(2)
    assert first(2) != plain(2)


def test_values_are_not_equal_to_anything_else():
    for other in (None, "plain()", 0, plain, plain.__wrapped__):
        assert plain() != other
    assert F.dense(3) != F.dense(3).call


def test_a_value_without_a_constructor_equals_itself_only():
    layers = [F.Layer(*[getattr(F.dense(3), name) for name in ("init", "apply", "backward")])] * 2
    other = F.Layer(*[getattr(F.dense(3), name) for name in ("init", "apply", "backward")])
    assert layers[0] == layers[1]
    assert hash(layers[0]) == hash(layers[1])
    assert layers[0] != other
    assert "Layer object at" in repr(other)
    with pytest.raises(TypeError, match="cannot pickle a Layer without a constructor"):
        pickle.dumps(other)
    with pytest.raises(TypeError, match="because it has no constructor"):
        other.config()
    with pytest.raises(TypeError, match=r"serial has an argument that JSON cannot store"):
        F.serial(other).config()


def test_a_function_prints_by_its_name():
    assert repr(plain(print, b=returned)) == "plain(a=print, b=returned)"
    assert eval(repr(plain(returned)), NAMES | globals()) == plain(returned)


def test_values_cannot_be_changed():
    with pytest.raises(AttributeError):
        F.dense(3).init = None


# Configurations

UNENCODABLE = {
    "a function": (
        plain(print),
        "plain has an argument that JSON cannot store: <built-in .*with @layer",
    ),
    "inside": (made(1, 2, plain([{"k": {1}}])), r"made, plain has an argument .* store: \{1\}"),
    "bytes": (plain(b"x"), "store: b'x'"),
    "a complex number": (plain(1j), "store: 1j"),
    "an array of objects": (plain(np.array([None])), "store: array"),
}


@pytest.mark.parametrize(("value", "message"), UNENCODABLE.values(), ids=UNENCODABLE)
def test_values_that_json_lacks_are_named_with_their_path(value, message):
    with pytest.raises(TypeError, match=message):
        value.config()


BAD = {
    "an unknown constructor": ({"call": "print"}, "constructor 'print' .* Known are: .*dense"),
    "a name of Python": ({"call": "__import__", "positional": ["os"]}, "unknown constructor"),
    "a path": ({"call": "os.system", "positional": ["true"]}, "unknown constructor"),
    "a public function that makes no layer": ({"call": "from_config"}, "unknown constructor"),
    "the class": ({"call": "Layer"}, "unknown constructor"),
    "the decorator": ({"call": "layer"}, "unknown constructor"),
    "a private name": ({"call": "__init__"}, "unknown constructor"),
    "a list for a name": ({"call": ["dense"]}, "unknown constructor"),
    "a number for a name": ({"call": 3}, "unknown constructor 3"),
    "your own, not given": ({"call": "plain"}, r"constructors=\[\.\.\.\]"),
    "unknown keys": ({"call": "dense", "args": [3]}, "expected the keys .* got .'args', 'call'"),
    "no call": ({"positional": [3]}, "not a configuration of npdl"),
    "empty": ({}, "not a configuration of npdl"),
    "inside": (
        {"call": "serial", "positional": [{"call": "serial", "positional": [{"call": "x"}]}]},
        "unknown constructor 'x'",
    ),
    "inside a dict": (
        {"call": "dense", "arguments": {"units": {"items": [["k", {"call": "eval"}]]}}},
        "unknown constructor 'eval'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "message"), BAD.values(), ids=BAD)
def test_a_configuration_calls_nothing_but_constructors(config, message):
    with pytest.raises(ValueError, match=message):
        from_config(config)


def test_from_config_knows_decorated_constructors_only():
    for name in F.__all__:
        item = getattr(F, name)
        if not hasattr(item, "is_constructor"):
            with pytest.raises(ValueError, match="unknown constructor"):
                from_config({"call": name})


def test_from_config_raises_the_errors_of_the_constructor():
    with pytest.raises(TypeError, match="unexpected keyword argument 'unit'"):
        from_config({"call": "dense", "arguments": {"unit": 3}})
    with pytest.raises(ValueError, match="units must be"):
        from_config({"call": "dense", "arguments": {"units": -3}})


def test_a_passed_constructor_takes_precedence():
    def dense(units):
        return RecordedFunction(lambda: units)

    mine = constructor(dense)
    assert from_config({"call": "dense", "positional": [3]}, [mine])() == 3
    assert isinstance(from_config({"call": "dense", "positional": [3]}), F.Layer)


@pytest.mark.parametrize("dtype", ["?", "i1", ">i4", "u8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_arrays_keep_type_shape_and_values_in_json(dtype, shape):
    array = (np.arange(6) / 3).astype(dtype).reshape(2, 3)[(0,) * (2 - len(shape))]
    value = plain(np.asarray(array, dtype))
    again = from_config(json.loads(json.dumps(value.config())), [plain])
    found = again()[0]
    assert found.dtype == np.dtype(dtype)
    assert found.shape == shape
    assert np.array_equal(found, array)
    assert again == value


def test_a_constructor_made_of_another_one_prints_as_itself():
    @F.layer
    def block(units):
        return F.serial(F.dense(units), F.dense(units))

    model = block(3)
    assert repr(model) == "block(units=3)"
    assert model != F.serial(F.dense(3), F.dense(3))
    assert F.from_config(F.serial(model).config(), [block]) == F.serial(model)
    assert isinstance(model, Recorded)


def test_a_named_tuple_is_kept_for_the_function_and_in_the_repr():
    value = plain(Size(1, 2))
    assert value()[0] == Size(1, 2)
    assert repr(value) == "plain(a=Size(height=1, width=2))"
    assert pickle.loads(pickle.dumps(value)) == value


PUBLIC = ["dense(3)", "serial(dense(3), relu())", "adam(1e-3)", "glorot_uniform()"]


@pytest.mark.parametrize("text", PUBLIC)
def test_a_pickle_names_no_private_module(text):
    value = eval(text, vars(F))
    written = pickle.dumps(value)
    modules = {name for _, name, _ in pickletools.genops(written) if isinstance(name, str)}
    assert {name for name in modules if name.startswith("npdl")} == {"npdl.functional"}
    assert pickle.loads(written) == value


def test_every_constructor_names_the_public_path():
    for name in F.__all__:
        item = getattr(F, name)
        if hasattr(item, "is_constructor"):
            assert item.__module__ == "npdl.functional"
