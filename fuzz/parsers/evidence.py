# SPDX-License-Identifier: Apache-2.0
"""seal.evidence: bundles by others; and the statements in them, which a signature hides from a fuzzer."""

from __future__ import annotations

import base64
import json
from typing import Final

from fuzz.harness import ROOT, refused_or_read
from weighmaster.core.source import Evidence
from weighmaster.errors import MalformedArtefact, NotWeighed
from weighmaster.seal import evidence
from weighmaster.seal.keys import load_public

FOLDER: Final = ROOT / "tests" / "unit" / "seal" / "evidence"
KEY: Final = load_public(FOLDER / "tools.pub")
JSON = True
SEEDS = ("tests/unit/seal/evidence/*.json",)
INPUTS = tuple(
    base64.b64decode(value["dsseEnvelope"]["payload"])
    for path in sorted(FOLDER.glob("*.json"))
    if "dsseEnvelope" in (value := json.loads(path.read_bytes()))
)


def one(data: bytes) -> None:
    """A bundle is refused in words, or read twice alike; so is a statement."""
    refused_or_read(data, _bundle, (MalformedArtefact, NotWeighed))
    refused_or_read(data, lambda d: evidence._read_statement(d, "file"))  # noqa: SLF001  # below the signature


def _bundle(data: bytes) -> Evidence:
    return evidence.verify_evidence(data, "file", KEY, (), is_source=lambda _: True)
