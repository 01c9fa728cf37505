# SPDX-License-Identifier: Apache-2.0
"""seal.timestamps: an RFC 3161 response over a signature."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from fuzz.harness import ROOT, refused_or_read, require
from weighmaster.errors import SignatureFault
from weighmaster.seal.keys import load_public
from weighmaster.seal.timestamps import claimed_time, trusted_time
from weighmaster.seal.trust import RootKey, Roots, TimestampAuthority, Trust

FOLDER: Final = ROOT / "vectors" / "seal" / "tsa"
NOW: Final = datetime(2100, 1, 1, tzinfo=UTC)
KEY: Final = load_public(ROOT / "tests" / "unit" / "seal" / "evidence" / "tools.pub")
STAMPS: Final = TimestampAuthority(
    name="stamps", certificates=(x509.load_pem_x509_certificate((FOLDER / "root.pem").read_bytes()),)
)
TRUST: Final = Trust(
    expires=NOW + timedelta(days=1),
    roots=Roots(keys=(RootKey(person="Rosa", key=KEY),), threshold=1),
    timestamp_authorities=(STAMPS,),
)
SEEDS = ("vectors/seal/tsa/response.tsr",)
INPUTS = (b"0\x03\x02\x01\x00",)


def one(data: bytes) -> None:
    """No damage makes a timestamp over other bytes than those that it was made for."""
    refused_or_read(data, lambda d: claimed_time(d, b"signature", "file"), (SignatureFault,))
    held = refused_or_read(
        data, lambda d: trusted_time(d, b"another signature", "file", trust=TRUST, now=NOW), (SignatureFault,)
    )
    require(held is None, "a timestamp over other bytes holds")
