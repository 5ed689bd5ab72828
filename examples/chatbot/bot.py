"""A trained model with its vocabularies: saving, loading and answering."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data import END, LIMIT, SPECIAL, UNKNOWN, Vocabulary, words_of_question
from model import make_parts

import npdl.functional as F
from npdl import checkpoint, tree

MODEL = Path(__file__).with_name("model.npz")
# Because of label smoothing in training, a certain word has a probability of 0.9.
SURE = 0.75
MOST_DOUBT = 2.1


class Reply(NamedTuple):
    """An answer, and the attention of its words to the words of the question."""

    answer: str
    answer_words: list[str]
    question_words: list[str]
    known: list[bool]  # whether the model knows each word of the question
    weights: np.ndarray  # (answer words, question words)
    sure: bool = True  # if false, every word was replaced by the unknown word


class Bot(NamedTuple):
    """A chatbot is a value: two vocabularies, of questions and of answers, and the parameters."""

    asked: Vocabulary
    said: Vocabulary
    params: Any

    def reply(self, question, *, width=5, temperature=0.0, key=0):
        """Answer by beam search, or by sampling with the key if the temperature is not 0.

        If the answer of the search is doubtful, all words are replaced by the unknown word. The
        new answer is used if it is less doubtful.
        """
        words = words_of_question(question)
        ids = self.asked.read(words)
        if temperature:
            answer = self.answer(ids, key=key, temperature=temperature)
            return self.explained(words, ids, answer)[0]
        reply, doubt = self.explained(words, ids, self.answer(ids, beam=width))
        if doubt > MOST_DOUBT:
            # Instead of a guess, use the answer to a question of unknown words.
            ids = [UNKNOWN] * len(ids)
            other, least = self.explained(words, ids, self.answer(ids, beam=width))
            if least < doubt:
                reply = other._replace(known=reply.known, sure=False)
        return reply

    def parts(self):
        """Return the model."""
        return make_parts(len(self.asked.words), len(self.said.words))

    def answer(self, ids, **arguments):
        """Return the word ids of an answer to a question of word ids, as `F.generate` finds it."""
        inputs = np.array([[END]]), np.array([ids]), np.ones((1, len(ids)), bool)
        params = {"scores": self.params, "said": ()}
        speaker = self.parts().speaker
        words = F.generate(speaker, params, inputs, length=LIMIT, stop=END, **arguments)[0].tolist()
        return words[: words.index(END)] if END in words else words

    def explained(self, question, ids, answer):
        """Return the reply with these word ids, and its doubt.

        The doubt is minus the sum of the log-probabilities of the words that are not `SURE`.
        """
        inputs = np.array([ids]), np.ones((1, len(ids)), bool), np.array([[END, *answer]])
        scores, weights = self.parts().whole(self.params, inputs)
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
    """Write a bot to a file, in float16, which is precise enough for answers."""
    words = {name: "\n".join(getattr(bot, name).words) for name in ("asked", "said")}
    checkpoint.save(path, words | {"params": tree.astype(bot.params, np.float16)})


def load(path=MODEL):
    """Read a bot from a file."""
    words = checkpoint.scalars(path)
    if not all(isinstance(words.get(name), str) for name in ("asked", "said")):
        raise ValueError(f"{path} is not a chatbot; write one with train.py --output {path}")
    shapes = checkpoint.array_shapes(path)
    for name in ("asked", "said"):
        # Check before allocating tables: the table of the file has one row per word.
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
