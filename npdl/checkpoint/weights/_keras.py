"""Weights of Keras: the names and the layouts of its layers, in terms of npdl's parameters.

The table `_LAYERS` maps each layer of npdl to the names and layouts of its parameters in Keras, in
the order of Keras. It serves both directions. A missing parameter, such as a bias, is `None`.

Keras has the channels of images and of sequences last. For a convolution, only the layout of the
weights differs. After a `flatten`, however, the features are in another order.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from npdl.checkpoint.weights._leaves import UNKNOWN, Channels, Leaf
from npdl.checkpoint.weights._load import load_foreign
from npdl.checkpoint.weights._rules import (
    Given,
    Named,
    Rule,
    Rules,
    Weights,
    gates,
    projections,
    transposed,
    under,
    weights_of,
)
from npdl.checkpoint.weights._units import Names
from npdl.checkpoint.weights._write import foreign_arrays
from npdl.functional._layer import Layer, Params
from npdl.tree import Array

__all__ = ["from_keras", "to_keras"]


def from_keras(
    source: str | os.PathLike[str] | Mapping[str, Any],
    model: Layer,
    like: Params,
    names: Names | None = None,
    flattened: Mapping[str, int] | None = None,
    *,
    partial: bool = False,
) -> Params:
    """Return the parameters of a model with the weights of a Keras model of the same layers.

    Layers are matched by the names and shapes of their arrays. Layers with equal names and shapes
    are matched in order. For files with sorted names, see :func:`from_torch`.

    Images are (channels, height, width) here and (height, width, channels) in Keras: pass
    ``x.transpose(0, 3, 1, 2)``. The rows of a weight after a ``flatten`` are reordered to match.

    Parameters
    ----------
    source : str, PathLike or mapping
        A mapping such as ``{weight.path: weight.numpy() for weight in keras_model.weights}``, an
        ``.npz`` or ``.safetensors`` file of it, or the arrays of a ``.weights.h5`` by their paths,
        as in ``"layers/dense/vars/0"``.
    model : Layer
        The model, built from layers of npdl. Layers with weights may be ``dense``, ``conv1d``,
        ``conv2d``, ``conv2d_transpose``, ``batch_norm``, ``layer_norm``, ``group_norm``,
        ``rms_norm``, ``embedding``, ``learned_positions``, ``rnn``, ``lstm``, ``gru``,
        ``bidirectional`` and ``multi_head_attention``, in combinators and in the blocks of
        transformers. The default ``epsilon`` of norms in Keras is 0.001.
    like : tree
        The model's parameters, such as a fresh ``model.init(rng, shape)``. Only their structure,
        shapes and data type are read, not their values.
    names : mapping, optional
        Paths in the parameters and paths in Keras, of layers, combinators or arrays, as in
        :func:`from_torch`: ``{"words": "sequential/embedding"}``.
    flattened : mapping, optional
        For a layer after a `flatten`: its path, and the number of flattened channels, or 1 if the
        features are in the order of Keras. Needed only if the model does not determine it.
    partial : bool
        Whether the source may have more arrays than the model, which are ignored.

    Returns
    -------
    tree
        A tree of new arrays with the structure of `like`. Running statistics count as initialized.

    Raises
    ------
    CheckpointError
        If an array is missing, unexpected, of another shape or of another type, or if the order is
        ambiguous. The error lists all such arrays, with both names.
    ValueError
        If a layer has no counterpart; if `like`, `names` or `flattened` do not belong to the model;
        or if `flattened` is needed.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl import checkpoint
    >>> weights = {
    ...     "dense/kernel": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
    ...     "dense/bias": np.array([7, 8, 9], np.float32),
    ... }
    >>> model = F.serial(F.dense(3), F.relu())
    >>> params = checkpoint.from_keras(weights, model, like=model.init(0, (2,)))
    >>> params[0]["bias"]
    array([7., 8., 9.], dtype=float32)
    """
    return load_foreign(source, model, like, _RULES, names, flattened, partial)


def to_keras(
    params: Params,
    model: Layer,
    names: Names | None = None,
    flattened: Mapping[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """Return the weights of a model under the names and in the layouts of Keras.

    The inverse of :func:`from_keras`. The arrays are in the order of ``keras_model.weights`` for a
    model of the same layers in the same order.

    Parameters
    ----------
    params : tree
        The model's parameters.
    model : Layer
        The model, built from the layers of :func:`from_keras`.
    names, flattened : mapping, optional
        As in :func:`from_keras`. By default, the name of a layer is its path.

    Returns
    -------
    dict
        Names and new arrays of the types of `params`.

    Raises
    ------
    ValueError
        If a layer has no counterpart, if `params`, `names` or `flattened` do not belong to the
        model, or if `flattened` is needed.

    Examples
    --------
    >>> import npdl.functional as F
    >>> from npdl import checkpoint
    >>> model = F.serial(F.conv2d(4, 3), F.flatten(), F.dense(2))
    >>> params = model.init(0, (1, 5, 5))
    >>> arrays = checkpoint.to_keras(params, model)
    >>> {name: array.shape for name, array in arrays.items()}
    {'0/kernel': (3, 3, 1, 4), '0/bias': (4,), '2/kernel': (36, 2), '2/bias': (2,)}

    With Keras::

        keras_model.set_weights(list(arrays.values()))
    """
    return foreign_arrays(params, model, _RULES, names, flattened)


def _dense(p: Named, given: Given) -> Weights:
    return {"kernel": p["weight"], "bias": p["bias"]}


def _gru(p: Named, given: Given) -> Weights:
    weights = _LAYERS["rnn"](gates(p, "rzn", "zrn"), given)
    if p["recurrent_bias"] is not None:
        both = gates(p, "rzn", "zrn")
        weights["bias"] = np.stack([both["bias"], both["recurrent_bias"]])
    return weights


def _bidirectional(p: tuple[Named, Named], given: Given) -> Weights:
    forward, backward = (weights_of(given["inner"], part, _LAYERS) for part in p)
    return under("forward/", forward) | under("backward/", backward)


def _attention(p: Named, given: Given) -> Weights:
    heads = given["heads"]

    def by_head(array: Array | None, axis: int, count: int = heads) -> Array | None:
        if array is None:
            return None
        split = (count, array.shape[axis] // count)
        return array.reshape(*array.shape[:axis], *split, *array.shape[axis + 1 :])

    weights: Weights = {}
    pairs = zip(projections(p, "weight"), projections(p, "bias"), strict=True)
    for part, (weight, bias) in zip(("query", "key", "value"), pairs, strict=True):
        count = heads if part == "query" else given["kv_heads"] or heads
        weights[f"{part}/kernel"] = by_head(weight, 1, count)
        weights[f"{part}/bias"] = by_head(bias, 0, count)
    weights["attention_output/kernel"] = by_head(p["output_weight"], 0)
    weights["attention_output/bias"] = p["output_bias"]
    return weights


_LAYERS: dict[str, Rule] = {
    "dense": _dense,
    "dense_like": _dense,
    "conv1d": lambda p, given: {"kernel": transposed(p["weight"], 2, 1, 0), "bias": p["bias"]},
    "conv2d": lambda p, given: {"kernel": transposed(p["weight"], 2, 3, 1, 0), "bias": p["bias"]},
    "conv2d_transpose": lambda p, given: {
        "kernel": transposed(p["weight"], 2, 3, 1, 0),
        "bias": p["bias"],
    },
    "batch_norm": lambda p, given: {
        "gamma": p["scale"],
        "beta": p["shift"],
        "moving_mean": p["mean"],
        "moving_variance": p["variance"],
    },
    "layer_norm": lambda p, given: {"gamma": p["scale"], "beta": p["shift"]},
    "group_norm": lambda p, given: {"gamma": p["scale"], "beta": p["shift"]},
    "rms_norm": lambda p, given: {"scale": p["scale"]},
    "embedding": lambda p, given: {"embeddings": p["table"]},
    "learned_positions": lambda p, given: {"embeddings": p["table"]},
    "rnn": lambda p, given: {
        "kernel": p["weight"],
        "recurrent_kernel": p["recurrent_weight"],
        "bias": p["bias"],
    },
    "lstm": lambda p, given: _LAYERS["rnn"](gates(p, "gifo", "ifgo"), given),
    "gru": _gru,
    "bidirectional": _bidirectional,
    "multi_head_attention": _attention,
}


def _canonical(name: str) -> str | None:
    """Return a name without the names of cells, or `None` for an array that is not a weight."""
    if name.startswith("optimizer/") or re.search(r"(^|/)seed_generator[^/]*/", name):
        return None
    for pattern, short in (
        (r"\b(forward|backward)_[^/]+/(?:\w+_)?cell/", r"\1/"),
        (r"\b(?:(?:lstm|gru|simple_rnn)_)?cell/", ""),
        (r"\b(query|key|value)_dense/vars/", r"\1/vars/"),
        (r"\boutput_dense/vars/", "attention_output/vars/"),
    ):
        name = re.sub(pattern, short, name)
    return name


def _spellings(names: list[str]) -> list[list[str]]:
    """Return the names, and the names in an h5 file, which numbers the arrays of a layer."""
    numbered, counts = [], dict.fromkeys(names, 0)
    for name in names:
        folder = name[: name.rfind("/") + 1]
        number = counts[folder] = counts.get(folder, -1) + 1
        numbered.append(f"{folder}vars/{number}")
    return [names, numbered]


_CONVOLUTIONS = ("conv1d", "conv2d", "conv2d_transpose")
# Layers that may follow a flatten, and layers with one parameter per channel.
_BY_FEATURE = ("dense", "dense_like", "batch_norm", "layer_norm", "rms_norm")
_BY_CHANNEL = (*_CONVOLUTIONS, "batch_norm", "group_norm")


def _follow(layer: Layer, given: Given, before: Channels | None) -> Channels | None:
    """Return the channel layout of a layer's output."""
    name = "" if layer.call is None else layer.call.name
    if name in _CONVOLUTIONS:
        return Channels(given["filters"], False)
    moved = name == "transpose" and given["axes"] in ((0, 2, 1), (0, 2, 3, 1))
    if before is None or name in ("dense", "dense_like", "global_avg_pool", "global_max_pool"):
        return None
    if moved and not before.flat:
        return None
    if name == "flatten" and given["axes"] == 1:
        return attrs.evolve(before, flat=True)
    return before if layer.keeps_axes else UNKNOWN


def _rearranged(leaf: Leaf, channels: Channels) -> Params:
    """Return the parameters with the features in the order of Keras."""
    count, flat = channels.count, channels.flat
    if (flat and count == 1) or (not flat and count and leaf.name in _BY_CHANNEL):
        return leaf.params
    if not (flat and count and leaf.name in _BY_FEATURE):
        raise ValueError(
            "Keras has channels last, and the order of the features at this layer is not known: "
            "after convolutions, use flatten(), a global pooling or transpose((0, 2, 3, 1)), or "
            "(0, 2, 1) for sequences; or pass the number of flattened channels, or 1 for the order "
            f"of Keras, as in flattened={{{leaf.path!r}: {count or 64}}}"
        )

    def last(array: Array) -> Array:
        if len(array) % count:
            raise ValueError(f"{count} channels do not divide the {len(array)} features")
        return array.reshape(count, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)

    fixed = ("bias", "count")
    return {key: part if key in fixed else last(part) for key, part in leaf.params.items()}


_RULES = Rules(
    library="Keras",
    separator="/",
    layers=_LAYERS,
    canonical=_canonical,
    zero_biases=frozenset({"rnn", "lstm", "gru", "bidirectional"}),
    spellings=_spellings,
    follow=_follow,
    rearranged=_rearranged,
)
