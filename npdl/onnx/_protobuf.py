"""The graph of a model as ONNX's protobuf."""

from typing import Any

import numpy as np

from npdl._version import __version__
from npdl.onnx._graph import Graph
from npdl.onnx._values import Value

__all__ = ["serialized"]


def serialized(graph: Graph) -> bytes:
    """Return the model as bytes, after ONNX's own check."""
    import onnx
    from onnx import helper

    opsets = [helper.make_opsetid("", graph.opset)]
    model = helper.make_model(
        _graph(graph, "npdl"),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="npdl",
        producer_version=__version__,
    )
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        error.add_note(f"npdl.onnx.save: opset {graph.opset} does not allow a node of some rule")
        raise
    return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _graph(graph: Graph, name: str, *, is_body: bool = False) -> Any:
    from onnx import helper, numpy_helper

    nodes = []
    for node in graph.nodes:
        attributes = {key: _attribute(node.name, value) for key, value in node.attributes.items()}
        nodes.append(helper.make_node(node.op, node.inputs, node.outputs, node.name, **attributes))
    constants = {} if is_body else graph.constants
    return helper.make_graph(
        nodes,
        name,
        [_info(value, is_body) for value in graph.inputs],
        [_info(value, is_body) for value in graph.outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )


def _attribute(name: str, value: Any) -> Any:
    from onnx import helper

    if isinstance(value, Graph):
        return _graph(value, name, is_body=True)
    return helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value


def _info(value: Value, is_body: bool) -> Any:
    """Return type and shape of an input or output; each dynamic size has its own name."""
    from onnx import helper

    sizes: Any = None
    if value.shape is not None:
        sizes = [None if is_body else "batch"]
        for axis, size in enumerate(value.shape, start=1):
            sizes.append(f"{value.name}_axis{axis}" if size is None else int(size))
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(value.name, kind, sizes)
