"""Objectives: loss functions and their gradients in the outputs.

>>> import numpy as np
>>> from npdl.objectives import SCCE
>>> loss, p = SCCE(), np.array([[0.5, 0.5], [0.2, 0.8]])
>>> loss.forward(p, np.array([0, 1])).round(4)
array([0.6931, 0.2231])
>>> loss.backward(p, np.array([0, 1]))
array([[-0.5,  0.5],
       [ 0.2, -0.2]])

The loss is returned per element or per item. The gradient is the gradient of their sum. Neither is
divided by the batch size. Your own objective is a subclass of :class:`Objective`.
"""

from typing import Any, ClassVar

import numpy as np

from npdl.compat._named import Named, find
from npdl.compat.utils.random import as_floats
from npdl.functional._checks import check_number
from npdl.functional._kernels.loss_terms import (
    EPSILON,
    absolute_errors,
    binary_cross_entropies,
    categorical_cross_entropies,
    hellinger_distances,
    squared_errors,
)
from npdl.functional._targets import check_probabilities, class_targets, value_targets
from npdl.tree import Array

__all__ = [
    "BCE",
    "MAE",
    "MSE",
    "SCCE",
    "BinaryCrossEntropy",
    "HeD",
    "HellingerDistance",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Objective",
    "SoftmaxCategoricalCrossEntropy",
    "get",
]


class Objective(Named):
    """A loss function: the base class of your own objectives.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.objectives import Objective, get
    >>> class AbsoluteError(Objective):
    ...     def forward(self, outputs, targets):
    ...         return np.abs(outputs - targets)
    ...
    ...     def backward(self, outputs, targets):
    ...         return np.sign(outputs - targets)
    >>> get(AbsoluteError()).backward(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    array([-1.,  1.])
    """

    family = "objectives"
    # Whether targets are classes (True) or numbers (False); with None, a model does not convert.
    takes_classes: ClassVar[bool | None] = None

    def forward(self, outputs: Any, targets: Any) -> Any:
        """Return the loss of each element or of each item.

        Parameters
        ----------
        outputs, targets : array
            The outputs of the model and the targets, the batch first.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient in the outputs.

        Parameters
        ----------
        outputs, targets : array
            As in :meth:`forward`.

        Returns
        -------
        array
            The gradient, of the shape of the outputs.
        """
        raise NotImplementedError(f"{type(self).__name__}.backward")


class MeanSquaredError(Objective):
    """Squared difference of each element, for regression: ``(p - t)²``.

    The gradient is ``p - t``, half of the derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.objectives import MSE
    >>> MSE().forward(np.array([[1.0, 4.0]]), np.array([[0.0, 2.0]]))
    array([[1., 4.]])
    """

    takes_classes = False

    def forward(self, outputs: Any, targets: Any) -> Any:
        """Return ``(p - t)²`` of each element.

        Parameters
        ----------
        outputs, targets : array
            The outputs `p` and the targets `t`, of equal shapes, the batch first.

        Raises
        ------
        ValueError
            If the shapes differ; arrays are not broadcast.
        """
        return self._terms(outputs, targets)[0]

    def backward(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient ``p - t``.

        Parameters
        ----------
        outputs, targets : array
            As in :meth:`forward`.
        """
        derivative = self._terms(outputs, targets)[1]
        derivative *= 0.5
        return derivative

    def _terms(self, outputs: Any, targets: Any) -> tuple[Array, Array]:
        p = as_floats("MSE", outputs)
        return squared_errors(p, value_targets("MSE", p, targets))


class MeanAbsoluteError(Objective):
    """Absolute difference of each element, for regression with outliers: ``|p - t|``.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.objectives import MAE
    >>> MAE().forward(np.array([[1.0, 4.0]]), np.array([[0.0, 6.0]]))
    array([[1., 2.]])
    """

    takes_classes = False

    def forward(self, outputs: Any, targets: Any) -> Any:
        """Return ``|p - t|`` of each element.

        Parameters
        ----------
        outputs, targets : array
            The outputs `p` and the targets `t`, of equal shapes, the batch first.

        Raises
        ------
        ValueError
            If the shapes differ; arrays are not broadcast.
        """
        return self._terms(outputs, targets)[0]

    def backward(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient, the sign of ``p - t``.

        Parameters
        ----------
        outputs, targets : array
            As in :meth:`forward`.
        """
        return self._terms(outputs, targets)[1]

    def _terms(self, outputs: Any, targets: Any) -> tuple[Array, Array]:
        p = as_floats("MAE", outputs)
        return absolute_errors(p, value_targets("MAE", p, targets))


class BinaryCrossEntropy(Objective):
    """Cross-entropy of each element, for sigmoid outputs: ``l = -t log p - (1 - t) log(1 - p)``.

    Parameters
    ----------
    epsilon : float
        Lower bound of `p` and `1 - p` in logarithms and divisions.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.objectives import BCE
    >>> BCE().forward(np.array([[0.5], [0.2]]), np.array([[1], [0]])).round(4)
    array([[0.6931],
           [0.2231]])
    """

    takes_classes = False

    def __init__(self, epsilon: float = 1e-11) -> None:
        self.epsilon = check_number(epsilon, "BCE(epsilon=1e-11)", "in (0, 0.5)")

    def forward(self, outputs: Any, targets: Any) -> Any:
        """Return the cross-entropy of each element.

        Parameters
        ----------
        outputs : array
            The outputs `p`, in [0, 1], the batch first.
        targets : array
            The targets `t`, in [0, 1], of the same shape.

        Raises
        ------
        ValueError
            If the shapes differ, or a value is outside [0, 1].
        """
        return self._terms(outputs, targets)[0]

    def backward(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient ``(1 - t) / (1 - p) - t / p``.

        Parameters
        ----------
        outputs, targets : array
            As in :meth:`forward`.
        """
        return self._terms(outputs, targets)[1]

    def _terms(self, outputs: Any, targets: Any) -> tuple[Array, Array]:
        p = as_floats("BCE", outputs)
        t = value_targets("BCE", p, targets)
        check_probabilities("BCE", "outputs", p, "end the model with a sigmoid")
        check_probabilities("BCE", "targets", t, "a target is 0 or 1, or between")
        return binary_cross_entropies(p, t, self.epsilon)


class HellingerDistance(Objective):
    """Distance of two distributions per item: ``√(½ Σⱼ (√pⱼ - √tⱼ)²)``, from 0 to 1.

    References
    ----------
    Hellinger: Neue Begründung der Theorie quadratischer Formen von unendlichvielen
    Veränderlichen, 1909.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.objectives import HeD
    >>> HeD().forward(np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([0, 0])).round(4)
    array([0.7071, 0.    ])
    """

    takes_classes = True

    def forward(self, outputs: Any, targets: Any) -> Any:
        """Return the distance of each item.

        Parameters
        ----------
        outputs : array (batch, classes)
            The outputs `p`, in [0, 1], such as the output of a softmax.
        targets : array
            The targets `t` (batch, classes), or the class index of each item (batch,).

        Raises
        ------
        ValueError
            If the shapes do not match, a class index is out of range, or a value is outside
            [0, 1].
        """
        return self._terms(outputs, targets)[0]

    def backward(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient ``(1 - √(t / p)) / 4H``, with the distance `H`; 0 where `H` is 0.

        Parameters
        ----------
        outputs, targets : array
            As in :meth:`forward`.
        """
        return self._terms(outputs, targets)[1]

    def _terms(self, outputs: Any, targets: Any) -> tuple[Array, Array]:
        p, rows, t = _rows("HeD", outputs, targets)
        values, g = hellinger_distances(rows, t, EPSILON)
        return values.reshape(p.shape[:-1]), g.reshape(p.shape)


class SoftmaxCategoricalCrossEntropy(Objective):
    """Cross-entropy of each item, for softmax outputs: ``-Σⱼ tⱼ log pⱼ``.

    The gradient ``p - t`` is the gradient in the input of the softmax. The derivative of the
    softmax is one by definition in this API. After any other layer, ``p - t`` is not the gradient.

    Parameters
    ----------
    epsilon : float
        Lower bound of `p` in the logarithm.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.objectives import SCCE
    >>> SCCE().forward(np.array([[0.5, 0.5], [0.2, 0.8]]), np.array([[0, 1], [0, 1]])).round(4)
    array([0.6931, 0.2231])
    """

    takes_classes = True

    def __init__(self, epsilon: float = 1e-11) -> None:
        self.epsilon = check_number(epsilon, "SCCE(epsilon=1e-11)", "in (0, 0.5)")

    def forward(self, outputs: Any, targets: Any) -> Any:
        """Return the cross-entropy of each item.

        Parameters
        ----------
        outputs : array (batch, classes)
            The outputs `p`, in [0, 1], such as the output of a softmax.
        targets : array
            The targets `t` (batch, classes), or the class index of each item (batch,).

        Raises
        ------
        ValueError
            If the shapes do not match, a class index is out of range, or a value is outside
            [0, 1].
        """
        p, rows, t = _rows("SCCE", outputs, targets)
        return categorical_cross_entropies(rows, t, self.epsilon)[0].reshape(p.shape[:-1])

    def backward(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient ``p - t``.

        Parameters
        ----------
        outputs, targets : array
            As in :meth:`forward`.
        """
        p, rows, t = _rows("SCCE", outputs, targets)
        if t.ndim == 2:
            return (rows - t).reshape(p.shape)
        g = rows.copy()
        g[np.arange(len(t)), t] -= 1
        return g.reshape(p.shape)

    def exact_gradient(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient in the outputs themselves, without a softmax: ``-t / p``.

        Parameters
        ----------
        outputs, targets : array
            As in :meth:`forward`.
        """
        p, rows, t = _rows("SCCE", outputs, targets)
        return categorical_cross_entropies(rows, t, self.epsilon)[1].reshape(p.shape)


def _rows(name: str, outputs: Any, targets: Any) -> tuple[Array, Array, Array]:
    """Return the outputs, the outputs as rows, and the targets: class ids (rows,) or rows."""
    p = as_floats(name, outputs)
    t = class_targets(name, p, targets)
    check_probabilities(name, "outputs", p, "end the model with a softmax")
    return p, p.reshape(-1, p.shape[-1]), t


MSE = MeanSquaredError
MAE = MeanAbsoluteError
HeD = HellingerDistance
BCE = BinaryCrossEntropy
SCCE = SoftmaxCategoricalCrossEntropy

_NAMES: dict[str, type[Objective]] = {
    **dict.fromkeys(("mse", "MSE", "mean_squared_error", "MeanSquaredError"), MSE),
    **dict.fromkeys(("mae", "MAE", "mean_absolute_error", "MeanAbsoluteError"), MAE),
    **dict.fromkeys(("hed", "HeD", "hellinger_distance", "HellingerDistance"), HeD),
    **dict.fromkeys(("bce", "BCE", "binary_cross_entropy", "BinaryCrossEntropy"), BCE),
    **dict.fromkeys(("scce", "SCCE", "softmax_categorical_cross_entropy"), SCCE),
    "SoftmaxCategoricalCrossEntropy": SCCE,
}


def get(objective: Any) -> Objective:
    """Return a copy of an objective, or a new objective by its name.

    Parameters
    ----------
    objective : Objective or str
        An instance, a class name, its lower-case form, or its short form, such as ``"scce"``.

    Raises
    ------
    ValueError
        If it is neither; the message lists the names.

    Examples
    --------
    >>> from npdl.objectives import get
    >>> type(get("mse")).__name__
    'MeanSquaredError'
    """
    return find(Objective, objective, _NAMES, "SCCE()")
