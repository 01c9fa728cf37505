# SPDX-License-Identifier: Apache-2.0
"""How everything here is measured: CPU-seconds and wall seconds of interleaved repeats, peak memory, machine facts."""

from __future__ import annotations

import os
import resource
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["Peak", "cpu_seconds", "interleaved", "machine", "median", "note", "spent"]


def note(text: str) -> None:
    """Tell the person who waits what goes on."""
    print(text, file=sys.stderr, flush=True)


def cpu_seconds() -> float:
    """Return the CPU-seconds of all threads of this process and of its finished children, user and system."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def spent(work: Callable[[], object]) -> dict[str, float]:
    """Run `work` once and return its CPU-seconds and wall seconds."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    result = work()
    out = {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall}
    del result  # what the work returned is freed outside of the measurement
    return out


def interleaved(
    cases: Mapping[str, Callable[[], object]], repeats: int, *, also: Callable[[], object] | None = None
) -> dict[str, list[dict[str, float]]]:
    """Run all cases one after the other, `repeats` times over, so that a neighbour's load falls on all of them.

    Args:
        cases: what is measured, by name.
        repeats: rounds.
        also: run once in each round, in the middle of the cases: a control that measures itself.
    """
    out: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for number in range(repeats):
        for at, (name, work) in enumerate(cases.items()):
            if also is not None and at == len(cases) // 2:
                also()
            out[name].append(spent(work))
        note(f"    repeat {number + 1} of {repeats}")
    return out


def median(runs: list[dict[str, Any]], key: str) -> float:
    """Return the median of one figure over repeats."""
    return statistics.median(float(run[key]) for run in runs)


class Peak:
    """Peak resident memory from here on, beyond what is resident now (proc(5): ``VmHWM``, ``clear_refs``)."""

    def __init__(self) -> None:
        """Take the baseline; where the kernel does not let the peak be reset, the baseline is the old peak."""
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.reset = True
        except OSError:
            self.reset = False
        self.baseline = _status("VmRSS" if self.reset else "VmHWM")

    @property
    def growth(self) -> int:
        """Bytes by which the peak is above the baseline."""
        return _status("VmHWM") - self.baseline


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def machine() -> dict[str, Any]:
    """Return the facts that figures depend on; neither names of hosts nor paths."""
    cpu = _cpu_info()
    return {
        "cpu": cpu.get("model name", "unknown"),
        "cpu_family_model_stepping": " ".join(cpu.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "sha_instructions": "sha_ni" in cpu.get("flags", "").split(),
        "virtual": "hypervisor" in cpu.get("flags", "").split(),
        "cores": len(os.sched_getaffinity(0)),
        "python": ".".join(str(n) for n in sys.version_info[:3]),
        "openssl": ssl.OPENSSL_VERSION,
        "sha256sum": _first_line(["sha256sum", "--version"]),
        "packages": {name: _version(name) for name in ("weighmaster", "torch", "transformers", "model-signing")},
    }


def _cpu_info() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else "unknown"
