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


class Reply(NamedTuple):
    """An answer, and how much each of its words looked at each word of the question."""

    answer: str
    answer_words: list[str]
    question_words: list[str]
    known: list[bool]  # which words of the question the model knows
    weights: np.ndarray  # (answer words, question words)


class Bot(NamedTuple):
    """A chatbot is a value: the words of questions, those of answers, and its parameters."""

    asked: Vocabulary
    said: Vocabulary
    params: Any

    def reply(self, question, *, width=5, temperature=0.0, key=0):
        """Answer by beam search, or, where a temperature is given, by sampling with the key."""
        step, state = self.begin(question)
        if temperature:
            answer = sample(step, state, key, temperature)
        else:
            answer = beam_search(step, state, width)[0][0]
        return self.explained(question, answer)

    def parts(self):
        """Return the model."""
        return make_parts(len(self.asked.words), len(self.said.words))

    def begin(self, question):
        """Read a question; return what :mod:`decode` needs to answer it."""
        parts, params = self.parts(), self.params
        ids, mask = self._read(question)
        asked = parts.asked(params["asked"], ids)
        memory, state = parts.encoder(params["memory"], (asked, mask))

        def step(words, state):
            memory, mask, state = state
            said = parts.said(params["said"], words[:, None])
            scores, _, state = parts.decoder(params["scores"], (said, memory, mask, state))
            log_probabilities = F.log_softmax()((), scores[:, 0])
            log_probabilities[:, [PADDING, UNKNOWN]] = -np.inf  # words that nobody can read
            return log_probabilities, (memory, mask, state)

        return step, (memory, mask, state)

    def explained(self, question, answer):
        """Return the reply whose words have these numbers, with the attention weights."""
        ids, mask = self._read(question)
        before = np.array([[END, *answer]])
        _, weights = self.parts().whole(self.params, (ids, mask, before))
        words = self.said.decode(answer)
        return Reply(
            "".join(words).strip(),
            [word.strip() for word in (*words, SPECIAL[END])],
            [word.strip() for word in (*words_of_question(question), SPECIAL[END])],
            (ids[0] != UNKNOWN).tolist(),
            weights[0],
        )

    def _read(self, question):
        words = self.asked.corrected(words_of_question(question))
        ids = np.array([self.asked.encode(words)])
        return ids, np.ones(ids.shape, bool)


def save(path, bot):
    """Write a bot to a file, with numbers of 16 bits, which are enough for answers."""
    words = {name: "\n".join(getattr(bot, name).words) for name in ("asked", "said")}
    checkpoint.save(path, words | {"params": tree.astype(bot.params, np.float16)})


def load(path=MODEL):
    """Read a bot from a file."""
    words = checkpoint.scalars(path)
    if not {"asked", "said"} <= words.keys():
        raise ValueError(f"{path} holds no chatbot; write one with train.py --output {path}")
    asked, said = (Vocabulary.of(words[name].split("\n")) for name in ("asked", "said"))
    params = make_parts(len(asked.words), len(said.words)).whole.init(0, ((1,), (1,), (1,)))
    like = words | {"params": tree.astype(params, np.float16)}
    return Bot(asked, said, tree.astype(checkpoint.load(path, like)["params"], np.float32))
