"""One step of training, as a pure function of the state and a batch."""

import functools
from collections.abc import Callable
from typing import Any

from npdl import random
from npdl._blas import SmallSteps
from npdl.distributed._sharded import fold_stats
from npdl.distributed._shards import over_shards
from npdl.functional._checks import check_flag
from npdl.functional._layer import Layer, Params, keep_params, value_and_grad
from npdl.functional.optimizers._optimizer import Optimizer
from npdl.training._blocks import keep_freed_memory
from npdl.training._check_finite import checking_gradients, checking_updates
from npdl.training._divided_update import Division
from npdl.training._evaluation import Loss
from npdl.training._scores import (
    Metrics,
    Scores,
    Sums,
    check_loss,
    check_metrics,
    index_of_weights,
    merged,
)
from npdl.training._train_state import TrainState
from npdl.training._zero_weights import check_left_out

__all__ = ["Step", "summing_step", "train_step"]

Step = Callable[..., tuple[TrainState, dict[str, Any]]]


def train_step(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    *,
    metrics: Metrics | None = None,
    donate: bool = False,
    check_finite: bool = False,
    shards: int | None = None,
    comm: Any = None,
) -> Step:
    """Return a pure function that computes one step of training.

    Parameters
    ----------
    model : Layer
        The model.
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient)``.
    optimizer : Optimizer
        The optimizer.
    metrics : dict of callables, optional
        Further values for the batch, each ``metric(outputs, targets) -> number``. A metric with
        an argument `weights` gets the weights if the loss has such an argument too.
    donate : bool
        Whether a step may overwrite the arrays of its input state, to save memory and time. This
        state must then not be used again. With several ranks on one host, the ranks share the
        memory of the state, and its arrays are read-only.
    check_finite : bool
        Whether to stop at the first number that is not finite: in the forward pass, in the
        backward pass, or after the update. The error names the step, the layer and the array.
    shards : int, optional
        The number of shards that a batch is cut into, for :mod:`npdl.distributed`. The gradient
        of each shard is computed separately, and the result is the mean over the batch. The loss
        must be a mean over the examples, weighted if it has an argument `weights`. The same holds
        for a metric, unless it is a :class:`Metric`.
    comm : communicator, optional
        Such as ``MPI.COMM_WORLD``: its ranks share the shards. All ranks must run the same steps.

    Returns
    -------
    callable
        ``step(state, (x, *targets)) -> (state, metrics)``, where `metrics` has ``"loss"``. With
        shards, ``step(state, batch, size=n)`` takes only this rank's examples of a batch of n:
        :func:`npdl.distributed.rows_of`.

    Raises
    ------
    ValueError
        From a step, if inputs that are not finite reach the gradients, although their weight is 0.

    Examples
    --------
    >>> from npdl.training import TrainState, train_step
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model, optimizer = F.dense(2), F.sgd(0.1)
    >>> state = TrainState.create(model, optimizer, shape=(3,))
    >>> step = train_step(model, F.softmax_cross_entropy, optimizer)
    >>> state, metrics = step(state, (np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])))
    >>> state.step, sorted(metrics)
    (1, ['loss'])
    """
    donate = check_flag(donate, "train_step(…, donate=True)")
    check_finite = check_flag(check_finite, "train_step(…, check_finite=True)")
    check_loss(loss)
    scores = Scores(check_metrics(metrics), index_of_weights(loss))
    summing = summing_step(
        model, loss, optimizer, scores, donate=donate, check_finite=check_finite, shards=shards,
        comm=comm,
    )  # fmt: skip

    def step(
        state: TrainState, batch: Any, size: int | None = None
    ) -> tuple[TrainState, dict[str, Any]]:
        state, value, sums, _ = summing(state, batch, size)
        values = {"loss": float(value)}
        for name, each in sums.items():
            values[name] = scores.metrics[name].result(each)
        return state, values

    return step


def summing_step(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    scores: Scores,
    *,
    donate: bool = False,
    check_finite: bool = False,
    shards: int | None = None,
    comm: Any = None,
    division: Division | None = None,
) -> Callable[..., tuple[TrainState, Any, Sums, float | None]]:
    """Return a function that computes one step of training, and sums to add up over an epoch.

    Parameters
    ----------
    model, loss, optimizer, donate, check_finite, shards, comm
        As in :func:`train_step`.
    scores : Scores
        The metrics.
    division : Division, optional
        The memory of the ranks, for several functions one after another; by default, the function
        makes it.

    Returns
    -------
    callable
        ``step(state, batch, size=None) -> (state, loss, sums, weight)``: the sums of all metrics,
        and, with shards, the weight of the batch in the mean of the losses.
    """
    gradient = value_and_grad(model, loss)
    if check_finite:
        gradient = checking_gradients(gradient, model, loss)
    fold: Callable[..., Params] = model.update_stats
    has_stats, has_metrics = fold is not keep_params, len(scores.metrics) > 1
    weights_index = scores.weights_index
    keep_freed_memory()
    small = SmallSteps()
    stream = random.fold((0,), "step")[1]

    def terms(params: Params, *batch: Any, rng: random.Key) -> tuple[Any, ...]:
        with small(params, batch[0]):
            value, grads, aux = gradient(params, *batch, train=True, rng=rng)
            if weights_index is not None and len(batch) > weights_index:
                check_left_out(gradient, weights_index, params, batch, rng, grads)
            sums = scores.sums(aux.outputs, batch)
        return value, sums, grads, aux.cache if has_stats else None

    if shards is not None:
        merge = functools.partial(merged, scores.metrics)
        compute = over_shards(terms, shards, comm, scores.weight, merge)
        fold = functools.partial(fold_stats, model, comm=comm)
        if division is None and comm is not None and comm.Get_size() > 1:
            division = Division(comm, shards)
    elif comm is not None:
        raise ValueError("comm was passed without shards: train_step(..., shards=8, comm=comm)")

    def step(
        state: TrainState, batch: Any, size: int | None = None
    ) -> tuple[TrainState, Any, Sums, float | None]:
        key, weight = (*state.rng, stream, state.step), None
        cache: Any
        try:
            if shards is not None:
                memory = {} if division is None else division.options(state, optimizer)
                value, sums, grads, cache, weight = compute(
                    state.params, *batch, rng=key, size=size, **memory
                )
            elif size is not None:
                raise TypeError("size was passed without shards: train_step(..., shards=8)")
            else:
                with small(state.params, batch[0]):
                    value, grads, aux = gradient(state.params, *batch, train=True, rng=key)
                    if weights_index is not None and len(batch) > weights_index:
                        check_left_out(gradient, weights_index, state.params, batch, key, grads)
                    sums = scores.sums(aux.outputs, batch) if has_metrics else {}
                cache = aux.cache if has_stats else None
                del aux  # the cache is large, so it is freed before the update
        except FloatingPointError as error:
            error.add_note(f"in step {state.step}")
            raise
        if division is None:
            state = state.updated(optimizer, grads, donate)
        else:
            state = division.updated(state, optimizer, grads, donate)
        if has_stats:
            state = state.with_params(fold(state.params, cache))
        return state, value, sums, weight

    return checking_updates(step) if check_finite else step
