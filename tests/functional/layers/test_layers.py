"""Checks that every layer passes, over the tables of layers and of functions."""

import json
import pickle

import numpy as np
import pytest
from arrays import arrays_of, read_only, same_bits
from cases import CASES, Case

import npdl.functional as F
from npdl import random, tree
from npdl.gradcheck import check_gradients

MODES = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
KEY = (5,)

try:
    from function_cases import FUNCTIONS
except ModuleNotFoundError:  # autograd is not installed
    FUNCTIONS = {}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_layer = pytest.mark.parametrize(
    "case",
    [*CASES.values(), *FUNCTIONS.values()],
    ids=[*CASES, *(f"function, {name}" for name in FUNCTIONS)],
)


def run(case: Case, params, x, train):
    return case.layer.apply(params, x, train=train, rng=KEY if train else None)


def cotangent(y, seed=9):
    generator = random.generator(seed)
    return tree.map(lambda part: generator.normal(size=part.shape).astype(part.dtype), y)


@each_layer
@MODES
def test_gradients_agree_with_central_differences(case, train):
    check_gradients(
        case.layer, case.shape, x=case.x(3), params=case.params(np.float64), train=train, rng=KEY
    )


@each_layer
@MODES
def test_gradients_hold_before_and_after_another_layer(case, train):
    x, params = case.x(3), case.params(np.float64)
    y = run(case, case.params(), x, train)[0]
    if isinstance(x, tuple) or x.dtype.kind != "f" or isinstance(y, tuple):
        pytest.skip("has several inputs or outputs, or takes no floats")
    model = F.serial(F.tanh(), case.layer, F.tanh())
    check_gradients(model, case.shape, x=x, params=((), params, ()), train=train, rng=KEY)


@each_layer
def test_exactly_the_untrained_parameters_have_no_gradient(case):
    params = case.params()
    y, cache = run(case, params, case.x(3), True)
    grads, _ = case.layer.backward(params, cache, cotangent(y))
    gradients = tree.aligned(grads, params)
    missing = [path for path, g in zip(tree.paths(params), gradients, strict=True) if g is None]
    assert missing == sorted(case.untrained)


@each_layer
def test_the_declared_shape_is_the_actual_one(case):
    y = case.layer(case.params(), case.x(4))
    actual = tree.map(lambda part: part.shape[1:], y)
    assert case.layer.out_shape(case.shape) == actual


@each_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_data_type_is_kept(case, dtype):
    params, x = case.params(dtype), tree.astype(case.x(3), dtype)
    for train in (False, True):
        y, cache = run(case, params, x, train)
        grads, dx = case.layer.backward(params, cache, cotangent(y))
        stats = case.layer.update_stats(params, cache)
        for leaf in tree.leaves((y, grads, dx, stats)):
            assert leaf.dtype == dtype, train


@each_layer
def test_read_only_arrays_are_enough_and_nothing_is_written(case):
    for train in (False, True):
        params, x = read_only(case.params()), read_only(case.x(3))
        y, cache = run(case, params, x, train)
        read_only((y, cache))
        g = read_only(cotangent(y))
        before = [array.copy() for array in arrays_of((params, x, y, cache, g))]
        first = case.layer.backward(params, cache, g)
        case.layer.update_stats(params, cache)
        second = case.layer.backward(params, cache, g)
        assert same_bits(first, second)
        assert same_bits(before, arrays_of((params, x, y, cache, g)))


@each_layer
def test_the_same_key_gives_the_same_bits(case):
    for train in (False, True):
        params, x = case.params(), case.x(3)
        assert same_bits(case.layer.init(KEY, case.shape), case.layer.init(KEY, case.shape))
        y, cache = run(case, params, x, train)
        again, cache_again = run(case, params, x, train)
        g = cotangent(y)
        assert same_bits(y, again)
        assert same_bits(
            case.layer.backward(params, cache, g), case.layer.backward(params, cache_again, g)
        )


@each_layer
@MODES
def test_without_a_cache_the_outputs_have_the_same_bits(case, train):
    params, rng = case.params(), KEY if train else None
    for batch in (1, 3, 20):
        x = case.x(batch)
        if train and batch == 1 and not case.empty:
            continue  # the variance of one example is undefined
        y, _ = run(case, params, x, train)
        assert same_bits(case.layer(params, x, train=train, rng=rng), y)
        without, _ = case.layer.apply(params, x, train=train, rng=rng, keep_cache=False)
        assert same_bits(without, y)


@each_layer
def test_a_layer_that_needs_a_key_asks_for_it(case):
    if not case.random:
        case.layer.apply(case.params(), case.x(3), train=True)
        return
    with pytest.raises(ValueError, match="needs a key"):
        case.layer.apply(case.params(), case.x(3), train=True)
    different = [
        case.layer.apply(case.params(), case.x(3), train=True, rng=key)[0] for key in (1, 2)
    ]
    assert not same_bits(*different)


@each_layer
def test_without_input_gradient_the_parameters_get_the_same(case):
    for train in (False, True):
        params = case.params()
        y, cache = run(case, params, case.x(3), train)
        g = cotangent(y)
        grads, _ = case.layer.backward(params, cache, g)
        same, nothing = case.layer.backward(params, cache, g, input_grad=False)
        assert nothing is None
        assert same_bits(grads, same)


@each_case
def test_repr_config_and_pickle_give_an_equal_layer(case):
    copies = [
        eval(repr(case.layer), {name: getattr(F, name) for name in F.__all__}),
        F.from_config(json.loads(json.dumps(case.layer.config()))),
        pickle.loads(pickle.dumps(case.layer)),
    ]
    params, x = case.params(), case.x(3)
    for copy in copies:
        assert copy == case.layer
        assert hash(copy) == hash(case.layer)
        assert repr(copy) == repr(case.layer)
        assert same_bits(copy(params, x), case.layer(params, x))


@each_layer
def test_an_empty_batch_gives_empty_outputs_and_zero_gradients(case):
    for train in (False, True):
        if not case.empty and train:
            with pytest.raises(ValueError, match="empty"):
                run(case, case.params(), case.x(0), train)
            continue
        params = case.params()
        y, cache = run(case, params, case.x(0), train)
        assert all(part.shape[0] == 0 for part in tree.leaves(y))
        assert all(np.isfinite(part).all() for part in tree.leaves(y))
        grads, _ = case.layer.backward(params, cache, cotangent(y))
        for gradient in tree.leaves(grads):
            assert not gradient.any()


def with_gaps(array):
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array


@each_layer
def test_the_layout_in_memory_makes_no_difference(case):
    for train in (False, True):
        params, x = case.params(np.float64), tree.astype(case.x(4), np.float64)
        spread = tree.map(
            lambda part: np.repeat(part, 2, axis=-1)[..., ::2] if part.ndim else part, x
        )
        reverse = tree.map(lambda part: np.asfortranarray(part), x)
        y, cache = run(case, params, x, train)
        g = cotangent(y)
        expected = case.layer.backward(params, cache, g)
        for other in (spread, reverse):
            other_y, other_cache = run(case, params, other, train)
            assert tree.all_close(other_y, y, rtol=1e-9, atol=1e-12)
            strange = tree.map(lambda part: np.repeat(part, 3, axis=-1)[..., ::3], g)
            found = case.layer.backward(params, other_cache, strange)
            assert tree.all_close(found, expected, rtol=1e-9, atol=1e-12)


@each_layer
def test_update_stats_is_pure_and_takes_none(case):
    params = case.params()
    assert same_bits(case.layer.update_stats(params, None), params)
    _, cache = run(case, params, case.x(3), True)
    before = [array.copy() for array in arrays_of(params)]
    after = case.layer.update_stats(params, cache)
    assert same_bits(before, arrays_of(params))
    assert tree.paths(after) == tree.paths(params)


@each_case
def test_float16_is_refused_and_the_error_shows_the_remedy(case):
    params, x = case.params(), case.x(3)
    takes_floats = any(leaf.dtype.kind == "f" for leaf in tree.leaves(x))
    half, remedy = np.float16, r"float16.*astype\(.*np.float32\)"
    for given in ((params, tree.astype(x, half)),) if takes_floats else ():
        with pytest.raises(TypeError, match=remedy):
            case.layer(*given)
    for path in set(tree.paths(params)) - {p for p in tree.paths(params) if p.endswith("count")}:
        some = tree.unflatten(
            params,
            [leaf.astype(half) if at == path else leaf for at, leaf in tree.items(params)],
        )
        with pytest.raises(TypeError, match=remedy):
            case.layer(some, x)
    if tree.leaves(params):
        with pytest.raises(TypeError, match=remedy):
            case.layer(tree.astype(params, half), tree.astype(x, half))


class Subclass(np.ndarray):
    """An array of an unknown subclass."""


@each_case
def test_a_subclass_of_arrays_is_refused_wherever_it_is(case):
    given = case.params(), case.x(3)
    for path, array in tree.items(given):
        for kind in (np.ma.MaskedArray, np.matrix, np.recarray, Subclass):
            if path.endswith("count") or (kind is np.matrix and array.ndim != 2):
                continue
            leaves = [array.view(kind) if at == path else leaf for at, leaf in tree.items(given)]
            with pytest.raises(TypeError, match=f"got .*{kind.__name__}.*np.asarray"):
                case.layer(*tree.unflatten(given, leaves))


@each_case
def test_arrays_mapped_from_a_file_are_welcome(case, tmp_path):
    def mapped(array):
        if not array.size:
            return array
        found = np.memmap(tmp_path / f"{id(array)}", array.dtype, "w+", shape=array.shape or (1,))
        found[...] = array
        return found if array.ndim else array

    params, x = case.params(), case.x(3)
    assert same_bits(case.layer(params, tree.map(mapped, x)), case.layer(params, x))


def test_every_constructor_of_layers_is_in_the_table():
    def constructors(layer):
        found = {layer.call.name}
        for argument in tree.leaves([layer.call.positional, layer.call.keywords]):
            found |= constructors(argument) if isinstance(argument, F.Layer) else set()
        return found

    tested = set().union(*(constructors(case.layer) for case in CASES.values()))
    known = set()
    for name in F.__all__:
        constructor = getattr(F, name)
        returns = getattr(constructor, "__annotations__", {}).get("return")
        if hasattr(constructor, "is_constructor") and returns is F.Layer:
            known.add(name)
    # The function needs autograd: see test_from_function.py. The batch of an ensemble is the second
    # axis: see test_ensemble.py.
    assert known - tested == {"from_function", "ensemble"}


WRONG = {
    "nothing": {},
    "another name": {"other": np.ones(3, np.float32)},
    "a tuple": (),
    "None": None,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.params()])
def test_parameters_of_another_layer_are_refused(name, wrong):
    # A norm without its scale, for example, would otherwise compute other numbers.
    case = CASES[name]
    with pytest.raises((TypeError, ValueError), match=r"takes params|expected|params must|None"):
        case.layer.apply(WRONG[wrong], case.x(3))
