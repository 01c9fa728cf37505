# SPDX-License-Identifier: Apache-2.0
"""Properties of the trusted core over many inputs: what is written is read, and no edit goes unseen."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from weighmaster.core.canonical import loads
from weighmaster.core.compare import compare
from weighmaster.core.digest import digest_bytes, leaf_digest, root_of_leaves
from weighmaster.core.dtype import DTYPES
from weighmaster.core.manifest import Row, Table, alias_map, name_key, parse_table
from weighmaster.core.merkle import inclusion_proof, leaf_hash, root, root_from_proof
from weighmaster.core.statement import Method, Statement, TableEntry
from weighmaster.core.statement_reader import parse_statement
from weighmaster.core.structure import KINDS, Structure, StructureFact, parse_structure, structure_faults
from weighmaster.core.tensor import LEAF, Extent, TensorView, row_major
from weighmaster.errors import MalformedArtefact

# Letters and digits, some beyond the Latin ones and one beyond 16 bits; all of them are NFC as they stand.
NAMES = st.text('abzß中\U0001f600.#@[]0\n"\\', min_size=1, max_size=8)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def forms(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape and the canonical strides of some order of its dimensions."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    plain = row_major(shape)
    if 0 in shape:
        return shape, plain
    stride, step = list(plain), 1
    for i in draw(st.permutations(range(len(shape)))):
        if shape[i] > 1:
            stride[i], step = step, step * shape[i]
    return shape, tuple(stride)


@st.composite
def rows(draw: st.DrawFn, name: str) -> Row:
    shape, stride = draw(forms())
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    return Row(
        name=name,
        dtype=dtype,
        shape=shape,
        stride=stride,
        nbytes=math.prod(shape) * DTYPES[dtype],
        layout="strided",
        role=draw(st.sampled_from(["parameter", "buffer", "attribute"])),
        alias=None,
        sha256=draw(DIGESTS),
        fsverity64k=draw(DIGESTS),
    )


@st.composite
def tables(draw: st.DrawFn, min_size: int = 0) -> Table:
    """A valid kernel table, with an alias where there are two rows."""
    names = sorted(draw(st.lists(NAMES, unique=True, min_size=min_size, max_size=5)), key=name_key)
    made = [draw(rows(name)) for name in names]
    if len(made) > 1 and draw(st.booleans()):
        made[-1] = replace(made[0], name=made[-1].name, alias=made[0].name)
    return Table(stage="S3", view="kernel", rows=tuple(made))


FACTS = st.builds(StructureFact, path=TEXTS, kind=st.sampled_from(KINDS), value=TEXTS)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    facts = draw(st.lists(FACTS, unique_by=lambda f: (f.path, f.kind), max_size=6))
    return Structure(facts=tuple(sorted(facts, key=lambda f: (f.path.encode(), f.kind))))


def statement(table: Table) -> Statement:
    entry = replace(TableEntry.of(table), stage="S0", view="logical")
    method = Method(engine="e", loader="l", trace="none", mapped="none", materialized=(), extra=())
    return Statement(
        product="p",
        version="1",
        serial=1,
        gate_stage="S0",
        gate_view="logical",
        tables=(entry,),
        method=method,
        probe_set=None,
        coverage=None,
        structure=None,
        environment=None,
        sources=(),
    )


def parse(data: bytes) -> Table:
    return parse_table(data, stage="S3", view="kernel", file="t")


def flipped(data: bytes, at: int, bit: int) -> bytes:
    out = bytearray(data)
    out[at % len(data)] ^= 1 << bit
    return bytes(out)


@given(tables())
def test_tables_are_read_as_written(table: Table) -> None:
    assert parse(table.data) == table


@pytest.mark.requirement("REQ-MAN-02")
@given(tables(min_size=1), st.integers(0), st.integers(0, 7))
def test_no_flipped_bit_of_a_table_keeps_its_root(table: Table, at: int, bit: int) -> None:
    data = flipped(table.data, at, bit)
    with contextlib.suppress(MalformedArtefact):
        assert parse(data).root != table.root
    assert hashlib.sha256(data).hexdigest() != table.sha256


@pytest.mark.requirement("REQ-MAN-06")
@given(tables(min_size=1), st.data())
def test_every_row_has_a_proof_and_no_other_has_it(table: Table, data: st.DataObject) -> None:
    leaves = [leaf_hash(line) for line in table.lines()]
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = inclusion_proof(leaves, index)
    assert root_from_proof(leaves[index], index, len(leaves), proof).hex() == table.root
    other = leaf_hash(data.draw(st.binary(max_size=40)))
    assert root_from_proof(other, index, len(leaves), proof).hex() != table.root


@given(st.lists(st.binary(max_size=3), max_size=12), st.lists(st.binary(max_size=3), max_size=12))
def test_different_lists_have_different_roots(a: list[bytes], b: list[bytes]) -> None:
    assert (root(map(leaf_hash, a)) == root(map(leaf_hash, b))) == (a == b)


EDITS: dict[str, Callable[[Row], Row]] = {
    "dtype": lambda r: replace(r, dtype="bool" if r.dtype != "bool" else "int8"),
    "shape": lambda r: replace(r, shape=(*r.shape, 1), stride=(*r.stride, 1)),
    "stride": lambda r: replace(r, stride=tuple(s + 1 for s in r.stride) or (1,)),
    "nbytes": lambda r: replace(r, nbytes=r.nbytes + 1),
    "layout": lambda r: replace(r, layout="resolved-v1"),
    "role": lambda r: replace(r, role="constant"),
    "alias": lambda r: replace(r, alias=None if r.alias else "x"),
    "digests": lambda r: replace(r, sha256=r.sha256[::-1] + "0", fsverity64k=r.fsverity64k[::-1] + "0"),
    "name": lambda r: replace(r, name=r.name + "~"),
}


@given(tables(min_size=1), st.sampled_from(sorted(EDITS)), st.data())
def test_no_edit_of_a_row_compares_as_the_same(table: Table, edit: str, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(table.rows) - 1))
    changed = EDITS[edit](table.rows[index])
    assume(changed != table.rows[index])
    others = [*table.rows[:index], changed, *table.rows[index + 1 :]]
    assume(len({r.name for r in others}) == len(others))
    found = replace(table, rows=tuple(sorted(others, key=lambda r: name_key(r.name))))
    diff = compare(table, found)
    assert not diff.same
    subjects = {f.subject for f in (*diff.set_faults(), *diff.byte_faults())}
    assert subjects == {table.rows[index].name, changed.name}


@given(tables(), tables())
def test_comparison_says_same_exactly_for_equal_gate_contents(a: Table, b: Table) -> None:
    equal = [(r.name, r.form, r.gate_digest) for r in a.rows] == [(r.name, r.form, r.gate_digest) for r in b.rows]
    assert compare(a, b).same == equal
    assert compare(a, a).same


@given(structures())
def test_structures_are_read_as_written(structure: Structure) -> None:
    assert parse_structure(structure.data, "s") == structure
    assert structure_faults(structure, structure) == ()


@given(structures(), structures())
def test_structures_differ_exactly_where_facts_do(a: Structure, b: Structure) -> None:
    """Each differing fact has a finding at its path, or at one that it lies below."""
    subjects = {f.subject for f in structure_faults(a, b)}
    differing = {f.path or "(model)" for f in set(a.facts) ^ set(b.facts)}
    assert (a.digest == b.digest) == (not subjects)
    assert subjects <= differing
    assert all(any(path.startswith(top) or top == "(model)" for top in subjects) for path in differing)


@given(tables(), st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_of_a_statement_is_refused_or_another_statement(table: Table, at: int, bit: int) -> None:
    before = statement(table)
    with contextlib.suppress(MalformedArtefact):
        assert parse_statement(flipped(before.to_bytes(), at, bit), "s") != before


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789aeflnrstu\\ \n').map(str.encode))
def test_readers_refuse_noise_in_one_way_only(data: bytes) -> None:
    readers: tuple[Callable[[bytes], object], ...] = (
        parse,
        lambda d: parse_structure(d, "s"),
        lambda d: parse_statement(d, "s"),
        lambda d: loads(d, "s"),
    )
    for read in readers:
        with contextlib.suppress(MalformedArtefact):
            read(data)


@given(tables(min_size=1), st.integers(0), st.integers(0, 3))
def test_a_cut_table_is_refused_or_shorter(table: Table, at: int, extra: int) -> None:
    data = table.data[: at % len(table.data)] + b"\n" * extra
    with contextlib.suppress(MalformedArtefact):
        assert parse(data).root != table.root


@settings(max_examples=40)
@given(st.integers(0, 3 * LEAF + 2), st.integers(0, 255), st.data())
def test_digests_follow_from_leaves_alone(nbytes: int, byte: int, data: st.DataObject) -> None:
    content = bytes([byte]) * nbytes
    digest = digest_bytes(content)
    leaves = b"".join(leaf_digest(content[i : i + LEAF]) for i in range(0, nbytes, LEAF))
    assert root_of_leaves(leaves, nbytes).hex() == digest.fsverity64k
    if nbytes:
        changed = flipped(content, data.draw(st.integers(0)), data.draw(st.integers(0, 7)))
        assert digest_bytes(changed).fsverity64k != digest.fsverity64k


@st.composite
def views(draw: st.DrawFn) -> tuple[TensorView, ...]:
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    return tuple(
        TensorView(
            name=name,
            dtype=draw(st.sampled_from(["uint8", "int8"])),
            shape=(4,),
            stride=(1,),
            nbytes=4,
            layout="strided",
            role="parameter",
            extent=Extent(device="cpu", address=draw(st.sampled_from([16, 18, 64])), nbytes=4),
            read=lambda start, stop: memoryview(bytes(stop - start)),
        )
        for name in names
    )


@given(views(), st.randoms(use_true_random=False))
def test_aliases_depend_on_extents_and_types_not_on_order(found: tuple[TensorView, ...], random) -> None:
    aliases = alias_map(found)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert alias_map(tuple(shuffled)) == aliases
    groups: dict[tuple[object, ...], list[str]] = {}
    for view in found:
        groups.setdefault((view.extent, view.dtype), []).append(view.name)
    expected = {n: min(names, key=name_key) for names in groups.values() for n in names}
    assert {**{v.name: v.name for v in found}, **aliases} == expected
