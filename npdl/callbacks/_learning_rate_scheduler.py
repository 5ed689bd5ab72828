"""A callback that sets the learning rate of each epoch."""

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npdl.callbacks._base import Callback

__all__ = ["LearningRateScheduler"]


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch: ``lr = schedule(epoch, lr)``.

    Pass a schedule per step to the optimizer instead: ``F.adam(F.cosine_decay(1e-3, 1000))``.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, lr)`` or ``schedule(epoch)`` returns the learning rate of an epoch, for
        example a schedule of `npdl.functional`. The first epoch is number 0.
    verbose : int
        1 prints the rate of each epoch.

    Raises
    ------
    TypeError
        If the schedule is not callable.
    ValueError
        Before an epoch, if its rate is negative or not finite, or the previous rate is 0.

    Examples
    --------
    >>> from npdl.callbacks import LearningRateScheduler
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl.training import fit
    >>> x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    >>> halved = LearningRateScheduler(lambda epoch, lr: lr if epoch < 2 else 0.5 * lr)
    >>> state, history = fit(
    ...     F.dense(1), F.mean_squared_error, F.sgd(0.5), (x, x**2), epochs=4,
    ...     callbacks=[halved], progress=False,
    ... )
    >>> halved.model.learning_rate
    0.125
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(
                f"LearningRateScheduler: expected a function of the epoch and the rate, as in "
                f"LearningRateScheduler(lambda epoch, lr: 0.9 * lr), got {schedule!r}"
            )
        self.schedule, self.verbose = schedule, verbose
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(schedule).parameters.values()
        self._takes_rate = sum(parameter.kind in positional for parameter in parameters) > 1

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Set the rate."""
        before = self.model.learning_rate
        value: Any = self.schedule(epoch, before) if self._takes_rate else self.schedule(epoch)
        is_number = isinstance(value, int | float | np.integer | np.floating)
        if isinstance(value, bool) or not is_number or not 0 <= value < math.inf:
            raise ValueError(
                f"LearningRateScheduler: schedule({epoch}) must return a finite number of at "
                f"least 0, such as 0.001, got {value!r}"
            )
        rate = float(value)
        if self.verbose:
            sys.stdout.write(f"epoch {epoch + 1}: the learning rate is {rate:g}\n")
        if rate == before:
            return
        if before == 0:
            raise ValueError(
                f"LearningRateScheduler: schedule({epoch}) is {rate}, but the rate was 0, which no "
                f"factor can change; return a small rate, such as 1e-12, instead of 0"
            )
        self.model.scale_learning_rate(rate / before)
