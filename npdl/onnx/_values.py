"""Values of a graph, and their data types.

A value has Python's operators, so that a rule reads like the equation of its layer.
"""

import itertools
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

__all__ = ["Type", "Value", "output_type"]


class Type:
    """A data type, or `None` until a rule needs one; values of one type share it."""

    def __init__(self, dtype: Any = None) -> None:
        self.dtype = None if dtype is None else np.dtype(dtype)
        self._alike: list[Type] = []

    def settle(self, dtype: Any) -> None:
        """Set the data type, if it is still open, also of all values of the same type."""
        if self.dtype is None:
            self.dtype = np.dtype(dtype)
            for other in self._alike:
                other.settle(dtype)

    def unite(self, other: "Type") -> None:
        """Give two values one data type, now or as soon as it is known."""
        if self.dtype is None:
            self._alike.append(other)
        if other.dtype is None:
            other._alike.append(self)
        for a, b in ((self, other), (other, self)):
            if a.dtype is not None:
                b.settle(a.dtype)


# Operators with outputs of a fixed data type.
_FIXED: dict[str, Any] = {
    **dict.fromkeys(("And", "Equal", "IsInf", "IsNaN", "Not", "Or", "Xor"), np.bool_),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), np.bool_),
    **dict.fromkeys(("ArgMax", "ArgMin", "Shape", "Size"), np.int64),
}

# Operators whose inputs have one data type.
_ALIKE = {"Add", "Concat", "Div", "Max", "Min", "Mul", "Sub", "Where"}


def output_type(op: str, inputs: list[Type]) -> Type:
    """Return the data type of an operator's outputs: the type of its first input of data."""
    data = inputs[1:] if op == "Where" else inputs
    if op in _ALIKE:
        for one, other in itertools.pairwise(data):
            one.unite(other)
    return data[0] if data and op not in _FIXED else Type(_FIXED.get(op))


def _operator(op: str, swapped: bool = False) -> Callable[["Value", Any], Any]:
    def apply(self: "Value", other: Any) -> Any:
        if not isinstance(other, Value):
            other = np.asarray(other, self.dtype)
        return self.graph.node(op, *((other, self) if swapped else (self, other)))

    return apply


@attrs.frozen(eq=False)
class Value:
    """An array of a graph: an input of the model, a constant, or the output of a node.

    The operators ``+``, ``-``, ``*``, ``/``, ``**`` and ``@`` add a node. The other operand is a
    value, or an array or a number, which gets the data type of the value.

    Parameters
    ----------
    graph : Graph
        The graph.
    name : str
        Its unique name.
    shape : tuple or None
        The shape of one example, with `None` for a dynamic size. Only inputs and outputs of layers
        have a shape; between the nodes of a rule, it is `None`.
    type : Type
        The data type, see :attr:`dtype`.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl.onnx import Graph
    >>> x = Graph().input("x", (3,))
    >>> y = 1 - x @ np.ones((3, 2), np.float32) / 2
    >>> [node.op for node in x.graph.nodes]
    ['MatMul', 'Div', 'Sub']
    """

    graph: Any = attrs.field(repr=False)
    name: str
    shape: Any
    type: Type = attrs.field(repr=False)

    __array_ufunc__ = None  # this class computes array @ value

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type; float32 for an input of the model that no rule has cast."""
        return np.dtype(np.float32) if self.type.dtype is None else self.type.dtype

    __add__, __radd__ = _operator("Add"), _operator("Add", True)
    __sub__, __rsub__ = _operator("Sub"), _operator("Sub", True)
    __mul__, __rmul__ = _operator("Mul"), _operator("Mul", True)
    __truediv__, __rtruediv__ = _operator("Div"), _operator("Div", True)
    __pow__, __rpow__ = _operator("Pow"), _operator("Pow", True)
    __matmul__, __rmatmul__ = _operator("MatMul"), _operator("MatMul", True)
