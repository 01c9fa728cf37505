# SPDX-License-Identifier: Apache-2.0
"""A shard appears whole or not at all, and its spool leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from weighmaster.errors import StorageError
from weighmaster.pack.packed import PackedTensor
from weighmaster.pack.shards import shard_header, stored_form
from weighmaster.pack.writer import Spool, write_hashed


def packed(name: str) -> PackedTensor:
    return PackedTensor(
        name=name, dtype="float32", shape=(4, 4), codec="five-v1", shard=0, blob="", sha256="", fsverity64k=""
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_blobs_lie_in_the_order_of_the_header(tmp_path: Path):
    blobs = {"b": b"B" * 5_000_000, "a": b"A" * 7, "empty": b""}
    with Spool(tmp_path) as spool:
        for name, blob in blobs.items():
            spool.add(name, blob)
        entry = spool.write(tmp_path / "s", [packed(name) for name in blobs])
    data = (tmp_path / "s").read_bytes()
    front = shard_header(stored_form(packed(name), len(blob)) for name, blob in blobs.items())
    assert data == front + blobs["a"] + blobs["b"]
    assert (entry.path, entry.size, entry.sha256) == ("s", len(data), hashlib.sha256(data).hexdigest())
    assert names(tmp_path) == ["s"]


def test_the_spool_has_no_name(tmp_path: Path):
    with Spool(tmp_path) as spool:
        spool.add("a", b"x")
        assert names(tmp_path) == []


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.write
    with Spool(tmp_path) as spool:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
            spool.add("a", b"0123456789")
        spool.write(tmp_path / "s", [packed("a")])
    assert (tmp_path / "s").read_bytes().endswith(b"0123456789")


def full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Spool(tmp_path) as spool:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match=r"no room for a temporary file: No space left on device$"):
            spool.add("a", b"x")
    assert names(tmp_path) == []


def test_no_directory_for_the_spool(tmp_path: Path):
    with pytest.raises(StorageError, match="no room for a temporary file"):
        Spool(tmp_path / "missing")


def test_a_spool_that_was_cut(tmp_path: Path):
    with Spool(tmp_path) as spool:
        spool.add("a", b"0123456789")
        os.truncate(spool._file.fileno(), 4)
        with pytest.raises(StorageError, match="a temporary file gave 4 bytes of 10"):
            spool.write(tmp_path / "s", [packed("a")])
    assert names(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_at_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    with pytest.raises(StorageError, match="cannot be written: No space left on device"):
        write_hashed(tmp_path / "s", "s", [b"x"])
    assert names(tmp_path) == []
