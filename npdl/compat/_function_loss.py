"""A function as the loss of a model."""

from typing import Any

import numpy as np

import npdl.functional as F
from npdl.compat.objectives import Objective
from npdl.compat.utils.random import as_floats

__all__ = ["FunctionLoss"]


class FunctionLoss(Objective):
    """A loss function with the signature of `npdl.functional`, as an objective.

    The gradient of the mean loss is multiplied by the batch size.

    Parameters
    ----------
    function : callable or str
        ``function(outputs, targets)`` returns the mean loss and its gradient in the outputs. A
        string is the name of a loss in `npdl.functional`.
    """

    def __init__(self, function: Any) -> None:
        known = isinstance(function, str) and function in F.__all__
        self.function = getattr(F, function) if known else function
        if not callable(self.function) or hasattr(self.function, "is_constructor"):
            raise ValueError(
                f"expected a loss function, or the name of one in npdl.functional, such as "
                f"'huber', got {function!r:.80}"
            )

    def forward(self, outputs: Any, targets: Any) -> Any:
        """Return the mean loss."""
        return self._pair(outputs, targets)[0]

    def backward(self, outputs: Any, targets: Any) -> Any:
        """Return the gradient of the mean loss, multiplied by the batch size."""
        return self._pair(outputs, targets)[1] * len(outputs)

    def _pair(self, outputs: Any, targets: Any) -> Any:
        expected = (
            f"the loss {self.function!r} must be a function of (outputs, targets) that returns the "
            f"mean loss and its gradient in the outputs, as npdl.functional.huber does, or a "
            f"subclass of npdl.objectives.Objective"
        )
        try:
            result = self.function(as_floats("loss", outputs), targets)
        except Exception as error:
            error.add_note(expected)
            raise
        pair = isinstance(result, tuple) and len(result) == 2
        if not pair or np.shape(result[1]) != np.shape(outputs):
            raise TypeError(expected)
        return result

    def _saved_arguments(self) -> dict[str, Any]:
        arguments = super()._saved_arguments()
        name = getattr(self.function, "__name__", "")
        is_saved = "function" in arguments and getattr(F, name, None) is self.function
        return arguments | ({"function": name} if is_saved else {})
