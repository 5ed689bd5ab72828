"""States of generators: each is restored exactly, and forged states are refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from checkpoint_files import forge, members
from npdl.utils.random import get_rng, get_state, set_state

import npdl
from npdl import checkpoint
from npdl.checkpoint import CheckpointError
from npdl.compat.utils._states import read_generator, write_generator
from npdl.training import Checkpoint

BITS = ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"]
each_bits = pytest.mark.parametrize("bits", BITS)


@pytest.fixture(autouse=True)
def untouched():
    """Restore the generators after the test."""
    rng, bits = get_rng(), np.random.get_bit_generator()
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    yield
    npdl.utils.set_rng(rng)
    np.random.set_bit_generator(bits)
    np.random.set_state(state)  # noqa: NPY002


def made(kind, bits):
    bit_generator = getattr(np.random, bits)(5)
    if kind == "numpy.random":
        np.random.set_bit_generator(bit_generator)
        return np.random
    return getattr(np.random, kind)(bit_generator)


def draws(rng):
    integers = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
    drawn = [rng.standard_normal(3), integers(0, 1 << 20, 5, dtype=np.int32), rng.uniform(size=700)]
    return [array.tolist() for array in drawn]


@each_bits
@pytest.mark.parametrize("kind", ["RandomState", "Generator", "numpy.random"])
def test_every_numpy_generator_is_restored_exactly(kind, bits):
    rng = made(kind, bits)
    draws(rng)  # an odd number of normals: the generator stores the second of a pair
    npdl.utils.set_rng(rng)
    state = get_state()
    expected = draws(rng)
    np.random.set_bit_generator(np.random.MT19937(0))
    set_state(state)
    assert draws(get_rng()) == expected
    assert isinstance(get_rng(), type(rng))


@each_bits
def test_a_model_is_saved_with_a_generator_of_any_kind(bits, tmp_path):
    npdl.utils.set_rng(made("RandomState", bits))
    model = npdl.Model([npdl.layers.Dense(n_out=2, n_in=3)])
    model.compile(loss="mse")
    model.save(tmp_path / "model.npz")
    expected = draws(get_rng())
    npdl.Model.load(tmp_path / "model.npz")
    assert draws(get_rng()) == expected


def test_a_generator_whose_state_cannot_be_saved_is_refused():
    class Own(np.random.PCG64):
        pass

    before = get_rng()
    with pytest.raises(TypeError, match=r"bit generators MT19937, PCG64, .* generator Own"):
        npdl.utils.set_rng(np.random.Generator(Own(1)))
    assert get_rng() is before


def paths(value, path=()):
    """Yield the paths of all values in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key in list(value)[:3] if isinstance(value, dict) else range(min(len(value), 2)):
            yield from paths(value[key], (*path, key))


JUNK = [None, True, -1, 1 << 32, 1 << 64, 1 << 128, 10**9, 700, 1.5, "x", "", [], [1], {}, "test"]


def forgeries():
    """Yield states in JSON, each with one value replaced, removed or added."""
    for kind in ("RandomState", "Generator"):
        for bits in BITS:
            text = write_generator(getattr(np.random, kind)(getattr(np.random, bits)(1)))
            for path in paths(json.loads(text)):
                for junk in (*JUNK, "missing", "more"):
                    values = json.loads(text)
                    if not path:
                        yield json.dumps(junk)
                        continue
                    inside = values
                    for key in path[:-1]:
                        inside = inside[key]
                    if junk == "missing":
                        del inside[path[-1]]
                    elif junk == "more" and isinstance(inside, dict):
                        inside["more"] = 1
                    else:
                        inside[path[-1]] = junk
                    yield json.dumps(values)


def use(text):
    """Draw from the generator of a JSON state; return whether the state was refused."""
    try:
        rng, _ = read_generator(text)
    except ValueError:
        return "refused"
    rng.standard_normal(2000)
    rng.uniform(size=2000)
    return "drawn"


def main():
    counts = {"refused": 0, "drawn": 0}
    for text in forgeries():
        counts[use(text)] += 1
    sys.stdout.write(json.dumps(counts))


def test_forged_states_are_refused_without_a_crash():
    ran = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, check=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    counts = json.loads(ran.stdout)
    assert counts["refused"] > 1000
    # Some replacements are valid values of the field, such as 700 for a word of a key.
    assert counts["drawn"] < counts["refused"] / 5


FORGED = {
    "the test runner": {"bit_generator": "test"},
    "another function": {"bit_generator": "seed"},
    "a class that is not a bit generator": {"bit_generator": "RandomState"},
    "a position after the key": {"state": {"key": [1] * 624, "pos": 625}},
    "a position far after the key": {"state": {"key": [1] * 624, "pos": 10**9}},
    "a negative position": {"state": {"key": [1] * 624, "pos": -1}},
    "a short key": {"state": {"key": [1] * 600, "pos": 3}},
    "a key of zeros": {"state": {"key": [0] * 624, "pos": 3}},
    "a stored normal that is NaN": {"gauss": float("nan")},
    "a stored normal that is a string": {"gauss": "0"},
    "two stored normals": {"has_gauss": 2},
}


@pytest.mark.parametrize("kind", ["RandomState", "Generator", "numpy.random"])
@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_model_file_with_a_forged_generator_is_refused(change, kind, tmp_path):
    npdl.utils.set_seed(0)
    model = npdl.Model([npdl.layers.Dense(n_out=2, n_in=3)])
    model.compile(loss="mse")
    contents = model._contents()
    values = json.loads(contents["generator"])
    contents["generator"] = json.dumps({"generator": kind, "state": values["state"] | change})
    checkpoint.save(tmp_path / "evil.npz", contents)
    before = get_state()
    with pytest.raises(CheckpointError, match="state of a NumPy generator"):
        npdl.Model.load(tmp_path / "evil.npz")
    assert get_state() == before


@pytest.mark.parametrize("name", ["generator", "before"])
def test_a_run_with_a_forged_generator_cannot_resume(name, tmp_path):
    def run(**options):
        npdl.utils.set_seed(0)
        model = npdl.Model([npdl.layers.Dense(n_out=2, n_in=3)])
        model.compile(loss="mse")
        weights, state = model.get_weights(), get_state()
        keep = Checkpoint(tmp_path, every_steps=1, every_epochs=None, keep=1)
        try:
            data = np.ones((6, 3)), np.ones((6, 2))
            model.fit(*data, batch_size=3, verbose=0, checkpoint=keep, **options)
        except CheckpointError:
            assert all(map(np.array_equal, model.get_weights(), weights))
            assert get_state() == state
            raise

    run(max_iter=1)
    (path,) = Checkpoint(tmp_path).paths()
    pairs = members(path)
    header = json.loads(pairs["npdl.json"])
    state = json.loads(header["scalars"][name])
    state["state"]["state"]["pos"] = 10**9
    header["scalars"][name] = json.dumps(state)
    forge(path, (pairs | {"npdl.json": json.dumps(header)}).items())
    with pytest.raises(CheckpointError, match="state of a NumPy generator"):
        run(max_iter=2, resume=True)


if __name__ == "__main__":
    main()
