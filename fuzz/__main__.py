# SPDX-License-Identifier: Apache-2.0
"""Fuzz parsers one after another or a few at a time; the exit code is 1 where anything was found."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from fuzz import driver, harness, report


def main() -> int:
    """Run the fuzzers that the command line asks for."""
    options = _options()
    chosen = options.parsers or harness.names()
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = tuple(pool.map(lambda name: _one(name, options), chosen))
    if options.record:
        report.record(runs)
    found = [f"{run.parser}: {', '.join(run.findings)}" for run in runs if run.findings]
    print(f"{len(runs)} parsers, {sum(r.runs for r in runs)} inputs, {len(found)} with findings")
    return 1 if found else 0


def _one(name: str, options: argparse.Namespace) -> driver.Run:
    run = driver.fuzz(name, seconds=options.seconds, runs=options.runs, keep=options.record)
    print(f"{name:20} {run.runs:>9} inputs {run.seconds:>7} s {run.edges:>5} edges", *run.findings, flush=True)
    if run.findings:
        print(run.log[-4000:], f"the inputs are in fuzz/findings/{name}", sep="\n", flush=True)
    return run


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=f"of: {', '.join(harness.names())}; default all")
    parser.add_argument("--seconds", type=int, default=30, help="at most, per parser")
    parser.add_argument(
        "--runs", type=int, default=-1, help="inputs per parser at most; -1: as many as the time allows"
    )
    parser.add_argument("--jobs", type=int, default=1, help="parsers at a time")
    parser.add_argument("--record", action="store_true", help="keep corpora, results and the table of README.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
