# SPDX-License-Identifier: Apache-2.0
"""Steps 2 and 3 of ``spec/admission.md``: who signed, and whether it is this deployment's. No runtime is needed."""

from __future__ import annotations

from dataclasses import dataclass

from weighmaster.errors import Fault, NotAdmitted
from weighmaster.flows.artefact import Manifest, SealedManifest, bind
from weighmaster.seal.check import SignerRecord, identity_faults, require_signed
from weighmaster.seal.trust import Trust

__all__ = ["Trusted", "open_trusted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """A manifest whose seal and identity hold: the result of steps 2 and 3."""

    manifest: Manifest
    signers: tuple[SignerRecord, ...]
    trust: Trust


def open_trusted(sealed: SealedManifest, trust: Trust, expect: str) -> Trusted:
    """Run steps 2 and 3: signatures and trust, then identity.

    Raises:
        NotAdmitted: with the faults of the first of the two steps that has any.
        MalformedArtefact: a file does not follow its specification.
    """
    # (2) The signature is checked over the bytes received; only then are they parsed, and every file bound to them.
    try:
        envelope = sealed.sealed()
        signers = require_signed(envelope, trust, expect)
        manifest = bind(envelope.payload, sealed.files, sealed.origin)
    except Fault as fault:
        raise NotAdmitted(f"{sealed.origin} is not a manifest signed for {expect}", [fault]) from None
    # (3) Genuine is not enough: this product, in force, not rolled back.
    statement = manifest.statement
    faults = identity_faults(
        trust, product=statement.product, expect=expect, serial=statement.serial, root=manifest.root
    )
    if faults:
        raise NotAdmitted(f"the manifest in {sealed.origin} is not in force for {expect}", faults)
    return Trusted(manifest=manifest, signers=signers, trust=trust)
