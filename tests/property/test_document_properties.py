# SPDX-License-Identifier: Apache-2.0
"""Signed documents over many values: read as they were written, and never two byte strings for one value."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from weighmaster.core.canonical import MAX_SAFE_INTEGER, dumps, loads_canonical
from weighmaster.core.derivation import Derivation, Encoder, Parent, Report
from weighmaster.core.dtype import DTYPES
from weighmaster.core.environment import Environment, Fact, Scope, parse_environment
from weighmaster.core.judgement import environment_faults
from weighmaster.core.source import ROLES, Source
from weighmaster.core.statement import (
    EXCLUSION_REASONS,
    MAPPED,
    TRACES,
    Coverage,
    EnvironmentRef,
    Exclusion,
    Method,
    Statement,
    TableEntry,
)
from weighmaster.core.statement_reader import parse_statement
from weighmaster.core.structure import KINDS, Structure, StructureFact, parse_structure
from weighmaster.errors import MalformedArtefact

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
COUNTS = st.integers(0, MAX_SAFE_INTEGER)
BYTES = st.integers(0, 10**39 - 1)
SCOPES: st.SearchStrategy[Scope] = st.sampled_from(get_args(Scope))
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,3}\.[A-Za-z0-9_.\-äß中\U0001f600]{1,6}", fullmatch=True)


@st.composite
def facts(draw: st.DrawFn, name: str) -> Fact:
    match draw(st.sampled_from(["value", "absent", "unreadable"])):
        case "value":
            return Fact.of(name, draw(TEXTS), scope=draw(SCOPES))
        case "absent":
            return Fact.absent(name, scope=draw(SCOPES))
    return Fact.unreadable(name, scope=draw(SCOPES))


@st.composite
def environments(draw: st.DrawFn) -> Environment:
    return Environment.of(draw(facts(name)) for name in draw(st.lists(NAMES, unique=True, max_size=6)))


FACTS = st.builds(StructureFact, path=TEXTS, kind=st.sampled_from(KINDS), value=TEXTS)
STRUCTURES = st.lists(FACTS, unique_by=lambda f: (f.path, f.kind), max_size=5).map(
    lambda found: Structure(facts=tuple(sorted(found, key=lambda f: (f.path.encode(), f.kind))))
)

EXCLUSIONS = st.builds(
    Exclusion,
    name=WORDS,
    dtype=st.sampled_from(sorted(DTYPES)),
    shape=st.lists(COUNTS, max_size=3).map(tuple),
    nbytes=BYTES,
    reason=st.sampled_from(EXCLUSION_REASONS),
)
COVERAGES = st.builds(
    Coverage,
    **dict.fromkeys(("consumed", "hashed", "unconsumed", "naive", "empty", "literals"), COUNTS),
    **{f"{key}_bytes": BYTES for key in ("consumed", "consumed_hashed", "hashed", "unconsumed", "naive")},
    excluded=st.lists(EXCLUSIONS, max_size=2).map(tuple),
)
METHODS = st.builds(
    Method,
    engine=WORDS,
    loader=WORDS,
    trace=st.sampled_from(TRACES),
    mapped=st.sampled_from(MAPPED),
    materialized=st.lists(TEXTS, max_size=2).map(tuple),
    extra=st.lists(TEXTS, max_size=2).map(tuple),
)
SOURCES = st.builds(
    Source,
    path=st.sampled_from(["config.json", "a/b.safetensors", "ü/中.py", "a b"]),
    role=st.sampled_from(ROLES),
    nbytes=BYTES,
    sha256=DIGESTS,
)
PARENTS = st.lists(st.sampled_from(["a.safetensors", "b/c", "ü/中"]), min_size=1, unique=True).map(
    lambda names: tuple(
        Parent(path=name, nbytes=len(name), sha256="0" * 64) for name in sorted(names, key=lambda name: name.encode())
    )
)


@st.composite
def derivations(draw: st.DrawFn) -> Derivation:
    """Where weights come from, for any profile."""
    profile = draw(st.sampled_from(["calibrated", "datafree", "exact"]))
    bits = None if profile == "exact" else draw(st.sampled_from(["3", "4.25"]))
    return Derivation(
        pack=draw(DIGESTS),
        encoder=Encoder(name=draw(WORDS), version=draw(WORDS), profile=profile, bits=bits),
        calibration=draw(DIGESTS) if profile == "calibrated" else None,
        parents=draw(PARENTS),
    )


REPORTS = st.builds(
    Report,
    format=WORDS,
    sha256=DIGESTS,
    metrics=st.dictionaries(
        st.sampled_from(["a", "b.c", "klMean"]), st.decimals(-(10**9), 10**9, places=4).map(lambda d: f"{d:f}".lstrip())
    ).map(lambda found: tuple(sorted(found.items()))),
)
ENTRIES = st.builds(
    TableEntry,
    stage=st.sampled_from(["S0", "S1", "S2", "S3", "S4"]),
    view=st.sampled_from(["kernel", "logical"]),
    root=DIGESTS,
    sha256=DIGESTS,
    count=COUNTS,
    nbytes=BYTES,
)


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    """A statement of files or of a live model, every field filled."""
    tables = tuple(draw(st.lists(ENTRIES, min_size=1, max_size=3, unique_by=lambda entry: (entry.stage, entry.view))))
    gate = draw(st.sampled_from(tables))
    live = gate.stage != "S0" or draw(st.booleans())
    reference = st.builds(
        EnvironmentRef,
        sha256=DIGESTS,
        class_digest=DIGESTS,
        policy=st.just("environment-policy-v1"),
        policy_sha256=DIGESTS,
    )
    derivation = draw(st.none() | derivations())
    reports = tuple(draw(st.lists(REPORTS, max_size=2, unique_by=lambda report: report.sha256)))
    return Statement(
        product=draw(WORDS),
        version=draw(WORDS),
        serial=draw(COUNTS),
        gate_stage=gate.stage,
        gate_view=gate.view,
        tables=tables,
        method=draw(METHODS),
        probe_set=draw(DIGESTS) if live else None,
        coverage=draw(COVERAGES) if live else None,
        structure=draw(DIGESTS) if live else None,
        environment=draw(reference) if live else None,
        sources=tuple(draw(st.lists(SOURCES, max_size=2))),
        validation=(*draw(st.lists(st.tuples(WORDS, DIGESTS), max_size=2)), *(("r", r.sha256) for r in reports)),
        derivation=replace(derivation, reports=reports) if derivation else None,
        reaction=draw(st.sampled_from(["halt", "drain"]) | DIGESTS.map(lambda root: f"fallback:{root}")),
    )


@settings(deadline=None)
@given(statements())
def test_a_statement_is_read_as_it_was_written(statement: Statement) -> None:
    data = statement.to_bytes()
    assert parse_statement(data, "s") == statement
    assert parse_statement(data, "s").to_bytes() == data


@settings(deadline=None)
@given(environments())
def test_an_environment_is_read_as_it_was_written(environment: Environment) -> None:
    data = environment.to_bytes()
    again = parse_environment(data, "e")
    assert again == environment
    assert (again.to_bytes(), again.class_digest, again.instance_digest) == (
        data,
        environment.class_digest,
        environment.instance_digest,
    )


@settings(deadline=None)
@given(environments(), st.data())
def test_class_and_instance_digests_see_their_own_facts_alone(environment: Environment, data: st.DataObject) -> None:
    assume(environment.facts)
    at = data.draw(st.integers(0, len(environment.facts) - 1))
    old = environment.facts[at]
    new = Fact.of(old.name, f"{old.value}~", scope=old.scope)
    changed = Environment(facts=(*environment.facts[:at], new, *environment.facts[at + 1 :]))
    assert (changed.class_digest == environment.class_digest) is (old.scope == "instance")
    assert (changed.instance_digest == environment.instance_digest) is (old.scope == "class")
    assert changed.to_bytes() != environment.to_bytes()
    subjects = {fault.subject for fault in environment_faults(environment, changed)}
    assert (old.name in subjects) is (old.scope == "class" and bool(environment.scoped("class")))


@settings(deadline=None)
@given(environments(), environments())
def test_environments_differ_exactly_where_their_bytes_do(a: Environment, b: Environment) -> None:
    assert (a.to_bytes() == b.to_bytes()) is (a == b)
    readable = all(fact.status != "unreadable" for fact in (*a.scoped("class"), *b.scoped("class")))
    if a.scoped("class") and readable:
        assert (not environment_faults(a, b)) is (a.class_digest == b.class_digest)


DOCUMENTS: st.SearchStrategy[tuple[Callable[[bytes], Any], Callable[[Any], bytes], bytes]] = st.one_of(
    statements().map(lambda s: (lambda d: parse_statement(d, "f"), Statement.to_bytes, s.to_bytes())),
    environments().map(lambda e: (lambda d: parse_environment(d, "f"), Environment.to_bytes, e.to_bytes())),
    STRUCTURES.map(lambda s: (lambda d: parse_structure(d, "f"), lambda v: Structure(facts=v.facts).data, s.data)),
)
EDITS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 2), st.binary(max_size=2)), min_size=1, max_size=3)


@settings(deadline=None)
@given(DOCUMENTS, EDITS)
def test_no_two_byte_strings_are_one_signed_value(document: Any, edits: list[tuple[int, int, bytes]]) -> None:
    """Malleability: bytes that differ are refused, or are another value, and what is accepted is what is written."""
    read, write, data = document
    changed = bytearray(data)
    for at, removed, new in edits:
        start = at % (len(changed) + 1)
        changed[start : start + removed] = new
    assume(bytes(changed) != data)
    with contextlib.suppress(MalformedArtefact):
        assert read(bytes(changed)) != read(data)
        assert write(read(bytes(changed))) == bytes(changed)


RESPELLINGS: dict[str, Callable[[str], str]] = {
    "space": lambda text: text.replace(":", ": ", 1),
    "line feed": lambda text: f"{text}\n",
    "escape": lambda text: text.replace('"f', '"\\u0066', 1).replace('"k', '"\\u006b', 1).replace('"_', '"\\u005f', 1),
    "order": lambda text: json.dumps(
        dict(reversed(json.loads(text).items())), ensure_ascii=False, separators=(",", ":")
    ),
    "ascii": lambda text: json.dumps(json.loads(text), separators=(",", ":"), sort_keys=True),
}


@settings(deadline=None)
@given(statements() | environments(), st.sampled_from(sorted(RESPELLINGS)))
def test_another_spelling_of_a_signed_document_is_refused(document: Statement | Environment, how: str) -> None:
    data = document.to_bytes()
    spelt = RESPELLINGS[how](data.decode()).encode()
    assume(spelt != data)
    read = parse_statement if isinstance(document, Statement) else parse_environment
    assert json.loads(spelt) == json.loads(data)
    with pytest.raises(MalformedArtefact, match="RFC 8785 canonical form"):
        read(spelt, "f")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON, JSON)
@example([1], [True])
@example({"a": 0}, {"a": False})
def test_the_canonical_form_is_injective(a: Any, b: Any) -> None:
    """Python says that 1 equals true: the bytes do not."""
    assert (dumps(a) == dumps(b)) is (repr_typed(a) == repr_typed(b))
    assert repr_typed(loads_canonical(dumps(a), "f")) == repr_typed(a)


def repr_typed(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{k!r}:{repr_typed(value[k])}" for k in sorted(value)) + "}"
    return f"[{','.join(map(repr_typed, value))}]" if isinstance(value, list) else repr(value)
