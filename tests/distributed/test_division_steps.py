"""Steps of ranks with shared memory: their states, and gradients that change."""

import copy
import pickle

import numpy as np
import pytest
from arrays import same_bits
from communicators import checked, on_ranks
from divided_runs import DATA, LOSS, MODEL, MODELS, steps

import npdl.functional as F
from npdl import tree
from npdl.training import TrainState, train_step


@pytest.mark.parametrize("donate", [True, False])
def test_train_step_takes_the_steps_of_one_process(donate, memory, divided):
    for state in checked(on_ranks(3, lambda comm: steps(comm, donate=donate))):
        assert same_bits(state, steps(None))
    assert bool(divided) == (donate and memory == "shared memory")


def test_a_pure_step_returns_arrays_that_stay(memory):
    def job(comm):
        states = [steps(comm, 1, donate=False)]
        step = train_step(MODEL, LOSS, F.adam(0.05), shards=4, comm=comm)
        for _ in range(4):
            states.append(step(states[-1], DATA)[0])
        again, _ = step(states[1], DATA)
        assert same_bits(again, states[2])
        return states

    for states in checked(on_ranks(2, job)):
        for number, state in enumerate(states):
            assert same_bits(state, steps(None, number + 1))


def test_a_shared_state_cannot_be_written_and_serves_other_steps(memory):
    def job(comm, alone=False):
        comm = None if alone else comm
        state = steps(comm, 3)
        if comm is not None and memory == "shared memory":
            for array in (state.params[0]["weight"], state.opt_state[0].squares[0]["weight"]):
                with pytest.raises(ValueError, match="read-only"):
                    array *= 2
        state = steps(comm, 3, optimizer=F.adam(0.01), state=state)
        state = steps(comm, 1, donate=False, optimizer=F.adam(0.03), state=state)
        step = train_step(MODEL, LOSS, F.adam(0.03), shards=4, donate=True)
        return step(state, DATA)[0]

    for state in checked(on_ranks(2, job)):
        assert same_bits(state, job(None, alone=True))


CLIPPED = F.chain(F.clip_by_global_norm(0.5), F.adam(0.01))


@F.layer
def fickle():
    """Return `None` as the gradient in some steps."""

    def backward(params, cache, g):
        x, off = cache
        return {"weight": None if off else (g * x).sum(0)}, g

    def apply(params, x):
        return x * params["weight"], (x, x[0, 0] == 0)

    return F.Layer(lambda rng, shape: {"weight": np.ones(shape, np.float32)}, apply, backward)


@pytest.mark.parametrize("optimizer", [F.adam(0.05), CLIPPED], ids=["adam", "clipped"])
def test_gradients_can_be_missing_in_some_steps(optimizer, memory, divided):
    x = DATA[0].copy()
    x[:, 0] = 0
    model = F.serial(fickle(), F.dense(200), F.tanh(), F.dense(3))

    def job(comm=None):
        state = TrainState.create(model, optimizer, (5,))
        step = train_step(model, LOSS, optimizer, shards=4, comm=comm, donate=True)
        for first in (DATA[0], x, x, DATA[0], DATA[0]):
            state, _ = step(state, (first, DATA[1]))
        return state

    for state in checked(on_ranks(3, job)):
        assert same_bits(state, job())


@pytest.mark.parametrize("donate", [True, False])
def test_a_step_serves_states_of_several_types(donate, memory):
    optimizer = F.adam(0.05)

    def job(comm=None):
        model = MODELS["numbers"]
        step = train_step(model, LOSS, optimizer, shards=4, comm=comm, donate=donate)
        states = []
        for dtype in (np.float32, np.float64, np.float32):
            state = tree.astype(TrainState.create(model, optimizer, (5,)), dtype)
            # Not all parameters are arrays before the first step.
            scalars = tree.map(lambda p: p[()], state.params)
            state = TrainState(0, scalars, state.opt_state, state.rng)
            for _ in range(3):
                state, _ = step(state, (DATA[0].astype(dtype), DATA[1]))
            states.append(pickle.loads(pickle.dumps(state)))
        return states

    for states in checked(on_ranks(2, job)):
        assert same_bits(states, job())


def test_an_error_of_the_update_is_raised_on_all_ranks(memory):
    optimizer = F.sgd(lambda count: 0.1 if count < 3 else np.nan)

    def job(comm):
        # The parameters have two pages, so the last ranks have none.
        state = TrainState.create(MODELS["small"], optimizer, (5,))
        step = train_step(MODELS["small"], LOSS, optimizer, shards=2, comm=comm, donate=True)
        for _ in range(5):
            state, _ = step(state, DATA)

    for result in on_ranks(5, job):
        assert isinstance(result, ValueError)
        assert "returned nan at step 3" in str(result)


def test_reports_longer_than_a_box_arrive(memory):
    def counts(y, labels):
        return np.bincount(y.argmax(1), None, 3000)

    def job(comm=None):
        state = TrainState.create(MODEL, F.adam(0.05), (5,), rng=7)
        step = train_step(
            MODEL, LOSS, F.adam(0.05), metrics={"counts": counts}, shards=4, comm=comm, donate=True
        )
        return step(step(state, DATA)[0], DATA)

    for result in checked(on_ranks(3, job)):
        assert same_bits(result, job())


def test_a_state_in_shared_memory_is_pickled_with_its_values(memory):
    def job(comm):
        state = steps(comm, 3)
        copies = pickle.loads(pickle.dumps(state)), copy.deepcopy(state)
        steps(comm, 2, state=state)
        return copies

    for copies in checked(on_ranks(2, job)):
        for each in copies:
            assert same_bits(each, steps(None, 3))
