"""Callbacks that act on a run: they end it, slow it down, or keep its weights.

Each watches one figure. Its memory is its state, so a run that is resumed from a checkpoint
continues as if it had never been stopped.
"""

import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npdl import checkpoint
from npdl.callbacks._base import Callback, Logs, direction
from npdl.callbacks._checks import keras_options, make_folder, missing_figure
from npdl.functional._checks import check_flag, check_int, check_number

__all__ = ["EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau", "TerminateOnNaN", "Watch"]


class Watch(Callback):
    """Knows the best value of a figure, and for how many epochs there was no better one."""

    _deciding: tuple[str, ...] = ("min_delta",)

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        self.monitor, self.mode = monitor, direction(monitor, mode)
        self.min_delta = check_number(
            min_delta, f"{type(self).__name__}(min_delta=0.01)", "of at least 0"
        )
        self._forget()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget an earlier run."""
        self._forget()

    def _forget(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = -1
        self.wait = 0

    def check_figures(self, figures: Collection[str]) -> None:
        """Raise, before training where that can be known, unless there is such a figure."""
        if self.monitor not in figures:
            raise ValueError(f"{type(self).__name__}: {missing_figure(self.monitor, figures)}")

    def value(self, logs: Logs) -> float:
        """Return the figure of an epoch, or raise."""
        self.check_figures(logs or {})
        value = logs[self.monitor]  # type: ignore[index]
        if isinstance(value, str) or np.ndim(value):
            raise TypeError(
                f"{type(self).__name__}: the figure {self.monitor!r} must be a number, got "
                f"{value!r:.80}"
            )
        return float(value)

    def improved(self, epoch: int, value: float) -> bool:
        """Take the value of an epoch, and say whether it is the best one so far."""
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch, self.wait = value, epoch, 0
            return True
        self.wait += 1
        return False

    def config(self) -> Mapping[str, Any]:
        """Return the arguments that decide, by their names."""
        return {name: getattr(self, name) for name in self._deciding}

    def state(self) -> Any:
        """Return the memory of the run."""
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait}

    def restore(self, state: Any) -> None:
        """Take the memory of the run."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.wait = state["wait"]


class EarlyStopping(Watch):
    """End training when a figure has not got better for some epochs.

    Parameters
    ----------
    monitor : str
        The figure: ``"val_loss"``, ``"val_accuracy"``, or another of the history.
    min_delta : float
        Smallest change that counts as an improvement; it must be larger than this.
    patience : int
        How many epochs without a better value end training.
    mode : {"auto", "min", "max"}
        Whether a small or a large value is good; ``"auto"`` goes by the name.
    restore_best_weights : bool
        Whether the model has the weights of its best epoch in the end, whether patience or the
        epochs have run out. Where an error or Ctrl-C ends training, it has those of the last step,
        and `best_weights` has the best ones, for ``model.set_weights(stopping.best_weights)``.

    Attributes
    ----------
    best, best_epoch : float, int
        The best value, and the epoch that it is of.
    best_weights : weights or None
        With `restore_best_weights`, those of the best epoch.
    stopped_epoch : int or None
        The epoch after which training was ended, if it was.

    Raises
    ------
    ValueError
        If an argument is out of range; before training, if there is no such figure.

    References
    ----------
    Prechelt: Early stopping – but when?, 1998.

    Examples
    --------
    >>> from npdl.callbacks import EarlyStopping
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl.training import fit
    >>> x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    >>> stopping = EarlyStopping("loss", patience=3)
    >>> state, history = fit(
    ...     F.dense(1), F.mean_squared_error, F.sgd(0.5), (x, x**2), epochs=500,
    ...     callbacks=[stopping], progress=False,
    ... )
    >>> len(history["loss"]) < 100
    True
    """

    _deciding = ("min_delta", "patience", "restore_best_weights")

    @keras_options(
        baseline=((None,), "an epoch is compared with the best one before it"),
        start_from_epoch=((0,), "patience counts from the first epoch"),
    )
    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = check_int(patience, "EarlyStopping(patience=3)", least=0)
        self.restore_best_weights = check_flag(
            restore_best_weights, "EarlyStopping(restore_best_weights=True)"
        )
        self.best_weights: Any = None
        self.stopped_epoch: int | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget an earlier run: its best weights are not those of this one."""
        self._forget()
        self.best_weights, self.stopped_epoch = None, None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Keep the weights of the best epoch, or lose patience."""
        if self.improved(epoch, self.value(logs)):
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
        elif self.wait >= max(self.patience, 1):
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Put the best weights back."""
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)

    def state(self) -> Any:
        """Return the memory of the run, with the best weights."""
        kept = {"weights": self.best_weights, "stopped_epoch": self.stopped_epoch}
        return super().state() | kept

    def restore(self, state: Any) -> None:
        """Take the memory of the run, with the best weights."""
        super().restore(state)
        self.best_weights, self.stopped_epoch = state["weights"], state["stopped_epoch"]


class ReduceLROnPlateau(Watch):
    """Make the learning rate smaller when a figure has not got better for some epochs.

    ``lr = factor · lr``, but no less than `min_lr`.

    Parameters
    ----------
    monitor : str
        The figure, as in :class:`EarlyStopping`.
    factor : float
        The factor of the learning rate, in (0, 1), also under a schedule.
    patience : int
        How many epochs without a better value make it smaller.
    mode : {"auto", "min", "max"}
        Whether a small or a large value is good; ``"auto"`` goes by the name.
    min_delta : float
        Smallest change that counts as an improvement; it must be larger than this.
    cooldown : int
        How many epochs after that are not counted.
    min_lr : float
        The learning rate does not get smaller than this.

    Raises
    ------
    ValueError
        If an argument is out of range; before training, if there is no such figure.

    Examples
    --------
    >>> from npdl.callbacks import ReduceLROnPlateau
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl.training import fit
    >>> x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    >>> slower = ReduceLROnPlateau("loss", factor=0.5, patience=2)
    >>> state, history = fit(
    ...     F.dense(1), F.mean_squared_error, F.sgd(0.5), (x, x**2), epochs=40,
    ...     callbacks=[slower], progress=False,
    ... )
    >>> slower.model.learning_rate < 0.5
    True
    """

    _deciding = ("factor", "patience", "min_delta", "cooldown", "min_lr")

    @keras_options()
    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = check_number(factor, "ReduceLROnPlateau(factor=0.5)", "in (0, 1)")
        self.patience = check_int(patience, "ReduceLROnPlateau(patience=10)", least=0)
        self.cooldown = check_int(cooldown, "ReduceLROnPlateau(cooldown=2)", least=0)
        self.min_lr = check_number(min_lr, "ReduceLROnPlateau(min_lr=1e-5)", "of at least 0")
        self.resting = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget an earlier run."""
        self._forget()
        self.resting = 0

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Lose patience, or not."""
        better = self.improved(epoch, self.value(logs))
        if self.resting > 0:
            self.resting -= 1
            self.wait = 0
        elif not better and self.wait >= max(self.patience, 1):
            rate = self.model.learning_rate
            if rate > self.min_lr:
                self.model.scale_learning_rate(max(self.factor, self.min_lr / rate))
            self.resting, self.wait = self.cooldown, 0

    def state(self) -> Any:
        """Return the memory of the run."""
        return super().state() | {"resting": self.resting}

    def restore(self, state: Any) -> None:
        """Take the memory of the run."""
        super().restore(state)
        self.resting = state["resting"]


class ModelCheckpoint(Watch):
    """Write the weights to a file after each epoch, or after the best one so far.

    This is to keep models. To stop and resume a run, ``fit(checkpoint=Checkpoint(directory))``.

    Parameters
    ----------
    filepath : str or PathLike
        A name that ends in ``.npz`` or ``.safetensors``, in which ``{epoch}``, which counts from 1,
        and figures such as ``{val_loss:.3f}`` are filled in. A file of that name is replaced; its
        folder is made, if it is not there.
    monitor : str
        The figure that decides which epoch is best.
    save_best_only : bool
        Whether to write only when the figure is better than ever.
    mode : {"auto", "min", "max"}
        Whether a small or a large value is good; ``"auto"`` goes by the name.

    Notes
    -----
    The file holds what ``model.get_weights()`` returns: the parameters, which
    ``npdl.checkpoint.load(path, like=params)`` reads.

    Raises
    ------
    ValueError
        If the suffix is another; before training, if there are no such figures.
    OSError
        If no file can be written there, before training.

    Examples
    --------
    >>> from npdl.callbacks import ModelCheckpoint
    >>> keeper = ModelCheckpoint("digits-{epoch}-{val_accuracy:.2f}.npz", "val_accuracy")
    >>> keeper.path(4, {"val_accuracy": 0.987})
    'digits-5-0.99.npz'
    """

    first_rank_only = True
    _deciding = ("save_best_only",)

    @keras_options(
        save_weights_only=((True,), "the file has the weights alone; model.save(path) writes all"),
        save_freq=(
            ("epoch",),
            "a file is written after an epoch, and by npdl.training.Checkpoint(directory, "
            "every_steps=100) between epochs",
        ),
    )
    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode, 0.0)
        self.filepath = os.fspath(filepath)
        self.save_best_only = check_flag(save_best_only, "ModelCheckpoint(…, save_best_only=True)")
        if not self.filepath.endswith((".npz", ".safetensors")):
            raise ValueError(
                f"ModelCheckpoint: the name must end in .npz or .safetensors, as in "
                f"'model-{{epoch}}.npz', got {self.filepath!r}"
            )

    def check_figures(self, figures: Collection[str]) -> None:
        """Raise unless there are the figures that decide, and those of the name."""
        if self.save_best_only:
            super().check_figures(figures)
        self.path(0, dict.fromkeys(figures, 0.0))

    def path(self, epoch: int, logs: Logs = None) -> str:
        """Return the name of the file of an epoch."""
        figures = {"epoch": epoch + 1, **(logs or {})}
        try:
            return self.filepath.format(**figures)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            missing = isinstance(error, KeyError)
            reason = missing_figure(error.args[0], figures) if missing else str(error)
            raise ValueError(
                f"ModelCheckpoint: {self.filepath!r} cannot be filled in: {reason}"
            ) from error

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget an earlier run, and see that files can be written."""
        self._forget()
        # Folders whose names are to be filled in are made when their turn comes.
        make_folder("ModelCheckpoint", Path(self.filepath.partition("{")[0] + "_").parent)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the file, if it is to be."""
        if not self.save_best_only or self.improved(epoch, self.value(logs)):
            path = Path(self.path(epoch, logs))
            path.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.save(path, self.model.get_weights())


class TerminateOnNaN(Callback):
    """End training with an error as soon as the loss is not a finite number.

    `fit` then returns nothing; the last checkpoint is where to go on from. Where in the model the
    first such number appeared, ``fit(check_finite=True)`` tells.

    Raises
    ------
    FloatingPointError
        After the step with that loss.

    Examples
    --------
    >>> from npdl.callbacks import TerminateOnNaN
    >>> TerminateOnNaN().on_train_batch_end(7, {"loss": float("nan")})
    Traceback (most recent call last):
    ...
    FloatingPointError: ...
    """

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"TerminateOnNaN: the loss is {loss} after step {batch} of the epoch; a smaller "
                f"learning rate or clipped gradients may help"
            )
