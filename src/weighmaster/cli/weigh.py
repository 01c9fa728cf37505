# SPDX-License-Identifier: Apache-2.0
"""``weighmaster weigh``: digest every tensor that the kernels of a model consume; write its manifest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import weighmaster as wm
from weighmaster.cli.named_objects import call_named, is_named
from weighmaster.cli.policy_file import read_policy_file
from weighmaster.cli.printing import pairs
from weighmaster.cli.progress import ProgressBar
from weighmaster.cli.summary import (
    coverage_pairs,
    derivation_pairs,
    evidence_pairs,
    identity_pairs,
    policy_line,
    statement_document,
    table_pairs,
)
from weighmaster.cli.verb import Outcome
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.capture.open_model import Opened
    from weighmaster.engines.hashlib_engine import HashlibEngine
    from weighmaster.flows.artefact import Manifest
    from weighmaster.flows.derived import ReportReference

DESCRIPTION: Final = """\
Load MODEL in this process as production does, run a probe set until it is in steady state, digest every tensor that
its kernels consume, and write the manifest, unsigned, to a new directory.

MODEL is a Hugging Face directory or a pack, a TorchScript file, an exported program (.pt2), or module:callable, a
function that returns the loaded model, or the model and example inputs. With --files, or where MODEL is a checkpoint
of tensors without a model (safetensors; a pickled one, which is not run; a directory of shards without a config.json),
the files are weighed at rest: such a manifest identifies files, and admits no model."""

EXAMPLES: Final = (
    (
        "weighmaster weigh ./model -o manifest --product triage-encoder --version 1.0 --serial 1",
        "a Hugging Face directory; its files are listed in the manifest as well",
    ),
    (
        "weighmaster weigh serving:load -o manifest --product triage --version 1.0 --serial 1 --example serving:inputs",
        "the model that load() of serving.py returns, run on what inputs() returns",
    ),
    (
        "weighmaster weigh model.safetensors -o manifest --product triage-encoder --version 1.0 --serial 1",
        "a file at rest",
    ),
)

_HELP: Final = {
    "example": "probe set: auto (from the model's configuration; the default), a safetensors file (a probe set, or "
    "a tensor per keyword argument), or module:callable that returns example inputs",
    "evidence": "bundle that others made about the source files (model_signing, cosign sign-blob or attest-blob), and "
    "the public key in PEM that it must verify under; recorded in the manifest; repeatable",
    "exclude": "leave a tensor out; its bytes are stated as NOT verified; repeatable. REASON: kv-cache, opaque-handle, "
    "rng-state or workspace",
    "mapped": "tensors still mapped to a file: copy them to private memory (default), refuse, or verify them first",
    "policy": "environment policy: which differences halt (default: every class fact must be equal)",
    "materialize": "copy a tensor that has gaps or overlaps in memory in order to digest it; repeatable",
    "report": "report.json of weighmaster report to refer to; its figures are stated where MODEL is that pack; "
    "repeatable",
    "source": "directory or file whose files the manifest lists (default: where the model was loaded from, if known)",
}

_PASSES: Final = 3
"""Times that the bytes of a live model are read: as loaded, before and after the traced runs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="what to weigh, see above")
    add("-o", "--out", metavar="DIR", type=Path, required=True, help="new directory for the manifest")
    add("--product", metavar="P", required=True, help="product that the model is deployed as")
    add("--version", metavar="V", required=True, help="version of the product")
    add(
        "--serial", metavar="N", type=int, required=True, help="larger than that of any earlier manifest of the product"
    )
    add("--example", metavar="EXAMPLE", default="auto", help=_HELP["example"])
    add("--source", metavar="DIR", type=Path, help=_HELP["source"])
    add("--evidence", metavar="BUNDLE=PUBKEY", action="append", default=[], help=_HELP["evidence"])
    add("--report", metavar="FILE", type=Path, action="append", default=[], help=_HELP["report"])
    add("--exclude", metavar="NAME=REASON", action="append", default=[], help=_HELP["exclude"])
    add("--materialize", metavar="NAME", action="append", default=[], help=_HELP["materialize"])
    add("--policy", metavar="FILE", type=Path, help=_HELP["policy"])
    add("--mapped", choices=("private", "refuse", "first"), default="private", help=_HELP["mapped"])
    add("--files", action="store_true", help="weigh the files at rest and load nothing")
    add("--threads", metavar="N", type=int, help="threads that digest (default: all CPUs)")


def run(args: argparse.Namespace) -> Outcome:
    """Weigh, write, and print what was found."""
    if args.out.exists():
        raise UsageError(f"{args.out}: exists already and is not overwritten; choose a new directory")
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads: expected at least 1, found {args.threads}")
    manifest = _weigh_files(args) if args.files or _is_bare(Path(args.model)) else _weigh_live(args)
    written = manifest.write(args.out)
    files = sorted(manifest.files())
    document = {
        "result": "weighed",
        **statement_document(manifest.statement),
        "signed": False,
        "directory": str(written),
        "files": files,
    }
    return Outcome(document=document, text=_text(manifest, written, files))


def _text(manifest: Manifest, written: Path, files: Sequence[str]) -> str:
    statement = manifest.statement
    environment = statement.environment
    return pairs(
        [
            *identity_pairs(statement),
            *table_pairs(statement),
            *coverage_pairs(statement.coverage),
            *evidence_pairs(statement),
            *derivation_pairs(statement),
            ("class digest", environment.class_digest if environment else "none: nothing was run"),
            ("policy", policy_line(manifest.policy)),
            ("written", f"{written}/: {', '.join(files)}"),
            ("signed", f"no; next: weighmaster sign {written} --key FILE"),
        ]
    )


def _is_bare(path: Path) -> bool:
    """Tell whether there is nothing but weights to load: no configuration says what computes with them."""
    from weighmaster.capture.torch_kind import kind_of  # noqa: PLC0415  # not for the help

    if path.is_dir():
        return not (path / "config.json").exists() and any(path.glob("*.safetensors"))
    return path.is_file() and kind_of(path) in {"checkpoint", "safetensors"}


def _weigh_files(args: argparse.Namespace) -> Manifest:
    live_only = {
        "--example": args.example != "auto",
        "--source": args.source is not None,
        "--exclude": bool(args.exclude),
        "--materialize": bool(args.materialize),
        "--policy": args.policy is not None,
    }
    if given := [option for option, is_given in live_only.items() if is_given]:
        raise UsageError(f"{', '.join(given)}: has no meaning where files are weighed at rest and nothing is loaded")
    with ProgressBar(None) as progress:
        return wm.weigh_files(
            args.model,
            product=args.product,
            version=args.version,
            serial=args.serial,
            evidence=_evidence(args.evidence),
            reports=_reports(args.report),
            engine=_engine(args.threads),
            progress=progress,
        )


def _weigh_live(args: argparse.Namespace) -> Manifest:
    exclude, evidence = _exclusions(args.exclude), _evidence(args.evidence)
    policy = read_policy_file(args.policy) if args.policy is not None else None
    reports = _reports(args.report)
    opened = wm.open_model(args.model)
    example = _example(args.example, opened)
    with ProgressBar(_total(opened)) as progress:
        return wm.weigh(
            opened.model,
            product=args.product,
            version=args.version,
            serial=args.serial,
            example_inputs=example,
            exclude=exclude,
            materialize=tuple(args.materialize),
            mapped=args.mapped,
            policy=policy,
            source=args.source if args.source is not None else opened.source,
            evidence=evidence,
            reports=reports,
            loading_faults=opened.faults,
            engine=_engine(args.threads),
            progress=progress,
        )


def _engine(threads: int | None) -> HashlibEngine:
    from weighmaster.engines.hashlib_engine import HashlibEngine  # noqa: PLC0415  # not for the help

    return HashlibEngine(threads)


def _exclusions(given: Sequence[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    for text in given:
        name, equals, reason = text.rpartition("=")
        if not equals or not name or name in out:
            raise UsageError(f"--exclude: expected NAME=REASON, each name once, found {text!r}")
        out[name] = reason
    return out


def _evidence(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(_bundle_and_key(text) for text in given)


def _reports(paths: Sequence[Path]) -> tuple[ReportReference, ...]:
    from weighmaster.flows.derived import read_reference  # noqa: PLC0415  # not for the help

    return tuple(map(read_reference, paths))


def _bundle_and_key(text: str) -> tuple[str, str]:
    bundle, _, key = text.partition("=")
    if not bundle or not key:
        raise UsageError(f"--evidence: expected BUNDLE=PUBKEY, found {text!r}")
    return bundle, key


def _example(text: str, opened: Opened) -> Any:
    if text == "auto":
        return opened.probe
    if is_named(text) and not Path(text).exists():
        return call_named(text, "--example")
    from weighmaster.capture.example_file import read_examples  # noqa: PLC0415  # imports torch

    return read_examples(text)


def _total(opened: Opened) -> int:
    """Return the bytes that will be read, for the progress bar only: parameters and buffers, aliases once."""
    held = {t.data_ptr(): int(t.nbytes) for t in (*opened.model.parameters(), *opened.model.buffers())}
    return _PASSES * sum(held.values())
