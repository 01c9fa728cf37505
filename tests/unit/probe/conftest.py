# SPDX-License-Identifier: Apache-2.0
"""Run a piece of Python in a fresh process, because the environment of this one is not ours to change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from weighmaster.core.environment import Environment, parse_environment

ChildCollects = Callable[..., Environment]

COLLECT = "import sys; from weighmaster.probe.collect import collect; sys.stdout.buffer.write(collect().to_bytes())"


@pytest.fixture
def child(tmp_path: Path) -> ChildCollects:
    """Return ``child(code, cwd=..., NAME=value)``: the environment that a fresh process collects after `code`."""

    def run(code: str = "", *, cwd: Path = tmp_path, **variables: str) -> Environment:
        environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **variables}
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\n{COLLECT}"],
            cwd=cwd,
            env=environ,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return parse_environment(done.stdout, "child")

    return run


@pytest.fixture
def library() -> Path:
    """A small shared object of the operating system that nothing here loads by itself."""
    for folder in ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib"):
        for name in ("libutil.so.1", "libanl.so.1", "libBrokenLocale.so.1"):
            if (path := Path(folder, name)).exists():
                return path
    pytest.fail("no small library of the C library found; name one here")
