# SPDX-License-Identifier: Apache-2.0
"""Change a trust document, one decision at a time; nothing here lets back in what was shut out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from weighmaster.core.instant import instant_text
from weighmaster.errors import UsageError
from weighmaster.seal.trust import Authority, Identity, ProductRule, TimestampAuthority, Trust, TrustedKey

__all__ = [
    "with_authority",
    "with_end_of_key",
    "with_identity",
    "with_key",
    "with_product",
    "with_revoked_identity",
    "with_revoked_key",
    "with_revoked_root",
    "with_revoked_serial",
    "with_timestamp_authority",
]


def with_key(trust: Trust, key: TrustedKey) -> Trust:
    """Return `trust` with one more key.

    Raises:
        UsageError: the key is listed already; a revoked key does not come back this way.
        MalformedArtefact: a role or the name does not follow the format.
    """
    listed = trust.key(key.key.fingerprint)
    if listed is not None:
        state = "revoked" if listed.revoked else "trusted"
        raise UsageError(f"key {key.key.fingerprint} is listed already, as a {state} key of {listed.person}")
    return replace(trust, keys=(*trust.keys, key))


def with_authority(trust: Trust, authority: Authority) -> Trust:
    """Return `trust` with one more certification authority.

    Raises:
        MalformedArtefact: the name is taken or does not follow the format.
    """
    return replace(trust, authorities=(*trust.authorities, authority))


def with_identity(trust: Trust, identity: Identity) -> Trust:
    """Return `trust` with one more name by which an authority knows a person.

    Raises:
        UsageError: the name is listed already; a revoked one does not come back this way.
        MalformedArtefact: the authority is not listed, or name, subject or roles do not follow the format.
    """
    listed = trust.identity(identity.authority, identity.subject)
    if listed is not None:
        state = "revoked" if listed.revoked else "trusted"
        raise UsageError(f"{identity.subject} of {identity.authority} is listed already, {state}, for {listed.person}")
    return replace(trust, identities=(*trust.identities, identity))


def with_timestamp_authority(trust: Trust, authority: TimestampAuthority) -> Trust:
    """Return `trust` with one more authority whose timestamps are believed.

    Raises:
        MalformedArtefact: the name is taken or does not follow the format.
    """
    return replace(trust, timestamp_authorities=(*trust.timestamp_authorities, authority))


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


def with_end_of_key(trust: Trust, fingerprint: str, moment: datetime) -> Trust:
    """Return `trust` with a last moment at which this key's signatures count.

    Raises:
        UsageError: no such key is listed, or it ended earlier: what was shut out does not come back this way.
    """
    key = trust.key(fingerprint)
    if key is None:
        raise UsageError(f"expected a key of {trust.file} to end, found none with fingerprint {fingerprint}")
    if key.not_after is not None and key.not_after < moment:
        end, found = instant_text(key.not_after), instant_text(moment)
        raise UsageError(f"key {fingerprint}: expected an end not after {end}, as before, found {found}")
    ended = replace(key, not_after=moment)
    return replace(trust, keys=tuple(ended if k.key.fingerprint == fingerprint else k for k in trust.keys))


def with_revoked_identity(trust: Trust, *, authority: str, subject: str) -> Trust:
    """Return `trust` with this name revoked; it stays listed, so that it cannot be added again.

    Raises:
        UsageError: no such name is listed.
    """
    former = trust.identity(authority, subject)
    if former is None:
        raise UsageError(f"expected an identity of {trust.file} to revoke, found none for {subject} of {authority}")
    revoked = replace(former, revoked=True)
    return replace(trust, identities=tuple(revoked if i == former else i for i in trust.identities))


def with_revoked_serial(trust: Trust, *, authority: str, serial: str) -> Trust:
    """Return `trust` with one certificate of an authority revoked, by its serial number in hexadecimal.

    Raises:
        UsageError: no such authority is listed.
        MalformedArtefact: the serial is not in lowercase hexadecimal.
    """
    former = trust.authority(authority)
    if former is None:
        raise UsageError(f"expected an authority of {trust.file}, found none named {authority!r}")
    if serial in former.revoked_serials:
        return trust
    changed = replace(former, revoked_serials=(*former.revoked_serials, serial))
    return replace(trust, authorities=tuple(changed if a.name == authority else a for a in trust.authorities))


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
