# SPDX-License-Identifier: Apache-2.0
"""core.pack_statement.parse_pack_statement: the payload below the signature."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.derivation import Encoder, Report
from weighmaster.core.pack_statement import PackStatement, parse_pack_statement

JSON = True
SEEDS = ()
_REPORT = Report(format="pack-report-v1", sha256="cd" * 32, metrics=(("bits", "5"), ("deviation", "0.001")))
INPUTS = tuple(
    PackStatement(
        product="thorax-triage",
        version="1",
        serial=7,
        root="ab" * 32,
        encoder=Encoder(name="weighmaster", version="1", profile=profile, bits=bits),
        calibration=calibration,
        tensors="ef" * 32,
        reports=reports,
    ).to_bytes()
    for profile, bits, calibration, reports in (
        ("exact", None, None, ()),
        ("datafree", "5.0", None, (_REPORT,)),
        ("calibrated", "4.5", "01" * 32, (_REPORT,)),
    )
)


def one(data: bytes) -> None:
    """What is accepted is what would be signed."""
    round_trip(data, read=lambda d: parse_pack_statement(d, "file"), write=PackStatement.to_bytes)
