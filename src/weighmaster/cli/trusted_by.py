# SPDX-License-Identifier: Apache-2.0
"""Who signed and under which trust file, for print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weighmaster.core.instant import instant_text

if TYPE_CHECKING:
    from weighmaster.seal.check import SignerRecord
    from weighmaster.seal.trust_chain import VerifiedTrust

__all__ = ["signed_by", "signer_document", "trust_document", "trust_line"]


def signer_document(signer: SignerRecord) -> dict[str, object]:
    """Return a signer as JSON."""
    return {
        "person": signer.person,
        "roles": signer.roles,
        "fingerprint": signer.fingerprint,
        "file": signer.file,
        "by": signer.by,
        "time": None if signer.time is None else instant_text(signer.time),
    }


def signed_by(signer: SignerRecord) -> str:
    """Return a line about a signer."""
    known = "" if signer.by == "key" else f", {signer.by}"
    time = "" if signer.time is None else f", timestamp {instant_text(signer.time)}"
    return f"{signer.person} ({' and '.join(signer.roles)}), key {signer.fingerprint}{known}{time}"


def trust_document(trust: VerifiedTrust) -> dict[str, object]:
    """Return which trust file it was, as JSON."""
    return {
        "file": trust.trust.file,
        "version": trust.trust.version,
        "sha256": trust.sha256,
        "expires": instant_text(trust.trust.expires),
        "keepers": trust.keepers,
    }


def trust_line(trust: VerifiedTrust) -> str:
    """Return lines about the trust file."""
    document = trust.trust
    until = instant_text(document.expires)
    return (
        f"{document.file}, version {document.version}, until {until}, signed by {', '.join(trust.keepers)}\n"
        f"SHA-256 {trust.sha256}"
    )
