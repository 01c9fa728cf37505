# SPDX-License-Identifier: Apache-2.0
"""core.structure.parse_structure."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.structure import Structure, parse_structure

JSON = True
SEEDS = ("vectors/structure/*/*.jsonl",)


def one(data: bytes) -> None:
    """What is accepted is what would be written."""
    round_trip(data, read=lambda d: parse_structure(d, "file"), write=lambda s: Structure(facts=s.facts).data)
