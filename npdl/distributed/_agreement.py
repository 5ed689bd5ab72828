"""Ranks that are to compute one thing: whether they began alike, and how they end together."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl import tree
from npdl._constructor import Recorded

__all__ = ["aborting", "check_agreement", "check_communicator", "is_first"]


def check_communicator(comm: Any) -> None:
    """Raise unless `comm` is a communicator or `None`."""
    if comm is not None and not hasattr(comm, "Get_rank"):
        raise TypeError(
            f"comm must be a communicator of MPI, such as MPI.COMM_WORLD after "
            f"`from mpi4py import MPI`, or None; got {comm!r}"
        )


def is_first(comm: Any) -> bool:
    """Whether this is the first rank, or the only process, which is the one that writes."""
    return comm is None or comm.Get_rank() == 0


def check_agreement(comm: Any, **named: Any) -> None:
    """Raise on every rank unless all ranks call with the same values.

    All ranks must call it. Only short marks of the values are sent.

    Parameters
    ----------
    comm : communicator
        Such as ``MPI.COMM_WORLD``; `None` agrees with itself.
    **named : tree
        Numbers, strings, layers, optimizers, functions, and trees of these and of arrays, such as
        parameters. Arrays agree if their bits do; functions, if their names do.

    Raises
    ------
    ValueError
        Listing what differs: its name, and which ranks have which value.

    Examples
    --------
    >>> from npdl.distributed import check_agreement
    >>> import npdl.functional as F
    >>> check_agreement(None, model=F.dense(3), batch_size=64)
    """
    check_communicator(comm)
    if comm is None or comm.Get_size() == 1:
        return
    mine: dict[str, str] = {}
    for path, leaf in tree.items(named):  # The keys 1 and "1" of a dict have one path.
        mine[path] = f"{mine[path]} and {_mark(leaf)}" if path in mine else _mark(leaf)
    marks = comm.allgather(mine)
    lines = []
    for path in dict.fromkeys(path for each in marks for path in each):
        ranks: dict[str, list[int]] = {}
        for rank, each in enumerate(marks):
            ranks.setdefault(each.get(path, "nothing"), []).append(rank)
        if len(ranks) > 1:
            lines.append(f"{path} is " + "; ".join(f"{m} on {_named(r)}" for m, r in ranks.items()))
    if lines:
        more = [f"and {len(lines) - 8} more"] if len(lines) > 8 else []
        raise ValueError(
            "\n  ".join(["the ranks differ:", *lines[:8], *more])
            + "\nGive every rank the same program, arguments, data, libraries and callbacks."
        )


@contextlib.contextmanager
def aborting(comm: Any) -> Iterator[None]:
    """Let an error of one rank end the whole job, where the others would wait for it for ever.

    The traceback is written to standard error, and the job ends with status 1. Without other ranks
    the error goes on as usual.

    Parameters
    ----------
    comm : communicator
        Such as ``MPI.COMM_WORLD``, or `None`.

    Examples
    --------
    >>> from npdl.distributed import aborting
    >>> with aborting(None):
    ...     print("training")
    training
    """
    check_communicator(comm)
    try:
        yield
    except BaseException as error:
        if comm is not None and comm.Get_size() > 1:
            place = f"rank {comm.Get_rank()} of {comm.Get_size()}"
            import traceback

            text = "".join(traceback.format_exception(error))
            sys.stderr.write(f"{place} failed, and ends the job:\n{text}")
            sys.stderr.flush()
            comm.Abort(1)
        raise


def _mark(leaf: Any) -> str:
    """Return a short text that equal values have in common."""
    if isinstance(leaf, np.ndarray | np.generic):
        data = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
        return f"{leaf.dtype}{list(leaf.shape)} with the bits {_digest(data)}"
    if isinstance(leaf, Recorded):
        text = repr(leaf) if leaf.call is not None else type(leaf).__name__
    else:
        name = getattr(leaf, "__qualname__", None)
        text = repr(leaf) if name is None else f"{leaf.__module__}.{name}"
    # The place in memory is no part of what an object is.
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return text if len(text) <= 200 else f"{text[:190]}… ({_digest(text.encode())})"


def _digest(data: Any) -> str:
    import hashlib  # here, because few imports of npdl need it

    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _named(ranks: list[int]) -> str:
    listed = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {listed}"
