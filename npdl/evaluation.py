"""What a trained model returns, and how good that is: computed in batches, in inference mode."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from npdl import tree
from npdl.data import batches, check_data, check_positive
from npdl.functional.layer import Layer, Params

__all__ = ["Loss", "Metrics", "check_metrics", "evaluate", "keep_freed_memory", "predict"]

Loss: TypeAlias = Callable[..., tuple[Any, Any]]
Metrics: TypeAlias = Mapping[str, Callable[..., Any]]


def predict(model: Layer, params: Params, x: Any, *, batch_size: int = 256) -> Any:
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
        Number of examples at a time.

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
    check_positive("batch_size", batch_size)
    keep_freed_memory()
    outputs = [model(params, part) for (part,), _ in batches((x,), count, batch_size)]
    return outputs[0] if len(outputs) == 1 else tree.map(lambda *y: np.concatenate(y), *outputs)


def evaluate(
    model: Layer,
    params: Params,
    data: Any,
    *,
    loss: Loss | None = None,
    metrics: Metrics | None = None,
    batch_size: int = 256,
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
        The loss, for a figure named ``"loss"``.
    metrics : dict of callables, optional
        Figures of all outputs and targets at once, each ``metric(outputs, targets)``.
    batch_size : int
        Number of examples at a time.

    Returns
    -------
    dict
        A figure for each name.

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
    x, *targets = data
    outputs = predict(model, params, x, batch_size=batch_size)
    figures = {} if loss is None else {"loss": loss(outputs, *targets)[0]}
    return figures | {
        name: metric(outputs, *targets[:1]) for name, metric in check_metrics(metrics).items()
    }


def keep_freed_memory() -> None:
    """Let the C library keep the arrays that a batch frees for those of the next one.

    glibc hands freed memory back to the system, page by page to be faulted in anew for the next
    batch, unless it has seen a larger array come and go: then it keeps twice that much. One of
    just under 32 MB, its limit, costs nothing, because its pages are never touched.
    """
    np.empty((32 << 20) - (1 << 16), np.uint8)


def check_metrics(metrics: Any) -> Metrics:
    """Return metrics, none if they are `None`; raise unless they are functions by their names."""
    call = 'metrics={"accuracy": F.accuracy}'
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be a dict of functions, as in {call}, got {metrics!r}")
    for name, function in metrics.items():
        if not isinstance(name, str) or not callable(function):
            raise TypeError(
                f"metrics: {name!r} must be a name of a function, as in {call}, got {function!r}"
            )
        if name == "loss" or name.startswith("val_"):
            raise ValueError(
                f"metrics: {name!r} is the name of a figure that is there without it; give the "
                f"metric another"
            )
    return metrics
