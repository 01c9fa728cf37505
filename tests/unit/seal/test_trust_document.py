# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from weighmaster.core.canonical import dumps
from weighmaster.errors import MalformedArtefact
from weighmaster.seal.keys import PrivateKey
from weighmaster.seal.trust import (
    Authority,
    Identity,
    ProductRule,
    RoleThreshold,
    RootKey,
    Roots,
    TimestampAuthority,
    Trust,
)
from weighmaster.seal.trust_document import parse_document, trust_to_bytes
from weighmaster.seal.trust_edit import with_product

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
R1, R2 = "1" * 64, "2" * 64
SIGNER = (RoleThreshold(role="signer", threshold=1),)


def _rule(trust: Trust, product: str = "p") -> ProductRule:
    rule = trust.product(product)
    assert rule is not None
    return rule


def test_round_trip_keeps_everything(trust: Trust) -> None:
    full = with_product(
        trust,
        ProductRule(
            product="q é",
            required_roles=SIGNER,
            accepted_roots=(R1, R2),
            minimum_serial=2**53 - 1,
            revoked_roots=(R2,),
            max_excluded_bytes=1 << 70,
        ),
    )
    data = trust_to_bytes(full)
    again = parse_document(data, "t.json")
    assert again == full
    assert again.file == "t.json"
    assert trust_to_bytes(again) == data
    assert json.loads(data)["products"][1]["maxExcludedBytes"] == str(1 << 70)


def _certificate(name: str) -> x509.Certificate:
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 77, NOON, NOON + timedelta(days=9))
    return made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )


@pytest.fixture
def full(trust: Trust) -> Trust:
    """A document with something in every list."""
    root, between = _certificate("root"), _certificate("between")
    return replace(
        trust,
        keys=(*trust.keys[:1], replace(trust.keys[1], not_after=NOON, revoked=True)),
        authorities=(Authority(name="ca", certificate=root, intermediates=(between,), revoked_serials=("4d", "1f")),),
        identities=(Identity(person="Carol", authority="ca", subject="email:carol@example.org", roles=("signer",)),),
        timestamp_authorities=(TimestampAuthority(name="tsa", certificates=(root,), intermediates=(between,)),),
        products=(replace(_rule(trust), waiver_roles=SIGNER),),
    )


def test_every_list_comes_back(full: Trust) -> None:
    data = trust_to_bytes(full)
    assert parse_document(data, "t.json") == full
    assert trust_to_bytes(parse_document(data, "t.json")) == data


@pytest.mark.requirement("REQ-TRU-15")
def test_one_spelling_of_the_json_is_taken(trust: Trust) -> None:
    spelt = json.dumps(json.loads(trust_to_bytes(trust)), indent=2).encode()
    with pytest.raises(MalformedArtefact, match=r"t\.json: byte 1: expected RFC 8785 canonical form"):
        parse_document(spelt, "t.json")


def _refused(trust: Trust, edit: Callable[[dict[str, Any]], object]) -> str:
    value = json.loads(trust_to_bytes(trust))
    edit(value)
    with pytest.raises(MalformedArtefact) as caught:
        parse_document(dumps(value), "t.json")
    return str(caught.value)


@pytest.mark.requirement("REQ-TRU-16")
def test_the_pin_binds_keys_persons_and_threshold(trust: Trust, bob: PrivateKey) -> None:
    roots = trust.roots
    more = Roots(keys=(*roots.keys, RootKey(person="Bob", key=bob.public)), threshold=1)
    others = [
        replace(roots, keys=(replace(roots.keys[0], person="Rosa K"),)),
        replace(roots, keys=(RootKey(person="Rosa", key=bob.public),)),
        more,
        replace(more, threshold=2),
        replace(more, keys=more.keys[::-1]),
    ]
    assert len({roots.fingerprint, *(r.fingerprint for r in others)}) == 6
    assert roots.fingerprint == hashlib.sha256(dumps(json.loads(trust_to_bytes(trust))["roots"])).hexdigest()


def _key(**change: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["keys"][0].update(change)


def _product(**change: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["products"][0].update(change)


ROLE = {"role": "signer", "threshold": 1}

REFUSED = [
    (lambda v: v.pop("version"), "t.json: version: expected a value, found no such key"),
    (lambda v: v.update(version=0), "version: expected an integer from 1"),
    (lambda v: v.update(version=True), "version: expected an integer, found a boolean"),
    (lambda v: v.update(scheme="x"), "scheme: expected only the keys of the specification"),
    (lambda v: v.update(expires=None), "expires: expected a string, found null"),
    (lambda v: v.update(expires="2027-01-01"), "expires: expected a moment YYYY-MM-DDTHH:MM:SSZ"),
    (lambda v: v.update(expires="2026-06-30T23:59:60Z"), "expires: expected a moment YYYY-MM-DDTHH:MM:SSZ"),
    (lambda v: v["roots"].update(threshold=0), "roots.threshold: expected an integer from 1"),
    (lambda v: v["roots"].update(threshold=2), "roots.threshold: expected from 1 to the number of persons, 1, found 2"),
    (lambda v: v["roots"].update(keys=[]), "roots.threshold: expected from 1 to the number of persons, 0"),
    (lambda v: v["roots"].update(x=1), "roots.x: expected only the keys"),
    (lambda v: v["roots"]["keys"].append(v["roots"]["keys"][0]), "roots.keys[1].publicKey: expected each value once"),
    (lambda v: v["roots"]["keys"][0].update(person=""), "roots.keys[0].person: expected a string that is not empty"),
    (lambda v: v.pop("keys"), "keys: expected a value, found no such key"),
    (lambda v: v.pop("products"), "products: expected a value, found no such key"),
    (lambda v: v.update(keys={}), "keys: expected an array, found an object"),
    (_key(person=""), "keys[0].person: expected a string that is not empty"),
    (_key(person=" Alice"), "keys[0].person: expected a printable name in NFC"),
    (_key(person="Jose\u0301"), r"keys[0].person: expected a printable name in NFC"),
    (_key(person="Ali\u202ece"), r"found 'Ali\u202ece'"),
    (_key(roles=[]), "keys[0].roles: expected at least one role, found none"),
    (_key(roles=["signer", "owner"]), "keys[0].roles[1]: expected 'approver' or 'signer', found 'owner'"),
    (_key(roles=["signer", "signer"]), "keys[0].roles[1]: expected each value once, found signer again"),
    (_key(revoked="no"), "keys[0].revoked: expected true or false, found a string"),
    (_key(revoked=0), "keys[0].revoked: expected true or false, found a number"),
    (lambda v: v["keys"][0].pop("revoked"), "keys[0].revoked: expected a value, found no such key"),
    (_key(notAfter="2024"), "keys[0].notAfter: expected a moment"),
    (lambda v: v["keys"][0].pop("notAfter"), "keys[0].notAfter: expected a value, found no such key"),
    (_key(since="2024"), "keys[0].since: expected only the keys"),
    (_key(publicKey="no key"), "keys[0].publicKey: expected a public key, found public key: expected an ECDSA P-256"),
    (_product(product="p\n"), r"products[0].product: expected a printable name in NFC"),
    (_product(requiredRoles=[]), "products[0].requiredRoles: expected at least one role, found none"),
    (_product(requiredRoles=[ROLE, ROLE]), "requiredRoles[1].role: expected each value once, found signer"),
    (_product(requiredRoles=[{"role": "owner", "threshold": 1}]), "requiredRoles[0].role: expected 'approver'"),
    (_product(requiredRoles=[{"role": "signer", "threshold": 0}]), "[0].threshold: expected an integer from 1"),
    (_product(requiredRoles=[{"role": "signer", "threshold": True}]), "threshold: expected an integer, found a bool"),
    (_product(requiredRoles=[{**ROLE, "x": 1}]), "products[0].requiredRoles[0].x: expected only the keys"),
    (_product(acceptedRoots=["A" * 64]), "products[0].acceptedRoots[0]: expected 64 lowercase hexadecimal digits"),
    (_product(acceptedRoots=["1" * 63]), "products[0].acceptedRoots[0]: expected 64 lowercase hexadecimal digits"),
    (_product(revokedRoots=[R1, R1]), f"products[0].revokedRoots[1]: expected each value once, found {R1} again"),
    (_product(revokedRoots=[None]), "products[0].revokedRoots[0]: expected a string, found null"),
    (_product(minimumSerial=-1), "products[0].minimumSerial: expected an integer from 0"),
    (_product(minimumSerial="5"), "products[0].minimumSerial: expected an integer, found a string"),
    (_product(maxExcludedBytes=5), "products[0].maxExcludedBytes: expected a string, found a number"),
    (_product(maxExcludedBytes="05"), "products[0].maxExcludedBytes: expected a decimal number in a string"),
    (_product(expires="never"), "products[0].expires: expected only the keys"),
    (_product(waiverRoles=[{"role": "owner", "threshold": 1}]), "products[0].waiverRoles[0].role: expected 'approver'"),
    (lambda v: v["products"][0].pop("waiverRoles"), "products[0].waiverRoles: expected a value, found no such key"),
    (lambda v: v["products"].append(v["products"][0]), "products[1].product: expected each value once, found p again"),
]  # fmt: skip


@pytest.mark.requirement("REQ-TRU-06")
@pytest.mark.parametrize(("edit", "message"), REFUSED)
def test_anything_else_than_the_specification_is_refused(
    edit: Callable[[dict[str, Any]], object], message: str, trust: Trust
) -> None:
    assert message in _refused(trust, edit)


REFUSED_AUTHORITIES = [
    (lambda v: v["authorities"].append(v["authorities"][0]), "authorities[1].name: expected each value once, found ca"),
    (lambda v: v["authorities"][0].update(name=""), "authorities[0].name: expected a string that is not empty"),
    (lambda v: v["authorities"][0].update(certificate="x"), "authorities[0].certificate: expected an X.509"),
    (lambda v: v["authorities"][0].update(intermediates=["x"]), "authorities[0].intermediates[0]: expected an X.509"),
    (lambda v: v["authorities"][0].update(revokedSerials=["4D"]), "revokedSerials[0]: expected lowercase hexadecimal"),
    (lambda v: v["authorities"][0].update(revokedSerials=["04d"]), "revokedSerials[0]: expected lowercase hexadecimal"),
    (lambda v: v["authorities"][0].update(revokedSerials=["4d", "4d"]), "revokedSerials[1]: expected each value once"),
    (lambda v: v["identities"][0].update(authority="cb"), "identities[0].authority: expected the name of a listed"),
    (lambda v: v["identities"][0].update(subject="carol@example.org"), "identities[0].subject: expected email:, uri:"),
    (lambda v: v["identities"][0].update(subject="email:carol@x "), "identities[0].subject: expected email:, uri:"),
    (lambda v: v["authorities"][0]["intermediates"].append(v["authorities"][0]["intermediates"][0]), "each value once"),
    (lambda v: v["timestampAuthorities"][0]["certificates"].append(v["timestampAuthorities"][0]["certificates"][0]),
     "timestampAuthorities[0].certificates[1]: expected each value once, found certificate"),
    (lambda v: v["identities"][0].update(subject="email:"), "identities[0].subject: expected email:, uri:"),
    (lambda v: v["identities"][0].update(subject="email:cärol@x"), "identities[0].subject: expected email:, uri:"),
    (lambda v: v["identities"][0].update(subject="ip:1.2.3.4"), "identities[0].subject: expected email:, uri:"),
    (lambda v: v["identities"][0].update(roles=[]), "identities[0].roles: expected at least one role"),
    (lambda v: v["identities"].append(v["identities"][0]), "identities[1].subject: expected each value once"),
    (lambda v: v["identities"][0].update(revoked=0), "identities[0].revoked: expected true or false"),
    (lambda v: v["timestampAuthorities"][0].update(certificates=[]), "[0].certificates: expected at least one"),
    (lambda v: v["timestampAuthorities"][0].pop("intermediates"), "[0].intermediates: expected a value, found no such"),
    (lambda v: v["timestampAuthorities"].append(v["timestampAuthorities"][0]), "timestampAuthorities[1].name: exp"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "message"), REFUSED_AUTHORITIES)
def test_authorities_and_whom_they_name(edit: Callable[[dict[str, Any]], object], message: str, full: Trust) -> None:
    assert message in _refused(full, edit)


@pytest.mark.parametrize("form", ["{}\n", "comment\n{}", "{0}{0}"])
def test_a_certificate_has_one_spelling(form: str, full: Trust) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["authorities"][0]["certificate"] = form.format(value["authorities"][0]["certificate"])

    assert "authorities[0].certificate: expected the PEM exactly as" in _refused(full, edit)


@pytest.mark.requirement("REQ-TRU-07")
def test_a_key_listed_twice_is_refused_even_for_two_persons(trust: Trust, alice: PrivateKey) -> None:
    def again(value: dict[str, Any]) -> None:
        value["keys"].append({**value["keys"][0], "person": "Carol"})

    expected = f"keys[2].publicKey: expected each value once, found {alice.public.fingerprint} again, as in keys[0]"
    assert expected in _refused(trust, again)


@pytest.mark.requirement("REQ-TRU-07")
@pytest.mark.parametrize("form", ["{}\n", "comment\n{}", "{0}{0}"])
def test_pem_has_one_spelling(form: str, trust: Trust, alice: PrivateKey) -> None:
    message = _refused(trust, _key(publicKey=form.format(alice.public.pem.decode())))
    assert "keys[0].publicKey: expected the PEM exactly as" in message


def test_a_private_key_in_the_trust_file_is_called_that(trust: Trust, alice: PrivateKey) -> None:
    secret = alice.to_pem(None).decode()
    message = _refused(trust, _key(publicKey=secret))
    assert "found a private one" in message
    assert secret.splitlines()[1] not in message


@pytest.mark.requirement("REQ-TRU-06")
def test_every_truncation_is_refused(trust: Trust) -> None:
    data = trust_to_bytes(trust)
    for length in range(0, len(data), 7):
        with pytest.raises(MalformedArtefact, match=r"^t\.json: "):
            parse_document(data[:length], "t.json")


def test_values_are_checked_and_frozen_however_they_are_made(trust: Trust) -> None:
    rule = _rule(trust)
    for change, message in [
        ({"minimum_serial": -1}, r"trust\.json: products\[0\]\.minimumSerial"),
        ({"minimum_serial": 2**53}, r"products\[0\]\.minimumSerial: expected an integer from 0 to 9007199254740991"),
        (
            {"max_excluded_bytes": -1},
            r"maxExcludedBytes: expected a number of bytes of at most 39 digits, found -1",
        ),
        ({"max_excluded_bytes": 10**39}, r"maxExcludedBytes: expected a number of bytes of at most 39 digits"),
        ({"required_roles": ()}, r"products\[0\]\.requiredRoles: expected at least one role"),
        ({"required_roles": (RoleThreshold(role="signer", threshold=0),)}, r"threshold: expected at least 1, found 0"),
        ({"accepted_roots": ("x",)}, r"acceptedRoots\[0\]: expected 64 lowercase hexadecimal digits, found 'x'"),
    ]:
        with pytest.raises(MalformedArtefact, match=message):
            replace(trust, products=(replace(rule, **change),))  # type: ignore[arg-type]
    for moment in (datetime(2027, 1, 1), NOON.replace(microsecond=1)):
        with pytest.raises(MalformedArtefact, match=r"trust\.json: expires: expected a moment in whole seconds"):
            replace(trust, expires=moment)
    with pytest.raises(FrozenInstanceError):
        trust.keys = ()  # type: ignore[misc]


def test_lookups(trust: Trust, bob: PrivateKey) -> None:
    found = trust.key(bob.public.fingerprint)
    assert found is not None
    assert found.person == "Bob"
    assert trust.key(R1) is None
    assert trust.product("P") is None
