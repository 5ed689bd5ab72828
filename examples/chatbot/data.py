"""Dialogues as arrays of word ids, and back.

A word includes the space before it, so joining the words of an answer gives the answer. The words
of a question are in lower case, without punctuation.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

CORPUS = Path(__file__).with_name("dialogues.tsv")
LIMIT = 40  # words; longer texts are cut
PADDING, UNKNOWN, END = range(3)  # ids of the special words
SPECIAL = ("<pad>", "<unk>", "<end>")

# In a corpus, <unk> matches any unknown word. F.relu and make-up are one word.
WORD = re.compile(r" ?<unk>| ?\w+(?:[.'_-]\w+)*| ?[^\w\s]")
ENDINGS = ("s", "es", "d", "ed", "ing", "ly", "er")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORT_FORMS = {
    r"\bcan't\b|\bcannot\b": "can not",
    r"\bwon't\b": "will not",
    r"\blet's\b": "let us",
    r"n't\b": " not",
    r"'re\b": " are",
    r"'m\b": " am",
    r"'s\b": " is",
    r"'ll\b": " will",
    r"'ve\b": " have",
    r"'d\b": " would",
}


def words_of_answer(text):
    """Return words and punctuation of a text: ``"Hi, you!"`` is `` Hi``, ``,``, `` you``, ``!``."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return WORD.findall(" " + " ".join(text.split()))[:LIMIT]


def words_of_question(text):
    """Return the words of a question: ``"What's up?"`` is `` what``, `` is``, `` up``."""
    # Long texts are cut first, to bound the time.
    text = text[: 100 * LIMIT].lower().replace("’", "'")
    for short, full in SHORT_FORMS.items():
        text = re.sub(short, full, text)
    text = "".join(c if c.isprintable() else " " for c in text)
    words = (word.strip() for word in WORD.findall(text))
    return [f" {word}" for word in words if word == "<unk>" or word[0].isalnum()][:LIMIT]


def corrections(word):
    """Yield possible corrections of a word: other endings, or one changed letter.

    The most likely corrections come first. The first letter is kept. Short words have no
    corrections, because too many other words are close.
    """
    if not 5 <= len(word) <= 20:  # with the space before it
        return
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) > 3:
            stem = word.removesuffix(ending)
            yield from (stem, stem + "e")
            if stem[-1] == stem[-2]:
                yield stem[:-1]
    yield from (word + ending for ending in ("s", "ing", "ed"))
    cuts = [(word[:i], word[i:]) for i in range(2, len(word) + 1)]
    yield from (a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1)
    yield from (a + b[1:] for a, b in cuts if b)
    yield from (a + letter + b for a, b in cuts for letter in LETTERS)
    if len(word) > 5:
        yield from (a + letter + b[1:] for a, b in cuts if b for letter in LETTERS)


class Vocabulary(NamedTuple):
    """Known words; the id of a word is its index in `words`."""

    words: tuple[str, ...]
    numbers: dict[str, int]

    @classmethod
    def of(cls, words):
        """Return a vocabulary with these words."""
        return cls(tuple(words), {word: number for number, word in enumerate(words)})

    @classmethod
    def of_texts(cls, texts):
        """Return the vocabulary of all words of texts, which are lists of words."""
        return cls.of((*SPECIAL, *sorted({word for text in texts for word in text} - {" <unk>"})))

    def encode(self, words):
        """Return the ids of words."""
        return [self.numbers.get(word, UNKNOWN) for word in words]

    def read(self, words):
        """Return the ids of the words of a question, or the id of the end if it is empty."""
        return self.encode(self.corrected(words)) or [END]

    def corrected(self, words):
        """Return the words with misspellings of known words corrected."""
        return [word if word in self.numbers else self._nearest(word) for word in words]

    def _nearest(self, word):
        likely = (other for other in corrections(word) if other in self.numbers)
        return next(likely, word)

    def decode(self, numbers):
        """Return the words with these ids."""
        return [self.words[number] for number in numbers]


def read_dialogues(path=CORPUS):
    """Return the pairs (question, answer) of a file: one per line, with a tab between them."""
    dialogues = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        question, tab, answer = line.partition("\t")
        if not (tab and words_of_answer(answer)):
            raise ValueError(
                f"{path}, line {number}: expected a question, a tab and an answer, got {line!r:.80}"
            )
        dialogues.append((question, answer.strip()))
    if not dialogues:
        raise ValueError(f"{path} has no dialogue; expected lines: a question, a tab, an answer")
    return dialogues


def padded(rows):
    """Return lists of ids as one array, padded at the end."""
    array = np.full((len(rows), max(map(len, rows))), PADDING)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array


def vocabularies(dialogues):
    """Return the vocabularies of the questions and of the answers of a corpus."""
    questions, answers = zip(*dialogues, strict=True)
    return (
        Vocabulary.of_texts(map(words_of_question, questions)),
        Vocabulary.of_texts(map(words_of_answer, answers)),
    )


def as_arrays(dialogues, asked, said):
    """Return ``((question, mask, before), after, weights)`` for :func:`npdl.training.fit`.

    `asked` and `said` are the vocabularies. `before` is the answer, delayed by one word. The model
    learns to predict `after` from the previous words.
    """
    question = padded([asked.read(words_of_question(q)) for q, _ in dialogues])
    after = padded([[*said.encode(words_of_answer(a)), END] for _, a in dialogues])
    before = np.concatenate([np.full((len(after), 1), END), after[:, :-1]], axis=1)
    return (question, question != PADDING, before), after, (after != PADDING).astype(np.float32)
