# SPDX-License-Identifier: Apache-2.0
"""The table of a manifest: one canonical JSON line per tensor, sorted by name, with a Merkle root (manifest v1)."""

from __future__ import annotations

import hashlib
import io
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, get_args

from weighmaster.core import merkle
from weighmaster.core.canonical import MAX_SAFE_INTEGER, loads_canonical
from weighmaster.core.dtype import DTYPES
from weighmaster.core.fields import Fields
from weighmaster.core.tensor import LEAF, TensorView, ViewKind, canonical_stride, fills_extent, row_major
from weighmaster.errors import MalformedArtefact

__all__ = [
    "LAYOUTS",
    "ROLES",
    "STAGES",
    "Row",
    "Table",
    "alias_map",
    "leaves_of",
    "name_key",
    "parse_table",
    "split_leaves",
]

STAGES: Final = ("S0", "S1", "S2", "S3", "S4")
LAYOUTS: Final = ("canonical", "materialized-v1", "resolved-v1", "strided")
ROLES: Final = ("attribute", "buffer", "constant", "extra", "file", "inner", "non-persistent-buffer", "parameter")

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tensor of a table. All keys are required; `alias` is the name of the primary, or None.

    Attributes:
        name: unique, NFC, not empty.
        dtype: from the closed list of `core.dtype.DTYPES`.
        shape: elements per dimension.
        stride: elements to step per dimension.
        nbytes: length of B(t) in bytes.
        layout: one of `LAYOUTS`.
        role: one of `ROLES`.
        alias: the smallest name, in UTF-8 order, with the same device extent and dtype; None for that one itself.
        sha256: flat digest.
        fsverity64k: fs-verity digest.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    nbytes: int
    layout: str
    role: str
    alias: str | None
    sha256: str
    fsverity64k: str

    def line(self) -> bytes:
        """Return the RFC 8785 line, without LF.

        Raises:
            ValueError: a size beyond 2^53 - 1, which no reader takes, or a lone surrogate in a name.
        """
        if max((self.nbytes, *self.shape, *self.stride)) > MAX_SAFE_INTEGER:
            raise ValueError(f"{self.name}: a size beyond 2^53 - 1: {self.nbytes} bytes, shape {self.shape}")
        # Keys stand in canonical order and all values are strings, integers or null: the standard encoder's form is
        # the canonical one (a test holds it against the rfc8785 package).
        return _ENCODE(
            {
                "alias": self.alias,
                "dtype": self.dtype,
                "fsverity64k": self.fsverity64k,
                "layout": self.layout,
                "name": self.name,
                "nbytes": self.nbytes,
                "role": self.role,
                "sha256": self.sha256,
                "shape": self.shape,
                "stride": self.stride,
            }
        ).encode("utf-8")

    @property
    def form(self) -> tuple[object, ...]:
        """Everything but the digests: what must be equal before bytes can be."""
        return (self.dtype, self.shape, self.stride, self.nbytes, self.layout, self.role, self.alias)

    @property
    def gate_digest(self) -> str:
        """The digest that the gate compares: fs-verity above one leaf, flat up to that."""
        return self.fsverity64k if self.nbytes > LEAF else self.sha256


@dataclass(frozen=True, kw_only=True)
class Table:
    """All tensors of one snapshot: a stage and a view of one model.

    Attributes:
        stage: S0 files, S1 loaded, S2 post-processed, S3 steady state, S4 live.
        view: ``kernel`` or ``logical``.
        rows: sorted by the UTF-8 bytes of their names.
    """

    stage: str
    view: ViewKind
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        """Refuse what is no table.

        Raises:
            ValueError: unknown stage or view, rows out of order, or a name twice.
        """
        if self.stage not in STAGES or self.view not in get_args(ViewKind):
            raise ValueError(f"no such table: stage {self.stage!r}, view {self.view!r}")
        names = [name_key(row.name) for row in self.rows]
        if any(a >= b for a, b in pairwise(names)):
            raise ValueError("rows are not in strictly ascending order of their names' UTF-8 bytes")

    def lines(self) -> Iterator[bytes]:
        """Yield the lines in order, without LF."""
        return (row.line() for row in self.rows)

    @cached_property
    def data(self) -> bytes:
        """The bytes of the table file."""
        out = io.BytesIO()  # not a join, which would hold every line and the whole at once
        for line in self.lines():
            out.write(line + b"\n")
        return out.getvalue()

    @cached_property
    def root(self) -> str:
        """The Merkle root over the lines, 64 hexadecimal digits: the one-line identity of the weights."""
        return merkle.root(merkle.leaf_hash(line[:-1]) for line in io.BytesIO(self.data)).hex()

    @property
    def sha256(self) -> str:
        """Digest of the table file, for ``sha256sum``."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def primaries(self) -> tuple[Row, ...]:
        """Rows that are not aliases."""
        return tuple(row for row in self.rows if row.alias is None)

    @property
    def nbytes(self) -> int:
        """Bytes of the primaries."""
        return sum(row.nbytes for row in self.rows if row.alias is None)

    @property
    def file_name(self) -> str:
        """Name of the table file in a manifest directory."""
        return f"tensors.{self.stage}.{self.view}.jsonl"


def name_key(name: str) -> bytes:
    """Return the sort key of a name: its UTF-8 bytes."""
    return name.encode("utf-8")


def parse_table(data: bytes, *, stage: str, view: ViewKind, file: str) -> Table:
    """Parse a table file, strictly.

    Raises:
        MalformedArtefact: a line is not canonical, a field is wrong, rows are unsorted or repeated, the last line has
            no LF, an alias does not lead to an equal primary, or nbytes does not follow from shape and dtype.
    """
    if data and not data.endswith(b"\n"):
        raise MalformedArtefact(file, "", expected="a line feed after the last row", found="none")
    rows: list[Row] = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        where = f"{file}:{number}"
        row = _read_as_written(line, where, view) or _read_row(Fields(loads_canonical(line, where), file=where), view)
        if rows and name_key(rows[-1].name) >= name_key(row.name):
            raise MalformedArtefact(
                f"{file}:{number}", "name", expected=f"a name after {rows[-1].name!r}", found=repr(row.name)
            )
        rows.append(row)
    table = Table(stage=stage, view=view, rows=tuple(rows))
    _check_aliases(table, file)
    # The received bytes are what was signed: they are kept, though equal to what we would write.
    table.__dict__["data"] = data
    return table


def _read_as_written(line: bytes, where: str, view: ViewKind) -> Row | None:
    """Return the row of a line that is byte for byte what `Row.line` writes of it; None for any other line.

    Almost every line is one, and is in canonical form then, without the strict parser's walk through it: a key twice, a
    float or another spelling would be written otherwise. The strict parser says what is wrong with all others.
    """
    try:
        row = _read_row(Fields(json.loads(line), file=where), view)
        return row if row.line() == line else None
    except (ValueError, MalformedArtefact, RecursionError):
        return None


def _read_row(fields: Fields, view: ViewKind) -> Row:
    row = Row(
        name=fields.text("name"),
        dtype=fields.text("dtype", choices=frozenset(DTYPES)),
        shape=fields.integers("shape"),
        stride=fields.integers("stride"),
        nbytes=fields.integer("nbytes"),
        layout=fields.text("layout", choices=LAYOUTS),
        role=fields.text("role", choices=ROLES),
        alias=fields.optional_text("alias"),
        sha256=fields.digest("sha256"),
        fsverity64k=fields.digest("fsverity64k"),
    )
    fields.done()
    _check_row(row, fields, view)
    return row


def _check_row(row: Row, fields: Fields, view: ViewKind) -> None:
    if not unicodedata.is_normalized("NFC", row.name):
        raise fields.fault("name", "a name in Unicode normalisation form C", repr(row.name))
    if len(row.stride) != len(row.shape):
        raise fields.fault("stride", f"{len(row.shape)} entries, one per dimension", str(len(row.stride)))
    if row.stride != canonical_stride(row.shape, row.stride):
        raise fields.fault("stride", "row-major strides in dimensions of size <= 1", str(list(row.stride)))
    nbytes = DTYPES[row.dtype]
    for size in row.shape:
        nbytes *= size
    if nbytes != row.nbytes:
        raise fields.fault("nbytes", f"{nbytes}, from shape and dtype", str(row.nbytes))
    if row.layout == "strided" and not fills_extent(row.shape, row.stride):
        raise fields.fault("stride", "a permutation without gaps or overlaps", str(list(row.stride)))
    if row.layout != "strided" and row.stride != row_major(row.shape):
        raise fields.fault("stride", f"row-major in layout {row.layout}", str(list(row.stride)))
    if view == "kernel" and row.layout == "canonical":
        raise fields.fault("layout", "a layout of the view kernel", repr(row.layout))
    if view == "logical" and (row.layout != "canonical" or row.alias is not None):
        raise fields.fault(
            "layout", "'canonical', and no alias, in a logical table", f"{row.layout!r}, alias {row.alias!r}"
        )


def _check_aliases(table: Table, file: str) -> None:
    rows = {row.name: row for row in table.rows}
    for row in table.rows:
        if row.alias is None:
            continue
        primary = rows.get(row.alias)
        if primary is None or primary.alias is not None or name_key(row.alias) >= name_key(row.name):
            raise MalformedArtefact(
                file, f"{row.name}: alias", expected="the name of a primary row before it", found=repr(row.alias)
            )
        same = (primary.dtype, primary.nbytes, primary.sha256, primary.fsverity64k)
        if same != (row.dtype, row.nbytes, row.sha256, row.fsverity64k):
            raise MalformedArtefact(
                file, f"{row.name}: alias", expected=f"dtype, size and digests of {row.alias!r}", found="others"
            )


def alias_map(views: tuple[TensorView, ...]) -> dict[str, str]:
    """Return alias name to primary name, derived from live extents: same device extent and same dtype.

    Zero-element tensors have no extent to share and are never aliases.
    """
    primary: dict[tuple[object, ...], str] = {}
    out: dict[str, str] = {}
    for view in sorted(views, key=lambda v: name_key(v.name)):
        if view.extent is None or view.nbytes == 0 or view.layout != "strided":
            continue
        where = view.extent
        first = primary.setdefault((where.device, where.address, where.nbytes, view.dtype), view.name)
        if first != view.name:
            out[view.name] = first
    return out


def leaves_of(row: Row) -> int:
    """Return the number of 64 KiB leaves of a row."""
    return -(-row.nbytes // LEAF)


def split_leaves(table: Table, data: bytes, file: str) -> dict[str, bytes]:
    """Cut ``leaves.bin`` into the leaf digests of each primary row, in table order.

    The result is not yet bound: recompute `fsverity64k` from it before use (`core.digest.root_of_leaves`).

    Raises:
        MalformedArtefact: the file has not the length that the table asks for.
    """
    expected = 32 * sum(leaves_of(row) for row in table.primaries)
    if len(data) != expected:
        raise MalformedArtefact(file, "", expected=f"{expected} bytes, 32 per leaf", found=f"{len(data)} bytes")
    out, start = {}, 0
    for row in table.primaries:
        stop = start + 32 * leaves_of(row)
        out[row.name] = data[start:stop]
        start = stop
    return out
