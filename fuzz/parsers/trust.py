# SPDX-License-Identifier: Apache-2.0
"""seal.trust_document.parse_document: the payload below the signatures of a trust file."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from fuzz.harness import ROOT, round_trip
from weighmaster.seal.trust_document import parse_document, trust_to_bytes

JSON = True
SEEDS = ()


def _payloads() -> Iterator[bytes]:
    for path in sorted(ROOT.glob("vectors/*/*/trust.json")):
        try:
            for envelope in json.loads(path.read_bytes())["envelopes"]:
                yield base64.b64decode(envelope["payload"])
        except (ValueError, KeyError, TypeError):
            continue


INPUTS = tuple(_payloads())


def one(data: bytes) -> None:
    """What is accepted is what would be signed."""
    round_trip(data, read=lambda d: parse_document(d, "file"), write=trust_to_bytes)
