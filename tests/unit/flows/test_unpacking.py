# SPDX-License-Identifier: Apache-2.0
"""Unpacking gives the model back: other files byte for byte, tensors as the pack has them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from tests.packs import pack_tiny, tiny, values, write_model, write_sharded

from weighmaster.capture.safetensors_files import open_checkpoint
from weighmaster.errors import MalformedArtefact, SourceFault, StorageError, TensorFault, UsageError
from weighmaster.flows.unpacking import unpack, unpack_model
from weighmaster.pack.reader import open_pack

FILES = {"config.json": '{"eps": 1e-05}', "code/modeling.py": "raise SystemExit\n", "vocab.txt": "a"}
PARTS = [tiny(), {"z": ("bfloat16", (4, 40), values("bfloat16", (4, 40), 9)), "e": ("float32", (0,), b"")}]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    source = write_sharded(tmp_path / "m", PARTS)
    for path, text in FILES.items():
        (source / path).parent.mkdir(exist_ok=True)
        (source / path).write_text(text)
    pack_tiny(monkeypatch, source, tmp_path / "p", shard_bytes=600)
    return tmp_path / "p"


def test_a_model_directory_again(pack: Path, tmp_path: Path):
    counted: list[int] = []
    done = unpack_model(pack, tmp_path / "out", progress=counted.append)
    found = {str(p.relative_to(done.path)) for p in done.path.rglob("*") if p.is_file()}
    shards = {f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    assert found == {*FILES, *shards, "model.safetensors.index.json"}
    assert {path: (done.path / path).read_text() for path in FILES} == FILES
    expected = {name: data for part in PARTS for name, (_, _, data) in part.items()}
    with open_checkpoint(done.path) as checkpoint:
        assert {v.name: bytes(v.read(0, v.nbytes)) for v in checkpoint.views()} == expected
    assert (done.tensors, done.files, done.nbytes) == (5, 6, sum(map(len, expected.values())))
    assert sum(counted) == done.nbytes
    with open_pack(pack) as opened:
        assert done.root == opened.root


def test_other_readers_open_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_model(tmp_path / "m", tiny())
    pack_tiny(monkeypatch, source, tmp_path / "p")
    unpack_model(tmp_path / "p", tmp_path / "out")
    was, now = (safetensors.torch.load_file(tmp_path / d / "model.safetensors") for d in ("m", "out"))
    assert was.keys() == now.keys()
    assert all(was[name].equal(now[name]) for name in was)


def test_a_lossy_pack_gives_the_tensors_of_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pack_tiny(monkeypatch, write_model(tmp_path / "m", tiny()), tmp_path / "p", profile="datafree")
    unpack_model(tmp_path / "p", tmp_path / "out")
    with open_checkpoint(tmp_path / "out") as checkpoint, unpack(tmp_path / "p") as pack:
        for view in checkpoint.views():
            assert bytes(view.read(0, view.nbytes)) == pack[view.name].data.tobytes()
        assert pack["a.weight"].data.tobytes() != tiny()["a.weight"][2]


def test_the_mapping(pack: Path):
    with unpack(pack, threads=2) as opened:
        assert opened.threads == 2
        assert sorted(opened) == sorted(dict(opened.items()))
        assert opened.read_rows("z", 1, 2).data.tobytes() == PARTS[1]["z"][2][80:160]


def test_nothing_is_left_of_a_pack_that_is_damaged(pack: Path, tmp_path: Path):
    path = pack / "model-00002-of-00002.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises((MalformedArtefact, TensorFault), match="z"):
        unpack_model(pack, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "p"]


def test_nothing_is_left_if_another_file_was_changed(pack: Path, tmp_path: Path):
    (pack / "source/vocab.txt").write_text("b")
    with pytest.raises(SourceFault) as caught:
        unpack_model(pack, tmp_path / "out")
    assert caught.value.subject == f"{pack}/source/vocab.txt"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "p"]


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
def test_a_full_disk(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageError, match="No space left on device"):
        unpack_model(pack, tmp_path / "out")
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "p"]


def test_what_is_there_is_not_overwritten(pack: Path, tmp_path: Path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="out: exists already and is not overwritten"):
        unpack_model(pack, tmp_path / "out")
