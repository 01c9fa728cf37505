# SPDX-License-Identifier: Apache-2.0
"""Decide whose key a certificate certifies, by authorities of one's own (spec/seal.md, "Certificates").

Paths are built and checked by `cryptography` with extension policies that state the rules of the specification; none
of the rules for web servers apply. There is no clock here: every certificate of a path must be valid at a given moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from weighmaster.core.instant import instant_text
from weighmaster.durable import read_whole
from weighmaster.errors import KeyFault, MalformedArtefact, SignatureFault
from weighmaster.seal.keys import PublicKey
from weighmaster.seal.trust import Authority, Identity, Trust

__all__ = [
    "Certified",
    "Unfit",
    "certified",
    "certified_key",
    "load_certificate",
    "moment_text",
    "parse_certificate",
    "require_path",
    "require_purpose",
    "subjects",
]


class Unfit(Exception):  # it never leaves this folder: callers make a fault of it
    """A certificate does not serve its purpose; `expected` and `found` say why."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected, self.found = expected, found
        super().__init__(f"expected {expected}, found {found}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """What a certificate shows at a moment.

    Attributes:
        key: of its holder.
        person: who the trust document says that the holder is.
        roles: that the trust document gives the holder.
        authority: name of the authority in the trust document.
    """

    key: PublicKey
    person: str
    roles: tuple[str, ...]
    authority: str


def certified(data: bytes, file: str, trust: Trust, at: datetime) -> Certified:
    """Return who holds the key of a certificate, in DER, at a moment.

    Raises:
        SignatureFault: no path to a listed authority holds at that moment, it is revoked, it is not for signing, or it
            names nobody who is listed.
    """
    try:
        leaf = parse_certificate(data)
    except ValueError as error:
        expected = "one X.509 certificate in DER"
        raise SignatureFault(file, "its certificate cannot be read", expected=expected, found=str(error)) from None
    try:
        key = certified_key(leaf)
        require_purpose(leaf, ExtendedKeyUsageOID.CODE_SIGNING, at)
        identity = _identity(leaf, _authorities(leaf, trust, at), trust)
    except KeyFault as fault:
        raise SignatureFault(file, str(fault)) from None
    except Unfit as unfit:
        detail = f"the certificate of {_named(leaf)} does not hold"
        raise SignatureFault(file, detail, expected=unfit.expected, found=unfit.found) from None
    return Certified(key=key, person=identity.person, roles=identity.roles, authority=identity.authority)


def parse_certificate(data: bytes, *, pem: bool = False) -> x509.Certificate:
    """Return the certificate in `data`, read to its last field: the library reads names and extensions late.

    Raises:
        ValueError: there is none in DER (or `pem`), it is damaged, or, in DER, something comes after it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        _fields = certificate.subject, certificate.issuer, certificate.extensions
    except Exception as error:  # noqa: BLE001  # damage has many kinds of errors in the library, which differ by version
        raise ValueError(" ".join(f"{type(error).__name__} {error}".split())[:120]) from None
    return certificate


_MAX_FILE: Final = 1 << 16


def certified_key(certificate: x509.Certificate) -> PublicKey:
    """Return the key of a certificate's holder.

    Raises:
        KeyFault: it is of another kind.
    """
    try:
        return PublicKey(certificate.public_key())  # type: ignore[arg-type]  # the constructor checks what it is
    except (KeyFault, ValueError, UnsupportedAlgorithm) as error:
        raise KeyFault(f"the key of the certificate: {' '.join(str(error).split())[:120]}") from None


def load_certificate(path: Path) -> bytes:
    """Return the one certificate in a PEM file, DER.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: it holds no certificate, or more than one: those above the leaf are listed by who verifies.
        StorageError: it cannot be read.
    """
    data, expected = read_whole(path, limit=_MAX_FILE), "one X.509 certificate in PEM"
    try:
        certificate = parse_certificate(data, pem=True)
    except ValueError as error:
        raise MalformedArtefact(str(path), "", expected=expected, found=str(error)) from None
    if data.count(b"-----BEGIN ") != 1:
        raise MalformedArtefact(str(path), "", expected=expected, found=f"{data.count(b'-----BEGIN ')} objects")
    return certificate.public_bytes(Encoding.DER)


def _named(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}"


# -- one certificate --------------------------------------------------------------------------------------------------


def require_purpose(leaf: x509.Certificate, purpose: ObjectIdentifier, at: datetime) -> None:
    """Return if the certificate of a signer is valid `at` that moment and for this extended key usage.

    Raises:
        Unfit: it is not.
    """
    _require_valid(leaf, at)
    extensions = leaf.extensions
    if any(isinstance(e.value, x509.BasicConstraints) and e.value.ca for e in extensions):
        raise Unfit("the certificate of a signer", "one of an authority (CA)")
    usage = next((e.value for e in extensions if isinstance(e.value, x509.KeyUsage)), None)
    if usage is not None and not usage.digital_signature:
        raise Unfit("the key usage digitalSignature", "other key usages")
    purposes = next((e.value for e in extensions if isinstance(e.value, x509.ExtendedKeyUsage)), None)
    if purposes is None or purpose not in purposes:
        found = "no extended key usage" if purposes is None else ", ".join(p.dotted_string for p in purposes)
        raise Unfit(f"the extended key usage {purpose.dotted_string}", found)


def _require_valid(certificate: x509.Certificate, at: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= at <= end:
        raise Unfit(
            f"one that is valid at {moment_text(at)}", f"one valid from {moment_text(begin)} to {moment_text(end)}"
        )


def moment_text(moment: datetime) -> str:
    """Return a moment for a message; unlike those of documents, one from a certificate can be of any year."""
    return instant_text(moment) if moment.year >= 1000 else moment.isoformat()  # noqa: PLR2004


def subjects(leaf: x509.Certificate) -> tuple[str, ...]:
    """Return the subject alternative names by which a trust document can know the holder, as it writes them."""
    names = [e.value for e in leaf.extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    kinds = {x509.RFC822Name: "email", x509.UniformResourceIdentifier: "uri", x509.DNSName: "dns"}
    return tuple(f"{kinds[type(name)]}:{name.value}" for san in names for name in san if type(name) in kinds)


# -- paths ------------------------------------------------------------------------------------------------------------


def require_path(
    leaf: x509.Certificate,
    roots: Sequence[x509.Certificate],
    intermediates: Sequence[x509.Certificate],
    purpose: ObjectIdentifier,
    at: datetime,
) -> tuple[x509.Certificate, ...]:
    """Return the path from a signer's certificate to one of `roots`, leaf first, if all of it is valid `at` the moment.

    Whether the leaf itself serves the purpose is for `require_purpose`.

    Raises:
        Unfit: there is no such path.
    """
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(at.astimezone(UTC).replace(tzinfo=None))
        .extension_policies(ca_policy=_authority_policy(purpose), ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        path = tuple(verifier.verify(leaf, list(intermediates)).chain)
    except (VerificationError, ValueError) as error:
        raise Unfit("a path to a listed authority", _why(error, (*roots, *intermediates), at)) from None
    if len(path) == 1:  # a listed certificate signs others, not statements
        raise Unfit("a certificate that a listed authority issued", "the listed certificate itself")
    return path


def _authority_policy(purpose: ObjectIdentifier) -> ExtensionPolicy:
    """Return what each certificate above the leaf must say (RFC 5280, 4.2.1 and 6.1.4)."""

    def signs(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        if usage is not None and not usage.key_cert_sign:
            raise ValueError("an authority without the key usage keyCertSign")

    def allows(_policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
        if usage is not None and not {purpose, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
            raise ValueError(f"an authority for other extended key usages than {purpose.dotted_string}")

    def binds(_policy: Policy, _certificate: x509.Certificate, names: x509.NameConstraints | None) -> None:
        subtrees = [*(names.permitted_subtrees or ()), *(names.excluded_subtrees or ())] if names is not None else []
        passed_over = sorted({type(name).__name__ for name in subtrees} - _JUDGED)
        if passed_over:  # not every version of the library refuses what it does not judge
            raise ValueError(f"an authority with name constraints that are not judged, on {', '.join(passed_over)}")

    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.CRITICAL, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, signs)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, allows)
        .may_be_present(x509.NameConstraints, Criticality.AGNOSTIC, binds)
    )


_JUDGED: Final = frozenset({"DNSName", "IPAddress", "RFC822Name"})
"""Kinds of names whose constraints `cryptography` holds against the leaf."""


def _why(error: Exception, above: Sequence[x509.Certificate], at: datetime) -> str:
    """Say why there is no path: the library names the last thing that it tried."""
    reasons = [" ".join(str(error).split())[:200]]
    for certificate in above:
        try:
            _require_valid(certificate, at)
        except Unfit as unfit:
            reasons.append(f"{_named(certificate)} is {unfit.found}")
    return "; ".join(reasons)


def _authorities(leaf: x509.Certificate, trust: Trust, at: datetime) -> list[str]:
    """Return the names of the listed authorities to which there is a path; none of it revoked."""
    found, reasons = [], []
    for authority in trust.authorities:
        try:
            path = require_path(
                leaf, (authority.certificate,), authority.intermediates, ExtendedKeyUsageOID.CODE_SIGNING, at
            )
        except Unfit as unfit:
            reasons.append(f"{authority.name}: {unfit.found}")
            continue
        _require_in_force(path, authority)
        found.append(authority.name)
    if not found:
        raise Unfit(f"a path to an authority listed in {trust.file}", "; ".join(reasons) or "no authority is listed")
    return found


def _require_in_force(path: Sequence[x509.Certificate], authority: Authority) -> None:
    for certificate in path:
        serial = f"{certificate.serial_number:x}"
        if serial in authority.revoked_serials:
            raise Unfit("certificates in force", f"{_named(certificate)}, serial {serial}, revoked")


def _identity(leaf: x509.Certificate, authorities: Sequence[str], trust: Trust) -> Identity:
    """Return the one listed person whom the names of the certificate mean, with the roles of all of these names."""
    names = subjects(leaf)
    listed = [i for a in authorities for name in names if (i := trust.identity(a, name))]
    if not listed:
        expected = f"a subject alternative name listed for {' or '.join(authorities)}"
        raise Unfit(expected, ", ".join(names) or "no such name")
    revoked = next((i for i in listed if i.revoked), None)
    if revoked is not None:
        raise Unfit("an identity in force", f"{revoked.subject} of {revoked.person}, revoked")
    persons = sorted({i.person for i in listed})
    if len(persons) > 1:
        raise Unfit("the names of one person", f"those of {', '.join(persons)}")
    roles = tuple(dict.fromkeys(role for i in listed for role in i.roles))
    return Identity(person=persons[0], authority=listed[0].authority, subject=listed[0].subject, roles=roles)
