# SPDX-License-Identifier: Apache-2.0
"""core.manifest.split_leaves; an input is a table, a NUL, and the file of leaves."""

from __future__ import annotations

from fuzz.harness import MALFORMED, ROOT, refused_or_read, require
from weighmaster.core.manifest import Table, parse_table, split_leaves
from weighmaster.errors import MalformedArtefact

JSON = True
SEEDS = ()
_LIVE = ROOT / "vectors" / "manifest" / "live" / "manifest"
_TABLE = (_LIVE / "tensors.S3.kernel.jsonl").read_bytes()
_LEAVES = (_LIVE / "leaves.S3.kernel.bin").read_bytes()
INPUTS = (_TABLE + b"\0" + _LEAVES, _TABLE + b"\0" + _LEAVES[:-1], _TABLE + b"\0", b"\0")


def one(data: bytes) -> None:
    """The parts are the whole again, one per primary row, or the length is refused."""
    head, _, leaves = data.partition(b"\0")
    try:
        table = parse_table(head, stage="S3", view="kernel", file="table")
    except MalformedArtefact:
        return
    parts = refused_or_read(leaves, lambda d: split_leaves(table, d, "leaves"), MALFORMED)
    require((parts is not None) == (len(leaves) == _expected(table)), "a length that does not follow from the table")
    if parts is not None:
        require(b"".join(parts.values()) == leaves, "the parts are not the whole")
        require(list(parts) == [row.name for row in table.rows if row.alias is None], "parts of other rows")


def _expected(table: Table) -> int:
    return sum(32 * ((row.nbytes + 65_535) // 65_536) for row in table.rows if row.alias is None)
