# SPDX-License-Identifier: Apache-2.0
"""The table: its lines, its order, its root, its aliases, and everything that parse_table refuses."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core import merkle
from weighmaster.core.digest import digest_bytes
from weighmaster.core.dtype import DTYPES
from weighmaster.core.manifest import (
    LAYOUTS,
    ROLES,
    Row,
    Table,
    alias_map,
    leaves_of,
    name_key,
    parse_table,
    split_leaves,
)
from weighmaster.core.selftest import pattern
from weighmaster.core.tensor import Extent, TensorView, row_major
from weighmaster.errors import MalformedArtefact

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
SAFE = st.integers(0, 2**53 - 1)


def row(name: str, shape: tuple[int, ...] = (2, 3), dtype: str = "float32", **change: Any) -> Row:
    """A valid row; its bytes follow from its name, unless it is an alias."""
    nbytes = math.prod(shape) * DTYPES[dtype]
    digest = digest_bytes(hashlib.sha256((change.get("alias") or name).encode()).digest() + pattern(64))
    made = Row(
        name=name,
        dtype=dtype,
        shape=shape,
        stride=row_major(shape),
        nbytes=nbytes,
        layout="strided",
        role="parameter",
        alias=None,
        sha256=digest.sha256,
        fsverity64k=digest.fsverity64k,
    )
    return replace(made, **change)


def table(*rows: Row) -> Table:
    return Table(stage="S3", view="kernel", rows=rows)


def parse(data: bytes, view: Any = "kernel") -> Table:
    return parse_table(data, stage="S3", view=view, file="t.jsonl")


ROWS = (row("a.bias", (3,)), row("a.weight"), row("b", (5, 4), "bfloat16", role="buffer"))
GOOD = table(*ROWS).data
LINE = ROWS[1].line()


class TestLines:
    @given(
        st.builds(
            Row,
            name=NAMES,
            dtype=st.sampled_from(sorted(DTYPES)),
            shape=st.lists(SAFE, max_size=4).map(tuple),
            stride=st.lists(SAFE, max_size=4).map(tuple),
            nbytes=SAFE,
            layout=st.sampled_from(LAYOUTS),
            role=st.sampled_from(ROLES),
            alias=st.none() | NAMES,
            sha256=HEX,
            fsverity64k=HEX,
        )
    )
    def test_line_is_that_of_another_implementation(self, made: Row) -> None:
        keys = ("name", "dtype", "shape", "stride", "nbytes", "layout", "role", "alias", "sha256", "fsverity64k")
        value = {k: list(v) if isinstance(v := getattr(made, k), tuple) else v for k in keys}
        assert made.line() == rfc8785.dumps(value)
        assert b"\n" not in made.line()

    @pytest.mark.parametrize(
        "change",
        [{"nbytes": 2**53}, {"shape": (0, 2**53)}, {"stride": (2**53, 1)}, {"shape": (2**60,), "nbytes": 2**60}],
    )
    def test_sizes_that_no_reader_takes_are_not_written(self, change: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"^w: a size beyond 2\^53 - 1"):
            row("w", **change).line()

    def test_a_lone_surrogate_is_not_written(self) -> None:
        with pytest.raises(ValueError, match="surrogates not allowed"):
            row("\ud800").line()

    def test_gate_digest_is_flat_up_to_one_leaf(self) -> None:
        assert row("a", (65_536,), "uint8").gate_digest == row("a").sha256
        assert row("a", (65_537,), "uint8").gate_digest == row("a").fsverity64k


class TestTable:
    @pytest.mark.requirement("REQ-MAN-02")
    def test_root_is_the_merkle_tree_over_the_lines(self) -> None:
        leaves = [hashlib.sha256(b"\0" + line).digest() for line in GOOD.splitlines()]
        left = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()
        assert table(*ROWS).root == hashlib.sha256(b"\1" + left + leaves[2]).hexdigest()
        assert table(*ROWS).sha256 == hashlib.sha256(GOOD).hexdigest()

    @pytest.mark.requirement("REQ-MAN-06")
    def test_a_row_is_shown_to_be_in_the_table_by_a_proof(self) -> None:
        leaves = [merkle.leaf_hash(line) for line in table(*ROWS).lines()]
        proof = merkle.inclusion_proof(leaves, 1)
        assert merkle.root_from_proof(merkle.leaf_hash(ROWS[1].line()), 1, 3, proof).hex() == table(*ROWS).root

    def test_empty_table(self) -> None:
        assert table().data == b""
        assert table().root == hashlib.sha256(b"").hexdigest()
        assert parse(b"") == table()

    def test_bytes_are_counted_once(self) -> None:
        tied = table(row("a"), row("b", alias="a"))
        assert tied.nbytes == 24
        assert [r.name for r in tied.primaries] == ["a"]

    @pytest.mark.parametrize("rows", [ROWS[::-1], (ROWS[0], ROWS[0])])
    def test_order_is_part_of_the_value(self, rows: tuple[Row, ...]) -> None:
        with pytest.raises(ValueError, match="not in strictly ascending order"):
            table(*rows)

    @pytest.mark.parametrize(("stage", "view"), [("S5", "kernel"), ("S3", "raw"), ("", "logical")])
    def test_stage_and_view_are_closed_lists(self, stage: str, view: Any) -> None:
        with pytest.raises(ValueError, match=f"no such table: stage '{stage}', view '{view}'"):
            Table(stage=stage, view=view, rows=())

    def test_file_name(self) -> None:
        assert table().file_name == "tensors.S3.kernel.jsonl"


class TestParsing:
    def test_round_trip_keeps_the_bytes(self) -> None:
        parsed = parse(GOOD)
        assert parsed == table(*ROWS)
        assert parsed.data is GOOD
        assert parsed.root == table(*ROWS).root

    @pytest.mark.parametrize(
        "made",
        [
            row("scalar", ()),
            row("empty", (0,)),
            row("empty", (3, 0, 2)),
            row("permuted", (2, 3, 4), stride=(1, 8, 2)),
            row("one", (1, 3, 1)),
            row("largest", (2**53 - 1,), "uint8"),
            row('ü€\U0001f600 "\\\n\x7f'),
            row("m", layout="materialized-v1"),
            row("r", layout="resolved-v1", dtype="complex64"),
        ],
    )
    def test_unusual_rows_are_kept(self, made: Row) -> None:
        assert parse(table(made).data).rows == (made,)

    def test_order_is_that_of_utf8_bytes_not_of_utf16(self) -> None:
        rows = (row("\uffee"), row("\U00010000"))
        assert parse(table(*rows).data).rows == rows
        assert name_key("\uffee") < name_key("\U00010000")

    def test_logical_rows(self) -> None:
        made = row("w", layout="canonical", role="file")
        assert parse(made.line() + b"\n", "logical").rows == (made,)


def edited(**change: Any) -> bytes:
    """The second line with keys set, in canonical form; None deletes a key."""
    value = json.loads(ROWS[1].line()) | change
    return rfc8785.dumps({k: v for k, v in value.items() if v != "DELETE"}) + b"\n"


def replaced(old: bytes, new: bytes) -> bytes:
    line = ROWS[1].line() + b"\n"
    assert old in line
    return line.replace(old, new, 1)


CANONICAL = ("RFC 8785 canonical form", "another spelling")
REFUSED: dict[str, tuple[bytes, str, str, str, str]] = {
    "no final line feed": (GOOD[:-1], "t.jsonl", "", "a line feed after the last row", "none"),
    "carriage return": (replaced(b"}\n", b"}\r\n"), "t.jsonl:1", f"byte {len(LINE)}", *CANONICAL),
    "empty line": (GOOD + b"\n", "t.jsonl:4", "byte 0", "one JSON value", "Expecting value"),
    "unsorted": (
        b"".join(r.line() + b"\n" for r in ROWS[1::-1]),
        "t.jsonl:2",
        "name",
        "a name after 'a.weight'",
        "'a.bias'",
    ),
    "name twice": (GOOD + ROWS[2].line() + b"\n", "t.jsonl:4", "name", "a name after 'b'", "'b'"),
    "key order": (
        b'{"dtype":"float32","alias":null' + ROWS[1].line()[len(b'{"alias":null,"dtype":"float32"') :] + b"\n",
        "t.jsonl:1",
        "byte 2",
        *CANONICAL,
    ),
    "space": (replaced(b'"alias":null', b'"alias": null'), "t.jsonl:1", "byte 9", *CANONICAL),
    "escape": (replaced(b"a.weight", b"\\u0061.weight"), "t.jsonl:1", f"byte {LINE.index(b'a.weight')}", *CANONICAL),
    "key twice": (
        replaced(b'"alias":null', b'"alias":null,"alias":null'),
        "t.jsonl:1",
        "alias",
        "each key once",
        "the key twice",
    ),
    "float": (
        replaced(b'"nbytes":24', b'"nbytes":24.0'),
        "t.jsonl:1",
        "",
        "integers only (RFC 8785, restricted)",
        "number 24.0",
    ),
    "unknown key": (edited(note=""), "t.jsonl:1", "note", "only the keys of the specification", "an unknown key"),
    "integer as text": (edited(nbytes="24"), "t.jsonl:1", "nbytes", "an integer", "a string"),
    "boolean in shape": (edited(shape=[2, True]), "t.jsonl:1", "shape[1]", "an integer", "a boolean"),
    "negative size": (edited(shape=[2, -3]), "t.jsonl:1", "shape[1]", "an integer from 0 to 9007199254740991", "-3"),
    "negative stride": (
        edited(stride=[-3, 1]),
        "t.jsonl:1",
        "stride[0]",
        "an integer from 0 to 9007199254740991",
        "-3",
    ),
    "nbytes beyond 2^53": (
        replaced(b'"nbytes":24', b'"nbytes":9007199254740992'),
        "t.jsonl:1",
        "",
        "an integer within 2^53 - 1, no -0",
        "9007199254740992",
    ),
    "stride too short": (edited(stride=[1]), "t.jsonl:1", "stride", "2 entries, one per dimension", "1"),
    "stride too long": (edited(stride=[3, 1, 1]), "t.jsonl:1", "stride", "2 entries, one per dimension", "3"),
    "stride with a gap": (
        edited(stride=[4, 1]),
        "t.jsonl:1",
        "stride",
        "a permutation without gaps or overlaps",
        "[4, 1]",
    ),
    "stride with an overlap": (
        edited(stride=[0, 1]),
        "t.jsonl:1",
        "stride",
        "a permutation without gaps or overlaps",
        "[0, 1]",
    ),
    "stride of a size-one dimension": (
        edited(shape=[1, 6], stride=[99, 1]),
        "t.jsonl:1",
        "stride",
        "row-major strides in dimensions of size <= 1",
        "[99, 1]",
    ),
    "stride of an empty tensor": (
        edited(shape=[0, 6], stride=[6, 2], nbytes=0),
        "t.jsonl:1",
        "stride",
        "a permutation without gaps or overlaps",
        "[6, 2]",
    ),
    "materialized, not row-major": (
        edited(layout="materialized-v1", stride=[1, 2]),
        "t.jsonl:1",
        "stride",
        "row-major in layout materialized-v1",
        "[1, 2]",
    ),
    "nbytes not from shape": (edited(nbytes=20), "t.jsonl:1", "nbytes", "24, from shape and dtype", "20"),
    "nbytes not from dtype": (edited(dtype="float16"), "t.jsonl:1", "nbytes", "12, from shape and dtype", "24"),
    "shape whose product wraps at 64 bits": (
        edited(shape=[2**32, 2**32], stride=[2**32, 1], nbytes=0),
        "t.jsonl:1",
        "nbytes",
        f"{4 * 2**64}, from shape and dtype",
        "0",
    ),
    "unknown dtype": (
        edited(dtype="float24"),
        "t.jsonl:1",
        "dtype",
        " or ".join(repr(d) for d in sorted(DTYPES)),
        "'float24'",
    ),
    "unknown role": (edited(role="weight"), "t.jsonl:1", "role", " or ".join(repr(r) for r in ROLES), "'weight'"),
    "unknown layout": (edited(layout="tiled"), "t.jsonl:1", "layout", " or ".join(repr(x) for x in LAYOUTS), "'tiled'"),
    "layout of the other view": (
        edited(layout="canonical"),
        "t.jsonl:1",
        "layout",
        "a layout of the view kernel",
        "'canonical'",
    ),
    "empty name": (edited(name=""), "t.jsonl:1", "name", "a string that is not empty", "an empty one"),
    "not NFC": (edited(name="a\u0308"), "t.jsonl:1", "name", "a name in Unicode normalisation form C", repr("a\u0308")),
    "short digest": (edited(sha256="ab"), "t.jsonl:1", "sha256", "64 lowercase hexadecimal digits", "'ab'"),
    "capital digest": (
        edited(fsverity64k="AB" * 32),
        "t.jsonl:1",
        "fsverity64k",
        "64 lowercase hexadecimal digits",
        repr("AB" * 32),
    ),
    "alias to nothing": (
        table(row("a"), row("b", alias="x")).data,
        "t.jsonl",
        "b: alias",
        "the name of a primary row before it",
        "'x'",
    ),
    "alias to itself": (
        table(row("b", alias="b")).data,
        "t.jsonl",
        "b: alias",
        "the name of a primary row before it",
        "'b'",
    ),
    "alias to a later row": (
        table(row("a", alias="b"), row("b")).data,
        "t.jsonl",
        "a: alias",
        "the name of a primary row before it",
        "'b'",
    ),
    "alias to an alias": (
        table(row("a"), row("b", alias="a"), row("c", alias="b")).data,
        "t.jsonl",
        "c: alias",
        "the name of a primary row before it",
        "'b'",
    ),
    "alias with another digest": (
        table(row("a"), row("b", alias="a", sha256="0" * 64)).data,
        "t.jsonl",
        "b: alias",
        "dtype, size and digests of 'a'",
        "others",
    ),
    "alias with another dtype": (
        table(row("a"), row("b", alias="a", dtype="int32")).data,
        "t.jsonl",
        "b: alias",
        "dtype, size and digests of 'a'",
        "others",
    ),
    "empty alias": (edited(alias=""), "t.jsonl", "a.weight: alias", "the name of a primary row before it", "''"),
    "not an object": (b"[]\n", "t.jsonl:1", "", "an object", "an array"),
    "two values": (replaced(b"}\n", b"}{}\n"), "t.jsonl:1", f"byte {len(LINE)}", "one JSON value", "Extra data"),
}


@pytest.mark.requirement("REQ-MAN-01")
@pytest.mark.parametrize("case", REFUSED)
def test_parse_table_refuses(case: str) -> None:
    data, file, field, expected, found = REFUSED[case]
    with pytest.raises(MalformedArtefact) as caught:
        parse(data)
    error = caught.value
    assert (error.file, error.field, error.expected, error.found) == (file, field, expected, found)


@pytest.mark.requirement("REQ-MAN-01")
@pytest.mark.parametrize("key", sorted(json.loads(ROWS[0].line())))
def test_every_key_is_required(key: str) -> None:
    with pytest.raises(MalformedArtefact, match=rf"^t\.jsonl:1: {key}: expected a value, found no such key$"):
        parse(edited(**{key: "DELETE"}))


@pytest.mark.parametrize(
    ("change", "field", "found"),
    [
        ({"layout": "strided"}, "layout", "'strided', alias None"),
        ({"stride": [1, 2]}, "stride", "[1, 2]"),
        ({"alias": "a"}, "layout", "'canonical', alias 'a'"),
    ],
)
def test_a_logical_table_is_row_major_and_without_aliases(change: dict[str, Any], field: str, found: str) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        parse(edited(**({"layout": "canonical"} | change)), "logical")
    assert (caught.value.file, caught.value.field, caught.value.found) == ("t.jsonl:1", field, found)


def view(name: str, address: int, nbytes: int = 8, **change: Any) -> TensorView:
    return TensorView(
        name=name,
        dtype=change.get("dtype", "float32"),
        shape=(nbytes // 4,),
        stride=(1,),
        nbytes=nbytes,
        layout=change.get("layout", "strided"),
        role="parameter",
        extent=change.get("extent", Extent(device=change.get("device", "cpu"), address=address, nbytes=nbytes)),
        read=lambda start, stop: memoryview(bytes(stop - start)),
    )


class TestAliases:
    @pytest.mark.requirement("REQ-MAN-05")
    def test_smallest_name_is_the_primary(self) -> None:
        views = (view("z", 64), view("lm_head", 64), view("embed", 64), view("other", 128))
        assert alias_map(views) == {"lm_head": "embed", "z": "embed"}

    @pytest.mark.parametrize(
        "other",
        [
            view("b", 64, 4),
            view("b", 60),
            view("b", 64, dtype="int32"),
            view("b", 64, device="cuda:0"),
            view("b", 64, layout="materialized-v1"),
            view("b", 64, extent=None),
        ],
        ids=["prefix", "overlap", "dtype", "device", "materialized", "file"],
    )
    def test_what_is_not_the_same_extent_and_type_is_no_alias(self, other: TensorView) -> None:
        assert alias_map((view("a", 64), other)) == {}

    def test_empty_tensors_share_nothing(self) -> None:
        assert alias_map((view("a", 64, 0), view("b", 64, 0))) == {}


class TestLeaves:
    def test_cut_in_table_order_without_aliases(self) -> None:
        big = row("a", (65_537,), "uint8")
        rows = (big, replace(big, name="b", alias="a"), row("c", (1,), "uint8"), row("d", (0,), "uint8"))
        data = bytes(range(96))
        assert split_leaves(table(*rows), data, "leaves.bin") == {"a": data[:64], "c": data[64:], "d": b""}
        assert [leaves_of(r) for r in rows] == [2, 2, 1, 0]

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_length_must_be_that_of_the_table(self, length: int) -> None:
        with pytest.raises(MalformedArtefact) as caught:
            split_leaves(table(row("a")), bytes(length), "leaves.bin")
        assert str(caught.value) == f"leaves.bin: expected 32 bytes, 32 per leaf, found {length} bytes"
