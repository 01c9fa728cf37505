# SPDX-License-Identifier: Apache-2.0
"""core.pack_report_reader.parse_report."""

from __future__ import annotations

from tests.pack_reports import REPORTS

from fuzz.harness import round_trip
from weighmaster.core.pack_report import Report
from weighmaster.core.pack_report_reader import parse_report

JSON = True
SEEDS = ()
INPUTS = tuple(report.to_bytes() for report in REPORTS.values())


def one(data: bytes) -> None:
    """What is accepted is what would be written."""
    round_trip(data, read=lambda d: parse_report(d, "report.json"), write=Report.to_bytes)
