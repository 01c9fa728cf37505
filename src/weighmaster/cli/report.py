# SPDX-License-Identifier: Apache-2.0
"""``weighmaster report``: what a pack costs, and what it does to a model's outputs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import weighmaster as wm
from weighmaster.cli.progress import ProgressBar
from weighmaster.cli.report_summary import new_report, report_document, report_text
from weighmaster.cli.verb import Outcome

DESCRIPTION: Final = """\
Rebuild every tensor of a pack, compare it with its digest in the index and with the source, run both models on the same
tokens, and write what came out to a new directory: report.json, report.md, report.html and pictures.

For a causal language model: KL divergence by token, ratio of the perplexities, and how often both find the same token
likeliest. For an encoder of texts: 1 - cosine between the embeddings. With paired 95 % intervals. A metric of your own
is called on both models. Both models are held in memory in float32, side by side.

Without --tokens or --texts, a language model is run on what it writes itself and an encoder on random tokens, from a
fixed seed: weaker evidence than your own data, and the report says so. If the models cannot be run here, the report is
written without outputs and says why; with --tokens, --texts or --metric that is an error.

The deviation of outputs is what counts: a calibrated pack moves single weights further on purpose. Who made the pack
is not checked here."""

EXAMPLES: Final = (
    ("weighmaster report model.pack --source ./model", "into model.pack.report, on tokens that the model makes up"),
    ("weighmaster report model.pack --source ./model --texts held-out.txt", "on text of your own"),
    ("weighmaster report model.pack --source ./model --tokens ids.npy --out r", "on token ids, into the directory r"),
    ("weighmaster report model.pack --source ./model --metric checks:accuracy", "with a metric of your own"),
)

_HELP: Final = {
    "source": "what was packed: model directory, or safetensors file",
    "tokens": "token ids: .npy with one or two dimensions, or JSON, an array of ids or of arrays of them",
    "texts": "UTF-8 text for the source's tokenizer; for encoders one text a line",
    "out": "new directory for the report (default: PACK.report beside the pack)",
    "length": "tokens of a sequence, at most (default: 512, or what the model takes)",
    "sequences": "sequences, at most; of more, an even spread is measured (default: 256)",
    "metric": "module:callable that takes a model and returns a number or one for each item; may be repeated",
    "device": "of torch, that holds both models (default: cpu)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pack", metavar="PACK", type=Path, help="directory of the pack")
    parser.add_argument("--source", metavar="MODEL", type=Path, required=True, help=_HELP["source"])
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--tokens", metavar="FILE", type=Path, help=_HELP["tokens"])
    given.add_argument("--texts", metavar="FILE", type=Path, help=_HELP["texts"])
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, help=_HELP["out"])
    parser.add_argument("--length", metavar="N", type=int, default=512, help=_HELP["length"])
    parser.add_argument("--sequences", metavar="N", type=int, default=256, help=_HELP["sequences"])
    parser.add_argument("--metric", metavar="NAME", action="append", default=[], help=_HELP["metric"])
    parser.add_argument("--device", metavar="D", default="cpu", help=_HELP["device"])


def run(args: argparse.Namespace) -> Outcome:
    """Measure, write, and print the figures."""
    out = new_report(args.pack, args.out)
    wanted = wm.ReportRun(
        tokens=args.tokens,
        texts=args.texts,
        length=args.length,
        sequences=args.sequences,
        metrics={name: _metric(name) for name in args.metric},
        device=args.device,
    )
    with ProgressBar(None) as progress:
        done = wm.write_report(args.pack, args.source, out, run=wanted, progress=progress)
    return Outcome(document={"result": "reported", **report_document(done)}, text=report_text(done))


def _metric(name: str) -> Callable[[Any], object]:
    from weighmaster.capture.callables import find_callable  # noqa: PLC0415  # imports torch

    found: Callable[[Any], object] = find_callable(name)
    return found
