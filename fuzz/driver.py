# SPDX-License-Identifier: Apache-2.0
"""Run the fuzzer of a parser in a process of its own, and keep what it found and what reaches new code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Final

from fuzz import harness

__all__ = ["Run", "fuzz"]

FINDINGS: Final = harness.ROOT / "fuzz" / "findings"
MAX_FILES: Final = 200
MAX_BYTES: Final = 300_000
_WORDS: Final = (
    '"{"', '"}"', '"["', '"]"', '":"', '","', '"null"', '"true"', '"-0"', '"\\\\ud800"', '"\\x00"', '"\\x0a"',
    '"9007199254740992"', '"sha256="', '"-----BEGIN PUBLIC KEY-----"', '" (deleted)"', '"\\xcc\\x88"',
)  # fmt: skip
_DONE: Final = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED: Final = re.compile(r"cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run did.

    Attributes:
        parser: its name.
        seconds: of wall time.
        runs: inputs tried.
        edges: of the package's code that were reached.
        findings: names of the inputs that broke a promise; they lie under ``fuzz/findings``.
        log: what libFuzzer printed.
    """

    parser: str
    seconds: float
    runs: int
    edges: int
    findings: tuple[str, ...]
    log: str


def fuzz(name: str, *, seconds: int, runs: int = -1, keep: bool = False) -> Run:
    """Fuzz one parser until `seconds` or `runs` are over or something is found; `keep` what reaches new code."""
    with tempfile.TemporaryDirectory() as folder:
        work, found, first = (Path(folder) / part for part in ("work", "found", "seeds"))
        for path in (work, found, first):
            path.mkdir()
        _write_seeds(name, first)
        words = Path(folder) / "words.dict"
        words.write_text("\n".join(_WORDS) + "\n", encoding="utf-8")
        limits = (f"-runs={runs}", f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096")
        before = time.monotonic()
        log = _child(
            name, "-seed=1", f"-dict={words}", f"-artifact_prefix={found}/", *limits, work, *_kept(name), first
        )
        took = time.monotonic() - before
        if keep:
            _keep(name, work, first, Path(folder) / "merged")
        return _read(name, took, log, _keep_findings(name, found))


def _write_seeds(name: str, folder: Path) -> None:
    for data in harness.seeds(harness.parser(name)):
        (folder / sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def _kept(name: str) -> tuple[Path, ...]:
    folder = harness.ROOT / "fuzz" / "corpus" / name
    return (folder,) if folder.is_dir() else ()


def _child(name: str, *options: object) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "fuzz.child", name, *map(str, options)]
    done = subprocess.run(
        command, cwd=harness.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    log = done.stdout.decode("utf-8", "replace")
    return log if done.returncode == 0 else f"{log}\nexit code {done.returncode}\n"


def _read(name: str, seconds: float, log: str, findings: tuple[str, ...]) -> Run:
    done, covered = _DONE.search(log), _COVERED.findall(log)
    if not findings and done is None:
        findings = ("it ended before its time",)
    counted = re.findall(r"^#(\d+)", log, re.MULTILINE)
    return Run(
        parser=name,
        seconds=round(seconds, 1),
        runs=int(done[1]) if done else int(counted[-1]) if counted else 0,
        edges=int(covered[-1][0]) if covered else 0,
        findings=findings,
        log=log,
    )


def _keep_findings(name: str, found: Path) -> tuple[str, ...]:
    out = []
    for path in sorted(found.iterdir()):
        kept = FINDINGS / name / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        out.append(path.name)
    return tuple(out)


def _keep(name: str, work: Path, first: Path, merged: Path) -> None:
    """Keep the fewest inputs that reach what the seeds do not, the smallest first, up to the limits."""
    shutil.copytree(first, merged)
    _child(name, "-merge=1", merged, *_kept(name), work)
    seeds = {path.name for path in first.iterdir()}
    new = sorted((p for p in merged.iterdir() if p.name not in seeds), key=lambda p: (p.stat().st_size, p.name))
    corpus = harness.ROOT / "fuzz" / "corpus" / name
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    total = 0
    for path in new[:MAX_FILES]:
        total += path.stat().st_size
        if total > MAX_BYTES:
            break
        shutil.copyfile(path, corpus / path.name)
