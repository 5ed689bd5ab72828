"""Training on data, from the first epoch to the last."""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from npdl import random
from npdl.agreement import aborting, check_agreement, is_first
from npdl.callbacks.checks import checked
from npdl.data import (
    batches,
    check_data,
    example_shape,
    first_input,
    is_source,
    order_of,
    smallest_part,
)
from npdl.evaluation import Loss, evaluate
from npdl.functional._checks import check_int
from npdl.functional.averaging import has_pending
from npdl.functional.layer import Layer, Params, keep_params
from npdl.functional.transforms import Optimizer
from npdl.loop import Loop
from npdl.position import setting
from npdl.progress import Progress
from npdl.resume import Checkpoint
from npdl.run import Run
from npdl.scoring import Metrics, Scores, Sums, check_metrics, place_of_weights
from npdl.shards import rows_of
from npdl.step import summing_step
from npdl.train_state import TrainState

__all__ = ["fit"]


def fit(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    data: Any,
    *,
    state: TrainState | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    validation: Any = None,
    metrics: Metrics | None = None,
    rng: random.KeyLike = 0,
    callbacks: Iterable[Any] = (),
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    progress: bool = True,
    check_finite: bool = False,
    shards: int | None = None,
    comm: Any = None,
) -> tuple[TrainState, dict[str, list[float]]]:
    """Train a model on arrays.

    Parameters
    ----------
    model : Layer
        The model.
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient)``, such as :func:`softmax_cross_entropy`.
    optimizer : Optimizer
        The optimizer, such as ``F.adam(1e-3)``.
    data : tuple
        ``(x, *targets)``: arrays of one length, the examples along the first axis. `x` may be a
        tuple of arrays; what follows it goes to the loss: labels, and weights if there are any.
        Arrays may be mapped from files. Or any object with a length and ``data[rows]``, which
        returns such a tuple for an array of row numbers, and so reads no more than a batch.
    state : TrainState, optional
        Where to go on from; it is left as it is. The position follows from ``state.step``, also
        in the middle of an epoch.
    epochs : int
        Number of epochs to train, each over every example once.
    batch_size : int
        Number of examples a step; the last batch of an epoch may be smaller.
    shuffle : bool
        Whether each epoch has an order of its own, which follows from (rng, epoch).
    validation : tuple, optional
        Data of the same form, on which the model is evaluated after each epoch.
    metrics : dict of callables, optional
        ``{"accuracy": F.accuracy}``: values to report in addition to the loss, each
        ``metric(outputs, targets) -> number``. A metric with an argument `weights` gets the
        weights, where the loss has such an argument too.
    rng : key
        The key of the run, where no `state` is given.
    callbacks : list of Callback
        Objects with any of the methods of :class:`npdl.callbacks.Callback`, whose `model` is a
        :class:`Run`.
    checkpoint : Checkpoint, optional
        Where and how often to write checkpoints.
    resume : bool
        Whether to go on from the newest good checkpoint. The run ends where it would have without
        the interruption: `epochs` counts from where the run began, not from the checkpoint, and
        parameters, state of the optimizer and history have the same bits.
    progress : bool
        Whether to show progress: a bar in a terminal where tqdm is installed, else a line an
        epoch.
    check_finite : bool
        Whether to stop at the first number that is not finite, naming step, layer and array.
    shards : int, optional
        The number of parts that each batch is cut into, whose gradients are computed one by one
        and added in a fixed order: :mod:`npdl.distributed`. The result depends on it.
    comm : communicator, optional
        Such as ``MPI.COMM_WORLD``: its ranks share the shards, and each reads its own examples
        only. The result has the same bits for any number of ranks. All ranks call the callbacks,
        but for those that write, which the first rank calls; it alone writes checkpoints and
        shows progress. An error on one rank ends the job.

    Returns
    -------
    state : TrainState
        The state after the last step.
    history : dict of lists
        For each epoch, ``"loss"`` and the metrics over its examples, and the same names with
        ``"val_"`` before them for the validation data. The loss is a mean, weighted where it has
        weights; a :class:`Metric` is computed over all examples; another function is a mean.

    Raises
    ------
    ValueError, TypeError
        If the data are empty, of different lengths, or not numbers; or if ranks began with
        different models, states, settings or lengths of data.
    OSError
        If checkpoints cannot be written.
    CheckpointError
        If no checkpoint can be read, or they are of another run.

    Warns
    -----
    UserWarning
        If gradients of :func:`accumulate` wait for an update at the end.
    ResumeWarning
        If there is no checkpoint to go on from, if the run has come to its end already, if the
        newest ones are damaged, or if they were written where the same numbers may come out with
        other bits.

    Examples
    --------
    >>> from npdl.training import fit
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> x = np.eye(4, dtype=np.float32)
    >>> state, history = fit(
    ...     F.dense(4), F.softmax_cross_entropy, F.adam(0.1), (x, np.arange(4)),
    ...     epochs=50, metrics={"accuracy": F.accuracy}, progress=False,
    ... )
    >>> history["accuracy"][-1]
    1.0
    """
    with aborting(comm):
        if comm is not None and shards is None:
            raise ValueError("comm was given without shards: fit(..., shards=8, comm=comm)")
        count = check_data(data, "data")
        batch_size = check_int(batch_size, "fit(…, batch_size=32)", least=1)
        epochs = check_int(epochs, "fit(…, epochs=10)", least=1)
        if state is None:
            state = TrainState.create(model, optimizer, example_shape(data), rng)
        elif not isinstance(state, TrainState):
            raise TypeError(
                f"state must be a TrainState, such as fit and TrainState.create(...) "
                f"return, got {type(state).__name__}"
            )
        figures = ["loss", *check_metrics(metrics)]
        if validation is not None:
            figures += [f"val_{name}" for name in figures]
        every = checked(callbacks, figures)
        key = state.rng
        named = {"model": model, "optimizer": optimizer, "loss": loss, "key": key}
        settings = {name: setting(value) for name, value in named.items()} | {
            "figures": ", ".join(figures),
            "data": _described(count, batch_size, shuffle, shards),
            "validation": f"{0 if validation is None else _check_arrays(validation)} examples",
        }
        check_agreement(comm, state=state, epochs=epochs, resume=resume, **settings)

        scores = Scores(check_metrics(metrics), place_of_weights(loss))

        def make_step(
            optimizer: Optimizer, donate: bool
        ) -> Callable[[TrainState, Any], tuple[TrainState, Sums]]:
            step = summing_step(
                model, loss, optimizer, scores, donate=donate, check_finite=check_finite,
                shards=shards, comm=comm,
            )  # fmt: skip
            if shards is None:
                return lambda state, batch: step(state, batch)[:2]
            return lambda state, part: step(state, part[0], size=part[1])[:2]

        def parts(epoch: int, first: int) -> Iterator[tuple[Any, int]]:
            order = order_of(key, epoch, count) if shuffle else None
            if shards is None:
                return batches(data, count, batch_size, order, first=first)
            mine = functools.partial(rows_of, shards=shards, comm=comm)
            made = batches(data, count, batch_size, order, mine, first)
            return (((part, size), size) for part, size in made)

        def validate(params: Params) -> dict[str, Any]:
            if validation is None:
                return {}
            return evaluate(model, params, validation, loss=loss, metrics=metrics)

        run = Run(model, optimizer, state, make_step, parts, validate)
        if smallest_part(count, batch_size, shards or 1) == 1:
            _check_single(model, state, data, count, batch_size, shards or 1)
        steps = -(-count // batch_size)
        first, batch = divmod(state.step, steps)
        called = [each for each in every if is_first(comm) or not _writes(each)]
        loop = Loop(run, run, called, range(first, first + epochs), steps, scores.metrics, batch)
        loop.keep(checkpoint, resume, figures, settings, comm)
        with Progress(progress and is_first(comm), loop.epochs.stop, steps) as report:
            history = loop.run(report)
        if is_first(comm) and has_pending(run.result.opt_state):
            warnings.warn(
                "the gradients after the last update of accumulate(..., steps) moved no parameter "
                "yet; choose steps that divide the steps of the run, or continue it with "
                "fit(..., state=state)",
                stacklevel=2,
            )
        return run.result, history.history


def _described(count: int, batch_size: int, shuffle: bool, shards: int | None) -> str:
    """Describe how the data are gone through, all of which the numbers depend on."""
    text = f"{count} examples in batches of {batch_size}"
    text += f", in {shards} shards" if shards is not None else ""
    return f"{text}, shuffled" if shuffle else text


def _check_single(
    model: Layer, state: TrainState, data: Any, count: int, batch_size: int, shards: int
) -> None:
    """Raise now if the model cannot be trained on a single example, with which an epoch ends.

    One that normalizes over the batch cannot, unless an example has several values a channel.
    """
    if model.update_stats is keep_params:
        return
    try:
        model.apply(state.params, first_input(data), train=True, rng=state.rng)
    except ValueError as error:
        parts = f"batches of {batch_size}" + (f" in {shards} shards" if shards > 1 else "")
        sizes = range(1, min(count, 2 * batch_size + 8 * shards) + 1)
        nearest = sorted(sizes, key=lambda size: abs(size - batch_size))
        good = next((n for n in nearest if smallest_part(count, n, shards) > 1), None)
        error.add_note(
            f"found before the first step: {count} examples in {parts} leave a single one by "
            f"itself; {f'batch_size={good} does not' if good else 'give more examples'}"
        )
        raise


def _check_arrays(validation: Any) -> int:
    if is_source(validation):
        raise TypeError("validation must be a tuple (x, *targets) of arrays, got a source")
    return check_data(validation, "validation")


def _writes(callback: Any) -> bool:
    return bool(getattr(callback, "first_rank_only", False))
