"""Run the benchmarks one after another, each in a new process; the machine should be idle.

The results go to output/benchmarks.json. `report.py` writes them as the tables and the chart of
docs/benchmarks.md. New results replace old ones, so single values can be measured again:

    python benchmarks/run.py
    python benchmarks/run.py --only training_steps gru --rounds 5
"""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

from machine import describe, limit_threads
from report import OUTPUT, TABLES


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
    results = json.loads(OUTPUT.read_text(encoding="utf-8")) if OUTPUT.exists() else {}
    results["machine"] = describe(arguments.threads)
    OUTPUT.parent.mkdir(exist_ok=True)
    for section, table in TABLES.items():
        jobs = importlib.import_module(section).jobs()
        wanted = [job for job in jobs if set(arguments.only) <= {section, job}]
        for job in wanted:
            print(f"measuring {section}, {job}", file=sys.stderr)
            found = results.get(section, {}) | {job: in_new_process(section, job, rounds)}
            results[section] = {job: found[job] for job in jobs if job in found}
            OUTPUT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        if wanted:
            print(f"\n{section}\n\n{table(results[section])}", flush=True)


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
