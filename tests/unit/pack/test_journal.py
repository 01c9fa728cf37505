# SPDX-License-Identifier: Apache-2.0
"""A journal counts whole lines only, and nothing else in it is guessed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from weighmaster.errors import MalformedArtefact, StorageError
from weighmaster.pack.journal import JOURNAL, Finished, Plan, append, read_journal, start_journal
from weighmaster.pack.packed import Calibration, EncoderRecord, PackedFile, PackedTensor

A = "a" * 64
FILE = PackedFile(path="model.safetensors", sha256=A, size=3)
PLAN = Plan(
    source=(FILE,),
    others=(PackedFile(path="config.json", sha256=A, size=2),),
    encoder=EncoderRecord(name="x", version="1", profile="calibrated", bits="5", parameters=(("cap", "24"),)),
    calibration=Calibration(kind="file", sha256=A, tokens=7),
    shard_bytes=1 << 31,
    state=b"\x00\xffstate",
)
TENSOR = PackedTensor(
    name="a", dtype="bfloat16", shape=(4, 8), codec="five-v1", shard=0, blob=A, sha256=A, fsverity64k=A
)


def finished(name: str) -> Finished:
    file = PackedFile(path=name, sha256=A, size=9)
    return Finished(file=file, stored=5, tensors=(TENSOR,), squared_error=0.1, squared=1 / 3)


def test_what_was_noted_is_read(tmp_path: Path):
    assert read_journal(tmp_path) is None
    start_journal(tmp_path, PLAN)
    append(tmp_path, finished("s1"))
    append(tmp_path, finished("s2"))
    journal = read_journal(tmp_path)
    assert journal is not None
    assert (journal.plan, journal.finished) == (PLAN, (finished("s1"), finished("s2")))


def test_a_torn_line_is_cut_off_wherever_it_was_torn(tmp_path: Path):
    start_journal(tmp_path, PLAN)
    append(tmp_path, finished("s1"))
    whole = (tmp_path / JOURNAL).read_bytes()
    append(tmp_path, finished("s2"))
    data = (tmp_path / JOURNAL).read_bytes()
    for length in range(len(whole), len(data)):
        (tmp_path / JOURNAL).write_bytes(data[:length])
        journal = read_journal(tmp_path)
        assert journal is not None
        assert journal.finished == (finished("s1"),)
        assert (tmp_path / JOURNAL).read_bytes() == whole
    append(tmp_path, finished("s3"))
    again = read_journal(tmp_path)
    assert again is not None
    assert [f.file.path for f in again.finished] == ["s1", "s3"]


def test_zeros_after_the_last_line_are_cut_off(tmp_path: Path):
    start_journal(tmp_path, PLAN)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(bytes(4096))
    journal = read_journal(tmp_path)
    assert journal is not None
    assert journal.finished == ()


@pytest.mark.parametrize(
    ("before", "after", "file", "field"),
    [
        (b"journal-v1", b"journal-v2", "", "format"),
        (b'"stored":5', b'"stored":-5', ": line 2", "stored"),
        (b'"squared":"0x1.5', b'"squared":"1,5', ": line 2", "squared"),
        (b'"codec":"five-v1"', b'"codec":"fife-v1"', ": line 2", "tensors[0].codec"),
        (b'"shardBytes":2147483648', b'"shardBytes":0', "", "shardBytes"),
        (b'"stored":5', b'"stored":5,"t":1', ": line 2", "t"),
    ],
)
def test_a_whole_line_that_is_wrong_is_refused(tmp_path: Path, before: bytes, after: bytes, file: str, field: str):
    start_journal(tmp_path, PLAN)
    append(tmp_path, finished("s1"))
    data = (tmp_path / JOURNAL).read_bytes()
    assert before in data
    (tmp_path / JOURNAL).write_bytes(data.replace(before, after))
    with pytest.raises(MalformedArtefact) as caught:
        read_journal(tmp_path)
    assert (caught.value.file, caught.value.field) == (f"{tmp_path / JOURNAL}{file}", field)


def test_a_journal_without_a_plan_is_refused(tmp_path: Path):
    (tmp_path / JOURNAL).write_bytes(b"{")
    with pytest.raises(MalformedArtefact, match="expected a plan in the first line"):
        read_journal(tmp_path)


@pytest.mark.parametrize("call", ["write", "fsync", "open"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    start_journal(tmp_path, PLAN)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageError, match="No space left on device"):
            append(tmp_path, finished("s1"))
    journal = read_journal(tmp_path)
    assert journal is not None
    assert journal.plan == PLAN
