"""Weights of Hugging Face's files as the parameters of a model."""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npdl import tree
from npdl._parameter_limit import at_most
from npdl.checkpoint import CheckpointError
from npdl.checkpoint._files.limits import HEADER_LIMIT, Kind, read_json
from npdl.checkpoint.weights import from_torch
from npdl.checkpoint.weights._load import opened_source
from npdl.functional._layer import Layer, Params
from npdl.models._bert import bert, bert_names
from npdl.models._config import Config, Names
from npdl.models._gpt2 import gpt2, gpt2_names
from npdl.models._llama import llama, llama_names
from npdl.models._vit import vit, vit_names
from npdl.tree import Array

__all__ = ["pretrained"]

Source = str | os.PathLike[str] | Mapping[str, Any]


class _Architecture(NamedTuple):
    """A model of Hugging Face, and its names and layouts."""

    # build(config, **options) and names(prefix, config, **options)
    build: Callable[..., Layer]
    names: Callable[..., Names]
    # Prefixes of the names, and the end of a name that every file has.
    prefixes: tuple[str, ...]
    mark: str
    # The shape of one example.
    shape: Callable[[Config], Any]
    # Names of arrays other than parameters.
    buffers: str = r"$."
    # Returns an array of the file in PyTorch's layout.
    layout: Callable[[str, Array], Array] = lambda name, array: array
    has_pooler: bool = False
    # The entry with the number of blocks.
    blocks: str = "num_hidden_layers"


def _transposed(name: str, array: Array) -> Array:
    """Return the matrices of GPT-2 as in a linear layer."""
    return array.T if re.search(r"\bc_(attn|proj|fc)\.weight$", name) else array


def _without_batch(name: str, array: Array) -> Array:
    """Return the class token and the positions of ViT without axes of size 1."""
    if name.endswith(("embeddings.cls_token", "embeddings.position_embeddings")):
        return array.squeeze(tuple(i for i in range(array.ndim - 1) if array.shape[i] == 1))
    return array


def _image(config: Config) -> Any:
    size = config.size("image_size", 224)
    return config.size("num_channels", 3), size, size


_TEXT: Callable[[Config], Any] = lambda config: (1,)  # noqa: E731
_TEXTS: Callable[[Config], Any] = lambda config: ((1,),) * 3  # noqa: E731
_ARCHITECTURES = {
    "bert": _Architecture(
        *(bert, bert_names, ("", "bert."), "embeddings.word_embeddings.weight", _TEXTS),
        buffers=r"embeddings\.(position|token_type)_ids$",
        has_pooler=True,
    ),
    "gpt2": _Architecture(
        *(gpt2, gpt2_names, ("transformer.", ""), "wte.weight", _TEXT),
        buffers=r"\.attn\.(masked_)?bias$",
        layout=_transposed,
        blocks="n_layer",
    ),
    "llama": _Architecture(
        *(llama, llama_names, ("model.", ""), "embed_tokens.weight", _TEXT),
        buffers=r"rotary_emb\.inv_freq$",
    ),
    "vit": _Architecture(
        *(vit, vit_names, ("", "vit."), "embeddings.cls_token", _image),
        layout=_without_batch,
        has_pooler=True,
    ),
}
_ARCHITECTURES["mistral"] = _ARCHITECTURES["llama"]


def pretrained(
    source: Source,
    config: Mapping[str, Any] | None = None,
    *,
    dtype: Any = np.float32,
    partial: bool = False,
) -> tuple[Layer, Params]:
    """Return a model with the weights that ``save_pretrained`` of Transformers has written.

    The architecture is the entry ``model_type`` of the configuration: bert, gpt2, llama, mistral or
    vit.

    Parameters
    ----------
    source : str, PathLike or mapping
        The folder with ``config.json`` and ``model.safetensors``, or with the index of several
        files; one of these files; or a mapping of names to arrays, such as a ``state_dict()``.
    config : dict, optional
        The contents of ``config.json``; by default, the file next to the weights.
    dtype : dtype
        The data type of the parameters. Float16 and bfloat16 are widened.
    partial : bool
        Whether the source may have more arrays than the model, such as the weights of a classifier.

    Returns
    -------
    tuple
        The model and its parameters.

    Raises
    ------
    CheckpointError
        If an array is missing, unexpected, or of another shape; the error lists all of them.
    ValueError
        If the configuration has an unknown ``model_type``, or an entry that npdl does not compute.

    Examples
    --------
    >>> import numpy as np
    >>> from npdl import models
    >>> config = {"model_type": "llama", "vocab_size": 9, "hidden_size": 4, "intermediate_size": 6}
    >>> config |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    >>> sizes = {"embed_tokens": (9, 4), "norm": (4,), "layers.0.mlp.down_proj": (4, 6)}
    >>> sizes |= {f"layers.0.mlp.{part}_proj": (6, 4) for part in ("up", "gate")}
    >>> sizes |= {f"layers.0.self_attn.{part}_proj": (4, 4) for part in "qkvo"}
    >>> sizes |= {f"layers.0.{part}_layernorm": (4,) for part in ("input", "post_attention")}
    >>> arrays = {f"model.{name}.weight": np.ones(size, "f4") for name, size in sizes.items()}
    >>> arrays["lm_head.weight"] = np.ones((9, 4), np.float32)
    >>> model, params = models.pretrained(arrays, config)
    >>> model(params, np.array([[1, 2, 3]])).shape
    (1, 3, 9)
    """
    config = _read_config(source) if config is None else config
    kind = Config("pretrained", config).entries.get("model_type")
    known = _ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if known is None or not isinstance(kind, str):
        raise ValueError(
            f"models.pretrained: the model_type of the configuration is {kind!r:.80}; npdl has "
            f"{', '.join(_ARCHITECTURES)}"
        )
    with opened_source(source) as (title, kinds, read):
        prefix = next((each for each in known.prefixes if each + known.mark in kinds), None)
        if prefix is None:
            raise CheckpointError(
                f"{title} has no array {known.prefixes[0]}{known.mark}; is it of another model "
                f"than {kind}?"
            )
        options = {}
        if known.has_pooler:
            options["pooler"] = f"{prefix}pooler.dense.weight" in kinds
        _check_blocks(title, kinds, Config(kind, config), known.blocks)
        model = known.build(config, **options)
        names = known.names(prefix, config, **options)
        _check_complete(title, kinds, names)
        like = _parameters_like(title, kinds, model, known.shape(Config(kind, config)), dtype)
        arrays = {
            name: known.layout(name, read(name))
            for name in kinds
            if not re.search(known.buffers, name)
        }
    if "scores" not in names and "lm_head.weight" in arrays:
        _check_tied(title, arrays, f"{prefix}{known.mark}")
    return model, from_torch(arrays, model, like, names, partial=partial)


def _check_blocks(title: str, kinds: Mapping[str, Kind], config: Config, entry: str) -> None:
    """Raise before more blocks are built than the source has arrays."""
    blocks = config.size(entry, 1)
    if blocks > len(kinds):
        raise CheckpointError(
            f"{title} does not fit the configuration: {entry} is {blocks}, but there are only "
            f"{len(kinds)} arrays"
        )


def _parameters_like(
    title: str, kinds: Mapping[str, Kind], model: Layer, shape: Any, dtype: Any
) -> Params:
    """Return new parameters, or raise before they take more memory than the source accounts for."""
    count = sum(math.prod(size or ()) for _, size in kinds.values())
    try:
        with at_most(3 * count):  # an embedding initializes its table twice
            return tree.astype(model.init(0, shape), dtype)
    except ValueError as error:
        raise CheckpointError(f"{title} does not fit the configuration: {error}") from error


def _check_complete(title: str, kinds: Mapping[str, Any], names: Names) -> None:
    """Raise if the source lacks a module or an array."""
    modules = {name.rpartition(".")[0] for name in kinds}
    wanted = [each for name in names.values() for each in ([name] if type(name) is str else name)]
    missing = [name for name in wanted if name not in kinds and name not in modules]
    if missing:
        rest = f" and {len(missing) - 20} others" if len(missing) > 20 else ""
        raise CheckpointError(
            f"{title} does not fit the configuration; nothing was loaded. It lacks "
            f"{', '.join(missing[:20])}{rest}"
        )


def _check_tied(title: str, arrays: dict[str, Array], table: str) -> None:
    """Remove the copy of a tied embedding, or raise if it differs."""
    if not np.array_equal(arrays.pop("lm_head.weight"), arrays[table]):
        raise CheckpointError(
            f"{title} has different arrays {table} and lm_head.weight, but tie_word_embeddings of "
            f"the configuration is true"
        )


def _read_config(source: Source) -> Any:
    """Return the contents of the ``config.json`` next to the weights."""
    if isinstance(source, Mapping):
        raise ValueError("models.pretrained: a mapping of arrays needs config=, a dict")
    path = Path(source)
    path = (path if path.is_dir() else path.parent) / "config.json"
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(HEADER_LIMIT + 1)
        if len(text) > HEADER_LIMIT:
            raise ValueError(f"it has more than {HEADER_LIMIT} characters")
        return read_json(text)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"models.pretrained: {path} does not exist; pass its contents as config="
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
