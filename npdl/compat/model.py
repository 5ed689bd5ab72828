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

import inspect
import operator
from collections.abc import Iterable
from typing import Any, TextIO

import numpy as np

from npdl.callbacks import History
from npdl.callbacks.checks import checked
from npdl.compat import objectives, optimizers
from npdl.compat.activations import Softmax
from npdl.compat.fitting import (
    Array,
    Lines,
    Metrics,
    Training,
    accuracy,
    as_metrics,
    batch_count,
    batches,
    can_be_classes,
    check_count,
    check_pair,
    check_weight,
    split,
    weighted,
)
from npdl.compat.layers.base import Layer
from npdl.compat.objectives import SCCE, Objective
from npdl.compat.optimizers import SGD, Optimizer
from npdl.compat.saving import Saved
from npdl.loop import Loop
from npdl.position import setting
from npdl.rates import check_factor
from npdl.resume import Checkpoint
from npdl.scoring import Scores

__all__ = ["Model"]


class Model(Saved):
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
        Those that :meth:`compile` was given.
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

    def __init__(self, layers: Iterable[Layer] | None = None) -> None:
        self.layers: list[Layer] = []
        self.loss: Objective | None = None
        self.optimizer: Optimizer | None = None
        self.metrics: Metrics = {}
        self.stop_training = False
        self._connected: list[Layer] = []
        for layer in layers or ():
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Put a layer behind the others.

        Parameters
        ----------
        layer : Layer
            A layer of `npdl.layers`, or of a subclass of :class:`npdl.layers.Layer`.

        Raises
        ------
        TypeError
            If it is not a layer.
        """
        if not isinstance(layer, Layer):
            raise TypeError(
                f"Model.add: expected a layer, such as npdl.layers.Dense(n_out=10), got {layer!r}; "
                f"a layer of npdl.functional goes into npdl.layers.Functional(...)"
            )
        if any(layer is other for other in self.layers):
            raise ValueError(f"Model.add: this {layer} is in the model already; make a new one")
        self.layers.append(layer)

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
        loss : str or Objective
            ``SCCE()`` by default.
        optimizer : str or Optimizer
            ``SGD()`` by default.
        metrics : list or dict
            Further figures for :meth:`fit` and :meth:`evaluate`: ``"accuracy"``, or functions of
            outputs and targets.

        Raises
        ------
        ValueError
            If there are no layers, the first one does not know the size of its input, or two do
            not fit together; the model is then as it was.
        """
        chosen = objectives.get(SCCE() if loss is None else loss)
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

    def _connect(self) -> None:
        """Connect the layers from the first one on that has another place than before."""
        changed = False
        for i, layer in enumerate(self.layers):
            changed = changed or i >= len(self._connected) or self._connected[i] is not layer
            if changed:
                try:
                    layer.connect_to(self.layers[i - 1] if i else None)
                except Exception as error:
                    error.add_note(f"in layer {i} of the model, {layer}")
                    raise
        self._connected = list(self.layers)

    def _claim(self) -> None:
        """Tell the layers of their place, which is another in another model."""
        exact = not isinstance(self.loss, SCCE)
        below = True
        for i, layer in enumerate(self.layers):
            # Nothing before the first layer with parameters is trained, so it needs no gradient.
            layer.first_layer = below
            below = below and not layer.params
            wanted = exact or i < len(self.layers) - 1
            if getattr(layer, "exact_softmax", wanted) is not wanted:
                layer.exact_softmax = wanted  # type: ignore[attr-defined]

    @property
    def params(self) -> list[Array]:
        """The parameters of all layers."""
        return [array for layer in self.layers for array in layer.params]

    @property
    def grads(self) -> list[Array]:
        """The gradients of all layers from the last step."""
        return [array for layer in self.layers for array in layer.grads]

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

    def fit(
        self,
        X: Any,
        Y: Any,
        max_iter: int = 100,
        batch_size: int = 64,
        shuffle: bool = True,
        validation_split: float = 0.0,
        validation_data: tuple[Any, Any] | None = None,
        file: TextIO | None = None,
        *,
        epochs: int | None = None,
        verbose: int = 1,
        callbacks: Iterable[Any] | None = None,
        metrics: Any = None,
        sample_weight: Any = None,
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
            Whether each iteration has an order of its own.
        validation_split : float
            The fraction of the examples, taken from the end, that the model is not trained on but
            evaluated with.
        validation_data : tuple of arrays, optional
            ``(X, Y)`` to evaluate with, in place of a fraction.
        file : text file, optional
            Where a line an iteration is written; the standard output by default.
        epochs : int, optional
            The same as `max_iter`, which it replaces.
        verbose : int
            0 for no lines.
        callbacks : list of Callback
            Objects with any of the methods of :class:`npdl.callbacks.Callback`.
        metrics : list or dict, optional
            In place of those of :meth:`compile`.
        sample_weight : array, optional
            A weight for each example, by which its loss and gradient are multiplied. A metric
            with an argument `weights` gets them; ``"accuracy"`` counts all examples alike.
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
        """
        self._require_compiled("fit")
        last = max_iter if epochs is None else epochs
        check_count("batch_size", batch_size)
        check_count("epochs (max_iter)", last, least=0)
        check_count("initial_epoch", initial_epoch, least=0)
        data: Any = check_pair("X and Y", X, Y)
        data, validation = split(
            (*data, check_weight(sample_weight, len(data[0]))), validation_split
        )
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise TypeError("validation_data must be a pair of arrays, (X, Y)")
            validation = check_pair("validation_data", *validation_data)
        # Whatever does not fit raises before anything is changed.
        for part in (data, validation):
            if part is not None:
                self._check(part[0], part[1], batch_size)
        figures = self._figures(metrics, data[0][:1], data[1][:1])
        names = ["loss", *figures]
        names += [f"val_{name}" for name in names] if validation is not None else []
        called = checked(() if callbacks is None else callbacks, names)
        scores = Scores(figures, 2)
        training = Training(self, data, validation, figures, scores, batch_size, shuffle)
        steps = batch_count(len(data[0]), batch_size)
        loop = Loop(training, self, called, range(initial_epoch, last), steps, scores.metrics)
        if checkpoint is not None or resume:
            loop.keep(
                checkpoint,
                resume,
                names,
                {
                    "layers": setting(self.layers),
                    "optimizer": setting(self.optimizer),
                    "loss": setting(self.loss),
                    "figures": ", ".join(names),
                    "data": f"{len(data[0])} examples in batches of {batch_size}"
                    f"{', shuffled' * bool(shuffle)}",
                    "validation": f"{len(validation[0]) if validation is not None else 0} examples",
                },
            )
        return loop.run(Lines(bool(verbose), file), {"verbose": verbose})

    def _step(self, x: Any, y: Any, weight: Array | None = None) -> tuple[Any, float]:
        """Change the parameters once; return the outputs and the loss from before."""
        loss: Any = self.loss
        outputs = self.forward(x, train=True)
        values = weighted(loss.forward(outputs, y), weight)
        self.backward(weighted(self.loss_gradient(outputs, y), weight))
        self.optimizer.update(self.params, self.grads)  # type: ignore[union-attr]
        return outputs, float(np.mean(values))

    def _check(self, x: Any, y: Any, batch_size: int) -> None:
        """Raise unless inputs and targets fit the model, as far as one batch of inputs tells."""
        first = self.predict(x[:batch_size], batch_size)[:1]
        self.loss.forward(np.broadcast_to(first, (len(y), *first.shape[1:])), y)  # type: ignore[union-attr]

    def forward(self, x: Any, train: bool = True) -> Any:
        """Return the outputs of the last layer, in training or in evaluation mode."""
        self._claim()
        for i, layer in enumerate(self.layers):
            try:
                x = layer.forward(x, train=train) if _takes_train(layer) else layer.forward(x)
            except Exception as error:
                error.add_note(f"in layer {i} of the model, {layer}")
                raise
        return x

    def backward(self, g: Any) -> Any:
        """Hand the gradient of the outputs back through the layers."""
        self._claim()
        for i in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[i]
            try:
                g = layer.backward(g)
            except Exception as error:
                error.add_note(f"in backward of layer {i} of the model, {layer}")
                raise
            if layer.first_layer and layer.params:
                break
        return g

    def loss_gradient(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient of the summed loss in the outputs, as :meth:`backward` takes it.

        That of :class:`SCCE` is documented to be the gradient before a softmax, ``p - t``; where
        the model does not end in one, it is that of the loss itself.

        Parameters
        ----------
        outputs : array
            What :meth:`forward` returned.
        targets : array
            The targets.
        """
        loss: Any = self.loss
        if isinstance(loss, SCCE) and not self._ends_in_softmax():
            return loss.exact_gradient(outputs, targets)
        return loss.backward(outputs, targets)

    def _ends_in_softmax(self) -> bool:
        return isinstance(getattr(self.layers[-1], "activation", None), Softmax)

    def train_on_batch(self, X: Any, Y: Any, sample_weight: Any = None) -> float:
        """Make one step with a batch, and return its mean loss.

        Parameters
        ----------
        X, Y : array
            Examples and targets.
        sample_weight : array, optional
            A weight for each example.
        """
        self._require_compiled("train_on_batch")
        x, y = check_pair("X and Y", X, Y)
        weight = check_weight(sample_weight, len(x))
        self._check(x, y, len(x))
        return self._step(x, y, weight)[1]

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
        x = np.asarray(X)
        if not x.ndim or not len(x):
            raise ValueError(f"Model.predict: X needs an example, got an array of shape {x.shape}")
        outputs = [self.forward(part, train=False) for (part,) in batches((x,), batch_size)]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def evaluate(
        self, X: Any, Y: Any, batch_size: int = 256, metrics: Any = None, verbose: int = 0
    ) -> Any:
        """Return the mean loss; where there are metrics, the list of it and of them.

        Parameters
        ----------
        X, Y : array
            Examples and targets.
        batch_size : int
            Number of examples at a time.
        metrics : list or dict, optional
            In place of those of :meth:`compile`.
        verbose : int
            Makes no difference; scripts for Keras give it.
        """
        self._require_compiled("evaluate")
        figures = self.metrics if metrics is None else as_metrics(metrics)
        x, y = check_pair("X and Y", X, Y)
        values = self._evaluated(x, y, figures, batch_size)
        return list(values.values()) if figures else values["loss"]

    def _evaluated(self, x: Any, y: Any, figures: Metrics, batch_size: int) -> dict[str, float]:
        outputs = self.predict(x, batch_size)
        loss = np.mean(self.loss.forward(outputs, y))  # type: ignore[union-attr]
        values = {"loss": loss} | {name: f(outputs, y) for name, f in figures.items()}
        return {name: float(value) for name, value in values.items()}

    accuracy = staticmethod(accuracy)

    def _figures(self, metrics: Any, x: Any, y: Any) -> Metrics:
        """Return the metrics of training: with the accuracy, where outputs can be classes."""
        figures = self.metrics if metrics is None else as_metrics(metrics)
        if can_be_classes(self.predict(x), y):
            return {"accuracy": accuracy} | dict(figures)
        return figures

    def _require_connected(self, method: str) -> None:
        same = len(self._connected) == len(self.layers) and all(
            map(operator.is_, self._connected, self.layers)
        )
        if not self.layers or not same:
            raise RuntimeError(
                f"Model.{method}: call compile(loss=..., optimizer=...) first, after the last add"
            )

    def _require_compiled(self, method: str) -> None:
        self._require_connected(method)
        if self.loss is None or self.optimizer is None:
            raise RuntimeError(f"Model.{method}: call compile(loss=..., optimizer=...) first")


def _takes_train(layer: Any) -> bool:
    """Whether `forward` has an argument `train`, or any; those of users' layers may lack it."""
    function = layer.forward
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        parameters = inspect.signature(function).parameters.values()
        return any(p.name == "train" or p.kind is p.VAR_KEYWORD for p in parameters)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return "train" in names or bool(code.co_flags & inspect.CO_VARKEYWORDS)
