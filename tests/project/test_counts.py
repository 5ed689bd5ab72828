"""Training steps make no more calls, and allocate no more bytes, than counts.json says."""

import json
import sys

import pytest
from counts import FILE, count
from workloads import WORKLOADS

COMMITTED = json.loads(FILE.read_text(encoding="utf-8"))
pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the instructions of Python 3.11 are counted"
)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_step_makes_no_more_calls_and_copies(name):
    for unit, found in count(WORKLOADS[name]).items():
        expected = COMMITTED[name][unit]
        # The bytes of Python's own objects vary.
        slack = 1 << 15 if unit == "bytes" else 0
        # A much smaller count is good news, which the file must tell.
        assert 0.9 * expected - slack <= found <= 1.02 * expected + slack, (
            f"{found} {unit} instead of {expected}; if this is meant, run "
            f"python benchmarks/counts.py --write"
        )
