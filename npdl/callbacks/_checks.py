"""Checks of callbacks before training, and of the logs that they change."""

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


def checked(callbacks: Any, figures: Iterable[str]) -> list[Any]:
    """Return callbacks as a list; refuse hooks that would never be called.

    Parameters
    ----------
    callbacks : iterable
        The callbacks.
    figures : iterable of str
        The names of the figures that an epoch will have.

    Raises
    ------
    TypeError
        If it is not a list, or one of them has no hook or a misspelled one.
    ValueError
        If one of them watches an unknown figure.
    """
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(
            f"callbacks must be a list, as in callbacks=[EarlyStopping()], got {callbacks!r}"
        )
    every, names = list(callbacks), list(figures)
    for each in every:
        _check_hooks(each)
    for i, each in enumerate(every):
        check_figures = getattr(each, "check_figures", None)
        if check_figures is not None and not any(map(_may_add_figures, every[:i])):
            check_figures(names)
    return every


def check_logs(logs: dict[str, Any], figures: Iterable[str], callback: Any) -> None:
    """Raise if a callback has put something into the logs of an epoch that no history can hold.

    A single number of NumPy becomes one of Python.

    Parameters
    ----------
    logs : dict
        The logs after the call of the callback.
    figures : iterable of str
        The names of the run's own figures, which stay numbers.
    callback : Callback
        The callback.

    Raises
    ------
    TypeError
        Naming the key.
    """
    for name, value in logs.items():
        if isinstance(value, np.generic | np.ndarray) and not np.ndim(value):
            logs[name] = value = value.item()
        kinds = int | float if name in figures else int | float | str | None
        if not isinstance(name, str) or not isinstance(value, kinds):
            raise TypeError(
                f"{type(callback).__name__} put {value!r:.80} under {name!r} into the logs of an "
                f"epoch; expected a string as the key and a number as the value, or a string for a "
                f"figure of its own"
            )


def _check_hooks(callback: Any) -> None:
    if isinstance(callback, type):
        name = callback.__name__
        raise TypeError(f"callbacks: {name} is a class; make one: {name}()")
    for name in dir(type(callback)):
        is_method = callable(getattr(type(callback), name, None))
        if name.startswith("on_") and name not in HOOKS and is_method:
            raise TypeError(
                f"callbacks: {type(callback).__name__} has a method {name!r} that would never be "
                f"called: {unknown_hook(name)}; a method of another purpose needs a name without "
                f"'on_'"
            )
    if isinstance(callback, Callback) or any(hasattr(callback, hook) for hook in HOOKS):
        return
    if callable(callback):
        raise TypeError(
            f"callbacks: {callback!r} would never be called; a function is given as "
            f"LambdaCallback(on_epoch_end=function)"
        )
    raise TypeError(
        f"callbacks: {callback!r} would never be called: it has none of the hooks "
        f"{', '.join(HOOKS)}"
    )


def _may_add_figures(callback: Any) -> bool:
    """Whether a function of the user's sees the figures of an epoch, to which it may add some."""
    hook = getattr(callback, "on_epoch_end", None)
    return hook is not None and not str(getattr(hook, "__module__", "")).startswith("npdl.")


def unknown_hook(name: str) -> str:
    """Return the message for an unknown hook, with all hooks."""
    return f"there is no hook {name!r}{did_you_mean(name, HOOKS)}; there are {', '.join(HOOKS)}"


def missing_figure(name: str, figures: Iterable[str]) -> str:
    """Return the message for an unknown figure, with all figures."""
    known = list(figures)
    text = f"there is no figure {name!r}"
    if name.startswith("val_") and not any(other.startswith("val_") for other in known):
        text += (
            ", since there are no validation data (validation=(x, y) in npdl.training.fit, "
            "validation_data=(X, Y) in a Model)"
        )
    else:
        text += did_you_mean(name, known)
    return f"{text}; there are {', '.join(known)}"


def make_folder(owner: str, folder: str | os.PathLike[str]) -> None:
    """Make a folder that a callback writes into, or raise if none can be written there."""
    import tempfile

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"{owner}: no file can be written in the folder {os.fspath(folder)!r}: "
            f"{error.strerror}; nothing was trained. Choose another folder, or let this one be "
            f"written",
        ) from error


def keras_options(**absent: tuple[Collection[Any], str]) -> Callable[[F], F]:
    """Let a constructor take those arguments of Keras that change nothing here.

    Parameters
    ----------
    **absent
        For each argument that the constructor does not have: the values that change nothing, and
        the advice for any other value. `verbose` may have any value, and prints nothing.
    """

    def decorate(init: F) -> F:
        @functools.wraps(init)
        def taking(self: Any, *args: Any, **keywords: Any) -> None:
            keywords.pop("verbose", None)
            for name in absent.keys() & keywords.keys():
                value, (neutral, advice) = keywords.pop(name), absent[name]
                if not any(value is one or value == one for one in neutral):
                    raise TypeError(
                        f"{type(self).__name__} has no argument {name!r}, got {name}="
                        f"{value!r:.80}: {advice}"
                    )
            init(self, *args, **keywords)

        return taking  # type: ignore[return-value]

    return decorate
