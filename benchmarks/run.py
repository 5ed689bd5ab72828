"""Run the benchmarks one after another, each in a new process; the machine should be idle.

The results go to a file of this processor in benchmarks/results. `report.py` writes all processors
into the tables and the chart of docs/benchmarks.md. New results replace old ones, so single values
can be measured again. A run that was stopped continues with the jobs that it has left:

    python benchmarks/run.py
    python benchmarks/run.py --only training_steps gru --rounds 5
"""

import argparse
import functools
import importlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import describe, limit_threads
from report import RESULTS, TABLES

UNTIMED = ("agreement", "step_memory")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help=f"measure only this section ({', '.join(TABLES)}) or this workload",
    )
    parser.add_argument("--quick", action="store_true", help="three rounds, as a trial")
    parser.add_argument("--rounds", type=int, help="number of rounds per measurement")
    parser.add_argument("--threads", type=int, default=2, help="number of threads per library")
    parser.add_argument("--job", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.quick else None)
    if arguments.job:
        print(json.dumps(measured(*arguments.job, rounds=rounds)))
        return
    limit_threads(arguments.threads)
    machine = describe(arguments.threads)
    path = RESULTS / f"{machine['name'].lower().replace(', ', '-').replace(' ', '-')}.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    jobs = {section: importlib.import_module(section).jobs() for section in TABLES}
    wanted = [
        [section, job]
        for section in TABLES
        for job in jobs[section]
        if set(arguments.only) <= {section, job}
    ]
    left = [pair for pair in results.pop("left", []) if pair in wanted] or wanted
    results["machine"] = machine
    path.parent.mkdir(exist_ok=True)
    total = len(left)
    for section in dict.fromkeys(section for section, _ in left):
        mine = [job for each, job in left if each == section]
        measure = functools.partial(in_new_process, section, rounds=rounds)
        # Two jobs run at once if their results do not depend on the load.
        with ThreadPoolExecutor(2 if section in UNTIMED else 1) as pool:
            for job, result in zip(mine, pool.map(measure, mine), strict=True):
                found = results.get(section, {}) | {job: result}
                results[section] = {job: found[job] for job in jobs[section] if job in found}
                left = [pair for pair in left if pair != [section, job]]
                done = f"{total - len(left)} of {total}"
                print(f"measured {section}, {job} ({done})", file=sys.stderr)
                write(path, results | ({"left": left} if left else {}))
        print(f"\n{section}\n\n{TABLES[section](results[section])}", flush=True)


def write(path, results):
    text = json.dumps(results, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def in_new_process(section, job, rounds):
    command = [sys.executable, Path(__file__), "--job", section, job]
    if rounds:
        command += ["--rounds", str(rounds)]
    return json.loads(subprocess.check_output(command, text=True, encoding="utf-8"))


def measured(section, job, rounds):
    """Return the results of a section, with its default or the requested number of rounds."""
    module = importlib.import_module(section)
    if hasattr(module, "ROUNDS"):
        return module.run(job, rounds or module.ROUNDS)
    return module.run(job)


if __name__ == "__main__":
    main()
