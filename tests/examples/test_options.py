"""Invalid options and data files of the examples: one sentence, and exit status 2."""

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from memory import peak
from mnist_files import write_idx

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted({path.stem for path in EXAMPLES.glob("*.py")} - {"example_data", "options"})
CHATBOT = [f"chatbot/{name}" for name in ("chat", "screenshot", "server", "train")]

pytest.importorskip("matplotlib")


@pytest.fixture
def refusal_of(example, capsys):
    """Return a function that runs a script with invalid options and returns its last line."""

    def run(script, *arguments):
        with pytest.raises(SystemExit) as ended:
            example(script, *arguments)
        printed = capsys.readouterr()
        assert (ended.value.code, printed.out) == (2, "")
        return printed.err.splitlines()[-1]

    return run


REFUSED = [
    *((script, ("--seed", "-1"), "'-1' is not an integer from 0 to") for script in SCRIPTS),
    *(
        (script, ("--epochs", value), f"'{value}' is not an integer from 1 to")
        for script, value in [
            *(("digits", value) for value in ("0", "-1", "1.5", "many", "nan", "2000000")),
            *(
                ("digits_cnn", "0"),
                ("digits_page", "0"),
                ("ensemble", "-1"),
                ("per_example_gradients", "0"),
            ),
            *(("saliency", "0"), ("sentences", "-3"), ("sweep", "0")),
        ]
    ),
    *(
        (script, (f"--{option}", "0"), f"argument --{option}: '0' is not an integer from 1 to")
        for script, options in [
            ("characters", ("length",)),
            ("evolution", ("generations", "pairs")),
            *(("digits_cnn", ("shards",)), ("maml", ("steps",)), ("sweep", ("workers",))),
        ]
        for option in options
    ),
    ("characters", ("--steps", "1"), "'1' is not an integer from 2 to 100000"),
    ("ensemble", ("--members", "1"), "'1' is not an integer from 2 to 1000"),
    ("characters", ("--steps", "1000000000"), "not an integer from 2 to 100000"),
    *(
        ("characters", ("--temperature", value), f"'{value}' is not a number from 0.01 to 100")
        for value in ("0", "-1", "nan", "inf", "warm")
    ),
    *(
        ("evolution", ("--size", value), f"'{value}' is not a number from 0.001 to 100")
        for value in ("0", "-0.3", "nan")
    ),
    *(
        ("per_example_gradients", ("--wrong", value), f"'{value}' is not a number from 0.01 to")
        for value in ("0", "1", "-0.1", "nan")
    ),
    ("private_training", ("--noise", "0.1"), "'0.1' is not a number from 0.3 to 100"),
    ("private_training", ("--bound", "0"), "'0' is not a number from 0.001 to 1000"),
    ("private_training", ("--steps", "0"), "'0' is not an integer from 1 to"),
    ("gradient_penalty", ("--penalty", "-1"), "'-1' is not a number from 0 to 100"),
    ("gradient_penalty", ("--steps", "0"), "'0' is not an integer from 1 to"),
    ("gradient_penalty", ("--output", "a.jpg"), "'a.jpg' is not the name of a file that ends in"),
    ("poisson", ("--points", "7"), "'7' is not an integer from 8 to"),
    ("poisson", ("--steps", "0"), "'0' is not an integer from 1 to"),
    ("poisson", ("--output", "a.jpg"), "'a.jpg' is not the name of a file that ends in"),
    ("semantic_search", ("--folder", "nowhere"), "directory 'nowhere' does not exist"),
    ("semantic_search", ("--count", "0"), "'0' is not an integer from 1 to 100"),
    ("semantic_search", ("--texts", "0"), "'0' is not an integer from 1 to"),
    ("voice_activity", ("--audio", "nowhere.wav"), "'nowhere.wav' does not exist"),
    ("voice_activity", ("--seconds", "0"), "'0' is not an integer from 1 to 3600"),
    ("digits", ("--style", "keras"), "invalid choice: 'keras'"),
    ("characters", ("--style", "compat", "--model", "transformer"), "no transformer in --style"),
    ("digits", ("--mnist", "nowhere"), "directory 'nowhere' does not exist"),
    ("digits_cnn", ("--mnist", __file__), "does not exist"),
    ("digits", ("--mnist", EXAMPLES), "has no train-images-idx?-ubyte or .gz"),
    ("sentences", ("--trec", "nowhere.label"), "'nowhere.label' does not exist"),
    ("sentences", ("--trec", __file__), 'line 1 is \'"""Invalid option'),
    ("characters", ("--text", "nowhere.txt"), "'nowhere.txt' does not exist"),
    ("characters", ("--text", EXAMPLES), "is not a file"),
    ("digits", ("--output", "curve.jpg"), "'curve.jpg' is not the name of a file that ends in"),
    ("saliency", ("--output", EXAMPLES), "is not the name of a file that ends in .png"),
    ("digits_cnn", ("--output", __file__), "cannot write there"),
    ("digits_page", ("--output", __file__), "cannot write there"),
    *(
        ("chatbot/server", ("--port", value), f"'{value}' is not an integer from 1 to 65535")
        for value in ("99999999", "65536", "0", "-5", "http")
    ),
    *(
        ("chatbot/chat", ("--beam", value), f"'{value}' is not an integer from 1 to 50")
        for value in ("0", "-1", "100000", "2.5")
    ),
    *(
        ("chatbot/chat", ("--temperature", value), f"'{value}' is not a number from 0.1 to 2")
        for value in ("0", "-1", "99", "nan", "inf")
    ),
    *((script, ("--seed", "-1"), "integer from 0") for script in (CHATBOT[0], CHATBOT[-1])),
    *(
        (script, ("--model", "nowhere.npz"), "'nowhere.npz' does not exist")
        for script in ("chatbot/chat", "chatbot/server")
    ),
    ("chatbot/chat", ("--model", EXAMPLES), "is not a file"),
    ("chatbot/chat", ("--model", __file__), "test_options.py"),
    ("chatbot/server", ("--model", __file__), "test_options.py"),
    ("chatbot/train", ("--corpus", "nowhere.tsv"), "'nowhere.tsv' does not exist"),
    ("chatbot/train", ("--corpus", __file__), "line 1: expected a question, a tab and an answer"),
    ("chatbot/train", ("--epochs", "0"), "'0' is not an integer from 1 to"),
    ("chatbot/train", ("--output", "bot.pkl"), "'bot.pkl' is not the name of a file that ends in"),
    ("chatbot/screenshot", ("--output", "page.jpg"), "'page.jpg' is not the name of a file"),
]
NEEDED = {"chatbot/server": ("flask",), "chatbot/screenshot": ("flask", "selenium")}


def test_the_table_has_every_option_with_a_number_or_path():
    plain = {"--quick", "--style", "--model", "--host", "--question", "--compare"}
    there = {
        (script, option)
        for script in (*SCRIPTS, *CHATBOT)
        for option in re.findall(
            r'"(--\w+)"', (EXAMPLES / f"{script}.py").read_text(encoding="utf-8")
        )
    }
    refused = {(script, option) for script, options, _ in REFUSED for option in options[::2]}
    assert {pair for pair in there if pair[1] not in plain} - refused == set()


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    REFUSED,
    ids=[
        " ".join([script, *(Path(a).name for a in arguments)]) for script, arguments, _ in REFUSED
    ],
)
def test_an_invalid_option_is_refused_with_a_sentence(script, arguments, message, refusal_of):
    for module in NEEDED.get(script, ()):
        pytest.importorskip(module)
    line = refusal_of(script, *arguments)
    assert line.startswith(f"{Path(script).name}.py: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 characters"),
        (b"too short", "has 9 characters, 6 different ones; expected at least 2560 and 2"),
        (b"a" * 5000, "has 5000 characters, 1 different ones"),
        (b"\xff" * 5000, "cannot be read: 'utf-8' codec"),
    ],
    ids=["empty", "short", "one character", "bytes"],
)
def test_a_text_without_information_is_refused(content, message, tmp_path, refusal_of):
    (tmp_path / "text.txt").write_bytes(content)
    assert message in refusal_of("characters", "--text", tmp_path / "text.txt")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has 0 questions of 0 classes; expected at least 50 of 2 classes"),
        (["LOC:city Where is it ?"] * 60, "has 60 questions of 1 classes"),
        (["LOC:city Where is it ?", "", "Who is it ?"], "line 3 is 'Who is it ?', expected e.g."),
        (["LOC:city "], "line 1 is 'LOC:city '"),
    ],
    ids=["empty", "one class", "no class", "no question"],
)
def test_a_file_without_questions_is_refused(lines, message, tmp_path, refusal_of):
    (tmp_path / "questions.label").write_text("\n".join(lines), encoding="utf-8")
    assert message in refusal_of("sentences", "--trec", tmp_path / "questions.label")


def test_mnist_files_are_read(mnist, example):
    pixels, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    training, validation, test = example("example_data").digits((0,), mnist)
    shapes = [x.shape for x, _ in (training, validation, test)]
    assert shapes == [(1250, 1, 28, 28), (250, 1, 28, 28), (297, 1, 28, 28)]
    found = np.concatenate([training[1], validation[1], test[1]])
    np.testing.assert_array_equal(found, labels)
    assert test[0].dtype == np.float32
    np.testing.assert_allclose(
        test[0][:, 0, 2:26:3, 2:26:3] * 16, pixels[1500:].reshape(-1, 8, 8), atol=0.07
    )


ZEROS = np.zeros((297, 28, 28), np.uint8)
HUGE = struct.pack(">HBBLLL", 0, 8, 3, 5_883_450, 28, 28) + bytes(1000)


def test_a_compressed_file_takes_at_most_its_declared_size(mnist, example):
    write_idx(mnist / "t10k-labels-idx1-ubyte", ZEROS[:, 0, 0])
    data = (mnist / "t10k-labels-idx1-ubyte").read_bytes()
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    (mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(data + bytes(1 << 27)))

    def refused():
        with pytest.raises(SystemExit):
            example("example_data").idx(mnist, "t10k-labels")

    assert peak(refused)[0] < 1 << 22


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels-idx1-ubyte", None, "has no t10k-labels-idx?-ubyte or .gz"),
        ("t10k-labels-idx1-ubyte", b"", "not an IDX file of bytes"),
        ("t10k-labels-idx1-ubyte", b"a page of the web", "wrong first bytes"),
        ("t10k-labels-idx1-ubyte", ZEROS[:5, 0, 0], "(297, 28, 28) and the labels (5,)"),
        ("t10k-labels-idx1-ubyte", ZEROS[:, 0, 0] + 10, "a label of t10k is 10, not a digit"),
        ("train-images-idx3-ubyte", ZEROS[:5], "expected (count, 28, 28) and (count,)"),
        ("train-images-idx3-ubyte", ZEROS[:, :9], "images of train are (297, 9, 28)"),
        ("t10k-images-idx3-ubyte.gz", b"no gzip", "not an IDX file of bytes: Not a gzipped file"),
        (
            "t10k-images-idx3-ubyte.gz",
            gzip.compress(b"cut", mtime=0)[:-9],
            "not an IDX file of bytes",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            gzip.compress(b"\0\0\x08\3\0", mtime=0),
            "not an IDX file of bytes",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            gzip.compress(HUGE, mtime=0),
            "declares 4612624800 bytes; the limit is",
        ),
        ("t10k-images-idx3-ubyte", HUGE, "declares 4612624800 bytes; the limit is"),
    ],
)
def test_damaged_mnist_files_are_refused(name, content, message, mnist, example, capsys):
    path = mnist / name
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_idx(path, content)
    with pytest.raises(SystemExit) as ended:
        example("example_data").digits((0,), mnist)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
