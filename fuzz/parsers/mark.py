# SPDX-License-Identifier: Apache-2.0
"""flows.mark.parse_mark: one line and its digest, in one spelling."""

from __future__ import annotations

import hashlib

from fuzz.harness import round_trip
from weighmaster.flows.mark import Mark, mark_to_bytes, parse_mark

JSON = True
SEEDS = ("vectors/trust/*/mark",)
INPUTS = ()


def one(data: bytes) -> None:
    """What is accepted is what would be written. The digest is made anew, for no fuzzer finds one."""
    round_trip(data, read=_read, write=lambda mark: mark_to_bytes(mark).split(b"\n")[0])


def _read(data: bytes) -> Mark:
    line = data + b"\n"
    return parse_mark(line + hashlib.sha256(line).hexdigest().encode() + b"\n", "file")
