# SPDX-License-Identifier: Apache-2.0
"""Write and read the seal: a Sigstore bundle v0.3 around one DSSE signature (spec/seal.md).

The payload is opaque here and kept exactly as received. A bundle carries one signature, by a bare key or by the key of
a certificate, and at most one timestamp over that signature; several bundles over the same payload bytes make one
`Sealed`.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from weighmaster.core.canonical import dumps, loads
from weighmaster.core.fields import Fields
from weighmaster.errors import KeyFault, MalformedArtefact, SignatureFault, UsageError
from weighmaster.seal.certificates import certified_key, parse_certificate
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.keys import InvalidSignature, PublicKey

__all__ = [
    "MAX_BUNDLE",
    "MAX_TIMESTAMP",
    "MEDIA_TYPE",
    "Bundle",
    "Sealed",
    "Signature",
    "Signer",
    "make_bundle",
    "open_sealed",
    "parse_bundle",
    "with_timestamp",
]

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE: Final = 1 << 26
"""Bytes: a larger bundle is refused before it is parsed."""

MAX_TIMESTAMP: Final = 1 << 16
"""Bytes: a larger timestamp is refused unread; one of the common size has a few thousand."""


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
        certificate: in place of the hint: the X.509 certificate of the key, DER. It proves nothing by itself.
        timestamp: an RFC 3161 response over `value`, DER, or None.
        value: the signature.
    """

    file: str
    hint: str | None = None
    certificate: bytes | None = None
    timestamp: bytes | None = None
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


def make_bundle(
    payload: bytes, signer: Signer, *, certificate: bytes | None = None, timestamp: bytes | None = None
) -> bytes:
    """Sign `payload` and return the bundle, in canonical form.

    The signature is verified before it is handed out: a fault in token, memory or library is not published.

    Args:
        payload: the bytes to sign.
        signer: whose key signs.
        certificate: of that key, DER; the bundle names it in place of the bare key.
        timestamp: an RFC 3161 response, DER. One over this very signature can only come later: see `with_timestamp`.

    Raises:
        KeyFault: the payload is empty, the certificate is not that of the key, or the signer's signature does not
            verify under its own public key.
    """
    if not payload:
        raise KeyFault("nothing to sign: expected a payload of at least one byte, found an empty one")
    public, message = signer.public, pae(PAYLOAD_TYPE, payload)
    material = _material(public, certificate)
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
            "verificationMaterial": material if timestamp is None else {**material, **_stamped(timestamp)},
            "dsseEnvelope": {
                "payload": _encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": _encode(signature), "keyid": ""}],
            },
        }
    )


def _material(public: PublicKey, certificate: bytes | None) -> dict[str, object]:
    if certificate is None:
        return {"publicKey": {"hint": public.fingerprint}, "tlogEntries": []}
    try:
        certified = certified_key(parse_certificate(certificate))
    except ValueError as error:
        raise KeyFault(f"the certificate: expected one X.509 certificate in DER, found {error}") from None
    if certified != public:
        found = f"found one of {certified.fingerprint}"
        raise KeyFault(f"the certificate: expected one of the key {public.fingerprint}, {found}")
    return {"certificate": {"rawBytes": _encode(certificate)}, "tlogEntries": []}


def _stamped(timestamp: bytes) -> dict[str, object]:
    return {"timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": _encode(timestamp)}]}}


def with_timestamp(data: bytes, timestamp: bytes, file: str) -> bytes:
    """Return the bundle with a timestamp (an RFC 3161 response, DER) added, in canonical form; nothing else changes.

    Whether the timestamp holds is for `timestamps`.

    Raises:
        MalformedArtefact: the bundle does not follow spec/seal.md, or would not any more.
        UsageError: it has a timestamp already.
    """
    before = parse_bundle(data, file)
    if before.signature.timestamp is not None:
        raise UsageError(f"{file}: expected a bundle without timestamp, found one with: it is not replaced")
    document: Any = loads(data, file)
    document["verificationMaterial"] |= _stamped(timestamp)
    written = dumps(document)
    if parse_bundle(written, file) != _replaced(before, timestamp):
        raise MalformedArtefact(file, "", expected="the same bundle and a timestamp", found="another change")
    return written


def _replaced(bundle: Bundle, timestamp: bytes) -> Bundle:
    return replace(bundle, signature=replace(bundle.signature, timestamp=timestamp))


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
    hint, certificate, timestamp = _read_material(fields.nested("verificationMaterial"))
    if fields.has("messageSignature"):
        raise fields.fault("messageSignature", "a dsseEnvelope (this content is not supported)", "a messageSignature")
    payload, value = _read_envelope(fields.nested("dsseEnvelope"))
    fields.done()
    signature = Signature(file=file, hint=hint, certificate=certificate, timestamp=timestamp, value=value)
    return Bundle(payload=payload, signature=signature)


def _read_material(fields: Fields) -> tuple[str | None, bytes | None, bytes | None]:
    """Return hint or certificate, and the timestamp; what is not verified here is refused, not passed over."""
    if fields.has("x509CertificateChain"):
        raise fields.fault("x509CertificateChain", "a single certificate, or a publicKey", "a chain")
    if fields.has("publicKey") and fields.has("certificate"):
        raise fields.fault("certificate", "a publicKey or a certificate", "both")
    hint, certificate = None, None
    if fields.has("certificate"):
        certificate = _read_certificate(fields.nested("certificate"))
    else:
        public_key = fields.nested("publicKey")
        hint = public_key.digest("hint")
        public_key.done()
    timestamp = None
    if fields.has("timestampVerificationData"):
        timestamp = _read_timestamp(fields.nested("timestampVerificationData"))
    if fields.any("tlogEntries") != []:
        raise fields.fault("tlogEntries", "an empty array", "log entries, which are not supported by this version")
    fields.done()
    return hint, certificate, timestamp


def _read_certificate(fields: Fields) -> bytes:
    data = fields.base64("rawBytes")
    fields.done()
    try:
        parse_certificate(data)
    except ValueError as error:
        raise fields.fault("rawBytes", "one X.509 certificate in DER", str(error)) from None
    return data


def _read_timestamp(fields: Fields) -> bytes:
    stamps = fields.objects("rfc3161Timestamps", lambda f: f.base64("signedTimestamp"))
    fields.done()
    if len(stamps) != 1:
        raise fields.fault("rfc3161Timestamps", "exactly one timestamp", str(len(stamps)))
    if len(stamps[0]) > MAX_TIMESTAMP:
        key = "rfc3161Timestamps[0].signedTimestamp"
        raise fields.fault(key, f"at most {MAX_TIMESTAMP} bytes", str(len(stamps[0])))
    return stamps[0]


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
