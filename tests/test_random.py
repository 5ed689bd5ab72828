import itertools
import json

import numpy as np
import pytest
from cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

from npdl import random, tree

drawn = settings(max_examples=200)

# Around every bound of the way in which numbers become words of 32 bits.
EDGES = [0, 1, 2, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 31) + 2, (1 << 32) - 1, 1 << 32]
EDGES += [(1 << 32) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]

data = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from(EDGES),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
)
made_keys = st.lists(data, max_size=4).map(lambda items: random.fold((0,), *items))


def draw(key):
    return random.generator(key).bytes(16)


# Keys


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, (0,)),
        ((1 << 128) - 1, ((1 << 128) - 1,)),
        (np.int64(7), (7,)),
        (np.uint8(200), (200,)),
        (np.array(3), (3,)),
        ((0,), (0,)),
        ((42, 1 << 200, 3), (42, 1 << 200, 3)),
        (np.random.SeedSequence(5), (5,)),
        (np.random.SeedSequence(5, spawn_key=(2, 3)), (5, 2, 3)),
        (np.random.SeedSequence([5]), (5,)),
    ],
)
def test_a_key_is_made_of_every_kind_of_seed(seed, expected):
    key = random.key(seed)
    assert key == expected
    assert type(key) is tuple
    assert all(type(word) is int for word in key)
    assert random.key(key) is key


@pytest.mark.parametrize(
    "seed",
    [
        True,
        np.True_,
        (True,),
        0.0,
        np.float64(1),
        1 + 0j,
        -1,
        np.int64(-1),
        (0, -1),
        (0, 1.0),
        (0, "name"),
        (np.int64(0),),
        (),
        [0, 1],
        "seed",
        b"seed",
        None,
        {},
        1 << 128,
        (1 << 128,),
        (1 << 128, 0),
        np.arange(2),
        np.random,
    ],
    ids=repr,
)
def test_other_values_are_refused_with_the_remedy(seed):
    for call in (random.key, random.fold, random.generator):
        with pytest.raises(TypeError, match=r"expected a key: .*; got .*npdl\.random\.key\(seed\)"):
            call(seed)


def test_the_error_over_a_long_value_is_short():
    with pytest.raises(TypeError) as raised:
        random.key("x" * 10_000)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("make", "one_draw"),
    [
        (lambda: np.random.default_rng(3), lambda generator: generator.integers(1 << 63)),
        (
            lambda: np.random.RandomState(3),
            lambda state: state.randint(1 << 63, dtype=np.int64),
        ),
    ],
    ids=["Generator", "RandomState"],
)
def test_a_generator_gives_one_draw_for_a_key(make, one_draw):
    given, other = make(), make()
    first, second = random.key(given), random.key(given)
    assert first == (one_draw(other),)
    assert second == (one_draw(other),)
    assert first != second
    assert one_draw(given) == one_draw(other)
    assert type(first[0]) is int


def test_seed_sequences_of_any_entropy_give_distinct_keys():
    entropies = [
        [1, 2],
        [2, 1],
        [1, 2, 3],
        [0, 1, 2],
        1 << 128,
        5 << 128,
        (5 << 128) + 1,
    ]
    keys = [random.key(np.random.SeedSequence(entropy)) for entropy in entropies]
    keys += [random.key(np.random.SeedSequence([1, 2], spawn_key=(i,))) for i in range(3)]
    assert len({draw(key) for key in keys}) == len(keys)
    assert [random.key(key) for key in keys] == keys
    assert random.key(np.random.SeedSequence([1, 2])) == keys[0]


# Folds


def test_ints_are_folded_as_they_are():
    assert random.fold(0, 7, np.int32(2)) == (0, 7, 2)
    assert random.fold((0, 1)) == (0, 1)
    assert random.fold(random.fold(0, 7), 2) == random.fold(0, 7, 2)
    assert all(type(word) is int for word in random.fold(0, np.int32(2), "name"))


@drawn
@given(st.lists(data, max_size=3), st.lists(data, max_size=3))
def test_different_data_give_different_keys_and_streams(a, b):
    first, second = random.fold((0,), *a), random.fold((0,), *b)
    same = a == b
    assert (first == second) == same
    assert (draw(first) == draw(second)) == same


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_strings_fold_to_numbers_that_no_int_folds_to(a, b):
    try:
        first, second = random.fold((0,), a)[1], random.fold((0,), b)[1]
    except UnicodeEncodeError:
        return  # half of a surrogate pair
    assert first >= 1 << 64
    assert (first == second) == (a == b)


def test_strings_that_differ_by_zeros_are_different():
    names = ["a", "a\0", "\0a", "\0", "\0\0", "\x01", "\x01\0"]
    assert len({random.fold((0,), name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "item",
    [True, np.True_, -1, np.int64(-1), 1 << 64, 0.5, 1.0, None, "", "x" * 33, "é" * 17, b"x", (1,)],
    ids=repr,
)
def test_other_data_are_refused(item):
    with pytest.raises(TypeError, match=r"expected an int from 0 to .* to fold into a key, got"):
        random.fold((0,), 1, item)


def test_the_longest_strings_and_largest_ints_are_folded():
    for item in ("x" * 32, "é" * 16, (1 << 64) - 1, np.uint64((1 << 64) - 1)):
        key = random.fold((0,), item)
        assert len(draw(key)) == 16


@drawn
@given(made_keys)
def test_a_key_survives_json_hashing_and_repr(key):
    again = tuple(json.loads(json.dumps(key)))
    assert again == key
    assert hash(again) == hash(key)
    assert eval(repr(key)) == key
    assert draw(again) == draw(key)


# Streams


@pytest.mark.parametrize("entropy", [0, 5, 1 << 31, (1 << 128) - 1])
@pytest.mark.parametrize("child", [0, 3])
def test_small_ints_are_the_children_that_a_seed_sequence_spawns(entropy, child):
    spawned = np.random.SeedSequence(entropy).spawn(child + 1)[child]
    expected = np.random.default_rng(spawned).random(4)
    assert np.array_equal(random.generator((entropy, child)).random(4), expected)
    assert np.array_equal(random.generator(random.key(spawned)).random(4), expected)


def test_a_seed_alone_is_default_rng_of_it():
    assert random.generator(9).random() == np.random.default_rng(9).random()


def test_the_generator_is_new_at_each_call():
    first = random.generator((0, 1))
    first.random(100)
    assert random.generator((0, 1)).random() == random.generator((0, 1)).random()


def test_keys_at_the_bounds_of_a_word_have_different_streams():
    spawns = [key for length in range(3) for key in itertools.product(EDGES, repeat=length)]
    # The words of one number must not read as two numbers.
    spawns += [tuple(random._words(edge)) for edge in EDGES if edge >= 1 << 31]
    keys = {(entropy, *spawn) for entropy in (0, 1, 1 << 32, 1 << 127) for spawn in spawns}
    assert len({draw(key) for key in keys}) == len(keys)


@given(st.lists(st.integers(0, 1 << 70) | st.sampled_from(EDGES), max_size=4))
def test_numbers_can_be_decoded_from_their_words(numbers):
    words = [word for number in numbers for word in random._words(number)]
    assert all(0 <= word < 1 << 32 for word in words)
    found = []
    while words:
        count, words = (words[0] - (1 << 31), words[1:]) if words[0] >> 31 else (0, words)
        if count == 0:
            found.append(words[0])
            words = words[1:]
        else:
            found.append(sum(word << 32 * i for i, word in enumerate(words[:count])))
            words = words[count:]
    assert found == numbers


def test_streams_of_different_keys_are_not_correlated():
    keys = [
        (0,),
        (1,),
        *((0, i) for i in range(20)),
        *((0, i, j) for i in range(5) for j in range(5)),
    ]
    keys += [random.fold((0,), name) for name in ("weight", "bias", "recurrent_weight")]
    streams = np.array([random.generator(key).normal(size=20_000) for key in keys])
    correlations = np.corrcoef(streams) - np.eye(len(keys))
    # The standard error is 0.007; of 1225 pairs the largest is about 3.5 of them.
    assert np.abs(correlations).max() < 5 / np.sqrt(20_000)
    ahead = np.corrcoef(streams[:, 1:], streams[:, :-1])[: len(keys), len(keys) :]
    assert np.abs(ahead).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_no_layer_touches_the_global_generator(case):
    def state():
        name, words, *rest = np.random.get_state()  # noqa: NPY002 - the global generator is under test
        return name, words.tolist(), rest

    before = state()
    params = case.params()
    y, cache = case.layer.apply(params, case.x(3), train=True, rng=(1,))
    case.layer.backward(params, cache, tree.map(np.ones_like, y))
    assert state() == before
