# SPDX-License-Identifier: Apache-2.0
"""core.manifest.parse_table, in both views; a table that is accepted is written from its rows alone."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.manifest import Table, parse_table
from weighmaster.core.tensor import ViewKind

JSON = True
SEEDS = ("vectors/manifest/*/manifest/tensors.*.jsonl",)


def one(data: bytes) -> None:
    """Read as a kernel table and as a logical one."""
    _one(data, "S3", "kernel")
    _one(data, "S0", "logical")


def _one(data: bytes, stage: str, view: ViewKind) -> None:
    # The table keeps the bytes that it was read from: it is written from a copy that has only the rows.
    round_trip(
        data,
        read=lambda d: parse_table(d, stage=stage, view=view, file="file"),
        write=lambda t: Table(stage=t.stage, view=t.view, rows=t.rows).data,
    )
