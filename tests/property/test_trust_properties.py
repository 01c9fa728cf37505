# SPDX-License-Identifier: Apache-2.0
"""Properties of spec/trust.md over many chains: the rules, written a second time as set algebra."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighmaster.seal.dsse import pae
from weighmaster.seal.keys import generate
from weighmaster.seal.trust import RootKey, Roots, Trust
from weighmaster.seal.trust_chain import Chain, Envelope, chain_to_bytes, parse_chain, verify_chain
from weighmaster.seal.trust_document import PAYLOAD_TYPE, trust_to_bytes

KEYS = tuple(generate("ed25519") for _ in range(4))
OWNERS = ("Ada", "Ada", "Ben", "Çelik")


@st.composite
def roots(draw: st.DrawFn) -> Roots:
    chosen = draw(st.lists(st.sampled_from(range(4)), min_size=1, unique=True))
    persons = len({OWNERS[i] for i in chosen})
    keys = tuple(RootKey(person=OWNERS[i], key=KEYS[i].public) for i in chosen)
    return Roots(keys=keys, threshold=draw(st.integers(1, persons)))


@st.composite
def chains(draw: st.DrawFn, *, complete: bool = False) -> tuple[Chain, list[set[int]]]:
    """Return a chain, and who signed each of its documents: anybody, or every keeper of any."""
    sets = draw(st.lists(roots(), min_size=1, max_size=2))
    used = draw(st.lists(st.sampled_from(sets), min_size=1, max_size=3))
    keepers = {k.key.fingerprint for kept_by in used for k in kept_by.keys}
    everybody = [i for i in range(4) if KEYS[i].public.fingerprint in keepers]
    envelopes, signers = [], []
    for version, kept_by in enumerate(used, start=1):
        trust = Trust(version=version, expires=datetime(2100, 1, 1, tzinfo=UTC), roots=kept_by)
        payload = trust_to_bytes(trust)
        who = everybody if complete else draw(st.lists(st.sampled_from(range(4)), unique=True))
        message = pae(PAYLOAD_TYPE, payload)
        signatures = tuple((KEYS[i].public.fingerprint, KEYS[i].sign(message)) for i in who)
        envelopes.append(Envelope(payload=payload, signatures=signatures, trust=trust))
        signers.append(set(who))
    return Chain(envelopes=tuple(envelopes), file="trust"), signers


def _enough(kept_by: Roots, who: set[int]) -> bool:
    listed = {k.key.fingerprint for k in kept_by.keys}
    return len({OWNERS[i] for i in who if KEYS[i].public.fingerprint in listed}) >= kept_by.threshold


@pytest.mark.requirement("REQ-TRU-10")
@settings(deadline=None)
@given(chains())
def test_a_chain_holds_exactly_if_enough_keepers_signed_each_step(made: Any) -> None:
    chain, signers = made
    everybody = {k.key.fingerprint for e in chain.envelopes for k in e.trust.roots.keys}
    trusted = chain.envelopes[0].trust.roots
    pin, holds = trusted.fingerprint, True
    for envelope, who in zip(chain.envelopes, signers, strict=True):
        own = envelope.trust.roots
        holds &= all(KEYS[i].public.fingerprint in everybody for i in who)
        holds &= _enough(trusted, who) and _enough(own, who)
        trusted = own
    verified, faults = verify_chain(chain, pin)
    assert (verified is not None, not faults) == (holds, holds)


@given(chains())
def test_a_file_is_read_as_it_was_written(made: Any) -> None:
    chain, _ = made
    data = chain_to_bytes(chain)
    assert parse_chain(data, "trust") == chain
    assert chain_to_bytes(parse_chain(data, "trust")) == data


@settings(deadline=None)
@given(chains(complete=True), st.data())
def test_one_flipped_bit_of_a_document_never_holds(made: Any, data: st.DataObject) -> None:
    chain, _ = made
    assert verify_chain(chain, chain.envelopes[0].trust.roots.fingerprint)[1] == ()
    i = data.draw(st.integers(0, len(chain.envelopes) - 1))
    payload = bytearray(chain.envelopes[i].payload)
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    spoilt = Envelope(payload=bytes(payload), signatures=chain.envelopes[i].signatures, trust=chain.envelopes[i].trust)
    envelopes = (*chain.envelopes[:i], spoilt, *chain.envelopes[i + 1 :])
    again, faults = verify_chain(Chain(envelopes=envelopes, file="trust"), chain.envelopes[0].trust.roots.fingerprint)
    assert again is None
    assert any("does not verify" in str(fault) for fault in faults)
