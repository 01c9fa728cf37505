# SPDX-License-Identifier: Apache-2.0
"""core.environment.parse_environment."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.environment import Environment, parse_environment

JSON = True
SEEDS = ("vectors/manifest/*/manifest/environment.json", "vectors/environment/*/*.json")


def one(data: bytes) -> None:
    """What is accepted is what would be written."""
    round_trip(data, read=lambda d: parse_environment(d, "file"), write=Environment.to_bytes)
