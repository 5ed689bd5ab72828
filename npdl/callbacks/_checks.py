"""Checks of callbacks before training, and of their changes to the logs."""

import functools
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from npdl.callbacks._base import HOOKS, Callback, did_you_mean

__all__ = [
    "check_logs",
    "checked",
    "keras_options",
    "make_folder",
    "missing_figure",
    "unknown_hook",
]

F = TypeVar("F", bound=Callable[..., Any])


def checked(callbacks: Any, metrics: Iterable[str]) -> list[Any]:
    """Return callbacks as a list; refuse methods that would never be called.

    Parameters
    ----------
    callbacks : iterable
        The callbacks.
    metrics : iterable of str
        The names of the losses and metrics of an epoch.

    Raises
    ------
    TypeError
        If `callbacks` is not a list, or a callback has no hook or a misspelled one.
    ValueError
        If a callback watches an unknown metric.
    """
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(
            f"callbacks must be a list, as in callbacks=[EarlyStopping()], got {callbacks!r}"
        )
    every, names = list(callbacks), list(metrics)
    for each in every:
        _check_hooks(each)
    for i, each in enumerate(every):
        check_metrics = getattr(each, "check_metrics", None)
        if check_metrics is not None and not any(map(_may_add_metrics, every[:i])):
            check_metrics(names)
    return every


def check_logs(logs: dict[str, Any], metrics: Iterable[str], callback: Any) -> None:
    """Raise if a callback has put a value into the logs of an epoch that a history cannot store.

    NumPy scalars become Python numbers.

    Parameters
    ----------
    logs : dict
        The logs after the call of the callback.
    metrics : iterable of str
        The names of the run's own losses and metrics, which must remain numbers.
    callback : Callback
        The callback.

    Raises
    ------
    TypeError
        With the key of the value.
    """
    for name, value in logs.items():
        if isinstance(value, np.generic | np.ndarray) and not np.ndim(value):
            logs[name] = value = value.item()
        kinds = int | float if name in metrics else int | float | str | None
        if not isinstance(name, str) or not isinstance(value, kinds):
            raise TypeError(
                f"{type(callback).__name__} put {value!r:.80} under {name!r} into the logs of an "
                f"epoch; expected a string as the key and a number as the value, or a string for a "
                f"key of its own"
            )


def _check_hooks(callback: Any) -> None:
    if isinstance(callback, type):
        name = callback.__name__
        raise TypeError(f"callbacks: {name} is a class; pass an instance: {name}()")
    for name in dir(type(callback)):
        is_method = callable(getattr(type(callback), name, None))
        if name.startswith("on_") and name not in HOOKS and is_method:
            raise TypeError(
                f"callbacks: {type(callback).__name__} has a method {name!r} that would never be "
                f"called: {unknown_hook(name)}; a method for another purpose needs a name without "
                f"'on_'"
            )
    if isinstance(callback, Callback) or any(hasattr(callback, hook) for hook in HOOKS):
        return
    if callable(callback):
        raise TypeError(
            f"callbacks: {callback!r} would never be called; pass a function as "
            f"LambdaCallback(on_epoch_end=function)"
        )
    raise TypeError(
        f"callbacks: {callback!r} would never be called: it has none of the hooks "
        f"{', '.join(HOOKS)}"
    )


def _may_add_metrics(callback: Any) -> bool:
    """Whether the callback is user code that may add values to the logs of an epoch."""
    hook = getattr(callback, "on_epoch_end", None)
    return hook is not None and not str(getattr(hook, "__module__", "")).startswith("npdl.")


def unknown_hook(name: str) -> str:
    """Return the message for an unknown hook, with all hooks."""
    return f"no hook {name!r}{did_you_mean(name, HOOKS)}; the hooks are {', '.join(HOOKS)}"


def missing_figure(name: str, metrics: Iterable[str]) -> str:
    """Return the message for an unknown metric, with all metrics."""
    known = list(metrics)
    message = f"no metric {name!r}"
    if name.startswith("val_") and not any(other.startswith("val_") for other in known):
        message += (
            ", because the run has no validation data (validation=(x, y) in npdl.training.fit, "
            "validation_data=(X, Y) in a Model)"
        )
    else:
        message += did_you_mean(name, known)
    return f"{message}; the metrics are {', '.join(known)}"


def make_folder(owner: str, folder: str | os.PathLike[str]) -> None:
    """Create the folder for a callback's files; raise if it is not writable."""
    import tempfile

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"{owner}: no file can be written in the folder {os.fspath(folder)!r}: "
            f"{error.strerror}; nothing was trained. Choose another folder, or allow writing to "
            f"this one",
        ) from error


def keras_options(**absent: tuple[Collection[Any], str]) -> Callable[[F], F]:
    """Let a constructor accept arguments of Keras whose values have no effect here.

    Parameters
    ----------
    **absent
        For each missing argument: the values without effect, and the advice for other values.
        `verbose` may have any value, and prints nothing.
    """

    def decorate(init: F) -> F:
        @functools.wraps(init)
        def accepting(self: Any, *args: Any, **keywords: Any) -> None:
            keywords.pop("verbose", None)
            for name in absent.keys() & keywords.keys():
                value, (neutral, advice) = keywords.pop(name), absent[name]
                if not any(value is one or value == one for one in neutral):
                    raise TypeError(
                        f"{type(self).__name__} has no argument {name!r}, got {name}="
                        f"{value!r:.80}: {advice}"
                    )
            init(self, *args, **keywords)

        return accepting  # type: ignore[return-value]

    return decorate
