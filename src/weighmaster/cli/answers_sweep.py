# SPDX-License-Identifier: Apache-2.0
"""``weighmaster answers sweep``: which configurations change output bits, and the policy that follows."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from weighmaster.cli.printing import columns, count, pairs
from weighmaster.cli.verb import Outcome
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.core.sweep import Result

DESCRIPTION: Final = """\
Run a model in a closed list of configurations (threads, CPU capability, GEMM library, attention backend, compilation,
precision, batch, GPU switches), each in a process of its own, and say which change output bits, by how much and from
which module on: sweep.json, sweep.md, and a heat map where matplotlib is installed. A process that crashes or takes
too long is a result as well. Interrupted, the same command goes on where it ended. The model's code is run.

A proposed policy is evidence for the values that were tried, on this machine and with these cases: a variable that
this processor ignores flips no bit here. Read it, and cut it down, before it is signed."""

EXAMPLES: Final = (
    ("weighmaster answers sweep ./model -o sweep", "all configurations; those that this machine lacks are NOT RUN"),
    ("weighmaster answers sweep ./model -o sweep --only threads=1 --only mkldnn=off", "two of them"),
    (
        "weighmaster answers sweep app:load -o sweep --propose-policy policy.json",
        "halt or change control for the facts that flipped bits, inform for those that did not",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model directory or file, or module:callable")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="directory of the results")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="this configuration; repeatable")
    parser.add_argument("--propose-policy", metavar="FILE", type=Path, help="write an environment policy to a new file")
    parser.add_argument("--timeout", metavar="S", type=float, default=600.0, help="seconds per process (default 600)")


def run(args: argparse.Namespace) -> Outcome:
    """Sweep, report, propose."""
    from weighmaster.core.sweep import propose_policy  # noqa: PLC0415  # not for the help
    from weighmaster.durable import write_atomically  # noqa: PLC0415
    from weighmaster.flows.sweep import sweep  # noqa: PLC0415
    from weighmaster.flows.sweep_report import document, write_report  # noqa: PLC0415

    if args.propose_policy is not None and args.propose_policy.exists():
        raise UsageError(f"{args.propose_policy}: exists already and is not overwritten")
    swept = sweep(args.model, args.out, only=args.only, timeout=args.timeout)
    files = [str(args.out / name) for name in write_report(swept, args.out)]
    if args.propose_policy is not None:
        policy = propose_policy(swept.results, f"sweep {swept.binding[:16]}")
        write_atomically(args.propose_policy, policy.to_bytes(), replace=False)
        files.append(str(args.propose_policy))
    return Outcome(
        document={"result": "swept", "sweep": document(swept), "written": files, "kept": swept.kept},
        text=_text(swept.results, swept.kept, files),
    )


def _text(results: tuple[Result, ...], kept: tuple[str, ...], files: list[str]) -> str:
    tally = Counter(result.status for result in results)
    head = pairs(
        [
            ("configurations", ", ".join(f"{number} {status}" for status, number in sorted(tally.items()))),
            ("from before", count(len(kept), "result")),
            *(("written", file) for file in files),
        ]
    )
    rows = [(r.configuration, r.status, _share(r), r.first.module if r.first else r.reason) for r in results]
    return f"{head}\n\n{columns(('configuration', 'result', 'changed', 'first module, or why not'), rows)}"


def _share(result: Result) -> str:
    return f"{result.changed / result.elements:.1%}" if result.elements else "-"
