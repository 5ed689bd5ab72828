"""Weights of PyTorch: the names and the layouts of its layers, in terms of npdl's parameters.

The table `_LAYERS` maps each layer of npdl to the names and layouts of its parameters in PyTorch,
in both directions. A missing parameter, such as a bias, is `None`.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from npdl.checkpoint.weights._leaves import constructor_of
from npdl.checkpoint.weights._load import load_foreign
from npdl.checkpoint.weights._rules import (
    Given,
    Named,
    Rule,
    Rules,
    Weights,
    gates,
    joined,
    projections,
    transposed,
    under,
    weights_of,
)
from npdl.checkpoint.weights._units import Names
from npdl.checkpoint.weights._write import foreign_arrays
from npdl.functional._layer import Layer, Params

__all__ = ["from_torch", "to_torch"]


def from_torch(
    source: str | os.PathLike[str] | Mapping[str, Any],
    model: Layer,
    like: Params,
    names: Names | None = None,
    *,
    partial: bool = False,
) -> Params:
    """Return the parameters of a model with the weights of a PyTorch module of the same layers.

    Modules and layers are matched by the names and shapes of their arrays. Modules with equal names
    and shapes are matched in order: the order of layers in the model, and the order in which the
    PyTorch module registers its submodules. Files of safetensors are sorted by name; there, numbers
    in the names, as in ``layers.2`` and ``layers.10``, determine the order. If only words
    distinguish the names, `names` is needed. Float16 and bfloat16 get the type of `like`.

    Parameters
    ----------
    source : str, PathLike or mapping
        A ``module.state_dict()``, its ``.safetensors`` or ``.npz`` file, or any other mapping of
        names to arrays. For several files: their ``.safetensors.index.json``, or its folder.
        Pickled files are not read, since they can execute any code.
    model : Layer
        The model, built from layers of npdl. Layers with weights may be ``dense``, ``conv1d``,
        ``conv2d``, ``conv2d_transpose``, ``batch_norm``, ``layer_norm``, ``group_norm``,
        ``rms_norm``, ``embedding``, ``unembedding``, ``class_token``, ``learned_positions``,
        ``rnn``, ``lstm``, ``gru``, ``bidirectional``, ``multi_head_attention`` and the blocks of
        transformers, in combinators. A recurrent module of PyTorch with several layers corresponds
        to several layers here, named ``rnn.l0``, ``rnn.l1`` and so on.
    like : tree
        The model's parameters, such as a fresh ``model.init(rng, shape)``. Only their structure,
        shapes and data type are read, not their values.
    names : mapping, optional
        Paths in the parameters and names in PyTorch, in any number: of a layer and its module, as
        ``{"words": "encoder.embed"}``; of a combinator and the module around its layers, as
        ``{"blocks": "model.layers"}``; or of an array, as ``{"scores/weight": "embed.weight"}``. A
        tuple of names is a tuple of arrays that form one array of npdl, joined along the first
        axis, as ``{"attention/weight": ("q.weight", "k.weight", "v.weight")}``. One array may be
        named several times. The empty path is the whole model.
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
        ambiguous. The error lists all such arrays, with both names. If an index names a missing
        file, or a file in another folder.
    ValueError
        If a layer has no counterpart, or if `like` or `names` do not belong to the model.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl import checkpoint
    >>> state_dict = {
    ...     "0.weight": np.array([[1, 2], [3, 4], [5, 6]], np.float32),
    ...     "0.bias": np.array([7, 8, 9], np.float32),
    ... }
    >>> model = F.serial(F.dense(3), F.relu())
    >>> params = checkpoint.from_torch(state_dict, model, like=model.init(0, (2,)))
    >>> params[0]["weight"]
    array([[1., 3., 5.],
           [2., 4., 6.]], dtype=float32)
    """
    return load_foreign(source, model, like, _RULES, names, None, partial)


def to_torch(params: Params, model: Layer, names: Names | None = None) -> dict[str, np.ndarray]:
    """Return the weights of a model under the names and in the layouts of PyTorch.

    The inverse of :func:`from_torch`. By default, an array has the name that it has in a
    ``torch.nn.Sequential`` of the same layers, or in a module with the names of a graph's nodes.
    The second bias of a recurrent module is zero, since a layer of npdl has their sum.

    Parameters
    ----------
    params : tree
        The model's parameters.
    model : Layer
        The model, built from the layers of :func:`from_torch`.
    names : mapping, optional
        As in :func:`from_torch`; several names get equal parts of an array. For a combinator, the
        rest of a name is the rest of the path: with ``{"blocks": "model.layers"}``, ``blocks/0`` is
        ``model.layers.0``. The ``l0`` in a name such as ``"rnn.l0"`` is the number of a layer in a
        recurrent module; the name of an ``LSTMCell`` has none.

    Returns
    -------
    dict
        Names and new arrays of the types of `params`, for ``load_state_dict``.

    Raises
    ------
    ValueError
        If a layer has no counterpart, if `params` or `names` do not belong to the model, or if
        `names` has one name for two different arrays.

    Examples
    --------
    >>> import npdl.functional as F
    >>> from npdl import checkpoint
    >>> model = F.serial(F.dense(3), F.relu(), F.dense(2))
    >>> params = model.init(0, (4,))
    >>> state_dict = checkpoint.to_torch(params, model)
    >>> {name: array.shape for name, array in state_dict.items()}
    {'0.weight': (3, 4), '0.bias': (3,), '2.weight': (2, 3), '2.bias': (2,)}

    With PyTorch::

        module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        tensors = {name: torch.from_numpy(array) for name, array in state_dict.items()}
        module.load_state_dict(tensors)
    """
    return foreign_arrays(params, model, _RULES, names, None)


def _gru(p: Named, given: Given) -> Weights:
    if p["recurrent_bias"] is None:
        raise ValueError(
            "PyTorch's GRU applies its reset gate after the recurrent matrix product; build the "
            "layer with reset_after=True"
        )
    return _LAYERS["rnn"](p, given) | {"bias_hh": p["recurrent_bias"]}


def _bidirectional(p: tuple[Named, Named], given: Given) -> Weights:
    forward, backward = (weights_of(given["inner"], part, _LAYERS) for part in p)
    return forward | {f"{name}_reverse": array for name, array in backward.items()}


def _attention(p: Named, given: Given) -> Weights:
    query, key, value = projections(p, "weight")
    if given["kv_heads"] not in (None, given["heads"]):
        return _shared_heads(p)
    if len(query) == len(key):
        weights = {"in_proj_weight": transposed(joined(query, key, value))}
    else:
        parts = {"q": query, "k": key, "v": value}
        weights = {f"{name}_proj_weight": transposed(array) for name, array in parts.items()}
    return weights | {
        "in_proj_bias": joined(*projections(p, "bias")),
        "out_proj.weight": transposed(p["output_weight"]),
        "out_proj.bias": p["output_bias"],
    }


def _shared_heads(p: Named) -> Weights:
    """Return four linear layers: PyTorch has no such module, and models such as Llama do this."""
    pairs = zip(projections(p, "weight"), projections(p, "bias"), strict=True)
    parts = dict(zip("qkvo", (*pairs, (p["output_weight"], p["output_bias"])), strict=True))
    weights: Weights = {}
    for name, (weight, bias) in parts.items():
        weights |= {f"{name}_proj.weight": transposed(weight), f"{name}_proj.bias": bias}
    return weights


def _is_module(layer: str, given: Given, params: Params) -> bool:
    """Whether PyTorch has a block; it has one without shared heads, other norms and gates."""
    if not layer.startswith("transformer"):
        return True
    linear1, *_, linear2 = params["feed_forward"]
    return (
        given["kv_heads"] in (None, given["heads"])
        and constructor_of(given["norm"])[0] == "layer_norm"
        and linear1["weight"].shape[1] == linear2["weight"].shape[0]
    )


def _block(p: Named, given: Given) -> Weights:
    linear1, _, _, linear2 = p["feed_forward"]
    norms = [p[f"{part}_norm"] for part in ("attention", "cross_attention", "feed_forward")]
    weights = under("self_attn.", _attention(p["attention"], given))
    if p["cross_attention"] is not None:
        weights |= under("multihead_attn.", _attention(p["cross_attention"], given))
    for i, linear in enumerate((linear1, linear2), start=1):
        weights |= under(f"linear{i}.", _LAYERS["dense"](linear, {}))
    for i, norm in enumerate((norm for norm in norms if norm is not None), start=1):
        weights |= under(f"norm{i}.", _LAYERS["layer_norm"](norm, {}))
    return weights


_LAYERS: dict[str, Rule] = {
    "dense": lambda p, given: {"weight": transposed(p["weight"]), "bias": p["bias"]},
    "dense_like": lambda p, given: _LAYERS["dense"](p, given),
    "conv1d": lambda p, given: {"weight": p["weight"], "bias": p["bias"]},
    "conv2d": lambda p, given: {"weight": p["weight"], "bias": p["bias"]},
    "conv2d_transpose": lambda p, given: {"weight": p["weight"], "bias": p["bias"]},
    "batch_norm": lambda p, given: {
        "weight": p["scale"],
        "bias": p["shift"],
        "running_mean": p["mean"],
        "running_var": p["variance"],
    },
    "layer_norm": lambda p, given: {"weight": p["scale"], "bias": p["shift"]},
    "group_norm": lambda p, given: {"weight": p["scale"], "bias": p["shift"]},
    "rms_norm": lambda p, given: {"weight": p["scale"]},
    "embedding": lambda p, given: {"weight": p["table"]},
    "unembedding": lambda p, given: {"weight": p["table"]},
    "class_token": lambda p, given: {"token": p["token"]},
    "learned_positions": lambda p, given: {"weight": p["table"]},
    "rnn": lambda p, given: {
        "weight_ih": transposed(p["weight"]),
        "weight_hh": transposed(p["recurrent_weight"]),
        "bias_ih": p["bias"],
        "bias_hh": p["bias"],
    },
    "lstm": lambda p, given: _LAYERS["rnn"](gates(p, "gifo", "ifgo"), given),
    "gru": _gru,
    "bidirectional": _bidirectional,
    "multi_head_attention": _attention,
    "transformer_encoder_block": _block,
    "transformer_decoder_block": _block,
}


def _canonical(name: str) -> str | None:
    """Return a name with a module per recurrent layer, or `None` if it is not a weight."""
    if re.search(r"(^|\.)num_batches_tracked$", name):
        return None
    return re.sub(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?$", r"l\3.\1_\2\4", name)


_RECURRENT = frozenset({"rnn", "lstm", "gru", "bidirectional"})


def _written(name: str) -> str:
    """Return a name with the number of a recurrent layer at its end, unlike `_canonical`."""
    return re.sub(r"(^|\.)l(\d+)\.(weight|bias)_(ih|hh)(_reverse)?$", r"\1\3_\4_l\2\5", name)


def _module(layer: str, path: str) -> str:
    return ".".join(filter(None, (path, "l0"))) if layer in _RECURRENT else path


def _completed(layer: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add ones and zeros: in PyTorch, only the norms over features may lack just the bias."""
    if "norm" in layer and "bias" in arrays and "weight" not in arrays:
        return {"weight": np.ones_like(arrays["bias"])} | arrays
    if layer in ("batch_norm", "group_norm") and "weight" in arrays and "bias" not in arrays:
        return arrays | {"bias": np.zeros_like(arrays["weight"])}
    return arrays


_RULES = Rules(
    library="PyTorch",
    separator=".",
    layers=_LAYERS,
    canonical=_canonical,
    zero_biases=_RECURRENT,
    is_module=_is_module,
    module=_module,
    written=_written,
    completed=_completed,
    counter="num_batches_tracked",
)
