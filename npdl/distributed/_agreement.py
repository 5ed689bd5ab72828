"""Checks that all ranks run the same job, and that an error of one rank ends all ranks."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from npdl import tree
from npdl._constructor import Recorded
from npdl.distributed._job import arrive, current_job

__all__ = ["aborting", "check_agreement", "check_communicator", "is_first", "sample"]


def check_communicator(comm: Any) -> None:
    """Raise a TypeError unless `comm` is a communicator or `None`."""
    if comm is not None and not hasattr(comm, "Get_rank"):
        raise TypeError(
            f"comm must be an MPI communicator, such as MPI.COMM_WORLD after "
            f"`from mpi4py import MPI`, or None; got {comm!r}"
        )


def is_first(comm: Any) -> bool:
    """Whether this process writes files: the first rank, or the only process."""
    return comm is None or comm.Get_rank() == 0


def check_agreement(comm: Any, **named: Any) -> None:
    """Raise on every rank unless all ranks pass the same values.

    All ranks must call it. The ranks exchange short descriptions and hashes of the values.

    Parameters
    ----------
    comm : communicator
        An MPI communicator, such as ``MPI.COMM_WORLD``; with `None`, there is no check.
    **named : tree
        Numbers, strings, layers, optimizers, functions, arrays such as parameters, and trees of
        these. Arrays agree if their bits are equal; functions agree if their names are equal.

    Raises
    ------
    ValueError
        If values differ. The message lists their names, and the value of each rank.

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
        text = _description(leaf)
        mine[path] = f"{mine[path]} and {text}" if path in mine else text
    arrive()
    descriptions = comm.allgather(mine)
    lines = []
    for path in dict.fromkeys(path for each in descriptions for path in each):
        ranks: dict[str, list[int]] = {}
        for rank, each in enumerate(descriptions):
            ranks.setdefault(each.get(path, "missing"), []).append(rank)
        if len(ranks) > 1:
            lines.append(
                f"{path} is " + "; ".join(f"{d} on {_rank_names(r)}" for d, r in ranks.items())
            )
    if lines:
        more = [f"and {len(lines) - 8} more"] if len(lines) > 8 else []
        raise ValueError(
            "\n  ".join(["the ranks differ:", *lines[:8], *more])
            + "\nGive every rank the same program, arguments, seeds, data, libraries and callbacks."
        )


def sample(data: Any, comm: Any) -> Any:
    """Return a few examples of arrays, for the check that ranks have the same data in one order."""
    if comm is None or comm.Get_size() == 1 or not isinstance(data, tuple | list):
        return None
    return tree.map(lambda array: array[:: max(1, len(array) // 32)], tuple(data))


@contextlib.contextmanager
def aborting(comm: Any) -> Iterator[None]:
    """End the whole job if one rank raises, since the other ranks would wait forever.

    The rank writes the traceback to standard error and aborts the job with status 1. With a single
    process, the error propagates as usual.

    Parameters
    ----------
    comm : communicator
        An MPI communicator, such as ``MPI.COMM_WORLD``, or `None`.

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
            job = current_job()
            if job is not None:
                job.report(error)
                raise SystemExit(1) from error
            rank = f"rank {comm.Get_rank()} of {comm.Get_size()}"
            import traceback

            text = "".join(traceback.format_exception(error))
            sys.stderr.write(f"{rank} failed, and ends the job:\n{text}")
            sys.stderr.flush()
            comm.Abort(1)
        raise


def _description(leaf: Any) -> str:
    """Return a short string that is equal for equal values."""
    if isinstance(leaf, np.ndarray | np.generic):
        data = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
        return f"{leaf.dtype}{list(leaf.shape)} with the hash {_digest(data)}"
    if isinstance(leaf, Recorded):
        text = repr(leaf) if leaf.call is not None else type(leaf).__name__
    else:
        name = getattr(leaf, "__qualname__", None)
        text = repr(leaf) if name is None else f"{leaf.__module__}.{name}"
    # The memory address differs between equal objects.
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return text if len(text) <= 200 else f"{text[:190]}… ({_digest(text.encode())})"


def _digest(data: Any) -> str:
    import hashlib  # imported late, because few programs need it

    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _rank_names(ranks: list[int]) -> str:
    listed = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {listed}"
