# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every stage: no index before the end, and the next run gives the same pack, byte for byte.

A forked child counts the calls that change the file system, and kills itself before one of them.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.packs import pack_tiny, tiny, values, write_sharded

from weighmaster.flows import packing
from weighmaster.pack.journal import JOURNAL
from weighmaster.pack.reader import open_pack

CALLS: tuple[tuple[Any, str], ...] = (
    (os, "write"),
    (os, "fsync"),
    (os, "truncate"),
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "unlink"),
)
PARTS = [tiny(), {"z": ("bfloat16", (4, 40), values("bfloat16", (4, 40), 9))}]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def model(tmp_path: Path) -> Path:
    source = write_sharded(tmp_path / "m", PARTS)
    (source / "config.json").write_text("{}")
    return source


def child(work: Callable[[pytest.MonkeyPatch], object]) -> int:
    """Run `work` in a forked process; return its signal, or minus its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            work(pytest.MonkeyPatch())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.waitstatus_to_exitcode(status)


def killed_before(number: int, source: Path, out: Path) -> Callable[[pytest.MonkeyPatch], object]:
    """Return a run of the packer that is killed before its call of this number."""

    def work(patch: pytest.MonkeyPatch) -> None:
        count = 0

        def counting(real: Callable[..., Any], *, dry: bool) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                return None if dry else real(*args, **kwargs)

            return call

        for owner, name in CALLS:
            patch.setattr(owner, name, counting(getattr(owner, name), dry=name == "fsync"))  # the machine stays up
        patch.setattr(packing, "require_self_test", lambda: None)
        pack_tiny(patch, source, out, shard_bytes=600)

    return work


def check_and_finish(source: Path, out: Path, whole: dict[str, bytes], patch: pytest.MonkeyPatch) -> int:
    """Hold what a killed run left to its promise, run it again, and return how many shards it went on with."""
    left = contents(out) if out.exists() else {}
    final = {path: data for path, data in left.items() if path != JOURNAL and not path.endswith(".partial")}
    assert {path for path in final if final[path] != whole[path]} == set()  # nothing half-written
    assert "pack.index" not in left or (len(final) == len(whole) and not any(p.endswith(".partial") for p in left))
    if "pack.index" in left and JOURNAL not in left:
        open_pack(out).close()  # killed after the end
        return -1
    resumed = pack_tiny(patch, source, out, shard_bytes=600).resumed
    assert contents(out) == whole
    return resumed


@pytest.mark.requirement("REQ-PAC-06")
@pytest.mark.slow
def test_killed_before_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = model(tmp_path)
    pack_tiny(monkeypatch, source, tmp_path / "whole", shard_bytes=600)
    whole = contents(tmp_path / "whole")
    monkeypatch.setattr(packing, "require_self_test", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    resumed = []
    for number in range(500):
        out = tmp_path / f"p{number}"
        ended = child(killed_before(number, source, out))
        assert ended in {0, signal.SIGKILL}
        if ended == 0:
            break
        resumed.append(check_and_finish(source, out, whole, monkeypatch))
    assert len(resumed) > 30
    assert set(resumed) >= {0, 1, 2}


def killed_twice(first: int, second: int, source: Path, out: Path) -> bool:
    return (
        child(killed_before(first, source, out)) == signal.SIGKILL
        and child(killed_before(second, source, out)) == signal.SIGKILL
    )


@pytest.mark.slow
def test_killed_while_it_was_going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, draw = model(tmp_path), random.Random(4)
    pack_tiny(monkeypatch, source, tmp_path / "whole", shard_bytes=600)
    whole = contents(tmp_path / "whole")
    monkeypatch.setattr(os, "fsync", lambda _: None)
    twice = 0
    for i in range(12):
        out = tmp_path / f"p{i}"
        twice += killed_twice(draw.randrange(30), draw.randrange(25), source, out)
        check_and_finish(source, out, whole, monkeypatch)
    assert twice > 6


@pytest.mark.slow
def test_killed_by_another_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, draw = model(tmp_path), random.Random(7)
    start = time.monotonic()
    pack_tiny(monkeypatch, source, tmp_path / "whole", shard_bytes=600)
    lasted = time.monotonic() - start
    whole = contents(tmp_path / "whole")
    for i in range(10):
        out, after = tmp_path / f"p{i}", draw.uniform(0, lasted)

        def work(patch: pytest.MonkeyPatch, out: Path = out, after: float = after) -> None:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
            pack_tiny(patch, source, out, shard_bytes=600)
            time.sleep(10 * lasted + 10)

        assert child(work) == signal.SIGKILL
        check_and_finish(source, out, whole, monkeypatch)
