"""The graph that rules build: nodes, constants, inputs and outputs, without protobuf."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np

from npdl import tree
from npdl.functional._layer import Layer, Params, Shape
from npdl.functional.combinators._children import short
from npdl.functional.combinators._parts import at, bound, found
from npdl.functional.combinators._rebuilt import first_call
from npdl.onnx._registry import is_changed, missing_rule, rule_of
from npdl.onnx._shapes import out_shape, shapes_of, with_shapes
from npdl.onnx._values import Type, Value, output_type

__all__ = ["OPSET", "Graph", "Node"]

# In this opset, the axes and sizes of Squeeze, Unsqueeze, Split and ReduceSum became inputs, as in
# all later ones.
OPSET = 13


class Node(NamedTuple):
    """An operator of ONNX, with the names of its inputs and outputs."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Graph:
    """A builder of ONNX nodes; rules get it as their first argument.

    Parameters
    ----------
    params : tree
        The parameters of the model, whose paths are the names of its constants.
    opset : int
        The version of ONNX's operators.
    parent : Graph, optional
        The graph around the body of a loop.

    Examples
    --------
    >>> import npdl.functional as F
    >>> from npdl.onnx import Graph
    >>> model = F.serial(F.dense(2), F.silu())
    >>> params = model.init(0, (3,))
    >>> graph = Graph(params)
    >>> y = graph.apply(model, params, graph.input("x", (3,)))
    >>> for node in graph.nodes:
    ...     print(*node.outputs, node.op, *node.inputs)
    0/MatMul MatMul x 0/weight
    0/Add Add 0/MatMul 0/bias
    1/Max Max 0/Add constant
    1/Sigmoid Sigmoid 1/Max
    1/Mul Mul 1/Max 1/Sigmoid
    """

    def __init__(
        self, params: Params = (), opset: int = OPSET, parent: "Graph | None" = None
    ) -> None:
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.nodes: list[Node] = []
        self.opset = opset
        if parent is None:
            self.constants: dict[str, np.ndarray] = {}
            self._constant_names: dict[Any, str] = {}
            self._paths = {
                id(leaf): path for path, leaf in tree.items(params) if isinstance(leaf, np.ndarray)
            }
            self._names: set[str] = set()
            # The combinators around a new node, each with the label of its child.
            self._places: list[tuple[str, str]] = []
        else:
            # A body reads the values around it, and shares all names.
            for name in ("constants", "_constant_names", "_paths", "_names", "_places"):
                setattr(self, name, getattr(parent, name))

    def node(
        self, op: str, *inputs: Any, outputs: int = 1, dtype: Any = None, **attributes: Any
    ) -> Any:
        """Add a node, and return its output, or a tuple of several outputs.

        Parameters
        ----------
        op : str
            The operator, such as ``"MatMul"``.
        *inputs : Value, array, number, list of int, or None
            Its inputs; `None` is a missing optional input.
        outputs : int
            Number of its outputs.
        dtype : dtype, optional
            The data type of the outputs. By default, it is the type of the first input, or the type
            that the operator implies, such as booleans for ``"Less"``.
        **attributes
            The attributes of the operator; `None` for a missing one.
        """
        values = [None if each is None else self.constant(each) for each in inputs]
        given = [value.type for value in values if value is not None]
        kind = output_type(op, given) if dtype is None else Type(dtype)
        path = "/".join([*(label for _, label in self._places), op])
        names = tuple(self._unique(path) for _ in range(outputs))
        present = {name: value for name, value in attributes.items() if value is not None}
        inputs_by_name = tuple("" if value is None else value.name for value in values)
        self.nodes.append(Node(op, names[0], inputs_by_name, names, present))
        results = tuple(Value(self, name, None, kind) for name in names)
        return results[0] if outputs == 1 else results

    def constant(self, array: Any) -> Value:
        """Return an array as a value; a Python float is float32, an int int64.

        Equal constants are stored once. A parameter has its path as its name.
        """
        if isinstance(array, Value):
            return array
        path = self._paths.get(id(array))
        if isinstance(array, float):
            array = np.float32(array)
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes()) if path is None else path
        if key not in self._constant_names:
            name = self._constant_names[key] = self._unique(path or "constant")
            self.constants[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
        return Value(self, self._constant_names[key], None, Type(array.dtype))

    def cast(self, x: Value, dtype: Any) -> Any:
        """Return a value in a data type, such as ids in int64 and masks in bool.

        An input of the model without a data type gets this one. A value of another type is
        converted by a node.
        """
        x.type.settle(dtype)
        if x.dtype == np.dtype(dtype):
            return x
        return self.node("Cast", x, dtype=dtype, to=np.dtype(dtype))

    def reduce(self, op: str, x: Value, axes: Sequence[int], keepdims: bool = True) -> Any:
        """Reduce axes by an operator such as ``"ReduceMean"``."""
        axes = list(axes)
        if op == "ReduceSum" or self.opset >= 18:
            return self.node(op, x, axes, keepdims=int(keepdims))
        return self.node(op, x, axes=axes, keepdims=int(keepdims))

    def size(self, x: Value, axis: int) -> Any:
        """Return the size of an axis, such as 0 for the batch, at run time."""
        return self.node("Gather", self.node("Shape", x), axis)

    def input(self, name: str, shape: Shape | None = None, dtype: Any = None) -> Value:
        """Add an input to the graph."""
        value = Value(self, self._unique(name), shape, Type(dtype))
        self.inputs.append(value)
        return value

    def output(self, name: str, value: Value) -> None:
        """Add an output to the graph."""
        output = attrs.evolve(value, name=self._unique(name))
        # An output may be an input of the graph, or another output.
        self.nodes.append(Node("Identity", output.name, (value.name,), (output.name,), {}))
        self.outputs.append(output)

    def body(self) -> "Graph":
        """Return a graph for the body of a loop, an attribute of a node such as ``"Scan"``."""
        return Graph(opset=self.opset, parent=self)

    def apply(self, layer: Layer, params: Params, x: Any) -> Any:
        """Add the nodes of a layer; its children are the declared parts of a combinator.

        Parameters
        ----------
        layer : Layer
            The layer.
        params : tree
            Its parameters.
        x : Value or tuple
            Its inputs.

        Returns
        -------
        Value or tuple
            Its outputs.

        Raises
        ------
        NotImplementedError
            If a layer has neither a rule nor parts.
        """
        known = rule_of(layer)
        if known is not None:
            function, arguments = known
            inputs = x if isinstance(x, tuple) else (x,)
            try:
                y = function(self, params, *inputs, **arguments)
            except Exception as error:
                error.add_note(f"in the ONNX rule of {short(layer)}")
                raise
            return with_shapes(y, out_shape(layer, shapes_of(x)), layer)
        if layer.parts is None or is_changed(layer):
            raise missing_rule(layer, self._places)
        parts, values = layer.parts.of(x)
        call = first_call(layer)
        name = parts.name or (call.name if call else "Layer")
        for part in parts.nodes:
            self._places.append((name, part.label or part.written[0]))
            y = self.apply(part.layer, at(params, part.path), found(values, part.sources))
            self._places.pop()
            values |= bound(name, part.names, y)
        return found(values, parts.outputs)

    def _unique(self, name: str) -> str:
        free, number = name, 0
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free
