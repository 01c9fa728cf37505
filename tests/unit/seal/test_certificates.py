# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from weighmaster.errors import MalformedArtefact, SignatureFault
from weighmaster.seal.bundle import make_bundle, open_sealed
from weighmaster.seal.certificates import Unfit, certified, require_path, subjects
from weighmaster.seal.check import SignerRecord, require_signed, signature_faults, signature_records, threshold_faults
from weighmaster.seal.keys import PrivateKey
from weighmaster.seal.trust import Identity, RoleThreshold, Trust, TrustedKey
from weighmaster.seal.trust_document import parse_document, trust_to_bytes
from weighmaster.seal.trust_edit import with_authority, with_identity, with_revoked_identity, with_revoked_serial

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
CAROL = x509.RFC822Name("carol@example.org")
PAYLOAD = b'{"a":1}'


def _certified(holder: Any, trust: Trust) -> str:
    """Return what is wrong with a certificate."""
    with pytest.raises(SignatureFault) as caught:
        certified(holder.der, "c.json", trust, NOW)
    text = str(caught.value)
    assert text.startswith("c.json: ")
    return text


@pytest.fixture
def trusted(world: SimpleNamespace, trust: Trust) -> Trust:
    made: Trust = world.trusting(trust)
    return made


def test_a_certificate_names_its_holder(world: SimpleNamespace, trusted: Trust) -> None:
    holder = certified(world.carol.der, "c.json", trusted, NOW)
    assert (holder.person, holder.roles, holder.authority) == ("Carol", ("signer",), "House CA")
    assert holder.key == PrivateKey(world.carol.key).public


def test_a_bundle_by_a_certificate_holds(world: SimpleNamespace, trusted: Trust) -> None:
    records = require_signed(open_sealed((("c.json", world.bundle()),)), trusted, "p", now=NOW)
    fingerprint = PrivateKey(world.carol.key).public.fingerprint
    assert records == (
        SignerRecord(
            person="Carol",
            roles=("signer",),
            fingerprint=fingerprint,
            file="c.json",
            time=None,
            by="certificate of House CA",
        ),
    )


def test_ed25519_in_a_certificate(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    holder = pki.leaf("Carol", world.issuing, CAROL, key=pki.edwards("Carol"))
    records = require_signed(open_sealed((("c.json", world.bundle(holder)),)), trusted, "p", now=NOW)
    assert records[0].fingerprint == PrivateKey(holder.key).public.fingerprint


@pytest.mark.parametrize(
    "key",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
    ],
)
def test_other_kinds_of_keys_above_the_leaf(key: Callable[[], Any], pki: SimpleNamespace, trusted: Trust) -> None:
    root = pki.authority("Root of another kind", key=key())
    authority = replace(trusted.authorities[0], certificate=root.certificate, intermediates=())
    holder = certified(pki.leaf("Carol", root, CAROL).der, "c", replace(trusted, authorities=(authority,)), NOW)
    assert holder.person == "Carol"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (ed25519.Ed25519PrivateKey.generate, "Forbidden public key algorithm"),
        (lambda: rsa.generate_private_key(65537, 1024), "RSA"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "Forbidden public key algorithm"),
    ],
)
def test_other_keys_above_the_leaf_are_refused(
    key: Callable[[], Any], reason: str, pki: SimpleNamespace, trusted: Trust
) -> None:
    root = pki.authority("Another root", key=key())
    authority = replace(trusted.authorities[0], certificate=root.certificate, intermediates=())
    text = _certified(pki.leaf("Carol", root, CAROL), replace(trusted, authorities=(authority,)))
    assert "expected a path to an authority listed in trust.json, found House CA: " in text
    assert reason in text


# -- attacks: the leaf ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-SEA-12")
def test_a_leaf_of_another_authority_of_the_same_name(
    world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    """Mallory makes a whole tree with the names of the listed one."""
    root = pki.authority("Root CA", key=pki.p256("Mallory's root"))
    issuing = pki.authority("Issuing CA", by=root, key=pki.p256("Mallory's CA"))
    for forged in (pki.leaf("Carol", issuing, CAROL), pki.leaf("Carol", root, CAROL)):
        text = _certified(forged, trusted)
        assert text.startswith("c.json: the certificate of CN=Carol does not hold; expected a path to an authority")
        assert "listed in trust.json, found House CA: validation failed: candidates exhausted" in text


def test_a_leaf_signed_by_itself(pki: SimpleNamespace, trusted: Trust) -> None:
    alone = pki.issue(
        "Carol",
        extensions=[
            (x509.ExtendedKeyUsage([pki.CODE_SIGNING]), False),
            (x509.SubjectAlternativeName([CAROL]), False),
        ],
    )
    assert "expected a path to an authority listed in trust.json" in _certified(alone, trusted)
    listed = replace(trusted.authorities[0], certificate=alone.certificate, intermediates=())
    text = _certified(alone, replace(trusted, authorities=(listed,)))
    assert "found House CA: the listed certificate itself" in text or "House CA: validation failed" in text


@pytest.mark.requirement("REQ-SEA-12")
def test_an_authority_signs_no_statements(world: SimpleNamespace, trusted: Trust) -> None:
    for holder in (world.root, world.issuing):
        assert _certified(holder, trusted).endswith(
            "expected the certificate of a signer, found one of an authority (CA)"
        )


@pytest.mark.requirement("REQ-SEA-12")
@pytest.mark.parametrize(
    ("purposes", "found"),
    [
        ((), "no extended key usage"),
        ((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), "1.3.6.1.5.5.7.3.1, 1.3.6.1.5.5.7.3.2"),
        ((ExtendedKeyUsageOID.TIME_STAMPING,), "1.3.6.1.5.5.7.3.8"),
        ((ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,), "2.5.29.37.0"),
    ],
)
def test_a_leaf_for_another_purpose(
    purposes: tuple[ObjectIdentifier, ...], found: str, world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    text = _certified(pki.leaf("Carol", world.issuing, CAROL, purposes=purposes), trusted)
    assert text.endswith(f"expected the extended key usage 1.3.6.1.5.5.7.3.3, found {found}")


def _leaf(pki: SimpleNamespace, by: Any, *extensions: tuple[x509.ExtensionType, bool]) -> Any:
    """Return a certificate of Carol that is for signing, with more extensions."""
    purpose = (x509.ExtendedKeyUsage([pki.CODE_SIGNING]), False)
    return pki.issue("Carol", by=by, extensions=[purpose, (x509.SubjectAlternativeName([CAROL]), False), *extensions])


def test_key_usage(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    assert certified(_leaf(pki, world.issuing).der, "c", trusted, NOW).person == "Carol"  # it may be absent
    wrong = _leaf(pki, world.issuing, (pki._usage("key_encipherment"), True))
    assert _certified(wrong, trusted).endswith("expected the key usage digitalSignature, found other key usages")


def test_an_unknown_critical_extension(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    """RFC 5280, 4.2: what must not be passed over is not."""
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert certified(_leaf(pki, world.issuing, (unknown, False)).der, "c", trusted, NOW).person == "Carol"
    assert "critical" in _certified(_leaf(pki, world.issuing, (unknown, True)), trusted)


def test_another_kind_of_key(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    for key, found in (
        (rsa.generate_private_key(65537, 2048), "RSAPublicKey"),
        (ec.generate_private_key(ec.SECP384R1()), "an elliptic curve key on secp384r1"),
    ):
        text = _certified(pki.leaf("Carol", world.issuing, CAROL, key=key), trusted)
        assert "the key of the certificate: expected an ECDSA P-256 or Ed25519 key, found " in text
        assert found in text


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # a flipped bit makes it negative
def test_every_bit_of_a_certificate_counts(world: SimpleNamespace, trusted: Trust) -> None:
    """No flipped bit leaves a certificate that holds, but those that tell how many bits of its signature are unused.

    The library passes over them where the bits in question are zero; what is certified does not depend on them.
    """
    der = world.carol.der
    unused = der.index(world.carol.certificate.signature) - 1
    assert der[unused] == 0
    for bit in range(8 * len(der)):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        if bit // 8 != unused:
            with pytest.raises(SignatureFault, match=r"^c\.json: "):
                certified(bytes(changed), "c.json", trusted, NOW)


# -- attacks: the path ------------------------------------------------------------------------------------------------


def test_an_unlisted_intermediate(world: SimpleNamespace, trusted: Trust) -> None:
    without = replace(trusted.authorities[0], intermediates=())
    assert "found House CA: validation failed" in _certified(world.carol, replace(trusted, authorities=(without,)))


def test_an_intermediate_is_no_root(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    """Whoever is listed between root and leaf is not trusted without the root."""
    other = replace(trusted.authorities[0], certificate=pki.authority("Other root").certificate)
    assert "validation failed" in _certified(world.carol, replace(trusted, authorities=(other,)))


@pytest.mark.requirement("REQ-SEA-12")
@pytest.mark.parametrize("which", ["Root CA", "Issuing CA"])
def test_an_expired_authority(which: str, world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    end = datetime(2030, 3, 1, tzinfo=UTC)
    root = pki.authority("Root CA", **({"end": end} if which == "Root CA" else {}))
    issuing = pki.authority("Issuing CA", by=root, **({"end": end} if which == "Issuing CA" else {}))
    authority = replace(trusted.authorities[0], certificate=root.certificate, intermediates=(issuing.certificate,))
    text = _certified(pki.leaf("Carol", issuing, CAROL), replace(trusted, authorities=(authority,)))
    assert f"CN={which} is one valid from 2030-01-01T00:00:00Z to 2030-03-01T00:00:00Z" in text


def test_a_leaf_that_issues_another(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    """Carol's key makes a certificate for Dave; even listed as an intermediate, she is no authority."""
    dave = pki.leaf("Dave", world.carol, x509.RFC822Name("dave@example.org"))
    authority = trusted.authorities[0]
    listed = replace(authority, intermediates=(*authority.intermediates, world.carol.certificate))
    text = _certified(dave, replace(trusted, authorities=(listed,)))
    assert "the certificate of CN=Dave does not hold; expected a path to an authority" in text


def test_path_length(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    """The issuing authority may not make another one below it (pathLenConstraint 0)."""
    below = pki.authority("Third CA", by=world.issuing)
    authority = trusted.authorities[0]
    listed = replace(authority, intermediates=(*authority.intermediates, below.certificate))
    text = _certified(pki.leaf("Carol", below, CAROL), replace(trusted, authorities=(listed,)))
    assert "path length" in text


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        (lambda p: [(p._usage("key_cert_sign"), True)], "basicConstraints"),
        (lambda p: [(x509.BasicConstraints(ca=True, path_length=None), False)], "criticality"),
        (
            lambda p: [(x509.BasicConstraints(ca=False, path_length=None), True)],
            "cA must be asserted in a CA certificate",
        ),
        (
            lambda p: [(x509.BasicConstraints(ca=True, path_length=None), True), (p._usage("crl_sign"), True)],
            "without the key usage keyCertSign",
        ),
        (
            lambda p: [
                (x509.BasicConstraints(ca=True, path_length=None), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            ],
            "for other extended key usages than 1.3.6.1.5.5.7.3.3",
        ),
    ],
)
def test_an_authority_that_may_not_issue(
    extensions: Any, reason: str, world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    issuing = pki.issue("Issuing CA", by=world.root, extensions=extensions(pki))
    authority = replace(trusted.authorities[0], intermediates=(issuing.certificate,))
    text = _certified(pki.leaf("Carol", issuing, CAROL), replace(trusted, authorities=(authority,)))
    assert reason in text


def test_name_constraints_hold(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    """An authority for one domain cannot certify a name in another."""
    constraint = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example.org")], excluded_subtrees=None)
    root = pki.issue(
        "Constrained CA",
        extensions=[(x509.BasicConstraints(ca=True, path_length=None), True), (constraint, True)],
    )
    authority = replace(trusted.authorities[0], certificate=root.certificate, intermediates=())
    names = ("dns:build.example.org", "dns:build.example.com")
    identities = tuple(
        Identity(person="Build", authority="House CA", subject=name, roles=("signer",)) for name in names
    )
    changed = replace(trusted, authorities=(authority,), identities=identities)
    inside = pki.leaf("Build", root, x509.DNSName("build.example.org"))
    assert certified(inside.der, "c", changed, NOW).person == "Build"
    assert "validation failed" in _certified(pki.leaf("Build", root, x509.DNSName("build.example.com")), changed)


@pytest.mark.parametrize(
    ("permitted", "excluded", "name", "reason"),
    [
        (x509.RFC822Name("example.org"), None, CAROL, ""),
        (x509.RFC822Name("example.com"), None, CAROL, "no permitted name constraints matched SAN"),
        (None, x509.RFC822Name("example.org"), CAROL, "excluded name constraint matched SAN"),
        # What the library cannot judge it refuses; were it to pass over a constraint, an authority would be unbound.
        (
            x509.UniformResourceIdentifier("example.org"),
            None,
            x509.UniformResourceIdentifier("https://a.b/c"),
            "not judged, on UniformResourceIdentifier",
        ),
        (
            None,
            x509.UniformResourceIdentifier("a.b"),
            x509.UniformResourceIdentifier("https://a.b/c"),
            "not judged, on UniformResourceIdentifier",
        ),
        (x509.DirectoryName(x509.Name([])), None, CAROL, "not judged, on DirectoryName"),
    ],
)
def test_name_constraints_of_every_kind(
    permitted: x509.GeneralName | None,
    excluded: x509.GeneralName | None,
    name: x509.GeneralName,
    reason: str,
    pki: SimpleNamespace,
) -> None:
    constraint = x509.NameConstraints(
        permitted_subtrees=permitted and [permitted], excluded_subtrees=excluded and [excluded]
    )
    authority = (x509.BasicConstraints(ca=True, path_length=None), True)
    root = pki.issue("Constrained CA", extensions=[authority, (constraint, True)])
    leaf = pki.leaf("Carol", root, name).certificate
    if not reason:
        assert len(require_path(leaf, (root.certificate,), (), pki.CODE_SIGNING, NOW)) == 2
        return
    with pytest.raises(Unfit) as caught:
        require_path(leaf, (root.certificate,), (), pki.CODE_SIGNING, NOW)
    assert reason in caught.value.found


def test_a_path_needs_a_root(world: SimpleNamespace) -> None:
    with pytest.raises((Unfit, ValueError)):
        require_path(world.carol.certificate, (), (), ExtendedKeyUsageOID.CODE_SIGNING, NOW)


# -- attacks: names and revocation ------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-SEA-12")
@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([x509.RFC822Name("mallory@example.org")], "email:mallory@example.org"),
        ([x509.RFC822Name("Carol@example.org")], "email:Carol@example.org"),
        ([x509.RFC822Name("carol@EXAMPLE.org")], "email:carol@EXAMPLE.org"),
        ([x509.DNSName("carol@example.org")], "dns:carol@example.org"),
        ([x509.UniformResourceIdentifier("carol@example.org")], "uri:carol@example.org"),
        ([x509.UniformResourceIdentifier("email:carol@example.org")], "uri:email:carol@example.org"),
        ([x509.RFC822Name("carol@example.org.")], "email:carol@example.org."),
        ([], "no such name"),
    ],
)
def test_another_name(
    names: list[x509.GeneralName], found: str, world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    text = _certified(pki.leaf("carol@example.org", world.issuing, *names), trusted)
    assert text.endswith(f"expected a subject alternative name listed for House CA, found {found}")


def test_names_as_the_trust_document_writes_them(world: SimpleNamespace, pki: SimpleNamespace) -> None:
    holder = pki.leaf(
        "Carol",
        world.issuing,
        CAROL,
        x509.UniformResourceIdentifier("spiffe://example.org/carol"),
        x509.DNSName("carol.example.org"),
        x509.DirectoryName(x509.Name([])),
    )
    assert subjects(holder.certificate) == (
        "email:carol@example.org",
        "uri:spiffe://example.org/carol",
        "dns:carol.example.org",
    )
    assert subjects(world.root.certificate) == ()


def test_a_name_counts_only_for_its_own_authority(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    """A second listed authority cannot speak for the persons of the first."""
    root = pki.authority("Partner root")
    partner = replace(trusted.authorities[0], name="Partner CA", certificate=root.certificate, intermediates=())
    both = with_authority(trusted, partner)
    text = _certified(pki.leaf("Carol", root, CAROL), both)
    assert text.endswith("expected a subject alternative name listed for Partner CA, found email:carol@example.org")
    assert certified(world.carol.der, "c", both, NOW).authority == "House CA"


def test_two_persons_in_one_certificate(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    both = with_identity(
        trusted, Identity(person="Dave", authority="House CA", subject="dns:dave.example.org", roles=("approver",))
    )
    holder = pki.leaf("Carol", world.issuing, CAROL, x509.DNSName("dave.example.org"))
    assert _certified(holder, both).endswith("expected the names of one person, found those of Carol, Dave")


def test_two_names_of_one_person_add_their_roles(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    both = with_identity(
        trusted, Identity(person="Carol", authority="House CA", subject="dns:carol.example.org", roles=("approver",))
    )
    holder = pki.leaf("Carol", world.issuing, CAROL, x509.DNSName("carol.example.org"))
    assert certified(holder.der, "c", both, NOW).roles == ("signer", "approver")
    revoked = with_revoked_identity(both, authority="House CA", subject="dns:carol.example.org")
    assert _certified(holder, revoked).endswith(
        "expected an identity in force, found dns:carol.example.org of Carol, revoked"
    )


@pytest.mark.requirement("REQ-SEA-13")
def test_a_revoked_name(world: SimpleNamespace, trusted: Trust) -> None:
    revoked = with_revoked_identity(trusted, authority="House CA", subject="email:carol@example.org")
    assert _certified(world.carol, revoked).endswith(
        "expected an identity in force, found email:carol@example.org of Carol, revoked"
    )


@pytest.mark.requirement("REQ-SEA-13")
@pytest.mark.parametrize("which", ["carol", "issuing", "root"])
def test_a_revoked_serial(which: str, world: SimpleNamespace, trusted: Trust) -> None:
    holder = getattr(world, which).certificate
    serial = f"{holder.serial_number:x}"
    text = _certified(world.carol, with_revoked_serial(trusted, authority="House CA", serial=serial))
    name = holder.subject.rfc4514_string()
    assert text.endswith(f"expected certificates in force, found {name}, serial {serial}, revoked")


def test_a_revoked_serial_does_not_expire(world: SimpleNamespace, trusted: Trust) -> None:
    """A timestamp from before the revocation does not bring the certificate back."""
    serial = f"{world.carol.certificate.serial_number:x}"
    revoked = with_revoked_serial(trusted, authority="House CA", serial=serial)
    sealed = open_sealed((("c.json", world.bundle(stamp=world.stamp(NOW))),))
    assert len(signature_records(sealed, trusted, now=NOW)[0]) == 1
    assert len(signature_records(sealed, revoked, now=NOW)[1]) == 1


def test_no_authority_is_listed(world: SimpleNamespace, trust: Trust) -> None:
    text = _certified(world.carol, trust)
    assert text.endswith("expected a path to an authority listed in trust.json, found no authority is listed")


# -- thresholds -------------------------------------------------------------------------------------------------------


def _faults(trust: Trust, *bundles: bytes) -> list[str]:
    sealed = open_sealed(tuple((f"{i}.json", data) for i, data in enumerate(bundles)))
    return [str(f) for f in signature_faults(sealed, trust, "p", now=NOW)[1]]


def _two(trust: Trust) -> Trust:
    rule = replace(trust.products[0], required_roles=(RoleThreshold(role="signer", threshold=2),))
    return replace(trust, products=(rule,))


def test_key_and_certificate_together_meet_a_threshold(
    world: SimpleNamespace, trusted: Trust, alice: PrivateKey
) -> None:
    assert _faults(_two(trusted), make_bundle(PAYLOAD, alice), world.bundle()) == []


def test_one_person_by_key_and_by_certificate_counts_once(
    world: SimpleNamespace, trusted: Trust, alice: PrivateKey
) -> None:
    same = replace(trusted, identities=(replace(trusted.identities[0], person="Alice"),))
    assert _faults(_two(same), make_bundle(PAYLOAD, alice), world.bundle()) == [
        "p, role signer: too few persons signed; expected at least 2, found 1 (Alice)"
    ]


def test_a_revoked_key_does_not_come_back_by_certificate(world: SimpleNamespace, trusted: Trust) -> None:
    key = PrivateKey(world.carol.key).public
    revoked = replace(trusted, keys=(TrustedKey(person="Carol", key=key, roles=("signer",), revoked=True),))
    assert _faults(revoked, world.bundle())[0] == (
        f"0.json: the key of Carol is revoked; expected a key in force, found revoked key {key.fingerprint}"
    )


def test_a_key_whose_time_is_over_does_not_come_back_by_certificate(world: SimpleNamespace, trusted: Trust) -> None:
    """Certificates are public: who stole a key with an end would put its certificate in the place of the hint."""
    key, end = PrivateKey(world.carol.key).public, NOW - timedelta(seconds=1)
    ended = replace(trusted, keys=(TrustedKey(person="Carol", key=key, roles=("signer",), not_after=end),))
    assert _faults(ended, world.bundle())[0] == (
        "0.json: the key of Carol counts no more; expected a signature made at the latest at 2030-06-01T11:59:59Z"
        ", found one of 2030-06-01T12:00:00Z, by the clock"
    )
    last = replace(trusted, keys=(replace(ended.keys[0], not_after=NOW),))
    assert _faults(last, world.bundle()) == []


def test_a_listed_key_is_not_certified_for_another_person(world: SimpleNamespace, trusted: Trust) -> None:
    """Else its holder signs once bare and once by certificate, and counts as two."""
    key = PrivateKey(world.carol.key).public
    shared = replace(trusted, keys=(TrustedKey(person="Dave", key=key, roles=("signer",)),))
    bare = make_bundle(PAYLOAD, PrivateKey(world.carol.key))
    assert _faults(_two(shared), bare, world.bundle())[0] == (
        "1.json: the key in the certificate of Carol is listed for another person"
        "; expected a key of Carol, found a key of Dave"
    )


def test_two_certificates_over_one_key_are_not_two_persons(
    world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    both = with_identity(
        _two(trusted), Identity(person="Dave", authority="House CA", subject="dns:dave.example.org", roles=("signer",))
    )
    dave = pki.leaf("Dave", world.issuing, x509.DNSName("dave.example.org"), key=world.carol.key)
    assert _faults(both, world.bundle(), world.bundle(dave)) == [
        "1.json: signed with the key of 0.json, for another person; expected Carol, found Dave"
    ]
    honest = pki.leaf("Dave", world.issuing, x509.DNSName("dave.example.org"))
    assert _faults(both, world.bundle(), world.bundle(honest)) == []


def test_the_certificate_of_another_key_over_a_signature(
    world: SimpleNamespace, trusted: Trust, mallory: PrivateKey
) -> None:
    """Mallory puts Carol's certificate, which is public, beside a signature of their own."""
    sealed = open_sealed((("c.json", make_bundle(PAYLOAD, mallory)),))
    forged = replace(sealed, signatures=(replace(sealed.signatures[0], hint=None, certificate=world.carol.der),))
    records, (fault,) = signature_records(forged, trusted, now=NOW)
    assert records == ()
    assert str(fault).startswith("c.json: the signature does not verify under the key of Carol")


def test_a_signature_that_names_no_key(world: SimpleNamespace, trusted: Trust) -> None:
    sealed = open_sealed((("c.json", world.bundle()),))
    bare = replace(sealed, signatures=(replace(sealed.signatures[0], certificate=None),))
    assert "found no key" in str(signature_records(bare, trusted, now=NOW)[1][0])


def test_thresholds_for_another_document(world: SimpleNamespace, trusted: Trust) -> None:
    records, faults = signature_records(open_sealed((("c.json", world.bundle()),)), trusted, now=NOW)
    assert faults == ()
    assert threshold_faults("waiver", (RoleThreshold(role="signer", threshold=1),), records) == ()
    (fault,) = threshold_faults("waiver", (RoleThreshold(role="approver", threshold=1),), records)
    assert str(fault) == "waiver, role approver: too few persons signed; expected at least 1, found 0 (nobody)"


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_damaged_certificate_in_a_trust_document(world: SimpleNamespace, trusted: Trust) -> None:
    """Each flipped bit is malformed, or another certificate: never a crash before anything is verified."""
    data, der = trust_to_bytes(trusted), world.root.der
    pem = json.dumps(world.root.pem).encode()
    assert data.count(pem) == 1
    for bit in range(0, 8 * len(der), 3):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        body = base64.b64encode(changed).decode()
        lines = [body[i : i + 64] for i in range(0, len(body), 64)]
        text = "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
        try:
            read = parse_document(data.replace(pem, json.dumps(text).encode()), "t")
        except MalformedArtefact as error:
            assert error.field == "authorities[0].certificate"  # noqa: PT017  # most are refused, some are other ones
        else:
            assert read != trusted
