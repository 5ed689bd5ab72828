"""Generate an answer with a model of the next word.

Both functions take ``step(words, state) -> (log_probabilities, state)`` for n partial answers:
`words` are their last words (n,), the log-probabilities are (n, vocabulary), and the state is a
tree of arrays with first axis n. The first word is END, which also ends the answer. The returned
answers do not contain END.
"""

import numpy as np
from data import END, LIMIT

from npdl import random, tree


def beam_search(step, state, width=5, limit=LIMIT):
    """Return likely answers and their log-probabilities, the best first.

    Each step keeps the `width` most likely partial answers. An answer ends after `limit` words.
    """
    finished, partial_answers = [], [[]]
    words, totals = np.array([END]), np.zeros(1)
    for _ in range(limit):
        log_probabilities, state = step(words, state)
        all_totals = totals[:, None] + log_probabilities
        order = np.argsort(-all_totals, axis=None, kind="stable")[:width]
        rows, words = np.divmod(order, all_totals.shape[1])
        totals = all_totals[rows, words]
        answers = [
            [*partial_answers[row], int(word)] for row, word in zip(rows, words, strict=True)
        ]
        ended = words == END
        finished += [(answers[i][:-1], float(totals[i])) for i in np.flatnonzero(ended)]
        unfinished = np.flatnonzero(~ended & (totals > -np.inf))
        partial_answers = [answers[i] for i in unfinished]
        words, totals = words[unfinished], totals[unfinished]
        # A longer answer is never more likely than its prefix.
        if not partial_answers or (finished and max(t for _, t in finished) >= totals.max()):
            break
        state = tree.map(lambda array, rows=rows[unfinished]: array[rows], state)
    else:
        finished += [(answer, float(t)) for answer, t in zip(partial_answers, totals, strict=True)]
    return sorted(finished, key=lambda pair: -pair[1])[:width]


def sample(step, state, key, temperature=1.0, limit=LIMIT):
    """Sample an answer: a word of probability p has a weight of p^(1/T).

    A low temperature T prefers likely words. The same key gives the same answer.
    """
    answer, word = [], END
    for position in range(limit):
        log_probabilities, state = step(np.array([word]), state)
        # Gumbel-max trick: the argmax with Gumbel noise has the probabilities of the softmax.
        noise = random.generator(random.fold(key, position)).gumbel(size=log_probabilities.shape[1])
        word = int(np.argmax(log_probabilities[0] / temperature + noise))
        if word == END:
            break
        answer.append(word)
    return answer
