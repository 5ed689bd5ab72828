"""The chatbot of examples/chatbot: its data, gradients, decoding, training and answers."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bot import MODEL, MOST_DOUBT, Bot, load, save
from data import (
    CORPUS,
    END,
    LIMIT,
    PADDING,
    SPECIAL,
    UNKNOWN,
    Vocabulary,
    as_arrays,
    read_dialogues,
    vocabularies,
    words_of_answer,
    words_of_question,
)
from memory import peak
from model import attention, initial_state, make_parts, unknown_words, without
from train import fraction_right, train

import npdl.functional as F
from npdl import checkpoint, tree
from npdl.gradcheck import check_gradients

FOLDER = Path(CORPUS).parent
DIALOGUES = [
    ("How are you?", "I am fine."),
    ("Hi", "Hello, you!"),
    ("Hi", "Hi."),
    ("<unk>", "What?"),
]


@pytest.fixture(scope="module")
def bot():
    return load()


def tiny_bot(seed=0):
    """Return an untrained bot."""
    asked, said = vocabularies(DIALOGUES)
    parts = make_parts(len(asked.words), len(said.words))
    return Bot(asked, said, parts.whole.init(seed, ((3,), (3,), (4,))))


# Data


def test_splitting_and_joining_an_answer_gives_the_answer():
    for _, answer in read_dialogues():
        assert "".join(words_of_answer(answer)) == " " + answer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What's up?", "what is up"),
        ("I'm SURE you’re right, aren't you!", "i am sure you are right are not you"),
        ("I can't, I cannot, I won't", "i can not i can not i will not"),
        ("What does F.softmax_cross_entropy do?", "what does f.softmax_cross_entropy do"),
        ("  tabs\tand\nlines\x00and\x1b[31mcolours ", "tabs and lines and 31mcolours"),
        ("<script>alert(1)</script>", "script alert 1 script"),
        ("the <unk> word", "the <unk> word"),
        ("¿Qué? 你好 привет", "qué 你好 привет"),
        ("", ""),
        ("?!… 🙂", ""),
    ],
)
def test_a_question_is_split_into_normalized_words(text, words):
    assert [word[1:] for word in words_of_question(text)] == words.split()


KNOWN = "cat gradient hamster layers old optimizer stop tired training weather"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("optimzer", "optimizer"),
        ("gradeint", "gradient"),
        ("traning", "training"),
        ("weathar", "weather"),
        ("layrs", "layers"),
        ("hamsters", "hamster"),
        ("stopped", "stop"),
        ("tired", "tired"),
        ("cut", "cut"),  # too short for a correction to cat
        ("told", "told"),  # the first letter must agree
        ("x" * 100_000, "x" * 100_000),
    ],
    ids=range(11),
)
def test_a_misspelt_word_is_read_as_the_known_word(written, meant):
    vocabulary = Vocabulary.of([*SPECIAL, *words_of_question(KNOWN)])
    assert vocabulary.corrected([f" {written}"]) == [f" {meant}"]


def test_long_texts_are_truncated():
    assert words_of_question("a " * 10**6) == [" a"] * LIMIT
    assert len(words_of_answer("a " * 1000)) == LIMIT
    assert len(words_of_question("x" * 10**6)) == 1


def test_dialogues_are_converted_to_arrays():
    asked, said = vocabularies(DIALOGUES)
    (question, mask, before), after, weights = as_arrays(DIALOGUES, asked, said)
    number = asked.numbers
    assert question.tolist() == [
        [number[" how"], number[" are"], number[" you"]],
        [number[" hi"], PADDING, PADDING],
        [number[" hi"], PADDING, PADDING],
        [UNKNOWN, PADDING, PADDING],
    ]
    assert mask.tolist() == (question != PADDING).tolist()
    assert said.decode(after[0]) == [" I", " am", " fine", ".", "<end>"]
    assert said.decode(before[0]) == ["<end>", " I", " am", " fine", "."]
    assert said.decode(after[2]) == [" Hi", ".", "<end>", "<pad>", "<pad>"]
    assert weights[2].tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\thi\n\nno tab here\n", "line 3: expected a question, a tab and an answer"),
        ("hello\t \n", "line 1: expected a question, a tab and an answer"),
        ("\n", "has no dialogue"),
    ],
)
def test_an_invalid_file_of_dialogues_is_named(tmp_path, text, message):
    path = tmp_path / "mine.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_dialogues(path)


def test_the_corpus_has_the_documented_size():
    questions = {tuple(words_of_question(question)) for question, _ in read_dialogues()}
    assert len(questions) >= 400


# The model

QUESTION = np.array([[3, 4, 5, 2], [6, 2, 0, 0], [7, 8, 2, 0]])
BEFORE = np.array([[2, 3, 4, 5, 6], [2, 8, 7, 0, 0], [2, 3, 0, 0, 0]])


@pytest.mark.parametrize("train_mode", [False, True])
def test_the_gradient_is_exact(train_mode):
    whole = make_parts(9, 10, units=3).whole
    check_gradients(
        whole, ((4,), (4,), (5,)), x=(QUESTION, QUESTION != 0, BEFORE), train=train_mode
    )


@F.layer
def states_of_cells():
    """(c, c', memory, mask) -> (((c, c), (c', c')), memory, mask); the gradient ignores h."""

    def backward(params, cache, g):
        ((_, g_c), (_, g_back)), g_memory, _ = g
        return (), (g_c, g_back, g_memory, None)

    return F.Layer(
        lambda rng, shape: (),
        lambda params, x: ((((x[0], x[0]), (x[1], x[1])), *x[2:]), None),
        backward,
        lambda shape: (((shape[0], shape[0]), (shape[1], shape[1])), *shape[2:]),
    )


def states_memory_mask():
    generator = np.random.default_rng(2)
    states = tuple(tuple(generator.normal(size=(2, 2, 5, 2))[i]) for i in range(2))
    memory = generator.uniform(-1, 1, size=(5, 3, 4))
    return states, memory, np.arange(3) < np.array([[3], [1], [2], [3], [2]])


def test_the_first_state_is_the_maximum_of_unmasked_memory():
    states, memory, mask = states_memory_mask()
    strongest, cells = initial_state()((), (states, memory, mask))
    assert np.array_equal(strongest[0], memory[0].max(axis=0))
    assert np.array_equal(strongest[1], memory[1, 0])
    assert np.array_equal(strongest[2], memory[2, :2].max(axis=0))
    assert np.array_equal(cells, np.concatenate([states[0][1], states[1][1]], axis=1))


def queries_memory_mask():
    queries, memory = (np.random.default_rng(i).normal(size=(2, 3 + i, 2 + i)) for i in range(2))
    return queries, memory, np.array([[True, True, True, False], [True, False, False, False]])


def test_the_gradients_of_user_defined_layers_are_exact():
    ((_, c), (_, c_back)), memory, mask = states_memory_mask()
    thought = F.serial(states_of_cells(), initial_state())
    check_gradients(thought, ((2,), (2,), (3, 4), (3,)), x=(c, c_back, memory, mask))
    check_gradients(attention(), ((3, 2), (4, 3), (4,)), x=queries_memory_mask())


def test_attention_ignores_masked_positions():
    layer = attention()
    params = layer.init(0, ((3, 2), (4, 3), (4,)))
    queries, memory, mask = tree.astype(queries_memory_mask(), np.float32)
    found, weights = layer(params, (queries, memory, mask))
    assert np.allclose(weights.sum(axis=2), 1, atol=1e-6)
    assert not weights[0, :, 3].any()
    assert (weights[1, :, 0] == 1).all()
    assert np.array_equal(found[..., :2], queries)
    assert np.allclose(found[1, :, 2:], memory[1, 0], atol=1e-6)
    assert found.dtype == weights.dtype == np.float32


def test_word_dropout_keeps_padding_and_single_words():
    words = np.tile([END, 3, 4, 5, END, PADDING], (1000, 1))
    words[::2, 2:4] = PADDING
    layer = unknown_words(0.25)
    assert layer((), words) is words
    hidden = layer((), words, train=True, rng=(0, 1))
    assert np.array_equal(hidden[::2], words[::2])
    assert np.array_equal(hidden[1::2, [0, 4, 5]], words[1::2, [0, 4, 5]])
    replaced = hidden[1::2, 1:4] != words[1::2, 1:4]
    assert (hidden[1::2, 1:4][replaced] == UNKNOWN).all()
    assert 0.21 < replaced.mean() < 0.29
    assert np.array_equal(hidden, layer((), words, train=True, rng=(0, 1)))


def test_decoding_word_by_word_agrees_with_decoding_at_once():
    bot = tiny_bot()
    answer = [*bot.said.encode([" Hello", ",", " you", "!"]), END]
    parts = bot.parts()
    question = np.array([bot.asked.encode([" how", " are", " you"])])
    mask, before = question != PADDING, np.array([[END, *answer[:-1]]])
    expected, _ = parts.whole(bot.params, (question, mask, before))
    step, state = F.decode_step(parts.speaker), None
    for t in range(before.shape[1]):
        inputs = before[:, t : t + 1], question, mask
        scores, state = step({"scores": bot.params, "said": ()}, inputs, state)
        assert np.allclose(scores[0, 0, END:], expected[0, t, END:], atol=1e-5)
        assert np.isneginf(scores[0, 0, [PADDING, UNKNOWN]]).all()


def test_scores_of_words_that_are_never_said_have_no_gradient():
    layer, scores = without((0, 2)), np.arange(6.0).reshape(2, 3)
    y, cache = layer.apply((), scores)
    assert np.array_equal(y, [[-np.inf, 1, -np.inf], [-np.inf, 4, -np.inf]])
    assert np.array_equal(layer.backward((), cache, scores + 1)[1], [[0, 2, 0], [0, 5, 0]])


def test_padding_does_not_change_the_outputs():
    whole = make_parts(9, 10, units=4).whole
    params = whole.init(1, ((4,), (4,), (5,)))
    together = whole(params, (QUESTION, QUESTION != 0, BEFORE))[0]
    alone = whole(params, (QUESTION[1:2, :2], QUESTION[1:2, :2] != 0, BEFORE[1:2, :3]))[0]
    assert np.allclose(together[1, :3], alone[0], atol=1e-5)


# Training and files


def test_equal_keys_give_equal_training():
    first, again, other = (train(DIALOGUES, epochs=3, key=k, progress=False) for k in (1, 1, 2))
    assert tree.all_close(first.params, again.params, rtol=0, atol=0)
    assert not tree.all_close(first.params, other.params)


def test_a_small_corpus_is_learned_saved_and_loaded(tmp_path):
    bot = train(DIALOGUES, epochs=80, batch_size=2, progress=False)
    assert fraction_right(bot, DIALOGUES) == 1
    save(tmp_path / "bot.npz", bot)
    again = load(tmp_path / "bot.npz")
    assert (again.asked, again.said) == (bot.asked, bot.said)
    assert fraction_right(again, DIALOGUES) == 1
    assert again.reply("blah").answer == "What?"


def test_a_file_without_a_bot_is_refused(tmp_path):
    checkpoint.save(tmp_path / "other.npz", {"params": np.zeros(3)})
    with pytest.raises(ValueError, match=r"other\.npz is not a chatbot"):
        load(tmp_path / "other.npz")


FORGED = {
    "a million words": lambda words, params: (words | {"asked": "a\n" * (1 << 20)}, params),
    "a word more": lambda words, params: (words | {"said": words["said"] + "\nmore"}, params),
    "a table that is not there": lambda words, params: (words, params | {"said": ()}),
    "words that are a number": lambda words, params: (words | {"said": 3}, params),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_file_with_wrong_word_counts_takes_no_memory(forged, tmp_path):
    path, kept = tmp_path / "bot.npz", checkpoint.scalars(MODEL)
    words = {name: kept[name] for name in ("asked", "said")}
    parts = make_parts(*(text.count("\n") + 1 for text in words.values()))
    params = tree.astype(parts.whole.init(0, ((1,), (1,), (1,))), np.float16)
    words, params = forged(words, params)
    checkpoint.save(path, words | {"params": params})

    def refused():
        with pytest.raises(ValueError, match=r"is damaged|is not a chatbot"):
            load(path)

    assert peak(refused)[0] < 1 << 25


def run(program, *arguments, text=b""):
    command = [sys.executable, "-W", "error", FOLDER / program, *arguments]
    # The folder of the program is first on its path; npdl is imported from this working tree.
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent.parent), "PYTHONUTF8": "1"}
    return subprocess.run(command, input=text, capture_output=True, env=environment, check=False)


def test_the_programs_train_on_a_file_and_answer_questions(tmp_path):
    corpus, model = tmp_path / "mine.tsv", tmp_path / "new" / "mine.npz"
    corpus.write_text(
        "".join(f"{question}\t{answer}\n" for question, answer in DIALOGUES), encoding="utf-8"
    )
    trained = run("train.py", "--corpus", corpus, "--output", model, "--epochs", "150")
    assert trained.returncode == 0, trained.stderr
    assert b"answers 100.0% of its questions" in trained.stdout
    text = "How are you?\n\u4f60\u597d\n".encode() + b"\xff\xfe\x00\n"
    chat = run("chat.py", "--model", model, text=text)
    assert chat.returncode == 0, chat.stderr
    answers = [line.split("\t")[1] for line in chat.stdout.decode().splitlines()]
    assert answers[:2] == ["I am fine.", "What?"]
    assert len(answers) == 3


# Answers of the shipped bot


def test_the_shipped_model_is_small_and_fits_the_corpus(bot):
    assert MODEL.stat().st_size < 1e6
    assert (bot.asked, bot.said) == vocabularies(read_dialogues())


def test_nine_in_ten_training_questions_are_answered_right(bot):
    assert fraction_right(bot, read_dialogues()[::61]) >= 0.9


def test_nine_in_ten_answers_consist_of_the_likeliest_words(bot):
    """Given the previous words of the answer, each next word has the highest probability."""
    known, dialogues = {}, sorted(read_dialogues(), key=lambda pair: len(pair[1]))
    for start in range(0, len(dialogues), 250):
        part = dialogues[start : start + 250]
        given, after, weights = as_arrays(part, bot.asked, bot.said)
        scores, _ = bot.parts().whole(bot.params, given)
        right = ((scores.argmax(axis=-1) == after) | (weights == 0)).all(axis=1)
        for (question, _), is_right in zip(part, right, strict=True):
            words = tuple(words_of_question(question))
            known[words] = known.get(words, False) or is_right
    assert sum(known.values()) >= 0.9 * len(known)


@pytest.mark.slow
def test_nine_in_ten_questions_of_all_are_answered_right(bot):
    assert fraction_right(bot, read_dialogues()[1::5]) >= 0.9


def judged():
    """Return the rows (question, answer, judgement) of the tables in the README."""
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [re.fullmatch(r"\| `(.+)` \| `(.+)` \| (yes|no)(?:, .*)? \|", line) for line in lines]
    return [row.groups() for row in rows if row]


def test_the_readme_tables_show_the_answers_of_the_bot(bot):
    rows = judged()
    for name, part in ("reworded.txt", rows[:50]), ("strangers.txt", rows[50:]):
        assert [question for question, _, _ in part] == (FOLDER / name).read_text(
            encoding="utf-8"
        ).splitlines()
        assert sum(judgement == "yes" for _, _, judgement in part) >= 30
    assert len(rows) == 100
    known = {tuple(words_of_question(question)) for question, _ in read_dialogues()}
    for question, answer, _ in rows:
        assert tuple(words_of_question(question)) not in known
        assert bot.reply(question).answer == answer


def test_names_in_the_answers_exist():
    public = [importlib.import_module(f"npdl.{name}") for name in ("callbacks", "training")]
    root = FOLDER.parent.parent
    for answer in {answer for _, answer in read_dialogues()}:
        for name in re.findall(r"\bF\.(\w+)", answer):
            assert hasattr(F, name), answer
        for name in re.findall(r"\bnpdl\.([\w.]*\w)", answer):
            assert found("npdl", name.split(".")), answer
        for name in re.findall(r"(?<![\w.])[A-Z]\w+(?=\()", answer):
            assert any(hasattr(module, name) for module in public), answer
        for name in re.findall(r"\b(?:docs|examples)/[\w./-]*\w", answer):
            assert (root / name).exists(), answer


def found(module, names):
    """Whether a module has a (nested) attribute of these names."""
    value = importlib.import_module(module)
    for i, name in enumerate(names):
        if not hasattr(value, name):
            return bool(importlib.util.find_spec(f"{module}.{name}")) and found(
                f"{module}.{name}", names[i + 1 :]
            )
        value = getattr(value, name)
    return True


ODD = [
    "",
    "   ",
    "?!",
    "🙂🙂🙂",
    "зачем ты здесь",
    "你好吗",
    "مرحبا",
    "<script>alert('x')</script>",
    "<unk> <pad> <end>",
    "\x00\x07\x1b[2J",
    "\ud800",
    "a" * 100_000,
    "what " * 100_000,
    "'; DROP TABLE users; --",
    "{{ 7 * 7 }}",
    "../../etc/passwd",
]


@pytest.mark.parametrize("question", ODD, ids=range(len(ODD)))
def test_an_odd_question_gets_an_answer(bot, question):
    reply = bot.reply(question)
    assert reply.answer
    assert len(reply.question_words) <= LIMIT
    assert reply.weights.shape == (len(reply.answer_words), len(reply.question_words))
    assert len(reply.known) == len(reply.question_words)
    assert np.isfinite(reply.weights).all()


UNKNOWN_ANSWER = (
    "I do not know that. You can ask me about npdl: its layers, training, saving, plots."
)


@pytest.mark.parametrize("question", ["zzyzx", "你好吗", "x" * 1000, "DROP TABLE"])
def test_unknown_questions_are_answered_as_unknown(bot, question):
    assert bot.reply(question).answer == UNKNOWN_ANSWER


def test_a_guess_is_not_returned_as_an_answer(bot):
    words = words_of_question("soup thread lawyer epoch")
    ids = bot.asked.read(words)
    guess = bot.answer(ids, beam=5)
    assert bot.explained(words, ids, guess)[1] > MOST_DOUBT
    reply = bot.reply("soup thread lawyer epoch")
    assert reply.answer == UNKNOWN_ANSWER
    assert reply.question_words == ["soup", "thread", "lawyer", "epoch"]
    assert all(reply.known)
    assert not reply.sure
    assert bot.reply("soup thread zzyzx epoch").known == [True, True, False, True]


def test_sampled_answers_depend_on_the_key(bot):
    answers = [bot.reply("Tell me a joke", temperature=1.0, key=(0, i)).answer for i in range(20)]
    assert answers == [
        bot.reply("Tell me a joke", temperature=1.0, key=(0, i)).answer for i in range(20)
    ]
    assert len(set(answers)) >= 3


def test_the_attention_weights_of_a_reply_fit_its_words(bot):
    reply = bot.reply("What is npdl?")
    assert reply.question_words == ["what", "is", "npdl"]
    assert "".join(words_of_answer(reply.answer)) == " " + reply.answer
    assert [w.strip() for w in words_of_answer(reply.answer)] == reply.answer_words[:-1]
    assert np.allclose(reply.weights.sum(axis=1), 1, atol=1e-5)
    assert reply.sure
    assert bot.reply("What is zzyzx?", temperature=0.5).known == [True, True, False]
