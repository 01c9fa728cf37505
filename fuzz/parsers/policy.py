# SPDX-License-Identifier: Apache-2.0
"""core.policy.parse_policy and read_policy: the same document, in its one spelling and in any."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.policy import Policy, parse_policy, read_policy

JSON = True
SEEDS = ("vectors/environment/*/policy.json", "vectors/manifest/live/manifest/policy.json")


def one(data: bytes) -> None:
    """What is accepted is what would be written; what a person wrote is read as the same policy."""
    round_trip(data, read=lambda d: parse_policy(d, "file"), write=Policy.to_bytes)
    round_trip(data, read=lambda d: read_policy(d, "file"), write=Policy.to_bytes, canonical=False)
