"""The stateful optimizers: the documented equations, in place; the rate, the state, bad input."""

import copy
import inspect
import json
import pickle

import numpy as np
import pytest
from arrays import normal64, read_only

import npdl
import npdl.functional as F
from npdl import checkpoint, tree
from npdl.compat import optimizers
from npdl.compat.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    Momentum,
    NesterovMomentum,
    Optimizer,
    RMSprop,
    npdl_clip,
)
from npdl.functional.optimizers import _layout as layout
from npdl.functional.optimizers import _packed as packed

# The documented equations as functions (p, g, state, lr, t) -> p. The state is a dict with default
# zeros; t starts at 1.


def sgd(p, g, s, lr, t):
    return p - lr * g


def momentum(p, g, s, lr, t):
    s["velocity"] = 0.9 * s["velocity"] - lr * g
    return p + s["velocity"]


def nesterov(p, g, s, lr, t):
    s["velocity"] = 0.9 * s["velocity"] - lr * g
    return p + 0.9 * s["velocity"] - lr * g


def adagrad(p, g, s, lr, t):
    s["sum"] = s["sum"] + g**2
    return p - lr * g / np.sqrt(s["sum"] + 1e-6)


def rmsprop(p, g, s, lr, t):
    s["r"] = 0.9 * s["r"] + 0.1 * g**2
    return p - lr / np.sqrt(s["r"] + 1e-6) * g


def adadelta(p, g, s, lr, t):
    s["r"] = 0.9 * s["r"] + 0.1 * g**2
    eta = lr * np.sqrt(s["s"] + 1e-6) / np.sqrt(s["r"] + 1e-6)
    s["s"] = 0.9 * s["s"] + 0.1 * (eta * g) ** 2
    return p - eta * g


def adam(p, g, s, lr, t):
    s["m"] = 0.9 * s["m"] + 0.1 * g
    s["v"] = 0.999 * s["v"] + 0.001 * g**2
    m_hat, v_hat = s["m"] / (1 - 0.9**t), s["v"] / (1 - 0.999**t)
    return p - lr * m_hat / (np.sqrt(v_hat) + 1e-8)


def adamax(p, g, s, lr, t):
    s["m"] = 0.9 * s["m"] + 0.1 * g
    s["u"] = np.maximum(0.999 * s["u"], np.abs(g) + 1e-8)
    return p - lr / (1 - 0.9**t) * s["m"] / s["u"]


class Zeros(dict):
    def __missing__(self, key):
        return 0.0


CASES = {
    "sgd": (SGD, sgd),
    "momentum": (Momentum, momentum),
    "nesterov_momentum": (NesterovMomentum, nesterov),
    "adagrad": (Adagrad, adagrad),
    "rmsprop": (RMSprop, rmsprop),
    "adadelta": (Adadelta, adadelta),
    "adam": (Adam, adam),
    "adamax": (Adamax, adamax),
}
CLASSES = {name: cls for name, (cls, _) in CASES.items()}
each = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
each_rule = pytest.mark.parametrize(("cls", "rule"), CASES.values(), ids=CASES)

SHAPES = [(3, 4), (4,), (), (2, 3, 2), (1, 5)]


def arrays(seed=0, dtype=np.float64):
    return [normal64(*shape, seed=seed).astype(dtype) for shape in SHAPES]


def test_the_table_has_every_optimizer():
    classes = {cls.__name__ for cls in CLASSES.values()}
    assert classes | {"Optimizer", "get", "npdl_clip"} == set(optimizers.__all__)


@each_rule
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip": 0.5},
        {"decay": 0.5},
        {"clip": 0.5, "decay": 0.5, "lr_min": 0.03, "lr_max": 0.08},
    ],
    ids=str,
)
def test_updates_follow_the_equation_at_changing_rates(cls, rule, options):
    optimizer, params = cls(lr=0.1, **options), arrays()
    expected, states = [p.copy() for p in params], [Zeros() for _ in params]
    for t in range(1, 8):
        grads = arrays(seed=t)
        optimizer.update(params, grads)
        rate = 0.1 / (1 + options.get("decay", 0) * (t - 1))
        rate = np.clip(rate, options.get("lr_min", 0), options.get("lr_max", np.inf))
        for i, g in enumerate(grads):
            g = np.clip(g, -0.5, 0.5) if "clip" in options else g
            expected[i] = rule(expected[i], g, states[i], rate, t)
    for p, e in zip(params, expected, strict=True):
        assert np.allclose(p, e, rtol=1e-12, atol=1e-14)
    assert optimizer.iterations == 7


@each
def test_the_documented_defaults_and_signatures(cls):
    defaults = {
        SGD: {},
        Momentum: {"momentum": 0.9},
        NesterovMomentum: {"momentum": 0.9},
        Adagrad: {"epsilon": 1e-6},
        RMSprop: {"rho": 0.9, "epsilon": 1e-6},
        Adadelta: {"rho": 0.9, "epsilon": 1e-6},
        Adam: {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        Adamax: {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    }[cls]
    parameters = inspect.signature(cls).parameters
    assert list(parameters) == [*defaults, "args", "kwargs"]
    optimizer = cls()
    for name, value in defaults.items():
        assert parameters[name].default == getattr(optimizer, name) == value
    base = {"lr": 0.001, "clip": -1, "decay": 0.0, "lr_min": 0.0, "lr_max": np.inf}
    assert {name: getattr(optimizer, name) for name in base} == base
    own = [0.5] * len(defaults)
    given = cls(*own, 0.25, 2.0, 0.125, 0.0625, 0.75)
    assert [given.lr, given.clip, given.decay, given.lr_min, given.lr_max] == [
        0.25,
        2.0,
        0.125,
        0.0625,
        0.75,
    ]
    assert [getattr(given, name) for name in defaults] == own


# In place


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_any_size_and_strides_update_in_place(cls, dtype, monkeypatch):
    monkeypatch.setattr(layout, "UPDATE_JOINED", 12)
    monkeypatch.setattr(packed, "UPDATE_BLOCK", 10)
    whole = normal64(7, 12).astype(dtype)
    kinds = {
        "contiguous": whole[:, 4:8].copy(),
        "a block of columns": whole.copy()[:, 4:8],
        "transposed": whole[:, 4:8].T.copy().T,
        "reversed": whole[::-1, 7:3:-1].copy()[::-1, ::-1],
    }
    one_by_one = np.concatenate([whole[i, 4:8] for i in range(7)])
    pieces = [one_by_one[i : i + 2] for i in range(0, 28, 2)]
    optimizer, small = cls(lr=0.1, clip=0.5), cls(lr=0.1, clip=0.5)
    params = list(kinds.values())
    for step in range(3):
        g = normal64(7, 4, seed=step + 1).astype(dtype)
        optimizer.update(params, [g, g, np.asfortranarray(g), g])
        small.update(pieces, [g.reshape(-1)[i : i + 2] for i in range(0, 28, 2)])
    for p in params:
        assert p.dtype == dtype
        assert np.array_equal(p, one_by_one.reshape(7, 4))


def test_memory_around_a_parameter_block_is_unchanged():
    whole = np.ones((3, 6))
    Adam(lr=0.5).update([whole[:, 2:4]], [np.ones((3, 2))])
    assert np.array_equal(whole[:, :2], np.ones((3, 2)))
    assert np.array_equal(whole[:, 4:], np.ones((3, 2)))
    assert np.allclose(whole[:, 2:4], 0.5)


@each
def test_gradients_are_not_modified(cls):
    optimizer, params, grads = cls(lr=0.1, clip=0.5), arrays(), arrays(seed=1)
    read_only(grads)
    for _ in range(3):
        optimizer.update(params, grads)
    assert all(np.array_equal(g, other) for g, other in zip(grads, arrays(seed=1), strict=True))


@each
def test_a_none_gradient_leaves_parameter_and_state_unchanged(cls):
    optimizer, params = cls(lr=0.1), arrays()
    twin, others = cls(lr=0.1), arrays()
    for step in range(4):
        grads = arrays(seed=step)
        before = params[1].copy()
        optimizer.update(params, [g if i != 1 or step > 1 else None for i, g in enumerate(grads)])
        assert np.array_equal(params[1], before) == (step < 2)
        twin.update(others, grads)
    for i in (0, 2, 3, 4):
        assert np.allclose(params[i], others[i], rtol=1e-14)


@each
def test_gradients_are_cast_to_the_type_of_the_parameters(cls):
    params, others = arrays(dtype=np.float32), arrays(dtype=np.float32)
    cls(lr=0.1).update(params, arrays(seed=1))
    cls(lr=0.1).update(others, arrays(seed=1, dtype=np.float32))
    for p, other in zip(params, others, strict=True):
        assert p.dtype == np.float32
        assert np.array_equal(p, other)


@each
def test_a_parabola_is_minimised(cls):
    target, p = normal64(4, 3), np.zeros((4, 3))
    rate = {SGD: 0.1, Adagrad: 0.5, Adadelta: 1.0}.get(cls, 0.02)
    optimizer = cls(lr=rate)
    for _ in range(2000 if cls is Adadelta else 400):
        optimizer.update([p], [p - target])
    assert np.abs(p - target).max() < 0.02


# The rate


def test_the_rate_decays_between_its_bounds():
    optimizer = SGD(lr=1.0, decay=1.0, lr_min=0.3, lr_max=0.75)
    rates = []
    for _ in range(5):
        rates.append(optimizer.lr)
        optimizer.update([], [])
    assert rates == [0.75, 0.5, pytest.approx(1 / 3), 0.3, 0.3]


@each
def test_an_assigned_rate_is_used_by_the_next_update(cls):
    optimizer, p = cls(lr=0.1, decay=0.5), np.zeros(3)
    for _ in range(3):
        optimizer.update([p], [np.ones(3)])
    optimizer.lr = 0.3
    assert optimizer.lr == pytest.approx(0.3)
    optimizer.update([p], [np.ones(3)])
    assert optimizer.lr == pytest.approx(0.3 * (1 + 0.5 * 3) / (1 + 0.5 * 4))
    optimizer.lr *= 0.0
    before = p.copy()
    optimizer.update([p], [np.ones(3)])
    if cls not in (Momentum, NesterovMomentum):
        assert np.array_equal(p, before)


def test_other_assigned_attributes_apply_to_the_next_update():
    optimizer, p = Momentum(0.9, lr=1.0), np.zeros(1)
    optimizer.update([p], [np.ones(1)])
    optimizer.momentum, optimizer.clip = 0.5, 0.25
    optimizer.update([p], [np.ones(1)])
    assert p == -1 - 0.5 - 0.25
    optimizer.clip = -1
    optimizer.update([p], [np.ones(1)])
    assert p == -1.75 - 0.375 - 1


def test_npdl_clip_clips_only_with_a_positive_boundary():
    g = np.array([-3.0, 0.5, 2.0])
    assert np.array_equal(npdl_clip(g, 1.5), [-1.5, 0.5, 1.5])
    assert npdl_clip(g, 0) is g
    assert npdl_clip(g, -1) is g
    assert npdl_clip(g.astype(np.float32), 1.5).dtype == np.float32


# The state


def train(optimizer, params, steps):
    for step in steps:
        optimizer.update(params, arrays(seed=step))


@each
def test_a_saved_state_restores_another_optimizer(cls, tmp_path):
    optimizer, params = cls(lr=0.1, decay=0.1), arrays()
    train(optimizer, params, range(1, 4))
    optimizer.lr = 0.2
    saved = [p.copy() for p in params]
    checkpoint.save(tmp_path / "state.npz", optimizer.get_state(params))
    train(optimizer, params, range(4, 7))
    other = cls(lr=0.1, decay=0.1)
    other.set_state(checkpoint.load(tmp_path / "state.npz", like=other.get_state(saved)))
    assert other.iterations == 3
    assert other.lr == pytest.approx(0.2)
    train(other, saved, range(4, 7))
    for p, q in zip(params, saved, strict=True):
        assert np.array_equal(p, q)


@each
def test_a_state_is_a_copy(cls, monkeypatch):
    monkeypatch.setattr(layout, "UPDATE_JOINED", 3)
    monkeypatch.setattr(packed, "UPDATE_BLOCK", 5)
    optimizer, params = cls(lr=0.1), arrays()
    train(optimizer, params, range(2))
    state = optimizer.get_state()
    kept = tree.map(np.array, state)
    other = cls(lr=0.1)
    other.set_state(state)
    train(optimizer, params, range(2))
    train(other, arrays(), range(2))
    for array, before in zip(tree.leaves(state), tree.leaves(kept), strict=True):
        assert np.array_equal(array, before)


@each
def test_copies_and_pickles_continue_equally(cls):
    optimizer, params = cls(lr=0.1, decay=0.5), arrays()
    train(optimizer, params, range(1, 3))
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        first, second = copy.deepcopy(optimizer), [p.copy() for p in params]
        expected = [p.copy() for p in params]
        train(first, expected, range(3, 5))
        train(twin, second, range(3, 5))
        assert all(np.array_equal(p, q) for p, q in zip(expected, second, strict=True))
        assert twin.iterations == 4
        assert optimizer.iterations == 2


# Names and configurations


@pytest.mark.parametrize(("name", "cls"), CLASSES.items())
def test_every_name_returns_a_new_instance(name, cls):
    for alias in (name, cls.__name__):
        assert type(optimizers.get(alias)) is cls
        assert optimizers.get(alias) is not optimizers.get(alias)


def test_get_copies_an_instance_with_its_state():
    optimizer, params = Adam(lr=0.1), arrays()
    optimizer.update(params, arrays(seed=1))
    own = optimizers.get(optimizer)
    own.lr = 5
    own.update(params, arrays(seed=2))
    assert (optimizer.lr, optimizer.iterations) == (0.1, 1)
    assert (own.lr, own.iterations) == (5, 2)
    assert not any(map(np.shares_memory, own.ms, optimizer.ms))


@pytest.mark.parametrize("value", ["lion", None, 3, SGD, F.sgd(0.1)])
def test_other_values_raise_and_the_error_lists_the_names(value):
    with pytest.raises(ValueError, match=r"optimizers: expected an instance.*Adam.*sgd; got"):
        optimizers.get(value)


class Signs(Optimizer):
    """A user-defined optimizer, as in old scripts."""

    def __init__(self, power=1, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.power = power

    def update(self, params, grads):
        for p, g in zip(params, grads, strict=True):
            p -= self.lr * np.sign(npdl_clip(g, self.clip)) * np.abs(g) ** self.power
        super().update(params, grads)


class Fast(Adam):
    """A library optimizer with other defaults."""

    def __init__(self, **kwargs):
        super().__init__(beta1=0.5, **kwargs)


MADE = [
    SGD(),
    SGD(0.1, 2.0),
    Momentum(0.5, 0.1, decay=0.01),
    RMSprop(rho=0.5, lr=0.1, lr_max=0.5),
    Adam(0.8, 0.9, 1e-6, 0.1, 3.0, 0.5, 0.01, 0.2),
    Signs(2, 0.1, decay=0.5),
    Fast(lr=0.1, epsilon=1e-3),
]


@pytest.mark.parametrize("optimizer", MADE, ids=lambda o: type(o).__name__)
def test_configurations_survive_json(optimizer):
    loaded = Optimizer.from_json(json.loads(json.dumps(optimizer.to_json())))
    assert type(loaded) is type(optimizer)

    def public(instance):
        return {name: value for name, value in vars(instance).items() if name[0] != "_"}

    assert public(loaded) == public(optimizer)
    assert loaded.lr == optimizer.lr


def test_a_configuration_names_arguments_of_the_base():
    config = Momentum(0.5, 0.1, 2.0, decay=0.25).to_json()
    assert config == {
        "class": "optimizers.Momentum",
        "momentum": 0.5,
        "lr": 0.1,
        "clip": 2.0,
        "decay": 0.25,
    }


def test_a_users_optimizer_has_the_rate_and_count_of_its_base():
    optimizer, p = Signs(lr=0.5, decay=1.0), np.zeros(2)
    optimizer.update([p], [np.array([2.0, -3.0])])
    assert np.array_equal(p, [-1.0, 1.5])
    assert optimizer.iterations == 1
    assert optimizer.lr == 0.25
    other = Signs()
    other.set_state(optimizer.get_state())
    assert (other.iterations, other._first_rate) == (1, 0.5)


def test_a_subclass_may_change_the_gradients_first():
    class Negated(SGD):
        def update(self, params, grads):
            super().update(params, [-g for g in grads])

    p = np.zeros(2)
    Negated(lr=0.5).update([p], [np.ones(2)])
    assert np.array_equal(p, [0.5, 0.5])


def test_one_sgd_can_update_two_models_in_turn():
    optimizer, p, q = SGD(lr=1.0), np.zeros(2), np.zeros((3, 2))
    optimizer.update([p], [np.ones(2)])
    optimizer.update([q], [np.ones((3, 2))])
    assert (p == -1).all()
    assert (q == -1).all()


def updated(optimizer, params, grads):
    optimizer.update(params, grads)
    return optimizer


ERRORS = {
    "other numbers": (
        lambda: SGD().update([np.zeros(2)], []),
        ValueError,
        "SGD.update: got 1 parameters, but 0 gradients",
    ),
    "another shape": (
        lambda: Adam().update([np.zeros(2), np.zeros((2, 3))], [np.zeros(2), np.zeros(3)]),
        ValueError,
        r"Adam.update: params\[1\] is float64\[2, 3\], but its gradient is float64\[3\]",
    ),
    "a gradient that is a string": (
        lambda: SGD().update([np.zeros(2)], [np.array(["a", "b"])]),
        ValueError,
        r"SGD.update: params\[0\] is float64\[2\], but its gradient is <U1\[2\]",
    ),
    "parameters that are ints": (
        lambda: SGD().update([np.zeros(2, int)], [np.zeros(2)]),
        TypeError,
        r"params\[0\] must be a writable array of floats, got int64\[2\]",
    ),
    "parameters that are lists": (
        lambda: SGD().update([[0.0]], [np.zeros(1)]),
        TypeError,
        r"params\[0\] must be a writable array of floats, got list",
    ),
    "read-only parameters": (
        lambda: SGD().update([read_only(np.zeros(2))], [np.zeros(2)]),
        TypeError,
        "must be a writable array",
    ),
    "other shapes than at first": (
        lambda: updated(Adam(), [np.zeros(2)], [np.ones(2)]).update([np.zeros(3)], [np.ones(3)]),
        ValueError,
        r"Adam.update: the parameters are float64\[3\], but at the first update they were float64"
        r"\[2\]; create a new optimizer",
    ),
    "another type than at first": (
        lambda: updated(Momentum(), [np.zeros(2)], [np.ones(2)]).update(
            [np.zeros(2, np.float32)], [np.ones(2)]
        ),
        ValueError,
        r"Momentum.update: the parameters are float32\[2\], but at the first",
    ),
    "the state of another optimizer": (
        lambda: Adam().set_state(Momentum().get_state()),
        ValueError,
        "Adam.set_state: expected the states .*AdamState.*TraceState.*; does the state belong",
    ),
    "the state of a momentum without Nesterov": (
        lambda: NesterovMomentum().set_state(Momentum().get_state()),
        ValueError,
        "NesterovMomentum.set_state: expected the states .*NesterovState.*TraceState",
    ),
    "a negative rate": (lambda: SGD(lr=-0.1), ValueError, "SGD: lr must be a number of at least 0"),
    "a rate that is a string": (
        lambda: Adam(lr="0.1"),
        ValueError,
        "Adam: lr must be a number",
    ),
    "an assigned rate": (lambda: setattr(SGD(), "lr", np.nan), ValueError, "SGD: lr must be a num"),
    "a negative decay": (lambda: SGD(decay=-1), ValueError, "SGD: decay must be a number of at le"),
    "bounds in the wrong order": (
        lambda: SGD(lr_min=0.5, lr_max=0.1),
        ValueError,
        "SGD: expected 0 ≤ lr_min ≤ lr_max, got lr_min=0.5, lr_max=0.1",
    ),
    "no clip": (lambda: SGD(clip=None), ValueError, "SGD: clip must be a number"),
    "momentum of 1": (lambda: Momentum(1.0), ValueError, r"decay must be a number in \[0, 1\)"),
    "epsilon of 0": (lambda: RMSprop(epsilon=0), ValueError, "epsilon must be a number above 0"),
    "an unknown argument": (
        lambda: SGD(rate=1),
        TypeError,
        "SGD: unknown argument 'rate'; the arguments are lr, clip, decay, lr_min, lr_max",
    ),
    "configuration of the base": (lambda: Optimizer().to_json(), NotImplementedError, "to_json"),
    "an unknown key": (
        lambda: Optimizer.from_json({"class": "optimizers.Momentum", "learning_rate": 1}),
        ValueError,
        r"Momentum.from_json: .*'learning_rate'; the arguments are: momentum, lr, clip, decay, lr_",
    ),
    "an unknown class": (
        lambda: Optimizer.from_json({"class": "optimizers.Lion"}),
        ValueError,
        r"unknown class 'optimizers.Lion'; known classes are .*optimizers.Adam",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_failed_update_changes_nothing():
    optimizer, params = Adam(lr=0.1), [np.zeros(2), np.zeros(3)]
    with pytest.raises(ValueError, match="its gradient"):
        optimizer.update(params, [np.ones(2), np.ones(2)])
    assert all((p == 0).all() for p in params)
    assert optimizer.iterations == 0


def test_an_error_of_a_transform_names_the_optimizer():
    with pytest.raises(ValueError, match="decay must be") as caught:
        NesterovMomentum(momentum=2.0)
    assert caught.value.__notes__ == ["in an argument of NesterovMomentum"]


def test_all_modules_share_one_optimizer_class():
    assert npdl.optimizers.Optimizer is Optimizer
