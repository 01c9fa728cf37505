# SPDX-License-Identifier: Apache-2.0
"""``weighmaster verify``: check a manifest's seal, and files or a load in this process against it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.pack_summary import is_pack
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.progress import ProgressBar
from weighmaster.cli.summary import identity, identity_pairs
from weighmaster.cli.trusted_by import signed_by, signer_document, trust_document, trust_line
from weighmaster.cli.verb import Outcome
from weighmaster.cli.verify_pack import check_pack, check_trusted_pack
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.flows.mark import MarkFile
    from weighmaster.flows.verify import Verification
    from weighmaster.seal.trust_chain import VerifiedTrust

DESCRIPTION: Final = """\
Check who signed a manifest and whether it is in force for a product; with --source, compare the files of a release with
it; with --model, load the model in this process as production does and compare what its kernels consume.

A directory with a pack.index is a pack: all of it is read, rebuilt and compared with its index; with --trust, --roots
and --expect, its seal is checked first, and without them its origin is not checked.

This is a check of these files and of this process. It admits nothing: a service is only protected by the gate that
runs inside of it (weighmaster.Gate)."""

_EXAMPLE: Final = "weighmaster verify manifest --trust trust.json --roots 9f86d0... --expect triage-encoder"

EXAMPLES: Final = (
    (_EXAMPLE, "seal, signers, product, serial; --roots is what `weighmaster trust sign` printed"),
    (f"{_EXAMPLE} --source ./model", "the files too"),
    (f"{_EXAMPLE} --model ./model", "and a load here"),
    (
        "weighmaster verify model.pack --trust trust.json --roots 9f86d0... --expect triage-summary",
        "a pack: who signed it, whether it is in force, then every byte of it",
    ),
    ("weighmaster verify model.pack", "a pack: every blob, tensor and file against its index; origin not checked"),
)

_SEAL_ONLY: Final = "seal holds; nothing was compared with it"
_FILES: Final = "files match"
_LOAD: Final = "a load in this process matches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.set_defaults(refuse=parser.error)  # what a manifest needs and a pack does not
    parser.add_argument("manifest", metavar="DIR", type=Path, help="manifest directory, or a pack")
    parser.add_argument("--trust", metavar="FILE", type=Path, help="trust file; required for a manifest")
    roots = "fingerprint of the roots at which the trust file must begin; keep it apart from the file; required too"
    parser.add_argument("--roots", metavar="PIN", help=roots)
    expect = "product that is expected here; required for a manifest"
    parser.add_argument("--expect", metavar="PRODUCT", help=expect)
    mark = "high-water mark of a gate: nothing older than it is accepted; it is read, not raised"
    parser.add_argument("--mark", metavar="FILE", type=Path, help=mark)
    parser.add_argument("--source", metavar="DIR", type=Path, help="model directory or file to compare")
    parser.add_argument("--model", metavar="MODEL", help="model to load and compare, as weighmaster weigh takes it")
    waiver = "waiver for a difference under change control; repeatable; halts all the same without known answers"
    parser.add_argument("--waiver", metavar="FILE", type=Path, action="append", default=[], help=waiver)


def run(args: argparse.Namespace) -> Outcome:
    """Verify; what does not hold is raised."""
    if is_pack(args.manifest):
        return _pack(args)
    _require_trust(args)
    from weighmaster.flows.clock import wall_clock  # noqa: PLC0415  # not for the help
    from weighmaster.flows.verify import verify  # noqa: PLC0415

    if args.waiver and args.model is None:
        raise UsageError("--waiver: has no meaning where no model is loaded (--model)")
    now = wall_clock()
    trust = wm.read_trust(args.trust, args.roots, now)
    mark = _mark(args)
    with ProgressBar(None) as progress:
        done = verify(
            wm.read_manifest(args.manifest),
            trust,
            expect=args.expect,
            now=now,
            mark=mark,
            source=args.source,
            model=args.model,
            waivers=args.waiver,
            progress=progress,
        )
    return Outcome(document=_document(done, trust, args.mark), text=_text(done, trust, args.mark))


def _require_trust(args: argparse.Namespace) -> None:
    missing = [f"--{name}" for name in ("trust", "roots", "expect") if getattr(args, name) is None]
    if missing:
        args.refuse(f"the following arguments are required: {', '.join(missing)}")


def _mark(args: argparse.Namespace) -> MarkFile | None:
    from weighmaster.flows.mark import MarkFile  # noqa: PLC0415  # not for the help

    if args.mark is None:
        return None
    mark = MarkFile(args.mark)
    if mark.read() is None:
        raise UsageError(f"{args.mark}: no such mark")
    return mark


def _pack(args: argparse.Namespace) -> Outcome:
    from weighmaster.flows.clock import wall_clock  # noqa: PLC0415  # not for the help

    if given := [f"--{name}" for name in ("source", "model", "waiver") if getattr(args, name)]:
        raise UsageError(f"{args.manifest}: is a pack, for which there is no {', '.join(given)}")
    if not any(getattr(args, name) for name in ("trust", "roots", "expect", "mark")):
        return check_pack(args.manifest)
    _require_trust(args)
    now = wall_clock()
    trust = wm.read_trust(args.trust, args.roots, now)
    return check_trusted_pack(args.manifest, trust, args.expect, now, _mark(args))


def _conclusion(done: Verification) -> str:
    said = [_FILES] if done.files is not None else []
    if done.verdict is not None:
        said.append(_LOAD)
    return f"seal holds; {'; '.join(said)}" if said else _SEAL_ONLY


def _document(done: Verification, trust: VerifiedTrust, mark: Path | None) -> dict[str, object]:
    return {
        "result": "verified" if done.files is not None or done.verdict is not None else "seal holds",
        "conclusion": _conclusion(done),
        **identity(done.manifest.statement),
        "trust": trust_document(trust),
        "mark": None if mark is None else str(mark),
        "signers": [signer_document(s) for s in done.signers],
        "files": done.files,
        "fileTensors": done.file_tensors,
        "load": done.verdict.compared if done.verdict is not None else None,
        "informed": done.verdict.informed if done.verdict is not None else [],
        "notCovered": done.not_covered,
    }


def _text(done: Verification, trust: VerifiedTrust, mark: Path | None) -> str:
    rows = [
        ("result", _conclusion(done)),
        *identity_pairs(done.manifest.statement),
        ("signed by", "\n".join(map(signed_by, done.signers))),
        ("trust file", trust_line(trust)),
    ]
    if mark is not None:
        rows.append(("mark", f"{mark}: neither manifest nor trust file is older"))
    if done.files is not None:
        rows.append(("files", _files(done)))
    if done.verdict is not None:
        rows.append(("load", f"{done.verdict.compared}; trace: {done.verdict.trace}"))
    if done.verdict is not None and done.verdict.informed:
        rows.append(("informed", "\n".join(done.verdict.informed)))
    rows.append(("not covered", "\n".join(done.not_covered)))
    return pairs(rows)


def _files(done: Verification) -> str:
    tensors = "" if done.file_tensors is None else f", and {count(done.file_tensors, 'tensor')} in them"
    return f"{count(done.files or 0, 'file')} as signed{tensors}"
