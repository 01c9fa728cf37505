# SPDX-License-Identifier: Apache-2.0
"""core.waiver.parse_waiver: the payload below the signature."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from fuzz.harness import ROOT, round_trip
from weighmaster.core.waiver import Waiver, parse_waiver

JSON = True
SEEDS = ()


def _payloads() -> Iterator[bytes]:
    for path in sorted(ROOT.glob("vectors/waiver/*/*.sigstore.json")):
        try:
            yield base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"])
        except (ValueError, KeyError, TypeError):
            continue


INPUTS = tuple(_payloads())


def one(data: bytes) -> None:
    """What is accepted is what would be signed."""
    round_trip(data, read=lambda d: parse_waiver(d, "file"), write=Waiver.to_bytes)
