"""The callbacks' section of a checkpoint: their states, and the arguments that affect the run."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from npdl._warn import warn
from npdl.callbacks._base import Callback
from npdl.callbacks._monitors import Watch
from npdl.checkpoint._codec import encode
from npdl.checkpoint._files.limits import CheckpointError
from npdl.training._checkpoint import ChangedCallbackWarning
from npdl.training._position import setting

__all__ = ["States"]

# Keys in addition to the names of steering callbacks. No class has such a name.
_REPORTS, _ARGUMENTS = "states of reports", "arguments of callbacks"


class States:
    """The callbacks that have a state, by class name; further callbacks of a class are numbered.

    Parameters
    ----------
    callbacks : iterable
        All callbacks.
    """

    def __init__(self, callbacks: Iterable[Any]) -> None:
        self.steering: dict[str, Any] = {}
        self.reporting: dict[str, Any] = {}
        numbers: dict[str, int] = {}
        for callback in callbacks:
            kind = type(callback).__name__
            number = numbers[kind] = numbers.get(kind, 0) + 1
            state = getattr(type(callback), "state", None)
            if callable(state) and state is not Callback.state:
                reports = getattr(callback, "reports_only", False)
                named = self.reporting if reports else self.steering
                named[f"{kind} {number}" if number > 1 else kind] = callback

    def required(self) -> list[str]:
        """Return the exact names that a checkpoint must have."""
        return [*self.steering, _REPORTS, _ARGUMENTS]

    def watched(self) -> dict[str, str]:
        """Return the metric that each callback with a best value watches."""
        return {
            f"metric of {name}": f"{each.monitor} ({each.mode})"
            for name, each in self.steering.items()
            if isinstance(each, Watch)
        }

    def collect(self) -> dict[str, Any]:
        """Return the states and arguments of all callbacks, for a checkpoint."""
        states = {name: each.state() for name, each in self.steering.items()}
        states[_REPORTS] = {name: each.state() for name, each in self.reporting.items()}
        states[_ARGUMENTS] = self._arguments()
        return states

    def check(self) -> None:
        """Raise if a state cannot be written to a file; the error names the callback."""
        for name, error in self.faults().items():
            error.add_note(f"in the state of the callback {name}; nothing was trained")
            raise error

    def faults(self) -> dict[str, Exception]:
        """Return an error for each state that cannot be written to a file, by callback name."""
        found: dict[str, Exception] = {}
        for name, callback in self._all():
            try:
                encode(callback.state())
            except Exception as error:
                found[name] = error
        return found

    def restore(self, states: Mapping[str, Any]) -> None:
        """Restore the states of all callbacks; a new reporting callback has no saved state."""
        found = {**states[_REPORTS], **states}
        for name, callback in self._all():
            if found.get(name) is not None:
                try:
                    callback.restore(found[name])
                except Exception as error:
                    error.add_note(
                        f"in restore of the callback {name}, with its state in the checkpoint; "
                        f"nothing was trained, and no weight was changed"
                    )
                    raise

    def warn_of_changes(self, states: Mapping[str, Any]) -> None:
        """Warn if the arguments of a callback differ from those in the checkpoint."""
        reports, there, here = states[_REPORTS], states[_ARGUMENTS], self._arguments()
        tables = [reports, there, *(there.values() if type(there) is dict else ())]
        if not all(type(table) is dict for table in tables):
            raise CheckpointError(
                "the checkpoint is damaged: the states of callbacks are not dicts"
            )
        different = []
        for name, arguments in here.items():
            before = there.get(name, {})
            for key in {**before, **arguments}:
                then, now = before.get(key, "none"), arguments.get(key, "none")
                if then != now:
                    different.append(f"{name}: {key} {then} in the checkpoint, {now} here")
        if different:
            warn(
                f"training continues with changed arguments of callbacks: {'; '.join(different)}",
                ChangedCallbackWarning,
            )

    def _all(self) -> Iterator[tuple[str, Any]]:
        yield from self.steering.items()
        yield from self.reporting.items()

    def _arguments(self) -> dict[str, dict[str, str]]:
        return {
            name: {key: setting(value) for key, value in type(each).config(each).items()}
            for name, each in self.steering.items()
            if isinstance(each, Callback)
        }
