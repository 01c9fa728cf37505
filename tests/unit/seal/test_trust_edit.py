# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import (
    Authority,
    Identity,
    ProductRule,
    RoleThreshold,
    TimestampAuthority,
    Trust,
    TrustedKey,
)
from weighmaster.seal.trust_edit import (
    with_authority,
    with_end_of_key,
    with_identity,
    with_key,
    with_product,
    with_revoked_identity,
    with_revoked_key,
    with_revoked_root,
    with_revoked_serial,
    with_timestamp_authority,
)

_KEY, _NAME, _NOON = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime(2026, 11, 24, tzinfo=UTC)
CERTIFICATE = x509.CertificateBuilder(_NAME, _NAME, _KEY.public_key(), 77, _NOON, _NOON + timedelta(days=1)).sign(
    _KEY, hashes.SHA256()
)
R1, R2 = "1" * 64, "2" * 64
SIGNER = (RoleThreshold(role="signer", threshold=1),)


def _rule(trust: Trust, product: str = "p") -> ProductRule:
    rule = trust.product(product)
    assert rule is not None
    return rule


def test_with_key_adds_and_leaves_the_old_value_alone(trust: Trust) -> None:
    new = generate("ed25519").public
    more = with_key(trust, TrustedKey(person="Carol", key=new, roles=("approver",)))
    assert len(trust.keys) == 2
    assert more.keys == (*trust.keys, TrustedKey(person="Carol", key=new, roles=("approver",)))
    assert more.file == "trust.json"
    with pytest.raises(MalformedArtefact, match=r"trust\.json: keys\[2\]\.roles\[0\]: .* found 'boss'"):
        with_key(trust, TrustedKey(person="Carol", key=new, roles=("boss",)))


@pytest.mark.requirement("REQ-TRU-08")
def test_a_revoked_key_stays_and_cannot_be_added_again(trust: Trust, alice: PrivateKey) -> None:
    fingerprint = alice.public.fingerprint
    with pytest.raises(UsageError, match=f"key {fingerprint} is listed already, as a trusted key of Alice"):
        with_key(trust, TrustedKey(person="Carol", key=alice.public, roles=("signer",)))
    revoked = with_revoked_key(trust, fingerprint)
    assert [k.revoked for k in revoked.keys] == [True, False]
    assert with_revoked_key(revoked, fingerprint) == revoked
    with pytest.raises(UsageError, match=f"key {fingerprint} is listed already, as a revoked key of Alice"):
        with_key(revoked, TrustedKey(person="Alice", key=alice.public, roles=("signer",)))


@pytest.mark.requirement("REQ-TRU-08")
def test_the_end_of_a_key_never_moves_later(trust: Trust, alice: PrivateKey) -> None:
    fingerprint = alice.public.fingerprint
    ended = with_end_of_key(trust, fingerprint, _NOON)
    assert [k.not_after for k in ended.keys if k.key.fingerprint == fingerprint] == [_NOON]
    assert [k for k in ended.keys if k.key.fingerprint != fingerprint] == [
        k for k in trust.keys if k.key.fingerprint != fingerprint
    ]
    assert with_end_of_key(ended, fingerprint, _NOON) == ended
    earlier = with_end_of_key(ended, fingerprint, _NOON - timedelta(days=1))
    with pytest.raises(
        UsageError, match=r"expected an end not after 2026-11-23T00:00:00Z, as before, found 2026-11-24"
    ):
        with_end_of_key(earlier, fingerprint, _NOON)
    revoked = with_revoked_key(trust, fingerprint)
    assert [k.revoked for k in with_end_of_key(revoked, fingerprint, _NOON).keys] == [k.revoked for k in revoked.keys]
    with pytest.raises(UsageError, match=r"to end, found none with fingerprint 000"):
        with_end_of_key(trust, "0" * 64, _NOON)


def test_revoking_what_is_not_listed(trust: Trust) -> None:
    with pytest.raises(UsageError, match=f"expected a key of trust.json to revoke, found none with fingerprint {R1}"):
        with_revoked_key(trust, R1)
    with pytest.raises(UsageError, match=r"expected a product of trust\.json, found none named 'q'"):
        with_revoked_root(trust, product="q", root=R1)
    with pytest.raises(MalformedArtefact, match=r"products\[0\]\.revokedRoots\[0\]: .* found 'xyz'"):
        with_revoked_root(trust, product="p", root="xyz")


def test_with_revoked_root(trust: Trust) -> None:
    once = with_revoked_root(trust, product="p", root=R1)
    assert _rule(once).revoked_roots == (R1,)
    assert with_revoked_root(once, product="p", root=R1) == once
    assert _rule(with_revoked_root(once, product="p", root=R2)).revoked_roots == (R1, R2)


@pytest.mark.requirement("REQ-TRU-08")
def test_a_new_rule_forgets_no_revocation_and_opens_no_way_back(trust: Trust) -> None:
    revoked = with_revoked_root(trust, product="p", root=R1)
    newer = with_product(
        revoked, ProductRule(product="p", required_roles=SIGNER, minimum_serial=6, revoked_roots=(R2,))
    )
    assert len(newer.products) == 1
    assert _rule(newer) == ProductRule(product="p", required_roles=SIGNER, minimum_serial=6, revoked_roots=(R1, R2))
    with pytest.raises(UsageError, match=r"p: expected a minimum serial of at least 5, as before, found 4"):
        with_product(trust, ProductRule(product="p", required_roles=SIGNER, minimum_serial=4))


def test_identities_and_certificates_are_revoked_and_do_not_come_back(trust: Trust) -> None:
    known = Identity(person="Carol", authority="ca", subject="email:carol@example.org", roles=("signer",))
    with pytest.raises(MalformedArtefact, match=r"identities\[0\]\.authority: expected the name of a listed authority"):
        with_identity(trust, known)
    more = with_identity(with_authority(trust, Authority(name="ca", certificate=CERTIFICATE)), known)
    with pytest.raises(UsageError, match=r"email:carol@example.org of ca is listed already, trusted, for Carol"):
        with_identity(more, known)
    revoked = with_revoked_identity(more, authority="ca", subject=known.subject)
    assert [i.revoked for i in revoked.identities] == [True]
    with pytest.raises(UsageError, match=r"is listed already, revoked, for Carol"):
        with_identity(revoked, known)
    with pytest.raises(UsageError, match=r"none for email:x of ca"):
        with_revoked_identity(more, authority="ca", subject="email:x")
    gone = with_revoked_serial(more, authority="ca", serial="4d")
    assert gone.authorities[0].revoked_serials == ("4d",)
    assert with_revoked_serial(gone, authority="ca", serial="4d") is gone
    with pytest.raises(UsageError, match=r"expected an authority of trust\.json, found none named 'cb'"):
        with_revoked_serial(more, authority="cb", serial="4d")


def test_an_authority_is_listed_once(trust: Trust) -> None:
    once = with_authority(trust, Authority(name="ca", certificate=CERTIFICATE))
    with pytest.raises(MalformedArtefact, match=r"authorities\[1\]\.name: expected each value once, found ca again"):
        with_authority(once, Authority(name="ca", certificate=CERTIFICATE))
    stamper = TimestampAuthority(name="tsa", certificates=(CERTIFICATE,))
    with pytest.raises(MalformedArtefact, match=r"timestampAuthorities\[1\]\.name: expected each value once"):
        with_timestamp_authority(with_timestamp_authority(trust, stamper), stamper)
