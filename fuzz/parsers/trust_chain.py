# SPDX-License-Identifier: Apache-2.0
"""seal.trust_chain.parse_chain and verify_chain: any spelling around the documents, one reading."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Final

from fuzz.harness import refused_or_read, round_trip
from weighmaster.core.instant import parse_instant
from weighmaster.errors import MalformedArtefact, NotAdmitted
from weighmaster.seal.trust_chain import VerifiedTrust, chain_to_bytes, open_trust, parse_chain

VECTORS: Final = Path(__file__).parents[2] / "vectors" / "trust"
PIN: Final = json.loads((VECTORS / "one" / "request.json").read_bytes())["roots"]
JSON = True
SEEDS = ("vectors/trust/*/trust.json",)
INPUTS = ()


def documents() -> tuple[bytes, ...]:
    """Return the documents in the vectors, for the fuzzer of the documents."""
    files = [json.loads((VECTORS / case / "trust.json").read_bytes()) for case in ("everything", "after_rotation")]
    return tuple(base64.b64decode(e["payload"]) for value in files for e in value["envelopes"])


def one(data: bytes) -> None:
    """What is accepted is written, and read as the same file; whether it holds is refused in words, or said."""
    round_trip(data, read=lambda d: parse_chain(d, "file"), write=chain_to_bytes, canonical=False)
    refused_or_read(data, _opened, (MalformedArtefact, NotAdmitted))


def _opened(data: bytes) -> VerifiedTrust:
    return open_trust(data, "file", roots=PIN, now=parse_instant("2026-11-24T12:00:00Z"))
