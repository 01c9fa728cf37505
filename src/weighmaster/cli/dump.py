# SPDX-License-Identifier: Apache-2.0
"""``weighmaster dump``: write the live tensors as files that sha256sum and fsverity can check."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import weighmaster as wm
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.progress import ProgressBar
from weighmaster.cli.summary import identity, identity_pairs
from weighmaster.cli.verb import Outcome
from weighmaster.errors import UsageError

DESCRIPTION: Final = """\
Load the model in this process, run the manifest's probe set, and write the bytes of each tensor that its kernels
consume to a file of its own, with an index and SHA256SUMS: an auditor checks them without any code of ours. Every file
is compared with the manifest's table as it is written; if one differs, nothing is left behind (exit code 10). The
manifest's signatures are not checked."""

EXAMPLES: Final = (
    ("weighmaster dump manifest --model ./model -o dump", "writes dump/*.bin, dump/index.jsonl, dump/SHA256SUMS"),
    ("cd dump && sha256sum --check SHA256SUMS", "the check by others' tools"),
    ("fsverity digest --hash-alg=sha256 --block-size=65536 dump/*.bin", "the other digest of the table"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("manifest", metavar="DIR", type=Path, help="manifest directory")
    parser.add_argument("--model", metavar="MODEL", required=True, help="model to load, as weighmaster weigh takes it")
    parser.add_argument("-o", "--out", metavar="OUT", type=Path, required=True, help="new directory for the files")


def run(args: argparse.Namespace) -> Outcome:
    """Load, compare, write."""
    if args.out.exists():
        raise UsageError(f"{args.out}: exists already and is not overwritten; choose a new directory")
    manifest = wm.read_unsigned(args.manifest)
    from weighmaster.flows.dump import INDEX, SUMS, dump  # noqa: PLC0415  # imports torch

    opened = wm.open_model(args.model)
    with ProgressBar(manifest.gate.nbytes) as progress:
        done = dump(opened, manifest, args.out, progress=progress)
    statement = manifest.statement
    document = {
        "result": "dumped",
        **identity(statement),
        "signaturesChecked": False,
        "directory": str(done.directory),
        "files": done.files,
        "bytes": str(done.nbytes),
        "index": INDEX,
        "sums": SUMS,
    }
    rows = [
        *identity_pairs(statement),
        ("signatures", "not checked"),
        ("written", f"{count(done.files, 'tensor')}, {done.nbytes:,} bytes, each as in the table, to {done.directory}"),
        ("check", f"cd {done.directory} && sha256sum --check {SUMS}"),
    ]
    return Outcome(document=document, text=pairs(rows))
