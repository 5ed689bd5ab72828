"""Predictions and metrics of a trained model, computed in batches, in inference mode."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from npdl import tree
from npdl._data import batches, check_data, first_input, is_source
from npdl.distributed._agreement import check_communicator
from npdl.distributed._job import world
from npdl.distributed._shards import gathered
from npdl.functional._checks import check_int
from npdl.functional._layer import Layer, Params
from npdl.random import KeyLike
from npdl.training._blocks import blocks_of, check_out, joined, outputs_of_blocks, over_batches
from npdl.training._scores import (
    Metrics,
    Scores,
    Sums,
    check_metrics,
    index_of_weights,
    mean_sums,
    merged,
    number_of,
)

__all__ = [
    "Loss",
    "check_evaluation",
    "evaluate",
    "joined",
    "outputs_of_few",
    "over_batches",
    "predict",
    "tiled",
]

Loss: TypeAlias = Callable[..., tuple[Any, Any]]


def predict(
    model: Layer,
    params: Params,
    x: Any,
    *,
    batch_size: int = 256,
    out: Any = None,
    comm: Any = None,
) -> Any:
    """Return the outputs of a model, computed in batches.

    Parameters
    ----------
    model : Layer
        The model.
    params : tree
        Its parameters.
    x : array, tuple of arrays, or source
        The inputs, the examples along the first axis. A source, as for :func:`fit`, is read batch
        by batch; its targets are ignored.
    batch_size : int
        Number of examples per batch.
    out : array or tuple of arrays, optional
        Arrays for all outputs, of their shape and data type, such as a memory-mapped file. The
        outputs are written block by block, so memory never holds all of them.
    comm : communicator, optional
        Such as ``MPI.COMM_WORLD``. The ranks share the batches, and each rank gets all outputs,
        with the bits of one process. In a job of ``python -m npdl.run``, the default is the
        communicator of all ranks; ``MPI.COMM_SELF`` computes on this rank alone.

    Returns
    -------
    array or tuple of arrays
        The outputs for all examples; `out`, if it is passed.

    Raises
    ------
    ValueError, TypeError
        If `x` is empty or not data; if `out` has another structure, shape or data type, is
        read-only, or shares memory with the inputs or parameters. Then `out` is unchanged.

    Examples
    --------
    >>> from npdl.training import predict
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(2)
    >>> predict(model, model.init(0, (3,)), np.ones((1000, 3), np.float32)).shape
    (1000, 2)
    """
    data = x if is_source(x) else (x,)
    count = check_data(data, "x", sources=True)
    batch_size = check_int(batch_size, "predict(…, batch_size=256)", least=1)
    check_communicator(comm)
    comm = world() if comm is None else comm
    if out is None:
        every = [range(-(-count // batch_size))]
        (((outputs,), _),) = outputs_of_blocks(model, params, data, count, batch_size, every, comm)
        return outputs

    def checked() -> tuple[Any, None]:
        like = model(params, first_input(data, "x"))
        check_out(out, like, count, (params, () if is_source(x) else x))
        return like, None

    blocks = blocks_of(gathered(comm, checked)[0], count, batch_size)
    for (outputs,), rows in outputs_of_blocks(model, params, data, count, batch_size, blocks, comm):
        for array, part in zip(tree.leaves(out), tree.leaves(outputs), strict=True):
            array[rows] = part
    return out


def evaluate(
    model: Layer,
    params: Params,
    data: Any,
    *,
    loss: Loss | None = None,
    metrics: Metrics | None = None,
    batch_size: int = 256,
    comm: Any = None,
) -> dict[str, Any]:
    """Return the loss and metrics of a model on data, in inference mode.

    Parameters
    ----------
    model : Layer
        The model.
    params : tree
        Its parameters.
    data : tuple or source
        ``(x, *targets)``, as for :func:`fit`. Memory-mapped arrays and sources are read batch by
        batch.
    loss : callable, optional
        The loss, for a value named ``"loss"``. It is a mean over the examples, weighted by the
        argument `weights` of the loss.
    metrics : dict of callables, optional
        Functions ``metric(outputs, targets)``. A metric with an argument `weights` gets the
        weights: the argument `weights` of the loss or, without a loss, the third entry of the
        data. A :class:`Metric` is merged from blocks of about a million output numbers. Any other
        function gets all outputs and targets at once, and memory must hold them.
    batch_size : int
        Number of examples per batch.
    comm : communicator, optional
        As for :func:`predict`.

    Returns
    -------
    dict
        A float for each name, or an array if the metric returns an array.

    Examples
    --------
    >>> from npdl.training import evaluate
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(2)
    >>> data = np.ones((10, 3), np.float32), np.zeros(10, int)
    >>> sorted(evaluate(model, model.init(0, (3,)), data, loss=F.softmax_cross_entropy))
    ['loss']
    """
    count = check_data(data, "data", sources=True)
    batch_size = check_int(batch_size, "evaluate(…, batch_size=256)", least=1)
    scores = Scores(check_metrics(metrics), index_of_weights(loss))
    check_communicator(comm)
    comm = world() if comm is None else comm
    blocks = [range(-(-count // batch_size))]
    if len(blocks[0]) > 1 and not _needs_all(scores):
        like, _ = gathered(comm, lambda: (model(params, first_input(data)), None))
        blocks = blocks_of(like, count, batch_size)
    outputs = outputs_of_blocks(model, params, data, count, batch_size, blocks, comm, targets=True)
    values = _values(scores, loss, (part for part, _ in outputs), len(blocks))
    return {name: value if np.ndim(value) else float(value) for name, value in values.items()}


def _needs_all(scores: Scores) -> bool:
    """Whether a metric is a function of all outputs, which cannot be merged from blocks."""
    return any(name != "loss" and scores.is_averaged(name) for name in scores.metrics)


def _values(
    scores: Scores, loss: Loss | None, parts: Iterable[tuple[Any, ...]], count: int
) -> dict[str, Any]:
    """Return the loss and metrics of the only block (outputs, *targets), or of several ones."""
    totals: Sums = {}
    for outputs, *targets in parts:
        value = {} if loss is None else {"loss": loss(outputs, *targets)[0]}
        batch = outputs, *targets
        if count == 1:
            return value | scores.values(outputs, batch)
        sums = {name: mean_sums(each, scores.weight(*batch)) for name, each in value.items()}
        sums |= scores.sums(outputs, batch)
        totals = merged(scores.metrics, totals, sums) if totals else sums
    return {name: scores.metrics[name].result(each) for name, each in totals.items()}


# Number of examples whose outputs :func:`outputs_of_few` computes.
_FEW = 16


def outputs_of_few(model: Layer, params: Params, x: Any, rng: KeyLike) -> Any:
    """Return outputs of the first examples, at least two, in training mode.

    A batch norm then needs no running statistics.
    """
    count = len(tree.leaves(x)[0])
    few = np.arange(max(2, min(count, _FEW))) % count
    return model.apply(params, tree.map(lambda array: array[few], x), train=True, rng=rng)[0]


def tiled(outputs: Any, count: int) -> Any:
    """Return outputs for so many examples, which are repetitions of the given ones."""
    return tree.map(lambda y: y.take(np.arange(count) % len(y), axis=0), outputs)


def check_evaluation(
    model: Layer, params: Params, data: Any, loss: Loss, metrics: Metrics | None, rng: KeyLike
) -> None:
    """Raise if :func:`evaluate` would fail on data; the check computes outputs of a few examples.

    The outputs are repeated for all targets. Each value must be a number. Only a few rows of a
    source are read, for the loss and for the sums of metrics.
    """
    count = check_data(data, "validation", sources=True)
    scores = Scores(check_metrics(metrics), index_of_weights(loss))
    try:
        # The values of these outputs are not used, so warnings about them are suppressed.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if is_source(data):
                first_input(data, "validation")
                size = min(count, _FEW)
                read, _ = next(batches(data, count, size, np.arange(size) * count // size))
                outputs = tiled(outputs_of_few(model, params, read[0], rng), size)
                loss(outputs, *read[1:])
                for name in scores.metrics.keys() - {"loss"}:
                    if not scores.is_averaged(name):
                        scores.sums_of(name, outputs, read)
                return
            few = outputs_of_few(model, params, data[0], rng)
            blocks = [range(count)]
            if not _needs_all(scores):
                blocks = blocks_of(tree.map(lambda y: y[:1], few), count, 1)
            parts = ((tiled(few, len(rows)), *_sliced(tuple(data[1:]), rows)) for rows in blocks)
            for name, value in _values(scores, loss, parts, len(blocks)).items():
                number_of(name, value)
    except Exception as error:
        error.add_note("found before the first step, with the validation data")
        raise


def _sliced(arrays: Any, rows: range) -> Any:
    return tree.map(lambda array: array[rows.start : rows.stop], arrays)
