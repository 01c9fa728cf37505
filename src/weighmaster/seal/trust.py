# SPDX-License-Identifier: Apache-2.0
"""What a trust document says: who keeps it, whose signatures count, and what each product may run (spec/trust.md).

Values and their rules. `trust_document` reads and writes them, `trust_edit` changes them, `trust_chain` decides whether
the keepers of the roots signed them.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate

from weighmaster.core.canonical import MAX_SAFE_INTEGER, dumps
from weighmaster.errors import MalformedArtefact
from weighmaster.seal.keys import PublicKey

__all__ = [
    "ROLES",
    "SUBJECT_KINDS",
    "Authority",
    "Identity",
    "ProductRule",
    "RoleThreshold",
    "RootKey",
    "Roots",
    "TimestampAuthority",
    "Trust",
    "TrustedKey",
]

ROLES: Final = ("approver", "signer")
"""Closed list: ``signer`` vouches for how the manifest was made, ``approver`` that it may be used."""

SUBJECT_KINDS: Final = ("dns", "email", "uri")
"""Kinds of subject alternative names (RFC 5280, 4.2.1.6) by which a certificate's holder is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootKey:
    """A key that signs trust documents, and the person who keeps it."""

    person: str
    key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The keepers of the trust document: at least `threshold` distinct persons of them sign each version."""

    keys: tuple[RootKey, ...]
    threshold: int

    def document(self) -> dict[str, object]:
        """Return the JSON object."""
        keys = [{"person": k.person, "publicKey": k.key.pem.decode("ascii")} for k in self.keys]
        return {"keys": keys, "threshold": self.threshold}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the RFC 8785 form of the object: the pin, which binds keys, persons and threshold."""
        return hashlib.sha256(dumps(self.document())).hexdigest()

    def key(self, fingerprint: str) -> RootKey | None:
        """Return the root key with this fingerprint; None if there is none."""
        return next((k for k in self.keys if k.key.fingerprint == fingerprint), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key and the person whose signature it makes.

    Attributes:
        person: one spelling per person; thresholds count these, not keys.
        key: the public key.
        roles: names from `ROLES`, each once.
        not_after: last moment at which its signatures count, or None; a trusted timestamp shows when one was made.
        revoked: nothing that this key signed counts any more, whenever it was signed.
    """

    person: str
    key: PublicKey
    roles: tuple[str, ...]
    not_after: datetime | None = None
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certification authority of one's own.

    Attributes:
        name: by which identities refer to it.
        certificate: the root certificate.
        intermediates: certificates between it and leaves; a bundle carries the leaf alone.
        revoked_serials: serial numbers of certificates that count no more, lowercase hexadecimal without leading zeros.
    """

    name: str
    certificate: Certificate
    intermediates: tuple[Certificate, ...] = ()
    revoked_serials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The name by which an authority's certificates know a person.

    Attributes:
        person: as in `TrustedKey`.
        authority: name of a listed authority.
        subject: ``email:``, ``uri:`` or ``dns:`` and the subject alternative name, compared byte for byte.
        roles: names from `ROLES`, each once.
        revoked: nothing that was signed under this name counts any more.
    """

    person: str
    authority: str
    subject: str
    roles: tuple[str, ...]
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampAuthority:
    """An authority whose RFC 3161 timestamps are believed: its root certificates, and those between."""

    name: str
    certificates: tuple[Certificate, ...]
    intermediates: tuple[Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleThreshold:
    """At least `threshold` distinct persons must sign in `role`."""

    role: str
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRule:
    """What one product may run.

    Attributes:
        product: name, as the signed statement gives it.
        required_roles: at least one; all must be met.
        accepted_roots: if there are any, the root must be among them (SHA-256, hexadecimal).
        minimum_serial: the least serial number accepted, whether or not roots are listed.
        revoked_roots: never accepted, even if listed as accepted too.
        max_excluded_bytes: consumed bytes that a manifest may leave unverified.
        waiver_roles: who must sign a waiver; where there are none, no waiver is accepted.
    """

    product: str
    required_roles: tuple[RoleThreshold, ...]
    accepted_roots: tuple[str, ...] = ()
    minimum_serial: int = 0
    revoked_roots: tuple[str, ...] = ()
    max_excluded_bytes: int = 0
    waiver_roles: tuple[RoleThreshold, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The content of a trust document. It follows the format once it exists; who signed it is another question.

    Attributes:
        expires: from this moment on nothing is admitted under it.
        roots: the keepers.
        version: rises with each document.
        keys: no public key twice, whoever it is said to belong to.
        authorities: no name twice.
        identities: no pair of authority and subject twice.
        timestamp_authorities: no name twice.
        products: no product twice.
        file: name of the document, for messages.

    Raises:
        MalformedArtefact: a rule of the format does not hold.
    """

    expires: datetime
    roots: Roots
    version: int = 1
    keys: tuple[TrustedKey, ...] = ()
    authorities: tuple[Authority, ...] = ()
    identities: tuple[Identity, ...] = ()
    timestamp_authorities: tuple[TimestampAuthority, ...] = ()
    products: tuple[ProductRule, ...] = ()
    file: str = field(default="trust", compare=False)

    def __post_init__(self) -> None:
        for path, expected, found in _problems(self):
            raise MalformedArtefact(self.file, path, expected=expected, found=found)

    def key(self, fingerprint: str) -> TrustedKey | None:
        """Return the listed key with this fingerprint, revoked or not; None if there is none."""
        return next((k for k in self.keys if k.key.fingerprint == fingerprint), None)

    def product(self, name: str) -> ProductRule | None:
        """Return the rule for the product of this name; None if there is none."""
        return next((p for p in self.products if p.product == name), None)

    def authority(self, name: str) -> Authority | None:
        """Return the authority of this name; None if there is none."""
        return next((a for a in self.authorities if a.name == name), None)

    def identity(self, authority: str, subject: str) -> Identity | None:
        """Return who `authority` knows by `subject`, revoked or not; None if nobody is listed."""
        return next((i for i in self.identities if (i.authority, i.subject) == (authority, subject)), None)


# -- rules of the format ----------------------------------------------------------------------------------------------

_TOO_MANY_BYTES: Final = 10**39  # what `Fields.decimal` reads
_Problem: TypeAlias = tuple[str, str, str]


def _problems(trust: Trust) -> Iterator[_Problem]:
    """Yield what is wrong, as path, expected and found."""
    if not 1 <= trust.version <= MAX_SAFE_INTEGER:
        yield "version", f"an integer from 1 to {MAX_SAFE_INTEGER}", str(trust.version)
    yield from _moment_problems("expires", trust.expires)
    yield from _root_problems(trust.roots)
    for i, key in enumerate(trust.keys):
        yield from _moment_problems(f"keys[{i}].notAfter", key.not_after)
        yield from _name_problems(f"keys[{i}].person", key.person)
        yield from _role_problems(f"keys[{i}].roles", "", key.roles)
    yield from _twice("keys", ".publicKey", [k.key.fingerprint for k in trust.keys])
    yield from _authority_problems(trust)
    yield from _identity_problems(trust)
    for i, rule in enumerate(trust.products):
        yield from _product_problems(f"products[{i}]", rule)
    yield from _twice("products", ".product", [p.product for p in trust.products])


def _moment_problems(path: str, moment: datetime | None) -> Iterator[_Problem]:
    if moment is not None and (moment.tzinfo is None or moment.microsecond):
        yield path, "a moment in whole seconds with a time zone", repr(moment)


def _root_problems(roots: Roots) -> Iterator[_Problem]:
    for i, key in enumerate(roots.keys):
        yield from _name_problems(f"roots.keys[{i}].person", key.person)
    yield from _twice("roots.keys", ".publicKey", [k.key.fingerprint for k in roots.keys])
    persons = len({k.person for k in roots.keys})
    if not 1 <= roots.threshold <= persons:
        yield "roots.threshold", f"from 1 to the number of persons, {persons}", str(roots.threshold)


def _authority_problems(trust: Trust) -> Iterator[_Problem]:
    for i, authority in enumerate(trust.authorities):
        path = f"authorities[{i}]"
        yield from _name_problems(f"{path}.name", authority.name)
        for j, serial in enumerate(authority.revoked_serials):
            if not serial or serial.startswith("0") or set(serial) - _HEX:
                expected = "lowercase hexadecimal digits without leading zeros"
                yield f"{path}.revokedSerials[{j}]", expected, repr(serial[:80])
        yield from _twice(f"{path}.revokedSerials", "", authority.revoked_serials)
        yield from _twice(f"{path}.intermediates", "", [_print(c) for c in authority.intermediates])
    yield from _twice("authorities", ".name", [a.name for a in trust.authorities])
    for i, stamper in enumerate(trust.timestamp_authorities):
        yield from _name_problems(f"timestampAuthorities[{i}].name", stamper.name)
        if not stamper.certificates:
            yield f"timestampAuthorities[{i}].certificates", "at least one certificate", "none"
        for key, listed in (("certificates", stamper.certificates), ("intermediates", stamper.intermediates)):
            yield from _twice(f"timestampAuthorities[{i}].{key}", "", [_print(c) for c in listed])
    yield from _twice("timestampAuthorities", ".name", [t.name for t in trust.timestamp_authorities])


def _print(certificate: Certificate) -> str:
    return f"certificate {certificate.fingerprint(SHA256()).hex()}"


def _identity_problems(trust: Trust) -> Iterator[_Problem]:
    for i, identity in enumerate(trust.identities):
        path = f"identities[{i}]"
        yield from _name_problems(f"{path}.person", identity.person)
        yield from _role_problems(f"{path}.roles", "", identity.roles)
        if trust.authority(identity.authority) is None:
            yield f"{path}.authority", "the name of a listed authority", repr(identity.authority[:80])
        kind, colon, rest = identity.subject.partition(":")
        readable = rest.isascii() and rest.isprintable() and " " not in rest
        if kind not in SUBJECT_KINDS or not colon or not rest or not readable:
            yield f"{path}.subject", "email:, uri: or dns: and a name in ASCII", ascii(identity.subject[:80])
    yield from _twice("identities", ".subject", [f"{i.authority}, {i.subject}" for i in trust.identities])


def _product_problems(path: str, rule: ProductRule) -> Iterator[_Problem]:
    yield from _name_problems(f"{path}.product", rule.product)
    yield from _threshold_problems(f"{path}.requiredRoles", rule.required_roles)
    if rule.waiver_roles:
        yield from _threshold_problems(f"{path}.waiverRoles", rule.waiver_roles)
    if not 0 <= rule.minimum_serial <= MAX_SAFE_INTEGER:
        yield f"{path}.minimumSerial", f"an integer from 0 to {MAX_SAFE_INTEGER}", str(rule.minimum_serial)
    if not 0 <= rule.max_excluded_bytes < _TOO_MANY_BYTES:
        yield f"{path}.maxExcludedBytes", "a number of bytes of at most 39 digits", str(rule.max_excluded_bytes)
    for key, roots in (("acceptedRoots", rule.accepted_roots), ("revokedRoots", rule.revoked_roots)):
        for i, root in enumerate(roots):
            if len(root) != 64 or set(root) - _HEX:  # noqa: PLR2004  # SHA-256 in hexadecimal
                yield f"{path}.{key}[{i}]", "64 lowercase hexadecimal digits", repr(root[:80])
        yield from _twice(f"{path}.{key}", "", roots)


_HEX: Final = frozenset("0123456789abcdef")


def _threshold_problems(path: str, required: Sequence[RoleThreshold]) -> Iterator[_Problem]:
    yield from _role_problems(path, ".role", [r.role for r in required])
    for i, role in enumerate(required):
        if role.threshold < 1:
            yield f"{path}[{i}].threshold", "at least 1", str(role.threshold)


def _name_problems(path: str, name: str) -> Iterator[_Problem]:
    """One spelling per name: two that look alike would be two persons to a threshold."""
    if not name or name != unicodedata.normalize("NFC", name).strip() or not name.isprintable():
        yield path, "a printable name in NFC, without space at its ends", ascii(name[:80])


def _role_problems(path: str, key: str, roles: Sequence[str]) -> Iterator[_Problem]:
    if not roles:
        yield path, "at least one role", "none"
    for i, role in enumerate(roles):
        if role not in ROLES:
            yield f"{path}[{i}]{key}", " or ".join(repr(r) for r in ROLES), repr(role[:80])
    yield from _twice(path, key, roles)


def _twice(path: str, key: str, values: Sequence[str]) -> Iterator[_Problem]:
    first: dict[str, int] = {}
    for i, value in enumerate(values):
        if first.setdefault(value, i) != i:
            yield f"{path}[{i}]{key}", "each value once", f"{value} again, as in {path}[{first[value]}]"
