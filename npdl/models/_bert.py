"""BERT, an encoder of texts."""

from collections.abc import Mapping
from typing import Any

import npdl.functional as F
from npdl.functional._layer import Layer
from npdl.models._config import Config, Names

__all__ = ["bert", "bert_names"]


def bert(config: Mapping[str, Any], *, pooler: bool = True, dropout: float = 0.0) -> Layer:
    """BERT, a transformer that encodes texts, as ``BertModel``.

    Parameters
    ----------
    config : dict
        The contents of ``config.json``.
    pooler : bool
        Whether the second output is a dense layer with tanh of the first token's output.
    dropout : float
        The dropped fraction in the blocks in training; entries of the configuration do not count.

    Returns
    -------
    Layer
        From ``(ids, mask, types)`` to ``(y, pooled)``, of the shapes (batch, time, features) and
        (batch, features); or to y without the pooler. The ids and the types, 0 for the first of two
        texts and 1 for the second, are (batch, time). The mask (batch, time) is true at tokens, or
        `None`.

    Raises
    ------
    ValueError
        If an entry of the configuration is wrong, or has a value that npdl does not compute.

    References
    ----------
    Devlin, Chang, Lee, Toutanova: BERT, 2018, section 3.

    Examples
    --------
    >>> from npdl import models
    >>> config = {"vocab_size": 50, "hidden_size": 8, "intermediate_size": 20}
    >>> config |= {"num_hidden_layers": 2, "num_attention_heads": 4}
    >>> models.bert(config).out_shape(((5,), (5,), (5,)))
    ((5, 8), (8,))
    """
    given = Config("bert", config)
    given.require(position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    features = given.size("hidden_size", 768)
    norm = F.layer_norm(epsilon=given.number("layer_norm_eps", 1e-12))
    block = F.transformer_encoder_block(
        given.size("num_attention_heads", 12),
        given.size("intermediate_size", 3072),
        activation=given.activation("hidden_act", "gelu"),
        norm=norm,
        dropout=dropout,
        pre_norm=False,
    )
    small = F.normal(0.02)
    nodes: dict[Any, Any] = {
        "words": (
            F.embedding(given.size("vocab_size", 30522), features, table_init=small),
            "ids",
        ),
        "kinds": (
            F.embedding(given.size("type_vocab_size", 2), features, table_init=small),
            "types",
        ),
        "sum": (F.add(), ("words", "kinds")),
        "positions": (
            F.learned_positions(given.size("max_position_embeddings", 512)),
            "sum",
        ),
        "norm": (norm, "positions"),
        "blocks": (F.stack(*[block] * given.size("num_hidden_layers", 12)), ("norm", "mask")),
    }
    if not pooler:
        return F.graph(("ids", "mask", "types"), nodes, "blocks")
    nodes["pooled"] = (F.serial(F.first_step(), F.dense(features), F.tanh()), "blocks")
    return F.graph(("ids", "mask", "types"), nodes, ("blocks", "pooled"))


def bert_names(prefix: str, config: Mapping[str, Any], pooler: bool) -> Names:
    """Return the names of the arrays."""
    names: Names = {
        "words": f"{prefix}embeddings.word_embeddings",
        "kinds": f"{prefix}embeddings.token_type_embeddings",
        "positions": f"{prefix}embeddings.position_embeddings",
        "norm": f"{prefix}embeddings.LayerNorm",
    }
    if pooler:
        names["pooled/1"] = f"{prefix}pooler.dense"
    for i in range(Config("bert", config).size("num_hidden_layers", 12)):
        ours, theirs = f"blocks/{i}", f"{prefix}encoder.layer.{i}"
        for kind in ("weight", "bias"):
            names[f"{ours}/attention/{kind}"] = tuple(
                f"{theirs}.attention.self.{part}.{kind}" for part in ("query", "key", "value")
            )
            names[f"{ours}/attention/output_{kind}"] = f"{theirs}.attention.output.dense.{kind}"
        names |= {
            f"{ours}/attention_norm": f"{theirs}.attention.output.LayerNorm",
            f"{ours}/feed_forward/0": f"{theirs}.intermediate.dense",
            f"{ours}/feed_forward/3": f"{theirs}.output.dense",
            f"{ours}/feed_forward_norm": f"{theirs}.output.LayerNorm",
        }
    return names
