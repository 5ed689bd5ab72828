"""The options that the chatbot's programs share, and the types of those of all examples."""

import sys
from pathlib import Path

from bot import MODEL, load

sys.path.append(str(Path(__file__).parents[1]))  # where options.py is

from options import file, folder, number, picture, refuse, seed, whole

__all__ = ["add_model", "file", "folder", "loaded", "number", "picture", "refuse", "seed", "whole"]


def add_model(parser):
    """Let the user choose the file of the model."""
    parser.add_argument(
        "--model", type=file, default=MODEL, metavar="FILE", help="a file that train.py wrote"
    )


def loaded(path):
    """Return the bot in a file, or end the program with a sentence where there is none."""
    try:
        return load(path)
    except (OSError, ValueError) as error:
        refuse(error)
