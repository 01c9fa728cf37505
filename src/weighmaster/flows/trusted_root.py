# SPDX-License-Identifier: Apache-2.0
"""Export the authorities of a trust document as a Sigstore trusted root, for verifiers of others (spec/seal.md)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import BasicConstraints, Certificate, Name
from cryptography.x509.oid import NameOID, ObjectIdentifier

from weighmaster.core.canonical import dumps
from weighmaster.durable import write_atomically
from weighmaster.errors import UsageError
from weighmaster.seal.certificates import moment_text
from weighmaster.seal.trust import Trust
from weighmaster.seal.trust_chain import VerifiedTrust

__all__ = ["TRUSTED_ROOT_TYPE", "ExportedRoot", "export_trusted_root", "trusted_root"]

TRUSTED_ROOT_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRoot:
    """What was written: the path, and the names of the authorities in it."""

    path: Path
    authorities: tuple[str, ...]
    timestamp_authorities: tuple[str, ...]


def export_trusted_root(verified: VerifiedTrust, out: Path) -> ExportedRoot:
    """Write the authorities of a trust document as a Sigstore trusted root.

    Args:
        verified: the trust document; it holds.
        out: file of the trusted root; a former one is replaced, as the trust file changes.

    Raises:
        UsageError: no certification authority is listed.
        StorageError: the file cannot be written.
    """
    trust = verified.trust
    if not trust.authorities:
        raise UsageError(f"{trust.file}: expected at least one certification authority, found none to export")
    write_atomically(out, trusted_root(trust))
    return ExportedRoot(
        path=out,
        authorities=tuple(a.name for a in trust.authorities),
        timestamp_authorities=tuple(t.name for t in trust.timestamp_authorities),
    )


def trusted_root(trust: Trust) -> bytes:
    """Return a Sigstore trusted root, in canonical form, with these authorities and no logs.

    Persons, roles, thresholds, bare keys and revocations have no place in the format.
    """
    stamping = [(root, t.intermediates) for t in trust.timestamp_authorities for root in t.certificates]
    return dumps(
        {
            "mediaType": TRUSTED_ROOT_TYPE,
            "tlogs": [],
            "certificateAuthorities": [_authority(a.certificate, a.intermediates) for a in trust.authorities],
            "ctlogs": [],
            "timestampAuthorities": [_authority(root, between) for root, between in stamping],
        }
    )


def _authority(root: Certificate, intermediates: Sequence[Certificate]) -> dict[str, object]:
    """Return one authority: in its chain signers come first, as @sigstore/verify wants them, and the root last."""
    chain = [*sorted(intermediates, key=_signs_certificates), root]
    return {
        "subject": {
            "organization": _attribute(root.subject, NameOID.ORGANIZATION_NAME),
            "commonName": _attribute(root.subject, NameOID.COMMON_NAME),
        },
        "uri": "",
        "certChain": {"certificates": [{"rawBytes": _encode(c)} for c in chain]},
        "validFor": {"start": moment_text(root.not_valid_before_utc), "end": moment_text(root.not_valid_after_utc)},
    }


def _signs_certificates(certificate: Certificate) -> bool:
    return any(isinstance(e.value, BasicConstraints) and e.value.ca for e in certificate.extensions)


def _attribute(name: Name, kind: ObjectIdentifier) -> str:
    return next((str(a.value) for a in name.get_attributes_for_oid(kind)), "")


def _encode(certificate: Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii")
