"""Warnings that point to the user's call, not to functions of npdl."""

import sys
import warnings

__all__ = ["warn"]

_FOLDER = __file__.removesuffix("_warn.py")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the first frame outside of npdl."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_FOLDER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
