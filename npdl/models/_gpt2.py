"""GPT-2, a language model."""

from collections.abc import Mapping
from typing import Any

import npdl.functional as F
from npdl.functional._layer import Layer
from npdl.models._config import Config, Names

__all__ = ["gpt2", "gpt2_names"]


def gpt2(config: Mapping[str, Any], *, dropout: float = 0.0) -> Layer:
    """GPT-2, a transformer that scores the next token, as ``GPT2LMHeadModel``.

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
        If an entry of the configuration is wrong, or has a value that npdl does not compute.

    References
    ----------
    Radford, Wu, Child, Luan, Amodei, Sutskever: Language models are unsupervised multitask
    learners, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> from npdl import models
    >>> config = {"vocab_size": 50, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
    >>> model = models.gpt2(config)
    >>> params = model.init(0, (5,))
    >>> F.generate(model, params, np.array([1, 2, 3]), key=0, length=4).shape
    (4,)
    """
    given = Config("gpt2", config)
    given.require(
        scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False
    )
    features, vocabulary = given.size("n_embd", 768), given.size("vocab_size", 50257)
    norm = F.layer_norm(epsilon=given.number("layer_norm_epsilon", 1e-5))
    block = F.transformer_encoder_block(
        given.size("n_head", 12),
        given.size("n_inner", 4 * features),
        activation=given.activation("activation_function", "gelu_new"),
        norm=norm,
        dropout=dropout,
        causal=True,
    )
    tied = ("words",) if given.flag("tie_word_embeddings", True) else ()
    return F.graph(
        "ids",
        {
            "words": (F.embedding(vocabulary, features, table_init=F.normal(0.02)), "ids"),
            "positions": (F.learned_positions(given.size("n_positions", 1024)), "words"),
            "blocks": (F.serial(*[block] * given.size("n_layer", 12)), "positions"),
            "norm": (norm, "blocks"),
            "scores": (F.unembedding(vocabulary), "norm", *tied),
        },
        "scores",
    )


def gpt2_names(prefix: str, config: Mapping[str, Any]) -> Names:
    """Return the names of the arrays; their matrices are transposed in the file."""
    names: Names = {
        "words": f"{prefix}wte",
        "positions": f"{prefix}wpe",
        "norm": f"{prefix}ln_f",
    }
    if not config.get("tie_word_embeddings", True):
        names["scores"] = "lm_head"
    for i in range(Config("gpt2", config).size("n_layer", 12)):
        ours, theirs = f"blocks/{i}", f"{prefix}h.{i}"
        for kind in ("weight", "bias"):
            names[f"{ours}/attention/{kind}"] = f"{theirs}.attn.c_attn.{kind}"
            names[f"{ours}/attention/output_{kind}"] = f"{theirs}.attn.c_proj.{kind}"
        names |= {
            f"{ours}/attention_norm": f"{theirs}.ln_1",
            f"{ours}/feed_forward/0": f"{theirs}.mlp.c_fc",
            f"{ours}/feed_forward/3": f"{theirs}.mlp.c_proj",
            f"{ours}/feed_forward_norm": f"{theirs}.ln_2",
        }
    return names
