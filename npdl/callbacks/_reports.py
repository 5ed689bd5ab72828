"""Callbacks that report training to users and other programs, without changes to the run."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from npdl.callbacks._base import HOOKS, Callback, Logs
from npdl.callbacks._checks import keras_options, make_folder, unknown_hook
from npdl.callbacks._progress import Progress

__all__ = ["LambdaCallback", "ProgressBar", "TensorBoard"]


_SCALARS = "it writes only the loss and metrics of each epoch"


class TensorBoard(Callback):
    """Write the metrics of each epoch for TensorBoard; needs the library tensorboard (an extra).

    ``tensorboard --logdir DIRECTORY`` shows them, training and validation in the same chart.

    Parameters
    ----------
    log_dir : str or PathLike
        A directory, created if missing, with the subdirectories ``train`` and ``validation``.

    Raises
    ------
    ImportError
        If the library is not installed.
    OSError
        If the directory is not writable, before the first epoch.
    """

    first_rank_only = True
    reports_only = True

    @keras_options(
        embeddings_freq=((0,), _SCALARS),
        histogram_freq=((0,), _SCALARS),
        profile_batch=((0,), _SCALARS),
        update_freq=(("epoch",), _SCALARS),
        write_graph=((True, False), _SCALARS),
        write_images=((False,), _SCALARS),
    )
    def __init__(self, log_dir: str | os.PathLike[str] = "logs") -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs its library: pip install 'npdl-functional[tensorboard]'"
            ) from error
        self._make = Writer
        self.log_dir = Path(log_dir)
        self.writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        """Check the directory; the metrics decide later about the files."""
        self.writers = {}
        make_folder("TensorBoard", self.log_dir)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the metrics, and the learning rate if the model has one."""
        numbers = int | float | np.number | np.bool_
        values = {name: x for name, x in (logs or {}).items() if isinstance(x, numbers)}
        with contextlib.suppress(AttributeError, ValueError):
            values["learning_rate"] = self.model.learning_rate
        for name, value in values.items():
            split = "validation" if name.startswith("val_") else "train"
            if split not in self.writers:
                self.writers[split] = self._make(str(self.log_dir / split))
            self.writers[split].add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        for writer in self.writers.values():
            writer.flush()

    def on_train_exit(self, logs: Logs = None) -> None:
        """Close the files."""
        for writer in self.writers.values():
            writer.close()


class ProgressBar(Callback):
    """Show the progress of training, with the current loss and metrics.

    In a terminal or a notebook with tqdm, it shows a bar, and one line per epoch above the bar. In
    a log file, it writes only the lines. `npdl.training.fit` shows the same unless
    ``progress=False``. With a `Model`, also pass ``verbose=0``.

    Examples
    --------
    >>> from npdl.callbacks import ProgressBar
    >>> import numpy as np
    >>> import npdl
    >>> model = npdl.Model([npdl.layers.Dense(n_out=2, n_in=3, init="zero")])
    >>> model.compile(loss="mse", optimizer=npdl.optimizers.SGD(lr=0.0))
    >>> data = np.ones((8, 3)), np.ones((8, 2))
    >>> history = model.fit(*data, max_iter=2, verbose=0, callbacks=[ProgressBar()])
    epoch 1/2  loss 1  accuracy 1
    epoch 2/2  loss 1  accuracy 1
    """

    first_rank_only = True
    reports_only = True

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.epoch = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Open the bar."""
        self.progress = Progress(True, self.params["epochs"], self.params["steps"])

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Store the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Advance the bar."""
        if self.progress is not None:
            self.progress.step(self.epoch, dict(logs or {}))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write a line."""
        if self.progress is not None:
            self.progress.epoch(epoch, dict(logs or {}))

    def on_train_exit(self, logs: Logs = None) -> None:
        """Close the bar."""
        if self.progress is not None:
            self.progress.close()


class LambdaCallback(Callback):
    """Call your own functions.

    Parameters
    ----------
    **hooks : callable
        Functions under the names of the methods of :class:`Callback`: ``on_epoch_end=function``
        is called with ``(epoch, logs)``.

    Raises
    ------
    TypeError
        If the method does not exist, or its value is not callable.

    Examples
    --------
    >>> from npdl.callbacks import LambdaCallback
    >>> shown = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> shown.on_epoch_end(0, {"loss": 1.5})
    0 {'loss': 1.5}
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(f"LambdaCallback: {unknown_hook(name)}")
            if not callable(function):
                raise TypeError(f"LambdaCallback: {name} must be a function, got {function!r}")
            setattr(self, name, function)
