"""Training on data, from the first epoch to the last.

:func:`fit` checks its arguments; the loop over epochs and batches is in `_loop.py`, and a step in
`_step.py`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from npdl import random
from npdl._data import check_data, example_shape, first_input
from npdl._warn import warn
from npdl.callbacks._checks import checked
from npdl.callbacks._progress import Progress
from npdl.distributed._agreement import aborting, check_agreement, is_first, sample
from npdl.distributed._job import default_shards, world
from npdl.functional._checks import check_flag, check_function, check_int
from npdl.functional._layer import Layer, Params
from npdl.functional.optimizers._averaging import has_pending
from npdl.functional.optimizers._optimizer import Optimizer
from npdl.training._callback_view import Run
from npdl.training._checkpoint import Checkpoint
from npdl.training._evaluation import Loss, outputs_of_few
from npdl.training._loop import Loop, writes
from npdl.training._plan import Plan
from npdl.training._position import setting
from npdl.training._scores import Metrics, Scores, check_loss, check_metrics, index_of_weights
from npdl.training._train_state import TrainState, check_state
from npdl.training._weights import with_weights

__all__ = ["fit"]


def fit(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    data: Any,
    *,
    state: TrainState | None = None,
    params: Params | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    augment: Callable[[random.Key, Any], Any] | None = None,
    validation: Any = None,
    metrics: Metrics | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    rng: random.KeyLike = 0,
    callbacks: Iterable[Any] = (),
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    progress: bool = True,
    check_finite: bool = False,
    shards: int | None = None,
    comm: Any = None,
) -> tuple[TrainState, dict[str, list[float]]]:
    """Train a model on arrays or on a source of rows.

    Parameters
    ----------
    model : Layer
        The model.
    loss : callable
        ``loss(outputs, *targets) -> (value, gradient)``, such as :func:`softmax_cross_entropy`.
    optimizer : Optimizer
        The optimizer, such as ``F.adam(1e-3)``.
    data : tuple
        ``(x, *targets)``: arrays of one length, with the examples along the first axis. `x` may
        be a tuple of arrays. The targets are the further arguments of the loss: labels, and
        optional weights. A weight of 0 leaves an example out of the loss. The model still
        computes its outputs, so its inputs must be finite.
        Arrays may be memory-mapped files. Alternatively, a source: any object with a length and
        ``data[rows]``, which returns such a tuple for an array of row numbers, such as a result of
        :func:`npdl.data.source`. Then only one batch is read at a time.
    state : TrainState, optional
        The state to continue from; it is not changed. Training begins with a whole epoch: if
        ``state.step`` is not the end of an epoch of these data, it is rounded up to the next end.
        With ``resume=True``, training continues in mid-epoch.
    params : tree, optional
        Parameters to start from, such as loaded ones, if no `state` is passed; the arrays are
        copied. The optimizer starts from its initial state: :meth:`TrainState.create`.
    epochs : int
        Number of epochs to train, each over every example once.
    batch_size : int
        Number of examples per step; the last batch of an epoch may be smaller.
    shuffle : bool
        Whether each epoch has a separate order, which follows from (rng, epoch).
    augment : callable, optional
        ``augment(key, x) -> x`` changes the inputs of one example in training, such as
        :func:`npdl.data.flip`. It is pure, and keeps the shape and the data type. The key is
        ``fold(rng, "augment", epoch, row)``, where `row` is the number of the example in `data`.
        So each epoch has new examples, which depend on nothing else.
    validation : tuple or source, optional
        Data like `data`. The model is evaluated on them after each epoch: :func:`evaluate`.
    metrics : dict of callables, optional
        ``{"accuracy": F.accuracy}``: values to report in addition to the loss, each
        ``metric(outputs, targets) -> number``. A metric with an argument `weights` gets the
        weights if the loss has such an argument too. A :class:`Metric`, such as the metrics of
        npdl, is computed over all examples of an epoch. Any other function must be a mean over the
        examples. This is tried before the first step, with two parts of some examples.
    sample_weight : array (batch,) or further axes of positions, optional
        The weights of the examples, not negative. They are the argument `weights` of the loss and
        of the metrics, in place of weights in `data`. The validation data have their own.
    class_weight : dict or "balanced", optional
        The weights of classes, such as ``{0: 1.0, 1: 5.0}``, 1 for a missing class. "balanced"
        gives all classes the same sum of weights. The weights of the examples of `data` are
        multiplied by the weights of their classes.
    rng : key
        The key of the run, if no `state` is passed.
    callbacks : list of Callback
        Objects with any of the methods of :class:`npdl.callbacks.Callback`. Their `model` is a
        :class:`Run`.
    checkpoint : Checkpoint, optional
        The directory of checkpoints, and how often to write them.
    resume : bool
        Whether to continue from the newest valid checkpoint. The run ends at the same epoch as
        without the interruption: `epochs` counts from the start of the run, not from the
        checkpoint. Parameters, optimizer state and history have the same bits. With `state` and
        without `checkpoint`, whether to continue in mid-epoch, at the example after the last one of
        ``state.step``.
    progress : bool
        Whether to show progress: a bar in a terminal if tqdm is installed, else a line per epoch.
    check_finite : bool
        Whether to stop at the first number that is not finite: in the forward pass, in the
        backward pass, or after the update. The error names the step, the layer and the array.
    shards : int, optional
        The number of shards that each batch is cut into: :mod:`npdl.distributed`. Their gradients
        are computed one by one and added in a fixed order. The result depends on this number.
        The default is the environment variable ``NPDL_SHARDS``, which ``python -m npdl.run`` sets.
        Without it, batches are not cut.
    comm : communicator, optional
        Such as ``MPI.COMM_WORLD``. The ranks share the shards, and each rank reads only the
        examples of its shards. The result has the same bits for any number of ranks. All ranks
        call the callbacks, except those that write. The first rank alone calls these, writes
        checkpoints and shows progress. An error on one rank ends the job. In a job of
        ``python -m npdl.run``, the default is the communicator of all ranks; ``MPI.COMM_SELF``
        trains on this rank alone.

    Returns
    -------
    state : TrainState
        The state after the last step.
    history : dict of lists
        For each epoch, ``"loss"`` and the metrics over its examples. The names of validation
        values have the prefix ``"val_"``. The loss and functions other than a :class:`Metric` are
        means over the examples, weighted if there are weights.

    Raises
    ------
    ValueError, TypeError
        If the data are empty, of different lengths, or not numbers; if inputs with a weight of 0
        are not finite; if weights are negative, not finite or of another length, or belong to a
        missing class; if the validation data do not fit the model, the loss or a metric; if a
        metric cannot be merged from batches; if the parameters or the state belong to another
        model or optimizer; or if the ranks start with different models, states, settings or
        lengths of data.
    OSError
        If checkpoints cannot be written.
    CheckpointError
        If all checkpoints are damaged, or they belong to another run.

    Warns
    -----
    UserWarning
        If gradients of :func:`accumulate` are pending at the end.
    ResumeWarning
        If the directory has no checkpoint; if the run has ended already; if the newest checkpoint
        is damaged; or if the environment or the arguments of callbacks have changed.
    UnwrittenCheckpointWarning
        If the last checkpoint, or a callback's last file, could not be written; the result is
        returned.
    RuntimeWarning
        If the loss of an epoch is not finite; once per call.

    Notes
    -----
    An error or Ctrl-C that ends training has the attributes ``state``, the :class:`TrainState`
    after the last step, and ``history``. ``state`` is missing if Ctrl-C interrupted a step while
    it was overwriting the arrays.

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
    comm = world() if comm is None else comm
    shards = default_shards() if shards is None else shards
    with aborting(comm):
        if comm is not None and shards is None:
            raise ValueError("comm was passed without shards: fit(..., shards=8, comm=comm)")
        count = check_data(data, "data", sources=True)
        batch_size = check_int(batch_size, "fit(…, batch_size=32)", least=1)
        epochs = check_int(epochs, "fit(…, epochs=10)", least=1)
        shuffle = check_flag(shuffle, "fit(…, shuffle=True)")
        if augment is not None:
            check_function(augment, "fit(…, augment=npdl.data.flip())", "a function (key, x) -> x")
        progress = check_flag(progress, "fit(…, progress=False)")
        resume = check_flag(resume, "fit(…, resume=True)")
        check_finite = check_flag(check_finite, "fit(…, check_finite=True)")
        example = first_input(data)
        in_place = resume and state is not None and checkpoint is None
        if state is None:
            state = TrainState.create(model, optimizer, example_shape(example), rng, params=params)
        else:
            if params is not None:
                raise ValueError(
                    "state and params were both passed; to start from params, leave state out: "
                    "fit(..., params=params)"
                )
            check_state(state, optimizer)
        if sample_weight is not None or class_weight is not None:
            shape = example_shape(outputs_of_few(model, state.params, example, state.rng))
            data = with_weights(data, count, loss, shape, sample_weight, class_weight)
        check_loss(loss)
        metrics = check_metrics(metrics)
        names = ["loss", *metrics]
        held_out = 0
        if validation is not None:
            names += [f"val_{name}" for name in names]
            held_out = check_data(validation, "validation", sources=True)
        every = checked(callbacks, names)
        plan = Plan(
            model, loss, optimizer, data, count, validation, metrics,
            Scores(metrics, index_of_weights(loss), numbers=True), state.rng, batch_size, shuffle,
            augment, check_finite, shards, comm,
        )  # fmt: skip
        named = {"model": model, "optimizer": optimizer, "loss": loss, "key": state.rng}
        settings = {name: setting(value) for name, value in named.items()} | {
            "metrics": ", ".join(names),
            "data": plan.sampling,
            "validation": f"{held_out} examples",
        }
        settings |= {} if class_weight is None else {"class_weight": setting(class_weight)}
        settings |= {} if augment is None else {"augment": setting(augment)}
        check_agreement(
            comm, state=state, epochs=epochs, resume=resume, examples=sample(data, comm), **settings
        )
        plan.check(state.params, example)
        run = Run(plan, state if in_place else plan.start(state))
        first, batch = divmod(run.result.step, plan.steps)
        loop = Loop(
            run,
            [each for each in every if is_first(comm) or not writes(each)],
            range(first, first + epochs),
            plan.steps,
            plan.scores.metrics,
            batch,
            checkpoint=checkpoint,
            resume=resume and not in_place,
            names=names,
            settings=settings,
            comm=comm,
        )
        try:
            with Progress(progress and is_first(comm), loop.epochs.stop, plan.steps) as report:
                loop.run(report)
        except BaseException as error:
            vars(error).setdefault("history", loop.history.history)
            if run.whole is not None:
                vars(error).setdefault("state", run.whole)
            raise
        run.close()
        if is_first(comm) and has_pending(run.result.opt_state):
            warn(
                "the gradients after the last update of accumulate(..., steps) were not applied "
                "to the parameters; choose steps that divide the steps of the run, or continue it "
                "with fit(..., state=state)"
            )
        return run.result, loop.history.history
