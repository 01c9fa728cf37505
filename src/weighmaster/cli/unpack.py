# SPDX-License-Identifier: Apache-2.0
"""``weighmaster unpack``: write the model of a pack as plain safetensors files again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import weighmaster as wm
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.progress import ProgressBar
from weighmaster.cli.verb import Outcome
from weighmaster.errors import UsageError

DESCRIPTION: Final = """\
Rebuild every tensor of a pack and write plain safetensors files to a new directory, with the source's other files byte
for byte: a model directory as it was before, with the weights of the pack. Each tensor is compared with its digest
before it is written; the directory appears whole or not at all. Who made the pack is not checked: use weighmaster
verify for that."""

EXAMPLES: Final = (("weighmaster unpack model.pack -o model", "writes model/model*.safetensors and the other files"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pack", metavar="PACK", type=Path, help="directory of the pack")
    parser.add_argument("-o", "--out", metavar="MODEL", type=Path, required=True, help="new directory for the model")


def run(args: argparse.Namespace) -> Outcome:
    """Unpack, and print what was written."""
    if args.out.exists():
        raise UsageError(f"{args.out}: exists already and is not overwritten; choose a new directory")
    with wm.open_pack(args.pack) as pack:
        total = sum(tensor.nbytes for tensor in pack.index.tensors)
    with ProgressBar(total) as progress:
        done = wm.unpack_model(args.pack, args.out, progress=progress)
    document = {
        "result": "unpacked",
        "root": done.root,
        "originChecked": False,
        "directory": str(done.path),
        "tensors": done.tensors,
        "files": done.files,
        "bytes": str(done.nbytes),
    }
    rows = [
        ("pack root", done.root),
        ("origin", "not checked"),
        ("written", f"{count(done.tensors, 'tensor')}, {done.nbytes:,} bytes, each as in the pack, to {done.path}"),
        ("files", f"{done.files:,}"),
    ]
    return Outcome(document=document, text=pairs(rows))
