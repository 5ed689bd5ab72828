"""Schedules against formulas written by hand."""

import json
import math
import pickle

import numpy as np
import pytest

import npdl.functional as F

# A schedule, and its values at some steps.
SCHEDULES = {
    "constant": (F.constant_schedule(0.3), {0: 0.3, 1000: 0.3}),
    "exponential": (
        F.exponential_decay(0.5, 4, rate=0.25),
        {0: 0.5, 2: 0.25, 4: 0.125, 6: 0.0625, 4000: 0.0},
    ),
    "exponential, staircase": (
        F.exponential_decay(0.5, 4, rate=0.25, staircase=True),
        {0: 0.5, 3: 0.5, 4: 0.125, 7: 0.125, 8: 0.03125},
    ),
    "exponential, constant": (F.exponential_decay(0.5, 4, rate=1.0), {0: 0.5, 10**9: 0.5}),
    "inverse time": (F.inverse_time_decay(0.6, 4, rate=0.5), {0: 0.6, 4: 0.4, 8: 0.3, 16: 0.2}),
    "inverse time, each step": (F.inverse_time_decay(0.6, 1, rate=0.5), {0: 0.6, 1: 0.4, 2: 0.3}),
    "steps": (
        F.step_decay(0.8, (2, 5), factor=0.5),
        {0: 0.8, 1: 0.8, 2: 0.4, 4: 0.4, 5: 0.2, 99: 0.2},
    ),
    "steps by default": (F.step_decay(0.8, [3]), {2: 0.8, 3: 0.08}),
    "steps to zero": (F.step_decay(0.8, (3,), factor=0.0), {2: 0.8, 3: 0.0}),
    "no steps": (F.step_decay(0.8, ()), {0: 0.8, 99: 0.8}),
    "line": (F.polynomial_decay(0.8, 4), {0: 0.8, 1: 0.6, 3: 0.2, 4: 0.0, 5: 0.0}),
    "polynomial": (
        F.polynomial_decay(0.9, 4, final=0.1, power=2.0),
        {0: 0.9, 1: 0.1 + 0.8 * 0.5625, 2: 0.3, 4: 0.1, 99: 0.1},
    ),
    "rising polynomial": (F.polynomial_decay(0.0, 4, final=0.4), {0: 0.0, 1: 0.1, 9: 0.4}),
    "cosine": (
        F.cosine_decay(0.8, 6),
        {0: 0.8, 1: 0.4 * (1 + math.sqrt(3) / 2), 2: 0.6, 3: 0.4, 4: 0.2, 6: 0.0, 7: 0.0},
    ),
    "cosine to a value": (F.cosine_decay(0.9, 6, final=0.1), {0: 0.9, 2: 0.7, 3: 0.5, 99: 0.1}),
    "warm-up of a number": (F.warmup(0.8, 4), {0: 0.0, 1: 0.2, 3: 0.6, 4: 0.8, 99: 0.8}),
    "warm-up from a value": (F.warmup(0.8, 4, initial=0.4), {0: 0.4, 1: 0.5, 4: 0.8}),
    "warm-up of a schedule": (
        F.warmup(F.cosine_decay(0.8, 6), 2),
        {0: 0.0, 1: 0.4, 2: 0.8, 4: 0.6, 5: 0.4, 8: 0.0, 99: 0.0},
    ),
    "one cycle": (
        F.one_cycle(0.75, 10, rising=0.5, initial_divisor=3.0, final_divisor=10.0),
        {0: 0.25, 2: 0.5, 4: 0.75, 9: 0.025, 99: 0.025},
    ),
    "one cycle of lines": (
        F.one_cycle(0.75, 10, rising=0.5, initial_divisor=3.0, final_divisor=10.0, linear=True),
        {0: 0.25, 1: 0.375, 4: 0.75, 5: 0.75 - 0.725 / 5, 9: 0.025, 99: 0.025},
    ),
    "shortest cycle": (F.one_cycle(0.5, 2, rising=0.5), {0: 0.5, 1: 0.5 / 25e4, 2: 0.5 / 25e4}),
    "joined": (
        F.join_schedules((0.3, F.polynomial_decay(0.4, 4), F.step_decay(1.0, (1,))), (2, 5)),
        {0: 0.3, 1: 0.3, 2: 0.4, 4: 0.2, 5: 1.0, 6: 0.1, 99: 0.1},
    ),
    "joined alone": (F.join_schedules([F.polynomial_decay(0.4, 4)], []), {0: 0.4, 1: 0.3}),
}

each = pytest.mark.parametrize("schedule", [row[0] for row in SCHEDULES.values()], ids=SCHEDULES)


@pytest.mark.parametrize(("schedule", "values"), SCHEDULES.values(), ids=SCHEDULES)
def test_the_values_agree_with_the_formula(schedule, values):
    for step, value in values.items():
        assert schedule(step) == pytest.approx(value, rel=1e-12, abs=1e-15), step


@each
def test_a_value_is_a_python_float_and_not_negative_at_any_step(schedule):
    for step in (*range(30), 10**6, 10**12, np.int64(3)):
        value = schedule(step)
        assert type(value) is float
        assert 0 <= value <= 1


@each
def test_the_values_do_not_depend_on_earlier_calls(schedule):
    forwards = [schedule(step) for step in range(15)]
    backwards = [schedule(step) for step in reversed(range(15))]
    assert forwards == backwards[::-1]


@each
def test_repr_config_and_pickle_give_an_equal_schedule(schedule):
    for copy in (
        eval(repr(schedule), {name: getattr(F, name) for name in F.__all__}),
        F.from_config(json.loads(json.dumps(schedule.config()))),
        pickle.loads(pickle.dumps(schedule)),
    ):
        assert copy == schedule
        assert hash(copy) == hash(schedule)
        assert [copy(step) for step in range(9)] == [schedule(step) for step in range(9)]
    optimizer = F.adam(schedule)
    assert F.from_config(json.loads(json.dumps(optimizer.config()))) == optimizer


def test_every_schedule_is_in_the_table():
    names = {row[0].call.name for row in SCHEDULES.values()}
    module = __import__("npdl.functional.optimizers._schedules", fromlist=["__all__"])
    assert names == set(module.__all__) - {"Schedule"}
    assert names <= set(F.__all__)


def test_numpy_numbers_are_accepted_as_numbers():
    schedule = F.polynomial_decay(np.float32(0.5), np.int64(4), final=np.float64(0.25))
    assert schedule(np.int32(2)) == 0.375
    assert type(schedule(2)) is float


def test_a_function_of_ones_own_is_a_schedule():
    schedule = F.warmup(lambda step: np.float64(1 / (1 + step)), 2)
    assert [schedule(step) for step in range(4)] == [0.0, 0.5, 1.0, 0.5]
    assert type(schedule(3)) is float


BAD = {
    "constant": (lambda: F.constant_schedule(-0.1), r"constant_schedule: value .*got -0.1"),
    "initial": (lambda: F.cosine_decay(-1, 9), r"cosine_decay: initial must be a number of at l"),
    "text": (lambda: F.cosine_decay("0.1", 9), r"cosine_decay: initial .*got '0.1'"),
    "nan": (lambda: F.cosine_decay(math.nan, 9), "cosine_decay: initial .*got nan"),
    "infinite": (
        lambda: F.polynomial_decay(0.1, 9, final=math.inf),
        "polynomial_decay: final .*got inf",
    ),
    "power": (lambda: F.polynomial_decay(0.1, 9, power=0), "power must be a number above 0"),
    "no steps": (lambda: F.cosine_decay(0.1, 0), r"steps must be an int of at least 1, as in cosi"),
    "steps": (lambda: F.polynomial_decay(0.1, 1.5), "polynomial_decay: steps .*got 1.5"),
    "warm-up": (lambda: F.warmup(0.1, -3), "warmup: steps must be an int .*got -3"),
    "warm-up of": (lambda: F.warmup(None, 3), "schedule must be .*, or a schedule, as in warmup"),
    "warm-up from": (lambda: F.warmup(0.1, 3, initial=-1), "warmup: initial .*got -1"),
    "rate": (lambda: F.exponential_decay(0.1, 9, rate=1.1), r"in \(0, 1\], as in .*got 1.1"),
    "rate and steps": (
        lambda: F.exponential_decay(0.1, 0.9, rate=10),
        "steps must be an int.*got 0.9",
    ),
    "inverse": (lambda: F.inverse_time_decay(0.1, 9, rate=-1), "inverse_time_decay: rate .*got -1"),
    "inverse steps": (
        lambda: F.inverse_time_decay(0.1, 0, rate=1),
        "inverse_time_decay: steps .*got 0",
    ),
    "factor": (lambda: F.step_decay(0.1, (3,), factor=-0.5), "step_decay: factor .*got -0.5"),
    "a boundary": (lambda: F.step_decay(0.1, 30), r"boundaries must be positive, rising.*got 30"),
    "boundary 0": (lambda: F.step_decay(0.1, (0, 3)), r"positive, rising ints.*got \(0, 3\)"),
    "falling": (lambda: F.step_decay(0.1, (5, 3)), r"as in step_decay\(.*got \(5, 3\)"),
    "twice": (lambda: F.step_decay(0.1, (5, 5)), r"rising ints.*got \(5, 5\)"),
    "floats": (lambda: F.step_decay(0.1, (0.5, 0.7)), r"rising ints.*got \(0.5, 0.7\)"),
    "cycle": (lambda: F.one_cycle(0.1, 1), "one_cycle: steps must be an int of at least 2"),
    "rising": (lambda: F.one_cycle(0.1, 9, rising=1.0), r"one_cycle: rising .*in \[0, 1\)"),
    "divisor": (lambda: F.one_cycle(0.1, 9, initial_divisor=0), "initial_divisor .*above 0.*got 0"),
    "last divisor": (lambda: F.one_cycle(0.1, 9, final_divisor=-1), "final_divisor .*got -1"),
    "joins": (lambda: F.join_schedules((0.1, 0.2), ()), "2 schedules are joined at 1 .*got 0"),
    "joins nothing": (lambda: F.join_schedules((), ()), "0 schedules"),
    "joined": (lambda: F.join_schedules((0.1, "a"), (3,)), "schedules must be .*got 'a'"),
    "joined at": (lambda: F.join_schedules((0.1, 0.2), 3), "join_schedules: boundaries .*got 3"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_arguments_are_errors_with_the_right_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_join_schedules_takes_a_sequence():
    with pytest.raises(TypeError, match=r"must be a tuple of schedules .*, as in join_schedules"):
        F.join_schedules(0.1, (3,))
