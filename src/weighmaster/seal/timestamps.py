# SPDX-License-Identifier: Apache-2.0
"""Ask for RFC 3161 timestamps over a signature, and decide whether one holds (spec/seal.md, "Timestamps").

The extra ``time`` (rfc3161-client) reads and verifies them. A timestamp that cannot be verified because the extra is
not installed is a fault, never passed over.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from weighmaster.core.instant import CLOCK_SLACK
from weighmaster.errors import SignatureFault
from weighmaster.seal.certificates import Unfit, moment_text, parse_certificate, require_path, require_purpose
from weighmaster.seal.trust import TimestampAuthority, Trust

__all__ = ["MEDIA_TYPE_QUERY", "MEDIA_TYPE_REPLY", "claimed_time", "query", "trusted_time"]

MEDIA_TYPE_QUERY: Final = "application/timestamp-query"
MEDIA_TYPE_REPLY: Final = "application/timestamp-reply"
"""RFC 3161, 3.4."""

_HASHES: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""Object identifiers of the hashes that are believed (FIPS 180-4)."""

_STATUS: Final = ("granted", "granted with changes", "rejected", "waiting", "revocation warning", "revoked")
_PURPOSE: Final = ExtendedKeyUsageOID.TIME_STAMPING


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """What a granted response says, and the library's object for it."""

    read: Any
    digest: str
    imprint: str
    moment: datetime
    digests: tuple[str, ...]
    signers: tuple[tuple[x509.Name, int], ...]
    certificates: tuple[x509.Certificate, ...]


def query(value: bytes) -> bytes:
    """Return a request for a timestamp over a signature: SHA-256, with the authority's certificate, without a nonce.

    A nonce would tell a fresh answer from a replayed one. None is needed: an older timestamp of this very signature is
    as true as a new one, and the same request can be written again.

    Raises:
        ModuleNotFoundError: the extra ``time`` is not installed.
    """
    import rfc3161_client as library  # noqa: PLC0415  # an extra

    builder = library.TimestampRequestBuilder(
        data=value, hash_algorithm=library.HashAlgorithm.SHA256, nonce=False, cert_req=True
    )
    return builder.build().as_bytes()


def claimed_time(response: bytes, value: bytes, file: str) -> datetime:
    """Return the moment that a response claims for a signature, in whole seconds; who says so is not verified.

    Raises:
        SignatureFault: it is no RFC 3161 response, the authority refused, or it is over other bytes.
    """
    return _claimed_time(_read(response, file), value, file)


def trusted_time(response: bytes, value: bytes, file: str, *, trust: Trust, now: datetime) -> datetime:
    """Return the moment at which a listed authority saw the signature, in whole seconds.

    Args:
        response: the RFC 3161 response, DER.
        value: the signature.
        file: name of the bundle, for messages.
        trust: lists the authorities.
        now: a timestamp from later than this and `CLOCK_SLACK` is not believed.

    Raises:
        SignatureFault: it does not hold, or cannot be verified because the extra ``time`` is not installed.
    """
    token = _read(response, file)
    moment = _claimed_time(token, value, file)
    if moment - now > CLOCK_SLACK:
        expected = f"at most {CLOCK_SLACK.seconds} s after {moment_text(now)}"
        raise SignatureFault(file, "the timestamp is from the future", expected=expected, found=moment_text(moment))
    reasons = []
    for authority in trust.timestamp_authorities:
        try:
            _require_stamped(token, value, authority)
        except Unfit as unfit:
            reasons.append(f"{authority.name}: {unfit.found}")
        else:
            return moment
    raise SignatureFault(
        file,
        f"the timestamp of {moment_text(moment)} does not hold",
        expected=f"one by an authority listed in {trust.file}",
        found="; ".join(reasons) or "no timestamp authority is listed",
    )


def _library(file: str) -> ModuleType:
    try:
        return importlib.import_module("rfc3161_client")
    except ModuleNotFoundError:
        expected, found = "the package rfc3161-client (pip install 'weighmaster[time]')", "no such package"
        raise SignatureFault(file, "its timestamp cannot be verified", expected=expected, found=found) from None


def _read(response: bytes, file: str) -> _Token:
    """Read a response whole. The library reads late, and not every damage is a `ValueError` to it."""
    library = _library(file)
    try:
        read = library.decode_timestamp_response(response)
        status, texts = int(read.status), read.status_string
        token = _token(read) if status == 0 else None
    except Exception as error:  # noqa: BLE001  # whatever it is, the bytes are not a timestamp
        found = " ".join(f"{type(error).__name__} {error}".split())[:120]
        raise SignatureFault(
            file, "its timestamp cannot be read", expected="an RFC 3161 response", found=found
        ) from None
    if token is None:
        found = " ".join([_STATUS[status] if status < len(_STATUS) else str(status), *map(ascii, texts)])
        detail = "the timestamp authority did not grant the timestamp"
        raise SignatureFault(file, detail, expected="granted", found=found)
    return token


def _token(read: Any) -> _Token:
    info, signed = read.tst_info, read.signed_data
    return _Token(
        read=read,
        digest=info.message_imprint.hash_algorithm.dotted_string,
        imprint=info.message_imprint.message.hex(),
        moment=info.gen_time.replace(microsecond=0),
        digests=tuple(sorted(d.dotted_string for d in signed.digest_algorithms)),
        signers=tuple((s.issuer, s.serial_number) for s in signed.signer_infos),
        certificates=tuple(parse_certificate(data) for data in sorted(signed.certificates)),
    )


def _claimed_time(token: _Token, value: bytes, file: str) -> datetime:
    name = _HASHES.get(token.digest)
    if name is None:
        expected = "SHA-256, 384 or 512"
        raise SignatureFault(file, "the timestamp uses another hash", expected=expected, found=token.digest)
    imprint = hashlib.new(name, value).hexdigest()
    if imprint != token.imprint:
        detail = "the timestamp is over other bytes than this signature"
        raise SignatureFault(file, detail, expected=f"{name} {imprint}", found=token.imprint)
    return token.moment


def _require_stamped(token: _Token, value: bytes, authority: TimestampAuthority) -> None:
    """Return if the response holds under one authority; everything in it is valid at the moment that it names.

    Raises:
        Unfit: it does not.
    """
    library = _library(authority.name)
    signer = _signer(token)
    require_purpose(signer, _PURPOSE, token.moment)
    _require_stamping_only(signer)
    require_path(signer, authority.certificates, authority.intermediates, _PURPOSE, token.moment)
    # Built anew each time from lists of its own: builders of this library that descend from one another share theirs.
    verifier = library.VerifierBuilder(
        roots=list(authority.certificates), intermediates=list(authority.intermediates)
    ).build()
    try:
        verifier.verify_message(token.read, value)
    except Exception as error:  # noqa: BLE001  # whatever it is, nothing was verified
        raise Unfit("a timestamp that verifies", " ".join(str(error).split())[:200]) from None


def _signer(token: _Token) -> x509.Certificate:
    """Return the certificate in the response that belongs to its one signer."""
    weak = [digest for digest in token.digests if digest not in _HASHES]
    if weak:
        raise Unfit("SHA-256, 384 or 512", f"a token signed over another hash, {', '.join(weak)}")
    if len(token.signers) != 1:
        raise Unfit("one signer", f"{len(token.signers)} signers")
    matching = [c for c in token.certificates if (c.issuer, c.serial_number) == token.signers[0]]
    if len(matching) != 1:
        raise Unfit("the certificate of the signer in the timestamp", f"{len(matching)} certificates of its signer")
    return matching[0]


def _require_stamping_only(signer: x509.Certificate) -> None:
    """RFC 3161, 2.3: the one extended key usage, and critical, so that the key signs nothing but timestamps."""
    found = [e for e in signer.extensions if isinstance(e.value, x509.ExtendedKeyUsage)]
    if not found or not found[0].critical or list(found[0].value) != [_PURPOSE]:
        raise Unfit("the extended key usage timeStamping alone, critical", "a certificate for other purposes too")
