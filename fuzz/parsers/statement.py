# SPDX-License-Identifier: Apache-2.0
"""core.statement_reader.parse_statement."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.statement import Statement
from weighmaster.core.statement_reader import parse_statement

JSON = True
SEEDS = ("vectors/manifest/*/manifest/statement.json",)


def one(data: bytes) -> None:
    """What is accepted is what would be signed, byte for byte."""
    round_trip(data, read=lambda d: parse_statement(d, "file"), write=Statement.to_bytes)
