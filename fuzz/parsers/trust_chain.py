# SPDX-License-Identifier: Apache-2.0
"""seal.trust_chain: parse_chain, and open_trust under the pin of its own first document."""

from __future__ import annotations

from datetime import UTC, datetime

from fuzz.harness import MALFORMED, refused_or_read, round_trip
from weighmaster.errors import NotAdmitted
from weighmaster.seal.trust_chain import chain_to_bytes, open_trust, parse_chain

JSON = True
SEEDS = ("vectors/trust/*/trust.json", "vectors/seal/*/trust.json")
_NOW = datetime(2026, 11, 24, tzinfo=UTC)


def one(data: bytes) -> None:
    """Any spelling around the documents is taken; what does not hold is refused in documented ways."""
    round_trip(data, read=lambda d: parse_chain(d, "file"), write=chain_to_bytes, canonical=False)
    chain = refused_or_read(data, lambda d: parse_chain(d, "file"))
    if chain is not None:
        pin = chain.envelopes[0].trust.roots.fingerprint
        refused_or_read(data, lambda d: open_trust(d, "file", roots=pin, now=_NOW), (*MALFORMED, NotAdmitted))
