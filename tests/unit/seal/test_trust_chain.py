# SPDX-License-Identifier: Apache-2.0
"""Trust files: who must have signed, how keepers change, and every way in which a file does not hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from weighmaster.errors import MalformedArtefact, NotAdmitted, UsageError
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import RootKey, Roots, Trust
from weighmaster.seal.trust_chain import (
    MAX_FILE,
    Chain,
    amend,
    chain_to_bytes,
    countersign,
    missing_signatures,
    new_chain,
    open_trust,
    parse_chain,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=365)
ROSA, SAM, TESS, UMA = (generate("ed25519"), generate("ecdsa-p256-sha256"), generate("ed25519"), generate("ed25519"))


def roots(threshold: int, **keys: PrivateKey) -> Roots:
    named = tuple(RootKey(person=person.rstrip("_"), key=key.public) for person, key in keys.items())
    return Roots(keys=named, threshold=threshold)


OLD = roots(2, Rosa=ROSA, Sam=SAM, Tess=TESS)
NEW = roots(2, Tess=TESS, Uma=UMA)


def document(kept_by: Roots = OLD, **fields: Any) -> Trust:
    return Trust(**{"expires": LATER, "roots": kept_by, "file": "trust.json", **fields})


def signed(chain: Chain, *keys: PrivateKey) -> Chain:
    for key in keys:
        chain = countersign(chain, key)
    return chain


def faults(chain: Chain | bytes, pin: str = OLD.fingerprint, now: datetime = NOW) -> list[str]:
    data = chain if isinstance(chain, bytes) else chain_to_bytes(chain)
    with pytest.raises(NotAdmitted) as caught:
        open_trust(data, "trust.json", roots=pin, now=now)
    assert caught.value.exit_code == 13
    return [str(fault) for fault in caught.value.faults]


FIRST = signed(new_chain(document(), "trust.json"), ROSA, SAM)
ROTATED = signed(amend(FIRST, document(NEW)), ROSA, SAM, TESS, UMA)


def test_two_of_three_keepers_suffice() -> None:
    held = open_trust(chain_to_bytes(FIRST), "t.json", roots=OLD.fingerprint, now=NOW)
    assert (held.trust.version, held.keepers, held.trust.file) == (1, ("Rosa", "Sam"), "t.json")
    assert held.trust == document()
    assert held.sha256 == FIRST.current.sha256
    assert missing_signatures(FIRST) == ()


def test_any_spelling_around_the_documents_is_taken() -> None:
    spelt = json.dumps(json.loads(chain_to_bytes(FIRST)), indent=1).encode()
    assert open_trust(spelt, "t.json", roots=OLD.fingerprint, now=NOW).keepers == ("Rosa", "Sam")


@pytest.mark.requirement("REQ-TRU-14")
def test_one_of_two_is_too_few() -> None:
    one = signed(new_chain(document(), "trust.json"), ROSA)
    text = "trust.json, version 1: too few keepers of the roots signed; expected at least 2, found 1 (Rosa)"
    assert faults(one) == [text]
    assert missing_signatures(one) == (text,)
    assert faults(new_chain(document(), "trust.json"))[0].endswith("found 0 (nobody)")


@pytest.mark.requirement("REQ-TRU-10")
def test_persons_are_counted_not_keys() -> None:
    twice = roots(2, Rosa=ROSA, Sam=SAM, Rosa_=TESS)
    chain = signed(new_chain(document(twice), "trust.json"), ROSA, TESS)
    assert faults(chain, twice.fingerprint) == [
        "trust.json, version 1: too few keepers of the roots signed; expected at least 2, found 1 (Rosa)"
    ]


@pytest.mark.requirement("REQ-TRU-09")
def test_another_pin() -> None:
    (said,) = faults(FIRST, NEW.fingerprint)
    assert said.startswith("trust.json: does not begin at the roots that are pinned here; ")
    assert said.endswith(f"expected roots {NEW.fingerprint}, found roots {OLD.fingerprint}")


def test_roots_with_a_lower_threshold_are_other_roots() -> None:
    """One stolen root key must not be enough to say that one suffices."""
    lowered = signed(new_chain(document(replace(OLD, threshold=1)), "trust.json"), ROSA)
    assert faults(lowered)[0].startswith("trust.json: does not begin at the roots that are pinned here")


# -- rotation ---------------------------------------------------------------------------------------------------------


def test_rotation_is_followed_from_the_old_pin_and_from_the_new_one() -> None:
    for pin in (OLD.fingerprint, NEW.fingerprint):
        held = open_trust(chain_to_bytes(ROTATED), "t.json", roots=pin, now=NOW)
        assert (held.trust.version, held.trust.roots, held.keepers) == (2, NEW, ("Tess", "Uma"))


@pytest.mark.requirement("REQ-TRU-10")
@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ((TESS, UMA), "too few keepers of the roots signed; expected at least 2, found 1 (Tess)"),
        ((ROSA, SAM, UMA), "too few keepers of the new roots signed; expected at least 2, found 1 (Uma)"),
        ((ROSA, SAM), "too few keepers of the new roots signed; expected at least 2, found 0 (nobody)"),
    ],
)
def test_old_and_new_keepers_must_sign_a_rotation(keys: tuple[PrivateKey, ...], text: str) -> None:
    assert faults(signed(amend(FIRST, document(NEW)), *keys)) == [f"trust.json, version 2: {text}"]


def test_after_a_rotation_the_new_keepers_suffice_and_the_bridge_stays() -> None:
    third = signed(amend(ROTATED, document(NEW, expires=LATER + timedelta(days=1))), TESS, UMA)
    fourth = signed(amend(third, document(NEW)), UMA, TESS)
    assert [e.trust.version for e in fourth.envelopes] == [1, 2, 4]
    for pin in (OLD.fingerprint, NEW.fingerprint):
        assert open_trust(chain_to_bytes(fourth), "t.json", roots=pin, now=NOW).trust.version == 4


def test_former_keepers_do_not_come_back() -> None:
    third = amend(ROTATED, document(NEW))
    with pytest.raises(UsageError, match=f"expected a root key of version 3, found {ROSA.public.fingerprint}"):
        countersign(third, ROSA)
    forged = signed(amend(FIRST, document(OLD)), ROSA, SAM).current
    forged = signed(new_chain(replace(forged.trust, version=9), "trust.json"), ROSA, SAM).current
    said = faults(Chain(envelopes=(*ROTATED.envelopes, forged), file="trust.json"))
    assert "trust.json, version 9: too few keepers of the roots signed; expected at least 2, found 0 (nobody)" in said


def test_a_missing_bridge_is_a_broken_chain() -> None:
    third = signed(amend(ROTATED, document(NEW)), TESS, UMA)
    cut = Chain(envelopes=(third.envelopes[0], third.envelopes[-1]), file="trust.json")
    said = faults(cut)
    assert said == ["trust.json, version 3: too few keepers of the roots signed; expected at least 2, found 1 (Tess)"]


# -- attacks on the file ----------------------------------------------------------------------------------------------


def edited(chain: Chain, edit: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(chain_to_bytes(chain))
    edit(value)
    return json.dumps(value).encode()


def test_one_bit_of_the_document_or_of_a_signature() -> None:
    def swap(value: dict[str, Any]) -> None:
        value["envelopes"][0]["payload"] = json.loads(
            chain_to_bytes(new_chain(document(expires=LATER + timedelta(1)), "t"))
        )["envelopes"][0]["payload"]

    said = faults(edited(FIRST, swap))
    assert [text.partition(";")[0] for text in said] == [
        "trust.json, version 1: the signature does not verify under the root key of Rosa",
        "trust.json, version 1: the signature does not verify under the root key of Sam",
        "trust.json, version 1: too few keepers of the roots signed",
    ]

    def cross(value: dict[str, Any]) -> None:
        a, b = value["envelopes"][0]["signatures"]
        a["sig"], b["sig"] = b["sig"], a["sig"]

    assert len(faults(edited(FIRST, cross))) == 3


@pytest.mark.requirement("REQ-TRU-11")
def test_a_signature_by_a_stranger_is_a_fault_even_where_the_others_suffice() -> None:
    def add(value: dict[str, Any]) -> None:
        signature = value["envelopes"][0]["signatures"][0]
        value["envelopes"][0]["signatures"].append({**signature, "keyid": UMA.public.fingerprint})

    (said,) = faults(edited(FIRST, add))
    assert said.startswith("trust.json, version 1: signed with a key that is no root key; ")
    assert said.endswith(f"expected a root key, found {UMA.public.fingerprint}")


def test_a_signature_over_a_statement_is_none_over_a_trust_document() -> None:
    from weighmaster.seal.dsse import PAYLOAD_TYPE, pae

    chain = new_chain(document(), "trust.json")
    message = pae(PAYLOAD_TYPE, chain.current.payload)
    pairs = tuple((key.public.fingerprint, key.sign(message)) for key in (ROSA, SAM))
    relabelled = replace(chain, envelopes=(replace(chain.current, signatures=pairs),))
    assert "the signature does not verify under the root key of Rosa" in faults(relabelled)[0]


MALFORMED = [
    (lambda v: v.update(scheme="weighmaster-trust-v2"), "scheme: expected 'weighmaster-trust-v1'"),
    (lambda v: v.update(scheme="weighmaster-trust-plain-v1"), "scheme: expected 'weighmaster-trust-v1'"),
    (lambda v: v.pop("scheme"), "scheme: expected a value, found no such key"),
    (lambda v: v.update(envelopes=[]), "envelopes: expected at least one, found none"),
    (lambda v: v.update(envelopes={}), "envelopes: expected an array, found an object"),
    (lambda v: v.update(note=1), "note: expected only the keys"),
    (lambda v: v["envelopes"].reverse(), "envelopes[1].version: expected a version above 2, found 1"),
    (lambda v: v["envelopes"].append(v["envelopes"][-1]), "envelopes[2].version: expected a version above 2, found 2"),
    (lambda v: v["envelopes"][0].update(payloadType="application/vnd.in-toto+json"), "envelopes[0].payloadType: exp"),
    (lambda v: v["envelopes"][0].update(payload=""), "envelopes[0].payload: expected a string that is not empty"),
    (lambda v: v["envelopes"][0].update(payload=v["envelopes"][0]["payload"] + "\n"), "canonical base64"),
    (lambda v: v["envelopes"][0].update(payload="e30="), "envelopes[0]: version: expected a value, found no such key"),
    (lambda v: v["envelopes"][0]["signatures"][0].update(keyid=""), "signatures[0].keyid: expected a string that is"),
    (lambda v: v["envelopes"][0]["signatures"][0].update(sig=7), "signatures[0].sig: expected a string, found a num"),
    (lambda v: v["envelopes"][0]["signatures"][0].update(x=7), "signatures[0].x: expected only the keys"),
    (lambda v: v["envelopes"][0]["signatures"].append(v["envelopes"][0]["signatures"][0]), "each keyid once"),
]  # fmt: skip


@pytest.mark.requirement("REQ-TRU-12")
@pytest.mark.parametrize(("edit", "message"), MALFORMED)
def test_anything_else_than_the_format_is_refused(edit: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        parse_chain(edited(ROTATED, edit), "t.json")
    assert str(caught.value).startswith("t.json: ")
    assert message in str(caught.value)


def test_truncated_and_oversized_files() -> None:
    data = chain_to_bytes(FIRST)
    for length in range(0, len(data), 97):
        with pytest.raises(MalformedArtefact, match=r"^t\.json: "):
            parse_chain(data[:length], "t.json")
    with pytest.raises(MalformedArtefact, match=f"expected at most {MAX_FILE} bytes"):
        parse_chain(data + b" " * MAX_FILE, "t.json")


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-TRU-13")
@pytest.mark.parametrize(
    ("now", "holds"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), True),  # there is no beginning: the version says which document is newer
        (LATER - timedelta(microseconds=1), True),
        (LATER, False),
        (LATER + timedelta(seconds=1), False),
        (datetime(9999, 12, 31, tzinfo=UTC), False),
    ],
)
def test_in_force_until_it_expires(now: datetime, holds: bool) -> None:
    if holds:
        assert open_trust(chain_to_bytes(FIRST), "t.json", roots=OLD.fingerprint, now=now).trust.version == 1
    else:
        (said,) = faults(FIRST, now=now)
        assert said.startswith("trust.json, version 1: has expired; expected a moment before 2027-11-24T12:00:00Z")


def test_a_bridge_may_have_expired() -> None:
    short = signed(new_chain(document(expires=NOW - timedelta(days=1)), "trust.json"), ROSA, SAM)
    chain = signed(amend(short, document(NEW)), ROSA, SAM, TESS, UMA)
    assert open_trust(chain_to_bytes(chain), "t.json", roots=OLD.fingerprint, now=NOW).trust.version == 2


# -- changes ----------------------------------------------------------------------------------------------------------


def test_a_change_of_what_nobody_signed_stays_the_same_version() -> None:
    chain = amend(new_chain(document(), "t"), document(expires=NOW))
    assert [(e.trust.version, e.trust.expires, e.signatures) for e in chain.envelopes] == [(1, NOW, ())]


def test_a_change_of_what_somebody_signed_is_the_next_version_and_forgets_what_was_never_in_force() -> None:
    half = signed(amend(FIRST, document(NEW)), ROSA)
    chain = amend(half, document(NEW, expires=NOW))
    assert [e.trust.version for e in chain.envelopes] == [1, 3]


def test_keepers_who_change_before_another_change_was_signed_are_still_followed() -> None:
    """A key is added and, before anybody signs that, the keepers change: the former pin leads to the new ones."""
    added = amend(FIRST, document(expires=LATER + timedelta(days=1)))
    rotated = amend(added, document(NEW))
    assert [(e.trust.version, e.trust.roots) for e in rotated.envelopes] == [(1, OLD), (2, NEW)]
    assert missing_signatures(signed(rotated, TESS, UMA)) == (
        "trust.json, version 2: too few keepers of the roots signed; expected at least 2, found 1 (Tess)",
    )
    whole = chain_to_bytes(signed(rotated, TESS, UMA, SAM))
    for pin in (OLD.fingerprint, NEW.fingerprint):
        assert open_trust(whole, "t.json", roots=pin, now=NOW).trust.version == 2


def test_a_file_holds_one_document_per_former_roots_and_the_current_one() -> None:
    chain = FIRST
    for day in range(1, 4):
        changed = amend(chain, document(expires=LATER + timedelta(days=day)))
        assert [e.trust.version for e in changed.envelopes] == [day, day + 1]  # until it is signed, the former leads on
        chain = signed(changed, ROSA, SAM)
    assert [e.trust.version for e in chain.envelopes] == [4]
    chain = signed(amend(chain, document(NEW)), ROSA, SAM, TESS, UMA)
    for _ in range(3):
        chain = signed(amend(chain, document(NEW)), TESS, UMA)
    assert [e.trust.version for e in chain.envelopes] == [4, 5, 8]
    assert open_trust(chain_to_bytes(chain), "t.json", roots=OLD.fingerprint, now=NOW).trust.version == 8


def test_keys_that_may_not_sign_or_have_signed() -> None:
    with pytest.raises(UsageError, match="expected a root key of version 1"):
        countersign(FIRST, UMA)
    with pytest.raises(UsageError, match=f"version 1 is signed by {ROSA.public.fingerprint} already"):
        countersign(FIRST, ROSA)
