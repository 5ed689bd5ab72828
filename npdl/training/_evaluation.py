"""Predictions and metrics of a trained model, computed in batches, in inference mode."""

import itertools
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from npdl import tree
from npdl._blas import SmallSteps
from npdl._data import batches, check_data
from npdl.distributed._agreement import check_communicator
from npdl.distributed._concatenation import concatenated
from npdl.distributed._job import world
from npdl.distributed._reduction import chunk_range
from npdl.functional._checks import check_int
from npdl.functional._layer import Layer, Params
from npdl.random import KeyLike
from npdl.training._scores import Metrics, Scores, check_metrics, index_of_weights, number_of

__all__ = [
    "Loss",
    "check_evaluation",
    "evaluate",
    "joined",
    "keep_freed_memory",
    "outputs_of_few",
    "over_batches",
    "predict",
    "tiled",
]

Loss: TypeAlias = Callable[..., tuple[Any, Any]]


def predict(
    model: Layer, params: Params, x: Any, *, batch_size: int = 256, comm: Any = None
) -> Any:
    """Return the outputs of a model, computed in batches.

    Parameters
    ----------
    model : Layer
        The model.
    params : tree
        Its parameters.
    x : array or tuple of arrays
        The inputs, the examples along the first axis.
    batch_size : int
        Number of examples per batch.
    comm : communicator, optional
        Such as ``MPI.COMM_WORLD``. The ranks share the batches, and each rank gets all outputs,
        with the bits of one process. In a job of ``python -m npdl.run``, the default is the
        communicator of all ranks; ``MPI.COMM_SELF`` computes on this rank alone.

    Returns
    -------
    array or tuple of arrays
        The outputs for all examples.

    Examples
    --------
    >>> from npdl.training import predict
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.dense(2)
    >>> predict(model, model.init(0, (3,)), np.ones((1000, 3), np.float32)).shape
    (1000, 2)
    """
    count = check_data((x,), "x")
    batch_size = check_int(batch_size, "predict(…, batch_size=256)", least=1)
    keep_freed_memory()

    def outputs_of(numbers: range) -> Any:
        small, outputs = SmallSteps(), []
        parts = batches((x,), count, batch_size, first=numbers.start)
        for (part,), _ in itertools.islice(parts, len(numbers)):
            with small(params, part):
                outputs.append(model(params, part))
        return joined(outputs)

    return over_batches(outputs_of, -(-count // batch_size), count, comm)


def over_batches(
    outputs_of: Callable[[range], Any], steps: int, count: int, comm: Any = None
) -> Any:
    """Return the outputs for all batches, which the ranks share; a single batch is not shared.

    Parameters
    ----------
    outputs_of : callable
        Returns the outputs for a range of batches.
    steps, count : int
        The numbers of batches and of examples.
    comm : communicator, optional
        By default, the communicator of the job, if any.
    """
    check_communicator(comm)
    comm = world() if comm is None else comm
    if comm is None or comm.Get_size() == 1 or steps == 1:
        return outputs_of(range(steps))
    mine = chunk_range(steps, comm.Get_size(), comm.Get_rank())
    return concatenated(comm, lambda: outputs_of(mine) if mine else None, count)


def joined(outputs: list[Any]) -> Any:
    """Return the concatenated outputs of batches, in C order: the order affects later sums."""
    if len(outputs) == 1:
        return outputs[0]
    return tree.map(lambda *y: np.ascontiguousarray(np.concatenate(y)), *outputs)


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
    data : tuple
        ``(x, *targets)``, as for :func:`fit`.
    loss : callable, optional
        The loss, for a value named ``"loss"``.
    metrics : dict of callables, optional
        Functions ``metric(outputs, targets)`` of all outputs and targets at once. A metric with
        an argument `weights` gets the weights: the argument `weights` of the loss or, without a
        loss, the third entry of the data.
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
    check_data(data, "data")
    outputs = predict(model, params, data[0], batch_size=batch_size, comm=comm)
    values = _values(outputs, data, loss, metrics)
    return {name: value if np.ndim(value) else float(value) for name, value in values.items()}


def _values(outputs: Any, data: Any, loss: Loss | None, metrics: Metrics | None) -> dict[str, Any]:
    scores = Scores(check_metrics(metrics), index_of_weights(loss))
    x, *targets = data
    values = {} if loss is None else {"loss": loss(outputs, *targets)[0]}
    return values | scores.values(outputs, (x, *targets))


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

    The outputs are repeated for all targets. Each value must be a number.
    """
    count = check_data(data, "validation")
    try:
        # The values of these outputs are not used, so warnings about them are suppressed.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            outputs = tiled(outputs_of_few(model, params, data[0], rng), count)
            for name, value in _values(outputs, data, loss, metrics).items():
                number_of(name, value)
    except Exception as error:
        error.add_note("found before the first step, with the validation data")
        raise


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of one batch's arrays for the next batch.

    By default, glibc returns freed memory to the system, and the next batch pays a page fault per
    page. After an allocation of a larger array is freed, glibc keeps up to twice that size. An
    array of just under 32 MB, the limit of glibc, costs nothing: its pages are never touched.
    """
    np.empty((32 << 20) - (1 << 16), np.uint8)
