# SPDX-License-Identifier: Apache-2.0
"""Steps 2 and 3 of ``spec/admission.md``: who signed, and whether it is this deployment's. No runtime is needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from weighmaster.durable import read_whole
from weighmaster.errors import Fault, NotAdmitted, UsageError
from weighmaster.flows.artefact import Manifest, SealedManifest, bind
from weighmaster.flows.mark import Mark, MarkFile, mark_faults
from weighmaster.seal.check import SignerRecord, identity_faults, require_signed, revoked_pack_faults
from weighmaster.seal.trust import Trust
from weighmaster.seal.trust_chain import MAX_FILE, VerifiedTrust, expiry_faults, open_trust

__all__ = ["Trusted", "judged_at", "open_trusted", "read_trust", "require_in_force"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """A manifest whose seal and identity hold: the result of steps 2 and 3.

    Attributes:
        manifest: as it was signed.
        signers: who signed it.
        verified: the trust document, and the chain that leads to it.
        now: the moment at which all that was judged: the clock's, but never before the mark's.
        mark: the mark that was kept, or None.
    """

    manifest: Manifest
    signers: tuple[SignerRecord, ...]
    verified: VerifiedTrust
    now: datetime
    mark: Mark | None

    @property
    def trust(self) -> Trust:
        """What is trusted."""
        return self.verified.trust

    def found(self, now: datetime) -> Mark:
        """Return the mark of what is trusted here, at the moment `now`."""
        statement = self.manifest.statement
        return Mark.of(self.verified, product=statement.product, serial=statement.serial, time=now)


def read_trust(trust: VerifiedTrust | Path | str, roots: str | None, now: datetime) -> VerifiedTrust:
    """Return a trust file, read and verified from its pin; one that was verified already is handed back.

    Raises:
        UsageError: a path without a pin, a pin that is no fingerprint, or a pin for what is verified already.
        MalformedArtefact: the file does not follow its specification.
        NotAdmitted: its signatures do not hold, or it has expired.
    """
    if isinstance(trust, VerifiedTrust):
        if roots is not None:
            raise UsageError("roots: expected none, for this trust was verified already, found a fingerprint")
        return trust
    if roots is None:
        raise UsageError("roots: expected the fingerprint of the roots that the trust file must begin at, found none")
    if len(roots) != 64 or set(roots) - set("0123456789abcdef"):  # noqa: PLR2004  # SHA-256 in hexadecimal
        raise UsageError(f"roots: expected 64 lowercase hexadecimal digits, found {roots[:80]!r}")
    return open_trust(read_whole(Path(trust), limit=MAX_FILE), str(trust), roots=roots, now=now)


def judged_at(mark: MarkFile | None, now: datetime) -> tuple[Mark | None, datetime]:
    """Return the mark, and the moment at which everything is judged: the clock's, but never before the mark's.

    Raises:
        MalformedArtefact: the mark is damaged.
        StorageError: it cannot be read.
    """
    seen = mark.read() if mark is not None else None
    return seen, now if seen is None else max(now, seen.time)


def require_in_force(trust: Trust, moment: datetime) -> None:
    """Raise `NotAdmitted` if the trust file has expired."""
    if late := expiry_faults(trust, moment):
        raise NotAdmitted(f"{trust.file}: the trust file is not in force", late)


def open_trusted(
    sealed: SealedManifest, verified: VerifiedTrust, expect: str, *, now: datetime, mark: MarkFile | None
) -> Trusted:
    """Run steps 2 and 3: signatures and trust, then identity.

    Args:
        sealed: the manifest as it was read.
        verified: what is trusted.
        expect: the product that is deployed here.
        now: the moment of the clock.
        mark: the high-water mark, or None where none is kept.

    Raises:
        NotAdmitted: with the faults of the first of the two steps that has any.
        MalformedArtefact: a file does not follow its specification.
        StorageError: the mark cannot be read.
    """
    seen, moment = judged_at(mark, now)
    trust = verified.trust
    # (2) The signature is checked over the bytes received; only then are they parsed, and every file bound to them.
    require_in_force(trust, moment)
    try:
        envelope = sealed.sealed()
        signers = require_signed(envelope, trust, expect, now=moment)
        manifest = bind(envelope.payload, sealed.files, sealed.origin)
    except Fault as fault:
        raise NotAdmitted(f"{sealed.origin} is not a manifest signed for {expect}", [fault]) from None
    # (3) Genuine is not enough: this product, in force, not rolled back.
    statement = manifest.statement
    trusted = Trusted(manifest=manifest, signers=signers, verified=verified, now=moment, mark=seen)
    faults: tuple[Fault, ...] = identity_faults(
        trust, product=statement.product, expect=expect, serial=statement.serial, root=manifest.root
    )
    if statement.derivation is not None:
        faults = (*faults, *revoked_pack_faults(trust, statement.product, statement.derivation.pack))
    if seen is not None:
        faults = (*faults, *mark_faults(seen, trusted.found(now), verified))
    if faults:
        raise NotAdmitted(f"the manifest in {sealed.origin} is not in force for {expect}", faults)
    return trusted
