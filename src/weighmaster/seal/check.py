# SPDX-License-Identifier: Apache-2.0
"""Decide whether a seal holds under a trust file. The numbers are those of spec/seal.md, "Verification"."""

from __future__ import annotations

from dataclasses import dataclass

from weighmaster.errors import IdentityFault, NotAdmitted, SignatureFault
from weighmaster.seal.bundle import Sealed, Signature
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.keys import InvalidSignature, PublicKey
from weighmaster.seal.trust import ProductRule, RoleThreshold, Trust, TrustedKey

__all__ = ["SignerRecord", "identity_faults", "require_signed", "signature_faults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRecord:
    """A signature that holds.

    Attributes:
        person: who signed.
        roles: the roles that the trust file gives this key.
        fingerprint: of the key.
        file: bundle that carries the signature.
    """

    person: str
    roles: tuple[str, ...]
    fingerprint: str
    file: str


def signature_faults(
    sealed: Sealed, trust: Trust, product: str
) -> tuple[tuple[SignerRecord, ...], tuple[SignatureFault, ...]]:
    """Return who signed, and everything that is wrong with the signatures. Data: `require_signed` decides.

    Every bundle presented must hold: a bad one is a fault even where the others would suffice.

    Args:
        sealed: payload and signatures.
        trust: what is trusted.
        product: the product that is expected here, never one read from the payload.
    """
    message = pae(PAYLOAD_TYPE, sealed.payload)
    results = [_check_one(signature, message, trust) for signature in sealed.signatures]
    records = tuple(r for r in results if isinstance(r, SignerRecord))
    faults = [r for r in results if isinstance(r, SignatureFault)]
    rule = trust.product(product)
    if rule is None:
        faults.append(_no_rule(trust, product))
    else:
        faults += [f for required in rule.required_roles if (f := _threshold_fault(rule, required, records))]
    return records, tuple(faults)


def _check_one(signature: Signature, message: bytes, trust: Trust) -> SignerRecord | SignatureFault:
    listed = trust.key(signature.hint)
    if listed is None:  # (4) the hint only says which trusted key to try
        return SignatureFault(
            signature.file,
            "signed with a key that is not trusted",
            expected=f"a key listed in {trust.file}",
            found=signature.hint,
        )
    if listed.revoked:  # (5) a signature has no trusted time yet, so one made before the revocation counts no more
        return SignatureFault(
            signature.file,
            f"the key of {listed.person} is revoked",
            expected="a key in force",
            found=f"revoked key {signature.hint}",
        )
    if not _holds(listed.key, signature.value, message):  # (6)
        return SignatureFault(
            signature.file,
            f"the signature does not verify under the key of {listed.person}",
            expected=f"a signature by {signature.hint}",
            found=_what_it_is(signature, message, trust),
        )
    return SignerRecord(person=listed.person, roles=listed.roles, fingerprint=signature.hint, file=signature.file)


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


def _threshold_fault(
    rule: ProductRule, required: RoleThreshold, records: tuple[SignerRecord, ...]
) -> SignatureFault | None:  # (7) persons are counted, not keys
    persons = sorted({r.person for r in records if required.role in r.roles})
    if len(persons) >= required.threshold:
        return None
    return SignatureFault(
        f"{rule.product}, role {required.role}",
        "too few persons signed",
        expected=f"at least {required.threshold}",
        found=f"{len(persons)} ({', '.join(persons) or 'nobody'})",
    )


def require_signed(sealed: Sealed, trust: Trust, product: str) -> tuple[SignerRecord, ...]:
    """Return who signed; raise unless every signature holds and every role that `product` requires is filled.

    Args:
        sealed: payload and signatures.
        trust: what is trusted.
        product: the product that is expected here, never one read from the payload.

    Raises:
        NotAdmitted: with every `SignatureFault` found.
    """
    records, faults = signature_faults(sealed, trust, product)
    if faults:
        raise NotAdmitted(f"the seal for {product} does not hold", faults)
    return records


def identity_faults(trust: Trust, *, product: str, expect: str, serial: int, root: str) -> tuple[IdentityFault, ...]:
    """Return every reason why a genuine manifest is not this deployment's. Only after `require_signed` returned.

    Args:
        trust: what is trusted.
        product: as the signed statement names it.
        expect: the product that is deployed here.
        serial: as the signed statement gives it.
        root: of the gate table, SHA-256 in hexadecimal.
    """
    faults = []
    if product != expect:  # (8)
        faults.append(IdentityFault("product", "the manifest is for another product", expected=expect, found=product))
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
