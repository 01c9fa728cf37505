# SPDX-License-Identifier: Apache-2.0
"""Add up the recorded runs, and write the table of README.md from them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fuzz import harness
from fuzz.driver import Run

__all__ = ["record", "table", "written"]

README: Final = harness.ROOT / "fuzz" / "README.md"
RESULTS: Final = harness.ROOT / "fuzz" / "results"
BEGIN: Final = "<!-- table: written by `python -m fuzz --record` -->\n"
END: Final = "<!-- end of table -->\n"


def record(runs: Iterable[Run]) -> None:
    """Add `runs` to the result of today, and write the table again."""
    path = RESULTS / f"{datetime.now(UTC).date().isoformat()}.json"
    old: list[dict[str, Any]] = json.loads(path.read_bytes())["runs"] if path.exists() else []
    new = [{key: getattr(run, key) for key in ("parser", "seconds", "runs", "edges", "findings")} for run in runs]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"runs": old + new}, indent=1) + "\n", encoding="utf-8")
    README.write_text(written(README.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")


def written(readme: str, results: Path) -> str:
    """Return the README with the table of these results."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + table(results) + END + tail


def table(results: Path) -> str:
    """Return one line per parser: time and inputs of all recorded runs, and the most edges that one reached."""
    runs = [run for path in sorted(results.glob("*.json")) for run in json.loads(path.read_bytes())["runs"]]
    lines = [
        "| parser | seconds | inputs | inputs/s | edges | inputs kept | runs that found something |",
        "|" + "---|" * 7,
    ]
    for name in harness.names():
        own = [run for run in runs if run["parser"] == name]
        seconds, inputs = sum(r["seconds"] for r in own), sum(r["runs"] for r in own)
        rate = round(inputs / seconds) if seconds else 0
        edges, found = max((r["edges"] for r in own), default=0), sum(bool(r["findings"]) for r in own)
        kept = len(harness.corpus(name))
        lines.append(f"| `{name}` | {seconds:.0f} | {inputs:,} | {rate:,} | {edges} | {kept} | {found} |")
    return "\n".join(lines) + "\n"
