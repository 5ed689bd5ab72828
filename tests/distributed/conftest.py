"""Fixtures for divided updates: the memory of the ranks, and a count of the updates."""

import os

import pytest

from npdl.distributed import _exchange
from npdl.functional.optimizers._packed import Packed


@pytest.fixture(params=["shared memory", "messages"])
def memory(request, monkeypatch):
    """Run a test with shared memory and with messages."""
    if request.param == "messages":
        monkeypatch.setattr(_exchange, "shared_memory", lambda comm, size: None)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("only Linux has memfd_create")
    return request.param


@pytest.fixture
def divided(monkeypatch):
    """Count the divided updates."""
    calls = []
    update = Packed.update_parts

    def counting(self, *arguments):
        calls.append(self.optimizer)
        return update(self, *arguments)

    monkeypatch.setattr(Packed, "update_parts", counting)
    return calls
