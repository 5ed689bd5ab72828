"""Llama, a language model with rotary positions, shared heads and gated activations."""

from collections.abc import Mapping
from typing import Any

import npdl.functional as F
from npdl.functional._layer import Layer
from npdl.models._config import Config, Names

__all__ = ["llama", "llama_names"]


def llama(config: Mapping[str, Any], *, dropout: float = 0.0) -> Layer:
    """Llama, a transformer that scores the next token, as ``LlamaForCausalLM``.

    Models of the same architecture, such as Mistral with its sliding window, have the same
    configuration.

    Parameters
    ----------
    config : dict
        The contents of ``config.json``.
    dropout : float
        The dropped fraction in the blocks in training; entries of the configuration do not count.

    Returns
    -------
    Layer
        From ids (batch, time) to logits (batch, time, vocabulary).

    Raises
    ------
    ValueError
        If an entry of the configuration is wrong, or has a value that npdl does not compute, such
        as scaled rotary positions.

    References
    ----------
    Touvron et al.: Llama 2, 2023, section 2.2.

    Examples
    --------
    >>> from npdl import models
    >>> config = {"vocab_size": 50, "hidden_size": 8, "intermediate_size": 20}
    >>> config |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    >>> models.llama(config).out_shape((5,))
    (5, 50)
    """
    given = Config("llama", config)
    given.require(attention_bias=False, mlp_bias=False, hidden_act="silu", pretraining_tp=1)
    features, vocabulary = given.size("hidden_size", 4096), given.size("vocab_size", 32000)
    heads = given.size("num_attention_heads", 32)
    given.require(head_dim=features // heads)
    norm = F.rms_norm(epsilon=given.number("rms_norm_eps", 1e-6))
    window = config.get("sliding_window")
    block = F.transformer_encoder_block(
        heads,
        given.size("intermediate_size", 11008),
        activation=F.swiglu(),
        norm=norm,
        dropout=dropout,
        bias=False,
        causal=True,
        kv_heads=given.size("num_key_value_heads", heads),
        window=None if window is None else given.size("sliding_window"),
        rotary=_rotary(given),
    )
    tied = ("words",) if given.flag("tie_word_embeddings", False) else ()
    return F.graph(
        "ids",
        {
            "words": (F.embedding(vocabulary, features, table_init=F.normal(0.02)), "ids"),
            "blocks": (F.serial(*[block] * given.size("num_hidden_layers", 32)), "words"),
            "norm": (norm, "blocks"),
            "scores": (F.unembedding(vocabulary), "norm", *tied),
        },
        "scores",
    )


def _rotary(given: Config) -> float:
    """Return the base of rotary positions; files of version 5 have it in ``rope_parameters``."""
    given.require(rope_scaling={"rope_type": "default"})
    rope = given.entries.get("rope_parameters") or {}
    inner = Config("llama", {"rope_theta": given.entries.get("rope_theta", 10000.0), **rope})
    inner.require(rope_type="default")
    return inner.number("rope_theta", 10000.0)


def llama_names(prefix: str, config: Mapping[str, Any]) -> Names:
    """Return the names of the arrays."""
    names: Names = {"words": f"{prefix}embed_tokens", "norm": f"{prefix}norm"}
    if not config.get("tie_word_embeddings", False):
        names["scores"] = "lm_head"
    for i in range(Config("llama", config).size("num_hidden_layers", 32)):
        ours, theirs = f"blocks/{i}", f"{prefix}layers.{i}"
        names |= {
            f"{ours}/attention/weight": tuple(
                f"{theirs}.self_attn.{part}_proj.weight" for part in "qkv"
            ),
            f"{ours}/attention/output_weight": f"{theirs}.self_attn.o_proj.weight",
            f"{ours}/attention_norm": f"{theirs}.input_layernorm",
            f"{ours}/feed_forward/0/weight": tuple(
                f"{theirs}.mlp.{part}_proj.weight" for part in ("up", "gate")
            ),
            f"{ours}/feed_forward/3": f"{theirs}.mlp.down_proj",
            f"{ours}/feed_forward_norm": f"{theirs}.post_attention_layernorm",
        }
    return names
