"""The export of a model: checks, names of inputs and outputs, and the file."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from npdl import tree
from npdl._calls import shown
from npdl.checkpoint._files.disk import replace_file
from npdl.functional._arrays import check_array, check_example, is_several
from npdl.functional._checks import is_int, refusal
from npdl.functional._layer import Layer, Params, Shape
from npdl.functional.combinators._parts import Names, flat
from npdl.onnx._graph import OPSET, Graph
from npdl.onnx._protobuf import serialized
from npdl.onnx._shapes import with_sizes
from npdl.onnx._values import Value

__all__ = ["save"]

# A protobuf message is smaller than 2 GiB; the rest is for the nodes.
LARGEST = 2**31 - 2**24


def save(
    path: str | os.PathLike[str], model: Layer, params: Params, shape: Shape, *, opset: int = OPSET
) -> None:
    """Write a model to an ONNX file, in evaluation mode; an existing file is replaced atomically.

    The batch may have any size, and so may an axis whose size is `None` in `shape`. The inputs have
    the order of ``model.apply``: floats are float32, ids int64 and masks bool. Inputs and outputs
    of a :func:`npdl.functional.graph` have its names; others are ``input`` and ``output``, with
    numbers if there are several. The constants are named by the paths of the parameters.

    Parameters
    ----------
    path : str or PathLike
        The file, such as ``"model.onnx"``.
    model : Layer
        The model. Each layer inside needs a :func:`rule`; the layers of npdl have one,
        except :func:`npdl.functional.from_function`.
    params : tree
        Its parameters, in float32.
    shape : tuple
        The shape of one example, as in ``model.init``, without the batch. A tuple of shapes for
        several inputs, with `None` for a missing optional input.
    opset : int
        The version of ONNX's operators, at least 13. Rules of your own may need a later one.

    Raises
    ------
    NotImplementedError
        If a layer has no rule. The message has its position in the model, and a rule to start from.
    TypeError
        If parameters are not float32.
    ValueError
        If the parameters take 2 GiB or more, or `opset` is too old or unknown.
    Exception
        An error of ``model.apply``, if the model does not accept an example of this shape with
        these parameters. Then no file is written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import npdl.functional as F
    >>> from npdl import onnx
    >>> model = F.serial(F.dense(8), F.relu(), F.dense(3))
    >>> params = model.init(0, (4,))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = Path(directory, "model.onnx")
    ...     onnx.save(path, model, params, (4,))
    ...     path.stat().st_size > 300
    True
    """
    _check(model, params, shape, opset)
    graph = Graph(params, opset)
    x = _inputs(graph, _input_names(model, shape), shape)
    try:
        y = graph.apply(model, params, x)
    except NotImplementedError:
        raise
    except Exception:
        _try(model, params, shape, graph)  # the error of the layer, rather than of its rule
        raise
    computed = tree.leaves(_try(model, params, shape, graph))
    named = list(_named(_output_names(model, shape), y))
    if len(named) != len(computed):
        raise ValueError(
            f"npdl.onnx.save: the model has {len(computed)} outputs, but its rules return "
            f"{len(named)}: {', '.join(name for name, _ in named)}"
        )
    for (name, value), array in zip(named, computed, strict=True):
        unknown = (None,) * (array.ndim - 1)
        graph.output(name, attrs.evolve(value, shape=value.shape or unknown))
    data = serialized(graph)
    replace_file(
        Path(path).resolve(),
        lambda file: _write(file, data),
        lambda written: _check_written(written, data),
    )


def _check(model: Any, params: Params, shape: Any, opset: Any) -> None:
    if not isinstance(model, Layer):
        raise TypeError(
            f"npdl.onnx.save: expected a layer, got {shown(model)}; a Model has the method "
            f"model.export_onnx(path)"
        )
    _check_shape(shape)
    try:
        import onnx
    except ImportError as error:
        raise ImportError("npdl.onnx needs onnx: pip install 'npdl-functional[onnx]'") from error
    newest = onnx.defs.onnx_opset_version()
    if not is_int(opset) or not OPSET <= opset <= newest:
        expected = f"an int from {OPSET} to {newest}, the newest of onnx {onnx.__version__}"
        raise ValueError(refusal(opset, f"npdl.onnx.save(…, opset={OPSET})", expected))
    size = 0
    for name, leaf in tree.items(params):
        if isinstance(leaf, np.ndarray):
            check_array(leaf, f"npdl.onnx.save, params {name}")
        array = np.asarray(leaf)
        size += array.nbytes
        if array.dtype.kind == "f" and array.dtype.itemsize != 4:
            raise TypeError(
                f"npdl.onnx.save: expected params of float32, but {name} is {array.dtype}; convert "
                f"them with npdl.tree.astype(params, np.float32)"
            )
    if size > LARGEST:
        raise ValueError(
            f"npdl.onnx.save: the parameters take {size / 2**30:.1f} GiB, and an ONNX file is "
            f"smaller than 2 GiB"
        )


def _check_shape(shape: Any) -> None:
    if not is_several(shape):
        check_example("npdl.onnx.save", shape, "such as (64,), or (None, 64) for any time", known=0)
        return
    for each in shape:
        if each is not None:
            _check_shape(each)


def _try(model: Layer, params: Params, shape: Shape, graph: Graph) -> Any:
    """Return the outputs for one example; wrong parameters raise the usual errors."""
    first: Exception | None = None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for size in (8, 64, 1, 512):  # a dynamic axis may have a limit
            dtypes = iter([value.dtype for value in graph.inputs])
            try:
                return model(params, _example(with_sizes(shape, size), dtypes))
            except Exception as error:
                first = first or error
    assert first is not None
    raise first


def _example(shape: Any, dtypes: Iterator[Any]) -> Any:
    if shape is None:
        return None
    if is_several(shape):
        return tuple(_example(each, dtypes) for each in shape)
    dtype = next(dtypes)
    return np.full((1, *shape), dtype.kind == "b", dtype)


# Names


def _input_names(layer: Layer, shape: Shape) -> Names:
    """Return the names of a model's inputs, from the innermost combinator that names them."""
    if layer.parts is None:
        return "input"
    parts, _ = layer.parts.of_shape(shape)
    if isinstance(parts.inputs, str) and is_several(shape):
        for node in parts.nodes:
            if node.sources == parts.inputs:
                return _input_names(node.layer, shape)
    return parts.inputs


def _output_names(layer: Layer, shape: Shape) -> Names:
    """Return the names of a model's outputs; outputs of numbered children have no names."""
    if layer.parts is None:
        return "output"
    parts, _ = layer.parts.of_shape(shape)
    named = {name for node in parts.nodes if node.path for name in node.written}
    named |= {*flat(parts.inputs)} - {"input"}

    def visible(names: Names) -> Names:
        if isinstance(names, tuple):
            return tuple(map(visible, names))
        return names if names in named and not names.isdecimal() else "output"

    return visible(parts.outputs)


def _inputs(graph: Graph, names: Names, shape: Any) -> Any:
    """Add the inputs of the model; the value of a missing one is `None`."""
    if shape is None:
        return None
    if not is_several(shape):
        return graph.input(names.lstrip("*"), tuple(shape))
    names = _numbered(names, len(shape))
    return tuple(_inputs(graph, *pair) for pair in zip(names, shape, strict=True))


def _named(names: Names, y: Any) -> Iterator[tuple[str, Value]]:
    """Yield the outputs with their names."""
    if isinstance(y, tuple):
        for each, value in zip(_numbered(names, len(y)), y, strict=True):
            yield from _named(each, value)
    elif y is not None:
        yield names, y


def _numbered(names: Names, count: int) -> Names:
    """Return the names of several values, with numbers if they have none."""
    if isinstance(names, tuple) and {*names} != {"output"}:
        return names
    name = names if isinstance(names, str) else "output"
    return tuple(f"{name}_{i}" for i in range(count))


def _write(file: Any, data: bytes) -> None:
    file.write(data)


def _check_written(path: Path, data: bytes) -> None:
    if path.read_bytes() != data:
        raise OSError("the file read back differs from the data written; is the disk broken?")
