# SPDX-License-Identifier: Apache-2.0
"""The plain trust file: whose signatures count, in which roles, and which weights each product may run (spec/seal.md).

"Plain" means that the file is not itself signed: whoever can write it decides what is trusted. The signed form, with
rollback protection, will be another scheme with a name of its own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from weighmaster.core.canonical import MAX_SAFE_INTEGER, dumps, loads
from weighmaster.core.fields import Fields
from weighmaster.errors import KeyFault, MalformedArtefact, UsageError
from weighmaster.seal.keys import PublicKey, load_public

__all__ = [
    "ROLES",
    "SCHEME",
    "ProductRule",
    "RoleThreshold",
    "Trust",
    "TrustedKey",
    "parse_trust",
    "trust_to_bytes",
    "with_key",
    "with_product",
    "with_revoked_key",
    "with_revoked_root",
]

SCHEME: Final = "weighmaster-trust-plain-v1"
ROLES: Final = ("approver", "signer")
"""Closed list: ``signer`` vouches for how the manifest was made, ``approver`` that it may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key and the person whose signature it makes.

    Attributes:
        person: one spelling per person; thresholds count these, not keys.
        key: the public key.
        roles: names from `ROLES`, each once.
        revoked: nothing that this key signed counts any more, whenever it was signed.
    """

    person: str
    key: PublicKey
    roles: tuple[str, ...]
    revoked: bool = False


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
        waiver_roles: who must sign a waiver; none: no waiver is accepted.
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
    """What is trusted. Valid once it exists.

    Attributes:
        keys: no public key twice, whoever it is said to belong to.
        products: no product twice.
        file: name of the document, for messages.

    Raises:
        MalformedArtefact: a rule of the format does not hold.
    """

    keys: tuple[TrustedKey, ...] = ()
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


_TOO_MANY_BYTES: Final = 10**39  # what `Fields.decimal` reads
_Problem: TypeAlias = tuple[str, str, str]


def _problems(trust: Trust) -> Iterator[_Problem]:
    """Yield what is wrong, as path, expected and found."""
    for i, entry in enumerate(trust.keys):
        yield from _name_problems(f"keys[{i}].person", entry.person)
        yield from _role_problems(f"keys[{i}].roles", "", entry.roles)
    yield from _twice("keys", ".publicKey", [k.key.fingerprint for k in trust.keys])
    for i, rule in enumerate(trust.products):
        yield from _product_problems(f"products[{i}]", rule)
    yield from _twice("products", ".product", [p.product for p in trust.products])


def _product_problems(path: str, rule: ProductRule) -> Iterator[_Problem]:
    yield from _name_problems(f"{path}.product", rule.product)
    yield from _role_problems(f"{path}.requiredRoles", ".role", [r.role for r in rule.required_roles])
    for i, required in enumerate(rule.required_roles):
        if required.threshold < 1:
            yield f"{path}.requiredRoles[{i}].threshold", "at least 1", str(required.threshold)
    if not 0 <= rule.minimum_serial <= MAX_SAFE_INTEGER:
        yield f"{path}.minimumSerial", f"an integer from 0 to {MAX_SAFE_INTEGER}", str(rule.minimum_serial)
    if not 0 <= rule.max_excluded_bytes < _TOO_MANY_BYTES:
        yield f"{path}.maxExcludedBytes", "a number of bytes of at most 39 digits", str(rule.max_excluded_bytes)
    for key, roots in (("acceptedRoots", rule.accepted_roots), ("revokedRoots", rule.revoked_roots)):
        for i, root in enumerate(roots):
            if len(root) != 64 or set(root) - set("0123456789abcdef"):  # noqa: PLR2004  # SHA-256 in hexadecimal
                yield f"{path}.{key}[{i}]", "64 lowercase hexadecimal digits", repr(root[:80])
        yield from _twice(f"{path}.{key}", "", roots)


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


def parse_trust(data: bytes, file: str) -> Trust:
    """Read a plain trust file strictly; any spelling of the JSON is taken.

    Raises:
        MalformedArtefact: it does not follow spec/seal.md; the message names file and field.
    """
    fields = Fields(loads(data, file), file=file)
    fields.text("scheme", choices=(SCHEME,))
    trust = Trust(keys=fields.objects("keys", _read_key), products=fields.objects("products", _read_product), file=file)
    fields.done()
    return trust


def _read_key(fields: Fields) -> TrustedKey:
    return TrustedKey(
        person=fields.text("person"),
        key=_read_public(fields),
        roles=fields.texts("roles"),
        revoked=fields.boolean("revoked"),
    )


def _read_public(fields: Fields) -> PublicKey:
    """Return the key; its PEM has one spelling, so that no comment or second key hides beside it."""
    text = fields.text("publicKey")
    try:
        key = load_public(text.encode("utf-8"))
    except KeyFault as fault:
        raise fields.fault("publicKey", "a public key", str(fault)) from None
    if key.pem.decode("ascii") != text:
        raise fields.fault("publicKey", "the PEM exactly as `openssl pkey -pubin` writes it", "another spelling")
    return key


def _read_product(fields: Fields) -> ProductRule:
    return ProductRule(
        product=fields.text("product"),
        required_roles=fields.objects("requiredRoles", _read_threshold),
        accepted_roots=fields.texts("acceptedRoots"),
        minimum_serial=fields.integer("minimumSerial"),
        revoked_roots=fields.texts("revokedRoots"),
        max_excluded_bytes=fields.decimal("maxExcludedBytes"),
        waiver_roles=fields.objects("waiverRoles", _read_threshold) if fields.has("waiverRoles") else (),
    )


def _read_threshold(fields: Fields) -> RoleThreshold:
    return RoleThreshold(role=fields.text("role"), threshold=fields.integer("threshold", minimum=1))


def trust_to_bytes(trust: Trust) -> bytes:
    """Return the document in canonical form, keys and products in their order."""
    return dumps(
        {
            "scheme": SCHEME,
            "keys": [
                {
                    "person": entry.person,
                    "publicKey": entry.key.pem.decode("ascii"),
                    "roles": entry.roles,
                    "revoked": entry.revoked,
                }
                for entry in trust.keys
            ],
            "products": [_product_to_json(rule) for rule in trust.products],
        }
    )


def _product_to_json(rule: ProductRule) -> dict[str, object]:
    return {
        "product": rule.product,
        "requiredRoles": [{"role": r.role, "threshold": r.threshold} for r in rule.required_roles],
        "acceptedRoots": rule.accepted_roots,
        "minimumSerial": rule.minimum_serial,
        "revokedRoots": rule.revoked_roots,
        "maxExcludedBytes": str(rule.max_excluded_bytes),
        **(
            {"waiverRoles": [{"role": r.role, "threshold": r.threshold} for r in rule.waiver_roles]}
            if rule.waiver_roles
            else {}
        ),
    }


def with_key(trust: Trust, *, person: str, key: PublicKey, roles: tuple[str, ...]) -> Trust:
    """Return `trust` with one more key.

    Raises:
        UsageError: the key is listed already; a revoked key does not come back this way.
        MalformedArtefact: a role or the name does not follow the format.
    """
    listed = trust.key(key.fingerprint)
    if listed is not None:
        state = "revoked" if listed.revoked else "trusted"
        raise UsageError(f"key {key.fingerprint} is listed already, as a {state} key of {listed.person}")
    return replace(trust, keys=(*trust.keys, TrustedKey(person=person, key=key, roles=roles)))


def with_product(trust: Trust, rule: ProductRule) -> Trust:
    """Return `trust` with this rule, in place of the product's former one if there is one.

    Roots that the former rule revokes stay revoked.

    Raises:
        UsageError: the former rule asks for a higher serial: lowering it would let an older manifest back in.
        MalformedArtefact: the rule does not follow the format.
    """
    former = trust.product(rule.product)
    if former is None:
        return replace(trust, products=(*trust.products, rule))
    if rule.minimum_serial < former.minimum_serial:
        raise UsageError(
            f"{rule.product}: expected a minimum serial of at least {former.minimum_serial}, as before, "
            f"found {rule.minimum_serial}: an older manifest would be accepted again"
        )
    revoked = former.revoked_roots + tuple(r for r in rule.revoked_roots if r not in former.revoked_roots)
    return _with_rule(trust, replace(rule, revoked_roots=revoked))


def _with_rule(trust: Trust, rule: ProductRule) -> Trust:
    return replace(trust, products=tuple(rule if p.product == rule.product else p for p in trust.products))


def with_revoked_key(trust: Trust, fingerprint: str) -> Trust:
    """Return `trust` with this key revoked; it stays listed, so that it cannot be added again.

    Raises:
        UsageError: no such key is listed.
    """
    if trust.key(fingerprint) is None:
        raise UsageError(f"expected a key of {trust.file} to revoke, found none with fingerprint {fingerprint}")
    keys = tuple(replace(k, revoked=True) if k.key.fingerprint == fingerprint else k for k in trust.keys)
    return replace(trust, keys=keys)


def with_revoked_root(trust: Trust, *, product: str, root: str) -> Trust:
    """Return `trust` with this root revoked for `product`.

    Raises:
        UsageError: no such product is listed.
        MalformedArtefact: the root is not a SHA-256 digest.
    """
    rule = trust.product(product)
    if rule is None:
        raise UsageError(f"expected a product of {trust.file}, found none named {product!r}")
    if root in rule.revoked_roots:
        return trust
    return _with_rule(trust, replace(rule, revoked_roots=(*rule.revoked_roots, root)))
