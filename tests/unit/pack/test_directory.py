# SPDX-License-Identifier: Apache-2.0
"""The directory of a pack holds its files and seals over them, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.packs import tiny, write_model

from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.flows.packing import pack_model
from weighmaster.pack.directory import seals
from weighmaster.pack.reader import open_pack

FILES = {"config.json": "{}", "vocab/words.txt": "a b"}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    pack_model(write_model(tmp_path / "m", tiny(), FILES), tmp_path / "p")
    return tmp_path / "p"


def link(path: str, target: str) -> Callable[[Path], None]:
    def change(pack: Path) -> None:
        (pack / path).unlink(missing_ok=True)
        (pack / path).symlink_to(target)

    return change


def moved(path: str) -> Callable[[Path], None]:
    """Put a link in the place of a file, to the very same bytes elsewhere."""

    def change(pack: Path) -> None:
        (pack / path).rename(pack.parent / "elsewhere")
        (pack / path).symlink_to(pack.parent / "elsewhere")

    return change


def linked_folder(pack: Path) -> None:
    (pack / "source").rename(pack.parent / "elsewhere")
    (pack / "source").symlink_to(pack.parent / "elsewhere")


def longer(pack: Path) -> None:
    with (pack / "config.json").open("ab") as file:
        file.write(b" ")


CHANGES: list[tuple[str, Callable[[Path], object], str, str, str]] = [
    ("a file more", lambda p: (p / "pytorch_model.bin").write_text("x"), "pytorch_model.bin", "only files", "another"),
    ("a hidden file more", lambda p: (p / ".x").write_text("x"), ".x", "only files", "another"),
    ("code in a folder", lambda p: (p / "source/m.py").write_text("x"), "source/m.py", "only files", "another"),
    ("a seal in a folder", lambda p: (p / "vocab/a.sigstore.json").touch(), "vocab/a.sigstore.json", "only", "another"),
    ("a journal", lambda p: (p / ".pack.journal").write_text("x"), ".pack.journal", "only files", "another"),
    ("a file less", lambda p: (p / "vocab/words.txt").unlink(), "vocab/words.txt", "a file that", "no such file"),
    ("a shard less", lambda p: (p / "model.safetensors").unlink(), "model.safetensors", "a file that", "no such file"),
    ("a longer file", longer, "config.json", "bytes", ""),
    ("a planted link", link("x", "/etc/passwd"), "x", "a regular file", "a link"),
    ("a link for a file", moved("config.json"), "config.json", "a regular file", "a link"),
    ("a link for a shard", moved("model.safetensors"), "model.safetensors", "a regular file", "a link"),
    ("a link for a folder", linked_folder, "source", "a regular file", "a link"),
    ("a link for a seal", link("a-1.sigstore.json", "config.json"), "a-1.sigstore.json", "a regular file", "a link"),
    ("a link for the index", moved("pack.index"), "pack.index", "a regular file", "a link"),
    ("a pipe", lambda p: os.mkfifo(p / "x"), "x", "a regular file", "another kind"),
]


@pytest.mark.parametrize(("change", "name", "expected", "found"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_whatever_is_not_as_listed_is_refused(
    pack: Path, change: Callable[[Path], object], name: str, expected: str, found: str
):
    change(pack)
    with pytest.raises(MalformedArtefact) as caught:
        open_pack(pack)
    assert caught.value.file == f"{pack}/{name}"
    assert expected in caught.value.expected
    assert found in caught.value.found


def test_seals_may_be_there(pack: Path):
    (pack / "signer-1.sigstore.json").write_text("{}")
    with open_pack(pack):
        assert seals(pack) == ("signer-1.sigstore.json",)


def test_folders_do_not_go_on_for_ever(pack: Path):
    deep = pack / "/".join("x" * 20)
    deep.mkdir(parents=True)
    with pytest.raises(MalformedArtefact, match="at most 16 folders deep"):
        open_pack(pack)


def test_no_index_no_pack(pack: Path):
    (pack / "pack.index").unlink()
    with pytest.raises(UsageError, match=r"no pack\.index in it, so this is no pack, or one that was not finished$"):
        open_pack(pack)
