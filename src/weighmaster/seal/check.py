# SPDX-License-Identifier: Apache-2.0
"""Decide whether a seal holds under a trust document. The numbers are those of spec/seal.md, "Verification"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from weighmaster.errors import IdentityFault, NotAdmitted, SignatureFault
from weighmaster.seal.bundle import Sealed, Signature
from weighmaster.seal.certificates import Certified, certified, moment_text
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.keys import InvalidSignature, PublicKey
from weighmaster.seal.timestamps import trusted_time
from weighmaster.seal.trust import RoleThreshold, Trust, TrustedKey

__all__ = [
    "SignerRecord",
    "identity_faults",
    "require_signed",
    "revoked_pack_faults",
    "signature_faults",
    "signature_records",
    "threshold_faults",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRecord:
    """A signature that holds.

    Attributes:
        person: who signed.
        roles: the roles that the trust document gives this key, or the names in this certificate.
        fingerprint: of the key.
        file: bundle that carries the signature.
        time: when a listed timestamp authority saw the signature; None where the bundle carries no timestamp.
        by: ``key``, or ``certificate of`` and the name of the authority.
    """

    person: str
    roles: tuple[str, ...]
    fingerprint: str
    file: str
    time: datetime | None = None
    by: str = "key"


def signature_faults(
    sealed: Sealed, trust: Trust, product: str, *, now: datetime
) -> tuple[tuple[SignerRecord, ...], tuple[SignatureFault, ...]]:
    """Return who signed, and everything that is wrong with the signatures. Data: `require_signed` decides.

    Every bundle presented must hold: a bad one is a fault even where the others would suffice.

    Args:
        sealed: payload and signatures.
        trust: what is trusted.
        product: the product that is expected here, never one read from the payload.
        now: the moment of the decision.
    """
    records, faults = signature_records(sealed, trust, now=now)
    rule = trust.product(product)
    if rule is None:
        return records, (*faults, _no_rule(trust, product))
    return records, (*faults, *threshold_faults(product, rule.required_roles, records))


def signature_records(
    sealed: Sealed, trust: Trust, *, now: datetime
) -> tuple[tuple[SignerRecord, ...], tuple[SignatureFault, ...]]:
    """Return who signed, and what is wrong with single signatures: steps 4 to 6, without any product's thresholds.

    Raises:
        ValueError: `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"a moment without a time zone: {now}")
    whole = now.replace(microsecond=0)  # validity is in whole seconds, the last one included
    message = pae(PAYLOAD_TYPE, sealed.payload)
    records, faults = list[SignerRecord](), list[SignatureFault]()
    for signature in sealed.signatures:
        try:
            records.append(_record(signature, message, trust, whole))
        except SignatureFault as fault:
            faults.append(fault)
    return tuple(records), (*faults, *_shared_key_faults(records))


def _record(signature: Signature, message: bytes, trust: Trust, now: datetime) -> SignerRecord:
    time = None
    if signature.timestamp is not None:  # (4) one that is presented must hold, whether or not it is needed
        time = trusted_time(signature.timestamp, signature.value, signature.file, trust=trust, now=now)
    who, key = _who(signature, trust, now if time is None else time)
    if not _holds(key, signature.value, message):  # (6)
        raise SignatureFault(
            signature.file,
            f"the signature does not verify under the key of {who.person}",
            expected=f"a signature by {key.fingerprint}",
            found=_what_it_is(signature, message, trust),
        )
    return replace(who, time=time)


def _who(signature: Signature, trust: Trust, at: datetime) -> tuple[SignerRecord, PublicKey]:
    """Return whose signature it would be, made at that moment, and the key it is still to be verified under (5)."""
    if signature.certificate is None:
        listed = _listed_key(signature, trust, at)
        return SignerRecord(
            person=listed.person, roles=listed.roles, fingerprint=listed.key.fingerprint, file=signature.file
        ), listed.key
    holder = certified(signature.certificate, signature.file, trust, at)
    _require_own_key(signature, trust, holder, at)
    return SignerRecord(
        person=holder.person,
        roles=holder.roles,
        fingerprint=holder.key.fingerprint,
        file=signature.file,
        by=f"certificate of {holder.authority}",
    ), holder.key


def _listed_key(signature: Signature, trust: Trust, at: datetime) -> TrustedKey:
    found = signature.hint or "no key"
    listed = trust.key(found)
    if listed is None:  # the hint only says which trusted key to try
        expected = f"a key listed in {trust.file}"
        raise SignatureFault(signature.file, "signed with a key that is not trusted", expected=expected, found=found)
    _require_in_force(signature, listed, at)
    return listed


def _require_in_force(signature: Signature, listed: TrustedKey, at: datetime) -> None:
    if listed.revoked:  # whenever it was made: who has the key could have asked for a timestamp too
        raise SignatureFault(
            signature.file,
            f"the key of {listed.person} is revoked",
            expected="a key in force",
            found=f"revoked key {listed.key.fingerprint}",
        )
    if listed.not_after is not None and at > listed.not_after:
        raise SignatureFault(
            signature.file,
            f"the key of {listed.person} counts no more",
            expected=f"a signature made at the latest at {moment_text(listed.not_after)}",
            found=f"one of {moment_text(at)}, by {'its timestamp' if signature.timestamp else 'the clock'}",
        )


def _require_own_key(signature: Signature, trust: Trust, holder: Certified, at: datetime) -> None:
    """A certificate makes neither a key good again whose time is over nor one person's key another's."""
    listed, person = trust.key(holder.key.fingerprint), holder.person
    if listed is None:
        return
    _require_in_force(signature, listed, at)
    if listed.person != person:
        detail = f"the key in the certificate of {person} is listed for another person"
        raise SignatureFault(signature.file, detail, expected=f"a key of {person}", found=f"a key of {listed.person}")


def _shared_key_faults(records: Sequence[SignerRecord]) -> list[SignatureFault]:
    """One key is one person: certificates of two persons over one key would let its holder count twice."""
    first: dict[str, SignerRecord] = {}
    faults = []
    for record in records:
        before = first.setdefault(record.fingerprint, record)
        if before.person != record.person:
            detail = f"signed with the key of {before.file}, for another person"
            faults.append(SignatureFault(record.file, detail, expected=before.person, found=record.person))
    return faults


def _holds(key: PublicKey, value: bytes, message: bytes) -> bool:
    try:
        key.verify(value, message)
    except InvalidSignature:
        return False
    return True


def _what_it_is(signature: Signature, message: bytes, trust: Trust) -> str:
    """Say what a signature that failed is. For the message only: it stays a fault."""
    other: TrustedKey | None = next((k for k in trust.keys if _holds(k.key, signature.value, message)), None)
    if other is not None:
        return f"a signature by {other.key.fingerprint} of {other.person}"
    return "a signature by another key, over other bytes, or damaged"


def _no_rule(trust: Trust, product: str) -> SignatureFault:
    return SignatureFault(
        trust.file, f"does not say who must sign for {product}", expected=f"a rule for {product}", found="none"
    )


def threshold_faults(
    what: str, required: Sequence[RoleThreshold], records: Sequence[SignerRecord]
) -> tuple[SignatureFault, ...]:
    """Return a fault for each role that too few persons filled (7). Persons are counted, not keys or certificates.

    Args:
        what: for messages: the product, or the document that is signed.
        required: roles and how many persons each needs.
        records: signatures that hold.
    """
    faults = []
    for role in required:
        persons = sorted({r.person for r in records if role.role in r.roles})
        if len(persons) < role.threshold:
            found = f"{len(persons)} ({', '.join(persons) or 'nobody'})"
            expected = f"at least {role.threshold}"
            subject = f"{what}, role {role.role}"
            faults.append(SignatureFault(subject, "too few persons signed", expected=expected, found=found))
    return tuple(faults)


def require_signed(sealed: Sealed, trust: Trust, product: str, *, now: datetime) -> tuple[SignerRecord, ...]:
    """Return who signed; raise unless every signature holds and every role that `product` requires is filled.

    Args:
        sealed: payload and signatures.
        trust: what is trusted.
        product: the product that is expected here, never one read from the payload.
        now: the moment of the decision.

    Raises:
        NotAdmitted: with every `SignatureFault` found.
    """
    records, faults = signature_faults(sealed, trust, product, now=now)
    if faults:
        raise NotAdmitted(f"the seal for {product} does not hold", faults)
    return records


def identity_faults(
    trust: Trust, *, product: str, expect: str, serial: int, root: str, what: str = "manifest"
) -> tuple[IdentityFault, ...]:
    """Return every reason why a genuine manifest or pack is not this deployment's; only after `require_signed`.

    Args:
        trust: what is trusted.
        product: as the signed statement names it.
        expect: the product that is deployed here.
        serial: as the signed statement gives it.
        root: of the gate table, or the pack root; SHA-256 in hexadecimal.
        what: ``manifest`` or ``pack``, for messages.
    """
    faults = []
    if product != expect:  # (8)
        faults.append(IdentityFault("product", f"the {what} is for another product", expected=expect, found=product))
    rule = trust.product(product)
    if rule is None:  # (9)
        text = f"{trust.file} does not list the product"
        return (*faults, IdentityFault("product", text, expected="a listed product", found=product))
    if root in rule.revoked_roots:  # (10)
        text = f"the weights are revoked for {product}"
        faults.append(IdentityFault("root", text, expected="a root in force", found=f"revoked root {root}"))
    if rule.accepted_roots and root not in rule.accepted_roots:  # (11)
        expected = " or ".join(rule.accepted_roots)
        faults.append(IdentityFault("root", f"not accepted for {product}", expected=expected, found=root))
    if serial < rule.minimum_serial:  # (12)
        text = f"older than {product} allows (rollback)"
        faults.append(IdentityFault("serial", text, expected=f">= {rule.minimum_serial}", found=str(serial)))
    return tuple(faults)


def revoked_pack_faults(trust: Trust, product: str, pack: str) -> tuple[IdentityFault, ...]:
    """Return a fault if the pack that a manifest's weights were rebuilt from is revoked: so are they, then (10)."""
    rule = trust.product(product)
    if rule is None or pack not in rule.revoked_roots:
        return ()
    text = f"the weights were rebuilt from a pack that is revoked for {product}"
    return (IdentityFault("derivation", text, expected="a pack in force", found=f"revoked root {pack}"),)
