# SPDX-License-Identifier: Apache-2.0
"""core.waiver.parse_waiver: consent to named differences, in one spelling."""

from __future__ import annotations

import base64
import json

from fuzz.harness import ROOT, round_trip
from weighmaster.core.waiver import parse_waiver

JSON = True
SEEDS = ()
INPUTS = tuple(
    dict.fromkeys(
        base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"])
        for path in sorted((ROOT / "vectors" / "waiver").glob("[!.]*/*.sigstore.json"))
    )
)


def one(data: bytes) -> None:
    """What is accepted is what would be written."""
    round_trip(data, read=lambda d: parse_waiver(d, "file"), write=lambda waiver: waiver.to_bytes())
