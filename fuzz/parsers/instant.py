# SPDX-License-Identifier: Apache-2.0
"""core.instant.parse_instant."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.instant import instant_text, parse_instant

SEEDS = ()
INPUTS = (
    b"2026-11-24T12:00:00Z",
    b"2024-02-29T23:59:59Z",
    b"2016-12-31T23:59:60Z",
    b"1000-01-01T00:00:00Z",
    b"0999-12-31T23:59:59Z",
)


def one(data: bytes) -> None:
    """A moment has one spelling."""
    round_trip(
        data,
        read=lambda d: parse_instant(d.decode("utf-8")),
        write=lambda moment: instant_text(moment).encode("ascii"),
        refusals=(ValueError,),
    )
