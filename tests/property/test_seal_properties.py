# SPDX-License-Identifier: Apache-2.0
"""Properties of spec/seal.md over many inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from weighmaster.core.canonical import loads_canonical
from weighmaster.errors import MalformedArtefact
from weighmaster.seal.bundle import make_bundle, open_sealed, parse_bundle
from weighmaster.seal.check import signature_faults
from weighmaster.seal.dsse import pae
from weighmaster.seal.keys import KEY_KINDS, generate
from weighmaster.seal.trust import ROLES, ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey
from weighmaster.seal.trust_chain import parse_chain
from weighmaster.seal.trust_document import parse_document, trust_to_bytes

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEYS = tuple(generate(kind) for kind in KEY_KINDS for _ in range(3))
NOW = datetime(2026, 11, 24, tzinfo=UTC)
PEOPLE = st.sampled_from(["Ada", "Ben", "Çelik"])
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just("AA=="),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def trusts(draw: st.DrawFn) -> Trust:
    roles = st.lists(st.sampled_from(ROLES), min_size=1, unique=True).map(tuple)
    chosen = draw(st.lists(st.sampled_from(KEYS), unique_by=lambda k: k.public.fingerprint))
    keys = tuple(
        TrustedKey(person=draw(PEOPLE), key=k.public, roles=draw(roles), revoked=draw(st.booleans())) for k in chosen
    )
    products = tuple(
        ProductRule(
            product=name,
            required_roles=tuple(RoleThreshold(role=r, threshold=draw(st.integers(1, 3))) for r in draw(roles)),
            accepted_roots=tuple(draw(st.lists(DIGESTS, unique=True, max_size=2))),
            minimum_serial=draw(st.integers(0, 2**53 - 1)),
            revoked_roots=tuple(draw(st.lists(DIGESTS, unique=True, max_size=2))),
            max_excluded_bytes=draw(st.integers(0, 10**38)),
        )
        for name in draw(st.lists(st.sampled_from(["p", "q", "r s"]), unique=True))
    )
    roots = Roots(keys=(RootKey(person="Rosa", key=KEYS[0].public),), threshold=1)
    moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1)).map(
        lambda m: m.replace(microsecond=0, tzinfo=UTC)
    )
    version = draw(st.integers(1, 2**53 - 1))
    return Trust(version=version, expires=draw(moments), roots=roots, keys=keys, products=products)


@given(st.text(max_size=20), st.binary(max_size=40), st.text(max_size=20), st.binary(max_size=40))
def test_the_encoding_is_injective(kind: str, payload: bytes, other_kind: str, other_payload: bytes) -> None:
    same = (kind, payload) == (other_kind, other_payload)
    assert (pae(kind, payload) == pae(other_kind, other_payload)) is same


@given(st.text(alphabet="ab 0123456789", max_size=30))
def test_no_shift_of_the_border_keeps_the_encoding(text: str) -> None:
    encodings = {pae(text[:cut], text[cut:].encode()) for cut in range(len(text) + 1)}
    assert len(encodings) == len(text) + 1


@given(st.sampled_from(KEYS), st.binary(min_size=1, max_size=300))
def test_what_is_written_is_read(key: Any, payload: bytes) -> None:
    data = make_bundle(payload, key)
    loads_canonical(data, "b")
    bundle = parse_bundle(data, "b")
    assert (bundle.payload, bundle.signature.hint) == (payload, key.public.fingerprint)


@given(trusts())
def test_trust_is_read_as_it_was_written(trust: Trust) -> None:
    data = trust_to_bytes(trust)
    assert parse_document(data, "t") == trust
    assert trust_to_bytes(parse_document(data, "t")) == data


@settings(deadline=None)
@given(trusts(), st.lists(st.sampled_from(KEYS), min_size=1, max_size=4))
def test_a_seal_holds_exactly_if_enough_people_in_force_signed(trust: Trust, signers: list[Any]) -> None:
    """The rule, written a second time as set algebra."""
    sealed = open_sealed(tuple((str(i), make_bundle(b"payload", key)) for i, key in enumerate(signers)))
    listed = {k.key.fingerprint: k for k in trust.keys}
    prints = {key.public.fingerprint for key in signers}
    in_force = all(p in listed and not listed[p].revoked for p in prints)
    for rule in trust.products:
        enough = all(
            len({listed[p].person for p in prints if p in listed and required.role in listed[p].roles})
            >= required.threshold
            for required in rule.required_roles
        )
        records, faults = signature_faults(sealed, trust, rule.product, now=NOW)
        assert (not faults) is (in_force and enough)
        assert {r.fingerprint for r in records} <= prints


def _outcome(read: Callable[[bytes, str], Any], data: bytes) -> Any:
    """Return what `read` makes of the bytes, or its refusal; let any other exception through."""
    try:
        return read(data, "x")
    except MalformedArtefact as error:
        return error


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, child in items for p in _paths(child, (*path, key)))]


@given(st.sampled_from(KEYS), st.data(), JSON)
def test_a_bundle_with_one_value_replaced_is_refused_or_says_the_replacement(
    key: Any, data: st.DataObject, new: Any
) -> None:
    """Any other exception than the one promised would be a way to crash the gate."""
    document = json.loads(make_bundle(b"payload", key))
    *outer, last = data.draw(st.sampled_from([p for p in _paths(document) if p]))
    target = document
    for step in outer:
        target = target[step]
    assume(target[last] != new)
    target[last] = new
    outcome = _outcome(parse_bundle, json.dumps(document).encode())
    assert isinstance(outcome, MalformedArtefact) or last in {"payload", "sig"}


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_malformed_never_a_crash(data: bytes) -> None:
    for read in (parse_bundle, parse_chain, parse_document):
        assert isinstance(_outcome(read, data), MalformedArtefact)
