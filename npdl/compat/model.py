"""Models: layers one after another, trained in place.

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

import warnings
from collections.abc import Iterable
from typing import Any, TextIO

import numpy as np

from npdl._warn import warn
from npdl.callbacks import History
from npdl.callbacks._checks import checked
from npdl.compat import objectives, optimizers
from npdl.compat._checks import (
    Array,
    as_array,
    as_targets,
    check_axes,
    check_count,
    check_pair,
    check_verbose,
    check_weight,
    class_weights,
    validation_pair,
)
from npdl.compat._fitting import (
    Lines,
    Metrics,
    Training,
    accuracy,
    as_metrics,
    batch_count,
    batches,
    can_be_classes,
    split,
    weighted,
)
from npdl.compat._function_loss import FunctionLoss
from npdl.compat._habits import keras_arguments
from npdl.compat._keras import KerasMethods, batch_size_first, optimizer_first
from npdl.compat._saving import Saved
from npdl.compat._stack import Stack
from npdl.compat.layers.base import Layer
from npdl.compat.layers.embedding import Embedding
from npdl.compat.objectives import SCCE, Objective
from npdl.compat.optimizers import SGD, Optimizer
from npdl.functional._checks import check_flag
from npdl.training._learning_rate import check_factor
from npdl.training._left_out import left_out, refusal_of
from npdl.training._loop import Loop
from npdl.training._resume import Checkpoint
from npdl.training._resume_header import setting
from npdl.training._scores import Scores, Sums, mean_sums, number_of

__all__ = ["Model", "Sequential"]


class Model(KerasMethods, Stack, Saved):
    """Layers one after another.

    Parameters
    ----------
    layers : list of Layer, optional
        The layers; more can be added.

    Attributes
    ----------
    layers : list of Layer
        The layers.
    loss, optimizer : Objective, Optimizer
        Copies of those that :meth:`compile` was given: ``model.optimizer.lr`` is the rate.
    stop_training : bool
        Set by a callback to end :meth:`fit` after the epoch.

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
        """Connect the layers, and choose the loss and the optimizer.

        Layers that are connected already keep their parameters.

        Parameters
        ----------
        loss : str, Objective or function
            ``SCCE()`` by default. A function of outputs and targets returns the mean loss and its
            gradient, as the losses of `npdl.functional` do.
        optimizer : str or Optimizer
            ``SGD()`` by default. Of an instance, the model gets a copy.
        metrics : list or dict
            Further figures for :meth:`fit` and :meth:`evaluate`: ``"accuracy"``, ``"mae"``,
            ``"mse"``, or functions of outputs and targets.

        Raises
        ------
        ValueError
            If there are no layers, the first one does not know the size of its input, or two do
            not fit together; the model is then as it was.
        """
        chosen = _objective(loss)
        rule = optimizers.get(SGD() if optimizer is None else optimizer)
        figures = as_metrics(metrics)
        if not self.layers:
            raise ValueError("Model.compile: the model has no layers; add(layer) comes first")
        before = [dict(vars(layer)) for layer in self.layers]
        try:
            self._connect()
        except Exception:
            for layer, attributes in zip(self.layers, before, strict=True):
                vars(layer).clear()
                vars(layer).update(attributes)
            raise
        self.loss, self.optimizer, self.metrics = chosen, rule, figures

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        self._require_compiled("learning_rate")
        return self.optimizer.lr  # type: ignore[union-attr]

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the learning rate from the next step on.

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
    ) -> History:
        """Train the model.

        Parameters
        ----------
        X, Y : array
            Examples and targets, the batch first. They are left as they are.
        max_iter : int
            How many times to go over the examples.
        batch_size : int
            Number of examples a step; the last one of an iteration may have fewer.
        shuffle : bool
            Whether each iteration has a new order.
        validation_split : float
            The fraction of the examples, taken from the end before any shuffle, that the model is
            not trained on but evaluated with: ``int(n · fraction)`` of n.
        validation_data : tuple of arrays, optional
            ``(X, Y)`` to evaluate with, in place of a fraction; or ``(X, Y, weights)``.
        file : text file, optional
            Where a line an iteration is written; the standard output by default.
        epochs : int, optional
            The same as `max_iter`, which it replaces.
        verbose : int
            0 for no lines; 1, 2 and Keras's ``"auto"`` are the same.
        callbacks : list of Callback
            Objects with any of the methods of :class:`npdl.callbacks.Callback`.
        metrics : list or dict, optional
            Replace the metrics of :meth:`compile`.
        sample_weight : array, optional
            A weight for each example, by which its loss and gradient are multiplied; with 0, its
            inputs must be finite all the same. A metric with an argument `weights` gets them;
            ``"accuracy"`` counts all examples alike.
        class_weight : dict, optional
            A weight for each class; the weights of its examples are multiplied by it.
        initial_epoch : int
            The number of iterations that were made before, and count.
        checkpoint : npdl.training.Checkpoint, optional
            Where and how often to write checkpoints.
        resume : bool
            Whether to go on from the newest good checkpoint, to the same bits as if training had
            not been stopped. The generator of `npdl.utils.random` is then set as it was.

        Returns
        -------
        History
            ``history.history["loss"]`` and so on, a figure for each iteration.

        Raises
        ------
        RuntimeError
            If the model is not compiled.
        ValueError
            If the arrays do not fit, or an argument is out of range.
        OSError
            If checkpoints cannot be written.
        npdl.checkpoint.CheckpointError
            If no checkpoint can be read, or they are of another model.

        Warns
        -----
        npdl.training.ResumeWarning
            As :func:`npdl.training.fit` does.
        UserWarning
            If there are both validation data and a fraction, which is then 0; if numbers by
            position seem to be in Keras's order; if a table of random numbers is not trained.
        """
        self._require_compiled("fit")
        last = max_iter if epochs is None else epochs
        check_count("batch_size", batch_size)
        check_count("epochs (max_iter)", last, least=0)
        check_count("initial_epoch", initial_epoch, least=0)
        shuffle = check_flag(shuffle, "Model.fit(X, Y, shuffle=True)")
        resume = check_flag(resume, "Model.fit(X, Y, checkpoint=checkpoint, resume=True)")
        shown = check_verbose(verbose)
        x, y = check_pair("X and Y", X, Y)
        # Data that do not fit raise before anything is changed.
        y, first = self._checked(x, y, batch_size)
        weight = self._weights(sample_weight, class_weight, y)
        _check_left_out(x, weight)
        if validation_data is not None and validation_split:
            warn(
                f"Model.fit: validation_data counts, and validation_split={validation_split} does "
                f"not: the model is trained on all examples; pass one of them"
            )
            validation_split = 0.0
        data, validation = split((x, y, weight), validation_split)
        if validation_data is not None:
            x, y, weight = validation_pair(validation_data)
            validation = (x, self._checked(x, y, batch_size)[0], self._weights(weight, None, y))
        figures = self._figures(metrics, first, data[1][:1])
        if validation is not None:
            self._check_figures(figures, validation, batch_size)
        names = ["loss", *figures]
        names += [f"val_{name}" for name in names] if validation is not None else []
        called = checked(() if callbacks is None else callbacks, names)
        scores = Scores(figures, 2, numbers=True)
        training = Training(self, data, validation, figures, scores, batch_size, shuffle)
        steps = batch_count(len(data[0]), batch_size)
        self._warn()
        settings = {
            "layers": setting(self.layers),
            "optimizer": setting(self.optimizer),
            "loss": setting(self.loss),
            "figures": ", ".join(names),
            "data": f"{len(data[0])} examples in batches of {batch_size}{', shuffled' * shuffle}",
            "validation": f"{len(validation[0]) if validation is not None else 0} examples",
        }
        loop = Loop(
            training,
            called,
            range(initial_epoch, last),
            steps,
            scores.metrics,
            checkpoint=checkpoint,
            resume=resume,
            names=names,
            settings=settings,
        )
        return loop.run(Lines(shown, file), {"verbose": verbose})

    def _step(
        self, x: Any, y: Any, weight: Array | None = None, scores: Scores | None = None
    ) -> tuple[float, Sums]:
        """Change the parameters once; return the loss from before, and its and the scores' sums."""
        loss: Any = self.loss
        statistics = [getattr(layer, "tree", None) for layer in self.layers]
        try:
            outputs = self.forward(x, train=True)
            value = float(np.mean(weighted(loss.forward(outputs, y), weight)))
            sums: Sums = {"loss": mean_sums(value, len(outputs))}
            sums |= {} if scores is None else scores.sums(outputs, (x, y, weight))
        except Exception:
            # Running statistics, which layers before have brought forward.
            for layer, before in zip(self.layers, statistics, strict=True):
                if before is not None:
                    layer.tree = before  # type: ignore[attr-defined]
            raise
        self.backward(weighted(self.loss_gradient(outputs, y), weight))
        self.optimizer.update(self.params, self.grads)  # type: ignore[union-attr]
        return value, sums

    def _check_figures(self, figures: Metrics, data: tuple[Any, ...], batch_size: int) -> None:
        """Raise unless each metric of validation data is a number, with outputs of one batch."""
        outputs = self._tried(data[0][:batch_size])
        outputs = outputs[np.arange(len(data[0])) % len(outputs)]
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                for name, value in Scores(figures, 2).values(outputs, data).items():
                    number_of(name, value)
        except Exception as error:
            error.add_note("found before the first step, with the validation data")
            raise

    def _checked(self, x: Any, y: Any, batch_size: int) -> tuple[Any, Any]:
        """Return the targets in the form of the outputs, and outputs of one example.

        Raise unless inputs and targets fit the model, as far as one batch of inputs tells.
        """
        loss: Any = self.loss
        first = self._tried(x[:batch_size])[:1]
        targets = as_targets(loss.takes_classes, first.shape[1:], y)
        loss.forward(np.broadcast_to(first, (len(y), *first.shape[1:])), targets)
        return targets, first

    def _weights(self, sample_weight: Any, class_weight: Any, y: Any) -> Array | None:
        """Return a weight for each example, or raise."""
        weight = check_weight(sample_weight, len(y))
        if class_weight is not None:
            of_class = check_weight(class_weights(class_weight, y), len(y))
            weight = of_class if weight is None else weight * of_class
        if weight is not None and isinstance(self.loss, FunctionLoss):
            raise ValueError(
                f"Model.fit: the loss {self.loss} gives one number for all examples, which have "
                f"no weights then; a subclass of npdl.objectives.Objective gives one for each"
            )
        return weight

    def _warn(self) -> None:
        """Warn, before the first step, of random tables that are not trained."""
        for layer in self.layers:
            if isinstance(layer, Embedding):
                layer.warn_if_random()

    @keras_arguments
    def train_on_batch(
        self, X: Any, Y: Any, sample_weight: Any = None, class_weight: Any = None
    ) -> float:
        """Make one step with a batch, and return its mean loss.

        Parameters
        ----------
        X, Y : array
            Examples and targets.
        sample_weight : array, optional
            A weight for each example.
        class_weight : dict, optional
            A weight for each class.
        """
        self._require_compiled("train_on_batch")
        x, y = check_pair("X and Y", X, Y)
        y, _ = self._checked(x, y, len(x))
        weight = self._weights(sample_weight, class_weight, y)
        _check_left_out(x, weight)
        self._warn()
        return self._step(x, y, weight)[0]

    @keras_arguments
    def predict(self, X: Any, batch_size: int = 256, verbose: int = 0) -> Any:
        """Return the outputs for inputs, in evaluation mode.

        Parameters
        ----------
        X : array
            The inputs, the batch first.
        batch_size : int
            Number of examples at a time.
        verbose : int
            Makes no difference; scripts for Keras give it.
        """
        self._require_connected("predict")
        check_count("batch_size", batch_size)
        x = as_array("X", X)
        if not x.ndim or not len(x):
            raise ValueError(f"Model.predict: X needs an example, got an array of shape {x.shape}")
        check_axes(self.input_shape, x)
        outputs = [self.forward(part, train=False) for (part,) in batches((x,), batch_size)]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

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
        """Return the mean loss; where there are metrics, the list of it and of them.

        Parameters
        ----------
        X, Y : array
            Examples and targets.
        batch_size : int
            Number of examples at a time.
        metrics : list or dict, optional
            Replace the metrics of :meth:`compile`.
        verbose : int
            Makes no difference; scripts for Keras give it.
        sample_weight : array, optional
            A weight for each example, by which its loss is multiplied.
        return_dict : bool
            Whether to return a dict of the values by their names.
        """
        self._require_compiled("evaluate")
        return_dict = check_flag(return_dict, "Model.evaluate(X, Y, return_dict=True)")
        figures = self.metrics if metrics is None else as_metrics(metrics)
        x, y = check_pair("X and Y", X, Y)
        weight = self._weights(sample_weight, None, y)
        values = self._evaluated(x, y, figures, batch_size, weight)
        if return_dict:
            return values
        return list(values.values()) if figures else values["loss"]

    def _evaluated(
        self, x: Any, y: Any, figures: Metrics, batch_size: int, weight: Array | None = None
    ) -> dict[str, float]:
        loss: Any = self.loss
        outputs = self.predict(x, batch_size)
        y = as_targets(loss.takes_classes, outputs.shape[1:], y)
        mean = np.mean(weighted(loss.forward(outputs, y), weight))
        values = {"loss": mean} | Scores(figures, 2).values(outputs, (x, y, weight))
        return {name: float(value) for name, value in values.items()}

    accuracy = staticmethod(accuracy)

    def _figures(self, metrics: Any, outputs: Any, y: Any) -> Metrics:
        """Return the metrics of training: with the accuracy, where outputs can be classes."""
        figures = self.metrics if metrics is None else as_metrics(metrics)
        if can_be_classes(outputs, y):
            return {"accuracy": accuracy} | dict(figures)
        return figures


def _check_left_out(x: Array, weight: Array | None) -> None:
    """Raise if an example with a weight of 0 has inputs that are not finite."""
    found = next(left_out((x, weight), 1), None)
    if found is not None:
        raise refusal_of(found, "X")


def _objective(loss: Any) -> Objective:
    """Return an objective, also one of a function that returns a loss and its gradient."""
    if callable(loss) and not isinstance(loss, Objective | type):
        return FunctionLoss(loss)
    try:
        return objectives.get(SCCE() if loss is None else loss)
    except ValueError as error:
        raise ValueError(
            f"Model.compile: the loss {loss!r:.80} is not known; a function is one too, such as "
            f"npdl.functional.huber; {error}"
        ) from None


# Keras's name.
Sequential = Model
