# SPDX-License-Identifier: Apache-2.0
"""Write and read the seal: a Sigstore bundle v0.3 around one DSSE signature by a bare key (spec/seal.md).

The payload is opaque here and kept exactly as received. A bundle carries one signature; several bundles over the same
payload bytes make one `Sealed`.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

from weighmaster.core.canonical import dumps, loads
from weighmaster.core.fields import Fields
from weighmaster.errors import KeyFault, MalformedArtefact, SignatureFault
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.keys import InvalidSignature, PublicKey

__all__ = [
    "MAX_BUNDLE",
    "MEDIA_TYPE",
    "Bundle",
    "Sealed",
    "Signature",
    "Signer",
    "make_bundle",
    "open_sealed",
    "parse_bundle",
]

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE: Final = 1 << 26
"""Bytes: a larger bundle is refused before it is parsed."""

_LATER: Final = ("certificate", "x509CertificateChain", "timestampVerificationData")


class Signer(Protocol):
    """Whatever can sign: a `PrivateKey`, or a token that keeps its key to itself."""

    @property
    def public(self) -> PublicKey:
        """The key that verifies."""

    def sign(self, message: bytes) -> bytes:
        """Return a signature over `message`: DER of r and s for ECDSA, 64 bytes for Ed25519."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature as it stands in a bundle: a claim, not yet verified.

    Attributes:
        file: name of the bundle, for messages.
        hint: fingerprint of the key that the bundle names. It only tells which trusted key to try.
        value: the signature.
    """

    file: str
    hint: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One bundle, read but not verified: payload bytes and the signature over them."""

    payload: bytes
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Bytes and the signatures presented over them; bytes first, for nothing may parse them before a signature holds.

    Attributes:
        payload: exactly the bytes received.
        signatures: one per bundle, at least one; claims until `check.require_signed` returns.
    """

    payload: bytes
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        if not self.signatures:
            raise SignatureFault("seal", "nothing was signed", expected="at least one bundle", found="none")


def make_bundle(payload: bytes, signer: Signer) -> bytes:
    """Sign `payload` and return the bundle, in canonical form.

    The signature is verified before it is handed out: a fault in token, memory or library is not published.

    Raises:
        KeyFault: the payload is empty, or the signer's signature does not verify under its own public key.
    """
    if not payload:
        raise KeyFault("nothing to sign: expected a payload of at least one byte, found an empty one")
    public, message = signer.public, pae(PAYLOAD_TYPE, payload)
    signature = signer.sign(message)
    try:
        public.verify(signature, message)
    except InvalidSignature:
        raise KeyFault(
            f"the signature just made does not verify under its own public key {public.fingerprint}"
        ) from None
    return dumps(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": public.fingerprint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": _encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": _encode(signature), "keyid": ""}],
            },
        }
    )


def parse_bundle(data: bytes, file: str) -> Bundle:
    """Read a bundle strictly; verify nothing.

    Any spelling of the JSON is taken, for a bundle is not itself signed and other tools rewrite it; any other content
    than the specification's is not.

    Raises:
        MalformedArtefact: it does not follow spec/seal.md; the message names file and field.
    """
    if len(data) > MAX_BUNDLE:
        raise MalformedArtefact(file, "", expected=f"at most {MAX_BUNDLE} bytes", found=str(len(data)))
    fields = Fields(loads(data, file), file=file)
    fields.text("mediaType", choices=(MEDIA_TYPE,))
    hint = _read_material(fields.nested("verificationMaterial"))
    if fields.has("messageSignature"):
        raise fields.fault("messageSignature", "a dsseEnvelope (this content is not supported)", "a messageSignature")
    payload, value = _read_envelope(fields.nested("dsseEnvelope"))
    fields.done()
    return Bundle(payload=payload, signature=Signature(file=file, hint=hint, value=value))


def _read_material(fields: Fields) -> str:
    """Return the hint; refuse certificates, timestamps and log entries rather than pass over them unchecked."""
    for key in _LATER:
        if fields.has(key):
            raise fields.fault(key, "a bare publicKey", f"{key}, which is not supported by this version")
    public_key = fields.nested("publicKey")
    hint = public_key.digest("hint")
    public_key.done()
    entries = fields.any("tlogEntries")
    if entries != []:
        raise fields.fault("tlogEntries", "an empty array", "log entries, which are not supported by this version")
    fields.done()
    return hint


def _read_envelope(fields: Fields) -> tuple[bytes, bytes]:
    """Return payload and signature."""
    fields.text("payloadType", choices=(PAYLOAD_TYPE,))
    payload = fields.base64("payload")
    values = fields.objects("signatures", _read_signature)
    if len(values) != 1:
        raise fields.fault("signatures", "exactly one signature", str(len(values)))
    fields.done()
    return payload, values[0]


def _read_signature(fields: Fields) -> bytes:
    keyid = fields.text("keyid", empty=True)
    if keyid:
        raise fields.fault("keyid", "an empty string", repr(keyid[:80]))
    return fields.base64("sig")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def open_sealed(bundles: tuple[tuple[str, bytes], ...]) -> Sealed:
    """Read several bundles, given as (name, bytes), over one payload.

    Raises:
        MalformedArtefact: a bundle does not follow its specification.
        SignatureFault: there is no bundle, or two bundles hold different payloads.
    """
    read = [parse_bundle(data, file) for file, data in bundles]
    for bundle in read[1:]:
        if bundle.payload != read[0].payload:
            raise SignatureFault(
                bundle.signature.file,
                f"its payload is not that of {read[0].signature.file}",
                expected=f"sha256 {_sha256(read[0].payload)}",
                found=f"sha256 {_sha256(bundle.payload)}",
            )
    return Sealed(payload=read[0].payload if read else b"", signatures=tuple(b.signature for b in read))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
