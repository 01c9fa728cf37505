# SPDX-License-Identifier: Apache-2.0
"""pack.index.parse_index; an input is the first line of an index, and the last is made for it."""

from __future__ import annotations

import hashlib

from fuzz.harness import ROOT, round_trip
from weighmaster.pack.index import index_bytes, parse_index

JSON = True
SEEDS = ()
INPUTS = tuple(
    path.read_bytes()[:-66] for path in sorted(ROOT.glob("vectors/pack/*/pack/pack.index")) if path.stat().st_size
)


def one(data: bytes) -> None:
    """What is accepted is what would be written."""
    line = data + b"\n"
    whole = line + hashlib.sha256(line).hexdigest().encode() + b"\n"
    round_trip(whole, read=lambda d: parse_index(d, "pack.index"), write=index_bytes)
    round_trip(data, read=lambda d: parse_index(d, "pack.index"), write=index_bytes)
