# SPDX-License-Identifier: Apache-2.0
"""core.policy.parse_policy and read_policy: rules in one spelling, and as people write them."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.policy import parse_policy, read_policy

JSON = True
SEEDS = ("vectors/environment/*/policy.json", "examples/environment-policy.json")


def one(data: bytes) -> None:
    """What is accepted in the one spelling is what would be written; in any other it says the same when written."""
    round_trip(data, read=lambda d: parse_policy(d, "file"), write=lambda policy: policy.to_bytes())
    round_trip(data, read=lambda d: read_policy(d, "file"), write=lambda policy: policy.to_bytes(), canonical=False)
