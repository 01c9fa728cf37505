# SPDX-License-Identifier: Apache-2.0
"""A pack that was changed in any bit is found out; every finding names what it is about."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.packs import pack_tiny, read_index, tiny, values, write_index, write_model, write_sharded

from weighmaster.errors import Faults, MalformedArtefact, NotAdmitted, SourceFault, TensorFault, UsageError
from weighmaster.flows.pack_verification import CONSISTENT, require_whole, verify_pack
from weighmaster.pack.index_rules import SHARD_INDEX
from weighmaster.pack.reader import open_pack


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pack_tiny(monkeypatch, write_model(tmp_path / "m", tiny()), tmp_path / "p")
    return tmp_path / "p"


def test_what_holds(pack: Path):
    counted: list[int] = []
    done = verify_pack(pack, threads=1, progress=counted.append)
    assert done.root == hashlib.sha256((pack / "pack.index").read_bytes()).hexdigest()
    assert (done.tensors, done.files, done.nbytes) == (3, 3, 6 * 40 * 2 + 24 + 8)
    assert sum(counted) == done.nbytes
    with open_pack(pack) as opened:
        assert done.bits_per_weight == opened.bits_per_weight()
    assert CONSISTENT == "consistent, origin not checked"


def test_all_faults_at_once(pack: Path):
    """A raw tensor of other bytes, and a changed file: each is named, with both digests."""
    data = (pack / "model.safetensors").read_bytes()
    at = data.index(tiny()["a.bias"][2])
    (pack / "model.safetensors").write_bytes(data[:at] + bytes(24) + data[at + 24 :])
    (pack / "config.json").write_bytes((pack / "config.json").read_bytes().swapcase())
    with pytest.raises(NotAdmitted) as caught:
        verify_pack(pack)
    names = [(type(f), f.subject) for f in caught.value.faults]
    assert names == [
        (SourceFault, f"{pack}/config.json"),
        (SourceFault, f"{pack}/model.safetensors"),
        (TensorFault, "a.bias"),
        (TensorFault, "a.bias"),
    ]
    blob, rebuilt = caught.value.faults[2:]
    assert blob.detail == "its bytes in the shard differ (SHA-256)"
    assert rebuilt.detail == "bytes differ (SHA-256)"
    assert rebuilt.expected == hashlib.sha256(tiny()["a.bias"][2]).hexdigest()
    assert rebuilt.found == hashlib.sha256(bytes(24)).hexdigest()


@pytest.mark.parametrize(
    ("field", "kind", "detail"),
    [
        ("blob", TensorFault, "its bytes in the shard differ (SHA-256)"),
        ("sha256", TensorFault, "bytes differ (SHA-256)"),
        ("fsverity64k", TensorFault, "bytes differ (fs-verity digest)"),
    ],
)
def test_each_digest_of_a_tensor_counts(pack: Path, field: str, kind: type, detail: str):
    index = read_index(pack)
    tensors = [dataclasses.replace(t, **{field: "0" * 64}) if t.name == "a.weight" else t for t in index.tensors]
    write_index(pack, dataclasses.replace(index, tensors=tuple(tensors)))
    with pytest.raises(NotAdmitted) as caught:
        verify_pack(pack)
    (fault,) = caught.value.faults
    assert (type(fault), fault.subject, fault.detail, fault.expected) == (kind, "a.weight", detail, "0" * 64)


def test_each_file_counts(pack: Path):
    index = read_index(pack)
    for i, file in enumerate(index.files):
        files = (*index.files[:i], dataclasses.replace(file, sha256="0" * 64), *index.files[i + 1 :])
        write_index(pack, dataclasses.replace(index, files=files))
        with pytest.raises(NotAdmitted) as caught:
            verify_pack(pack)
        assert [fault.subject for fault in caught.value.faults] == [f"{pack}/{file.path}"]


def test_a_shard_index_that_is_listed_and_leads_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pack = tmp_path / "p"
    pack_tiny(monkeypatch, write_model(tmp_path / "m", tiny()), pack, shard_bytes=100)
    path = pack / SHARD_INDEX
    found = json.loads(path.read_text())
    first = min(found["weight_map"])
    found["weight_map"][first] = "../other/" + found["weight_map"][first]
    data = json.dumps(found).encode()
    path.write_bytes(data)
    listed = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    index = read_index(pack)
    files = tuple(dataclasses.replace(f, **listed) if f.path == SHARD_INDEX else f for f in index.files)
    write_index(pack, dataclasses.replace(index, files=files))
    with pytest.raises(NotAdmitted) as caught:
        verify_pack(pack)
    (fault,) = caught.value.faults
    assert (fault.subject, fault.detail) == (str(path), "places the tensors in other shards")


def test_a_shard_written_to_while_it_is_read(pack: Path):
    with open_pack(pack) as opened:
        data = (pack / "model.safetensors").read_bytes()
        (pack / "model.safetensors").write_bytes(data)
        with pytest.raises(SourceFault, match="the file changed while it was read"):
            require_whole(opened)


def test_no_pack(tmp_path: Path):
    with pytest.raises(UsageError, match="so this is no pack"):
        verify_pack(tmp_path)


def refused(call: Callable[[], object]) -> str | None:
    """Return how `call` was refused, or None; anything but our own errors is a defect and goes on."""
    try:
        call()
    except (MalformedArtefact, Faults, TensorFault, SourceFault) as error:
        return str(error)
    return None


def flips(data: bytes) -> list[tuple[int, bytes]]:
    return [(at, bytes([data[at] ^ (1 << bit)])) for at in range(len(data)) for bit in range(8)]


@pytest.mark.requirement("REQ-PAC-03")
@pytest.mark.slow
def test_every_single_bit_of_a_pack_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`verify` finds each one; in the index and in shards the reader does, before it hands out a tensor."""
    tensors = [
        {"w": ("bfloat16", (2, 3), values("bfloat16", (2, 3)))},
        {"b": ("float32", (1,), values("float32", (1,)))},
    ]
    source = write_sharded(tmp_path / "m", tensors)
    (source / "config.json").write_text("{}")
    root = tmp_path / "p"
    pack_tiny(monkeypatch, source, root, shard_bytes=12)
    assert {t.codec for t in read_index(root).tensors} == {"exact-v1", "raw-v1"}
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert len(names) == 6
    unseen, total = [], 0
    for name in names:
        data = (root / name).read_bytes()
        read = name == "pack.index" or name.startswith("model-")
        with (root / name).open("r+b", buffering=0) as file:
            for at, flipped in flips(data):
                file.seek(at)
                file.write(flipped)
                unseen += [(name, at, how) for how in found_by(root, read=read)]
                file.seek(at)
                file.write(data[at : at + 1])
                total += 1
    assert unseen == []
    assert total == 8 * sum((root / name).stat().st_size for name in names)
    verify_pack(root)


def found_by(root: Path, *, read: bool) -> list[str]:
    """Return by whom a change of a pack was NOT found."""
    try:
        pack = open_pack(root, threads=1)
    except MalformedArtefact:
        return []  # the first step of the reader and of verify
    with pack:
        by = ["verify"] if refused(lambda: require_whole(pack)) is None else []
        if read and not any(refused(lambda name=name: pack.read(name)) for name in pack):  # type: ignore[misc]
            by.append("reader")
        return by
