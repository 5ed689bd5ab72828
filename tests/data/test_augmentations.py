"""Augmentations are pure functions of (rng, epoch, row), in any batch, on any rank."""

import pickle

import numpy as np
import pytest
from arrays import normal, same_bits
from communicators import checked, on_ranks

import npdl.functional as F
from npdl import data, random
from npdl.training import Checkpoint, fit

IMAGES = normal(22, 2, 6, 5)
IDS = np.arange(22) % 3
MODEL = F.serial(F.flatten(), F.dense(3))
LOSS = F.softmax_cross_entropy
AUGMENT = data.chain(data.crop(2), data.flip(), data.noise(0.1), data.cutout(2))
EACH = {
    "crop": data.crop(2),
    "shift": data.shift(3, axis=-2),
    "flip": data.flip(),
    "noise": data.noise(0.5),
    "cutout": data.cutout(3),
    "chain": AUGMENT,
}
each = pytest.mark.parametrize("augment", EACH.values(), ids=EACH)


def train(augment=AUGMENT, x=IMAGES, **options):
    options = {"epochs": 3, "batch_size": 5, "rng": 4, "progress": False} | options
    examples = options.pop("data", (x, IDS))
    return fit(MODEL, LOSS, F.adam(0.05), examples, augment=augment, **options)


@each
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_augmentation_is_pure_and_keeps_the_type(augment, kind):
    x = IMAGES[0].astype(kind)
    x.flags.writeable = False
    found = [augment((3, key), x) for key in range(8)]
    assert all(y.shape == x.shape and y.dtype == x.dtype for y in found)
    assert same_bits(found, [augment((3, key), x) for key in range(8)])
    assert len({y.tobytes() for y in found}) > 1
    again = pickle.loads(pickle.dumps(augment))
    assert again == augment
    assert same_bits(again((3, 1), x), found[1])


def test_a_crop_is_a_window_of_the_padded_image():
    x = IMAGES[0]
    padded = np.pad(x, [(0, 0), (2, 2), (2, 2)])
    windows = {
        padded[:, i : i + 6, j : j + 5].tobytes(): (i, j) for i in range(5) for j in range(5)
    }
    found = {windows[data.crop(2)(key, x).tobytes()] for key in range(300)}
    assert len(found) == 25


def test_a_shift_moves_one_axis():
    x = np.arange(1, 5)
    expected = {(1, 2, 3, 4), (0, 1, 2, 3), (0, 0, 1, 2), (2, 3, 4, 0), (3, 4, 0, 0)}
    assert {tuple(data.shift(2)(key, x).tolist()) for key in range(60)} == expected
    shifted = [data.shift(9)(key, np.ones(2)).any() for key in range(40)]
    assert 0 < sum(shifted) < 20  # a shift beyond the end leaves zeros


def test_a_flip_has_its_probability():
    x = np.arange(3)
    flipped = [data.flip(probability=0.25)(key, x)[0] == 2 for key in range(2000)]
    assert 0.2 < np.mean(flipped) < 0.3
    assert np.array_equal(data.flip(0, 1.0)(0, IMAGES[0]), IMAGES[0][::-1])


def test_noise_has_its_standard_deviation():
    drawn = data.noise(0.5)(1, np.full((100, 100), 3.0))
    assert drawn.mean() == pytest.approx(3, abs=0.02)
    assert drawn.std() == pytest.approx(0.5, abs=0.02)


def test_a_cutout_is_a_square_that_may_leave_the_image():
    counts = [int((data.cutout(3)(key, np.ones((6, 6))) == 0).sum()) for key in range(200)]
    assert max(counts) == 9
    assert set(counts) <= {a * b for a in (1, 2, 3) for b in (1, 2, 3)}


def test_the_key_of_an_example_has_rng_epoch_and_row():
    calls = []

    def record(key, x):
        calls.append((key, x))
        return x

    train(record, epochs=2, batch_size=7)
    calls = calls[1:]  # the first one is a check
    assert [len({key for key, _ in calls[:22]}), len(calls)] == [22, 44]
    for number, (key, x) in enumerate(calls):
        row = next(row for row in range(22) if np.array_equal(IMAGES[row], x))
        assert key == random.fold((4,), "augment", number // 22, row)


def test_neither_a_source_nor_the_order_of_reading_changes_a_bit():
    expected = train()
    assert not same_bits(expected, train(None))
    assert same_bits(train(data=data.source(IMAGES, IDS)), expected)
    plain = train(shuffle=False, batch_size=22, epochs=1)
    rows = [
        AUGMENT(random.fold((4,), "augment", 0, row), image) for row, image in enumerate(IMAGES)
    ]
    assert same_bits(plain, train(None, np.stack(rows), shuffle=False, batch_size=22, epochs=1))


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_give_the_bits_of_one_process_with_augmentation(ranks):
    alone = train(shards=4)
    for result in checked(on_ranks(ranks, lambda comm: train(shards=4, comm=comm))):
        assert same_bits(result, alone)


def test_a_run_resumes_in_mid_epoch_with_the_same_augmentation(tmp_path):
    class StopError(Exception):
        pass

    def stopping(key, x):
        if key[-2] == 1 and len(seen) > 22 + 13:
            raise StopError
        seen.append(key)
        return AUGMENT(key, x)

    seen = []
    own = type("Own", (), {"__repr__": lambda self: "own", "__call__": lambda self, *a: call(*a)})
    call = stopping
    options = {"checkpoint": Checkpoint(tmp_path, every_steps=1)}
    with pytest.raises(StopError):
        train(own(), **options)
    call = AUGMENT
    assert same_bits(train(own(), resume=True, **options), train())
    with pytest.raises(Exception, match=r"augment: own in the checkpoint, flip\(\) here"):
        train(data.flip(), resume=True, **options)


def test_several_inputs_are_augmented_as_a_tuple():
    model = F.graph(("a", "b"), {"c": (F.concatenate(), ("a", "b")), "d": (F.dense(3), "c")}, "d")
    x = normal(9, 4)

    def scaled(key, pair):
        return pair[0] * np.float32(2), pair[1]

    def run(x, augment=None):
        return fit(model, LOSS, F.sgd(0.1), (x, IDS[:9]), augment=augment, progress=False)

    assert same_bits(run((x, x), scaled), run((2 * x, x)))


def writes(key, x):
    x[0] = 0
    return x


WRONG = {
    "another type": (lambda key, x: x.astype(np.float64), r"float32\[2, 6, 5\], got float64"),
    "another shape": (lambda key, x: x[:, 1:], r"float32\[2, 6, 5\], got float32\[2, 5, 5\]"),
    "nothing": (lambda key, x: None, r"got None for row 0"),
    "a tuple": (lambda key, x: (x, 0), r"got \(float32\[2, 6, 5\], int\)"),
    "a constructor": (data.flip, r"fit\(…, augment=npdl.data.flip\(\)\)"),
    "a name": ("flip", "'flip'"),
    "a missing axis": (data.flip(3), r"flip: there is no axis 3 in an example float32\[2, 6, 5\]"),
    "a write": (writes, "read-only"),
}


@pytest.mark.parametrize(("augment", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_augmentation_is_refused_before_a_step(augment, message):
    before = IMAGES.copy()
    with pytest.raises((TypeError, ValueError), match=message) as found:
        train(augment)
    assert not hasattr(found.value, "state")
    assert same_bits(IMAGES, before)


def test_a_later_example_that_changes_its_type_is_refused():
    def late(key, x):
        return x.astype(np.float64) if key[-1] == 9 else x

    with pytest.raises(ValueError, match=r"got float64\[2, 6, 5\] for row 9"):
        train(late)


WRONG_EXAMPLES = {
    "crop of a vector": (data.crop(1), np.ones(3), r"expected an image.*float64\[3\]"),
    "cutout of a vector": (data.cutout(1), np.ones(3), r"expected an image.*float64\[3\]"),
    "noise on bytes": (data.noise(1.0), np.ones(3, np.uint8), r"noise: expected float32.*uint8"),
    "a list": (data.flip(), [1.0], "flip: expected a NumPy array, got list"),
    "float16": (data.flip(), np.ones(3, np.float16), "float16"),
}


@pytest.mark.parametrize(("augment", "x", "message"), WRONG_EXAMPLES.values(), ids=WRONG_EXAMPLES)
def test_a_wrong_example_is_refused(augment, x, message):
    with pytest.raises((TypeError, ValueError), match=message):
        augment(0, x)


WRONG_ARGUMENTS = {
    "crop": (lambda: data.crop(-1), "padding must be an int of at least 0.*-1"),
    "shift": (lambda: data.shift(1.5), "most must be an int of at least 0.*1.5"),
    "shift axis": (lambda: data.shift(1, axis="time"), "axis must be an axis.*'time'"),
    "flip": (lambda: data.flip(probability=2.0), r"probability must be.*in \(0, 1\].*2.0"),
    "noise": (lambda: data.noise(-1.0), "std must be a number of at least 0.*-1.0"),
    "cutout": (lambda: data.cutout(0), "size must be a positive int.*0"),
    "chain": (lambda: data.chain(data.crop(1), "flip"), "must be an augmentation.*'flip'"),
    "chain of a constructor": (lambda: data.chain(data.flip), "must be an augmentation.*flip"),
}


@pytest.mark.parametrize(("make", "message"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_a_wrong_argument_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
