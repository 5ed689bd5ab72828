"""ViT, a transformer of images."""

from collections.abc import Mapping
from typing import Any

import npdl.functional as F
from npdl.functional._layer import Layer
from npdl.models._config import Config, Names

__all__ = ["vit", "vit_names"]


def vit(config: Mapping[str, Any], *, pooler: bool = True, dropout: float = 0.0) -> Layer:
    """Vision transformer, as ``ViTModel``; its tokens are square patches of an image.

    Parameters
    ----------
    config : dict
        The contents of ``config.json``.
    pooler : bool
        Whether the second output is a dense layer with an activation of the class token's output.
    dropout : float
        The dropped fraction in the blocks in training; entries of the configuration do not count.

    Returns
    -------
    Layer
        From images (batch, channels, height, width) to ``(y, pooled)``, of the shapes
        (batch, 1 + patches, features) and (batch, features); or to y without the pooler.

    Raises
    ------
    ValueError
        If an entry of the configuration is wrong, or has a value that npdl does not compute.

    References
    ----------
    Dosovitskiy et al.: An image is worth 16x16 words, 2020, equations 1 to 4.

    Examples
    --------
    >>> from npdl import models
    >>> config = {"image_size": 12, "patch_size": 4, "hidden_size": 8, "intermediate_size": 20}
    >>> config |= {"num_hidden_layers": 2, "num_attention_heads": 4}
    >>> models.vit(config).out_shape((3, 12, 12))
    ((10, 8), (8,))
    """
    given = Config("vit", config)
    given.require(qkv_bias=True)
    features, patch = given.size("hidden_size", 768), given.size("patch_size", 16)
    side, rest = divmod(given.size("image_size", 224), patch)
    if rest:
        raise given.refusal("patch_size", patch, "a divisor of image_size")
    norm = F.layer_norm(epsilon=given.number("layer_norm_eps", 1e-12))
    block = F.transformer_encoder_block(
        given.size("num_attention_heads", 12),
        given.size("intermediate_size", 3072),
        activation=given.activation("hidden_act", "gelu"),
        norm=norm,
        dropout=dropout,
    )
    patches = (
        F.conv2d(features, patch, stride=patch),
        F.reshape((features, side * side)),
        F.transpose((0, 2, 1)),
    )
    nodes: dict[Any, Any] = {
        "patches": (F.serial(*patches), "images"),
        "class": (F.class_token(), "patches"),
        "positions": (F.learned_positions(side * side + 1), "class"),
        "blocks": (F.serial(*[block] * given.size("num_hidden_layers", 12)), "positions"),
        "norm": (norm, "blocks"),
    }
    if not pooler:
        return F.graph("images", nodes, "norm")
    units = given.size("pooler_output_size", features)
    activation = given.activation("pooler_act", "tanh")
    nodes["pooled"] = (F.serial(F.first_step(), F.dense(units), activation), "norm")
    return F.graph("images", nodes, ("norm", "pooled"))


def vit_names(prefix: str, config: Mapping[str, Any], pooler: bool) -> Names:
    """Return the names of the arrays; class token and positions have further axes in the file."""
    names: Names = {
        "patches/0": f"{prefix}embeddings.patch_embeddings.projection",
        "class/token": f"{prefix}embeddings.cls_token",
        "positions/table": f"{prefix}embeddings.position_embeddings",
        "norm": f"{prefix}layernorm",
    }
    if pooler:
        names["pooled/1"] = f"{prefix}pooler.dense"
    for i in range(Config("vit", config).size("num_hidden_layers", 12)):
        ours, theirs = f"blocks/{i}", f"{prefix}encoder.layer.{i}"
        for kind in ("weight", "bias"):
            names[f"{ours}/attention/{kind}"] = tuple(
                f"{theirs}.attention.attention.{part}.{kind}" for part in ("query", "key", "value")
            )
            names[f"{ours}/attention/output_{kind}"] = f"{theirs}.attention.output.dense.{kind}"
        names |= {
            f"{ours}/attention_norm": f"{theirs}.layernorm_before",
            f"{ours}/feed_forward/0": f"{theirs}.intermediate.dense",
            f"{ours}/feed_forward/3": f"{theirs}.output.dense",
            f"{ours}/feed_forward_norm": f"{theirs}.layernorm_after",
        }
    return names
