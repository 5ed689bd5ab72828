"""The estimator of numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np

import npdl.functional as F
from npdl.functional._layer import Layer, Params
from npdl.sklearn._estimator import Estimator
from npdl.sklearn._examples import Examples, cast
from npdl.sklearn._scikit import MultiOutputMixin, RegressorMixin
from npdl.tree import Array

__all__ = ["NpdlRegressor", "in_units"]


class NpdlRegressor(MultiOutputMixin, RegressorMixin, Estimator):
    """A network that predicts numbers, with the interface of scikit-learn.

    Its arguments and attributes are those of :class:`NpdlClassifier`, without classes and their
    weights. Only the differences are listed here.

    Parameters
    ----------
    model : Layer or callable, optional
        The network, with one output per target, in the units of the targets.
    hidden : tuple of int, optional
        Sizes of the hidden layers without a `model`; by default (100,). The network then ends with
        a fixed scale and shift, the standard deviation and the mean of the targets of the first
        call. So the units of the targets do not matter.
    loss : callable, optional
        ``loss(outputs, targets, weights)``, with arrays (examples, outputs), by default
        :func:`mean_squared_error`.
    optimizer : Optimizer, optional
        By default ``F.adamw(2e-3, weight_decay=1.0)``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> import npdl.functional as F
    >>> from npdl.sklearn import NpdlRegressor
    >>> x, y = load_diabetes(return_X_y=True)
    >>> regressor = NpdlRegressor(hidden=(16,), loss=F.mean_absolute_error).fit(x, y)
    >>> regressor.predict(x[:2]).shape, regressor.score(x, y) > 0.3
    ((2,), True)
    """

    _y_numeric = True
    _default_optimizer = F.adamw(2e-3, weight_decay=1.0)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NpdlRegressor":
        """Train for one epoch, and continue from the last call of `fit` or `partial_fit`."""
        return self._train(X, y, sample_weight, partial=True)

    def predict(self, X: Any) -> Array:
        """Return the predictions, in the shape of the targets."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat else outputs

    def _targets(self, y: Array, proceed: bool, partial: bool, classes: Any) -> Array:
        """Return targets (examples, outputs); set their number."""
        y = y.toarray() if hasattr(y, "toarray") else y
        if y.dtype.kind not in "fiub":
            raise ValueError(
                f"NpdlRegressor: y must be numbers, got the data type {y.dtype}; for classes, use "
                f"NpdlClassifier"
            )
        targets: Array = cast(y, self._dtype(), "y").reshape(len(y), -1)
        if proceed and targets.shape[1] != self.n_outputs_:
            raise ValueError(
                f"NpdlRegressor: y has {targets.shape[1]} numbers per example, and the trained "
                f"network has {self.n_outputs_} outputs"
            )
        self.n_outputs_, self._flat = targets.shape[1], y.ndim == 1
        return targets

    def _built(self, examples: Examples) -> Layer:
        """Return the network. Hidden layers have outputs in the units of the targets."""
        targets = examples.targets.astype(np.float64)
        mean = np.average(targets, axis=0, weights=examples.weights)
        deviation = np.sqrt(np.average((targets - mean) ** 2, axis=0, weights=examples.weights))
        deviation[deviation == 0] = 1
        units = in_units(mean.tolist(), deviation.tolist())
        layer = self._layer(F.dense(self.n_outputs_), units)
        self._out_shape(layer, self.n_outputs_)
        return layer

    def _default_loss(self) -> Callable[..., Any]:
        return F.mean_squared_error


@F.layer
def in_units(mean: tuple[float, ...], deviation: tuple[float, ...]) -> Layer:
    """Convert standardized numbers to the units of the targets: ``y = mean + deviation · x``.

    Parameters
    ----------
    mean, deviation : tuple of float
        A number for each output. They are not trained.
    """

    def apply(params: Params, x: Array) -> tuple[Array, None]:
        y = x * np.asarray(deviation, x.dtype)
        y += np.asarray(mean, x.dtype)
        return y, None

    def backward(params: Params, cache: None, g: Array) -> tuple[Params, Array]:
        return (), g * np.asarray(deviation, g.dtype)

    return F.Layer(lambda rng, shape: (), apply, backward)
