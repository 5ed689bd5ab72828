"""The view of a run for callbacks: its state, and the values that callbacks can change."""

import math
from collections.abc import Mapping
from typing import Any

from npdl import tree
from npdl.checkpoint._files.limits import CheckpointError
from npdl.functional._arrays import describe
from npdl.functional._layer import Params
from npdl.training._learning_rate import check_factor, rate_of, scale_rate
from npdl.training._plan import Plan
from npdl.training._scores import Sums, mean_sums
from npdl.training._train_state import TrainState, mark

__all__ = ["Run"]


class Run:
    """A run of :func:`npdl.training.fit`, as callbacks see it: ``callback.model``.

    Attributes
    ----------
    layer : Layer
        The model.
    optimizer : Optimizer
        The optimizer, with its current learning rates.
    stop_training : bool
        Set by a callback to end training after the epoch.

    Examples
    --------
    A callback that prints the state after the first epoch, and ends training:

    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl.callbacks import Callback
    >>> from npdl.training import fit
    >>> class Once(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(self.model.layer, self.model.state.step, self.model.learning_rate)
    ...         self.model.stop_training = True
    >>> data = np.ones((64, 3), np.float32), np.zeros((64, 1), np.float32)
    >>> state, history = fit(
    ...     F.dense(1), F.mean_squared_error, F.sgd(0.1), data, epochs=9, callbacks=[Once()],
    ...     progress=False,
    ... )
    dense(units=1) 2 0.1
    """

    def __init__(self, plan: Plan, state: TrainState) -> None:
        self.layer, self.stop_training = plan.model, False
        self.batches = plan.batches
        self._plan, self._factor = plan, 1.0
        self._division = plan.division()
        # Steps overwrite the arrays of their state, so the caller's arrays are copied. The copies
        # are in C order, as files are: the memory order affects the bits of sums.
        self._state: TrainState = tree.copied(state)
        self._prepare()

    def _prepare(self) -> None:
        given = self._plan.optimizer
        self.optimizer = scale_rate(given, self._factor) if self._factor != 1 else given
        self._step = self._plan.step(self.optimizer, self._division)

    @property
    def state(self) -> TrainState:
        """The state of training after the last step.

        Its arrays are read-only copies, which no later step overwrites.

        Raises
        ------
        RuntimeError
            If a step was interrupted while it was overwriting the arrays.
        """
        self._check_whole()
        state: TrainState = tree.read_only(tree.copied(self._state))
        return mark(state, self._plan.trained_on)

    @property
    def result(self) -> TrainState:
        """The state after the last step, not copied: a further step may overwrite it."""
        return mark(self._state, self._plan.trained_on)

    def close(self) -> None:
        """Take the state out of the memory of the ranks; all ranks must call it."""
        if self._division is not None:
            self._state = self._state.released()
            self._division.close()

    @property
    def whole(self) -> TrainState | None:
        """The state after the last step; `None` if an interrupt left it partly overwritten."""
        return self.result if self._state.is_whole else None

    def _check_whole(self) -> None:
        if not self._state.is_whole:
            raise RuntimeError(
                f"step {self._state.step} was interrupted while it wrote the parameters, and some "
                f"of them are updated, others are not; the last checkpoint is consistent"
            )

    def get_weights(self) -> Params:
        """Return a copy of the parameters, running statistics included.

        Raises
        ------
        RuntimeError
            If a step was interrupted while it was overwriting the arrays.
        """
        self._check_whole()
        return tree.copied(self._state.params)

    def set_weights(self, weights: Params) -> None:
        """Set the parameters.

        Parameters
        ----------
        weights : tree
            A tree like the result of :meth:`get_weights`; the arrays are copied.

        Raises
        ------
        ValueError
            If the structure, a shape or a type differs; then nothing is changed.
        """
        now = self._state
        given = tree.aligned(weights, now.params)
        for (path, old), new in zip(tree.items(now.params), given, strict=True):
            if describe(old) != describe(new):
                raise ValueError(
                    f"set_weights: expected {describe(old)} at {path}, got {describe(new)}"
                )
        params = tree.unflatten(now.params, tree.copied(given))
        self._state = TrainState(now.step, params, tree.copied(now.opt_state), now.rng)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; the largest if there are several."""
        return rate_of(self.optimizer, self._state.step)

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the learning rate from the next step on, also under a schedule.

        Parameters
        ----------
        factor : float
            Not negative; factors of several calls are multiplied.
        """
        self._factor *= check_factor(factor)
        self._prepare()

    @property
    def view(self) -> "Run":
        """The model for callbacks: the run itself."""
        return self

    def step(self, batch: Any, size: int) -> Sums:
        """Run a step, for the loop."""
        plan = self._plan
        whole = None if plan.shards is None else size
        self._state, value, sums, weight = self._step(self._state, batch, whole)
        if weight is None:
            weight = plan.scores.weight(*batch)
        return {"loss": mean_sums(value, weight), **sums}

    def snapshot(self) -> dict[str, Any]:
        """Return a tree that determines the next step, for the loop; its arrays are not copied."""
        state = self._state
        return {
            "step": state.step,
            "params": state.params,
            "opt_state": state.opt_state,
            "rng": state.rng,
            "rate_factor": self._factor,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Continue from a snapshot, for the loop; raise if its counts or factor are invalid."""
        factor = snapshot.pop("rate_factor")
        counts = [
            leaf
            for path, leaf in tree.items(snapshot["opt_state"])
            if isinstance(leaf, int) and path.rpartition("/")[2] == "count"
        ]
        if not 0 <= factor < math.inf or not all(0 <= count < 1 << 63 for count in counts):
            raise CheckpointError(
                f"the checkpoint is damaged: the factor of its learning rate is {factor!r}, and "
                f"its counts are {counts!r:.80}"
            )
        self._factor = factor
        self._state = TrainState(**snapshot)
        self._prepare()

    def validate(self) -> Mapping[str, Any]:
        """Return the metrics of the validation data, for the loop."""
        return self._plan.validate(self._state.params)
