"""Fixtures that reset the global settings of the stateful API around each test."""

import pytest

import npdl


@pytest.fixture(autouse=True)
def _settings():
    rng, dtype = npdl.utils.get_rng(), npdl.utils.get_dtype()
    npdl.utils.set_seed(0)
    yield
    npdl.utils.set_rng(rng)
    npdl.utils.set_dtype(dtype)
