"""ResNet, a convolutional network of residual blocks."""

from typing import Any

import npdl.functional as F
from npdl.functional._checks import check_flag, check_int, refusal
from npdl.functional._layer import Layer

__all__ = ["resnet"]


def resnet(
    blocks: tuple[int, ...] = (2, 2, 2, 2),
    *,
    bottleneck: bool = False,
    filters: int = 64,
    classes: int = 1000,
) -> Layer:
    """Residual network, with the names of torchvision's arrays.

    ``y = relu(f(x) + s(x))`` is a block: f has two convolutions, or three in a bottleneck. The
    shortcut s is the identity, or a convolution where the shape changes.

    Parameters
    ----------
    blocks : tuple of ints
        The number of blocks at each resolution: (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) ResNet-34,
        or ResNet-50 with bottlenecks.
    bottleneck : bool
        Whether a block is 1×1, 3×3 and 1×1, the last one with four times as many filters.
    filters : int
        The number of filters at the first resolution; it doubles at each further one.
    classes : int
        The number of scores.

    Returns
    -------
    Layer
        From images (batch, channels, height, width) to scores (batch, classes).

    Raises
    ------
    ValueError
        If `blocks` is not a tuple of positive ints.

    References
    ----------
    He, Zhang, Ren, Sun: Deep residual learning for image recognition, 2015, table 1. The stride is
    in the 3×3 convolution, as in torchvision.

    Examples
    --------
    ``checkpoint.from_torch(state_dict, model, params)`` reads the weights of torchvision.

    >>> from npdl import models
    >>> model = models.resnet((1, 1), filters=8, classes=10)
    >>> model.out_shape((3, 32, 32))
    (10,)
    """
    call = "resnet(blocks=(2, 2, 2, 2))"
    if not isinstance(blocks, tuple | list) or not blocks:
        raise ValueError(refusal(blocks, call, "a tuple of positive ints"))
    counts = [check_int(count, call) for count in blocks]
    bottleneck = check_flag(bottleneck, "resnet((3, 4, 6, 3), bottleneck=True)")
    filters = check_int(filters, "resnet(blocks, filters=64)")
    nodes: dict[Any, Any] = {
        "conv1": (F.conv2d(filters, 7, stride=2, padding=3, bias=False), "images"),
        "bn1": (_norm(), "conv1"),
        # After ReLU, zeros are as good as the -inf of a padded maximum.
        "maxpool": (F.serial(F.relu(), F.pad(((1, 1), (1, 1))), F.max_pool2d(3, stride=2)), "bn1"),
    }
    width, last = filters, "maxpool"
    for i, count in enumerate(counts):
        parts = []
        for j in range(count):
            stride = 2 if i and not j else 1
            wide = filters * 2**i * (4 if bottleneck else 1)
            parts.append(
                _block(filters * 2**i, wide, stride, bottleneck, stride > 1 or wide != width)
            )
            width = wide
        nodes[f"layer{i + 1}"] = F.serial(*parts), last
        last = f"layer{i + 1}"
    nodes["avgpool"] = F.global_avg_pool(), last
    nodes["fc"] = F.dense(check_int(classes, "resnet(blocks, classes=10)")), "avgpool"
    return F.graph("images", nodes, "fc")


def _block(filters: int, wide: int, stride: int, bottleneck: bool, projects: bool) -> Layer:
    """Return a residual block; the shortcut has a convolution if it projects."""
    sizes = ((1, filters), (3, filters), (1, wide)) if bottleneck else ((3, filters), (3, wide))
    strided = 1 if bottleneck else 0
    nodes: dict[Any, Any] = {}
    last = "x"
    for i, (size, count) in enumerate(sizes):
        if i:
            nodes[f"relu{i}"] = F.relu(), last
            last = f"relu{i}"
        step = stride if i == strided else 1
        convolution = F.conv2d(count, size, stride=step, padding=size // 2, bias=False)
        nodes[f"conv{i + 1}"] = convolution, last
        nodes[f"bn{i + 1}"] = _norm(), f"conv{i + 1}"
        last = f"bn{i + 1}"
    shortcut = "x"
    if projects:
        shortcut = "downsample"
        projection = F.conv2d(wide, 1, stride=stride, bias=False)
        nodes[shortcut] = F.serial(projection, _norm()), "x"
    nodes["sum"] = F.add(), (last, shortcut)
    nodes["relu"] = F.relu(), "sum"
    return F.graph("x", nodes, "relu")


def _norm() -> Layer:
    return F.batch_norm(epsilon=1e-5)
