# SPDX-License-Identifier: Apache-2.0
"""The statement: round trip, what it asks of itself, and a matrix of edits of every value in the document."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import rfc8785

from weighmaster.core.canonical import dumps
from weighmaster.core.derivation import Derivation, Encoder, Parent, Report
from weighmaster.core.manifest import Table
from weighmaster.core.source import Evidence, Source
from weighmaster.core.statement import (
    Coverage,
    EnvironmentRef,
    Exclusion,
    Method,
    Statement,
    TableEntry,
)
from weighmaster.core.statement_reader import parse_statement
from weighmaster.errors import MalformedArtefact


def hexa(label: str) -> str:
    return hashlib.sha256(label.encode()).hexdigest()


def entry(stage: str, **change: Any) -> TableEntry:
    made = TableEntry(
        stage=stage, view="kernel", root=hexa(f"root {stage}"), sha256=hexa(f"file {stage}"), count=3, nbytes=2**60
    )
    return replace(made, **change)


COVERAGE = Coverage(
    consumed=3,
    consumed_bytes=100,
    consumed_hashed_bytes=96,
    hashed=2,
    hashed_bytes=96,
    unconsumed=1,
    unconsumed_bytes=8,
    naive=1,
    naive_bytes=40,
    empty=1,
    literals=2,
    excluded=(Exclusion(name="cache", dtype="float32", shape=(1,), nbytes=4, reason="kv-cache"),),
)
STATEMENT = Statement(
    product="thorax-triage",
    version="2.1",
    serial=7,
    gate_stage="S3",
    gate_view="kernel",
    tables=(entry("S1"), entry("S3")),
    method=Method(
        engine="hashlib-v1",
        loader="torch-module",
        trace="same path",
        mapped="private",
        materialized=("w",),
        extra=("codebook",),
    ),
    probe_set=hexa("probe"),
    coverage=COVERAGE,
    structure=hexa("structure"),
    environment=EnvironmentRef(
        sha256=hexa("environment"),
        class_digest=hexa("class"),
        policy="environment-policy-v1",
        policy_sha256=hexa("policy"),
    ),
    sources=(Source(path="a/config.json", role="config", nbytes=2, sha256=hexa("config")),),
    validation=(("report.pdf", hexa("report")),),
    reaction="drain",
    evidence=(Evidence(kind="oms-v1", sha256=hexa("bundle"), key=hexa("key"), files=1),),
    derivation=Derivation(
        pack=hexa("pack"),
        encoder=Encoder(name="weighmaster", version="0.1.0", profile="calibrated", bits="4.5"),
        calibration=hexa("tokens"),
        parents=(Parent(path="a/model.safetensors", nbytes=7, sha256=hexa("parent")),),
        reports=(Report(format="report-v1", sha256=hexa("report"), metrics=(("klMean", "0.0012"), ("top1", "1"))),),
    ),
)
FILES = Statement(
    product="thorax-triage",
    version="2.1",
    serial=0,
    gate_stage="S0",
    gate_view="logical",
    tables=(entry("S0", view="logical"),),
    method=replace(STATEMENT.method, loader="safetensors-files", trace="none", mapped="none"),
    probe_set=None,
    coverage=None,
    structure=None,
    environment=None,
    sources=(),
)
DOCUMENT = json.loads(STATEMENT.to_bytes())


@pytest.mark.parametrize("statement", [STATEMENT, FILES], ids=["live", "files"])
def test_round_trip(statement: Statement) -> None:
    data = statement.to_bytes()
    assert parse_statement(data, "s") == statement
    assert rfc8785.dumps(json.loads(data)) == data


def test_subjects_are_the_gate_table() -> None:
    assert DOCUMENT["_type"] == "https://in-toto.io/Statement/v1"
    assert DOCUMENT["subject"] == [
        {"name": "weights", "digest": {"sha256": hexa("root S3")}},
        {"name": "tensors.S3.kernel.jsonl", "digest": {"sha256": hexa("file S3")}},
    ]
    assert STATEMENT.gate_table == entry("S3")


def test_entry_of_a_table() -> None:
    table = Table(stage="S1", view="logical", rows=())
    made = TableEntry.of(table)
    assert (made.root, made.sha256, made.count, made.nbytes) == (table.root, table.sha256, 0, 0)
    assert made.file_name == table.file_name


def test_excluded_bytes_are_added_up() -> None:
    more = (*COVERAGE.excluded, replace(COVERAGE.excluded[0], name="other", nbytes=6))
    assert replace(COVERAGE, excluded=more).excluded_bytes == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": (entry("S3"), entry("S3"))}, "a table stands twice"),
        ({"tables": (entry("S1"),)}, r"the gate table S3\.kernel is not among the tables"),
        ({"tables": ()}, r"the gate table S3\.kernel is not among the tables"),
        ({"gate_view": "logical"}, r"the gate table S3\.logical is not among the tables"),
        ({"evidence": STATEMENT.evidence * 2}, "evidence stands twice"),
        ({"sources": ()}, "evidence speaks of more files than there are sources"),
        ({"reaction": "warn"}, r"reaction: expected halt, drain or fallback:<root>, found 'warn'"),
        ({"reaction": "halt\n"}, "reaction: expected halt"),
        ({"reaction": "fallback:"}, "reaction: expected halt"),
        ({"product": ""}, "product and version must not be empty"),
        ({"version": ""}, "product and version must not be empty"),
        ({"serial": -1}, "serial not negative"),
        ({"structure": None}, "a live gate table stands with probeSet, coverage, structure and environment"),
        ({"environment": None}, "a live gate table stands with probeSet"),
        ({"coverage": None}, "a live gate table stands with probeSet"),
        ({"probe_set": None}, "a live gate table stands with probeSet"),
    ],
)
def test_what_is_no_statement_cannot_be_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STATEMENT, **change)


def test_fallback_names_a_root() -> None:
    made = replace(STATEMENT, reaction=f"fallback:{hexa('x')}")
    assert parse_statement(made.to_bytes(), "s") == made


# -- the matrix -----------------------------------------------------------------------------------------------------

Path = tuple[str | int, ...]
DROPPED = object()


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Every place in the document: leaves, and the objects and arrays that hold them."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*at, key))


def edited(at: Path, value: object) -> bytes:
    document = copy.deepcopy(DOCUMENT)
    parent = document
    for key in at[:-1]:
        parent = parent[key]
    if value is DROPPED:
        del parent[at[-1]]
    else:
        parent[at[-1]] = value
    return dumps(document)


def shown(at: Path) -> str:
    return ".".join(str(key) for key in at)


def refusal(data: bytes) -> MalformedArtefact:
    with pytest.raises(MalformedArtefact) as caught:
        parse_statement(data, "s.json")
    assert caught.value.file == "s.json"
    assert caught.value.field
    return caught.value


ALL = [*paths(DOCUMENT)]
METRICS = ("predicate", "derivation", "reports", 0, "metrics")
MEMBERS = [at for at in ALL if isinstance(at[-1], str)]
EMPTY_ARRAYS = {
    ("predicate", "evidence"),
    ("predicate", "sources"),
    ("predicate", "validation"),
    ("predicate", "coverage", "excluded"),
    ("predicate", "coverage", "excluded", 0, "shape"),
    ("predicate", "method", "materialized"),
    ("predicate", "method", "extra"),
    ("predicate", "derivation", "reports"),
    METRICS,
}
"""Arrays that may be empty: that is another statement, with another signature."""


def value_at(at: Path) -> Any:
    value: Any = DOCUMENT
    for key in at:
        value = value[key]
    return value


@pytest.mark.requirement("REQ-MAN-07")
@pytest.mark.parametrize("at", MEMBERS, ids=shown)
def test_no_key_may_be_left_out(at: Path) -> None:
    error = refusal(edited(at, DROPPED))
    assert str(at[-1]) in error.field
    assert (error.expected, error.found) == ("a value", "no such key")


@pytest.mark.parametrize("at", ALL, ids=shown)
def test_null_is_refused_wherever_a_value_stands(at: Path) -> None:
    if value_at(at) is None or at in NULLABLE:
        return  # answers is null: a test below fills it
    error = refusal(edited(at, None))
    assert "null" in error.found or "a live gate table stands with" in error.found


@pytest.mark.parametrize("at", ALL, ids=shown)
@pytest.mark.parametrize("wrong", [True, 5, "text", [], {}, [[]], {"x": 1}, -1], ids=repr)
def test_values_of_another_type_are_refused(at: Path, wrong: object) -> None:
    if not well_formed(at, wrong):
        refusal(edited(at, wrong))


def well_formed(at: Path, other: object) -> bool:
    """Tell whether `other` may stand at `at`: another number, any subset of some arrays; texts have their own test."""
    before = value_at(at)
    if isinstance(before, str) or type(before) is not type(other):
        return isinstance(other, str) and isinstance(before, str)
    if isinstance(other, list):
        return not other and at in EMPTY_ARRAYS
    return isinstance(other, int) and other >= 0


@pytest.mark.requirement("REQ-MAN-07")
@pytest.mark.parametrize("at", [at for at in [(), *ALL] if isinstance(value_at(at), dict)], ids=shown)
def test_unknown_keys_are_refused(at: Path) -> None:
    error = refusal(edited((*at, "zzz"), 0))
    assert error.field.endswith("zzz")
    assert (error.expected, error.found) == ("only the keys of the specification", "an unknown key")


NULLABLE = {("predicate", "derivation")}
"""Where null is another statement."""

FREE_TEXT = {
    ("predicate", "product"),
    ("predicate", "version"),
    ("predicate", "method", "engine"),
    ("predicate", "method", "loader"),
    ("predicate", "method", "materialized", 0),
    ("predicate", "method", "extra", 0),
    ("predicate", "coverage", "excluded", 0, "name"),
    ("predicate", "environment", "policy"),
    ("predicate", "sources", 0, "path"),
    ("predicate", "validation", 0, "name"),
    ("predicate", "derivation", "encoder", "name"),
    ("predicate", "derivation", "encoder", "version"),
    ("predicate", "derivation", "parents", 0, "path"),
    ("predicate", "derivation", "reports", 0, "format"),
    *((*METRICS, i, key) for i in (0, 1) for key in ("name", "value")),
}


@pytest.mark.parametrize("at", [at for at in ALL if isinstance(value_at(at), str) and at not in FREE_TEXT], ids=shown)
@pytest.mark.parametrize("text", ["", "text", "0" * 63, "A" * 64, "-1", "007"], ids=repr)
def test_texts_with_a_form_refuse_others(at: Path, text: str) -> None:
    refusal(edited(at, text))


@pytest.mark.parametrize(
    "at",
    sorted(FREE_TEXT - {("predicate", "method", "extra", 0), ("predicate", "method", "materialized", 0)}),
    ids=shown,
)
def test_free_texts_are_not_empty(at: Path) -> None:
    assert refusal(edited(at, "")).found == "an empty one"


@pytest.mark.parametrize("path", ["/etc/passwd", "../config.json", "a//b", "a/./b", "a\\b", "a\0b"])
def test_source_paths_stay_inside(path: str) -> None:
    error = refusal(edited(("predicate", "sources", 0, "path"), path))
    assert (error.field, error.expected) == ("predicate.sources[0].path", "a relative path")
    assert repr(path) in error.found


@pytest.mark.parametrize("at", [("subject", 0), ("subject", 1), ("predicate", "tables", 1)], ids=shown)
def test_subjects_and_gate_table_must_agree(at: Path) -> None:
    refusal(edited(at, DROPPED))
    for key in ("root", "sha256") if at[0] == "predicate" else ("digest",):
        other = hexa("other") if at[0] == "predicate" else {"sha256": hexa("other")}
        error = refusal(edited((*at, key), other))
        assert error.field == "subject"
        assert hexa("other") in error.expected + error.found


def test_another_gate_table_needs_other_subjects() -> None:
    error = refusal(edited(("predicate", "gateTable", "stage"), "S1"))
    assert error.field == "subject"
    assert hexa("root S1") in error.expected
    assert hexa("root S3") in error.found


@pytest.mark.requirement("REQ-ADM-11")
def test_the_reserved_key_is_null() -> None:
    error = refusal(edited(("predicate", "answers"), {"sha256": hexa("x")}))
    assert (error.field, error.expected) == ("predicate.answers", "null, in this version")


@pytest.mark.parametrize(
    ("at", "value", "found"),
    [
        (("encoder", "bits"), "5.", "bits as a decimal number in a string, found '5.'"),
        (("encoder", "bits"), "05", "found '05'"),
        (("encoder", "profile"), "datafree", "a calibration stands with the profile calibrated alone"),
        (("calibration",), None, "a calibration stands with the profile calibrated alone, found null with calibrated"),
        (("encoder", "profile"), "exact", "bits stand with every profile but exact, found 4.5 with exact"),
        (("parents",), [], "no weight file was packed"),
        (("parents", 0, "path"), "../model.safetensors", "expected a relative path, found '../model.safetensors'"),
        (("parents", 0, "path"), "/model.safetensors", "expected a relative path"),
        (("reports", 0, "sha256"), hexa("other"), f"validation does not name the report {hexa('other')}"),
        (("reports", 0, "metrics", 0, "name"), "a\nb", "'a\\nb' is no name of a metric"),
        (("reports", 0, "metrics", 0, "name"), "a" * 201, "is no name of a metric"),
        (("reports", 0, "metrics", 0, "name"), "top1", "metrics are not strictly ascending: 'top1' after 'top1'"),
        (("reports", 0, "metrics", 0, "name"), "u", "metrics are not strictly ascending: 'top1' after 'u'"),
        (("reports", 0, "metrics", 0, "value"), "1e-3", "klMean: expected a decimal number in a string, found '1e-3'"),
        (("reports", 0, "metrics", 0, "value"), ".5", "found '.5'"),
        (("reports", 0, "metrics", 0, "value"), "-", "found '-'"),
        (("reports", 0, "metrics", 0, "value"), "00", "found '00'"),
        (("reports", 0, "metrics", 0, "value"), "NaN", "found 'NaN'"),
    ],
)
def test_a_derivation_follows_its_rules(at: Path, value: object, found: str) -> None:
    error = refusal(edited(("predicate", "derivation", *at), value))
    assert error.field.startswith("predicate")
    assert found in str(error)


@pytest.mark.parametrize("key", ["parents", "reports"])
def test_nothing_stands_twice_in_a_derivation(key: str) -> None:
    error = refusal(edited(("predicate", "derivation", key), DOCUMENT["predicate"]["derivation"][key] * 2))
    assert error.field == "predicate.derivation"
    assert "stands twice" in error.found or "not strictly ascending" in error.found


def test_metrics_have_one_order() -> None:
    with pytest.raises(ValueError, match="metrics are not strictly ascending: 'a' after 'b'"):
        Report(format="f", sha256=hexa("report"), metrics=(("b", "1"), ("a", "1")))
    with pytest.raises(ValueError, match="the format must not be empty"):
        Report(format="", sha256=hexa("report"))
    with pytest.raises(ValueError, match="expected 64 lowercase hexadecimal digits, found 'x'"):
        Report(format="f", sha256="x")


@pytest.mark.requirement("REQ-MAN-07")
@pytest.mark.parametrize("data", [json.dumps(DOCUMENT).encode(), STATEMENT.to_bytes() + b"\n", b"", b"null"])
def test_only_the_canonical_form_is_read(data: bytes) -> None:
    with pytest.raises(MalformedArtefact, match=r"^s\.json"):
        parse_statement(data, "s.json")
