# SPDX-License-Identifier: Apache-2.0
"""What a report on a pack says, for print, and where it goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from weighmaster.cli.printing import pairs
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.flows.report import WrittenReport

__all__ = ["new_report", "report_document", "report_text"]


def new_report(pack: Path, chosen: Path | None) -> Path:
    """Return the directory of the report on a pack: the chosen one, or ``PACK.report`` beside it.

    Raises:
        UsageError: it exists. This is said before anything is packed or measured.
    """
    named = pack if pack.name not in {"", ".."} else pack.resolve()
    out = chosen or named.with_name(f"{named.name}.report")
    if out.exists():
        raise UsageError(f"{out}: exists already and is not overwritten; choose a new directory for the report")
    return out


def report_document(done: WrittenReport) -> dict[str, object]:
    """Return the main figures of a report as JSON."""
    from weighmaster.flows.report import JSON, summary  # noqa: PLC0415  # imports numpy

    said = summary(done.directory / JSON)
    return {
        "directory": str(done.directory),
        "format": said.format,
        "sha256": said.sha256,
        "root": said.root,
        "originChecked": False,
        "figures": dict(said.metrics),
        "note": done.note,
    }


def report_text(done: WrittenReport) -> str:
    """Return the main figures of a report."""
    from weighmaster.flows.report_content import sections  # noqa: PLC0415

    rows = [*sections(done.report)[0].rows, ("Origin", "not checked"), ("Report", f"{done.directory}/report.html")]
    if done.note:
        rows.append(("Note", done.note))
    return pairs(rows)
