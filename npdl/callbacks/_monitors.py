"""Callbacks that steer a run: they end it, reduce its learning rate, or write its weights.

Each callback watches one metric. Its state is in the checkpoint, so a resumed run equals an
uninterrupted one.
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
    """Track the best value of a metric, and the number of epochs without improvement."""

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

    def check_metrics(self, metrics: Collection[str]) -> None:
        """Raise if the watched metric does not exist, if possible before training."""
        if self.monitor not in metrics:
            raise ValueError(f"{type(self).__name__}: {missing_figure(self.monitor, metrics)}")

    def value(self, logs: Logs) -> float:
        """Return the value of the watched metric in an epoch, or raise."""
        self.check_metrics(logs or {})
        value = logs[self.monitor]  # type: ignore[index]
        if isinstance(value, str) or np.ndim(value):
            raise TypeError(
                f"{type(self).__name__}: the metric {self.monitor!r} must be a number, got "
                f"{value!r:.80}"
            )
        return float(value)

    def improved(self, epoch: int, value: float) -> bool:
        """Record the value of an epoch; return whether it is the best one so far."""
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch, self.wait = value, epoch, 0
            return True
        self.wait += 1
        return False

    def config(self) -> Mapping[str, Any]:
        """Return the deciding arguments by name."""
        return {name: getattr(self, name) for name in self._deciding}

    def state(self) -> Any:
        """Return the state of the run."""
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait}

    def restore(self, state: Any) -> None:
        """Restore the state of the run."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.wait = state["wait"]


class EarlyStopping(Watch):
    """End training when a metric has stopped improving.

    Parameters
    ----------
    monitor : str
        The metric: ``"val_loss"``, ``"val_accuracy"``, or another key of the history.
    min_delta : float
        Smallest change that counts as an improvement; it must be larger than this.
    patience : int
        Number of epochs without improvement after which training ends.
    mode : {"auto", "min", "max"}
        Whether a small or a large value is good; ``"auto"`` decides by the name.
    restore_best_weights : bool
        Whether the model gets the weights of its best epoch at the end of training, early or not.
        After an error or Ctrl-C, the model has the weights of the last step. `best_weights` then
        has the best weights, for ``model.set_weights(stopping.best_weights)``.

    Attributes
    ----------
    best, best_epoch : float, int
        The best value, and its epoch.
    best_weights : weights or None
        With `restore_best_weights`, the weights of the best epoch.
    stopped_epoch : int or None
        The epoch after which the callback ended training, or `None`.

    Raises
    ------
    ValueError
        If an argument is out of range; before training, if the metric does not exist.

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
        baseline=((None,), "an epoch is compared with the best previous one"),
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
        """Forget an earlier run and its best weights."""
        self._forget()
        self.best_weights, self.stopped_epoch = None, None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Store the weights of the best epoch, or end training."""
        if self.improved(epoch, self.value(logs)):
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
        elif self.wait >= max(self.patience, 1):
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Restore the best weights."""
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)

    def state(self) -> Any:
        """Return the state, with the best weights."""
        best = {"weights": self.best_weights, "stopped_epoch": self.stopped_epoch}
        return super().state() | best

    def restore(self, state: Any) -> None:
        """Restore the state, with the best weights."""
        super().restore(state)
        self.best_weights, self.stopped_epoch = state["weights"], state["stopped_epoch"]


class ReduceLROnPlateau(Watch):
    """Reduce the learning rate when a metric has stopped improving.

    ``lr = factor · lr``, but at least `min_lr`.

    Parameters
    ----------
    monitor : str
        The metric, as in :class:`EarlyStopping`.
    factor : float
        The factor of the learning rate, in (0, 1), also under a schedule.
    patience : int
        Number of epochs without improvement before a reduction.
    mode : {"auto", "min", "max"}
        Whether a small or a large value is good; ``"auto"`` decides by the name.
    min_delta : float
        Smallest change that counts as an improvement; it must be larger than this.
    cooldown : int
        Number of epochs after a reduction that do not count.
    min_lr : float
        Lower bound of the learning rate.

    Raises
    ------
    ValueError
        If an argument is out of range; before training, if the metric does not exist.

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
        """Reduce the rate after `patience` epochs without improvement."""
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
        """Return the state of the run."""
        return super().state() | {"resting": self.resting}

    def restore(self, state: Any) -> None:
        """Restore the state of the run."""
        super().restore(state)
        self.resting = state["resting"]


class ModelCheckpoint(Watch):
    """Write the weights to a file after each epoch, or after the best one so far.

    The files are for later use of the model. To stop and resume a run, use
    ``fit(checkpoint=Checkpoint(directory))``.

    Parameters
    ----------
    filepath : str or PathLike
        A name that ends in ``.npz`` or ``.safetensors``. ``{epoch}``, which counts from 1, and
        metrics such as ``{val_loss:.3f}`` are filled in. An existing file is replaced. A missing
        folder is created.
    monitor : str
        The metric that decides about the best epoch.
    save_best_only : bool
        Whether to write only after the best epoch so far.
    mode : {"auto", "min", "max"}
        Whether a small or a large value is good; ``"auto"`` decides by the name.

    Notes
    -----
    The file contains the result of ``model.get_weights()``, the parameters.
    ``npdl.checkpoint.load(path, like=params)`` reads them.

    Raises
    ------
    ValueError
        For another suffix; before training, if a metric does not exist.
    OSError
        If the folder is not writable, before training.

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
        save_weights_only=(
            (True,),
            "the file has only the weights; model.save(path) writes everything",
        ),
        save_freq=(
            ("epoch",),
            "the file is written after an epoch; npdl.training.Checkpoint(directory, "
            "every_steps=100) writes between epochs",
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

    def check_metrics(self, metrics: Collection[str]) -> None:
        """Raise if the watched metric, or a metric of the file name, does not exist."""
        if self.save_best_only:
            super().check_metrics(metrics)
        self.path(0, dict.fromkeys(metrics, 0.0))

    def path(self, epoch: int, logs: Logs = None) -> str:
        """Return the name of the file of an epoch."""
        fields = {"epoch": epoch + 1, **(logs or {})}
        try:
            return self.filepath.format(**fields)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            missing = isinstance(error, KeyError)
            reason = missing_figure(error.args[0], fields) if missing else str(error)
            raise ValueError(
                f"ModelCheckpoint: {self.filepath!r} cannot be filled in: {reason}"
            ) from error

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forget an earlier run, and check that the folder is writable."""
        self._forget()
        # Folders with fields in their name are created when they are needed.
        make_folder("ModelCheckpoint", Path(self.filepath.partition("{")[0] + "_").parent)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the file, if this epoch needs one."""
        if not self.save_best_only or self.improved(epoch, self.value(logs)):
            path = Path(self.path(epoch, logs))
            path.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.save(path, self.model.get_weights())


class TerminateOnNaN(Callback):
    """End training with an error as soon as the loss is NaN or infinite.

    `fit` then returns nothing. Resume from the last checkpoint. ``fit(check_finite=True)`` names
    the layer in which the first such number appeared.

    Raises
    ------
    FloatingPointError
        After a step with such a loss.

    Examples
    --------
    >>> from npdl.callbacks import TerminateOnNaN
    >>> TerminateOnNaN().on_train_batch_end(7, {"loss": float("nan")})
    Traceback (most recent call last):
    ...
    FloatingPointError: ...
    """

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Check the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"TerminateOnNaN: the loss is {loss} after step {batch} of the epoch; a smaller "
                f"learning rate or clipped gradients may help"
            )
