"""Dialogues as arrays of word numbers, and back.

A word is written with the space before it, so that the words of an answer, one after the other,
are the answer again. The words of a question are in lower case, and without punctuation.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

CORPUS = Path(__file__).with_name("dialogues.tsv")
LIMIT = 40  # words; longer texts are cut
PADDING, UNKNOWN, END = range(3)  # numbers of what is no word
SPECIAL = ("<pad>", "<unk>", "<end>")

# In a corpus, <unk> stands for any word that is not known. F.relu and make-up are one word.
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
    """Return the words and marks of a text: ``"Hi, you!"`` is `` Hi``, ``,``, `` you``, ``!``."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return WORD.findall(" " + " ".join(text.split()))[:LIMIT]


def words_of_question(text):
    """Return the words of a question: ``"What's up?"`` is `` what``, `` is``, `` up``."""
    # Longer texts are cut before they cost time.
    text = text[: 100 * LIMIT].lower().replace("’", "'")
    for short, full in SHORT_FORMS.items():
        text = re.sub(short, full, text)
    text = "".join(c if c.isprintable() else " " for c in text)
    words = (word.strip() for word in WORD.findall(text))
    return [f" {word}" for word in words if word == "<unk>" or word[0].isalnum()][:LIMIT]


def slips(word):
    """Yield what may have been meant by a word: other endings, or one letter changed.

    The likeliest come first. The first letter is seldom wrong, and short words are left alone,
    because each is a slip of another one.
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
    """Known words; the number of a word is its place."""

    words: tuple[str, ...]
    numbers: dict[str, int]

    @classmethod
    def of(cls, words):
        """Return the vocabulary of these words."""
        return cls(tuple(words), {word: number for number, word in enumerate(words)})

    @classmethod
    def of_texts(cls, texts):
        """Return the vocabulary of all words of texts, which are lists of words."""
        return cls.of((*SPECIAL, *sorted({word for text in texts for word in text} - {" <unk>"})))

    def encode(self, words):
        """Return the numbers of words."""
        return [self.numbers.get(word, UNKNOWN) for word in words]

    def read(self, words):
        """Return the numbers of the words of a question; where there is none, that of the end."""
        return self.encode(self.corrected(words)) or [END]

    def corrected(self, words):
        """Return the words, each unknown one as the known one that it is a slip of, if any."""
        return [word if word in self.numbers else self._nearest(word) for word in words]

    def _nearest(self, word):
        likely = (other for other in slips(word) if other in self.numbers)
        return next(likely, word)

    def decode(self, numbers):
        """Return the words of numbers."""
        return [self.words[number] for number in numbers]


def read_dialogues(path=CORPUS):
    """Return the pairs (question, answer) of a file: one a line, with a tab between them."""
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
        raise ValueError(f"{path}: there is no dialogue in it")
    return dialogues


def padded(rows):
    """Return lists of numbers as one array, filled up behind."""
    array = np.full((len(rows), max(map(len, rows))), PADDING)
    for place, row in enumerate(rows):
        array[place, : len(row)] = row
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

    `asked` and `said` are the vocabularies. `before` is the answer one word late: from the words
    before, the model learns the word `after`.
    """
    question = padded([asked.read(words_of_question(q)) for q, _ in dialogues])
    after = padded([[*said.encode(words_of_answer(a)), END] for _, a in dialogues])
    before = np.concatenate([np.full((len(after), 1), END), after[:, :-1]], axis=1)
    return (question, question != PADDING, before), after, (after != PADDING).astype(np.float32)
