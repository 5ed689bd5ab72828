"""What `fit` calls while it trains, under Keras's names.

>>> from npdl.callbacks import Callback
>>> class StopEarly(Callback):
...     def on_epoch_end(self, epoch, logs=None):
...         self.model.stop_training = logs["loss"] < 0.1
"""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Callback", "History", "call"]


class Callback:
    """The base of callbacks; each method does nothing until you write it.

    Attributes
    ----------
    model : object
        What is trained; with ``model.stop_training = True`` training ends after the epoch.
    params : dict
        ``epochs``, and ``steps`` an epoch.
    """

    model: Any = None
    params: Mapping[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Tell what is trained."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Tell how long training goes on."""
        self.params = params

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Before an epoch; the first one is number 0."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """After an epoch, with its figures: ``loss``, ``val_loss`` and those of the metrics."""

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Before a step; the first one of an epoch is number 0."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """After a step, with the mean figures of the epoch up to it."""


class History(Callback):
    """Keeps the figures of all epochs.

    Attributes
    ----------
    history : dict of lists
        For each figure, its value after each epoch.
    epoch : list of int
        The numbers of the epochs.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Keep the figures."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


def call(callbacks: Iterable[Any], hook: str, *args: Any) -> None:
    """Call a method of all that have it: a callback need not be a :class:`Callback`."""
    for callback in callbacks:
        function = getattr(callback, hook, None)
        if function is not None:
            function(*args)
