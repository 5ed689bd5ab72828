"""Schedules: ``rate = schedule(step)``, a float for the number of previous updates.

All optimizers accept a schedule as learning rate. A schedule has no state: the count is in the
optimizer's state. It is defined for every step; after its last step, it is constant.

>>> import npdl.functional as F
>>> optimizer = F.adam(F.warmup(F.cosine_decay(1e-3, steps=900), steps=100))
>>> schedule = F.warmup(F.cosine_decay(1e-3, steps=900), steps=100)
>>> [schedule(step) for step in (0, 50, 100, 550, 1000, 2000)]
[0.0, 0.0005, 0.001, 0.0005, 0.0, 0.0]
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from npdl._constructor import RecordedFunction, constructor
from npdl.functional._checks import (
    check_flag,
    check_int,
    check_number,
    is_function,
    is_int,
    refusal,
)

__all__ = [
    "Schedule",
    "constant_schedule",
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "join_schedules",
    "one_cycle",
    "polynomial_decay",
    "step_decay",
    "warmup",
]

Schedule: TypeAlias = Callable[[int], float]


@constructor
def constant_schedule(value: float) -> RecordedFunction:
    """Keep one value: ``η = value``.

    Parameters
    ----------
    value : float
        The value at every step.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.constant_schedule(0.1)(1000)
    0.1
    """
    value = check_number(value, "constant_schedule(value=0.1)", "of at least 0")
    return RecordedFunction(lambda step: value)


@constructor
def exponential_decay(
    initial: float, steps: int, *, rate: float, staircase: bool = False
) -> RecordedFunction:
    """Multiply by `rate` once per `steps` steps: ``η = initial · rate^(step / steps)``.

    Parameters
    ----------
    initial : float
        The value at step 0.
    steps : int
        Number of steps per factor.
    rate : float
        The factor, above 0 and at most 1.
    staircase : bool
        Whether to apply each factor at once, after all its steps, instead of continuously.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.exponential_decay(0.1, steps=10, rate=0.5)(20)
    0.025
    """
    initial = check_number(initial, "exponential_decay(initial=0.1, …)", "of at least 0")
    steps = check_int(steps, "exponential_decay(0.1, steps=100, rate=0.9)", least=1)
    rate = check_number(rate, "exponential_decay(rate=0.9, …)", "in (0, 1]")
    if check_flag(staircase, "exponential_decay(0.1, 100, staircase=True, rate=0.9)"):
        return _schedule(lambda step: initial * rate ** (step // steps))
    return _schedule(lambda step: initial * rate ** (step / steps))


@constructor
def inverse_time_decay(initial: float, steps: int, *, rate: float) -> RecordedFunction:
    """Decay with the inverse of the time: ``η = initial / (1 + rate · step / steps)``.

    Parameters
    ----------
    initial : float
        The value at step 0.
    steps : int
        The unit of time, in steps.
    rate : float
        Rate of the decay, not negative: after ``steps / rate`` steps, η is ``initial / 2``.

    References
    ----------
    Robbins, Monro: A stochastic approximation method, 1951, for steps of the size 1/n.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.inverse_time_decay(0.1, steps=10, rate=1.0)(30)
    0.025
    """
    initial = check_number(initial, "inverse_time_decay(initial=0.1, …)", "of at least 0")
    steps = check_int(steps, "inverse_time_decay(0.1, steps=100, rate=0.5)", least=1)
    rate = check_number(rate, "inverse_time_decay(rate=0.5, …)", "of at least 0")
    return _schedule(lambda step: initial / (1 + rate * step / steps))


@constructor
def step_decay(
    initial: float, boundaries: Sequence[int], *, factor: float = 0.1
) -> RecordedFunction:
    """Multiply by `factor` at each boundary: ``η = initial · factorⁿ``.

    Here n is the number of boundaries up to and including the step.

    Parameters
    ----------
    initial : float
        The value at step 0.
    boundaries : sequence of int
        The first step of each new value, positive and increasing.
    factor : float
        The factor, not negative.

    Examples
    --------
    >>> import npdl.functional as F
    >>> schedule = F.step_decay(1.0, boundaries=(30, 60), factor=0.5)
    >>> [schedule(step) for step in (0, 29, 30, 60)]
    [1.0, 1.0, 0.5, 0.25]
    """
    initial = check_number(initial, "step_decay(initial=0.1, …)", "of at least 0")
    factor = check_number(factor, "step_decay(factor=0.1, …)", "of at least 0")
    bounds = _check_boundaries(boundaries, "step_decay(0.1, boundaries=(30, 60))")
    return _schedule(lambda step: initial * factor ** sum(step >= bound for bound in bounds))


@constructor
def polynomial_decay(
    initial: float, steps: int, *, final: float = 0.0, power: float = 1.0
) -> RecordedFunction:
    """Decay to a final value: ``η = final + (initial - final) (1 - step / steps)^power``.

    Parameters
    ----------
    initial : float
        The value at step 0.
    steps : int
        The first step with the value `final`.
    final : float
        The last value.
    power : float
        1 gives a straight line; larger powers decay faster at first.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.polynomial_decay(0.1, steps=100, power=2.0)(50)
    0.025
    """
    initial = check_number(initial, "polynomial_decay(initial=0.1, …)", "of at least 0")
    steps = check_int(steps, "polynomial_decay(0.1, steps=100)", least=1)
    final = check_number(final, "polynomial_decay(final=0.01, …)", "of at least 0")
    power = check_number(power, "polynomial_decay(power=2.0, …)", "above 0")
    return _schedule(
        lambda step: final + (initial - final) * (1 - min(step, steps) / steps) ** power
    )


@constructor
def cosine_decay(initial: float, steps: int, *, final: float = 0.0) -> RecordedFunction:
    """Decay to a final value along half a cosine.

    ``η = final + (initial - final) (1 + cos(π step / steps)) / 2``

    Parameters
    ----------
    initial : float
        The value at step 0.
    steps : int
        The first step with the value `final`.
    final : float
        The last value.

    References
    ----------
    Loshchilov, Hutter: SGDR: Stochastic gradient descent with warm restarts, 2016, equation 5,
    without restarts.

    Examples
    --------
    >>> import npdl.functional as F
    >>> F.cosine_decay(0.1, steps=100)(50)
    0.05
    """
    initial = check_number(initial, "cosine_decay(initial=0.1, …)", "of at least 0")
    steps = check_int(steps, "cosine_decay(0.1, steps=100)", least=1)
    final = check_number(final, "cosine_decay(final=0.01, …)", "of at least 0")
    return _schedule(lambda step: _cosine(initial, final, min(step, steps) / steps))


@constructor
def warmup(schedule: float | Schedule, steps: int, *, initial: float = 0.0) -> RecordedFunction:
    """Increase linearly to the first value of a schedule, then follow the schedule from its start.

    ``η = initial + (s₀ - initial) step / steps`` before the step `steps`, where s₀ is the first
    value of the schedule; then ``η = s(step - steps)``.

    Parameters
    ----------
    schedule : float or schedule
        The schedule after the warmup; its step 0 is the step `steps`.
    steps : int
        Number of warmup steps.
    initial : float
        The value at step 0. With 0, the first update is zero.

    References
    ----------
    Goyal et al.: Accurate, large minibatch SGD: Training ImageNet in 1 hour, 2017, section 2.2.

    Examples
    --------
    >>> import npdl.functional as F
    >>> schedule = F.warmup(F.cosine_decay(0.5, steps=100), steps=10)
    >>> [schedule(step) for step in (0, 5, 10, 60, 110)]
    [0.0, 0.25, 0.5, 0.25, 0.0]
    """
    after = as_schedule(schedule, "warmup(schedule=0.1, steps=100)")
    steps = check_int(steps, "warmup(0.1, steps=100)", least=1)
    initial = check_number(initial, "warmup(initial=0.0, …)", "of at least 0")

    def value(step: int) -> float:
        if step >= steps:
            return after(step - steps)
        return initial + (after(0) - initial) * step / steps

    return _schedule(value)


@constructor
def one_cycle(
    peak: float,
    steps: int,
    *,
    rising: float = 0.3,
    initial_divisor: float = 25.0,
    final_divisor: float = 1e4,
    linear: bool = False,
) -> RecordedFunction:
    """Increase to a peak, then decay far below the first value, along halves of a cosine.

    ``η = b + (a - b) (1 + cos(π x)) / 2``, where ``T = rising · steps - 1`` is the step of the
    peak. Before the peak, a is the value at step 0, b the peak, and ``x = step / T``. After it, a
    is the peak, b the last value, and ``x = (step - T) / (steps - 1 - T)``.

    Parameters
    ----------
    peak : float
        The largest value.
    steps : int
        Number of steps, at least two; the last step has the smallest value. As in PyTorch, the peak
        is at ``rising * steps - 1``.
    rising : float
        The fraction of steps before the peak, in [0, 1).
    initial_divisor : float
        The value at step 0 is ``peak / initial_divisor``.
    final_divisor : float
        The last value is ``peak / initial_divisor / final_divisor``.
    linear : bool
        Whether to use straight lines instead of cosines.

    References
    ----------
    Smith, Topin: Super-convergence: Very fast training of neural networks using large learning
    rates, 2017. The halves of a cosine come from fast.ai, and PyTorch uses them, too.

    Examples
    --------
    >>> import npdl.functional as F
    >>> schedule = F.one_cycle(0.5, steps=10)
    >>> [round(schedule(step), 6) for step in (0, 2, 9, 50)]
    [0.02, 0.5, 2e-06, 2e-06]
    """
    peak = check_number(peak, "one_cycle(peak=0.1, …)", "of at least 0")
    steps = check_int(steps, "one_cycle(0.1, steps=1000)", least=2)
    rising = check_number(rising, "one_cycle(rising=0.3, …)", "in [0, 1)")
    initial = peak / check_number(initial_divisor, "one_cycle(initial_divisor=25.0, …)", "above 0")
    final = initial / check_number(final_divisor, "one_cycle(final_divisor=1e4, …)", "above 0")
    top = rising * steps - 1
    between = _line if check_flag(linear, "one_cycle(0.1, 1000, linear=True)") else _cosine

    def value(step: int) -> float:
        if step < top:
            return between(initial, peak, step / top)
        return between(peak, final, (min(step, steps - 1) - top) / (steps - 1 - top))

    return _schedule(value)


@constructor
def join_schedules(
    schedules: Sequence[float | Schedule], boundaries: Sequence[int]
) -> RecordedFunction:
    """Follow one schedule after another, each from its own step 0.

    ``η = sₖ(step - bₖ)`` from ``step = bₖ`` to the next boundary, with ``b₀ = 0``.

    Parameters
    ----------
    schedules : sequence of floats or schedules
        At least one.
    boundaries : sequence of int
        The first step of each schedule except the first, positive and increasing.

    Examples
    --------
    >>> import npdl.functional as F
    >>> schedule = F.join_schedules((0.1, F.polynomial_decay(0.1, steps=10)), boundaries=(5,))
    >>> [schedule(step) for step in (0, 5, 10, 15)]
    [0.1, 0.1, 0.05, 0.0]
    """
    call = "join_schedules(schedules=(0.1, 0.01), boundaries=(100,))"
    if not isinstance(schedules, tuple | list):
        raise TypeError(refusal(schedules, call, "a tuple of schedules or numbers"))
    parts = [as_schedule(part, call) for part in schedules]
    bounds = _check_boundaries(boundaries, "join_schedules((0.1, 0.01), boundaries=(100,))")
    if len(parts) != len(bounds) + 1:
        raise ValueError(
            f"{len(parts)} schedules are joined at {len(parts) - 1} boundaries, got "
            f"{len(bounds)}: {boundaries!r}; a right call is {call}"
        )

    def value(step: int) -> float:
        i = sum(step >= bound for bound in bounds)
        return parts[i](step - bounds[i - 1] if i else step)

    return _schedule(value)


def as_schedule(value: Any, call: str) -> Schedule:
    """Return a schedule unchanged; convert a number of at least 0 to a constant schedule."""
    if is_function(value):
        return value  # type: ignore[no-any-return]
    number = check_number(value, call, "of at least 0", ", or a schedule")
    return lambda step: number


def _check_boundaries(boundaries: Any, call: str) -> tuple[int, ...]:
    bounds = tuple(boundaries) if isinstance(boundaries, tuple | list) else (None,)
    if not all(
        is_int(bound) and bound > before
        for before, bound in zip((0, *bounds), bounds, strict=False)
    ):
        raise ValueError(refusal(boundaries, call, "positive, rising ints"))
    return bounds


def _schedule(function: Callable[[int], float]) -> RecordedFunction:
    # A NumPy scalar, from the step or from a user's schedule, would promote float32.
    return RecordedFunction(lambda step: float(function(step)))


def _line(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * fraction


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
