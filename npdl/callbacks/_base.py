"""The hooks of callbacks, under Keras's names.

`npdl.training.fit` and the `fit` of `npdl.Model` call the same methods::

    set_model, set_params
    on_train_begin
        restore                         only if the run resumes from a checkpoint
        on_epoch_begin(epoch)
            on_train_batch_begin(batch)
            on_train_batch_end(batch, logs)
        on_epoch_end(epoch, logs)
    on_train_end                        not after an error, nor after Ctrl-C
    on_train_exit                       always

``self.model`` is a :class:`npdl.training.Run` or an `npdl.Model`. Both have::

    stop_training                       set it to True to end training after the epoch
    get_weights(), set_weights(…)       copies of all parameters and running statistics
    learning_rate                       of the next update
    scale_learning_rate(factor)         multiply it from now on, also under a schedule

:meth:`state` returns the values that decide the actions of a callback. With them, a run resumes
exactly from a checkpoint.

>>> from npdl.callbacks import Callback
>>> class StopEarly(Callback):
...     def on_epoch_end(self, epoch, logs=None):
...         self.model.stop_training = logs["loss"] < 0.1
>>> class SlowDown(Callback):
...     best = float("inf")
...     def on_epoch_end(self, epoch, logs=None):
...         if logs["val_loss"] > self.best:
...             self.model.scale_learning_rate(0.5)
...         self.best = min(self.best, logs["val_loss"])
...     def state(self):
...         return {"best": self.best}
...     def restore(self, state):
...         self.best = state["best"]
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from npdl.checkpoint._codec import Growing

__all__ = ["Callback", "History", "call", "direction"]

Logs: TypeAlias = Mapping[str, Any] | None


class Callback:
    """Base class of callbacks; its methods do nothing.

    Attributes
    ----------
    model : object
        The trained model: its weights, its learning rate, and ``stop_training``.
    params : dict
        ``epochs``, ``steps`` (per epoch), and ``resumed``, which is true in a resumed run.
    first_rank_only : bool
        Whether only the first of several workers calls it: true for callbacks that write or
        display. All workers call a callback that steers the run.
    reports_only : bool
        Whether it changes nothing in the run. Then a run may be resumed without it, or with an
        additional one. A callback that steers must be passed again.

    Examples
    --------
    >>> from npdl.callbacks import Callback
    >>> class StopEarly(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.model.stop_training = logs["loss"] < 0.1
    """

    model: Any = None
    params: Mapping[str, Any] = {}
    first_rank_only = False
    reports_only = False

    def set_model(self, model: Any) -> None:
        """Store the model."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Store the numbers of epochs and of steps per epoch."""
        self.params = params

    def on_train_begin(self, logs: Logs = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs = None) -> None:
        """After the last epoch, but not after an error or a KeyboardInterrupt."""

    def on_train_exit(self, logs: Logs = None) -> None:
        """At the very end, also after an error; close files here."""

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Before an epoch; the first one is number 0."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """After an epoch, with ``loss``, ``val_loss`` and the metrics in `logs`."""

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Before a step; the first one of an epoch is number 0."""

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """After a step, with the means of loss and metrics over the epoch so far."""

    def state(self) -> Any:
        """Return the values that decide later calls, for a checkpoint, or `None`.

        Returns
        -------
        tree
            Dicts with string keys, lists and tuples of arrays, numbers, booleans, strings and
            `None`.
        """
        return None

    def restore(self, state: Any) -> None:
        """Restore a result of :meth:`state`, after `on_train_begin` in a resumed run."""

    def config(self) -> Mapping[str, Any]:
        """Return the arguments that decide its actions; a resumed run warns if they differ."""
        return {}


class History(Callback):
    """Store the metrics of all epochs, and the values that callbacks add.

    A checkpoint has each value as it was at the first checkpoint after its epoch.

    Attributes
    ----------
    history : dict of lists
        The values per epoch, by metric.
    epoch : list of int
        The numbers of the epochs.

    Examples
    --------
    >>> from npdl.callbacks import History
    >>> kept = History()
    >>> kept.on_epoch_end(0, {"loss": 0.7})
    >>> kept.on_epoch_end(1, {"loss": 0.4})
    >>> kept.history, kept.epoch
    ({'loss': [0.7, 0.4]}, [0, 1])
    """

    reports_only = True

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        # The same numbers as arrays, for checkpoints.
        self._arrays: dict[str, Growing] = {}
        self._epochs = Growing()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Store the metrics."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def state(self) -> Any:
        """Return the metrics."""
        history = {
            name: self._arrays.setdefault(name, Growing()).numbers(values)
            for name, values in self.history.items()
        }
        return {"history": history, "epoch": self._epochs.numbers(self.epoch)}

    def restore(self, state: Any) -> None:
        """Restore the metrics."""
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.epoch = list(state["epoch"])
        self._arrays, self._epochs = {}, Growing()


# Parts of the names of metrics whose best value is the smallest, or the largest.
_WORDS = {
    "min": ("loss", "error", "perplexity", "mae", "mse"),
    "max": ("acc", "auc", "f1", "precision", "recall", "r2", "correlation", "mcc"),
}


def direction(metric: str, mode: str = "auto") -> str:
    """Return whether the best value of a metric is the smallest or the largest.

    Parameters
    ----------
    metric : str
        Its name, such as ``"val_loss"``.
    mode : {"auto", "min", "max"}
        ``"auto"`` decides by the name: losses, errors and perplexities should be small; accuracies,
        areas, precision, recall, F1, R² and correlations should be large.

    Returns
    -------
    str
        ``"min"`` or ``"max"``.

    Raises
    ------
    ValueError
        If the mode is unknown, or the name does not decide.

    Examples
    --------
    >>> from npdl.callbacks import direction
    >>> direction("val_loss"), direction("accuracy")
    ('min', 'max')
    """
    if mode in ("min", "max"):
        return mode
    if mode != "auto":
        raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
    for name, words in _WORDS.items():
        if any(word in metric for word in words):
            return name
    meant = did_you_mean(metric, ("loss", "val_loss", "accuracy", "val_accuracy"))
    raise ValueError(
        f"the name {metric!r}{meant} does not say whether small or large values are good; pass "
        f"mode='min' or mode='max'"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the nearest known name, or an empty string."""
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


# The names of the methods that the training loop calls.
HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def call(callbacks: Iterable[Any], hook: str, *args: Any) -> None:
    """Call a method of all callbacks that have it; their class may differ from :class:`Callback`.

    Examples
    --------
    >>> from npdl.callbacks import Callback, call
    >>> class Counts:
    ...     epochs = 0
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.epochs += 1
    >>> counts = Counts()
    >>> call([counts, Callback()], "on_epoch_end", 0, {"loss": 0.5})
    >>> counts.epochs
    1
    """
    for callback in callbacks:
        function = getattr(callback, hook, None)
        if function is not None:
            function(*args)
