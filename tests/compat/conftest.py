"""The settings of the stateful API are global: each test begins and ends with the same ones."""

import pytest

import npdl


@pytest.fixture(autouse=True)
def _settings():
    rng, dtype = npdl.utils.get_rng(), npdl.utils.get_dtype()
    npdl.utils.set_seed(0)
    yield
    npdl.utils.set_rng(rng)
    npdl.utils.set_dtype(dtype)
