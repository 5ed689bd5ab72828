"""The exchange between ranks: its parts, its messages, and the memory of a host."""

import functools
import os

import numpy as np
import pytest
from communicators import checked, on_ranks
from divided_runs import MODEL, MODELS

import npdl.functional as F
from npdl.distributed import _exchange, _memory
from npdl.training import TrainState, train_step


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 40])
def test_the_parts_of_all_ranks_cover_each_vector_once(ranks):
    params = MODEL.init(0, (5,)), MODELS["small"].init(0, (5,))
    layout = _exchange.Layout(params, params)

    def parts(comm):
        exchange = _exchange.Exchange(comm, 3, layout, 2)
        return exchange.parts, [[array.size for array in vector] for vector in exchange.arrays]

    found = checked(on_ranks(ranks, parts))
    for k, group in enumerate(layout.groups):
        indices = [i for mine, _ in found for i in range(group.size)[mine[k]]]
        assert indices == list(range(group.size))
        assert found[0][1][k] == [group.size] * 3
        for mine, _ in found:
            assert mine[k].start % 1024 == 0 or mine[k].start == group.size
    sizes = [sum(part.stop - part.start for part in mine) for mine, _ in found]
    assert max(sizes) - min(sizes) <= 1024 * (1 + len(layout.groups))


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_messages_carry_each_part_once_per_phase(ranks, monkeypatch):
    monkeypatch.setattr(_exchange, "shared_memory", lambda comm, size: None)
    model = F.dense(1024, bias=False)
    x = np.ones((8, 8), np.float32)

    def traffic(comm):
        state = TrainState.create(model, F.adam(0.1), (8,))
        step = train_step(model, F.mean_squared_error, F.adam(0.1), shards=8, comm=comm)
        state, _ = step(state, (x, np.ones((8, 1024), np.float32)))
        sent = comm.sent
        step(state, (x, np.ones((8, 1024), np.float32)))
        return comm.sent - sent

    each = 4 * 8 * 1024 // ranks * (ranks - 1)
    assert checked(on_ranks(ranks, traffic)) == [2 * each] * ranks


def test_ranks_on_other_hosts_do_not_share_memory(monkeypatch):
    memory = functools.partial(_memory.shared_memory, size=100)
    if hasattr(os, "memfd_create"):
        results = checked(on_ranks(3, memory))
        results[1][40:] = 5
        assert all(result.tolist() == [0] * 40 + [5] * 60 for result in results)
    # Another host has no such process, or a process whose file has another mark.
    opened = _memory._opened
    monkeypatch.setattr(_memory, "_opened", lambda size, pid, *rest: opened(size, 2**30, *rest))
    assert checked(on_ranks(3, memory)) == [None] * 3
    monkeypatch.setattr(_memory, "_opened", lambda size, *rest: opened(size, *rest[:2], b"?" * 16))
    assert checked(on_ranks(3, memory)) == [None] * 3
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert checked(on_ranks(3, memory)) == [None] * 3
