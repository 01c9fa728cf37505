# SPDX-License-Identifier: Apache-2.0
"""flows.mark.parse_mark: the durable high-water mark."""

from __future__ import annotations

import hashlib

from fuzz.harness import round_trip
from weighmaster.flows.mark import mark_to_bytes, parse_mark

JSON = True
SEEDS = ("vectors/trust/*/*mark*",)


def one(data: bytes) -> None:
    """As it lies, and with the digest that belongs to its line."""
    line = data.split(b"\n")[0] + b"\n"
    for whole in (data, line + hashlib.sha256(line).hexdigest().encode() + b"\n"):
        round_trip(whole, read=lambda d: parse_mark(d, "file"), write=mark_to_bytes)
