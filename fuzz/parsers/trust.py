# SPDX-License-Identifier: Apache-2.0
"""seal.trust_document.parse_document: what keepers sign, in one spelling."""

from __future__ import annotations

from fuzz.harness import round_trip
from fuzz.parsers.trust_chain import documents
from weighmaster.seal.trust_document import parse_document, trust_to_bytes

JSON = True
SEEDS = ("vectors/seal/*/trust-document.json",)
INPUTS = documents()


def one(data: bytes) -> None:
    """What is accepted is what would be written."""
    round_trip(data, read=lambda d: parse_document(d, "file"), write=trust_to_bytes)
