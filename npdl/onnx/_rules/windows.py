"""Fully connected layers, convolution and pooling; the weights have ONNX's layout."""

from typing import Any

import numpy as np

import npdl.functional as F
from npdl.functional._checks import check_pair
from npdl.functional._images import make_window
from npdl.functional.combinators._feed_forward import dense_like
from npdl.onnx._graph import Graph
from npdl.onnx._registry import rule
from npdl.onnx._values import Value


@rule(F.dense)
@rule(dense_like)
def dense(graph: Graph, params: Any, x: Value, *like: Value, **arguments: Any) -> Any:
    y = x @ params["weight"]
    return y + params["bias"] if "bias" in params else y


@rule(F.conv1d)
@rule(F.conv2d)
def convolution(
    graph: Graph,
    params: Any,
    x: Value,
    *,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    **arguments: Any,
) -> Any:
    window = _window(x, kernel_size, stride, padding, dilation)
    return graph.node("Conv", x, params["weight"], params.get("bias"), group=groups, **window)


@rule(F.conv2d_transpose)
def transposed_convolution(
    graph: Graph,
    params: Any,
    x: Value,
    *,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
    groups: int,
    **arguments: Any,
) -> Any:
    window = make_window("npdl.onnx", 2, kernel_size, stride, padding, dilation)
    before, after = zip(*window.pads(*window.stride), strict=True)
    extra = check_pair(output_padding, "conv2d_transpose(…, output_padding=1)", least=0)
    if padding == "same":  # the output size is size · stride
        (down, right), (height, width) = window.stride, window.reach
        extra = max(down - height, 0), max(right - width, 0)
    return graph.node(
        "ConvTranspose",
        x,
        params["weight"],
        params.get("bias"),
        kernel_shape=window.size,
        strides=window.stride,
        dilations=window.dilation,
        pads=before + after,
        output_padding=extra,
        group=groups,
    )


@rule(F.pad)
def pad(graph: Graph, params: Any, x: Value, *, padding: Any, mode: str, value: float) -> Any:
    pairs = [padding] if isinstance(padding[0], int) else padding
    rest = [0] * (1 + len(x.shape) - len(pairs))
    before, after = zip(*pairs, strict=True)
    constant = [value] if mode == "constant" else []
    return graph.node("Pad", x, [*rest, *before, *rest, *after], *constant, mode=mode)


@rule(F.upsample2d)
def upsample2d(graph: Graph, params: Any, x: Value, *, factor: Any, mode: str) -> Any:
    scales = np.array([1, 1, *((factor,) * 2 if isinstance(factor, int) else factor)], np.float32)
    nearest = mode == "nearest"
    return graph.node(
        "Resize", x, None, scales, mode="nearest" if nearest else "linear",
        coordinate_transformation_mode="asymmetric" if nearest else "half_pixel",
        nearest_mode="floor" if nearest else None,
    )  # fmt: skip


@rule(F.pixel_shuffle)
def pixel_shuffle(graph: Graph, params: Any, x: Value, *, factor: int) -> Any:
    return graph.node("DepthToSpace", x, blocksize=factor, mode="CRD")


@rule(F.max_pool1d)
@rule(F.max_pool2d)
def max_pool(graph: Graph, params: Any, x: Value, *, size: Any, stride: Any, padding: Any) -> Any:
    return graph.node("MaxPool", x, **_window(x, size, stride or size, padding))


@rule(F.avg_pool1d)
@rule(F.avg_pool2d)
def avg_pool(
    graph: Graph,
    params: Any,
    x: Value,
    *,
    size: Any,
    stride: Any,
    padding: Any,
    count_padding: bool,
) -> Any:
    window = _window(x, size, stride or size, padding)
    return graph.node("AveragePool", x, count_include_pad=int(count_padding), **window)


@rule(F.global_max_pool)
def global_max_pool(graph: Graph, params: Any, x: Value) -> Any:
    return graph.reduce("ReduceMax", x, range(2, 1 + len(x.shape)), keepdims=False)


@rule(F.global_avg_pool)
def global_avg_pool(graph: Graph, params: Any, x: Value) -> Any:
    return graph.reduce("ReduceMean", x, range(2, 1 + len(x.shape)), keepdims=False)


def _window(x: Value, size: Any, stride: Any, padding: Any, dilation: Any = None) -> dict[str, Any]:
    """Return the attributes of an operator with a window; pooling has no dilation."""
    image = x.shape[1:]
    axes = len(image)
    window = make_window("npdl.onnx", axes, size, stride, padding, dilation or 1)
    options = {"kernel_shape": window.size[-axes:], "strides": window.stride[-axes:]}
    if dilation is not None:
        options["dilations"] = window.dilation[-axes:]
    if padding == "same" and None in image and window.stride != (1, 1):
        # The padding depends on the size. onnxruntime then allows no dilation.
        return options | {"auto_pad": "SAME_UPPER"}
    height, width = (1 if length is None else length for length in (1, *image)[-2:])
    before, after = zip(*window.pads(height, width)[-axes:], strict=True)
    return options | {"pads": before + after}
