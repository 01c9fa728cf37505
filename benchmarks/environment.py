# SPDX-License-Identifier: Apache-2.0
"""Measure how long the environment takes to collect, beside ``torch.utils.collect_env``; see ``report.py``.

``--quick`` is a smoke run that writes no result.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import report
from digest import child
from measure import machine, note, spent

HERE: Final = Path(__file__).parent
_OURS: Final = """
import torch
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.probe.collect import collect
print(collect(torch_facts()).class_digest)
"""
_PROCESSES: Final = {
    "import": ["-c", "import torch"],
    "collect_env": ["-m", "torch.utils.collect_env"],
    "ours": ["-c", _OURS],
}
"""What is measured as a whole process, from its start to its end."""


def measure(repeats: int) -> dict[str, Any]:
    """Measure every case once in each round, in fresh processes."""
    out: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg()}
    collected: dict[str, list[dict[str, Any]]] = {"torch": [], "transformers": []}
    cases: dict[str, list[dict[str, float]]] = {name: [] for name in _PROCESSES}
    for number in range(repeats):
        for kind, runs in collected.items():
            runs.append(child("collect", "--kind", kind))
        for name, runs in cases.items():
            runs.append(spent(lambda name=name: _quiet(_PROCESSES[name])))
        note(f"    repeat {number + 1} of {repeats}")
    return out | {"collect": collected, "peers": {"process": {"cases": cases}}, "load_after": os.getloadavg()}


def _quiet(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repeat; its figures mean nothing")
    repeats, now = 1 if parser.parse_args().quick else 5, datetime.datetime.now(datetime.UTC)
    kept: list[dict[str, Any]] = []
    seconds = spent(lambda: kept.append(measure(repeats)))["wall"]
    head = {"date": now.date().isoformat(), "quick": repeats == 1, "seconds": seconds}
    result = head | {"parameters": {"repeats": repeats}} | kept[0]
    if repeats == 1:
        print("\n\n".join(report.environment_section(result, "(quick run: the figures mean nothing)")))
        return
    path = HERE / "results" / f"environment-{now.date().isoformat()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report.write()
    note(f"written: {path.name} and README.md")


if __name__ == "__main__":
    main()
