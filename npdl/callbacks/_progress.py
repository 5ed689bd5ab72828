"""Progress of a run: a bar in terminals and notebooks if tqdm is installed, otherwise lines."""

import importlib.util
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Show the progress of `epochs` epochs with `steps` steps, if `shown` is true."""

    def __init__(self, shown: bool, epochs: int, steps: int) -> None:
        self.epochs, self.steps = epochs, steps
        self.lines = shown
        self.bar: Any = None
        if shown and (_in_notebook() or sys.stderr.isatty()) and _installed("tqdm"):
            import tqdm

            self.lines = False
            bar = tqdm.tqdm
            if _in_notebook() and _installed("ipywidgets"):
                import tqdm.notebook

                bar = tqdm.notebook.tqdm
            self.bar = bar(unit="step", dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def step(self, epoch: int, means: Mapping[str, Any]) -> None:
        """Show a finished step."""
        if self.bar is not None:
            if self.bar.n == 0 or self.bar.n >= self.steps:
                self.bar.reset(total=self.steps)
                self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
            self.bar.set_postfix_str(_writable(_shown(means), sys.stderr), refresh=False)
            self.bar.update()

    def epoch(self, epoch: int, means: Mapping[str, Any]) -> None:
        """Show a finished epoch."""
        if self.bar is None and not self.lines:
            return
        line = _writable(f"epoch {epoch + 1}/{self.epochs}  {_shown(means)}", sys.stdout)
        if self.bar is not None:
            # Use the standard output, as without a bar, so that `> log.txt` gets the lines.
            self.bar.write(line, file=sys.stdout)
        else:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _in_notebook() -> bool:
    """Whether the output goes to a notebook; only notebook kernels have IPKernelApp."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def _shown(means: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {_text(value)}" for name, value in means.items())


def _text(value: Any) -> str:
    """Return a number with four digits, or the first 40 characters of another value."""
    try:
        return f"{value:.4g}"
    except (TypeError, ValueError):
        return f"{' '.join(str(value).split()):.40}"


def _writable(line: str, stream: Any) -> str:
    """Return a line with escapes for characters that the encoding of a stream lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)
