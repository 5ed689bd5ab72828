"""The common part of both estimators: checked data, a layer, and a state that `fit` trains.

A subclass encodes the targets and decodes the outputs. `_targets` returns an array,
`_built` returns the layer, and `_default_loss` returns the loss.
"""

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import npdl.functional as F
from npdl import random, tree
from npdl._calls import shown
from npdl.callbacks import EarlyStopping, TerminateOnNaN
from npdl.functional._checks import check_int, check_number
from npdl.functional._layer import Layer, Params
from npdl.sklearn._examples import Examples, cast, check_weights
from npdl.sklearn._portable import portable
from npdl.sklearn._scikit import (
    BaseEstimator,
    check_is_fitted,
    check_random_state,
    validate_data,
)
from npdl.training import TrainState, fit, predict
from npdl.training._scores import Metrics, index_of_weights
from npdl.tree import Array

__all__ = ["Estimator"]

# Number of rows whose predictions are computed at a time.
_ROWS = 4096


class Estimator(BaseEstimator):
    """Base class: arguments, training, and outputs."""

    loss_: float
    layer_: Layer
    state_: TrainState
    history_: dict[str, list[float]]
    n_iter_: int
    n_features_in_: int
    n_outputs_: int

    def __init__(
        self,
        model: Layer | Callable[[int, int], Layer] | None = None,
        *,
        hidden: Iterable[int] | None = None,
        loss: Callable[..., Any] | None = None,
        optimizer: F.Optimizer | None = None,
        epochs: int = 50,
        batch_size: int = 64,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = 0,
        dtype: Any = "float32",
        metrics: Metrics | None = None,
        callbacks: Iterable[Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.hidden = hidden
        self.loss = loss
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype
        self.metrics = metrics
        self.callbacks = callbacks
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train a new network; with `warm_start`, continue with the network of the last call.

        Parameters
        ----------
        X : array, DataFrame or sparse matrix (examples, features)
            The inputs: finite numbers. The batches of a sparse matrix are made dense one by one.
        y : array (examples,) or (examples, outputs)
            The targets.
        sample_weight : array (examples,), optional
            The weights of the examples in the loss, not negative. A weight of 0 leaves an example
            out. Only the ratios of weights matter.

        Returns
        -------
        estimator
            The estimator itself. An error or Ctrl-C leaves it unchanged.

        Raises
        ------
        ValueError, TypeError
            If the data are not finite numbers, of different lengths or not enough; if the model
            does not fit the data; or if an argument of the estimator is wrong.
        FloatingPointError
            If the loss becomes NaN or infinite.
        """
        return self._train(X, y, sample_weight, partial=False)

    @property
    def params_(self) -> Params:
        """The trained parameters, with running statistics."""
        return self.state_.params

    def _train(self, X: Any, y: Any, sample_weight: Any, *, partial: bool, **classes: Any) -> Any:
        """Train this estimator; an error leaves it unchanged."""
        if partial and self.early_stopping:
            raise ValueError(
                f"{type(self).__name__}: partial_fit trains for one epoch, without validation "
                f"data; set early_stopping=False"
            )
        proceed = (partial or bool(self.warm_start)) and hasattr(self, "state_")
        trained = copy.copy(self)
        examples, held_out, key = trained._prepared(
            X, y, sample_weight, proceed=proceed, partial=partial, **classes
        )
        if not proceed:
            trained._initialize(examples, key)
        trained._run(examples, held_out, 1 if partial else self.epochs)
        self.__dict__ = trained.__dict__
        return self

    def _prepared(
        self, X: Any, y: Any, sample_weight: Any, *, proceed: bool, partial: bool,
        classes: Any = None,
    ) -> tuple[Examples, Examples | None, random.Key]:  # fmt: skip
        """Return the checked examples, further ones for validation, and the key of the run."""
        name, dtype = type(self).__name__, self._dtype()
        batch_size = check_int(self.batch_size, f"{name}(batch_size=64)", least=1)
        if proceed and self._design() != self._trained_design:
            raise ValueError(
                f"{name}: training cannot continue, because model, hidden, dtype or the kind of "
                f"loss has changed; fit with warm_start=False trains a new network"
            )
        X, y = self._validated(X, y, reset=not proceed)
        targets = self._targets(y, proceed, partial, classes)
        weights = self._weights(targets, check_weights(sample_weight, len(targets)))
        examples = Examples(cast(X, dtype, "X"), targets, weights).weighted()
        if not partial:
            self._check(examples)
        key, held_out = self.state_.rng if proceed else self._key(), None
        if self.early_stopping:
            call = f"{name}(validation_fraction=0.1)"
            fraction = check_number(self.validation_fraction, call, "in (0, 1)")
            examples, held_out = examples.split(fraction, key)
        return examples.as_set(batch_size), held_out, key

    def _initialize(self, examples: Examples, key: random.Key) -> None:
        """Set a new layer, and the state before the first step."""
        self.layer_, self._trained_design, self.history_ = self._built(examples), self._design(), {}
        params = self.layer_.init(random.fold(key, "init"), (self.n_features_in_,))
        params = tree.astype(params, self._dtype())
        self.state_ = TrainState.create(self.layer_, self._optimizer(), rng=key, params=params)

    def _run(self, examples: Examples, held_out: Examples | None, epochs: int) -> None:
        """Train from the state, and set the results."""
        loss = self._default_loss() if self.loss is None else self.loss
        if examples.weights is not None and index_of_weights(loss) != 2:
            raise ValueError(
                f"{type(self).__name__}: sample_weight and class_weight need a loss with weights, "
                f"loss(outputs, targets, weights), got {shown(loss)}"
            )
        callbacks = [*copy.deepcopy(list(self.callbacks or ())), TerminateOnNaN()]
        if held_out is not None:
            callbacks.append(EarlyStopping("val_loss", 0, self.patience, "min", True))
        self.state_, history = fit(
            self.layer_,
            loss,
            self._optimizer(),
            self._encoded(examples).data,
            state=self.state_,
            epochs=epochs,
            batch_size=self.batch_size,
            validation=None if held_out is None else self._encoded(held_out).dense,
            metrics=self.metrics,
            callbacks=callbacks,
            progress=bool(self.verbose),
        )
        self.history_ = {key: self.history_.get(key, []) + history[key] for key in history}
        self.n_iter_, self.loss_ = len(self.history_["loss"]), self.history_["loss"][-1]

    def _outputs(self, X: Any) -> Array:
        """Return the outputs of the network in float64, where a row hardly depends on others."""
        check_is_fitted(self, "state_")
        X = self._validated(X)
        params, dtype = tree.astype(self.params_, np.float64), self._dtype()
        outputs = []
        for start in range(0, X.shape[0], _ROWS):
            part = cast(X[start : start + _ROWS], dtype, "X")
            part = part.toarray() if hasattr(part, "toarray") else part
            outputs.append(predict(self.layer_, params, part.astype(np.float64)))
        return np.concatenate(outputs)

    def _validated(self, X: Any, *y: Any, reset: bool = False) -> Any:
        """Return inputs, and targets if there are any, as arrays of finite numbers."""
        options = {"multi_output": True, "y_numeric": self._y_numeric} if y else {}
        try:
            return validate_data(self, X, *y, accept_sparse="csr", reset=reset, **options)
        except ValueError as error:
            name = type(self).__name__
            if getattr(X, "ndim", 2) > 2:
                error.add_note(
                    f"pass images as rows, X.reshape(len(X), -1), and begin the model with a "
                    f"reshape: {name}(F.serial(F.reshape({np.shape(X)[1:]}), ...))"
                )
            elif "string" in str(error):
                error.add_note(
                    f"{name} takes numbers; make_pipeline(OneHotEncoder(), {name}()) encodes "
                    f"features that are strings"
                )
            raise

    def _dtype(self) -> Any:
        try:
            dtype = np.dtype(self.dtype)
        except TypeError:
            dtype = None
        if dtype not in (np.float32, np.float64):
            raise ValueError(
                f"{type(self).__name__}: dtype must be 'float32' or 'float64', got {self.dtype!r}"
            )
        return dtype

    def _key(self) -> random.Key:
        """Return the key of a new run; for `None`, from NumPy's global generator."""
        given = self.random_state
        return random.key(check_random_state(None) if given is None else given)

    def _optimizer(self) -> F.Optimizer:
        return self._default_optimizer if self.optimizer is None else self.optimizer

    def _sizes(self) -> tuple[int, ...] | None:
        hidden = self.hidden
        if hidden is not None and not isinstance(hidden, list | tuple | np.ndarray):
            raise TypeError(
                f"{type(self).__name__}: hidden must be a tuple of sizes, as in hidden=(64, 64), "
                f"got {shown(hidden)}"
            )
        return None if hidden is None else tuple(hidden)

    def _design(self) -> tuple[Any, ...]:
        """Return the arguments that must stay the same while training continues."""
        model: Any = self.model
        if isinstance(model, functools.partial):  # two equal partials differ
            model = model.func, model.args, model.keywords
        return model, self._sizes(), self._dtype().name

    def _layer(self, *last: Layer) -> Layer:
        """Return the model of the user, or the hidden layers followed by `last`."""
        name, model, sizes = type(self).__name__, self.model, self._sizes()
        if model is None:
            sizes = (100,) if sizes is None else sizes
            return F.serial(*(part for n in sizes for part in (F.dense(n), F.relu())), *last)
        if sizes is not None:
            raise ValueError(
                f"{name}: model and hidden={sizes} each describe the network; pass one of them"
            )
        layer = model
        if callable(model) and not isinstance(model, Layer):
            layer = model(self.n_features_in_, self.n_outputs_)
        if not isinstance(layer, Layer):
            raise TypeError(
                f"{name}: model must be a layer, or a function (n_features, n_outputs) that "
                f"returns one, got {shown(layer)}"
            )
        return layer

    def _out_shape(self, layer: Layer, *widths: int) -> Any:
        """Return the shape of the outputs, or raise unless it is one of the expected widths."""
        shape = layer.out_shape((self.n_features_in_,))
        if shape not in [(width,) for width in widths]:
            raise ValueError(
                f"{type(self).__name__}: the model has outputs of the shape {shape} for one "
                f"example of {self.n_features_in_} features, and the targets need ({widths[0]},); "
                f"end the model with F.dense({widths[0]})"
            )
        return shape

    def _weights(self, targets: Array, weights: Array | None) -> Array | None:
        """Return the weights of the examples in the loss."""
        return weights

    def _encoded(self, examples: Examples) -> Examples:
        """Return the examples with the targets of the loss."""
        return examples

    def _check(self, examples: Examples) -> None:
        """Raise if the examples of a call of `fit` are not enough."""

    def __copy__(self) -> Any:
        # The default passes through __getstate__.
        other = type(self).__new__(type(self))
        other.__dict__ = dict(vars(self))
        return other

    def __getstate__(self) -> Any:
        return portable(super().__getstate__())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
