"""The model: a bidirectional LSTM encodes the question, a second LSTM decodes the answer.

At each word of the answer, attention reads all words of the question. This module also defines
four custom layers.
"""

import functools
from typing import NamedTuple

import numpy as np
from data import END, PADDING, UNKNOWN

import npdl.functional as F
from npdl import random


@F.layer
def unknown_words(rate):
    """In training, replace a fraction of the words by the unknown word.

    So the model learns to ignore unknown words. The only word of a text is never replaced.
    """

    def apply(params, words, *, train=False, rng=None):
        if not train:
            return words, None
        known = words > END
        hidden = random.generator(rng).random(words.shape) < rate
        hidden &= known & (known.sum(axis=1, keepdims=True) > 1)
        return np.where(hidden, UNKNOWN, words), None

    return F.Layer(lambda rng, shape: (), apply, lambda params, cache, g: ((), None), step=True)


@F.layer
def initial_state():
    """Start the decoder: ((h, c), (h', c')), the memory and its mask give its state (m, c c').

    m is the maximum of the memory over the steps, so an important word counts at any position.
    """

    def apply(params, x):
        ((_, c), (_, c_back)), memory, mask = x
        # The values of the memory are between -1 and 1, so -4 excludes a step.
        seen = memory + np.where(mask, 0, -4)[:, :, None].astype(memory.dtype)
        steps_of_max = np.argmax(seen, axis=1)[:, None]
        strongest = np.take_along_axis(memory, steps_of_max, axis=1)[:, 0]
        return (strongest, np.concatenate([c, c_back], axis=1)), (steps_of_max, memory)

    def backward(params, cache, g):
        steps_of_max, memory = cache
        g_strongest, g_c = g
        g_memory = np.zeros_like(memory)
        np.put_along_axis(g_memory, steps_of_max, g_strongest[:, None], axis=1)
        forward, back = np.split(g_c, 2, axis=1)
        return (), (((None, forward), (None, back)), g_memory, None)

    def out_shape(shapes):
        ((units,), _), _ = shapes[0]
        return (2 * units,), (2 * units,)

    return F.Layer(lambda rng, shape: (), apply, backward, out_shape)


@F.layer
def attention():
    """Attention with a bilinear score: ``softmax(Q W Mᵀ) M``.

    It takes (queries, memory, mask). It returns the queries, concatenated with the weighted means
    of the memory, and the weights, (batch, queries, steps).
    """

    def init(rng, shapes):
        (_, queries), (_, features), _ = shapes
        return {"weight": F.glorot_uniform()(rng, (queries, features))}

    def apply(params, x):
        queries, memory, mask = x
        seen = queries @ params["weight"]
        scores = seen @ memory.swapaxes(1, 2) + np.where(mask, 0, -1e9)[:, None].astype(seen.dtype)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        found = np.concatenate([queries, weights @ memory], axis=2)
        return (found, weights), (queries, memory, seen, weights)

    def backward(params, cache, g):
        queries, memory, seen, weights = cache
        g_found, g_weights = g
        g_queries, g_mixed = np.split(g_found, [queries.shape[2]], axis=2)
        through = g_mixed @ memory.swapaxes(1, 2)
        if g_weights is not None:
            through = through + g_weights
        g_scores = weights * (through - np.sum(through * weights, axis=2, keepdims=True))
        g_seen = g_scores @ memory
        g_memory = weights.swapaxes(1, 2) @ g_mixed + g_scores.swapaxes(1, 2) @ seen
        g_weight = np.tensordot(queries, g_seen, axes=((0, 1), (0, 1)))
        return {"weight": g_weight}, (g_queries + g_seen @ params["weight"].T, g_memory, None)

    def out_shape(shapes):
        (time, queries), (steps, features), _ = shapes
        return (time, queries + features), (time, steps)

    return F.Layer(init, apply, backward, out_shape, step=True)


@F.layer
def without(words):
    """Set the scores of some words to -∞, so that they are never generated."""

    def apply(params, scores):
        scores = scores.copy()
        scores[..., list(words)] = -np.inf
        return scores, None

    def backward(params, cache, g):
        g = g.copy()
        g[..., list(words)] = 0
        return (), g

    return F.Layer(lambda rng, shape: (), apply, backward, lambda shape: shape, step=True)


class Parts(NamedTuple):
    """The parts of the model, the whole model, and the same model for `F.generate`."""

    encoder: F.Layer  # (asked, mask) -> (memory, state)
    decoder: F.Layer  # (said, memory, mask, state) -> (scores, weights, state)
    whole: F.Layer  # (question, mask, before) -> (scores, weights)
    speaker: F.Layer  # (before, question, mask) -> scores


@functools.cache
def make_parts(asked_words, said_words, units=64, bottleneck=72, unknown=0.15, dropout=0.2):
    """Return the model for two vocabularies of these sizes.

    In training, the decoder takes all words of the answer at once. In a conversation, `F.generate`
    passes one word after another to the speaker, and the encoder runs once. The parameters of the
    speaker are ``{"scores": params, "said": ()}``.
    """
    asked, said = (
        F.serial(unknown_words(unknown), F.embedding(size, units), F.dropout(dropout))
        for size in (asked_words, said_words)
    )
    reader = F.lstm(units, return_sequence=True, return_state=True)
    writer = F.lstm(2 * units, return_sequence=True, return_state=True)
    scorer = F.serial(F.dense(bottleneck), F.tanh(), F.dense(said_words))
    encoder = F.graph(
        ("asked", "mask"),
        {
            ("memory", "ends"): (F.bidirectional(reader), ("asked", "mask")),
            "state": (initial_state(), ("ends", "memory", "mask")),
        },
        ("memory", "state"),
    )
    decoder = F.graph(
        ("said", "memory", "mask", "state"),
        {
            ("thoughts", "next_state"): (writer, ("said", None, "state")),
            ("found", "weights"): (attention(), ("thoughts", "memory", "mask")),
            "scores": (scorer, "found"),
        },
        ("scores", "weights", "next_state"),
    )
    whole = F.graph(
        ("question", "mask", "before"),
        {
            "asked": (asked, "question"),
            "said": (said, "before"),
            ("memory", "state"): (encoder, ("asked", "mask")),
            ("scores", "weights", "last"): (decoder, ("said", "memory", "mask", "state")),
        },
        ("scores", "weights"),
    )
    speaker = F.graph(
        ("before", "question", "mask"),
        {
            ("scores", "weights"): (whole, ("question", "mask", "before")),
            "said": (without((PADDING, UNKNOWN)), "scores"),
        },
        "said",
    )
    return Parts(encoder, decoder, whole, speaker)


def loss(outputs, after, weights):
    """Return the cross-entropy of the words of the answer, and its gradient."""
    scores, _ = outputs
    value, g = F.softmax_cross_entropy(scores, after, weights, label_smoothing=0.1)
    return value, (g, None)
