"""Callbacks that tell people and other programs how training goes; they change nothing in it."""

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


_FIGURES = "it writes the figures of each epoch alone"


class TensorBoard(Callback):
    """Write the numbers of each epoch for TensorBoard; needs the library of that name, an extra.

    ``tensorboard --logdir DIRECTORY`` shows them, those of the validation data in the same chart.

    Parameters
    ----------
    log_dir : str or PathLike
        A directory, which is made; the figures go to ``train`` and ``validation`` in it.

    Raises
    ------
    ImportError
        If the library is not installed.
    OSError
        If the directory cannot be written, before the first epoch.
    """

    first_rank_only = True
    reports_only = True

    @keras_options(
        embeddings_freq=((0,), _FIGURES),
        histogram_freq=((0,), _FIGURES),
        profile_batch=((0,), _FIGURES),
        update_freq=(("epoch",), _FIGURES),
        write_graph=((True, False), _FIGURES),
        write_images=((False,), _FIGURES),
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
        """Open no file yet: which ones there are follows from the figures."""
        self.writers = {}
        make_folder("TensorBoard", self.log_dir)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the figures, and the learning rate where the model knows it."""
        numbers = int | float | np.number | np.bool_
        figures = {name: x for name, x in (logs or {}).items() if isinstance(x, numbers)}
        with contextlib.suppress(AttributeError, ValueError):
            figures["learning_rate"] = self.model.learning_rate
        for name, value in figures.items():
            part = "validation" if name.startswith("val_") else "train"
            if part not in self.writers:
                self.writers[part] = self._make(str(self.log_dir / part))
            self.writers[part].add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        for writer in self.writers.values():
            writer.flush()

    def on_train_exit(self, logs: Logs = None) -> None:
        """Close the files."""
        for writer in self.writers.values():
            writer.close()


class ProgressBar(Callback):
    """Show how far training has come, with the figures so far.

    In a terminal and in a notebook this is a bar where tqdm is installed, with a line for each
    epoch above it; in a log file it is the lines alone. `npdl.training.fit` shows the same unless
    ``progress=False``; in a `Model`, pass ``verbose=0`` beside it.

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
        """Note the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Move on."""
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
    """Call functions of yours.

    Parameters
    ----------
    **hooks : callable
        Functions under the names of the methods of :class:`Callback`: ``on_epoch_end=function``
        is called with ``(epoch, logs)``.

    Raises
    ------
    TypeError
        If there is no such method, or it is given something that cannot be called.

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
