"""Checks that every optimizer passes, over one table, and the named ones."""

import json
import math
import pickle

import numpy as np
import pytest
from arrays import arrays_of, read_only, same_bits

import npdl.functional as F
from npdl import random, tree
from npdl.functional.optimizers._packed import update_in_place

# Every part with every option, and optimizers made of them.
OPTIMIZERS = {
    "scale": F.scale(-0.5),
    "learning rate": F.scale_by_learning_rate(0.1),
    "learning rate on a schedule": F.scale_by_learning_rate(F.exponential_decay(0.1, 3, rate=0.5)),
    "weight decay": F.add_decayed_weights(0.1),
    "weight decay with a mask": F.add_decayed_weights(0.1, mask="*weight"),
    "clip by value": F.clip_by_value(0.3),
    "clip by norm": F.clip_by_global_norm(0.5),
    "trace": F.trace(0.8),
    "nesterov trace": F.trace(0.8, nesterov=True),
    "adagrad part": F.scale_by_adagrad(epsilon=1e-3, initial_squares=0.2),
    "adagrad part, epsilon inside": F.scale_by_adagrad(epsilon=1e-3, epsilon_inside=True),
    "rmsprop part": F.scale_by_rmsprop(decay=0.8, epsilon=1e-3),
    "rmsprop part, epsilon inside": F.scale_by_rmsprop(
        decay=0.8, epsilon=1e-3, epsilon_inside=True
    ),
    "adadelta part": F.scale_by_adadelta(decay=0.8, epsilon=1e-3),
    "adadelta part with a rate": F.scale_by_adadelta(learning_rate=0.5),
    "adadelta part on a schedule": F.scale_by_adadelta(learning_rate=F.step_decay(1.0, (1, 2))),
    "adam part": F.scale_by_adam(beta1=0.8, beta2=0.9, epsilon=1e-3),
    "nadam part": F.scale_by_nadam(beta1=0.8, beta2=0.9, epsilon=1e-3, momentum_decay=0.1),
    "adamax part": F.scale_by_adamax(beta1=0.8, beta2=0.9, epsilon=1e-3),
    "lion part": F.scale_by_lion(beta1=0.8, beta2=0.9),
    "amsgrad part": F.scale_by_amsgrad(beta1=0.8, beta2=0.9, epsilon=1e-3),
    "muon part": F.scale_by_muon(decay=0.8, nesterov=False, steps=2),
    "schedule free": F.schedule_free(F.warmup(0.1, 3), beta=0.8),
    "empty chain": F.chain(),
    "chain in chain": F.chain(F.chain(F.trace(0.5), F.scale(2.0)), F.scale_by_adam()),
    "masked": F.masked(F.chain(F.add_decayed_weights(0.1), F.trace(0.5)), ("*weight", "2")),
    "by path": F.by_path({("*bias", "2"): F.momentum(0.1), "*": F.adamw(0.1)}),
    "accumulate": F.accumulate(F.adam(0.1), steps=2),
    "average": F.chain(F.momentum(0.1), F.average_params(0.9)),
    "skip": F.skip_not_finite(F.adam(0.1), limit=3),
    "sgd": F.sgd(0.1),
    "sgd with momentum": F.sgd(0.1, momentum=0.8, nesterov=True),
    "momentum": F.momentum(0.1, decay=0.8),
    "nesterov momentum": F.nesterov_momentum(0.1, decay=0.8),
    "adagrad": F.adagrad(0.1),
    "rmsprop": F.rmsprop(0.1, decay=0.9),
    "adadelta": F.adadelta(),
    "adam": F.adam(F.warmup(0.1, 3)),
    "adamax": F.adamax(0.1),
    "adamw": F.adamw(0.1, weight_decay=0.2),
    "nadam": F.nadam(0.1),
    "lion": F.lion(0.1, weight_decay=0.2),
    "amsgrad": F.amsgrad(0.1),
    "muon": F.muon(0.1, weight_decay=0.2),
    "schedule free adamw": F.schedule_free_adamw(0.1, weight_decay=0.2),
}
# The update of a number depends on others, or on its path.
NOT_ELEMENTWISE = {
    "weight decay with a mask", "clip by norm", "masked", "by path", "accumulate", "average",
    "muon part", "muon", "skip",
}  # fmt: skip

each = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
elementwise = pytest.mark.parametrize(
    "optimizer",
    [optimizer for name, optimizer in OPTIMIZERS.items() if name not in NOT_ELEMENTWISE],
    ids=[name for name in OPTIMIZERS if name not in NOT_ELEMENTWISE],
)


def params_of(dtype=np.float32):
    generator = random.generator(1)

    def draw(*shape):
        return np.asarray(generator.normal(size=shape), dtype)

    return (
        {"weight": draw(3, 5), "bias": draw(5)},
        (),
        draw(),
        {"inner": {"weight": draw(2, 3, 4), "empty": draw(0, 2), "bias": draw(1)}},
    )


def grads_of(step, params):
    """Gradients of the structure of `params`, with some zeros."""
    generator = random.generator((2, step))

    def draw(leaf):
        g = generator.normal(size=leaf.shape).astype(leaf.dtype)
        return np.where(np.abs(g) < 0.2, np.zeros_like(g), g)

    return tree.map(draw, params)


def run(optimizer, params, steps=4, grads=grads_of):
    """Return all updates, and the last params and state."""
    state, all_updates = optimizer.init(params), []
    for step in range(steps):
        updates, state = optimizer.update(grads(step, params), state, params)
        params = F.apply_updates(params, updates)
        all_updates.append(updates)
    return all_updates, params, state


def test_every_constructor_of_optimizers_is_in_the_table():
    def constructors(optimizer):
        found = {optimizer.call.name}
        arguments = [*optimizer.call.positional, *optimizer.call.keywords.values()]
        for argument in arguments:
            for item in argument.values() if isinstance(argument, dict) else [argument]:
                found |= constructors(item) if isinstance(item, F.Optimizer) else set()
        return found

    tested = set().union(*map(constructors, OPTIMIZERS.values()))
    known = {
        name
        for name in F.__all__
        if hasattr(getattr(F, name), "is_constructor")
        and getattr(F, name).__annotations__["return"] is F.Optimizer
    }
    assert known == tested


@each
def test_repr_config_and_pickle_give_an_equal_optimizer(optimizer):
    copies = [
        eval(repr(optimizer), {name: getattr(F, name) for name in F.__all__}),
        F.from_config(json.loads(json.dumps(optimizer.config()))),
        pickle.loads(pickle.dumps(optimizer)),
    ]
    expected = run(optimizer, params_of())
    for copy in copies:
        assert copy == optimizer
        assert hash(copy) == hash(optimizer)
        assert repr(copy) == repr(optimizer)
        assert copy.elementwise == optimizer.elementwise
        assert same_bits(run(copy, params_of()), expected)


@each
def test_read_only_arrays_are_enough_and_nothing_is_written(optimizer):
    params = read_only(params_of())
    state = read_only(optimizer.init(params))
    for step in range(4):
        grads = read_only(grads_of(step, params))
        before = [array.copy() for array in arrays_of((grads, state, params))]
        updates, new_state = read_only(optimizer.update(grads, state, params))
        again = optimizer.update(grads, state, params)
        assert same_bits(again, (updates, new_state))
        new_params = read_only(F.apply_updates(params, updates))
        assert same_bits(before, arrays_of((grads, state, params)))
        params, state = new_params, new_state


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_data_type_is_kept(optimizer, dtype):
    all_updates, params, state = run(optimizer, params_of(dtype))
    for array in arrays_of((all_updates, params, state)):
        assert array.dtype == dtype
    assert all(type(leaf) in (np.ndarray, int, bool) for leaf in tree.leaves(state))


@each
def test_float32_and_float64_agree(optimizer):
    def double_grads(step, params):
        return tree.astype(grads_of(step, tree.astype(params, np.float32)), np.float64)

    params = params_of(np.float32)
    _, single, _ = run(optimizer, params)
    _, double, _ = run(optimizer, tree.astype(params, np.float64), grads=double_grads)
    assert tree.all_close(single, double, rtol=1e-4, atol=1e-5)


@each
def test_the_state_is_a_tree_that_keeps_its_structure(optimizer):
    def describe(leaf):
        return type(leaf).__name__, np.shape(leaf)

    params = params_of()
    state = optimizer.init(params)
    layout = [(path, describe(leaf)) for path, leaf in tree.items(state)]
    _, params, last = run(optimizer, params)
    assert [(path, describe(leaf)) for path, leaf in tree.items(last)] == layout
    leaves, structure = tree.flatten(last)
    rebuilt = tree.unflatten(structure, leaves)
    mapped = tree.map(lambda leaf: leaf, last)
    grads = grads_of(9, params)
    expected = optimizer.update(grads, last, params)
    for same in (rebuilt, mapped):
        assert same_bits(optimizer.update(grads, same, params), expected)


@each
def test_the_counts_are_ints_from_zero(optimizer):
    def counts(state):
        found = [(path.split("/"), leaf) for path, leaf in tree.items(state)]
        return [(path, leaf) for path, leaf in found if path[-1] == "count"]

    params = params_of()
    assert all(type(count) is int and count == 0 for _, count in counts(optimizer.init(params)))
    for path, count in counts(run(optimizer, params, steps=4)[2]):
        # Inside `accumulate`, only the updates are counted.
        fewer = "inner" in path and optimizer.call.name == "accumulate"
        assert (type(count), count) == (int, 2 if fewer else 4)


MISSING = {
    "a leaf": lambda grads: ({**grads[0], "weight": None}, *grads[1:]),
    "a subtree": lambda grads: (None, *grads[1:]),
    "nested": lambda grads: (*grads[:3], {"inner": None}),
    "without axes": lambda grads: (*grads[:2], None, grads[3]),
    "all": lambda grads: None,
}


@pytest.mark.parametrize(
    "optimizer",
    # `accumulate` has gradients of earlier steps to update with; its own test is elsewhere.
    [optimizer for name, optimizer in OPTIMIZERS.items() if name != "accumulate"],
    ids=[name for name in OPTIMIZERS if name != "accumulate"],
)
@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING)
def test_without_a_gradient_params_and_state_stay(optimizer, missing):
    _, params, state = run(optimizer, params_of(), steps=3)
    grads = grads_of(3, params)
    given = [g is not None for g in tree.aligned(missing(grads), params)]
    updates, new_state = optimizer.update(missing(grads), state, params)
    assert [u is not None for u in tree.aligned(updates, params)] == given
    after = F.apply_updates(params, updates)
    for use, old, new in zip(given, tree.leaves(params), tree.leaves(after), strict=True):
        assert use or old is new
    if optimizer.elementwise:
        full_updates, full_state = optimizer.update(grads, state, params)
        for use, *leaves in zip(
            given, tree.aligned(updates, params), tree.aligned(full_updates, params), strict=True
        ):
            assert not use or same_bits(*leaves)
        states = zip(slots(state), slots(new_state), slots(full_state), strict=True)
        for slot in states:
            for use, old, new, full in zip(given, *map(tree.leaves, slot), strict=True):
                assert same_bits(new, full) if use else new is old


def slots(state):
    """The trees in an element-wise state that mirror the params."""
    if hasattr(state, "_fields"):
        pairs = zip(state._fields, state, strict=True)
        return [slot for name, slot in pairs if name != "count"]
    return [slot for part in state for slot in slots(part)]


def map_slots(function, state):
    if hasattr(state, "_fields"):
        pairs = zip(state._fields, state, strict=True)
        return type(state)(*(x if name == "count" else function(x) for name, x in pairs))
    return tuple(map_slots(function, part) for part in state)


@each
def test_exactly_the_elementwise_optimizers_say_so(optimizer):
    name = next(name for name, other in OPTIMIZERS.items() if other is optimizer)
    assert optimizer.elementwise == (name not in NOT_ELEMENTWISE)


@elementwise
def test_joined_arrays_and_blocks_of_them_get_the_same_bits(optimizer):
    params = params_of()
    _, params, state = run(optimizer, params, steps=3)
    grads = grads_of(3, params)
    updates, new_state = optimizer.update(grads, state, params)
    expected = [tree.ravel(x)[0] for x in (updates, *slots(new_state))]

    vector = [tree.ravel(grads)[0], map_slots(lambda slot: tree.ravel(slot)[0], state)]
    joined, joined_state = optimizer.update(*vector, tree.ravel(params)[0])
    assert same_bits([joined, *slots(joined_state)], expected)

    for start, end in ((0, 7), (7, 8), (8, joined.size)):
        cut = slice(start, end)
        before = map_slots(lambda slot, cut=cut: slot[cut], vector[1])
        u, after = optimizer.update(vector[0][cut], before, tree.ravel(params)[0][cut])
        assert same_bits([u, *slots(after)], [x[cut] for x in expected])
        counts = [leaf for leaf in tree.leaves(after) if type(leaf) is int]
        assert counts == [leaf for leaf in tree.leaves(new_state) if type(leaf) is int]


@elementwise
@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_a_bare_array_is_a_tree_of_one_leaf(optimizer, shape):
    leaf = np.asarray(random.generator(3).normal(size=shape), np.float32)
    bare = run(optimizer, leaf)
    in_tree = run(optimizer, {"a": leaf})
    assert same_bits([updates["a"] for updates in in_tree[0]], bare[0])
    assert same_bits(in_tree[1]["a"], bare[1])


@each
def test_the_layout_in_memory_makes_no_difference(optimizer):
    def spread(step, params):
        grads = grads_of(step, params)
        return tree.map(lambda g: np.repeat(g, 2, axis=-1)[..., ::2] if g.ndim else g, grads)

    def fortran(step, params):
        return tree.map(lambda g: np.array(g, order="F"), grads_of(step, params))

    expected = run(optimizer, params_of())[1]
    for grads in (spread, fortran):
        # The norm of a matrix is summed in another order.
        assert tree.all_close(run(optimizer, params_of(), grads=grads)[1], expected, rtol=1e-6)


@each
def test_numpy_scalars_as_gradients_and_parameters_make_arrays(optimizer):
    values = {"weight": 1.5, "bias": -0.5}
    scalars = {name: np.float32(value) for name, value in values.items()}
    expected = run(optimizer, tree.map(np.asarray, scalars))
    found = run(optimizer, scalars, grads=lambda *given: tree.map(np.float32, grads_of(*given)))
    assert same_bits(tree.map(np.asarray, found), tree.map(np.asarray, expected))
    assert all(type(leaf) is np.ndarray for leaf in tree.leaves(found[1]))


@each
def test_params_without_arrays_are_fine(optimizer):
    for params in ((), ((), {})):
        for grads in (params, None):
            updates, _ = optimizer.update(grads, optimizer.init(params), params)
            assert tree.leaves(updates) == []
            assert F.apply_updates(params, updates) == params


def change(grads, changed):
    inner = {**grads[3]["inner"], **changed}
    return (*grads[:3], {"inner": {name: g for name, g in inner.items() if g is not False}})


BAD_GRADS = {
    "shape": (
        {"weight": np.zeros((3, 1, 4), np.float32)},
        ValueError,
        r"the gradient of 3/inner/weight is float32\[3, 1, 4\].* is float32\[2, 3, 4\]",
    ),
    "a shape that would broadcast": (
        {"weight": np.zeros((2, 1, 4), np.float32)},
        ValueError,
        r"the gradient of 3/inner/weight is float32\[2, 1, 4\].* is float32\[2, 3, 4\]",
    ),
    "type": (
        {"weight": np.zeros((2, 3, 4))},
        TypeError,
        r"the gradient of 3/inner/weight is float64\[2, 3, 4\].* is float32\[2, 3, 4\]",
    ),
    "keys": (
        {"weight": False, "wieght": np.zeros((2, 3, 4), np.float32)},
        ValueError,
        "differ at 3/inner: .*only the first has wieght; only the second has weight",
    ),
    "structure": ({"weight": (1, 2)}, ValueError, "differ at 3/inner/weight: a tuple of 2"),
}


@pytest.mark.parametrize(
    "optimizer",
    [o for name, o in OPTIMIZERS.items() if name not in ("empty chain", "clip by norm")],
    ids=[name for name in OPTIMIZERS if name not in ("empty chain", "clip by norm")],
)
@pytest.mark.parametrize(("changed", "error", "message"), BAD_GRADS.values(), ids=BAD_GRADS)
def test_gradients_that_do_not_fit_are_an_error_with_the_path(optimizer, changed, error, message):
    _, params, state = run(optimizer, params_of(), steps=1)
    with pytest.raises(error, match=message):
        optimizer.update(change(grads_of(1, params), changed), state, params)


START = {
    "parabola": {"a": np.array([3.0, -2.0]), "b": np.array(5.0)},
    "rosenbrock": np.array([-1.2, 1.0]),
}


def value_and_grads(name, p):
    if name == "parabola":  # minimum at a = (1, -1), b = 2, with unequal curvatures
        a, b = p["a"] - np.array([1.0, -1.0]), p["b"] - 2
        weights = np.array([1.0, 4.0])
        return float(np.sum(weights * a**2) + 0.5 * b**2), {"a": 2 * weights * a, "b": b}
    a, b = p.tolist()
    gradient = np.array([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)])
    return (1 - a) ** 2 + 100 * (b - a**2) ** 2, gradient


# For the parabola, and for Rosenbrock's narrow valley.
MINIMIZERS = {
    "sgd": (F.sgd(0.1), F.sgd(2e-3)),
    "sgd with momentum": (F.sgd(0.03, momentum=0.9), F.sgd(1e-3, momentum=0.9)),
    "amsgrad": (F.amsgrad(0.1), F.amsgrad(0.03)),
    "muon": (
        F.muon(F.cosine_decay(0.3, 500), weight_decay=0.0),
        F.muon(F.cosine_decay(0.03, 4000), weight_decay=0.0),
    ),
    "schedule free": (F.schedule_free(0.3), F.schedule_free(5e-3)),
    "schedule free adamw": (F.schedule_free_adamw(0.3), F.schedule_free_adamw(0.1)),
    "skip": (F.skip_not_finite(F.adam(0.1)), F.skip_not_finite(F.adam(0.03))),
    "momentum": (F.momentum(0.03), F.momentum(1e-3)),
    "nesterov momentum": (F.nesterov_momentum(0.1), F.nesterov_momentum(1e-3)),
    "adagrad": (F.adagrad(1.0), F.adagrad(1.0)),
    "rmsprop": (F.rmsprop(F.cosine_decay(0.3, 500)), F.rmsprop(F.cosine_decay(0.01, 4000))),
    "adadelta": (F.adadelta(10.0), F.adadelta(F.cosine_decay(1.0, 4000))),
    "adam": (F.adam(0.1), F.adam(0.03)),
    "adamax": (F.adamax(0.3), F.adamax(0.3)),
    "adamw": (F.adamw(0.1, weight_decay=1e-6), F.adamw(0.03, weight_decay=1e-5)),
    "nadam": (F.nadam(0.1), F.nadam(F.cosine_decay(0.03, 4000))),
    "lion": (F.lion(F.cosine_decay(0.03, 500)), F.lion(F.cosine_decay(0.01, 4000))),
}


@pytest.mark.parametrize("name", ["parabola", "rosenbrock"])
@pytest.mark.parametrize("optimizers", MINIMIZERS.values(), ids=MINIMIZERS)
def test_the_minimum_is_found(optimizers, name):
    optimizer, steps = optimizers[name == "rosenbrock"], 500 if name == "parabola" else 4000
    params = START[name]
    state = optimizer.init(params)
    for _ in range(steps):
        _, grads = value_and_grads(name, params)
        updates, state = optimizer.update(grads, state, params)
        params = F.apply_updates(params, updates)
    assert value_and_grads(name, params)[0] < (1e-8 if name == "parabola" else 1e-3)


def test_the_named_optimizers_are_chains_of_parts():
    rate = F.scale_by_learning_rate(0.5)
    assert F.sgd(0.5) == rate
    for found, parts in [
        (F.momentum(0.5, decay=0.8), [F.trace(0.8)]),
        (F.nesterov_momentum(0.5, decay=0.8), [F.trace(0.8, nesterov=True)]),
        (
            F.adagrad(0.5, epsilon=0.1, initial_squares=0.2, epsilon_inside=True),
            [F.scale_by_adagrad(epsilon=0.1, initial_squares=0.2, epsilon_inside=True)],
        ),
        (
            F.rmsprop(0.5, decay=0.8, epsilon=0.1, epsilon_inside=True),
            [F.scale_by_rmsprop(decay=0.8, epsilon=0.1, epsilon_inside=True)],
        ),
        (F.adadelta(0.5, decay=0.8, epsilon=0.1), [F.scale_by_adadelta(decay=0.8, epsilon=0.1)]),
        (F.adam(0.5), [F.scale_by_adam()]),
        (
            F.adam(0.5, beta1=0.8, beta2=0.7, epsilon=0.1),
            [F.scale_by_adam(beta1=0.8, beta2=0.7, epsilon=0.1)],
        ),
        (
            F.adamax(0.5, beta1=0.8, beta2=0.7, epsilon=0.1),
            [F.scale_by_adamax(beta1=0.8, beta2=0.7, epsilon=0.1)],
        ),
        (
            F.nadam(0.5, beta1=0.8, beta2=0.7, epsilon=0.1, momentum_decay=0.2),
            [F.scale_by_nadam(beta1=0.8, beta2=0.7, epsilon=0.1, momentum_decay=0.2)],
        ),
        (
            F.adamw(0.5, beta1=0.8, beta2=0.7, epsilon=0.1, weight_decay=0.2, mask="*b"),
            [
                F.scale_by_adam(beta1=0.8, beta2=0.7, epsilon=0.1),
                F.add_decayed_weights(0.2, mask="*b"),
            ],
        ),
        (F.sgd(0.5, momentum=0.8), [F.trace(0.8)]),
        (F.sgd(0.5, momentum=0.8, nesterov=True), [F.trace(0.8, nesterov=True)]),
        (
            F.amsgrad(0.5, beta1=0.8, beta2=0.7, epsilon=0.1),
            [F.scale_by_amsgrad(beta1=0.8, beta2=0.7, epsilon=0.1)],
        ),
        (
            F.muon(0.5, decay=0.8, nesterov=False, steps=3, weight_decay=0.2, mask="*b"),
            [
                F.scale_by_muon(decay=0.8, nesterov=False, steps=3),
                F.add_decayed_weights(0.2, mask="*b"),
            ],
        ),
        (F.lion(0.5, beta1=0.8, beta2=0.7), [F.scale_by_lion(beta1=0.8, beta2=0.7)]),
        (
            F.lion(0.5, beta1=0.8, beta2=0.7, weight_decay=0.1, mask="*b"),
            [F.scale_by_lion(beta1=0.8, beta2=0.7), F.add_decayed_weights(0.1, mask="*b")],
        ),
    ]:
        assert found == F.chain(*parts, rate)
    assert repr(F.adam(1e-3)) == (
        "chain(scale_by_adam(), scale_by_learning_rate(learning_rate=0.001))"
    )
    assert F.adam(1e-3) != F.adam(1e-2)
    assert F.adam(1e-3) != F.adam(1e-3, beta1=0.8)


RATE, EPSILON, RHO = 0.03, 1e-3, 0.9

# The formulas of the NumpyDL documentation: `p, state = step(p, g, state)`.
DOCUMENTED = {
    "momentum": (
        F.momentum(RATE, decay=RHO),
        lambda p, g, v: (p + (RHO * v - RATE * g), RHO * v - RATE * g),
    ),
    "nesterov momentum": (
        F.nesterov_momentum(RATE, decay=RHO),
        lambda p, g, v: (p + RHO * (RHO * v - RATE * g) - RATE * g, RHO * v - RATE * g),
    ),
    "adagrad": (
        F.adagrad(RATE, epsilon=EPSILON, epsilon_inside=True),
        lambda p, g, s: (p - RATE * g / np.sqrt(s + g**2 + EPSILON), s + g**2),
    ),
    "rmsprop": (
        F.rmsprop(RATE, decay=RHO, epsilon=EPSILON, epsilon_inside=True),
        lambda p, g, r: (
            p - RATE * g / np.sqrt(RHO * r + (1 - RHO) * g**2 + EPSILON),
            RHO * r + (1 - RHO) * g**2,
        ),
    ),
    "lion": (
        F.lion(RATE, beta1=0.8, beta2=RHO),
        lambda p, g, m: (p - RATE * np.sign(0.8 * m + 0.2 * g), RHO * m + (1 - RHO) * g),
    ),
}


@pytest.mark.parametrize(("optimizer", "step"), DOCUMENTED.values(), ids=DOCUMENTED)
def test_the_documented_formulas_hold(optimizer, step):
    params = params_of(np.float64)[0]["weight"]
    grads = [grads_of(i, params) for i in range(6)]
    expected, state = params, np.zeros_like(params)
    for g in grads:
        expected, state = step(expected, g, state)
    found = run(optimizer, params, steps=6, grads=lambda i, _: grads[i])[1]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("rates", [(0.3, 0.3, 0.3), (0.3, 0.2, 0.1)], ids=["constant", "falling"])
def test_adadelta_can_average_scaled_updates_as_in_numpydl(rates):
    p, r, s = params_of(np.float64)[0]["weight"], 0.0, 0.0
    rate = rates[0] if len(set(rates)) == 1 else lambda step: rates[step]
    optimizer = F.chain(
        F.scale_by_adadelta(decay=RHO, epsilon=EPSILON, learning_rate=rate), F.scale(-1.0)
    )
    found = run(optimizer, p, steps=3)[1]
    for step, lr in enumerate(rates):
        g = grads_of(step, p)
        r = RHO * r + (1 - RHO) * g**2
        eta = lr * np.sqrt(s + EPSILON) / np.sqrt(r + EPSILON)
        s = RHO * s + (1 - RHO) * (eta * g) ** 2
        p = p - eta * g
    np.testing.assert_allclose(found, p, rtol=1e-12)


def test_decoupled_decay_is_not_scaled_by_the_gradients():
    params = {"weight": np.array([4.0]), "bias": np.array([4.0])}
    grads = {"weight": np.array([1e3]), "bias": np.array([1e3])}
    plain, decayed = F.adam(0.5), F.adamw(0.5, weight_decay=0.25, mask="weight")
    step = plain.update(grads, plain.init(params), params)[0]
    found = decayed.update(grads, decayed.init(params), params)[0]
    assert found["weight"] - step["weight"] == pytest.approx(-0.5 * 0.25 * 4.0)
    assert found["bias"] == step["bias"]


def test_a_schedule_is_called_with_the_count_of_earlier_updates():
    asked = []

    def schedule(step):
        asked.append(step)
        return np.float64(0.5)

    optimizer = F.chain(F.scale(2.0), F.scale_by_learning_rate(schedule))
    all_updates, _, _ = run(optimizer, params_of())
    leaves = len(tree.leaves(params_of()))
    assert asked == [step for step in range(4) for _ in range(leaves)]
    assert all(type(step) is int for step in asked)
    # A NumPy float would have promoted these.
    assert {array.dtype for array in tree.leaves(all_updates)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float64(np.nan)])
def test_a_schedule_that_is_not_finite_is_an_error_with_the_step(bad):
    def schedule(step):
        return bad if step == 12 else 0.1

    for part in (F.scale_by_learning_rate(schedule), F.scale_by_adadelta(learning_rate=schedule)):
        optimizer = F.chain(F.clip_by_value(1.0), part)
        params = np.ones(2)
        state = optimizer.init(params)
        for _ in range(12):
            _, state = optimizer.update(params, state, params)
        with pytest.raises(ValueError, match=f"returned {float(bad)} at step 12;") as caught:
            optimizer.update(params, state, params)
        assert "in chain[1] = " in caught.value.__notes__[0]


BAD_VALUES = {
    "no number": (lambda: F.sgd("0.1"), "learning_rate must be a number of at least 0, or a sch"),
    "negative rate": (lambda: F.adam(-1e-3), "learning_rate .*, or a schedule, as in .*got -0.001"),
    "infinite rate": (lambda: F.momentum(math.inf), "got inf"),
    "nan": (lambda: F.scale(math.nan), "factor must be a number that is finite, as in scale"),
    "bool": (lambda: F.sgd(True), "got True"),
    "momentum": (lambda: F.momentum(0.1, decay=1.0), r"trace: decay must be a number in \[0, 1\)"),
    "nesterov": (lambda: F.nesterov_momentum(0.1, decay=-0.1), "trace: decay .*got -0.1"),
    "weight decay": (lambda: F.adamw(0.1, weight_decay=-1), "weight_decay must be .* as in adamw"),
    "limit": (lambda: F.clip_by_value(0.0), r"clip_by_value\(limit=1.0\), got 0.0"),
    "norm": (lambda: F.clip_by_global_norm(-1), "limit must be a number above 0.*got -1"),
    "adagrad": (lambda: F.adagrad(epsilon=0), r"scale_by_adagrad: epsilon .*above 0.*got 0"),
    "adagrad start": (lambda: F.adagrad(initial_squares=-1), "initial_squares .*got -1"),
    "rmsprop": (lambda: F.rmsprop(decay=1.5), r"scale_by_rmsprop\(decay=0.99\), got 1.5"),
    "rmsprop epsilon": (lambda: F.rmsprop(epsilon=-1e-8), "scale_by_rmsprop: epsilon .*-1e-08"),
    "adadelta": (lambda: F.adadelta(decay=1), "scale_by_adadelta: decay .*got 1"),
    "adadelta epsilon": (lambda: F.adadelta(epsilon=0.0), "scale_by_adadelta: epsilon .*got 0.0"),
    "adadelta rate": (lambda: F.scale_by_adadelta(learning_rate=-1), "adadelta: learning_rate"),
    "adam beta1": (lambda: F.adam(beta1=1.0), r"scale_by_adam: beta1 must .*in \[0, 1\).*got 1.0"),
    "adam beta2": (lambda: F.adam(beta2=-0.1), "scale_by_adam: beta2 .*got -0.1"),
    "adam epsilon": (lambda: F.adam(epsilon=0), "scale_by_adam: epsilon .*got 0"),
    "adamax": (lambda: F.adamax(beta2=2), "scale_by_adamax: beta2 .*got 2"),
    "nadam": (lambda: F.nadam(momentum_decay=-1), "scale_by_nadam: momentum_decay .*got -1"),
    "sgd momentum": (lambda: F.sgd(0.1, momentum=1), r"sgd: momentum must .*in \[0, 1\).*got 1"),
    "amsgrad beta2": (lambda: F.amsgrad(beta2=1), "scale_by_amsgrad: beta2 .*got 1"),
    "muon decay": (lambda: F.muon(decay=1), "scale_by_muon: decay .*got 1"),
    "muon steps": (lambda: F.muon(steps=0), "muon: steps .*got 0"),
    "schedule free beta": (lambda: F.schedule_free(0.1, beta=0), r"beta .*in \(0, 1\).*got 0"),
    "schedule free rate": (lambda: F.schedule_free(-1), "learning_rate .*got -1"),
    "skip limit": (lambda: F.skip_not_finite(F.sgd(0.1), limit=0), "limit .*got 0"),
    "lion": (lambda: F.lion(beta1=1), "scale_by_lion: beta1 .*got 1"),
    "lion beta2": (lambda: F.lion(beta2=None), "scale_by_lion: beta2 .*got None"),
}


@pytest.mark.parametrize(("call", "message"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_bad_arguments_are_errors_with_the_right_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_argument_is_an_error():
    with pytest.raises(TypeError, match="lr"):
        F.adam(lr=1e-3)


def test_weight_decay_asks_for_the_params():
    optimizer = F.adamw(1e-3)
    with pytest.raises(ValueError, match=r"needs the params: update\(grads, state, params\)"):
        optimizer.update(np.ones(2), optimizer.init(np.ones(2)))


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(np.float32, size) for size in (1e-36, 1e-20, 1.0, 1e18, 1e36)]
    + [(np.float64, size) for size in (1e-300, 1e-150, 1.0, 1e153, 1e300)],
)
def test_the_global_norm_neither_overflows_nor_underflows(dtype, size):
    grads = {"a": np.full((3, 2), size, dtype), "b": (None, np.full(10, -size, dtype))}
    limit = 2 * size
    updates, _ = F.clip_by_global_norm(limit).update(grads, ())
    for part, sign in ((updates["a"], 1), (updates["b"][1], -1)):
        assert part.dtype == dtype
        np.testing.assert_allclose(part / size, sign * 0.5, rtol=1e-6)
    assert updates["b"][0] is None


def test_short_zero_and_infinite_gradients_are_not_clipped():
    clip = F.clip_by_global_norm(1.0)
    for values in ([0.6, 0.8], [0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0], [np.nan, np.inf]):
        for dtype in (np.float32, np.float64):
            grads = {"a": np.array(values, dtype), "b": np.zeros((0, 2), dtype)}
            updates, _ = clip.update(grads, clip.init(grads))
            assert updates["a"] is grads["a"]


def test_adam_keeps_its_step_for_gradients_of_any_size():
    for size in (1e-12, 1e-3, 1e12):
        g = np.array([size, -size], np.float32)
        optimizer = F.adam(0.1, epsilon=1e-30)
        updates, state = optimizer.update(g, optimizer.init(g))
        for _ in range(3):
            updates, state = optimizer.update(g, state)
        np.testing.assert_allclose(updates, [-0.1, 0.1], rtol=1e-5)


def test_nadam_does_not_depend_on_earlier_computations():
    params = params_of(np.float64)
    optimizer, fresh = F.nadam(0.1), F.nadam(0.1)
    _, params, state = run(optimizer, params, steps=30)
    run(optimizer, params, steps=2)
    grads = grads_of(0, params)
    expected = fresh.update(grads, state, params)
    assert same_bits(optimizer.update(grads, state, params), expected)
    assert same_bits(optimizer.update(grads, state, params), expected)


# One optimizer for each kind of state.
STATES = {
    "sgd": F.sgd(0.1),
    "sgd on a schedule": F.sgd(F.exponential_decay(0.1, 3, rate=0.5)),
    "momentum": F.momentum(0.1),
    "nesterov momentum": F.nesterov_momentum(0.1),
    "adagrad": F.adagrad(0.1),
    "rmsprop": F.rmsprop(0.1),
    "adadelta": F.adadelta(),
    "adam": F.adam(0.1),
    "adamw": F.adamw(0.1),
    "adam on a schedule": F.adam(F.exponential_decay(0.1, 3, rate=0.5)),
    "adamax": F.adamax(0.1),
    "nadam": F.nadam(0.1),
    "lion": F.lion(0.1),
    "trace alone": F.trace(0.9),
    "nesterov alone": F.trace(0.9, nesterov=True),
    "clip by norm": F.chain(F.clip_by_global_norm(1.0), F.clip_by_global_norm(1.0), F.momentum(1)),
    "accumulate": F.accumulate(F.adam(0.1), steps=1),
    "average": F.average_params(0.9),
    "by path": F.by_path({"*bias": F.momentum(0.1), "*": F.adam(0.1)}),
}


@pytest.mark.parametrize("name", STATES)
def test_the_state_of_another_optimizer_is_refused(name):
    params = params_of()
    given = STATES[name].init(params)
    for other, optimizer in STATES.items():
        if other == name:
            optimizer.update(grads_of(0, params), given, params)
            continue
        with pytest.raises(
            ValueError, match=r"another optimizer; initialize .* optimizer.init\(params\)"
        ):
            optimizer.update(grads_of(0, params), given, params)
        if optimizer.elementwise and STATES[name].elementwise:
            arrays = [np.ones(3, np.float32)]
            with pytest.raises(ValueError, match="another optimizer"):
                update_in_place(optimizer, arrays, STATES[name].init(arrays), arrays)


def test_the_error_on_a_foreign_state_names_both_states():
    params = params_of()
    with pytest.raises(
        ValueError, match=r"NesterovState .*\(velocity\), got TraceState\(vel"
    ) as caught:
        F.nesterov_momentum(0.1).update(params, F.momentum(0.1).init(params), params)
    assert "in chain[0] = trace(decay=0.9, nesterov=True)" in caught.value.__notes__
    with pytest.raises(ValueError, match=r"TraceState .*\(velocity\), got NesterovState\(velocity"):
        F.momentum(0.1).update(params, F.nesterov_momentum(0.1).init(params), params)
    with pytest.raises(ValueError, match=r"RmspropState .*\(squares\), got TraceState\(velocity\)"):
        F.rmsprop(0.1).update(params, F.momentum(0.1).init(params), params)
    with pytest.raises(ValueError, match=r"of 2 optimizers, got \(AdamState\(.*\), \(\), \(\)\)"):
        F.adam(0.1).update(params, F.adamw(0.1).init(params), params)


@pytest.mark.parametrize("shape", [(1,), (4,), (), (3, 1)], ids=str)
@pytest.mark.parametrize("tree_of", [lambda a: a, lambda a: {"a": a}], ids=["bare", "tree"])
def test_a_state_of_parameters_of_other_shapes_is_refused(tree_of, shape):
    params = tree_of(np.ones(3, np.float32))
    for optimizer in (F.momentum(0.1), F.adam(0.1), F.accumulate(F.sgd(0.1), 2)):
        state = optimizer.init(tree_of(np.ones(shape, np.float32)))
        for like in (params, None):
            with pytest.raises(ValueError, match=r"optimizer.init\(params\)"):
                optimizer.update(params, state, like)


def test_a_state_of_parameters_of_another_structure_is_refused():
    optimizer, params = F.adam(0.1), params_of()
    with pytest.raises(ValueError, match="the trees differ") as caught:
        optimizer.update(params, optimizer.init(params[0]), params)
    assert "optimizer.init(params)" in caught.value.__notes__[1]


HALF = r"expected float32 or float64, got float16.*x.astype\(np.float32\)"
REFUSED = {
    "float16": (lambda a: a.astype(np.float16), HALF),
    "masked array": (np.ma.array, "got MaskedArray .*np.asarray"),
    "matrix": (lambda a: np.atleast_2d(a).view(np.matrix), "got matrix .*np.asarray"),
}


@each
@pytest.mark.parametrize(("wrong", "message"), REFUSED.values(), ids=REFUSED)
def test_other_arrays_than_plain_ones_of_floats_are_refused(optimizer, wrong, message):
    def spoiled(values):
        return (*values[:-1], {"inner": {**values[-1]["inner"], "bias": wrong(np.ones(1))}})

    params, path = params_of(), "3/inner/bias"
    state, grads = optimizer.init(params), grads_of(0, params)
    with pytest.raises(TypeError, match=f"the parameter {path}.*{message}"):
        optimizer.init(spoiled(params))
    if optimizer != F.chain():
        with pytest.raises(TypeError, match=f"the gradient of {path}.*{message}"):
            optimizer.update(spoiled(grads), state, params)
    with pytest.raises(TypeError, match=message):
        F.apply_updates(params, spoiled(grads))
    with pytest.raises(TypeError, match=message):
        F.apply_updates(spoiled(params), grads)


@each
def test_bare_arrays_of_float16_are_refused(optimizer):
    half, single = np.ones(3, np.float16), np.ones(3, np.float32)
    with pytest.raises(TypeError, match=f"the parameter: {HALF}"):
        optimizer.init(half)
    if "*" not in repr(optimizer) and optimizer != F.chain():
        for params in (single, half):
            with pytest.raises(TypeError, match=HALF):
                optimizer.update(half, optimizer.init(single), params)


@each
def test_parameters_mapped_from_a_file_are_welcome(optimizer, tmp_path):
    params = params_of()
    expected = run(optimizer, params)

    def mapped(leaf):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, leaf)
        return np.load(path, mmap_mode="r") if leaf.size else leaf

    found = run(optimizer, tree.map(mapped, params), grads=lambda i, _: grads_of(i, params))
    assert same_bits(found, expected)
