# SPDX-License-Identifier: Apache-2.0
"""``weighmaster verify PACK``: read all of a pack and compare it with its index; with a trust file, its seal first."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.pack_summary import bits
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.progress import ProgressBar
from weighmaster.cli.summary import pack_identity, pack_statement_pairs
from weighmaster.cli.trusted_by import signed_by, signer_document, trust_document, trust_line
from weighmaster.cli.verb import Outcome

if TYPE_CHECKING:
    from weighmaster.flows.mark import MarkFile
    from weighmaster.flows.pack_verification import PackVerification
    from weighmaster.seal.trust_chain import VerifiedTrust

__all__ = ["check_pack", "check_trusted_pack"]

_HOLDS: Final = "seal holds; all of the pack is what its index says"
_NO_MARK: Final = "rollback: no high-water mark was read, so an older pack or trust file would not be noticed"
_NO_LOAD: Final = "no model was loaded: what a load makes of the tensors (casts, merges, adapters) was not seen"


def check_pack(path: Path) -> Outcome:
    """Check everything but the origin; what does not hold is raised."""
    from weighmaster.flows.pack_verification import CONSISTENT  # noqa: PLC0415  # not for the help

    with ProgressBar(None) as progress:
        done = wm.verify_pack(path, progress=progress)
    document = {
        "result": "consistent",
        "kind": "pack",
        "conclusion": CONSISTENT,
        "originChecked": False,
        "root": done.root,
        **_numbers(done),
    }
    return Outcome(
        document=document, text=pairs([("result", CONSISTENT), ("pack root", done.root), *_number_pairs(done)])
    )


def check_trusted_pack(path: Path, trust: VerifiedTrust, expect: str, now: datetime, mark: MarkFile | None) -> Outcome:
    """Check the origin, then everything else; what does not hold is raised."""
    from weighmaster.flows.pack_seal import verify_trusted_pack  # noqa: PLC0415  # not for the help

    with ProgressBar(None) as progress:
        done, trusted = verify_trusted_pack(path, trust, expect=expect, now=now, mark=mark, progress=progress)
    not_covered = [_NO_LOAD, *([_NO_MARK] if mark is None else [])]
    document = {
        "result": "verified",
        "kind": "pack",
        "conclusion": _HOLDS,
        "originChecked": True,
        **pack_identity(trusted.statement),
        "trust": trust_document(trust),
        "mark": None if mark is None else str(mark.path),
        "signers": [signer_document(s) for s in trusted.signers],
        **_numbers(done),
        "notCovered": not_covered,
    }
    rows = [
        ("result", _HOLDS),
        *pack_statement_pairs(trusted.statement),
        ("signed by", "\n".join(map(signed_by, trusted.signers))),
        ("trust file", trust_line(trust)),
        *([("mark", f"{mark.path}: neither pack nor trust file is older")] if mark is not None else []),
        *_number_pairs(done),
        ("not covered", "\n".join(not_covered)),
    ]
    return Outcome(document=document, text=pairs(rows))


def _numbers(done: PackVerification) -> dict[str, object]:
    return {
        "bitsPerWeight": bits(done.bits_per_weight),
        "tensors": done.tensors,
        "files": done.files,
        "bytes": str(done.nbytes),
    }


def _number_pairs(done: PackVerification) -> list[tuple[str, str]]:
    rebuilt = f"{count(done.tensors, 'tensor')}, {done.nbytes:,} bytes rebuilt, both digests of each as in the index"
    return [
        ("bits per weight", bits(done.bits_per_weight)),
        ("tensors", rebuilt),
        ("files", f"{count(done.files, 'file')} as in the index"),
    ]
