# SPDX-License-Identifier: Apache-2.0
"""No field of any format is changed unseen: refused as received, and signed anew refused or another document."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from formats import FORMATS, Format
from matrix import OTHER, PAGE, SPELLING, Result, page, results
from mutations import mutations, mutations_of_lines

from weighmaster.core.canonical import dumps, loads
from weighmaster.errors import MalformedArtefact

BY_NAME = {form.name: form for form in FORMATS}
EACH = pytest.mark.parametrize("form", FORMATS, ids=BY_NAME)


@cache
def _found(name: str) -> tuple[Result, ...]:
    return results(BY_NAME[name])


def found(form: Format) -> tuple[Result, ...]:
    return _found(form.name)


def shown(results: list[Result]) -> list[tuple[str, str, bytes]]:
    return [(r.mutation.field, r.mutation.kind, r.mutation.data[:200]) for r in results]


@EACH
def test_the_unchanged_document_is_accepted(form: Format) -> None:
    assert form.signed_anew(form.document)
    for check in form.received:
        check(form.document)


@EACH
def test_nothing_passes_under_what_was_signed_for_another_document(form: Format) -> None:
    assert shown([r for r in found(form) if None in r.received]) == []
    assert all(len(r.received) == len(form.received) for r in found(form))


@EACH
def test_what_a_signer_may_say_otherwise_is_exactly_what_is_listed(form: Format) -> None:
    assert {r.mutation.field for r in found(form) if r.anew == OTHER} == set(form.varies)


@EACH
def test_another_spelling_says_the_same_and_only_where_any_is_taken(form: Format) -> None:
    spelt = [r for r in found(form) if r.anew == SPELLING]
    assert bool(spelt) is form.any_spelling
    assert all(loads(r.mutation.data, "f") == loads(form.document, "f") for r in spelt)


@pytest.mark.parametrize("form", [f for f in FORMATS if not f.any_spelling], ids=lambda f: f.name)
def test_of_a_canonical_format_no_two_bytes_are_one_document(form: Format) -> None:
    identities = [form.signed_anew(r.mutation.data) for r in found(form) if r.anew == OTHER]
    assert len(set(identities)) == len(identities)


def test_a_changed_bundle_is_never_another_document() -> None:
    assert {r.anew for r in found(BY_NAME["bundle"])} == {"MalformedArtefact", "SignatureFault", SPELLING}


@EACH
def test_every_field_is_in_the_matrix_with_every_mutation_of_its_type(form: Format) -> None:
    lines = form.document.split(b"\n")[:-1] if form.lines else [form.document]
    wanted = {field for line in lines for field in fields(loads(line, "f"), "(line)" if form.lines else "(document)")}
    tried = Counter(r.mutation.field for r in found(form))
    assert wanted <= set(tried)
    assert min(tried.values()) >= 8


def fields(value: object, path: str) -> set[str]:
    """Names of all places, written a second way."""
    out, start = {path}, "" if path.startswith("(") else path
    if isinstance(value, dict):
        assert value, f"{path}: an object without keys leaves its fields untried"
        return out.union(*(fields(child, f"{start}.{key}".lstrip(".")) for key, child in value.items()))
    if isinstance(value, list):
        return out.union(*(fields(child, f"{start}[]") for child in value))
    return out


def test_mutations_are_distinct_and_never_the_original() -> None:
    for form in FORMATS:
        made = [r.mutation.data for r in found(form)]
        assert len(set(made)) == len(made)
        assert form.document not in made


def test_a_mutation_is_of_one_place() -> None:
    """Of a small document, all of them are written down here."""
    made = {(m.field, m.kind): m.data for m in mutations(b'{"a":1,"b":[true,""]}')}
    expected = {
        ("(document)", "line feed after"): b'{"a":1,"b":[true,""]}\n',
        ("(document)", "an unknown key"): b'{"a":1,"b":[true,""],"~":null}',
        ("a", "+1"): b'{"a":2,"b":[true,""]}',
        ("a", "-0"): b'{"a":-0,"b":[true,""]}',
        ("a", "as a float"): b'{"a":1.0,"b":[true,""]}',
        ("a", "as a text"): b'{"a":"1","b":[true,""]}',
        ("a", "key twice"): b'{"a":1,"a":1,"b":[true,""]}',
        ("a", "key deleted"): b'{"b":[true,""]}',
        ("b", "keys swapped"): b'{"b":[true,""],"a":1}',
        ("b", "neighbours swapped"): b'{"a":1,"b":["",true]}',
        ("b", "an empty array"): b'{"a":1,"b":[]}',
        ("b[]", "negated"): b'{"a":1,"b":[false,""]}',
        ("b[]", "lone surrogate, escaped"): b'{"a":1,"b":[true,"\\ud800"]}',
        ("b[]", "lone surrogate, raw"): b'{"a":1,"b":[true,"\xed\xa0\x80"]}',
        ("b[]", "NUL after"): b'{"a":1,"b":[true,"\\u0000"]}',
    }
    assert {key: made.get(key) for key in expected} == expected


def test_lines_are_mutated_as_lines_and_as_a_list() -> None:
    made = {(m.field, m.kind): m.data for m in mutations_of_lines(b'{"a":1}\n{"a":2}\n')}
    assert made["(lines)", "neighbours swapped"] == b'{"a":2}\n{"a":1}\n'
    assert made["(lines)", "last line feed gone"] == b'{"a":1}\n{"a":2}'
    assert made["(line)", "space inside"] == b'{"a":1}\n{ "a":2}\n'
    assert made["a", "null"] == b'{"a":1}\n{"a":null}\n'


@EACH
def test_the_writer_of_the_mutations_adds_no_change_of_its_own(form: Format) -> None:
    """Where one value is replaced, the rest is in canonical form: a refusal is due to that value."""
    made = [r.mutation for r in found(form)]
    replaced = [m for m in made if m.kind == "null" and m.field not in {"(document)", "(line)"}]
    assert len(replaced) > 3
    for mutation in replaced:
        lines = mutation.data.split(b"\n")[:-1] if form.lines else [mutation.data]
        assert [dumps(json.loads(line)) for line in lines] == lines


def test_a_lax_reader_shows_in_the_matrix() -> None:
    """What the other tests are there to notice: an unknown key, a second spelling, a digest that nobody compares."""
    lax = Format(
        name="lax",
        document=b'{"a":1,"b":[true,""]}',
        received=(json.loads,),
        bound="",
        signed_anew=lambda data: str(json.loads(data)["a"]) if data[:1] == b"{" else refuse(),
        varies={},
    )
    outcomes = {(r.mutation.field, r.mutation.kind): r for r in results_of(lax)}
    assert outcomes["(document)", "an unknown key"].anew == SPELLING
    assert outcomes["a", "+1"].anew == OTHER
    assert outcomes["b[]", "negated"].received == (None,)


def refuse() -> str:
    raise MalformedArtefact("lax", "", expected="an object", found="something else")


def results_of(form: Format) -> tuple[Result, ...]:
    """Results of a reader that raises Python's own errors, which the matrix lets through."""

    def anew(data: bytes) -> str:
        try:
            return form.signed_anew(data)
        except (ValueError, KeyError, TypeError):
            return refuse()

    def received(data: bytes) -> None:
        try:
            form.received[0](data)
        except ValueError:
            refuse()

    return results(replace(form, signed_anew=anew, received=(received,)))


def test_an_undocumented_exception_goes_through() -> None:
    faulty = replace(BY_NAME["bundle"], signed_anew=lambda data: str(1 // (data == BY_NAME["bundle"].document)))
    with pytest.raises(ZeroDivisionError):
        results(faulty)


def test_the_page_says_what_was_found() -> None:
    assert PAGE.read_text(encoding="utf-8") == page((form, found(form)) for form in FORMATS)
