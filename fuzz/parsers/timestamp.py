# SPDX-License-Identifier: Apache-2.0
"""seal.timestamps.claimed_time: an RFC 3161 response, before anything in it is verified."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from fuzz.harness import ROOT, refused_or_read
from weighmaster.errors import SignatureFault
from weighmaster.seal.timestamps import claimed_time

SEEDS = ()


def _pairs() -> Iterator[tuple[bytes, bytes]]:
    for path in sorted(ROOT.glob("vectors/seal/*/*.sigstore.json")):
        try:
            bundle = json.loads(path.read_bytes())
            stamps = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
            signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
            yield base64.b64decode(stamps[0]["signedTimestamp"]), signature
        except (ValueError, KeyError, TypeError, IndexError):
            continue


_PAIRS = tuple(_pairs())
INPUTS = tuple(stamp for stamp, _ in _PAIRS)
_SIGNATURES = tuple(dict.fromkeys(signature for _, signature in _PAIRS))[:3]


def one(data: bytes) -> None:
    """A moment, or a SignatureFault; the library underneath raises many things."""
    for signature in _SIGNATURES:
        refused_or_read(data, lambda d, value=signature: claimed_time(d, value, "file"), (SignatureFault,))
