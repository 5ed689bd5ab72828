import itertools
from inspect import Parameter, Signature

import numpy as np
import pytest
from arrays import normal
from memory import peak
from small_layers import caching, counting, failing, noisy, notes_of, split, spy

import npdl.functional as F
from npdl import random, tree
from npdl.gradcheck import check_gradients

KEY = (5, 1)


# Keys


def keys_of(make):
    """The keys that reach the child of a model, by function."""
    log = []
    model = make(noisy(log))
    params = model.init(KEY, (3,))
    model.apply(params, normal(2, 3), train=True, rng=KEY)
    model.apply(params, normal(2, 3))
    return log[0][1], log[1][1:], log[2][1:]


PLACES = {
    "alone": (lambda child: F.serial(child), (0,)),
    "third": (lambda child: F.serial(F.tanh(), F.dense(3), child), (2,)),
    "nested": (lambda child: F.serial(F.tanh(), F.serial(F.tanh(), child)), (1, 1)),
    "residual": (lambda child: F.residual(F.tanh(), child), (1,)),
    "parallel": (lambda child: F.parallel(F.tanh(), F.tanh(), child), (2,)),
    "frozen": (lambda child: F.serial(F.tanh(), F.freeze(child)), (1,)),
    "graph": (lambda child: F.graph("x", {"a": (F.tanh(), "x"), "b": (child, "a")}, "b"), (1,)),
    "deep": (
        lambda child: F.residual(F.tanh(), F.parallel(F.tanh(), F.serial(child))),
        (1, 1, 0),
    ),
}


@pytest.mark.parametrize(("make", "place"), PLACES.values(), ids=PLACES)
def test_a_child_has_the_key_that_its_position_is_folded_into(make, place):
    in_init, in_training, in_evaluation = keys_of(make)
    assert in_init == random.fold(KEY, *place)
    assert in_training == (True, random.fold(KEY, *place))
    assert in_evaluation == (False, None)


@pytest.mark.parametrize(("make", "place"), PLACES.values(), ids=PLACES)
def test_a_child_makes_no_cache_if_no_backward_follows(make, place):
    log = []
    model = make(caching(log))
    params, x = model.init(0, (3,)), normal(2, 3)
    log.clear()  # a probe for the shape of the output
    model(params, x)
    model(params, x, train=True, rng=0)
    assert log == [False, False]
    _, nothing = model.apply(params, x, keep_cache=False)
    assert nothing is None
    model.apply(params, x)
    model.apply(params, x, train=True, rng=0)
    assert log == [False, False, False, True, True]


MODE = {"train": True, "rng": (3,), "keep_cache": False}


@pytest.mark.parametrize("count", range(4))
def test_apply_gets_only_the_arguments_that_it_takes(count):
    for names in itertools.combinations(MODE, count):
        log = []

        def apply(params, x, **given):
            log.append(given)  # noqa: B023
            return x, None

        kinds = dict.fromkeys(("params", "x"), Parameter.POSITIONAL_OR_KEYWORD)
        kinds |= dict.fromkeys(names, Parameter.KEYWORD_ONLY)
        apply.__signature__ = Signature([Parameter(*each) for each in kinds.items()])
        layer = F.Layer(lambda rng, shape: (), apply, lambda params, cache, g: ((), g))
        layer.apply((), normal(2, 3), **MODE)
        F.serial(layer).apply(((),), normal(2, 3), train=True, rng=(), keep_cache=False)
        alone, in_serial = MODE, MODE | {"rng": (0,)}
        assert log == [{name: mode[name] for name in names} for mode in (alone, in_serial)]


@pytest.mark.parametrize(
    "model",
    [
        F.serial(*[F.tanh()] * 20),
        F.residual(*[F.tanh()] * 20),
        F.stack(*[F.tanh()] * 20),
        F.freeze(F.serial(*[F.tanh()] * 20)),
    ],
    ids=["serial", "residual", "stack", "freeze"],
)
def test_inference_does_not_hold_the_outputs_of_all_layers(model):
    params, x = model.init(0, (1000,)), normal(100, 1000)
    most, _ = peak(lambda: model(params, x))
    assert most < 4.5 * x.nbytes


def test_equal_layers_at_different_places_draw_different_numbers():
    first, second = F.serial(F.dense(3), F.dense(3)).init(0, (3,))
    assert not np.array_equal(first["weight"], second["weight"])
    x = np.ones((50, 20), np.float32)
    dropped = F.parallel(F.dropout(0.5), F.dropout(0.5), join=None)
    a, b = dropped.apply(((), ()), x, train=True, rng=0)[0]
    assert not np.array_equal(a, b)


def test_a_later_layer_does_not_change_the_draws_of_earlier_ones():
    short, long = F.serial(F.dense(3)), F.serial(F.dense(3), F.dense(4))
    assert tree.all_close(short.init(0, (3,))[0], long.init(0, (3,))[0], rtol=0, atol=0)


@pytest.mark.parametrize("seed", [3, np.random.SeedSequence(3), (3,)])
def test_any_kind_of_key_is_taken(seed):
    for model in (F.serial(F.dense(3)), F.parallel(F.dense(3)), F.residual(F.dense(3))):
        expected = model.init((3,), (3,))
        assert tree.all_close(model.init(seed, (3,)), expected, rtol=0, atol=0)


# Notes


def test_the_notes_of_an_error_in_apply_have_path_and_input():
    model = F.serial(F.dense(4), F.residual(F.tanh(), F.parallel(F.tanh(), failing())))
    params, x = model.init(0, (3,)), np.zeros((2, 3), np.float32)
    with pytest.raises(ZeroDivisionError, match="broken in apply"):
        model(params, x)
    assert notes_of(lambda: model(params, x)) == [
        "in parallel[1] = failing(), given float32[2, 4]",
        "in residual[1] = parallel(tanh(), failing()), given float32[2, 4]",
        "in serial[1] = residual(tanh(), parallel(tanh(), failing())), given float32[2, 4]",
    ]


def test_the_notes_of_an_error_in_backward_spell_the_place():
    model = F.serial(F.dense(4), F.residual(F.tanh(), F.parallel(F.tanh(), failing("backward"))))
    params, x = model.init(0, (3,)), np.zeros((2, 3), np.float32)
    y, cache = model.apply(params, x)
    assert notes_of(lambda: model.backward(params, cache, y)) == [
        "in backward of parallel[1] = failing(where='backward'), given float32[2, 4]",
        "in backward of residual[1] = parallel(tanh(), failing(where='backward')), "
        "given float32[2, 4]",
        "in backward of serial[1] = residual(tanh(), parallel(tanh(), failing(where='backward'))), "
        "given float32[2, 4]",
    ]


def test_the_notes_of_an_error_in_init_spell_the_place():
    model = F.serial(F.dense(4), F.residual(F.tanh(), F.parallel(F.tanh(), failing("init"))))
    assert notes_of(lambda: model.init(0, (3,))) == [
        "in parallel[1] = failing(where='init'), initialized for the shape (4,)",
        "in residual[1] = parallel(tanh(), failing(where='init')), initialized for the shape (4,)",
        "in serial[1] = residual(tanh(), parallel(tanh(), failing(where='init'))), "
        "initialized for the shape (4,)",
    ]


def test_the_note_on_a_wrong_input_has_the_parameters():
    model = F.serial(F.tanh(), F.dense(units=10))
    params = model.init(0, (49,))
    x = np.zeros((32, 7, 7, 64), np.float32)
    with pytest.raises(ValueError, match="these params take 49 features") as raised:
        model(params, x)
    assert raised.value.__notes__ == [
        "in serial[1] = dense(units=10), given float32[32, 7, 7, 64], with params "
        "{weight: float32[49, 10], bias: float32[10]}"
    ]
    assert raised.traceback[-1].path.name == "_dense.py"


def test_the_note_names_the_failed_child_and_not_its_predecessor():
    model = F.serial(F.dense(4), F.dense(5), F.dense(6))
    params = model.init(0, (3,))
    for i, size in enumerate((3, 4, 5)):
        broken = (*params[:i], {"weight": np.zeros((7, 2), np.float32)}, *params[i + 1 :])
        notes = notes_of(lambda broken=broken: model(broken, np.zeros((2, 3), np.float32)))
        assert len(notes) == 1
        assert notes[0].startswith(
            f"in serial[{i}] = dense(units={4 + i}), given float32[2, {size}]"
        )


def test_a_long_layer_is_shortened_in_the_notes():
    model = F.serial(F.serial(*[F.dense(1000 + i) for i in range(9)], failing()))
    params = model.init(0, (3,))
    notes = notes_of(lambda: model(params, np.zeros((2, 3), np.float32)))
    assert notes[1] == "in serial[0] = serial(…), given float32[2, 3]"


def test_several_inputs_are_described_in_the_notes():
    model = F.serial(F.serial(failing()))
    params = model.init(0, (3,))
    notes = notes_of(lambda: model(params, (np.zeros((2, 3)), None, np.ones(2, bool))))
    assert notes[0] == "in serial[0] = failing(), given (float64[2, 3], None, bool[2])"


# Arguments


@pytest.mark.parametrize("name", ["serial", "residual", "parallel", "freeze"])
def test_a_child_that_is_not_a_layer_is_an_error_with_the_call(name):
    with pytest.raises(TypeError, match=rf"^{name}: argument 0 is .*, not a layer; .*\(dense\(8\)"):
        getattr(F, name)(F.dense)
    if name != "freeze":
        with pytest.raises(TypeError, match=f"^{name}: argument 1 is 3, not a layer"):
            getattr(F, name)(F.dense(3), 3)


ARGUMENTS = {
    "no branch": (lambda: F.parallel(), ValueError, "parallel needs at least one layer"),
    "join": (
        lambda: F.parallel(F.dense(3), join="sum"),
        ValueError,
        "join must be one of 'add', 'multiply', 'concatenate', None, .* got 'sum'",
    ),
    "axis": (
        lambda: F.parallel(F.dense(3), join="concatenate", axis=0),
        ValueError,
        "axis must be an int other than 0, which is the batch",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_wrong_arguments_are_refused_at_construction(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


MODES = {
    "a key without training": ({"rng": 0}, ValueError, "a key was passed, but train=False"),
    "a key for the mode": ({"train": 3}, TypeError, "train must be True or False, got 3"),
    "what is no key": ({"train": True, "rng": "x"}, TypeError, "expected a key"),
}


@pytest.mark.parametrize("combine", [F.serial, F.residual, F.parallel])
@pytest.mark.parametrize(("mode", "kind", "message"), MODES.values(), ids=MODES)
def test_a_wrong_mode_is_refused(combine, mode, kind, message):
    model = combine(F.dense(3), F.dropout(0.5))
    params = model.init(0, (3,))
    with pytest.raises(kind, match=message):
        model.apply(params, normal(2, 3), **mode)


@pytest.mark.parametrize("name", ["serial", "residual", "parallel"])
@pytest.mark.parametrize(
    "change", [lambda p: p[:1], lambda p: (*p, ()), lambda p: {}, lambda p: None]
)
def test_the_parameters_of_another_model_are_refused(name, change):
    model = getattr(F, name)(F.dense(3), F.dense(3))
    params = change(model.init(0, (3,)))
    message = f"^{name}: expected the parameters of 2 layers, .* do they belong to another model"
    with pytest.raises(ValueError, match=message):
        model(params, normal(2, 3))


def test_lists_of_parameters_are_taken_too():
    model = F.serial(F.dense(3), F.parallel(F.dense(2)))
    params = model.init(0, (3,))
    lists = [params[0], list(params[1])]
    assert np.array_equal(model(lists, normal(2, 3)), model(params, normal(2, 3)))


# Shapes


def test_a_residual_that_changes_the_shape_is_refused():
    model = F.residual(F.dense(4))
    params = F.serial(F.dense(4)).init(0, (3,))
    with pytest.raises(ValueError, match=r"turn float32\[2, 3\] into float32\[2, 4\]"):
        model(params, normal(2, 3))
    for call in (lambda: model.init(0, (3,)), lambda: model.out_shape((3,))):
        with pytest.raises(ValueError, match=r"residual: .* the shape \(3,\) into \(4,\)"):
            call()


def test_a_residual_does_not_broadcast():
    model = F.residual(F.dense(1))
    with pytest.raises(ValueError, match=r"turn float32\[2, 3\] into float32\[2, 1\]"):
        model(F.serial(F.dense(1)).init(0, (3,)), normal(2, 3))


@pytest.mark.parametrize("join", ["add", "multiply"])
def test_branches_do_not_broadcast(join):
    model = F.parallel(F.dense(4), F.dense(1), join=join)
    with pytest.raises(
        ValueError, match=rf"join='{join}' needs outputs of one shape, got \(2, 4\)"
    ):
        model(model.init(0, (3,)), normal(2, 3))
    with pytest.raises(ValueError, match=rf"join='{join}' .* got \('batch', 4\), \('batch', 1\)"):
        model.out_shape((3,))


def wide(units, dtype=np.float32):
    """A branch of another data type."""
    return F.Layer(
        lambda rng, shape: (),
        lambda params, x: (np.ones((len(x), units), dtype), None),
        lambda params, cache, g: ((), None),
    )


@pytest.mark.parametrize("join", ["add", "multiply", "concatenate"])
def test_branches_are_not_promoted(join):
    model = F.parallel(wide(2), wide(2, np.float64), join=join)
    with pytest.raises(TypeError, match=r"float32\[5, 2\], float64\[5, 2\].* promoted silently"):
        model(model.init(0, (3,)), normal(5, 3))


CONCATENATED = [
    # shape of the input, axis, sizes of the last axis, shape of an output
    ((3,), -1, (4, 2), (6,)),
    ((3,), 1, (4, 2), (6,)),
    ((7, 3), -1, (4, 2), (7, 6)),
    ((7, 3), 2, (4, 2), (7, 6)),
    ((7, 3), 1, (4, 4, 4), (21, 4)),
    ((7, 3), -2, (4, 4), (14, 4)),
    ((5, 7, 3), -2, (4, 4), (5, 14, 4)),
    ((5, 7, 3), 1, (2, 2), (10, 7, 2)),
]


@pytest.mark.parametrize(("shape", "axis", "sizes", "expected"), CONCATENATED)
def test_concatenation_is_numpy_s_along_any_axis_but_the_batch(shape, axis, sizes, expected):
    model = F.parallel(*map(F.dense, sizes), join="concatenate", axis=axis)
    params, x = model.init(0, shape), normal(6, *shape)
    outputs = [F.dense(n)(p, x) for n, p in zip(sizes, params, strict=True)]
    assert np.array_equal(model(params, x), np.concatenate(outputs, axis))
    assert model.out_shape(shape) == expected
    check_gradients(model, shape)


BAD_AXES = [
    ((3,), -2, (4, 4)),
    ((3,), 2, (4, 4)),
    ((3,), -3, (4, 4)),
    ((7, 3), 1, (4, 2)),
    ((7, 3), -3, (4, 4)),
]


@pytest.mark.parametrize(("shape", "axis", "sizes"), BAD_AXES)
def test_an_axis_that_is_the_batch_or_does_not_fit_is_refused(shape, axis, sizes):
    model = F.parallel(*map(F.dense, sizes), join="concatenate", axis=axis)
    params, x = model.init(0, shape), normal(6, *shape)
    for call in (lambda: model(params, x), lambda: model.out_shape(shape)):
        with pytest.raises(ValueError, match=f"outputs that differ only in axis {axis},"):
            call()


# Gradients


def backwards(model, log, shape=(3,), input_grad=False):
    params = model.init(0, shape)
    y, cache = model.apply(params, normal(2, *shape))
    log.clear()
    grads, dx = model.backward(params, cache, tree.map(np.ones_like, y), input_grad=input_grad)
    assert (dx is not None) == input_grad
    return grads, list(log)


def test_no_layer_before_the_first_trained_one_runs_backward():
    log = []
    model = F.serial(
        spy(log, "a", False),
        F.serial(spy(log, "b", False), spy(log, "c"), spy(log, "d", False)),
        spy(log, "e"),
    )
    grads, calls = backwards(model, log)
    assert calls == [("e", True), ("d", True), ("c", False)]
    assert grads[0] is None
    assert grads[1][0] is None
    assert grads[1][1]["a"].shape == ()
    _, calls = backwards(model, log, input_grad=True)
    assert calls == [(name, True) for name in "edcba"]


def test_no_layer_before_frozen_layers_runs_backward():
    log = []
    model = F.serial(F.freeze(spy(log, "a")), F.freeze(spy(log, "b")), spy(log, "c"), spy(log, "d"))
    grads, calls = backwards(model, log)
    assert calls == [("d", True), ("c", False)]
    assert grads[:2] == (None, None)


def test_each_branch_knows_that_no_input_gradient_is_needed():
    log = []
    model = F.parallel(spy(log, "a"), F.serial(spy(log, "b", False), spy(log, "c")))
    assert backwards(model, log)[1] == [("c", False), ("a", False)]
    residual = F.residual(spy(log, "a", False), spy(log, "b"))
    assert backwards(residual, log)[1] == [("b", False)]
    assert backwards(residual, log, input_grad=True)[1] == [("b", True), ("a", True)]


def test_a_model_without_parameters_runs_no_backward():
    log = []
    assert backwards(F.serial(spy(log, "a", False), F.tanh()), log) == ((None, None), [])


def test_a_frozen_layer_passes_only_the_input_gradient_on():
    log = []
    model = F.freeze(F.serial(spy(log, "a"), spy(log, "b")))
    grads, calls = backwards(model, log, input_grad=True)
    assert grads is None
    assert calls == [("b", True), ("a", True)]
    assert backwards(model, log) == (None, [])
    free = F.serial(F.dense(4), F.tanh())
    frozen, params, x = F.freeze(free), free.init(0, (3,)), normal(2, 3)
    assert np.array_equal(frozen(params, x), free(params, x))
    y, cache = frozen.apply(params, x)
    assert np.array_equal(frozen.backward(params, cache, y)[1], free.backward(params, cache, y)[1])
    check_gradients(F.serial(F.dense(3), frozen, F.dense(2)), (3,))


def test_an_unused_output_of_branches_has_none_for_its_gradient():
    log = []
    model = F.parallel(spy(log, "a"), spy(log, "b"), join=None)
    params, x = model.init(0, (3,)), normal(2, 3)
    (y, _), cache = model.apply(params, x)
    log.clear()
    grads, dx = model.backward(params, cache, (None, y))
    assert log == [("b", True)]
    assert grads[0] is None
    assert np.array_equal(dx, 2 * y)
    grads, dx = model.backward(params, cache, (None, None))
    assert (grads, dx) == ((None, None), None)


def test_a_gradient_of_none_runs_no_backward():
    log = []
    model = F.serial(spy(log, "a"), F.residual(spy(log, "b")))
    params = model.init(0, (3,))
    _, cache = model.apply(params, normal(2, 3))
    assert model.backward(params, cache, None) == ((None, None), None)
    assert log == []


def test_no_layer_before_a_missing_input_gradient_runs_backward():
    def stop():
        return F.Layer(lambda rng, shape: (), lambda p, x: (x, None), lambda p, c, g: ((), None))

    log = []
    model = F.serial(spy(log, "a"), stop(), spy(log, "b"))
    params = model.init(0, (3,))
    y, cache = model.apply(params, normal(2, 3))
    grads, dx = model.backward(params, cache, y)
    assert log == [("b", True)]
    assert grads[0] is None
    assert dx is None


def test_gradients_of_branches_of_several_outputs_flow():
    model = F.serial(
        F.dense(4),
        split(),
        F.Layer(
            lambda rng, shape: (),
            lambda p, x: (x[0] * x[1], x),
            lambda p, x, g: ((), (g * x[1], g * x[0])),
        ),
    )
    check_gradients(model, (3,))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("join", ["add", "multiply", "concatenate"])
def test_joins_are_numpy_s(join, count):
    branches = [F.dense(4), F.serial(F.dense(2), F.tanh(), F.dense(4)), F.dense(4, bias=False)]
    model = F.parallel(*branches[:count], join=join)
    params, x = model.init(0, (3,)), normal(5, 3)
    outputs = [child(p, x) for child, p in zip(branches, params, strict=False)]
    expected = {"add": sum, "multiply": np.prod, "concatenate": np.concatenate}[join]
    axis = {"add": {}, "multiply": {"axis": 0}, "concatenate": {"axis": -1}}[join]
    assert np.allclose(model(params, x), expected(outputs, **axis), rtol=1e-6)
    check_gradients(model, (3,))


# Statistics


def test_statistics_are_folded_in_wherever_they_are():
    model = F.serial(
        F.dense(3),
        counting(),
        F.residual(F.tanh(), counting()),
        F.parallel(counting(), F.serial(F.dense(3), counting())),
        F.graph("x", {"a": (counting(), "x"), "b": (F.dense(2), "a")}, "b"),
        F.freeze(F.serial(counting())),
    )
    first = params = model.init(0, (3,))
    for count in (4, 6):
        _, cache = model.apply(params, normal(count, 3), train=True, rng=0)
        params = model.update_stats(params, cache)
    seen = {path: float(leaf) for path, leaf in tree.items(params) if path.endswith("seen")}
    assert seen == {
        "1/seen": 10,
        "2/1/seen": 10,
        "3/0/seen": 10,
        "3/1/1/seen": 10,
        "4/a/seen": 10,
        "5/0/seen": 0,  # frozen
    }
    assert all(leaf == 0 for path, leaf in tree.items(first) if path.endswith("seen"))
    rest = [path for path in tree.paths(first) if not path.endswith("seen")]
    for path in rest:
        assert dict(tree.items(params))[path] is dict(tree.items(first))[path]


@pytest.mark.parametrize(
    "model",
    [
        F.serial(F.dense(3), counting()),
        F.residual(counting()),
        F.parallel(counting(), F.tanh()),
        F.graph("x", {"a": (counting(), "x")}, "a"),
    ],
    ids=repr,
)
def test_without_a_cache_or_in_evaluation_the_statistics_stay(model):
    params = model.init(0, (3,))
    assert model.update_stats(params, None) is params
    _, cache = model.apply(params, normal(4, 3))
    assert tree.all_close(model.update_stats(params, cache), params, rtol=0, atol=0)


def test_statistics_have_none_for_their_gradient():
    model = F.serial(F.dense(3), F.residual(counting()))
    params = model.init(0, (3,))
    y, cache = model.apply(params, normal(4, 3), train=True)
    grads, _ = model.backward(params, cache, y)
    assert tree.paths(grads) == ["0/bias", "0/weight"]
    check_gradients(model, (3,), train=True)


def test_update_stats_is_optional_for_layers_without_statistics():
    """The functions say so themselves, so that a step of training can leave the call out."""
    plain = F.dense(3).update_stats
    for model in (F.serial(F.dense(3)), F.residual(F.tanh()), F.parallel(F.dense(3))):
        assert model.update_stats is plain
    assert F.graph("x", {"a": (F.dense(3), "x")}, "a").update_stats is plain
    assert F.freeze(counting()).update_stats is plain
    assert F.serial(F.serial(counting())).update_stats is not plain


# The empty model


def test_an_empty_serial_is_the_identity():
    model, x = F.serial(), normal(2, 3)
    assert model.init(0, (3,)) == ()
    y, cache = model.apply((), x, train=True, rng=0)
    assert y is x
    assert model.backward((), cache, x) == ((), x)
    assert model.backward((), cache, x, input_grad=False) == ((), None)
    assert model.out_shape((3,)) == (3,)
