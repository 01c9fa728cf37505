# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import (
    ProductRule,
    RoleThreshold,
    Trust,
    TrustedKey,
    parse_trust,
    trust_to_bytes,
    with_key,
    with_product,
    with_revoked_key,
    with_revoked_root,
)

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
    again = parse_trust(data, "t.json")
    assert again == full
    assert again.file == "t.json"
    assert trust_to_bytes(again) == data
    assert json.loads(data)["products"][1]["maxExcludedBytes"] == str(1 << 70)


def test_any_spelling_of_the_json_is_taken(trust: Trust) -> None:
    spelt = json.dumps(json.loads(trust_to_bytes(trust)), indent=2).encode()
    assert parse_trust(spelt, "t.json") == trust


def _refused(trust: Trust, edit: Callable[[dict[str, Any]], object]) -> str:
    value = json.loads(trust_to_bytes(trust))
    edit(value)
    with pytest.raises(MalformedArtefact) as caught:
        parse_trust(json.dumps(value).encode(), "t.json")
    return str(caught.value)


def _key(**change: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["keys"][0].update(change)


def _product(**change: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["products"][0].update(change)


ROLE = {"role": "signer", "threshold": 1}

REFUSED = [
    (lambda v: v.pop("scheme"), "t.json: scheme: expected a value, found no such key"),
    (lambda v: v.update(scheme="weighmaster-trust-v1"), "scheme: expected 'weighmaster-trust-plain-v1'"),
    (lambda v: v.update(version=1), "version: expected only the keys of the specification"),
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
    (lambda v: v["products"].append(v["products"][0]), "products[1].product: expected each value once, found p again"),
]  # fmt: skip


@pytest.mark.requirement("REQ-TRU-06")
@pytest.mark.parametrize(("edit", "message"), REFUSED)
def test_anything_else_than_the_specification_is_refused(
    edit: Callable[[dict[str, Any]], object], message: str, trust: Trust
) -> None:
    assert message in _refused(trust, edit)


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
            parse_trust(data[:length], "t.json")


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
    with pytest.raises(FrozenInstanceError):
        trust.keys = ()  # type: ignore[misc]


def test_with_key_adds_and_leaves_the_old_value_alone(trust: Trust) -> None:
    new = generate("ed25519").public
    more = with_key(trust, person="Carol", key=new, roles=("approver",))
    assert len(trust.keys) == 2
    assert more.keys == (*trust.keys, TrustedKey(person="Carol", key=new, roles=("approver",)))
    assert more.file == "trust.json"
    with pytest.raises(MalformedArtefact, match=r"trust\.json: keys\[2\]\.roles\[0\]: .* found 'boss'"):
        with_key(trust, person="Carol", key=new, roles=("boss",))


@pytest.mark.requirement("REQ-TRU-08")
def test_a_revoked_key_stays_and_cannot_be_added_again(trust: Trust, alice: PrivateKey) -> None:
    fingerprint = alice.public.fingerprint
    with pytest.raises(UsageError, match=f"key {fingerprint} is listed already, as a trusted key of Alice"):
        with_key(trust, person="Carol", key=alice.public, roles=("signer",))
    revoked = with_revoked_key(trust, fingerprint)
    assert [k.revoked for k in revoked.keys] == [True, False]
    assert with_revoked_key(revoked, fingerprint) == revoked
    with pytest.raises(UsageError, match=f"key {fingerprint} is listed already, as a revoked key of Alice"):
        with_key(revoked, person="Alice", key=alice.public, roles=("signer",))


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


def test_lookups(trust: Trust, bob: PrivateKey) -> None:
    found = trust.key(bob.public.fingerprint)
    assert found is not None
    assert found.person == "Bob"
    assert trust.key(R1) is None
    assert trust.product("P") is None
