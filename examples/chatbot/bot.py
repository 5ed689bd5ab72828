"""A trained model with its vocabularies: in a file, and answering."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data import END, PADDING, SPECIAL, UNKNOWN, Vocabulary, words_of_question
from decode import beam_search, sample
from model import make_parts

import npdl.functional as F
from npdl import checkpoint, tree

MODEL = Path(__file__).with_name("model.npz")
# The training, which smooths its targets, leaves a word that is certain a probability of 0.9.
SURE = 0.75
MOST_DOUBT = 2.1


class Reply(NamedTuple):
    """An answer, and how much each of its words looked at each word of the question."""

    answer: str
    answer_words: list[str]
    question_words: list[str]
    known: list[bool]  # which words of the question the model knows
    weights: np.ndarray  # (answer words, question words)
    sure: bool = True  # if not, every word was read as an unknown one


class Bot(NamedTuple):
    """A chatbot is a value: the words of questions, those of answers, and its parameters."""

    asked: Vocabulary
    said: Vocabulary
    params: Any

    def reply(self, question, *, width=5, temperature=0.0, key=0):
        """Answer by beam search, or, where a temperature is given, by sampling with the key.

        Where the model is not sure of what the search finds, it answers as if it knew none of the
        words, if of that it is surer.
        """
        words = words_of_question(question)
        ids = self.asked.read(words)
        if temperature:
            answer = sample(*self.begin(ids), key, temperature)
            return self.explained(words, ids, answer)[0]
        reply, doubt = self.explained(words, ids, beam_search(*self.begin(ids), width)[0][0])
        if doubt > MOST_DOUBT:
            # Rather than a guess, what the corpus has for a question of which no word is known.
            ids = [UNKNOWN] * len(ids)
            other, least = self.explained(words, ids, beam_search(*self.begin(ids), width)[0][0])
            if least < doubt:
                reply = other._replace(known=reply.known, sure=False)
        return reply

    def parts(self):
        """Return the model."""
        return make_parts(len(self.asked.words), len(self.said.words))

    def begin(self, ids):
        """Read a question, given as numbers; return what :mod:`decode` needs to answer it."""
        parts, params = self.parts(), self.params
        question, mask = np.array([ids]), np.ones((1, len(ids)), bool)
        asked = parts.asked(params["asked"], question)
        memory, state = parts.encoder(params["memory"], (asked, mask))

        def step(words, state):
            memory, mask, state = state
            said = parts.said(params["said"], words[:, None])
            scores, _, state = parts.decoder(params["scores"], (said, memory, mask, state))
            log_probabilities = F.log_softmax()((), scores[:, 0])
            log_probabilities[:, [PADDING, UNKNOWN]] = -np.inf  # words that nobody can read
            return log_probabilities, (memory, mask, state)

        return step, (memory, mask, state)

    def explained(self, question, ids, answer):
        """Return the reply whose words have these numbers, and how doubtful it is.

        The doubt is minus the log-probability of those words of which the model was not sure.
        """
        given = np.array([ids]), np.ones((1, len(ids)), bool), np.array([[END, *answer]])
        scores, weights = self.parts().whole(self.params, given)
        after = np.array([*answer, END])
        log_probabilities = F.log_softmax()((), scores[0])[np.arange(len(after)), after]
        words = self.said.decode(answer)
        reply = Reply(
            "".join(words).strip(),
            [word.strip() for word in (*words, SPECIAL[END])],
            [word.strip() for word in question or SPECIAL[END:]],
            [number != UNKNOWN for number in ids],
            weights[0],
        )
        return reply, -log_probabilities[log_probabilities < np.log(SURE)].sum()


def save(path, bot):
    """Write a bot to a file, with numbers of 16 bits, which are enough for answers."""
    words = {name: "\n".join(getattr(bot, name).words) for name in ("asked", "said")}
    checkpoint.save(path, words | {"params": tree.astype(bot.params, np.float16)})


def load(path=MODEL):
    """Read a bot from a file."""
    words = checkpoint.scalars(path)
    if not all(isinstance(words.get(name), str) for name in ("asked", "said")):
        raise ValueError(f"{path} holds no chatbot; write one with train.py --output {path}")
    shapes = checkpoint.array_shapes(path)
    for name in ("asked", "said"):
        # Before tables of that size are made: the file's own has a row for each word.
        count, table = words[name].count("\n") + 1, shapes.get(f"params/{name}/1/table")
        if table is None or table[0] != count:
            raise checkpoint.CheckpointError(
                f"{path} is damaged: it has {count} words of {name!r}, and a table of {table}; "
                f"restore it from a copy"
            )
    asked, said = (Vocabulary.of(words[name].split("\n")) for name in ("asked", "said"))
    params = make_parts(len(asked.words), len(said.words)).whole.init(0, ((1,), (1,), (1,)))
    like = words | {"params": tree.astype(params, np.float16)}
    return Bot(asked, said, tree.astype(checkpoint.load(path, like)["params"], np.float32))
