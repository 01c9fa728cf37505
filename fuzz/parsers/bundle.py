# SPDX-License-Identifier: Apache-2.0
"""seal.bundle.parse_bundle: any spelling of the JSON, one reading."""

from __future__ import annotations

from fuzz.harness import read_again
from weighmaster.core.canonical import dumps, loads
from weighmaster.seal.bundle import parse_bundle

JSON = True
SEEDS = ("vectors/seal/*/*.sigstore.json",)


def one(data: bytes) -> None:
    """A bundle is not signed itself; its canonical spelling holds the same payload and signature."""
    read_again(data, read=lambda d: parse_bundle(d, "file"), respell=lambda d: dumps(loads(d, "file")))
