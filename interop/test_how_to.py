# SPDX-License-Identifier: Apache-2.0
"""The command lines of docs/how-to/ask-other-tools.md, run as they stand: they hold, and fail on a changed release."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from interop import certificates as by
from interop.conftest import ROOT, Release
from interop.test_cosign import PROGRAM
from interop.verdicts import Refused, run

import weighmaster as wm
from weighmaster.flows.approve import sign
from weighmaster.flows.stamp import attach_timestamp
from weighmaster.flows.trusted_root import trusted_root
from weighmaster.seal.keys import PrivateKey

PAGE = (ROOT / "docs" / "how-to" / "ask-other-tools.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
OTHERS = [line for line in LINES if not line.startswith("weighmaster ")]
(EXPORT,) = [line for line in LINES if line.startswith("weighmaster export trusted-root ")]


@pytest.fixture
def folder(release: Release, tmp_path: Path) -> Path:
    """A copy of the release, with a seal by a certificate and the trusted root beside it."""
    folder = Path(shutil.copytree(release.folder, tmp_path / "release"))
    path = sign(folder / "manifest", PrivateKey(by.EXPIRED.key), certificate=by.EXPIRED.der)
    assert path == folder / "manifest" / "signer-2.sigstore.json"
    attach_timestamp(path, by.PKI.timestamp(by.value(path.read_bytes()), by.STAMPER, by.THEN))
    pin = wm.write_trust(folder / "trust.json", by.trust(), PrivateKey(by.PKI.p256("Rosa")))
    shell(EXPORT, folder, PIN=pin)
    return folder


def shell(line: str, folder: Path, **variables: str) -> str:
    if line.startswith("cosign") and not PROGRAM.exists():
        pytest.skip("cosign: is fetched by make interop-full alone")
    path = os.pathsep.join([str(PROGRAM.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    return run(["bash", "-c", line], cwd=folder, environment={"PATH": path, "HOME": str(folder), **variables})


def test_the_page_has_lines_of_every_tool() -> None:
    assert {line.split()[0] for line in OTHERS} == {"cd", "fsverity", "model_signing", "cosign"}
    assert len(OTHERS) == 6


@pytest.mark.parametrize("line", OTHERS, ids=lambda line: line.split()[0])
def test_lines_hold(line: str, folder: Path, release: Release) -> None:
    said = shell(line, folder, ROOT=release.manifest.root)
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
        shell(line, folder, ROOT="0" * 64)


CERTIFIED = next(line for line in OTHERS if "--use-signed-timestamps" in line)


def test_the_certificate_has_expired_so_that_the_option_for_timestamps_matters(folder: Path) -> None:
    shell(CERTIFIED, folder)
    with pytest.raises(Refused, match="failed to verify leaf certificate"):
        shell(CERTIFIED.replace("--use-signed-timestamps ", ""), folder)


def test_the_certificate_line_fails_under_the_authorities_of_others(folder: Path) -> None:
    (folder / "trusted_root.json").write_bytes(trusted_root(by.trust(by.STAMPING, stamping=by.HOUSE, stamper=None)))
    with pytest.raises(Refused, match="failed to verify"):
        shell(CERTIFIED, folder)


def test_the_export_line_fails_from_another_pin(folder: Path) -> None:
    with pytest.raises(Refused, match="does not begin at the roots that are pinned here"):
        shell(EXPORT, folder, PIN="0" * 64)
