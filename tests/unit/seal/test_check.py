# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from weighmaster.errors import MalformedArtefact, NotAdmitted, SignatureFault
from weighmaster.seal.bundle import Sealed, Signature, make_bundle, open_sealed
from weighmaster.seal.check import SignerRecord, identity_faults, require_signed, signature_faults
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import RoleThreshold, Trust, TrustedKey
from weighmaster.seal.trust_edit import with_key, with_product, with_revoked_key, with_revoked_root

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
PAYLOAD = b'{"a":1}'
R1, R2 = "1" * 64, "2" * 64


def _seal(*keys: PrivateKey) -> Sealed:
    return open_sealed(tuple((f"{i}.json", make_bundle(PAYLOAD, key)) for i, key in enumerate(keys)))


def _requiring(trust: Trust, **thresholds: int) -> Trust:
    rule = trust.product("p")
    assert rule is not None
    roles = tuple(RoleThreshold(role=r, threshold=n) for r, n in thresholds.items())
    return with_product(trust, replace(rule, required_roles=roles))


def _texts(sealed: Sealed, trust: Trust, product: str = "p") -> list[str]:
    _, faults = signature_faults(sealed, trust, product, now=NOW)
    assert all(type(f) is SignatureFault for f in faults)
    return [str(f) for f in faults]


def test_two_persons_fill_two_roles(trust: Trust, alice: PrivateKey, bob: PrivateKey) -> None:
    records = require_signed(_seal(alice, bob), trust, "p", now=NOW)
    assert records == (
        SignerRecord(person="Alice", roles=("signer",), fingerprint=alice.public.fingerprint, file="0.json"),
        SignerRecord(person="Bob", roles=("signer", "approver"), fingerprint=bob.public.fingerprint, file="1.json"),
    )


def test_unknown_key(trust: Trust, bob: PrivateKey, mallory: PrivateKey) -> None:
    found = mallory.public.fingerprint
    assert _texts(_seal(bob, mallory), trust) == [
        f"1.json: signed with a key that is not trusted; expected a key listed in trust.json, found {found}"
    ]


def test_revoked_key(trust: Trust, alice: PrivateKey, bob: PrivateKey) -> None:
    revoked = with_revoked_key(trust, alice.public.fingerprint)
    assert _texts(_seal(alice, bob), revoked) == [
        f"0.json: the key of Alice is revoked; expected a key in force, found revoked key {alice.public.fingerprint}"
    ]


def _claiming(sealed: Sealed, index: int, hint: str) -> Sealed:
    signatures = [replace(s, hint=hint) if i == index else s for i, s in enumerate(sealed.signatures)]
    return replace(sealed, signatures=tuple(signatures))


def test_hint_of_a_trusted_key_over_the_signature_of_an_untrusted_one(
    trust: Trust, alice: PrivateKey, bob: PrivateKey, mallory: PrivateKey
) -> None:
    forged = _claiming(_seal(bob, mallory), 1, alice.public.fingerprint)
    (only,) = _texts(forged, trust)
    assert only == (
        "1.json: the signature does not verify under the key of Alice"
        f"; expected a signature by {alice.public.fingerprint}"
        ", found a signature by another key, over other bytes, or damaged"
    )


def test_hint_of_another_trusted_person_does_not_move_the_signature(
    trust: Trust, alice: PrivateKey, bob: PrivateKey
) -> None:
    """Otherwise one person could be made to fill two roles by copying a bundle under two hints."""
    forged = _claiming(_seal(alice, alice), 1, bob.public.fingerprint)
    first, *rest = _texts(forged, trust)
    assert first == (
        "1.json: the signature does not verify under the key of Bob"
        f"; expected a signature by {bob.public.fingerprint}"
        f", found a signature by {alice.public.fingerprint} of Alice"
    )
    assert rest == ["p, role approver: too few persons signed; expected at least 1, found 0 (nobody)"]


def test_every_bit_of_the_payload_counts(trust: Trust, bob: PrivateKey) -> None:
    sealed = _seal(bob)
    assert _texts(sealed, trust) == []
    for bit in range(8 * len(PAYLOAD)):
        changed = bytearray(PAYLOAD)
        changed[bit // 8] ^= 1 << bit % 8
        first, *_ = _texts(replace(sealed, payload=bytes(changed)), trust)
        assert first.startswith("0.json: the signature does not verify under the key of Bob")


def test_every_bit_of_an_ed25519_bundle_counts(trust: Trust, bob: PrivateKey) -> None:
    """No single flipped bit of the file leaves a seal that holds."""
    data = make_bundle(PAYLOAD, bob)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedArtefact, NotAdmitted)) as caught:
            require_signed(open_sealed((("0.json", bytes(changed)),)), trust, "p", now=NOW)
        assert "0.json: " in str(caught.value)


def test_signature_over_another_payload_type(trust: Trust, bob: PrivateKey) -> None:
    other = Signature(file="x.json", hint=bob.public.fingerprint, value=bob.sign(pae("text/plain", PAYLOAD)))
    bare = replace(other, value=bob.sign(PAYLOAD))
    right = replace(other, value=bob.sign(pae(PAYLOAD_TYPE, PAYLOAD)))
    assert _texts(Sealed(payload=PAYLOAD, signatures=(right,)), trust) == []
    for wrong in (other, bare):
        first, *_ = _texts(Sealed(payload=PAYLOAD, signatures=(wrong,)), trust)
        assert first.startswith("x.json: the signature does not verify under the key of Bob")


def test_threshold_counts_persons_not_keys(trust: Trust, alice: PrivateKey, bob: PrivateKey) -> None:
    second = generate("ed25519")
    two = _requiring(with_key(trust, TrustedKey(person="Alice", key=second.public, roles=("signer",))), signer=2)
    assert _texts(_seal(alice, second), two) == [
        "p, role signer: too few persons signed; expected at least 2, found 1 (Alice)"
    ]
    assert _texts(_seal(alice, alice), two) == [
        "p, role signer: too few persons signed; expected at least 2, found 1 (Alice)"
    ]
    assert _texts(_seal(alice, bob), two) == []


def test_a_role_counts_only_for_who_has_it(trust: Trust, alice: PrivateKey) -> None:
    assert _texts(_seal(alice), trust) == [
        "p, role approver: too few persons signed; expected at least 1, found 0 (nobody)"
    ]


def test_good_signatures_do_not_excuse_a_bad_one(trust: Trust, alice: PrivateKey, bob: PrivateKey) -> None:
    sealed = _seal(alice, bob)
    bad = replace(sealed.signatures[0], file="bad.json", value=b"\0")
    assert len(_texts(replace(sealed, signatures=(*sealed.signatures, bad)), trust)) == 1


def test_all_faults_are_collected_and_raised(
    trust: Trust, alice: PrivateKey, bob: PrivateKey, mallory: PrivateKey
) -> None:
    revoked = with_revoked_key(trust, bob.public.fingerprint)
    with pytest.raises(NotAdmitted) as caught:
        require_signed(_seal(alice, bob, mallory), revoked, "p", now=NOW)
    assert [f.subject for f in caught.value.faults] == ["1.json", "2.json", "p, role approver"]
    assert caught.value.exit_code == 13
    assert "the seal for p does not hold (3 faults)" in str(caught.value)


def test_a_product_without_rule_is_signed_by_nobody(trust: Trust, alice: PrivateKey, bob: PrivateKey) -> None:
    assert _texts(_seal(alice, bob), trust, "q") == [
        "trust.json: does not say who must sign for q; expected a rule for q, found none"
    ]


def test_an_empty_trust_file_trusts_nobody(alice: PrivateKey, nobody: Trust) -> None:
    first, second = _texts(_seal(alice), nobody)
    assert first.startswith("0.json: signed with a key that is not trusted")
    assert second == "trust: does not say who must sign for p; expected a rule for p, found none"


def _identity(trust: Trust, *, product: str = "p", expect: str = "p", serial: int = 5, root: str = R1) -> list[str]:
    return [str(f) for f in identity_faults(trust, product=product, expect=expect, serial=serial, root=root)]


def _accepting(trust: Trust, *roots: str) -> Trust:
    rule = trust.product("p")
    assert rule is not None
    return with_product(trust, replace(rule, accepted_roots=roots))


def test_identity_holds(trust: Trust) -> None:
    assert _identity(trust) == []
    assert _identity(trust, serial=6) == []
    assert _identity(_accepting(trust, R2, R1)) == []


def test_rollback(trust: Trust) -> None:
    assert _identity(trust, serial=4) == ["serial: older than p allows (rollback); expected >= 5, found 4"]


def test_other_product(trust: Trust) -> None:
    assert _identity(trust, expect="q") == ["product: the manifest is for another product; expected q, found p"]
    assert _identity(trust, product="q", expect="p") == [
        "product: the manifest is for another product; expected p, found q",
        "product: trust.json does not list the product; expected a listed product, found q",
    ]
    assert _identity(trust, product="q", expect="q") == [
        "product: trust.json does not list the product; expected a listed product, found q"
    ]


def test_roots_accepted_and_revoked(trust: Trust) -> None:
    assert _identity(_accepting(trust, R2)) == [f"root: not accepted for p; expected {R2}, found {R1}"]
    both = with_revoked_root(_accepting(trust, R1), product="p", root=R1)
    expected = f"root: the weights are revoked for p; expected a root in force, found revoked root {R1}"
    assert _identity(both) == [expected]
    assert _identity(with_revoked_root(trust, product="p", root=R1)) == [expected]
    assert _identity(with_revoked_root(trust, product="p", root=R2)) == []


def test_an_accepted_root_does_not_excuse_an_old_serial(trust: Trust) -> None:
    assert len(_identity(_accepting(trust, R1), serial=4)) == 1


def test_identity_faults_are_collected(trust: Trust) -> None:
    bad = with_revoked_root(_accepting(trust, R2), product="p", root=R1)
    assert len(_identity(bad, expect="q", serial=0)) == 4
