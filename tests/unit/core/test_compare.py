# SPDX-License-Identifier: Apache-2.0
"""Comparing two tables: what each kind of difference is called, and that none can be taken for a yes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from weighmaster.core.compare import compare, first_differing_leaf
from weighmaster.core.digest import digest_bytes
from weighmaster.core.manifest import Row, Table
from weighmaster.core.selftest import pattern
from weighmaster.core.tensor import row_major
from weighmaster.errors import TensorFault, TensorSetFault


def row(name: str, shape: tuple[int, ...] = (2, 3), seed: str | None = None, **change: Any) -> Row:
    digest = digest_bytes((seed or name).encode())
    made = Row(
        name=name,
        dtype="uint8",
        shape=shape,
        stride=row_major(shape),
        nbytes=math.prod(shape),
        layout="strided",
        role="parameter",
        alias=None,
        sha256=digest.sha256,
        fsverity64k=digest.fsverity64k,
    )
    return replace(made, **change)


def table(*rows: Row) -> Table:
    return Table(stage="S3", view="kernel", rows=rows)


A, B, C = row("a"), row("b"), row("c", (4,))
VALIDATED = table(A, B, C)


def test_equal_tables_have_no_difference() -> None:
    diff = compare(VALIDATED, table(A, B, C))
    assert diff.same
    assert (diff.set_faults(), diff.byte_faults()) == ((), ())
    diff.require_same()


def test_a_difference_has_no_truth_value() -> None:
    for found in (VALIDATED, table()):
        with pytest.raises(TypeError, match=r"^a Diff has no truth value; use \.same or \.require_same\(\)$"):
            bool(compare(VALIDATED, found))


def test_missing_and_extra_are_told_first() -> None:
    diff = compare(VALIDATED, table(A, C, row("d", seed="new")))
    assert not diff.same
    missing, extra = diff.set_faults()
    assert (missing.subject, missing.detail) == ("b", "is missing")
    assert (missing.expected, missing.found) == ("parameter uint8 2x3 stride [3, 1] strided", None)
    assert (extra.subject, extra.detail, extra.expected) == ("d", "is not in the validated table", None)
    assert all(type(f) is TensorSetFault and (f.step, f.exit_code) == (8, 11) for f in (missing, extra))
    assert diff.byte_faults() == ()


def test_a_renamed_tensor_is_recognised_by_its_bytes() -> None:
    diff = compare(VALIDATED, table(A, C, row("renamed", seed="b")))
    assert diff.moved == (("b", "renamed"),)
    missing, extra = diff.set_faults()
    assert missing.detail == "is missing; its bytes stand under 'renamed'"
    assert extra.detail == "is not in the validated table; its bytes are those of 'b'"


def test_same_bytes_of_another_type_are_not_moved() -> None:
    diff = compare(VALIDATED, table(A, C, row("renamed", seed="b", dtype="int8")))
    assert diff.moved == ()


def test_two_missing_do_not_claim_one_extra() -> None:
    before = table(row("a", seed="x"), row("b", seed="x"))
    assert compare(before, table(row("c", seed="x"))).moved == (("a", "c"),)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"dtype": "int8"}, "dtype differs"),
        ({"shape": (3, 2), "stride": (2, 1)}, "shape and stride differ"),
        ({"stride": (1, 2)}, "stride differs"),
        ({"role": "buffer"}, "role differs"),
        ({"layout": "materialized-v1"}, "layout differs"),
        ({"alias": "a"}, "alias differs"),
        ({"shape": (7,), "stride": (1,), "nbytes": 7}, "shape and stride and nbytes differ"),
    ],
)
def test_another_form_is_a_fault_of_the_set_not_of_the_bytes(change: dict[str, Any], detail: str) -> None:
    diff = compare(VALIDATED, table(A, replace(B, **change), C))
    (fault,) = diff.set_faults()
    assert (type(fault), fault.subject, fault.detail) == (TensorSetFault, "b", detail)
    assert fault.expected != fault.found
    assert diff.byte_faults() == ()
    assert not diff.same


def test_an_alias_and_a_scalar_are_shown_as_such() -> None:
    diff = compare(table(row("a", ()), row("b", (), seed="a", alias="a")), table(row("a", ()), row("b", (), seed="a")))
    (fault,) = diff.set_faults()
    assert fault.expected == "parameter uint8 scalar stride [] strided alias of a"
    assert fault.found == "parameter uint8 scalar stride [] strided"


def test_changed_bytes_are_one_fault_per_tensor() -> None:
    diff = compare(VALIDATED, table(row("a", seed="x"), B, row("c", (4,), seed="y")))
    assert diff.set_faults() == ()
    first, second = diff.byte_faults()
    assert [(f.subject, f.detail) for f in (first, second)] == [("a", "bytes differ"), ("c", "bytes differ")]
    assert (first.expected, first.found) == (A.sha256, digest_bytes(b"x").sha256)
    assert all(type(f) is TensorFault and (f.step, f.exit_code) == (9, 10) for f in (first, second))


def test_the_gate_digest_decides() -> None:
    """Up to one leaf the flat digest, above it the tree; the other one is not compared."""
    small, large = row("s"), row("t", (65_537,))
    other = "0" * 64
    found = table(replace(small, fsverity64k=other), replace(large, sha256=other))
    assert compare(table(small, large), found).same
    found = table(replace(small, sha256=other), replace(large, fsverity64k=other))
    assert [c.validated.name for c in compare(table(small, large), found).changed] == ["s", "t"]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (0, "bytes differ, first in leaf 0 of 4 (bytes 0 to 65535)"),
        (131_072, "bytes differ, first in leaf 2 of 4 (bytes 131072 to 196607)"),
        (199_999, "bytes differ, first in leaf 3 of 4 (bytes 196608 to 199999)"),
    ],
)
def test_the_first_differing_leaf_is_named(at: int, words: str) -> None:
    data = pattern(200_000)
    spoilt = bytearray(data)
    spoilt[at] ^= 1
    before, after = digest_bytes(data), digest_bytes(bytes(spoilt))
    good = row("w", (200_000,), sha256=before.sha256, fsverity64k=before.fsverity64k)
    bad = replace(good, sha256=after.sha256, fsverity64k=after.fsverity64k)
    (fault,) = compare(table(good), table(bad)).byte_faults({"w": before.leaves}, {"w": after.leaves})
    assert fault.detail == words
    assert (fault.expected, fault.found) == (before.fsverity64k, after.fsverity64k)


@pytest.mark.parametrize(
    ("before", "after"), [(None, bytes(32)), (bytes(32), b""), (bytes(32), bytes(64)), (bytes(32),) * 2]
)
def test_without_comparable_leaves_no_place_is_claimed(before: bytes | None, after: bytes | None) -> None:
    assert first_differing_leaf(10, before, after) == ""


def test_require_same_raises_every_difference() -> None:
    found = table(row("a", seed="x"), replace(B, role="buffer"), row("d", seed="new"))
    with pytest.raises(ExceptionGroup) as caught:
        compare(VALIDATED, found).require_same()
    kinds = [(type(f).__name__, f.subject) for f in caught.value.exceptions]  # type: ignore[attr-defined]
    assert kinds == [("TensorSetFault", "c"), ("TensorSetFault", "d"), ("TensorSetFault", "b"), ("TensorFault", "a")]
    assert "the tables differ" in str(caught.value)
