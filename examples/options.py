"""The options of the examples: a value that makes no sense ends in a sentence and the status 2.

`argparse` calls a type with the text of an option, and reports the `ArgumentTypeError` that it
raises before any work is done.
"""

import argparse
import sys
import tempfile
from pathlib import Path

STYLE = {
    "choices": ("functional", "compat"),
    "default": "functional",
    "help": "pure functions, the default, or objects that hold their parameters, as in Keras",
}


def whole(least=1, most=1_000_000):
    """Return the type of whole numbers in a range."""
    return _in_range(int, "a whole number", least, most)


def number(least, most):
    """Return the type of numbers in a range."""
    return _in_range(float, "a number", least, most)


def _in_range(kind, described, least, most):
    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not {described} from {least} to {most}")
        return value

    return read


# NumPy's RandomState, from which the Keras-like style draws, takes no larger ones.
seed = whole(0, 2**32 - 1)


def directory(text):
    """Return the path of a directory that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text!r}")
    return Path(text)


def file(text):
    """Return the path of a file that is there."""
    if not Path(text).is_file():
        said = "is no file" if Path(text).exists() else "is not there"
        raise argparse.ArgumentTypeError(f"{text!r} {said}")
    return Path(text)


def picture(text):
    """Return the path of a PNG to write, of which the directory is there after this."""
    if Path(text).suffix != ".png" or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file that ends in .png")
    folder(Path(text).parent)
    return Path(text)


def folder(text):
    """Return the path of a directory to write to, which is there after this."""
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=text):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write there: {error}") from None
    return Path(text)


def refuse(message):
    """End the script as `argparse` does, where only the content of a file shows what is wrong."""
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    raise SystemExit(2)
