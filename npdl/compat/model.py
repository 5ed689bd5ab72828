"""Models: sequences of layers, trained in place.

>>> import numpy as np
>>> import npdl
>>> npdl.utils.set_seed(0)
>>> model = npdl.Model()
>>> model.add(npdl.layers.Dense(n_out=8, n_in=2))
>>> model.add(npdl.layers.Softmax(n_out=2))
>>> model.compile(loss="scce", optimizer=npdl.optimizers.Adam(lr=0.03))
>>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
>>> history = model.fit(X, np.array([0, 1, 1, 0]), max_iter=200, verbose=0)
>>> model.predict(X).argmax(axis=1)
array([0, 1, 1, 0])
"""

import itertools
from collections.abc import Iterable
from typing import Any, TextIO

import numpy as np

from npdl._blas import SmallSteps
from npdl._warn import warn
from npdl.callbacks import History
from npdl.callbacks._checks import checked
from npdl.compat import objectives, optimizers
from npdl.compat._checks import (
    Array,
    as_array,
    as_targets,
    check_axes,
    check_pair,
    check_verbose,
    check_weight,
    validation_pair,
)
from npdl.compat._fitting import (
    Lines,
    Training,
    batch_count,
    batch_slices,
    batches,
    split,
    weighted,
)
from npdl.compat._function_loss import FunctionLoss
from npdl.compat._keras import KerasMethods, batch_size_first, optimizer_first
from npdl.compat._keras_arguments import keras_arguments
from npdl.compat._metrics import accuracy, as_metrics, can_be_classes, try_metrics
from npdl.compat._model_files import Saved
from npdl.compat._sharded import check_smallest_shard, step_of
from npdl.compat._stack import Stack
from npdl.compat.layers.base import Layer, without_caches
from npdl.compat.layers.embedding import Embedding
from npdl.compat.objectives import SCCE, Objective
from npdl.compat.optimizers import SGD, Optimizer
from npdl.distributed._agreement import aborting, check_agreement, is_first, sample
from npdl.distributed._job import default_shards, world
from npdl.functional._arrays import describe
from npdl.functional._checks import check_flag, check_int
from npdl.training._checkpoint import Checkpoint
from npdl.training._evaluation import joined, over_batches
from npdl.training._learning_rate import check_factor
from npdl.training._loop import Loop, writes
from npdl.training._position import setting
from npdl.training._scores import Metrics, Scores, Sums, mean_sums
from npdl.training._weights import class_labels, weights_of_classes
from npdl.training._zero_weights import left_out, refusal_of

__all__ = ["Model", "Sequential"]


class Model(KerasMethods, Stack, Saved):
    """A sequence of layers.

    Parameters
    ----------
    layers : list of Layer, optional
        The layers; :meth:`add` appends more.

    Attributes
    ----------
    layers : list of Layer
        The layers.
    loss, optimizer : Objective, Optimizer
        Copies of the arguments of :meth:`compile`; ``model.optimizer.lr`` is the learning rate.
    stop_training : bool
        A callback sets it to `True` to end :meth:`fit` after the epoch.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl
    >>> npdl.utils.set_seed(0)
    >>> model = npdl.Model([npdl.layers.Dense(n_out=8, n_in=2, activation="tanh")])
    >>> model.add(npdl.layers.Softmax(n_out=2))
    >>> model.compile(loss="scce", optimizer=npdl.optimizers.Adam(lr=0.03))
    >>> X, Y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    >>> history = model.fit(X, Y, max_iter=200, verbose=0)
    >>> model.predict(X).argmax(axis=1)
    array([0, 1, 1, 0])
    """

    @keras_arguments
    def __init__(self, layers: Iterable[Layer] | None = None) -> None:
        self.layers: list[Layer] = []
        self.loss: Objective | None = None
        self.optimizer: Optimizer | None = None
        self.metrics: Metrics = {}
        self.stop_training = False
        self._connected: list[Layer] = []
        if isinstance(layers, Layer):
            raise TypeError(f"Model takes a list, as in Model([{layers!r}]), got a layer")
        for layer in layers or ():
            self.add(layer)

    @optimizer_first
    @keras_arguments
    def compile(
        self,
        loss: str | Objective | None = None,
        optimizer: str | Optimizer | None = None,
        metrics: Any = None,
    ) -> None:
        """Connect the layers, and set the loss and the optimizer.

        Connected layers keep their parameters.

        Parameters
        ----------
        loss : str, Objective or function
            ``SCCE()`` by default. A function of outputs and targets returns the mean loss and its
            gradient, as the losses of `npdl.functional` do.
        optimizer : str or Optimizer
            ``SGD()`` by default. The model copies an instance.
        metrics : list or dict
            Metrics for :meth:`fit` and :meth:`evaluate`: names, :class:`npdl.functional.Metric`, or
            functions of outputs and targets. The names are ``"accuracy"``, ``"precision"``,
            ``"recall"``, ``"f1"``, ``"auc"``, ``"average_precision"``, ``"mcc"``, ``"mae"``,
            ``"mse"``, ``"rmse"``, ``"r2"``, ``"perplexity"``, ``"calibration_error"``, and Keras's.
            For outputs with one column, precision, recall and F1 are of the class 1; for more
            columns, they are means over the classes.

        Raises
        ------
        ValueError
            If the model has no layers, the input size of the first layer is unknown, or two layers
            do not fit together; the model is then unchanged.
        """
        chosen = _objective(loss)
        rule = optimizers.get(SGD() if optimizer is None else optimizer)
        functions = as_metrics(metrics)
        if not self.layers:
            raise ValueError("Model.compile: the model has no layers; call add(layer) first")
        before = [dict(vars(layer)) for layer in self.layers]
        try:
            self._connect()
        except Exception:
            for layer, attributes in zip(self.layers, before, strict=True):
                vars(layer).clear()
                vars(layer).update(attributes)
            raise
        self.loss, self.optimizer, self.metrics = chosen, rule, functions

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        self._require_compiled("learning_rate")
        return self.optimizer.lr  # type: ignore[union-attr]

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the learning rate, from the next update on.

        Parameters
        ----------
        factor : float
            Not negative.
        """
        self._require_compiled("scale_learning_rate")
        self.optimizer.lr *= check_factor(factor)  # type: ignore[union-attr]

    @batch_size_first
    @keras_arguments
    def fit(
        self,
        X: Any,
        Y: Any,
        max_iter: int = 100,
        batch_size: int = 64,
        shuffle: bool = True,
        validation_split: float = 0.0,
        validation_data: tuple[Any, ...] | None = None,
        file: TextIO | None = None,
        *,
        epochs: int | None = None,
        verbose: int = 1,
        callbacks: Iterable[Any] | None = None,
        metrics: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        initial_epoch: int = 0,
        checkpoint: Checkpoint | None = None,
        resume: bool = False,
        shards: int | None = None,
    ) -> History:
        """Train the model.

        Parameters
        ----------
        X, Y : array
            Examples and targets, the batch first. They are not modified.
        max_iter : int
            Number of epochs.
        batch_size : int
            Number of examples per update; the last batch of an epoch may have fewer.
        shuffle : bool
            Whether each epoch has a new order of examples.
        validation_split : float
            Fraction of the examples for validation instead of training: the last
            ``int(n · fraction)`` of n, before any shuffle.
        validation_data : tuple of arrays, optional
            Validation data ``(X, Y)`` or ``(X, Y, weights)``, in place of a fraction.
        file : text file, optional
            Output file for a line per epoch; standard output by default.
        epochs : int, optional
            Alias of `max_iter`; it takes precedence.
        verbose : int
            0 disables the lines; 1, 2 and Keras's ``"auto"`` are equivalent.
        callbacks : list of Callback
            Objects with any of the methods of :class:`npdl.callbacks.Callback`.
        metrics : list or dict, optional
            Metrics in place of the metrics of :meth:`compile`. A function must be a mean over the
            examples, which is tried before the first update.
        sample_weight : array, optional
            A weight for each example; its loss and gradient are multiplied by it. Inputs must be
            finite even with weight 0. The metrics by name, and a function with an argument
            `weights`, are weighted by it.
        class_weight : dict or "balanced", optional
            A weight for each class, 1 for a missing class; the weights of its examples are
            multiplied by it. "balanced" gives all classes the same sum of weights. It does not
            apply to the validation data.
        initial_epoch : int
            Number of epochs before this call; they count towards `max_iter`.
        checkpoint : npdl.training.Checkpoint, optional
            Folder and frequency of checkpoints.
        resume : bool
            Whether to resume from the newest valid checkpoint, with the same bits as an
            uninterrupted run. The state of the generator of `npdl.utils.random` is then restored.
        shards : int, optional
            The number of shards that each batch is cut into, as in :func:`npdl.training.fit`. In a
            job of ``python -m npdl.run``, the ranks share them. The default is the environment
            variable ``NPDL_SHARDS``, which the launcher sets.

        Returns
        -------
        History
            ``history.history["loss"]`` and the other metrics, a value per epoch.

        Raises
        ------
        RuntimeError
            If the model is not compiled.
        ValueError
            If the arrays do not fit the model, or an argument is out of range.
        OSError
            If checkpoints cannot be written.
        npdl.checkpoint.CheckpointError
            If no checkpoint can be read, or the checkpoints belong to another model.

        Warns
        -----
        npdl.training.ResumeWarning
            As in :func:`npdl.training.fit`.
        UserWarning
            If both validation data and a fraction are passed; the fraction is then ignored. If
            positional arguments seem to be in Keras's order. If an embedding has a random table
            that is not trained.
        """
        self._require_compiled("fit")
        shards = default_shards() if shards is None else shards
        if shards is not None:
            check_int(shards, "Model.fit(X, Y, shards=8)", least=1)
        last, name = (max_iter, "max_iter") if epochs is None else (epochs, "epochs")
        check_int(batch_size, "Model.fit(X, Y, batch_size=32)")
        check_int(last, f"Model.fit(X, Y, {name}=10)", least=0)
        check_int(initial_epoch, "Model.fit(X, Y, initial_epoch=0)", least=0)
        shuffle = check_flag(shuffle, "Model.fit(X, Y, shuffle=True)")
        resume = check_flag(resume, "Model.fit(X, Y, checkpoint=checkpoint, resume=True)")
        shown = check_verbose(verbose)
        x, y = check_pair("X and Y", X, Y)
        # Data that do not fit the model raise before any change.
        y, first = self._prepare_targets(x, y, batch_size)
        weight = self._example_weights(sample_weight, class_weight, y, first)
        _check_left_out(x, weight)
        if validation_data is not None and validation_split:
            warn(
                f"Model.fit: validation_data is used and validation_split={validation_split} is "
                f"ignored: the model is trained on all examples; pass only one of them"
            )
            validation_split = 0.0
        own = check_weight(sample_weight, len(y))
        data, validation = split((x, y, weight), own, validation_split)
        if validation_data is not None:
            x, y, weight = validation_pair(validation_data)
            validation = (
                x,
                self._prepare_targets(x, y, batch_size)[0],
                self._example_weights(weight, None, y),
            )
        functions = self._training_metrics(metrics, first, data[1][:1])
        try_metrics(functions, self._probe, data, validation, batch_size)
        names = ["loss", *functions]
        names += [f"val_{name}" for name in names] if validation is not None else []
        called = checked(() if callbacks is None else callbacks, names)
        scores = Scores(functions, 2, numbers=True)
        comm = world()
        if shards is not None:
            sizes = {part.stop - part.start for part in batch_slices(len(data[0]), batch_size)}
            check_smallest_shard(self, data[0][:1], sizes, shards)
        step = step_of(self, scores, shards, comm)
        training = Training(
            self, data, validation, functions, step, batch_size, shuffle, shards=shards, comm=comm
        )
        steps = batch_count(len(data[0]), batch_size)
        self._warn_of_random_tables()
        settings = {
            "layers": setting(self.layers),
            "optimizer": setting(self.optimizer),
            "loss": setting(self.loss),
            "metrics": ", ".join(names),
            "data": f"{len(data[0])} examples in batches of {batch_size}"
            + (f", in {shards} shards" if shards is not None else "")
            + ", shuffled" * shuffle,
            "validation": f"{len(validation[0]) if validation is not None else 0} examples",
        }
        with aborting(comm):
            check_agreement(
                comm, trained=training.snapshot(), epochs=last, resume=resume,
                examples=sample(data, comm), **settings,
            )  # fmt: skip
            loop = Loop(
                training,
                [each for each in called if is_first(comm) or not writes(each)],
                range(initial_epoch, last),
                steps,
                scores.metrics,
                checkpoint=checkpoint,
                resume=resume,
                names=names,
                settings=settings,
                comm=comm,
            )
            return loop.run(Lines(shown and is_first(comm), file), {"verbose": verbose})

    def _step(
        self, x: Any, y: Any, weight: Array | None = None, scores: Scores | None = None
    ) -> tuple[float, Sums]:
        """Update the parameters once; return the loss before the update, and the metric sums."""
        loss: Any = self.loss
        statistics = [getattr(layer, "tree", None) for layer in self.layers]
        with SmallSteps()(self.params, x):
            try:
                outputs = self.forward(x, train=True)
                value = float(np.mean(weighted(loss.forward(outputs, y), weight)))
                sums: Sums = {"loss": mean_sums(value, len(outputs))}
                sums |= {} if scores is None else scores.sums(outputs, (x, y, weight))
            except Exception:
                # Restore the running statistics that earlier layers have updated.
                for layer, before in zip(self.layers, statistics, strict=True):
                    if before is not None:
                        layer.tree = before  # type: ignore[attr-defined]
                raise
            self.backward(weighted(self.loss_gradient(outputs, y), weight))
        self.optimizer.update(self.params, self.grads)  # type: ignore[union-attr]
        return value, sums

    def _prepare_targets(self, x: Any, y: Any, batch_size: int) -> tuple[Any, Any]:
        """Return the targets in the form of the outputs, and the outputs of one example.

        Raise unless the first batch of inputs and all targets fit the model.
        """
        loss: Any = self.loss
        first = self._probe(x[:batch_size])[:1]
        targets = as_targets(loss.takes_classes, first.shape[1:], y)
        loss.forward(np.broadcast_to(first, (len(y), *first.shape[1:])), targets)
        return targets, first

    def _example_weights(
        self, sample_weight: Any, class_weight: Any, y: Any, outputs: Any = None
    ) -> Array | None:
        """Return a weight for each example, or raise."""
        weight = check_weight(sample_weight, len(y))
        if class_weight is not None:
            labels, classes = class_labels(y, outputs.shape[1:])
            of_class = weights_of_classes(class_weight, labels, classes, weight)
            if of_class.ndim > 1:
                raise ValueError(
                    f"class_weight needs one class for each example, got targets {describe(y)}; "
                    f"npdl.training.fit weights the positions of examples, too"
                )
            weight = of_class if weight is None else weight * of_class
        if weight is not None and isinstance(self.loss, FunctionLoss):
            raise ValueError(
                f"Model.fit: the loss {self.loss} returns one number for all examples, so it "
                f"cannot weight them; a subclass of npdl.objectives.Objective returns a loss for "
                f"each example"
            )
        return weight

    def _warn_of_random_tables(self) -> None:
        """Warn of random embedding tables that are not trained."""
        for layer in self.layers:
            if isinstance(layer, Embedding):
                layer.warn_if_random()

    @keras_arguments
    def train_on_batch(
        self, X: Any, Y: Any, sample_weight: Any = None, class_weight: Any = None
    ) -> float:
        """Update the parameters with one batch, and return its mean loss.

        Parameters
        ----------
        X, Y : array
            Examples and targets.
        sample_weight : array, optional
            A weight for each example.
        class_weight : dict or "balanced", optional
            A weight for each class.
        """
        self._require_compiled("train_on_batch")
        x, y = check_pair("X and Y", X, Y)
        y, first = self._prepare_targets(x, y, len(x))
        weight = self._example_weights(sample_weight, class_weight, y, first)
        _check_left_out(x, weight)
        self._warn_of_random_tables()
        return self._step(x, y, weight)[0]

    @keras_arguments
    def predict(self, X: Any, batch_size: int = 256, verbose: int = 0) -> Any:
        """Return the outputs for inputs, in evaluation mode.

        Parameters
        ----------
        X : array
            The inputs, the batch first.
        batch_size : int
            Number of examples per forward pass.
        verbose : int
            Ignored; accepted for Keras scripts.
        """
        self._require_connected("predict")
        check_int(batch_size, "Model.predict(X, batch_size=32)")
        x = as_array("X", X)
        if not x.ndim or not len(x):
            raise ValueError(
                f"Model.predict: X must have at least one example, got an array of shape {x.shape}"
            )
        check_axes(self.input_shape, x)

        def outputs_of(numbers: range) -> Any:
            outputs = []
            parts = itertools.islice(batches((x,), batch_size), numbers.start, numbers.stop)
            for (part,) in parts:
                with SmallSteps()(self.params, part), without_caches():
                    outputs.append(self.forward(part, train=False))
            return joined(outputs)

        return over_batches(outputs_of, batch_count(len(x), batch_size), len(x))

    @keras_arguments
    def evaluate(
        self,
        X: Any,
        Y: Any,
        batch_size: int = 256,
        metrics: Any = None,
        verbose: int = 0,
        *,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the mean loss, or a list of the loss and the metrics.

        Parameters
        ----------
        X, Y : array
            Examples and targets.
        batch_size : int
            Number of examples per forward pass.
        metrics : list or dict, optional
            Metrics in place of the metrics of :meth:`compile`.
        verbose : int
            Ignored; accepted for Keras scripts.
        sample_weight : array, optional
            A weight for each example; its loss is multiplied by it.
        return_dict : bool
            Whether to return a dict from names to values.
        """
        self._require_compiled("evaluate")
        return_dict = check_flag(return_dict, "Model.evaluate(X, Y, return_dict=True)")
        functions = self.metrics if metrics is None else as_metrics(metrics)
        x, y = check_pair("X and Y", X, Y)
        weight = self._example_weights(sample_weight, None, y)
        values = self._evaluate(x, y, functions, batch_size, weight)
        if return_dict:
            return values
        return list(values.values()) if functions else values["loss"]

    def _evaluate(
        self, x: Any, y: Any, metrics: Metrics, batch_size: int, weight: Array | None = None
    ) -> dict[str, float]:
        loss: Any = self.loss
        outputs = self.predict(x, batch_size)
        y = as_targets(loss.takes_classes, outputs.shape[1:], y)
        mean = np.mean(weighted(loss.forward(outputs, y), weight))
        values = {"loss": mean} | Scores(metrics, 2).values(outputs, (x, y, weight))
        return {name: float(value) for name, value in values.items()}

    accuracy = staticmethod(accuracy)

    def _training_metrics(self, metrics: Any, outputs: Any, y: Any) -> Metrics:
        """Return the metrics of training, including the accuracy if outputs can be classes."""
        functions = self.metrics if metrics is None else as_metrics(metrics)
        if can_be_classes(outputs, y):
            return {"accuracy": accuracy} | dict(functions)
        return functions


def _check_left_out(x: Array, weight: Array | None) -> None:
    """Raise if an example with a weight of 0 has inputs that are not finite."""
    found = next(left_out((x, weight), 1), None)
    if found is not None:
        raise refusal_of(found, "X")


def _objective(loss: Any) -> Objective:
    """Return an objective by name or instance, or for a function of a loss and its gradient."""
    if callable(loss) and not isinstance(loss, Objective | type):
        return FunctionLoss(loss)
    try:
        return objectives.get(SCCE() if loss is None else loss)
    except ValueError as error:
        raise ValueError(
            f"Model.compile: unknown loss {loss!r:.80}; a function such as npdl.functional.huber "
            f"is also accepted; {error}"
        ) from None


# Keras's name of the class.
Sequential = Model
