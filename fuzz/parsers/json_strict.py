# SPDX-License-Identifier: Apache-2.0
"""core.canonical.loads: strict JSON in any spelling."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.canonical import dumps, loads

JSON = True
SEEDS = ("vectors/seal/*/*.json", "vectors/manifest/*/manifest/statement.json")
INPUTS = (
    b'{"a":[1,-9007199254740991,"x\\ud83d\\ude00",null,true]}',
    b'{"a":1,"a":2}',
    b'{"\\ud800":1,"\\ud800":2}',
    b'"\\ud800"',
    b"-0",
    b"1e5",
    b"NaN",
    b"\xef\xbb\xbf1",
    b"[" * 70 + b"]" * 70,
)


def one(data: bytes) -> None:
    """Any spelling is taken, and its canonical form says the same."""
    round_trip(data, read=lambda d: [loads(d, "file")], write=lambda v: dumps(v[0]), canonical=False)
