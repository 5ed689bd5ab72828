"""Generation of sequences by a model of the next token: greedy, sampling and beam search."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from npdl import tree
from npdl.functional._arrays import describe, plain_array
from npdl.functional._checks import check_int, check_number, is_int, refusal
from npdl.functional._layer import Layer, Params
from npdl.functional.combinators import decode_step
from npdl.random import KeyLike, fold, generator
from npdl.random import key as as_key
from npdl.tree import Array

__all__ = ["generate"]

# step(inputs, state) -> (scores, state)
Step = Callable[[Any, Any], tuple[Array, Any]]


def generate(
    model: Layer,
    params: Params,
    prompt: Any,
    key: KeyLike | None = None,
    *,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    beam: int | None = None,
    stop: int | Collection[int] | None = None,
) -> Array:
    """Continue sequences of tokens with a model that scores the next token.

    ``xₜ ~ softmax(s(x₁, …, xₜ₋₁) / T)``, where s are the scores of the model, and T is the
    temperature. The model reads each token once (:func:`decode_step`).

    Parameters
    ----------
    model : Layer
        From ids (batch, time) to scores (batch, time, vocabulary), such as logits. If it has
        several outputs, the scores are the first one.
    params : tree
        Its parameters.
    prompt : array, list or tuple
        The first tokens, (batch, time) or (time,), at least one; or a list of prompts of different
        lengths. For a model of several inputs, the tuple of the prompts of a batch and the further
        inputs, such as the memory of a decoder.
    key : key, optional
        The key of the sampling. The same key gives the same tokens.
    length : int
        The largest number of tokens to generate.
    temperature : float
        A low temperature prefers tokens of high scores; 0 takes the token of the highest score.
    top_k : int, optional
        Sample only from the `top_k` tokens of highest scores.
    top_p : float, optional
        Sample only from the most probable tokens, as few as have this total probability
        (nucleus sampling).
    beam : int, optional
        Return the most likely sequence that a search with this number of partial sequences finds.
        The search needs no key.
    stop : int or collection of int, optional
        Tokens that end a sequence.

    Returns
    -------
    array of int
        The generated tokens without the prompt, (batch, length) or (length,). After a token of
        `stop`, the first token of `stop` fills the rest.

    Raises
    ------
    ValueError
        If the prompt is empty, a key is missing, an argument is out of its range, or the scores
        are NaN; if a layer of the model has no one-step form.

    References
    ----------
    For `top_k`, Fan, Lewis, Dauphin: Hierarchical neural story generation, 2018, section 5.4; for
    `top_p`, Holtzman, Buys, Du, Forbes, Choi: The curious case of neural text degeneration, 2019,
    section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> import npdl.functional as F
    >>> model = F.serial(F.embedding(9, 8), F.lstm(16, return_sequence=True), F.dense(9))
    >>> params = model.init(0, (None,))
    >>> prompt = np.array([[1, 2, 3], [4, 5, 6]])
    >>> F.generate(model, params, prompt, 7, length=5, top_k=3).shape
    (2, 5)
    """
    length = check_int(length, "generate(…, length=20)")
    temperature = check_number(temperature, "generate(…, temperature=0.8)", "of at least 0")
    if top_k is not None:
        top_k = check_int(top_k, "generate(…, top_k=40)")
    if top_p is not None:
        top_p = check_number(top_p, "generate(…, top_p=0.9)", "in (0, 1]")
    stops = _stops(stop)
    prompts, context, is_batch = _checked(prompt)
    one_step = decode_step(model)

    def step(inputs: tuple[Any, ...], state: Any) -> tuple[Array, Any]:
        y, state = one_step(params, inputs if len(inputs) > 1 else inputs[0], state)
        return _last_scores(y), state

    if beam is not None:
        beam = check_int(beam, "generate(…, beam=5)")
        if top_k is not None or top_p is not None or temperature not in (0, 1):
            raise ValueError(
                "generate: beam search does not sample; leave out temperature, top_k and top_p, or "
                "beam"
            )
        rows = []
        for i, ids in enumerate(prompts):
            others = tree.map(lambda part, i=i: part[i : i + 1], context)
            rows.append(_beam_search(step, (ids[None], *others), length, beam, stops))
        tokens = np.array(rows, np.int64)
    else:
        if temperature and key is None:
            raise ValueError("generate: sampling needs a key; pass one, or temperature=0")
        keys = () if key is None else as_key(key)

        def choose(scores: Array, position: int) -> Any:
            if not temperature:
                return scores.argmax(axis=1)
            with np.errstate(over="ignore"):
                scores = (scores - scores.max(axis=1, keepdims=True)) / temperature
            scores = _restricted(scores, top_k, top_p)
            # Gumbel-max trick: the argmax with Gumbel noise has the probabilities of the softmax.
            noise = generator(fold(keys, position)).gumbel(size=scores.shape)
            return (scores + noise).argmax(axis=1)

        tokens = _one_by_one(step, prompts, context, choose, length, stops)
    return tokens if is_batch else tokens[0]


def _one_by_one(
    step: Step,
    prompts: list[Array],
    context: tuple[Any, ...],
    choose: Callable[[Array, int], Any],
    length: int,
    stops: list[int],
) -> Array:
    """Return the tokens that a function chooses from the scores of each position.

    All prompts are read up to the length of the shortest one. Then each step adds a token: the next
    one of a longer prompt, or a chosen one.
    """
    lengths = np.array([len(ids) for ids in prompts])
    shortest, rows = lengths.min(), np.arange(len(prompts))
    known = np.stack([np.resize(ids, lengths.max()) for ids in prompts])
    tokens = np.full((len(prompts), length), stops[0] if stops else 0, np.int64)
    ended, state, ids = np.zeros(len(prompts), bool), None, known[:, :shortest]
    for position in range(lengths.max() - shortest + length):
        scores, state = step((ids, *context), state)
        chosen, places = choose(scores, position), position + shortest - lengths
        new = (places >= 0) & ~ended
        tokens[rows[new], places[new]] = chosen[new]
        ended |= new & (np.isin(chosen, stops) | (places + 1 == length))
        if ended.all():
            break
        if (places < 0).any():
            chosen = np.where(places < 0, known[:, position + shortest], chosen)
        ids = chosen[:, None]
    return tokens


def _beam_search(
    step: Step, inputs: tuple[Any, ...], length: int, width: int, stops: list[int]
) -> list[int]:
    """Return the most likely tokens after one prompt, among `width` partial sequences per step."""
    finished: list[tuple[float, list[int]]] = []
    partial: list[list[int]] = [[]]
    totals, state = np.zeros(1), None
    for _ in range(length):
        scores, state = step(inputs, state)
        all_totals = totals[:, None] + _log_softmax(scores)
        order = np.argsort(-all_totals, axis=None, kind="stable")[:width]
        rows, ids = np.divmod(order, scores.shape[1])
        totals = all_totals[rows, ids]
        sequences = [[*partial[row], int(token)] for row, token in zip(rows, ids, strict=True)]
        ended = np.isin(ids, stops)
        finished += [(float(totals[i]), sequences[i]) for i in np.flatnonzero(ended)]
        unfinished = np.flatnonzero(~ended & (totals > -np.inf))
        partial = [sequences[i] for i in unfinished]
        totals, rows, ids = totals[unfinished], rows[unfinished], ids[unfinished]
        # A longer sequence is never more likely than its beginning.
        if not partial or (finished and max(finished)[0] >= totals.max()):
            break
        state, context = tree.map(lambda part, rows=rows: part[rows], (state, inputs[1:]))
        inputs = (ids[:, None], *context)
    else:
        finished += zip(totals.tolist(), partial, strict=True)
    best = max(finished, key=lambda pair: pair[0])[1]
    return [*best, *stops[:1] * (length - len(best))]


def _last_scores(y: Any) -> Array:
    """Return the scores (batch, vocabulary) of the next token, in float64."""
    scores = y[0] if isinstance(y, tuple) else y
    if not isinstance(scores, np.ndarray) or scores.ndim not in (2, 3):
        raise ValueError(
            f"generate: expected a model with scores (batch, time, vocabulary), got {describe(y)}"
        )
    last: Array = (scores if scores.ndim == 2 else scores[:, -1]).astype(np.float64)
    if not (last.max(axis=1, initial=-np.inf) > -np.inf).all():
        raise ValueError(
            "generate: the scores of the next token are NaN, or all -∞; are the parameters finite?"
        )
    return last


def _restricted(scores: Array, top_k: int | None, top_p: float | None) -> Array:
    """Return the scores with -∞ for tokens other than the most probable ones."""
    if top_k is not None and top_k < scores.shape[1]:
        least = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        scores = np.where(scores < least, -np.inf, scores)
    if top_p is not None and top_p < 1:
        order = np.argsort(-scores, axis=1, kind="stable")
        p = np.exp(_log_softmax(np.take_along_axis(scores, order, axis=1)))
        dropped = np.cumsum(p, axis=1) - p >= top_p
        dropped[:, 0] = False
        everything = np.empty_like(dropped)
        np.put_along_axis(everything, order, dropped, axis=1)
        scores = np.where(everything, -np.inf, scores)
    return scores


def _log_softmax(scores: Array) -> Array:
    scores = scores - scores.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores


def _checked(prompt: Any) -> tuple[list[Array], tuple[Any, ...], bool]:
    """Return prompts, further inputs, and whether the prompts are a batch."""
    first, *context = prompt if isinstance(prompt, tuple) else (prompt,)
    several = isinstance(first, list) and any(isinstance(ids, list | np.ndarray) for ids in first)
    prompts = [plain_array(ids, "generate") for ids in (first if several else [first])]
    is_batch = several or prompts[0].ndim == 2
    if not several and is_batch:
        prompts = list(prompts[0])
    for ids in prompts:
        if ids.dtype.kind not in "iu" or ids.ndim != 1 or not ids.size:
            raise _wrong_prompt(first if isinstance(first, np.ndarray) else ids)
    if not prompts:
        raise _wrong_prompt(first)
    if context and not is_batch:
        raise ValueError(
            f"generate: with further inputs, the prompt must be (batch, time), got "
            f"{describe(first)}; pass prompt[None]"
        )
    return prompts, tuple(context), is_batch


def _wrong_prompt(given: Any) -> ValueError:
    return ValueError(
        f"generate: expected a prompt of ids, (batch, time) or (time,), or a list of prompts, each "
        f"of at least one id, got {describe(given)}"
    )


def _stops(stop: Any) -> list[int]:
    """Return the tokens that end a sequence."""
    if stop is None:
        return []
    stops = [stop] if is_int(stop) else stop
    if not isinstance(stops, Collection) or not all(map(is_int, stops)) or len(stops) == 0:
        raise ValueError(refusal(stop, "generate(…, stop=2)", "an id, or several ids"))
    return [int(each) for each in stops]
