# SPDX-License-Identifier: Apache-2.0
"""The command lines of docs/how-to/ask-other-tools.md, run as they stand: they hold, and fail on a changed release."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from interop.conftest import ROOT, Release
from interop.test_cosign import PROGRAM
from interop.verdicts import Refused, run

PAGE = (ROOT / "docs" / "how-to" / "ask-other-tools.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
OTHERS = [line for line in LINES if not line.startswith("weighmaster ")]


@pytest.fixture
def folder(release: Release, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release.folder, tmp_path / "release"))


def shell(line: str, folder: Path, root: str) -> str:
    if line.startswith("cosign") and not PROGRAM.exists():
        pytest.skip("cosign: is fetched by make interop-full alone")
    path = os.pathsep.join([str(PROGRAM.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    return run(["bash", "-c", line], cwd=folder, environment={"PATH": path, "ROOT": root, "HOME": str(folder)})


def test_the_page_has_lines_of_every_tool() -> None:
    assert {line.split()[0] for line in OTHERS} == {"cd", "fsverity", "model_signing", "cosign"}
    assert len(OTHERS) == 5


@pytest.mark.parametrize("line", OTHERS, ids=lambda line: line.split()[0])
def test_lines_hold(line: str, folder: Path, release: Release) -> None:
    said = shell(line, folder, release.manifest.root)
    if line.startswith("fsverity"):
        index = release.manifest.gate.primaries
        assert sorted(said.split()) == sorted(row.fsverity64k for row in index)


@pytest.mark.parametrize(
    "line", [line for line in OTHERS if not line.startswith("fsverity")], ids=lambda line: line.split()[0]
)
def test_lines_fail_on_a_changed_release(line: str, folder: Path) -> None:
    for name in ("dump/up.weight.bin", "manifest/tensors.S3.kernel.jsonl"):
        data = bytearray((folder / name).read_bytes())
        data[-2] ^= 1
        (folder / name).write_bytes(data)
    with pytest.raises(Refused):
        shell(line, folder, "0" * 64)
