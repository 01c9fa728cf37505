# SPDX-License-Identifier: Apache-2.0
"""``weighmaster environment``: print the facts about machine, libraries and switches."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from weighmaster.cli.printing import columns, count, pairs
from weighmaster.cli.verb import Outcome

DESCRIPTION: Final = """\
Print what this process would record about where it runs (spec/environment.md), and the class digest that validation
is bound to. Libraries load as they are used: a process that serves a model has more of them than this one, so compare
manifests (weighmaster diff), not this output, with each other."""

EXAMPLES: Final = (
    ("weighmaster environment", "the class facts, to which validation is bound"),
    ("weighmaster environment -o here.json", "the document, to compare with another (weighmaster diff --environment)"),
    ("weighmaster environment --all --json", "all facts, those of the audit trail included, as JSON"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, help="write the document, all facts, to a new file")
    parser.add_argument("--all", action="store_true", help="instance facts as well (machine, audit trail)")


def run(args: argparse.Namespace) -> Outcome:
    """Collect the facts after importing torch, as a serving process would have it."""
    from weighmaster.capture.torch_switches import torch_facts  # noqa: PLC0415  # imports torch
    from weighmaster.durable import write_atomically  # noqa: PLC0415
    from weighmaster.probe.collect import collect  # noqa: PLC0415

    found = collect(torch_facts())
    if args.out is not None:
        write_atomically(args.out, found.to_bytes(), replace=False)
    facts = found.facts if args.all else found.scoped("class")
    document = {
        "result": "environment",
        "classDigest": found.class_digest,
        "instanceDigest": found.instance_digest,
        "written": str(args.out) if args.out is not None else None,
        "facts": [fact.document() for fact in facts],
    }
    head = pairs(
        [
            ("class digest", found.class_digest),
            ("instance digest", found.instance_digest),
            *([("written", str(args.out))] if args.out is not None else []),
            ("facts", f"{count(len(found.facts), 'fact')}, {len(found.scoped('class'))} of them in the class"),
        ]
    )
    table = columns(("fact", "scope", "value"), [(fact.name, fact.scope, fact.shown()) for fact in facts])
    return Outcome(document=document, text=f"{head}\n\n{table}")
