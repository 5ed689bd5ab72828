"""Write an answer with a model that gives the probabilities of the next word.

Both functions take ``step(words, state) -> (log_probabilities, state)``. For several beginnings of
an answer at once, `words` are their last words (n,), the log-probabilities are (n, vocabulary), and
the state is a tree of arrays whose first axis is n. The first word is END, which also ends the
answer, and which is not in what is returned.
"""

import numpy as np
from data import END, LIMIT

from npdl import random, tree


def beam_search(step, state, width=5, limit=LIMIT):
    """Return likely answers and their log-probabilities, the best first.

    At each step the `width` most likely beginnings are kept. An answer of `limit` words is over.
    """
    finished, open_answers = [], [[]]
    words, totals = np.array([END]), np.zeros(1)
    for _ in range(limit):
        log_probabilities, state = step(words, state)
        all_totals = totals[:, None] + log_probabilities
        order = np.argsort(-all_totals, axis=None, kind="stable")[:width]
        rows, words = np.divmod(order, all_totals.shape[1])
        totals = all_totals[rows, words]
        answers = [[*open_answers[row], int(word)] for row, word in zip(rows, words, strict=True)]
        ended = words == END
        finished += [(answers[i][:-1], float(totals[i])) for i in np.flatnonzero(ended)]
        going_on = np.flatnonzero(~ended & (totals > -np.inf))
        open_answers = [answers[i] for i in going_on]
        words, totals = words[going_on], totals[going_on]
        # A longer answer is never more likely than its beginning.
        if not open_answers or (finished and max(t for _, t in finished) >= totals.max()):
            break
        state = tree.map(lambda array, kept=rows[going_on]: array[kept], state)
    else:
        finished += [(answer, float(t)) for answer, t in zip(open_answers, totals, strict=True)]
    return sorted(finished, key=lambda pair: -pair[1])[:width]


def sample(step, state, key, temperature=1.0, limit=LIMIT):
    """Draw an answer, in which a word of probability p is drawn in proportion to p^(1/T).

    A low temperature T is careful and a high one bold; the same key gives the same answer.
    """
    answer, word = [], END
    for position in range(limit):
        log_probabilities, state = step(np.array([word]), state)
        # The largest sum with Gumbel's noise falls on each word with its probability.
        noise = random.generator(random.fold(key, position)).gumbel(size=log_probabilities.shape[1])
        word = int(np.argmax(log_probabilities[0] / temperature + noise))
        if word == END:
            break
        answer.append(word)
    return answer
