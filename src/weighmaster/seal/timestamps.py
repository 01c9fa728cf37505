# SPDX-License-Identifier: Apache-2.0
"""Ask for RFC 3161 timestamps over a signature, and decide whether one holds (spec/seal.md, "Timestamps").

The extra ``time`` (rfc3161-client) reads and verifies them. A timestamp that cannot be verified because the extra is
not installed is a fault, never passed over.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from weighmaster.core.instant import CLOCK_SLACK, instant_text
from weighmaster.errors import SignatureFault
from weighmaster.seal.certificates import Unfit, require_path, require_purpose
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
    read = _read(response, file)
    moment = _claimed_time(read, value, file)
    if moment > now + CLOCK_SLACK:
        expected = f"a moment not after {instant_text(now + CLOCK_SLACK)}"
        raise SignatureFault(file, "the timestamp is from the future", expected=expected, found=instant_text(moment))
    reasons = []
    for authority in trust.timestamp_authorities:
        try:
            _require_stamped(read, value, authority, moment)
        except Unfit as unfit:
            reasons.append(f"{authority.name}: {unfit.found}")
        else:
            return moment
    raise SignatureFault(
        file,
        f"the timestamp of {instant_text(moment)} does not hold",
        expected=f"one by an authority listed in {trust.file}",
        found="; ".join(reasons) or "no timestamp authority is listed",
    )


def _library(file: str) -> ModuleType:
    try:
        return importlib.import_module("rfc3161_client")
    except ModuleNotFoundError:
        expected, found = "the package rfc3161-client (pip install 'weighmaster[time]')", "no such package"
        raise SignatureFault(file, "its timestamp cannot be verified", expected=expected, found=found) from None


def _read(response: bytes, file: str) -> Any:
    library = _library(file)
    try:
        read = library.decode_timestamp_response(response)
        status = int(read.status)
        if status != 0:
            found = _STATUS[status] if status < len(_STATUS) else str(status)
            text = ", ".join(read.status_string)
            detail = "the timestamp authority did not grant the timestamp"
            raise SignatureFault(
                file, detail, expected="granted", found=f"{found} {ascii(text) if text else ''}".strip()
            )
        read.tst_info, read.signed_data  # noqa: B018  # read on demand: damage shows here
    except ValueError as error:
        found = " ".join(str(error).split())[:120]
        raise SignatureFault(
            file, "its timestamp cannot be read", expected="an RFC 3161 response", found=found
        ) from None
    return read


def _claimed_time(read: Any, value: bytes, file: str) -> datetime:
    imprint = read.tst_info.message_imprint
    name = _HASHES.get(imprint.hash_algorithm.dotted_string)
    if name is None:
        found = str(imprint.hash_algorithm.dotted_string)
        raise SignatureFault(file, "the timestamp uses another hash", expected="SHA-256, 384 or 512", found=found)
    expected, found = hashlib.new(name, value).hexdigest(), imprint.message.hex()
    if expected != found:
        raise SignatureFault(
            file, "the timestamp is over other bytes than this signature", expected=f"{name} {expected}", found=found
        )
    moment: datetime = read.tst_info.gen_time
    return moment.replace(microsecond=0)


def _require_stamped(read: Any, value: bytes, authority: TimestampAuthority, moment: datetime) -> None:
    """Return if the response holds under one authority; everything in it is valid at the moment that it names.

    Raises:
        Unfit: it does not.
    """
    library = _library(authority.name)
    signer = _signer(read)
    require_purpose(signer, _PURPOSE, moment)
    _require_stamping_only(signer)
    require_path(signer, authority.certificates, authority.intermediates, _PURPOSE, moment)
    # Built anew each time from lists of its own: builders of this library that descend from one another share theirs.
    verifier = library.VerifierBuilder(
        roots=list(authority.certificates), intermediates=list(authority.intermediates)
    ).build()
    try:
        verifier.verify_message(read, value)
    except (library.VerificationError, ValueError) as error:
        raise Unfit("a timestamp that verifies", " ".join(str(error).split())[:200]) from None


def _signer(read: Any) -> x509.Certificate:
    """Return the certificate in the response that belongs to its one signer."""
    digests = sorted(d.dotted_string for d in read.signed_data.digest_algorithms if d.dotted_string not in _HASHES)
    if digests:
        raise Unfit("SHA-256, 384 or 512", f"a token signed over another hash, {', '.join(digests)}")
    signers: Sequence[Any] = list(read.signed_data.signer_infos)
    if len(signers) != 1:
        raise Unfit("one signer", f"{len(signers)} signers")
    certificates = [x509.load_der_x509_certificate(data) for data in sorted(read.signed_data.certificates)]
    wanted = (signers[0].issuer, signers[0].serial_number)
    matching = [c for c in certificates if (c.issuer, c.serial_number) == wanted]
    if len(matching) != 1:
        raise Unfit("the certificate of the signer in the timestamp", f"{len(matching)} such certificates")
    return matching[0]


def _require_stamping_only(signer: x509.Certificate) -> None:
    """RFC 3161, 2.3: the one extended key usage, and critical, so that the key signs nothing but timestamps."""
    found = [e for e in signer.extensions if isinstance(e.value, x509.ExtendedKeyUsage)]
    if not found or not found[0].critical or list(found[0].value) != [_PURPOSE]:
        raise Unfit("the extended key usage timeStamping alone, critical", "a certificate for other purposes too")
