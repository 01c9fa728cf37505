# SPDX-License-Identifier: Apache-2.0
"""seal.certificates.parse_certificate, and what is read of one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import Encoding

from fuzz.harness import ROOT, round_trip
from weighmaster.seal.certificates import parse_certificate

SEEDS = ()


def _certificates() -> Iterator[bytes]:
    for path in sorted(ROOT.glob("vectors/seal/certificate*/*.sigstore.json")):
        try:
            yield base64.b64decode(json.loads(path.read_bytes())["verificationMaterial"]["certificate"]["rawBytes"])
        except (ValueError, KeyError, TypeError):
            continue


INPUTS = tuple(_certificates())


def one(data: bytes) -> None:
    """What is accepted is written as it was read; all else is a ValueError."""
    round_trip(data, read=parse_certificate, write=lambda c: c.public_bytes(Encoding.DER), refusals=(ValueError,))
