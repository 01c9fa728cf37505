# SPDX-License-Identifier: Apache-2.0
"""A journal is no witness: planted shards, wrong entries, and directories that others can write are refused."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.packs import TinyEncoder, pack_tiny, tiny, values, write_sharded

from weighmaster.errors import NotAdmitted, TensorFault, TensorSetFault, UsageError
from weighmaster.flows import packing
from weighmaster.flows.packing import pack_model
from weighmaster.pack.journal import JOURNAL, Finished, append, read_journal, start_journal
from weighmaster.pack.packed import PackedTensor

FIRST = "model-00001-of-00002.safetensors"


def write_source(folder: Path, seed: int) -> Path:
    first = {**tiny(), "a.weight": ("bfloat16", (12, 16), values("bfloat16", (12, 16), seed))}
    return write_sharded(folder, [first, {"z": ("bfloat16", (4, 40), values("bfloat16", (4, 40), 9))}])


class Dying(TinyEncoder):
    """Stops the run at the last tensor."""

    def encode(self, view: Any) -> Any:
        if view.name == "z":
            raise KeyboardInterrupt
        return super().encode(view)


def begin(source: Path, out: Path, patch: pytest.MonkeyPatch, profile: str = "exact") -> Path:
    """Leave one shard of two, and the journal that says so."""
    with patch.context() as inner:
        inner.setattr(packing, "new_encoder", lambda *_: (Dying(profile), None))
        with pytest.raises(KeyboardInterrupt):
            pack_model(source, out, shard_bytes=600, profile=profile, bits=None if profile == "exact" else "5")
    return out


def noted(out: Path) -> Finished:
    journal = read_journal(out)
    assert journal is not None
    return journal.finished[0]


def note(out: Path, finished: Finished) -> None:
    """Put another line in the place of that of the first shard."""
    journal = read_journal(out)
    assert journal is not None
    start_journal(out, journal.plan)
    append(out, finished)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "m", 1)


@pytest.fixture
def out(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return begin(source, tmp_path / "p", monkeypatch)


@pytest.mark.requirement("REQ-PAC-08")
def test_shards_of_another_model_under_the_plan_of_this_one(
    source: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = begin(write_source(tmp_path / "b", 2), tmp_path / "q", monkeypatch)
    shutil.copy(other / FIRST, out / FIRST)
    note(out, noted(other))
    with pytest.raises(NotAdmitted, match=rf"\.pack\.journal: {FIRST} is not of this source; choose a new") as caught:
        pack_tiny(monkeypatch, source, out, shard_bytes=600)
    assert {(type(f), f.subject) for f in caught.value.faults} == {(TensorFault, "a.weight")}
    assert [f.detail for f in caught.value.faults] == [
        "not the bytes of the source (SHA-256)",
        "not the bytes of the source (fs-verity digest)",
    ]
    assert not (out / "pack.index").exists()


def edited(**changes: Any) -> Callable[[PackedTensor], PackedTensor]:
    return lambda tensor: dataclasses.replace(tensor, **changes)


@pytest.mark.parametrize(
    ("edit", "kind", "said"),
    [
        (edited(name="b.weight"), TensorSetFault, "a.weight: missing from the finished shard"),
        (edited(name="b.weight"), TensorSetFault, "b.weight: no tensor of the source for the finished shard"),
        (edited(shape=(16, 12)), TensorFault, r"a.weight: dtype, shape, shard differ; .*\[12, 16\].*\[16, 12\]"),
        (edited(dtype="float16"), TensorFault, "a.weight: dtype, shape, shard differ; .*bfloat16.*float16"),
        (edited(shard=1), TensorFault, "a.weight: dtype, shape, shard differ"),
        (edited(codec="five-v1"), TensorFault, "a.weight: codec loses bits, and the profile is exact"),
        (edited(sha256="0" * 64), TensorFault, r"a.weight: not the bytes of the source \(SHA-256\)"),
        (edited(fsverity64k="0" * 64), TensorFault, r"a.weight: not the bytes of the source \(fs-verity digest\)"),
    ],
)
def test_entries_that_are_not_of_the_source(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, edit: Any, kind: type[Exception], said: str
):
    finished = noted(out)
    tensors = tuple(edit(t) if t.name == "a.weight" else t for t in finished.tensors)
    note(out, dataclasses.replace(finished, tensors=tensors))
    with pytest.raises(NotAdmitted, match="is not of this source") as caught:
        pack_tiny(monkeypatch, source, out, shard_bytes=600)
    assert {type(f) for f in caught.value.faults} == {kind}
    assert [f for f in caught.value.faults if re.match(said, str(f))]
    assert not (out / "pack.index").exists()


def test_tensors_in_another_order(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch):
    finished = noted(out)
    note(out, dataclasses.replace(finished, tensors=finished.tensors[::-1]))
    with pytest.raises(NotAdmitted) as caught:
        pack_tiny(monkeypatch, source, out, shard_bytes=600)
    assert [type(f) for f in caught.value.faults] == [TensorSetFault]
    assert "another order" in str(caught.value.faults[0])


def moved_behind_a_link(out: Path) -> None:
    (out / JOURNAL).rename(out.parent / "journal")
    (out / JOURNAL).symlink_to(out.parent / "journal")


def directory_behind_a_link(out: Path) -> None:
    out.rename(out.parent / "elsewhere")
    out.symlink_to(out.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (moved_behind_a_link, r"p/\.pack\.journal: is a symbolic link: .*; choose a new directory"),
        (directory_behind_a_link, r"p: is a symbolic link: .*; choose a new directory"),
        (lambda out: out.chmod(0o777), r"p: may be written by others \(mode 0777\): .*choose a new directory"),
        (lambda out: out.chmod(0o775), r"p: may be written by others \(mode 0775\): .*chmod go-w"),
        (lambda out: (out / JOURNAL).chmod(0o666), r"p/\.pack\.journal: may be written by others \(mode 0666\)"),
    ],
)
def test_what_others_can_write_is_not_gone_on_with(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], said: str
):
    change(out)
    with pytest.raises(UsageError, match=said):
        pack_tiny(monkeypatch, source, out, shard_bytes=600)
    assert not (out / "pack.index").exists()


def test_what_another_user_left_is_not_gone_on_with(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch):
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(UsageError, match=rf"p: belongs to the user {mine}, not to {mine + 1}: "):
        pack_tiny(monkeypatch, source, out, shard_bytes=600)


@pytest.mark.parametrize("profile", ["exact", "datafree"])
def test_our_own_run_is_gone_on_with(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str):
    before = os.umask(0o002)  # a common one: what we make is ours alone all the same
    try:
        out = begin(source, tmp_path / "p", monkeypatch, profile)
    finally:
        os.umask(before)
    assert pack_tiny(monkeypatch, source, out, shard_bytes=600, profile=profile).resumed == 1
