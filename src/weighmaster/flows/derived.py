# SPDX-License-Identifier: Apache-2.0
"""What a statement says of the pack that a model was loaded from, and of reports about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighmaster.core.derivation import Derivation, Report
from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.flows.pack_seal import derivation_of
from weighmaster.flows.report import summary
from weighmaster.pack.packed import INDEX
from weighmaster.pack.reader import open_pack

__all__ = ["ReportReference", "derived", "is_pack", "named", "read_reference", "reports_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReference:
    """A report as a statement refers to it, and the root of the pack that it is about."""

    report: Report
    pack: str
    file: str


def is_pack(source: Path | str | None) -> bool:
    """Tell whether a directory is a pack."""
    return source is not None and (Path(source) / INDEX).is_file()


def read_reference(path: Path | str) -> ReportReference:
    """Read a report, strictly, and return what a statement says of it.

    Raises:
        UsageError: there is none.
        MalformedArtefact: it breaks its format.
        StorageError: it cannot be read.
    """
    said = summary(Path(path))
    try:
        report = Report(format=said.format, sha256=said.sha256, metrics=said.metrics)
    except ValueError as error:
        raise MalformedArtefact(str(path), "metrics", expected="figures for a statement", found=str(error)) from None
    return ReportReference(report=report, pack=said.root, file=str(path))


def reports_of(pack: str, references: Sequence[ReportReference]) -> tuple[Report, ...]:
    """Return the reports, which must all be about the pack with this root.

    Raises:
        UsageError: one is about another pack.
    """
    for reference in references:
        if reference.pack != pack:
            raise UsageError(f"{reference.file}: is about another pack; expected {pack}, found {reference.pack}")
    return tuple(reference.report for reference in references)


def named(references: Sequence[ReportReference]) -> tuple[tuple[str, str], ...]:
    """Return what `validation` names: the format of each report and its digest."""
    return tuple((reference.report.format, reference.report.sha256) for reference in references)


def derived(model: Any, source: Path | str | None, references: Sequence[ReportReference]) -> Derivation | None:
    """Return the derivation of a live model that was loaded from `source`; None where that is no pack.

    Raises:
        UsageError: `source` is a pack and the model was not loaded from it, or a report is about another pack.
        MalformedArtefact: the pack breaks spec/pack.md.
    """
    if source is None or not is_pack(source):
        return None
    from weighmaster.capture.hf_quantizer import loaded_from  # noqa: PLC0415  # imports transformers

    loaded = loaded_from(model)
    with open_pack(source) as pack:
        found = "nothing that is known here" if loaded is None else f"the pack {loaded.root}"
        if loaded is None or loaded.root != pack.root:
            raise UsageError(f"{source}: the model was not loaded from this pack; expected {pack.root}, found {found}")
        return derivation_of(pack, reports_of(pack.root, references))
