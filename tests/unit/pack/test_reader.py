# SPDX-License-Identifier: Apache-2.0
"""What a reader hands out was compared with the index; whatever was changed is named before."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.packs import pack_tiny, read_index, tiny, values, write_index, write_model, write_sharded

from weighmaster.core.digest import digest_bytes
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.errors import MalformedArtefact, SourceFault, StorageError, TensorFault, UsageError
from weighmaster.pack.coder import NumpyBackend, encode_exact
from weighmaster.pack.index import index_bytes
from weighmaster.pack.packed import PackedTensor
from weighmaster.pack.reader import open_pack, rebuild

MODEL = {
    "embed": ("bfloat16", (70, 33), values("bfloat16", (70, 33), 1)),
    "layer": ("bfloat16", (5, 100), values("bfloat16", (5, 100), 2)),
    "norm": ("float32", (33,), values("float32", (33,), 3)),
    "steps": ("int64", (), (7).to_bytes(8, "little")),
    "empty": ("float32", (0, 3), b""),
}


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pack_tiny(monkeypatch, write_model(tmp_path / "m", MODEL), tmp_path / "p", shard_bytes=5_000)
    return tmp_path / "p"


def test_all_tensors_by_name_and_in_order(pack: Path):
    with open_pack(pack, threads=2) as opened:
        assert opened.names() == tuple(opened) == ("embed", "empty", "layer", "norm", "steps")
        assert (len(opened), "embed" in opened, "x" in opened) == (5, True, False)
        for name, rebuilt in opened.items():
            assert (rebuilt.dtype, rebuilt.shape, rebuilt.data.tobytes()) == MODEL[name]
            assert rebuilt.data.tobytes() == rebuilt.data.tobytes() == opened.read(name, threads=3).data.tobytes()
        assert [name for name, _ in opened.items(["norm", "embed"])] == ["norm", "embed"]
        assert sorted(name for name, _ in opened.items()) == sorted(MODEL)


def test_unknown_names(pack: Path):
    with open_pack(pack) as opened:
        with pytest.raises(KeyError, match="nope"):
            opened["nope"]
        for call in (opened.read, opened.entry, opened.blob, opened.blob_size, lambda n: list(opened.items([n]))):
            with pytest.raises(UsageError, match="no tensor nope in it"):
                call("nope")


def test_a_closed_pack(pack: Path):
    with open_pack(pack) as opened:
        pass
    with pytest.raises(UsageError, match="the file is closed"):
        opened.read("embed")


@pytest.mark.requirement("REQ-PAC-13")
def test_bits_per_weight_count_everything_that_is_needed(pack: Path):
    counted = [*pack.glob("*.safetensors"), pack / "pack.index", pack / "model.safetensors.index.json"]
    total = sum(path.stat().st_size for path in counted)
    elements = sum(int(np.prod(shape)) for _, shape, _ in MODEL.values())
    with open_pack(pack) as opened:
        assert opened.nbytes() == total
        assert opened.bits_per_weight() * elements == 8 * total


@pytest.mark.parametrize("name", ["embed", "layer", "norm"])
def test_row_bands(pack: Path, name: str):
    dtype, shape, data = MODEL[name]
    width = len(data) // shape[0]
    with open_pack(pack) as opened:
        for first in range(0, shape[0], 7):
            for last in range(first, shape[0] + 1, 13):
                rows = opened.read_rows(name, first, last)
                assert (rows.dtype, rows.shape) == (dtype, (last - first, *shape[1:]))
                assert rows.data.tobytes() == data[first * width : last * width]


def test_row_bands_of_higher_dimensions_cut_through_rows_of_the_matrix(tmp_path: Path):
    from weighmaster.flows.packing import pack_model

    shape = (6, 40, 3, 3)
    data = values("float16", shape)
    pack_model(write_model(tmp_path / "m", {"conv": ("float16", shape, data)}), tmp_path / "p")
    with open_pack(tmp_path / "p") as opened:
        assert opened.entry("conv").codec == "exact-v1"
        assert opened.read_rows("conv", 2, 5).data.tobytes() == data[720 * 2 : 720 * 5]


def test_only_the_chunks_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from weighmaster.flows.packing import pack_model

    data = values("bfloat16", (1024, 256))
    pack_model(write_model(tmp_path / "m", {"w": ("bfloat16", (1024, 256), data)}), tmp_path / "p")
    with open_pack(tmp_path / "p") as opened:
        size, asked, real = opened.blob_size("w"), [], os.pread
        monkeypatch.setattr(os, "pread", lambda fd, n, at: (asked.append(n), real(fd, n, at))[1])
        opened.read_rows("w", 300, 301)
    assert sum(asked) < size * 0.3


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (0, 71), (5, 4)])
def test_rows_that_are_not_there(pack: Path, first: int, last: int):
    with open_pack(pack) as opened, pytest.raises(UsageError, match=rf"^embed: no rows {first} to {last} in shape"):
        opened.read_rows("embed", first, last)


def test_a_scalar_has_no_rows(pack: Path):
    with open_pack(pack) as opened, pytest.raises(UsageError, match=r"no rows 0 to 1 in shape \[\]"):
        opened.read_rows("steps", 0, 1)


def test_rows_of_a_raw_tensor_are_compared_whole(pack: Path):
    damage(pack, "norm", 4 * 32)
    with open_pack(pack) as opened, pytest.raises(TensorFault, match=r"^norm: bytes differ"):
        opened.read_rows("norm", 0, 1)


def damage(pack: Path, name: str, at: int) -> None:
    """Flip a bit of a tensor's bytes in its shard."""
    with open_pack(pack) as opened:
        shard = opened._shards[opened.entry(name).shard]
        begin = next(e.begin for e in shard.header.entries if e.name == name) + len(shard.front())
    path = pack / shard.path.name
    data = bytearray(path.read_bytes())
    data[begin + at] ^= 1
    path.write_bytes(data)


def test_a_damaged_chunk_is_named(pack: Path):
    damage(pack, "embed", -1 % 1000)
    with open_pack(pack) as opened:
        with pytest.raises(MalformedArtefact) as caught:
            opened.read("embed")
        assert caught.value.file == f"{pack}/model-00001-of-00002.safetensors: embed"
        assert caught.value.field == "chunk 0: CRC-32"
        with pytest.raises(MalformedArtefact, match="chunk 0: CRC-32"):
            opened.read_rows("embed", 0, 1)
        with pytest.raises(MalformedArtefact, match="chunk 0: CRC-32"):
            list(opened.items())
        assert opened.read("layer").data.tobytes() == MODEL["layer"][2]


def test_other_digests_in_the_index_are_faults_of_the_tensor(pack: Path):
    index = read_index(pack)
    wrong = [dataclasses.replace(t, sha256="0" * 64, fsverity64k="0" * 64) for t in index.tensors]
    write_index(pack, dataclasses.replace(index, tensors=tuple(wrong)))
    with open_pack(pack) as opened:
        for name, (_, _, data) in MODEL.items():
            with pytest.raises(TensorFault) as caught:
                opened.read(name)
            assert (caught.value.subject, caught.value.expected) == (name, "0" * 64)
            assert caught.value.found == hashlib.sha256(data).hexdigest()


# -- shards ------------------------------------------------------------------------------------------------------------

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def test_a_shard_of_another_pack_of_the_same_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Same names, shapes and lengths: only digests tell."""
    for i in (1, 2):
        data = bytes([i]) * 24
        pack_tiny(monkeypatch, write_model(tmp_path / f"m{i}", {"b": ("float32", (6,), data)}), tmp_path / f"p{i}")
    (tmp_path / "p2" / "model.safetensors").rename(tmp_path / "p1" / "model.safetensors")
    with open_pack(tmp_path / "p1") as opened, pytest.raises(TensorFault, match=r"^b: bytes differ"):
        opened.read("b")


def test_shards_exchanged(pack: Path):
    one, two = (pack / name for name in SHARDS)
    one.rename(pack / "x")
    two.rename(one)
    (pack / "x").rename(two)
    with pytest.raises(MalformedArtefact, match=r"model-00001-of-00002.safetensors: expected \d+ bytes"):
        open_pack(pack)


def test_shards_of_one_length_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parts = [{f"t{i}": ("float32", (6,), bytes([i]) * 24)} for i in (1, 2)]
    pack_tiny(monkeypatch, write_sharded(tmp_path / "m", parts), tmp_path / "p", shard_bytes=24)
    one, two = (tmp_path / "p" / name for name in SHARDS)
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    with pytest.raises(MalformedArtefact) as caught:
        open_pack(tmp_path / "p")
    assert (caught.value.field, caught.value.expected) == ("t1", "a tensor that the index places here")


def test_the_index_of_another_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for i, shape in enumerate([(6, 40), (40, 6)]):
        tensors = {"w": ("bfloat16", shape, values("bfloat16", shape))}
        pack_tiny(monkeypatch, write_model(tmp_path / f"m{i}", tensors), tmp_path / f"p{i}")
    (tmp_path / "p1" / "pack.index").rename(tmp_path / "p0" / "pack.index")
    with pytest.raises(MalformedArtefact, match="expected"):
        open_pack(tmp_path / "p0")


def with_shard(pack: Path, shard: bytes, **changes: Any) -> None:
    """Put a shard in its place and list it, as an attacker would who can compute digests."""
    index = read_index(pack)
    (pack / index.shards[0]).write_bytes(shard)
    entry = {"size": len(shard), "sha256": hashlib.sha256(shard).hexdigest()}
    files = [dataclasses.replace(f, **entry) if f.path == index.shards[0] else f for f in index.files]
    tensors = [dataclasses.replace(t, **changes.get(t.name, {})) for t in index.tensors]
    write_index(pack, dataclasses.replace(index, files=tuple(files), tensors=tuple(tensors)))


def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pack_tiny(monkeypatch, write_model(tmp_path / "m", tiny()), tmp_path / "p")
    return tmp_path / "p"


def stored(pack: Path) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    with open_pack(pack) as opened:
        return [(v.name, v.dtype, v.shape, bytes(v.read(0, v.nbytes))) for v in opened._views.values()]


Change = Callable[[list[tuple[str, str, tuple[int, ...], bytes]]], object]

FORMS: list[tuple[str, Change, str, str]] = [
    ("a tensor more", lambda s: s.append(("x", "uint8", (1,), b"x")), "x", "only tensors that the index places here"),
    ("a tensor less", lambda s: s.pop(0), "steps", "a tensor that the index places here"),
    ("renamed", lambda s: s.__setitem__(0, ("stepz", *s[0][1:])), "steps", "a tensor that the index places here"),
    ("another dtype", lambda s: s.__setitem__(0, ("steps", "uint64", (), s[0][3])), "steps", "int64 of shape []"),
    ("another shape", lambda s: s.__setitem__(0, ("steps", "int64", (1,), s[0][3])), "steps", "int64 of shape []"),
    (
        "a raw tensor cut",
        lambda s: s.__setitem__(1, ("a.bias", "float32", (5,), s[1][3][:20])),
        "a.bias",
        "of shape [6]",
    ),
    (
        "a blob with a shape",
        lambda s: s.__setitem__(2, ("a.weight", "uint8", (1, len(s[2][3])), s[2][3])),
        "a.weight",
        "",
    ),
    ("a blob of signed bytes", lambda s: s.__setitem__(2, ("a.weight", "int8", s[2][2], s[2][3])), "a.weight", "uint8"),
]


@pytest.mark.parametrize(("change", "field", "expected"), [f[1:] for f in FORMS], ids=[f[0] for f in FORMS])
def test_shards_hold_exactly_what_the_index_places_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, field: str, expected: str
):
    pack = plain(tmp_path, monkeypatch)
    tensors = stored(pack)
    assert [t[0] for t in tensors] == ["steps", "a.bias", "a.weight"]
    change(tensors)
    with_shard(pack, safetensors_bytes(tensors, {"format": "pt"}))
    with pytest.raises(MalformedArtefact) as caught:
        open_pack(pack)
    found = (caught.value.file, caught.value.field)
    assert found in {(str(pack / "model.safetensors"), field), (str(pack / "model.safetensors"), "stepz")}
    assert expected in caught.value.expected or caught.value.field == "stepz"


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"pt"', b'"tf"'), (b'"format":"pt"}', b'"format":"pt"}'.replace(b":", b": "))],
    ids=["metadata", "spelling"],
)
def test_a_shard_has_one_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes):
    pack = plain(tmp_path, monkeypatch)
    data = (pack / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(before, after)
    with_shard(pack, len(header).to_bytes(8, "little") + header + data[8 + length :])
    with pytest.raises(MalformedArtefact, match="header: expected the one header that these tensors have"):
        open_pack(pack)


def test_offsets_beyond_the_file_and_overlaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pack = plain(tmp_path, monkeypatch)
    data = (pack / "model.safetensors").read_bytes()
    for before, after, said in [
        (b'"data_offsets":[8,32]', b'"data_offsets":[0,24]', "overlap"),
        (b'"data_offsets":[8,32]', b'"data_offsets":[9,33]', "hole"),
    ]:
        assert before in data
        with_shard(pack, data.replace(before, after))
        with pytest.raises(MalformedArtefact, match=said):
            open_pack(pack)
    with_shard(pack, data[:-1])
    with pytest.raises(MalformedArtefact, match="the file is truncated"):
        open_pack(pack)


def test_truncated_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pack = plain(tmp_path, monkeypatch)
    for name in ("pack.index", "model.safetensors", "config.json", "source/config.json"):
        data = (pack / name).read_bytes()
        for length in range(0, len(data), max(1, len(data) // 200)):
            (pack / name).write_bytes(data[:length])
            with pytest.raises(MalformedArtefact, match=name):
                open_pack(pack)
        (pack / name).write_bytes(data)
    open_pack(pack).close()


def test_a_shard_cut_after_opening(pack: Path):
    with open_pack(pack) as opened:
        for name in SHARDS:
            os.truncate(pack / name, 600)
        with pytest.raises(MalformedArtefact, match="the file shrank while it was read"):
            list(opened.items())
        with pytest.raises(SourceFault, match="the file changed while it was read"):
            opened.check_unchanged()


# -- blobs that lie ----------------------------------------------------------------------------------------------------


def entry(**changes: Any) -> PackedTensor:
    fields = {"dtype": "bfloat16", "shape": (6, 40), "codec": "exact-v1", "sha256": "", "fsverity64k": ""} | changes
    return PackedTensor(name="t", shard=0, blob="", **fields)


BLOB = encode_exact(np.frombuffer(values("bfloat16", (6, 40)), np.uint8), "bfloat16", 6, 40, NumpyBackend())


@pytest.mark.parametrize(
    ("changes", "field", "expected", "found"),
    [
        ({"shape": (6, 41)}, "header: rows and cols", "246 elements, as in the index", "240"),
        ({"codec": "five-v1"}, "header", "five-v1 of bfloat16", "exact-v1 of bfloat16"),
        ({"dtype": "float16"}, "header", "exact-v1 of float16", "exact-v1 of bfloat16"),
    ],
)
def test_index_and_blob_have_to_agree(changes: dict[str, Any], field: str, expected: str, found: str):
    with pytest.raises(MalformedArtefact) as caught:
        rebuild(entry(**changes), memoryview(BLOB), "s: t", NumpyBackend())
    assert (caught.value.file, caught.value.field) == ("s: t", field)
    assert (caught.value.expected, caught.value.found) == (expected, found)


def test_another_layout_of_the_same_elements_is_rebuilt():
    assert rebuild(entry(shape=(240,)), memoryview(BLOB), "x", NumpyBackend()).tobytes() == values("bfloat16", (6, 40))


def head(rows: int, cols: int, band: int, side: bytes, size: int) -> bytes:
    packed = struct.pack("<4sBBBBQQIIII", b"WMT1", 2, 1, 12, 0, rows, cols, band, len(side), size, zlib.crc32(side))
    return packed + zlib.crc32(packed).to_bytes(4, "little") + side


BOMB = zlib.compress(bytes(1 << 28), 9)
"""256 MiB of zeros."""

LIES = {
    "rows": head(1 << 40, 1 << 20, 1, b"", 10),
    "rows of a side section": head(1 << 27, 1, 1 << 24, BOMB, 2 << 27) + bytes(4096),
    "a side section that inflates further": head(6, 40, 6, BOMB, 5172 + 92) + bytes(4096),
}
_CHILD = """
import resource, sys
import numpy
from tests.unit.pack import test_reader as t
LIMIT = 400 << 20
with open("/proc/self/statm") as file:
    held = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (128 << 20),) * 2)
for shape in ((6, 40), (1 << 40, 1 << 9), (1 << 27,), (1 << 45,)):
    for name, blob in t.LIES.items():
        try:
            t.rebuild(t.entry(shape=shape), memoryview(blob), name, t.NumpyBackend())
        except (t.MalformedArtefact, t.StorageError) as error:
            print(type(error).__name__, name, shape)
"""


@pytest.mark.requirement("REQ-PAC-04")
@pytest.mark.slow
def test_absurd_sizes_are_refused_before_anything_is_allocated():
    """In 128 MiB beyond what the interpreter holds; a traceback instead of an answer fails the test."""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=False, cwd=root)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 4 * len(LIES)


def test_no_memory_for_a_tensor_is_a_storage_error(monkeypatch: pytest.MonkeyPatch):
    def none(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("weighmaster.pack.reader.decode_rows", none)
    with pytest.raises(StorageError, match=r"^s: t: no memory for 480 bytes$"):
        rebuild(entry(), memoryview(BLOB), "s: t", NumpyBackend())


# -- other files -------------------------------------------------------------------------------------------------------


def test_other_files_are_compared_as_they_are_read(pack: Path):
    with open_pack(pack) as opened:
        assert opened.read_file("source/config.json") == b"{}"
        (pack / "source/config.json").write_text("[]")
        with pytest.raises(SourceFault) as caught:
            opened.read_file("source/config.json")
        assert caught.value.subject == f"{pack}/source/config.json"
        assert caught.value.found == hashlib.sha256(b"[]").hexdigest()
        with pytest.raises(UsageError, match=r"no file tokenizer\.json in it"):
            opened.read_file("tokenizer.json")


def test_the_digests_are_those_of_the_source(pack: Path):
    for tensor in read_index(pack).tensors:
        digest = digest_bytes(MODEL[tensor.name][2])
        assert (tensor.sha256, tensor.fsverity64k) == (digest.sha256, digest.fsverity64k)


def test_an_index_has_one_spelling(pack: Path):
    assert index_bytes(read_index(pack)) == (pack / "pack.index").read_bytes()
