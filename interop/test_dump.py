# SPDX-License-Identifier: Apache-2.0
"""sha256sum and fsverity on every row of a dump."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interop.conftest import Release
from interop.verdicts import BOTH, LAXER, NEITHER, Refused, Verdicts, run

from weighmaster.flows.oms import export_oms

Attack = Callable[[Path], object]


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(8))


def swap(dump: Path) -> None:
    one, two = dump / "tied.bias.bin", dump / "%48ead.bias.bin"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


ATTACKS: dict[str, Attack] = {
    "genuine": lambda _: None,
    "bit of a tensor of two leaves": lambda d: flip(d / "up.weight.bin", 70_000),
    "bit of a small tensor": lambda d: flip(d / "down.bias.bin"),
    "bit of the index": lambda d: flip(d / "index.jsonl", 20),
    "tensor cut": lambda d: (d / "up.weight.bin").write_bytes((d / "up.weight.bin").read_bytes()[:-4]),
    "tensor with zeros behind it": lambda d: lengthen(d / "up.bias.bin"),
    "tensor missing": lambda d: (d / "down.bias.bin").unlink(),
    "tensor renamed": lambda d: (d / "down.bias.bin").rename(d / "down.bin"),
    "tensors swapped": swap,
}


@pytest.fixture
def dump(release: Release, tmp_path: Path) -> Path:
    """A copy to attack."""
    return Path(shutil.copytree(release.dump, tmp_path / "dump"))


def rows(release: Release) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (release.dump / "index.jsonl").read_bytes().splitlines()]


def we_accept(release: Release, dump: Path) -> Callable[[], object]:
    """Return a question: is this directory the dump of the manifest? Signing it asks just that."""
    return lambda: export_oms(release.manifest, dump, release.key, dump.with_name("checked.sig"))


@pytest.mark.parametrize("case", ATTACKS)
def test_sums_of_a_dump(
    case: str, release: Release, dump: Path, verdicts: Verdicts, tool: Callable[[str], str]
) -> None:
    program = tool("sha256sum")
    version = run([program, "--version"]).splitlines()[0].split()[-1]
    ATTACKS[case](dump)
    found = verdicts.ask(
        "sha256sum",
        version,
        f"dump: {case}",
        ours=we_accept(release, dump),
        theirs=lambda: run([program, "--check", "--strict", "SHA256SUMS"], cwd=dump),
    )
    assert found == (BOTH if case == "genuine" else NEITHER)


def test_an_extra_file_is_nothing_to_sha256sum(
    release: Release, dump: Path, verdicts: Verdicts, tool: Callable[[str], str]
) -> None:
    program = tool("sha256sum")
    version = run([program, "--version"]).splitlines()[0].split()[-1]
    (dump / "extra.bin").write_bytes(b"extra")
    found = verdicts.ask(
        "sha256sum",
        version,
        "dump: extra file",
        ours=we_accept(release, dump),
        theirs=lambda: run([program, "--check", "--strict", "SHA256SUMS"], cwd=dump),
    )
    assert found == LAXER


def test_sha256sum_of_every_row(release: Release, tool: Callable[[str], str]) -> None:
    listed = rows(release)
    said = run([tool("sha256sum"), *[row["file"] for row in listed]], cwd=release.dump).splitlines()
    assert said == [f"{row['sha256']}  {row['file']}" for row in listed]
    assert [row["sha256"] for row in listed] == [row.sha256 for row in release.manifest.gate.rows]


@pytest.mark.parametrize("case", ATTACKS)
def test_fsverity_of_every_row(
    case: str, release: Release, dump: Path, verdicts: Verdicts, tool: Callable[[str], str]
) -> None:
    if case == "bit of the index":
        return  # the index is no tensor
    program = tool("fsverity")
    version = run([program, "--version"]).split()[1]
    ATTACKS[case](dump)

    def digests() -> None:
        words = (program, "digest", "--hash-alg=sha256", "--block-size=65536", "--compact")
        said = run([*words, *[row["file"] for row in rows(release)]], cwd=dump).split()
        if said != [row.fsverity64k for row in release.manifest.gate.rows]:
            raise Refused("another digest")

    found = verdicts.ask("fsverity", version, f"dump: {case}", ours=we_accept(release, dump), theirs=digests)
    assert found == (BOTH if case == "genuine" else NEITHER)
