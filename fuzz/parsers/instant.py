# SPDX-License-Identifier: Apache-2.0
"""core.instant.parse_instant: moments, in one spelling."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.instant import instant_text, parse_instant

SEEDS = ()
INPUTS = (b"2026-11-24T12:00:00Z", b"9999-12-31T23:59:59Z", b"2026-06-30T23:59:60Z", b"2024-02-29T00:00:00Z")


def one(data: bytes) -> None:
    """What is accepted is what would be written, from the year 1000 on."""
    if not data.startswith(b"0"):
        round_trip(
            data,
            read=lambda d: parse_instant(d.decode("utf-8")),
            write=lambda moment: instant_text(moment).encode(),
            refusals=(ValueError,),
        )
