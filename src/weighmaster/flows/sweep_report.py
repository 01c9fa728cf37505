# SPDX-License-Identifier: Apache-2.0
"""The report of a sweep: ``sweep.json``, ``sweep.md`` and, where matplotlib is installed, ``sweep.svg``."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

from weighmaster.core.canonical import dumps
from weighmaster.core.number import decimal_text
from weighmaster.core.sweep import CaseFigures, FactChange, Result
from weighmaster.durable import write_atomically
from weighmaster.flows.sweep import Sweep

__all__ = ["document", "markdown", "write_report"]

_NO_PICTURE: Final = "no heat map: matplotlib is not installed (pip install 'weighmaster[report]')"
_WORDS: Final = {"changed": "bits changed", "failed": "FAILED", "not-run": "NOT RUN", "same": "same bits"}


def write_report(swept: Sweep, directory: Path) -> tuple[str, ...]:
    """Write the files and return their names."""
    svg, note = _picture(swept)
    files = {"sweep.json": dumps(document(swept)), "sweep.md": markdown(swept, note).encode("utf-8")}
    if svg is not None:
        files["sweep.svg"] = svg
    for name, data in files.items():
        write_atomically(directory / name, data)
    return tuple(files)


def _picture(swept: Sweep) -> tuple[bytes | None, str]:
    try:
        from weighmaster.flows.sweep_picture import heat_map  # noqa: PLC0415  # imports matplotlib
    except ImportError:
        return None, _NO_PICTURE
    svg = heat_map(swept)
    return svg, "![relative error by configuration and case](sweep.svg)" if svg else "no heat map: nothing was compared"


def document(swept: Sweep) -> dict[str, object]:
    """Return the report as a JSON object; measured numbers are decimal texts."""
    return {
        "binding": swept.binding,
        "cases": swept.cases,
        "classDigest": swept.class_digest,
        "model": swept.model,
        "narrow": swept.narrow,
        "results": [_result(r) for r in swept.results],
        "scheme": "sweep-v1",
        "unsteady": swept.unsteady,
    }


def _result(result: Result) -> dict[str, object]:
    first = result.first
    return {
        "against": result.against,
        "cases": [_case(case) for case in result.cases],
        "changed": result.changed,
        "configuration": result.configuration,
        "elements": result.elements,
        "facts": [_fact(change) for change in result.facts],
        "first": None
        if first is None
        else {"index": first.index, "module": first.module, "of": first.of, "subsystem": first.subsystem},
        "level": result.level,
        "reason": result.reason,
        "relative": _text(result.relative),
        "share": _share(result.changed, result.elements),
        "status": result.status,
    }


def _case(case: CaseFigures) -> dict[str, object]:
    return {
        "changed": case.changed,
        "difference": _text(case.difference),
        "distance": _text(case.distance),
        "elements": case.elements,
        "first": case.first.module if case.first is not None else None,
        "id": case.id,
        "near": case.near,
        "relative": _text(case.relative),
        "share": _share(case.changed, case.elements),
    }


def _fact(change: FactChange) -> dict[str, object]:
    before, after = change.before, change.after
    return {
        "after": after.document() if after is not None else None,
        "before": before.document() if before is not None else None,
        "name": change.name,
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def _share(part: int, whole: int) -> str:
    return decimal_text(part / whole) if whole else "0"


def markdown(swept: Sweep, note: str) -> str:
    """Return the report for people; `note` is the picture, or why there is none."""
    rows = [
        "| configuration | against | result | elements changed | largest relative error | first module | computed by |"
    ]
    rows += ["|---|---|---|---|---|---|---|", *(_row(result) for result in swept.results)]
    about = f"Model `{swept.model}`, environment class `{swept.class_digest}`, {len(swept.cases)} cases"
    parts = [
        "# Which configurations change output bits",
        f"{about}: {', '.join(swept.cases)}. The baseline ran twice, with the same bits.",
        *_notes(swept),
        "\n".join(rows),
        note,
        "## Facts of the environment that differ",
        "\n".join(_facts(swept)) or "None.",
    ]
    return "\n\n".join(parts) + "\n"


def _notes(swept: Sweep) -> list[str]:
    notes = []
    if swept.narrow:
        notes.append(
            "The float64 run is not float64 throughout: the model itself computes in a narrower type in "
            f"{', '.join(f'`{name}`' for name in swept.narrow)}. Distances to it do not see the error of those."
        )
    if swept.unsteady:
        names = ", ".join(f"`{n}`" for n in swept.unsteady)
        notes.append(f"Facts that differ from run to run, and are compared nowhere: {names}.")
    return notes


def _row(result: Result) -> str:
    cells = [f"`{result.configuration}`", result.against, _WORDS[result.status]]
    if not result.cases:
        return f"| {' | '.join(cells)}: {_cell(result.reason)} | | | | |"
    share = f"{result.changed:,} of {result.elements:,} ({result.changed / max(result.elements, 1):.1%})"
    relative = "not finite" if result.relative is None else f"{result.relative:.1e}" if result.relative else "0"
    first = result.first
    where = (f"`{_cell(first.module)}` {first.index}/{first.of}", first.subsystem) if first else ("-", "-")
    return f"| {' | '.join([*cells, share, relative, *where])} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _facts(swept: Sweep) -> list[str]:
    return [
        f"- `{result.configuration}`: {change.name}: {_shown(change)}"
        for result in swept.results
        for change in result.facts
    ]


def _shown(change: FactChange) -> str:
    before, after = ("not there" if side is None else side.shown() for side in (change.before, change.after))
    return f"{before} → {after}"
