# SPDX-License-Identifier: Apache-2.0
"""``weighmaster pack``: write a model as a pack, near-lossless or lossless."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.pack_summary import bits, encoder_pairs, index_document
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.progress import ProgressBar, StageBar
from weighmaster.cli.report_summary import new_report, report_document, report_text
from weighmaster.cli.verb import Outcome

if TYPE_CHECKING:
    from weighmaster.flows.packing import PackResult

DESCRIPTION: Final = """\
Write the weights of MODEL to a directory of safetensors shards, from which the same bytes of every tensor are rebuilt
on any machine, each compared with its digest in the pack's index. MODEL is a Hugging Face directory, whose other files
travel along, or a safetensors file. The checkpoint may be larger than memory.

Without --bits nothing is lost (profile exact, about 10.7 bits per bfloat16 weight). With --bits B the whole pack takes
at most B bits per weight, everything counted that is needed to rebuild and check the tensors; norms, biases, small
and non-finite tensors stay lossless. The profile datafree looks at the weights alone; calibrated also at what they do
to the outputs, on text that the model itself writes (--calibration self) or on tokens of yours.

At the end stands a report (weighmaster report), beside the pack unless --report says where: its size, its tensors, and
how far the outputs move on tokens that the model makes up. Where the model cannot be run, the report says why.

A run that was killed is gone on with by the same command: finished shards are kept. Before it says done, everything is
read back from disk and compared. A pack is not signed by this."""

EXAMPLES: Final = (
    ("weighmaster pack ./model -o model.pack", "lossless"),
    ("weighmaster pack ./model -o model.pack --bits 5", "near-lossless, from the weights alone"),
    (
        "weighmaster pack ./model -o model.pack --bits 4.5 --profile calibrated",
        "better per bit; the model is loaded and run",
    ),
)

_HELP: Final = {
    "out": "directory for the pack: new, empty, or that of an unfinished run",
    "bits": "real bits per weight, 3 to 8 in steps of 0.1; left out for the profile exact",
    "profile": "exact, datafree or calibrated (default: datafree with --bits, exact without)",
    "report": "new directory for the report (default: PACK.report beside the pack)",
    "calibration": "for the profile calibrated: self (default), or a file of token sequences",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="Hugging Face directory or safetensors file")
    parser.add_argument("-o", "--out", metavar="PACK", type=Path, required=True, help=_HELP["out"])
    parser.add_argument("--bits", metavar="B", help=_HELP["bits"])
    parser.add_argument("--profile", choices=("datafree", "calibrated", "exact"), help=_HELP["profile"])
    parser.add_argument("--calibration", metavar="self|FILE", help=_HELP["calibration"])
    parser.add_argument("--report", metavar="DIR", type=Path, help=_HELP["report"])


def run(args: argparse.Namespace) -> Outcome:
    """Pack, report, and print what came out."""
    report = new_report(args.out, args.report)
    with StageBar() as bar:
        done = wm.pack_model(
            args.model, args.out, bits=args.bits, profile=args.profile, calibration=args.calibration, watch=bar
        )
    with ProgressBar(None) as progress:
        written = wm.write_report(args.out, args.model, report, progress=progress)
    document = {**_document(done), "report": report_document(written)}
    return Outcome(document=document, text=f"{_text(done)}\n\n{report_text(written)}")


def _document(done: PackResult) -> dict[str, object]:
    return {
        "result": "packed",
        "directory": str(done.path),
        "root": done.root,
        "signed": False,
        "bitsPerWeight": bits(done.bits_per_weight),
        **index_document(done.index),
        "resumedShards": done.resumed,
        "notPacked": done.left,
    }


def _text(done: PackResult) -> str:
    index = done.index
    rows = [
        ("pack root", done.root),
        ("signed", "no"),
        ("bits per weight", f"{bits(done.bits_per_weight)}, all that is needed to rebuild and check counted"),
        *encoder_pairs(index),
        ("read back", f"{count(len(index.tensors), 'tensor')}, each as it has to be"),
        ("written", f"{count(len(index.files) + 1, 'file')} to {done.path}"),
    ]
    if done.resumed:
        rows.append(("resumed", f"{count(done.resumed, 'shard')} of an earlier run"))
    if done.left:
        rows.append(("not packed", "\n".join(done.left)))
    return pairs(rows)
