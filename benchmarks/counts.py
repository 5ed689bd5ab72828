"""Calls and allocated bytes of training and inference: numbers that no processor changes.

A call is a call or an operator in the code of npdl: almost all of these are calls of NumPy. The
bytes are the sum of all growths of the traced memory between two instructions. A test compares both
with `benchmarks/counts.json`. After a change with good reasons, write this file anew, with
Python 3.11, whose instructions it counts:

    python benchmarks/counts.py --write
"""

import argparse
import dis
import json
import sys
import tracemalloc
from pathlib import Path

from workloads import WORKLOADS

import npdl
import npdl.functional as F
from npdl.training import TrainState, train_step

FILE = Path(__file__).with_suffix(".json")
PACKAGE = str(Path(npdl.__file__).parent)
COUNTED = {"CALL", "CALL_FUNCTION_EX", "BINARY_OP", "UNARY_NEGATIVE"}


def count(workload):
    """Return the calls and allocated bytes of a step of Adam, and the calls for one output.

    The step comes after two others, and the output of one example after another one.
    """
    optimizer, (x, labels) = F.adam(1e-3), workload.data()
    step = train_step(workload.model, F.softmax_cross_entropy, optimizer, donate=True)
    state = TrainState.create(workload.model, optimizer, workload.shape)
    state, _ = step(state, (x, labels))
    with Counter():  # the first trace of a function allocates memory
        state, _ = step(state, (x, labels))
    with Counter() as training:
        state, _ = step(state, (x, labels))
    workload.model(state.params, x[:1])
    with Counter() as inference:
        workload.model(state.params, x[:1])
    return {
        "calls": training.calls,
        "bytes": training.bytes,
        "calls for one example": inference.calls,
    }


class Counter:
    """Counts calls and allocated bytes, instruction by instruction, within npdl."""

    def __enter__(self):
        self.calls = self.bytes = 0
        self.codes = {}
        tracemalloc.start()
        self.traced = tracemalloc.get_traced_memory()[0]
        sys.settrace(self.enter)
        return self

    def __exit__(self, *error):
        sys.settrace(None)
        tracemalloc.stop()

    def enter(self, frame, event, argument):
        """Trace the instructions of a new frame, if its code is npdl's."""
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.trace

    def trace(self, frame, event, argument):
        """Count one instruction, and the memory since the instruction before it."""
        now = tracemalloc.get_traced_memory()[0]
        self.bytes += max(now - self.traced, 0)
        if event == "opcode":
            self.calls += self.names(frame.f_code)[frame.f_lasti] in COUNTED
        self.traced = tracemalloc.get_traced_memory()[0]
        return self.trace

    def names(self, code):
        """Return the names of the instructions of a code object, by their offsets."""
        if code not in self.codes:
            self.codes[code] = {each.offset: each.opname for each in dis.get_instructions(code)}
        return self.codes[code]


def main():
    """Print the counts of all workloads, next to those in the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name} anew")
    arguments = parser.parse_args()
    before = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    found = {name: count(workload) for name, workload in WORKLOADS.items()}
    for name, counts in found.items():
        print(
            f"{name:15}", *(f"{before.get(name, {}).get(k)} → {v} {k}" for k, v in counts.items())
        )
    if arguments.write:
        FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
