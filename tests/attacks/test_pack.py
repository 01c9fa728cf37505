# SPDX-License-Identifier: Apache-2.0
"""Attempts 64 to 81: another pack, or another part of one (see README.md)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.packs import pack_tiny, read_index, tiny, values, write_index, write_model, write_sharded

from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.errors import MalformedArtefact, NotAdmitted, SourceFault, TensorFault, UsageError
from weighmaster.flows.pack_verification import verify_pack
from weighmaster.flows.packing import pack_model
from weighmaster.flows.unpacking import unpack_model
from weighmaster.pack.index import index_bytes
from weighmaster.pack.packed import PackedFile
from weighmaster.pack.reader import open_pack

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Pack a model of two shards of equal lengths; another `seed` gives another model of the same form."""

    def make(name: str = "p", seed: int = 0) -> Path:
        parts = [{f"t{i}": ("bfloat16", (4, 40), values("bfloat16", (4, 40), seed + i))} for i in (0, 1)]
        source = write_sharded(tmp_path / f"source-{name}", parts)
        (source / "config.json").write_text("{}")
        (source / "vocab.txt").write_text("a")
        pack_tiny(monkeypatch, source, tmp_path / name, shard_bytes=320)
        return tmp_path / name

    return make


def malformed(call: Callable[[], object]) -> MalformedArtefact:
    with pytest.raises(MalformedArtefact) as caught:
        call()
    assert caught.value.exit_code == 20
    return caught.value


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def relist(pack: Path, path: str) -> None:
    """Give a file of a pack the digest and size that it has now: an attacker can compute digests too."""
    data = (pack / path).read_bytes()
    entry = PackedFile(path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    index = read_index(pack)
    files = sorted((*(f for f in index.files if f.path != path), entry), key=lambda f: f.path)
    write_index(pack, dataclasses.replace(index, files=tuple(files)))


def test_64_a_bit_of_a_coded_tensor(packs: Any) -> None:
    pack = packs()
    flip(pack / SHARDS[1], -5)
    with open_pack(pack) as opened:
        assert malformed(lambda: opened.read("t1")).field == "chunk 0: CRC-32"
        opened.read("t0")


def test_65_another_tensor_with_every_checksum_right(packs: Any) -> None:
    """The blob of another tensor of the same form in its place: all of its own checks hold."""
    pack, other = packs(), packs("q", seed=5)
    (pack / SHARDS[0]).write_bytes((other / SHARDS[0]).read_bytes())
    relist(pack, SHARDS[0])
    with open_pack(pack) as opened, pytest.raises(TensorFault) as caught:
        opened.read("t0")
    assert (caught.value.exit_code, caught.value.subject) == (10, "t0")


def test_66_a_bit_of_the_index(packs: Any) -> None:
    pack = packs()
    flip(pack / "pack.index", 100)
    assert malformed(lambda: open_pack(pack)).field == "last line"


def test_67_the_index_of_another_model_of_the_same_form(packs: Any) -> None:
    pack, other = packs(), packs("q", seed=5)
    (pack / "pack.index").write_bytes((other / "pack.index").read_bytes())
    with pytest.raises((MalformedArtefact, NotAdmitted)) as caught:
        verify_pack(pack)
    assert caught.value.exit_code in {10, 17, 20}


def test_68_shards_exchanged(packs: Any) -> None:
    pack = packs()
    one, two = ((pack / name).read_bytes() for name in SHARDS)
    (pack / SHARDS[0]).write_bytes(two)
    (pack / SHARDS[1]).write_bytes(one)
    relist(pack, SHARDS[0])
    relist(pack, SHARDS[1])
    assert malformed(lambda: open_pack(pack)).field == "t0"


def test_69_a_shard_renamed_or_missing(packs: Any) -> None:
    pack = packs()
    (pack / SHARDS[1]).rename(pack / "model-00002-of-00003.safetensors")
    assert "only files that the index lists" in malformed(lambda: open_pack(pack)).expected
    (pack / "model-00002-of-00003.safetensors").unlink()
    assert malformed(lambda: open_pack(pack)).found == "no such file"


def test_70_a_tensor_renamed_in_index_and_shard_is_another_model(packs: Any) -> None:
    """Consistent in itself: only the pack root, which the seal names, is another."""
    pack = packs()
    with open_pack(pack) as opened:
        root, blob = opened.root, bytes(opened.blob("t0"))
    shard = safetensors_bytes([("s0", "uint8", (len(blob),), blob)], {"format": "pt"})
    (pack / SHARDS[0]).write_bytes(shard)
    index = read_index(pack)
    names = {"t0": "s0"}
    tensors = tuple(dataclasses.replace(t, name=names.get(t.name, t.name)) for t in index.tensors)
    write_index(pack, dataclasses.replace(index, tensors=tensors))
    weights = (pack / "model.safetensors.index.json").read_bytes()
    (pack / "model.safetensors.index.json").write_bytes(weights.replace(b'"t0"', b'"s0"'))
    relist(pack, SHARDS[0])
    relist(pack, "model.safetensors.index.json")
    assert verify_pack(pack).root != root


def test_71_a_path_that_leads_outside(packs: Any, tmp_path: Path) -> None:
    pack = packs()
    index = read_index(pack)
    files = tuple(
        dataclasses.replace(f, path="source/../../planted") if f.path == "source/config.json" else f
        for f in index.files
    )
    (pack / "pack.index").write_bytes(index_bytes(dataclasses.replace(index, files=files)))
    assert malformed(lambda: unpack_model(pack, tmp_path / "out")).expected == "a relative path"
    assert not (tmp_path / "planted").exists()


def test_72_a_link_in_the_place_of_a_file(packs: Any) -> None:
    pack = packs()
    (pack / "config.json").rename(pack.parent / "config.json")
    (pack / "config.json").symlink_to(pack.parent / "config.json")
    assert malformed(lambda: open_pack(pack)).found == "a link"


def test_73_a_file_put_beside_the_shards(packs: Any) -> None:
    pack = packs()
    (pack / "pytorch_model.bin").write_bytes(b"pickle")
    assert malformed(lambda: open_pack(pack)).file.endswith("/pytorch_model.bin")


def test_74_the_same_and_listed(packs: Any) -> None:
    pack = packs()
    for path, said in (("generation.json", "source/generation.json"), ("sitecustomize.py", "code under source/ alone")):
        (pack / path).write_text("x")
        before = (pack / "pack.index").read_bytes()
        relist(pack, path)
        assert said in malformed(lambda: open_pack(pack)).expected
        (pack / "pack.index").write_bytes(before)
        (pack / path).unlink()


def test_75_a_file_beside_the_shards_other_than_the_source_s(packs: Any) -> None:
    pack = packs()
    (pack / "vocab.txt").write_text("b")
    with pytest.raises(NotAdmitted) as caught:
        verify_pack(pack)
    (fault,) = caught.value.faults
    assert (type(fault), fault.exit_code, fault.subject) == (SourceFault, 17, f"{pack}/vocab.txt")
    relist(pack, "vocab.txt")
    assert "source/vocab.txt with the same bytes" in malformed(lambda: open_pack(pack)).expected


def test_76_weights_in_a_second_file(packs: Any) -> None:
    pack = packs()
    (pack / "model.safetensors").write_bytes((pack / SHARDS[0]).read_bytes())
    relist(pack, "model.safetensors")
    assert malformed(lambda: open_pack(pack)).expected == "no weights, index or seal here"


def test_77_a_shard_that_is_changed_after_the_pack_was_opened(packs: Any) -> None:
    pack = packs()
    with open_pack(pack) as opened:
        flip(pack / SHARDS[0], -5)
        malformed(lambda: opened.read("t0"))
        with pytest.raises(SourceFault) as caught:
            opened.check_unchanged()
    assert caught.value.exit_code == 17


def test_78_an_unfinished_pack(packs: Any) -> None:
    pack = packs()
    (pack / "pack.index").unlink()
    with pytest.raises(UsageError, match="one that was not finished"):
        open_pack(pack)


def test_79_a_pipe_in_the_place_of_a_file(packs: Any) -> None:
    pack = packs()
    (pack / "config.json").unlink()
    os.mkfifo(pack / "config.json")
    assert malformed(lambda: open_pack(pack)).found == "another kind of file"


def test_80_a_source_exchanged_while_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model(tmp_path / "m", tiny())
    write_model(tmp_path / "n", tiny() | {"a.bias": ("float32", (6,), bytes(24))})
    real = TensorSwap(source, tmp_path / "n")
    monkeypatch.setattr("weighmaster.pack.exact.ExactEncoder.encode", real.encode)
    with pytest.raises(SourceFault) as caught:
        pack_model(source, tmp_path / "p")
    assert caught.value.exit_code == 17
    assert not (tmp_path / "p" / "pack.index").exists()


class TensorSwap:
    """Exchanges the weight file at the first tensor."""

    def __init__(self, source: Path, other: Path) -> None:
        from weighmaster.pack.exact import ExactEncoder

        self.real, self.source, self.other = ExactEncoder.encode, source, other

    def encode(self, view: Any) -> Any:
        from weighmaster.pack.exact import ExactEncoder

        if (self.other / "model.safetensors").exists():
            (self.other / "model.safetensors").rename(self.source / "model.safetensors")
        return self.real(ExactEncoder(), view)


def test_81_rows_under_the_weaker_check(packs: Any) -> None:
    """Stated: a band of rows is checked against damage; who can write checksums is found by the whole tensor alone."""
    pack, other = packs(), packs("q", seed=5)
    (pack / SHARDS[0]).write_bytes((other / SHARDS[0]).read_bytes())
    relist(pack, SHARDS[0])
    with open_pack(pack) as opened, open_pack(other) as theirs:
        assert opened.read_rows("t0", 0, 2).data.tobytes() == theirs.read_rows("t0", 0, 2).data.tobytes()
        with pytest.raises(TensorFault):
            opened.read("t0")
