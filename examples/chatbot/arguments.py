"""Shared options of the chatbot programs, and the option types of all examples."""

import sys
from pathlib import Path

from bot import MODEL, load

sys.path.append(str(Path(__file__).parents[1]))  # the folder of options.py

from options import file, folder, integer, number, picture, refuse, seed

__all__ = [
    "add_model",
    "file",
    "folder",
    "integer",
    "loaded",
    "number",
    "picture",
    "refuse",
    "seed",
]


def add_model(parser):
    """Add the option for the file of the model."""
    parser.add_argument(
        "--model", type=file, default=MODEL, metavar="FILE", help="a file from train.py"
    )


def loaded(path):
    """Return the bot of a file, or end the program with an error message."""
    try:
        return load(path)
    except (OSError, ValueError) as error:
        refuse(error)
