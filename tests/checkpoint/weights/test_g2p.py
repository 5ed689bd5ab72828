"""The pronunciation model of the package g2p-en: an encoder and a decoder of GRUs in an `.npz`.

The package also looks words up in the dictionary of nltk, which needs a download. The test replaces
this dictionary by an empty one, and compares the network alone.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import npdl.functional as F
from npdl.checkpoint import CheckpointError, from_torch

WORDS = 1000
MODEL = F.graph(
    ("letters", "phonemes", "mask"),
    {
        "spelling": (F.embedding(29, 256), "letters"),
        ("encoder", "thought"): (F.gru(256, return_state=True), ("spelling", "mask")),
        "sounds": (F.embedding(74, 256), "phonemes"),
        "speech": (F.gru(256, return_sequence=True), ("sounds", None, "thought")),
        "scores": (F.dense(74), "speech"),
    },
    "scores",
)
LIKE = MODEL.init(0, ((None,), (None,), (None,)))
CELLS = {"encoder": "enc", "speech": "dec"}
ARRAYS = {"weight": "w_ih", "recurrent_weight": "w_hh", "bias": "b_ih", "recurrent_bias": "b_hh"}
NAMES = {
    "spelling/table": "enc_emb",
    "sounds/table": "dec_emb",
    "scores/weight": "fc_w",
    "scores/bias": "fc_b",
} | {f"{node}/{ours}": f"{cell}_{t}" for node, cell in CELLS.items() for ours, t in ARRAYS.items()}


@pytest.fixture(scope="module")
def package():
    """Return the module of the package, and its model without the dictionary."""
    nltk = pytest.importorskip("nltk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk, "download", lambda *_: False)
        g2p = pytest.importorskip("g2p_en.g2p")
        patch.setattr(g2p, "cmudict", SimpleNamespace(dict=dict))
        patch.setattr(g2p, "construct_homograph_dictionary", dict)  # leaves its file open
        yield g2p, g2p.G2p()


def words():
    """Return words of the documentation of Python."""
    from pydoc_data import topics

    found = dict.fromkeys(re.findall(r"\b[a-z]{3,}\b", " ".join(topics.topics.values())))
    return list(found)[:WORDS]


def pronounced(params, batch, start=2, end=3, length=20):
    """Return the ids of the phonemes of several words, by greedy decoding with one batch."""
    longest = max(map(len, batch))
    letters = np.array([[*word, *[0] * (longest - len(word))] for word in batch])
    mask = np.arange(longest) < np.array([[len(word)] for word in batch])
    x = F.embedding(29, 256)(params["spelling"], letters)
    state = F.gru(256)(params["encoder"], (x, mask))
    cell, sounds, head = F.one_step(F.gru(256)), F.embedding(74, 256), F.dense(74)
    last, steps = np.full(len(batch), start), []
    for _ in range(length):
        y, state = cell(params["speech"], (sounds(params["sounds"], last), state))
        last = head(params["scores"], y).argmax(-1)
        steps.append(last)
    return [
        [*ids[: np.argmax(ids == end)]] if end in ids else [*ids] for ids in np.transpose(steps)
    ]


@pytest.mark.slow
def test_a_thousand_words_get_the_phonemes_of_the_package(package):
    g2p, reference = package
    params = from_torch(Path(g2p.dirname, "checkpoint20.npz"), MODEL, LIKE, NAMES)
    ids = [[*map(reference.g2idx.get, word), reference.g2idx["</s>"]] for word in words()]
    assert len(ids) == WORDS
    found = pronounced(params, ids)
    expected = [reference.predict(word) for word in words()]
    assert [[reference.idx2p[i] for i in phonemes] for phonemes in found] == expected
    assert reference.predict("learning") == ["L", "ER1", "N", "IH0", "NG"]


@pytest.mark.slow
def test_another_architecture_is_refused_with_all_differences(package):
    path, small = Path(package[0].dirname, "checkpoint20.npz"), F.gru(128)
    names = {ours: f"enc_{theirs}" for ours, theirs in ARRAYS.items()}
    with pytest.raises(CheckpointError) as caught:
        from_torch(path, small, small.init(0, (None, 256)), names)
    text = str(caught.value)
    assert "enc_w_hh is [768, 256], but recurrent_weight of gru(units=128) needs [384, 128]" in text
    assert "unexpected: fc_b, float32[74]" in text
