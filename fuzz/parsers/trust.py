# SPDX-License-Identifier: Apache-2.0
"""seal.trust.parse_trust: any spelling of the JSON, one reading."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.seal.trust import parse_trust, trust_to_bytes

JSON = True
SEEDS = ("vectors/seal/*/trust.json",)


def one(data: bytes) -> None:
    """What is accepted is written, and read as the same trust."""
    round_trip(data, read=lambda d: parse_trust(d, "file"), write=trust_to_bytes, canonical=False)
