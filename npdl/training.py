"""Training: a state that holds all that decides the next number, and pure steps from it.

>>> import numpy as np
>>> import npdl.functional as F
>>> from npdl.training import fit, predict
>>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
>>> model = F.serial(F.dense(16), F.tanh(), F.dense(1))
>>> state, history = fit(
...     model, F.mean_squared_error, F.adam(0.03), (x, x**2), epochs=100, progress=False
... )
>>> history["loss"][-1] < 0.01
True
>>> predict(model, state.params, x).shape
(64, 1)
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from npdl import random, tree
from npdl.data import batches, check_data, check_positive, order_of
from npdl.evaluation import Loss, Metrics, evaluate, keep_freed_memory, predict
from npdl.finite import raise_if_not_finite
from npdl.functional.layer import Layer, Params, keep_params, value_and_grad
from npdl.functional.transforms import Optimizer
from npdl.loop import Loop
from npdl.position import setting
from npdl.progress import Progress
from npdl.resume import Checkpoint, ResumeWarning
from npdl.run import Run
from npdl.train_state import TrainState

__all__ = [
    "Checkpoint",
    "ResumeWarning",
    "Run",
    "TrainState",
    "evaluate",
    "fit",
    "predict",
    "train_step",
]

Step = Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]]


def train_step(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    *,
    metrics: Metrics | None = None,
    donate: bool = False,
    check_finite: bool = False,
) -> Step:
    """Return a pure function that makes one step of training.

    Parameters
    ----------
    model : Layer
        The model.
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient)``.
    optimizer : Optimizer
        The optimizer.
    metrics : dict of callables, optional
        Further figures of the batch, each ``metric(outputs, targets) -> number``.
    donate : bool
        Whether a step may overwrite the arrays of the state that it is given, which saves memory
        and time. The state that was passed must then not be used again.
    check_finite : bool
        Whether to stop at the first number that is not finite, with an error that names the step,
        the layer and the array.

    Returns
    -------
    callable
        ``step(state, (x, *targets)) -> (state, metrics)``, where `metrics` has ``"loss"``.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model, optimizer = F.dense(2), F.sgd(0.1)
    >>> state = TrainState.create(model, optimizer, shape=(3,))
    >>> step = train_step(model, F.softmax_cross_entropy, optimizer)
    >>> state, metrics = step(state, (np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])))
    >>> state.step, sorted(metrics)
    (1, ['loss'])
    """
    gradient = value_and_grad(model, loss)
    if check_finite:
        # What is not finite raises with its place; NumPy's warning would come first, without.
        gradient = np.errstate(all="ignore")(gradient)
    has_stats = model.update_stats is not keep_params
    keep_freed_memory()
    stream = random.fold((0,), "step")[1]

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        x, *targets = batch
        key = (*state.rng, stream, state.step)
        value, grads, aux = gradient(state.params, x, *targets, train=True, rng=key)
        if check_finite:
            raise_if_not_finite(model, loss, state.step, state.params, batch, key, value, grads)
        state = state.updated(optimizer, grads, donate)
        if has_stats:
            state = state.with_params(model.update_stats(state.params, aux.cache))
        figures = {"loss": value}
        if metrics:
            figures |= {name: f(aux.outputs, *targets[:1]) for name, f in metrics.items()}
        return state, figures

    return step


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
        ``{"accuracy": F.accuracy}``: figures to report beside the loss, each
        ``metric(outputs, targets) -> number``.
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

    Returns
    -------
    state : TrainState
        The state after the last step.
    history : dict of lists
        For each epoch, the mean over its examples of ``"loss"`` and of the metrics, and the same
        names with ``"val_"`` before them for the validation data.

    Raises
    ------
    ValueError, TypeError
        If the data are empty, of different lengths, or not numbers.
    OSError
        If checkpoints cannot be written.
    CheckpointError
        If no checkpoint can be read, or they are of another run.

    Warns
    -----
    ResumeWarning
        If there is no checkpoint to go on from, if the newest ones are damaged, or if they were
        written where the same numbers may come out with other bits.

    Examples
    --------
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
    count = check_data(data, "data")
    if validation is not None:
        check_data(validation, "validation")
    check_positive("batch_size", batch_size)
    check_positive("epochs", epochs)
    if state is None:
        shape = tree.map(lambda array: array.shape[1:], data[0])
        state = TrainState.create(model, optimizer, shape, rng)

    def make_step(optimizer: Optimizer, donate: bool) -> Step:
        return train_step(
            model, loss, optimizer, metrics=metrics, donate=donate, check_finite=check_finite
        )

    key = state.rng

    def parts(epoch: int, first: int) -> Iterator[tuple[Any, int]]:
        order = order_of(key, epoch, count) if shuffle else None
        return itertools.islice(batches(data, count, batch_size, order), first, None)

    def validate(params: Params) -> dict[str, Any]:
        if validation is None:
            return {}
        return evaluate(model, params, validation, loss=loss, metrics=metrics)

    run = Run(model, optimizer, state, make_step, parts, validate)
    steps = -(-count // batch_size)
    first, batch = divmod(state.step, steps)
    loop = Loop(run, run, callbacks, range(first, first + epochs), steps, batch)
    names = ["loss", *(metrics or {})]
    names += [f"val_{name}" for name in names] if validation is not None else []
    settings = {"model": model, "optimizer": optimizer, "loss": loss, "key": key}
    loop.keep(
        checkpoint,
        resume,
        names,
        {name: setting(value) for name, value in settings.items()}
        | {
            "figures": ", ".join(names),
            "data": f"{count} examples in batches of {batch_size}{', shuffled' * shuffle}",
            "validation": f"{check_data(validation, 'validation') if validation else 0} examples",
        },
    )
    with Progress(progress, loop.epochs.stop, steps) as report:
        history = loop.run(report)
    return run.result, history.history
