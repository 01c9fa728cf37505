# SPDX-License-Identifier: Apache-2.0
"""Operational checks of the trust file and of the mark: what is not signed by its keepers, expired, or rolled back."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from weighmaster.durable import write_atomically
from weighmaster.flows.exercise import ACCEPTED, MOMENT, PRODUCT, SERIAL, Case, Exercise
from weighmaster.flows.mark import Mark, MarkFile
from weighmaster.flows.trusted import Trusted, open_trusted
from weighmaster.seal.trust_chain import VerifiedTrust, amend, chain_to_bytes, countersign, new_chain, open_trust

__all__ = ["TRUST_CASES"]


def _reread(exercise: Exercise, data: bytes, *, late: bool = False, pin: str | None = None) -> VerifiedTrust:
    trust = exercise.trust.trust
    now = trust.expires if late else MOMENT
    return open_trust(data, "trust.json", roots=pin or trust.roots.fingerprint, now=now)


def _file(exercise: Exercise) -> bytes:
    return chain_to_bytes(exercise.trust.chain)


def _next_version(exercise: Exercise) -> VerifiedTrust:
    chain = countersign(amend(exercise.trust.chain, exercise.trust.trust), exercise.rosa)
    return _reread(exercise, chain_to_bytes(chain))


def _unsigned(exercise: Exercise) -> None:
    _reread(exercise, chain_to_bytes(new_chain(exercise.trust.trust, "trust.json")))


def _marked(exercise: Exercise, seen: VerifiedTrust, *, serial: int = SERIAL, ahead: int = 0) -> Trusted:
    """Open the manifest before a mark of a gate that has seen `seen` and `serial`, some seconds from now."""
    file = MarkFile(exercise.folder / "mark")
    file.path.unlink(missing_ok=True)
    mark = Mark.of(seen, product=PRODUCT, serial=serial, time=MOMENT + timedelta(seconds=ahead))
    file.raise_to(mark, seen)
    return open_trusted(exercise.sealed, exercise.trust, PRODUCT, now=MOMENT, mark=file)


def _damaged_mark(exercise: Exercise) -> None:
    write_atomically(exercise.folder / "damaged", b"{}\n")
    MarkFile(exercise.folder / "damaged").read()


TRUST_CASES: Final[tuple[Case, ...]] = (
    ("a trust file from its pin", ACCEPTED, lambda e: _reread(e, _file(e))),
    ("a trust file that nobody signed", "SignatureFault, exit code 13", _unsigned),
    ("a trust file from another pin", "SignatureFault, exit code 13", lambda e: _reread(e, _file(e), pin="0" * 64)),
    ("a trust file that has expired", "SignatureFault, exit code 13", lambda e: _reread(e, _file(e), late=True)),
    ("a manifest and a trust file as a mark has them", ACCEPTED, lambda e: _marked(e, e.trust)),
    ("a trust file older than a mark", "IdentityFault, exit code 14", lambda e: _marked(e, _next_version(e))),
    ("a manifest older than a mark", "IdentityFault, exit code 14", lambda e: _marked(e, e.trust, serial=SERIAL + 1)),
    ("a clock set back behind a mark", "IdentityFault, exit code 14", lambda e: _marked(e, e.trust, ahead=301)),
    ("a damaged mark", "MalformedArtefact, exit code 20", _damaged_mark),
)
