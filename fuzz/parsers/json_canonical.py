# SPDX-License-Identifier: Apache-2.0
"""core.canonical.loads_canonical: strict JSON in its one spelling."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.canonical import dumps, loads_canonical

JSON = True
SEEDS = ("vectors/manifest/*/manifest/statement.json", "vectors/manifest/*/manifest/environment.json")
INPUTS = ('{"\U0001f600":1,"\uffee":2}'.encode(), '"\u2028\\u0000\\\\"'.encode(), b"[ ]", b"0")


def one(data: bytes) -> None:
    """Only the canonical spelling is taken."""
    round_trip(data, read=lambda d: [loads_canonical(d, "file")], write=lambda v: dumps(v[0]))
