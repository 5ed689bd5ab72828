"""Types for the options of the examples. An invalid value ends the script with status 2.

`argparse` calls a type with the string of an option. It reports an `ArgumentTypeError` of the type
before any work is done.
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


def integer(least=1, most=1_000_000):
    """Return an `argparse` type for integers in a range."""
    return _in_range(int, "an integer", least, most)


def number(least, most):
    """Return an `argparse` type for numbers in a range."""
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


# The upper limit of NumPy's RandomState, the generator of the Keras-like style.
seed = integer(0, 2**32 - 1)


def directory(text):
    """Return the path of an existing directory."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"directory {text!r} does not exist")
    return Path(text)


def file(text):
    """Return the path of an existing file."""
    if not Path(text).is_file():
        fault = "is not a file" if Path(text).exists() else "does not exist"
        raise argparse.ArgumentTypeError(f"{text!r} {fault}")
    return Path(text)


def picture(text):
    """Return the path of a PNG to write. Create its directory."""
    if Path(text).suffix != ".png" or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file that ends in .png")
    folder(Path(text).parent)
    return Path(text)


def folder(text):
    """Return the path of a writable directory. Create it if it is missing."""
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=text):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write there: {error}") from None
    return Path(text)


def refuse(message):
    """End the script as `argparse` does, because of an error in the content of a file."""
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    raise SystemExit(2)
