# SPDX-License-Identifier: Apache-2.0
"""The reader of safetensors files and checkpoints: what it gives, and everything that it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from weighmaster import safetensors_file
from weighmaster.capture.safetensors_files import MAX_HEADER, open_checkpoint, open_file
from weighmaster.core.dtype import SAFETENSORS_NAMES
from weighmaster.errors import MalformedArtefact, SourceFault, StorageError, UsageError

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_bytes(header: object, data: bytes = b"", *, pad: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += pad
    return len(text).to_bytes(8, "little") + text + data


def put(folder: Path, header: object, data: bytes = b"", *, name: str = "m.safetensors") -> Path:
    path = folder / name
    path.write_bytes(file_bytes(header, data))
    return path


def refused(path: Path) -> MalformedArtefact:
    with pytest.raises(MalformedArtefact) as caught:
        open_checkpoint(path)
    return caught.value


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "encoder.weight": torch.randn(3, 5, generator=generator),
        "encoder.bias": torch.randn(5, generator=generator).to(torch.bfloat16),
        "flag": torch.tensor(data=True),
        "codes": torch.arange(7, dtype=torch.uint8),
        "nothing": torch.empty(0, 4, dtype=torch.float16),
        "Überschrift": torch.arange(3),
    }


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else bytes([int(tensor)])


# ---------------------------------------------------------------- what it gives


def test_gives_what_the_library_wrote(tmp_path: Path) -> None:
    wrote = tensors()
    safetensors.torch.save_file(wrote, tmp_path / "m.safetensors", metadata={"format": "pt"})
    with open_file(tmp_path / "m.safetensors") as file:
        views = {view.name: view for view in file.views()}
        assert views.keys() == wrote.keys()
        assert file.header.metadata == (("format", "pt"),)
        for name, tensor in wrote.items():
            view = views[name]
            assert (view.dtype, view.shape) == (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            assert (view.layout, view.role, view.extent) == ("canonical", "file", None)
            assert view.stride == tensor.contiguous().stride()
            assert bytes(view.read(0, view.nbytes)) == raw(tensor)
        file.check_unchanged()


def test_reads_ranges_only(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4
    path = put(tmp_path, {"w": {"dtype": "U8", "shape": [1024], "data_offsets": [0, 1024]}}, data)
    with open_file(path) as file:
        (view,) = file.views()
        assert bytes(view.read(250, 260)) == data[250:260]
        assert bytes(view.read(1024, 1024)) == b""
        for start, stop in ((-1, 4), (4, 3), (0, 1025)):
            with pytest.raises(ValueError, match=f"w: range {start} to {stop} of 1024 bytes"):
                view.read(start, stop)


def test_joins_what_the_kernel_gives_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, {"w": {"dtype": "U8", "shape": [64], "data_offsets": [0, 64]}}, bytes(range(64)))
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 7), at))
    with open_file(path) as file:
        assert bytes(file.views()[0].read(3, 60)) == bytes(range(3, 60))


def test_a_failing_disk_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, {"w": F32}, bytes(8))
    with open_file(path) as file:

        def broken(_fd: int, _count: int, _offset: int) -> bytes:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "pread", broken)
        with pytest.raises(StorageError, match=r"m\.safetensors: cannot be read: Input/output error"):
            file.views()[0].read(0, 8)


@pytest.mark.parametrize(("label", "ours"), sorted(SAFETENSORS_NAMES.items()))
def test_knows_every_dtype_of_the_table(tmp_path: Path, label: str, ours: str) -> None:
    digits = re.search(r"\d+", label)
    size = int(digits[0]) // 8 if digits else 1
    path = put(tmp_path, {"w": {"dtype": label, "shape": [3], "data_offsets": [0, 3 * size]}}, bytes(3 * size))
    with open_file(path) as file:
        assert (file.views()[0].dtype, file.views()[0].nbytes) == (ours, 3 * size)


def test_header_may_be_padded_with_spaces_and_hold_no_tensor(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(file_bytes({}, pad=b"      "))
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.views() == ()


def test_names_that_differ_in_case_only_are_two_tensors(tmp_path: Path) -> None:
    path = put(tmp_path, {"w": F32, "W": {**F32, "data_offsets": [8, 16]}}, bytes(range(16)))
    with open_file(path) as file:
        assert [view.name for view in file.views()] == ["w", "W"]


def test_a_closed_file_is_not_read(tmp_path: Path) -> None:
    file = open_file(put(tmp_path, {"w": F32}, bytes(8)))
    (view,) = file.views()
    file.close()
    file.close()
    with pytest.raises(UsageError, match="the file is closed"):
        view.read(0, 1)
    with pytest.raises(UsageError, match="the file is closed"):
        file.check_unchanged()


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    path = put(tmp_path, {"w": {**F32, "dtype": "F31"}}, bytes(8))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        refused(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# ---------------------------------------------------------------- headers that are refused

NFD = "u\u0308ber"
BAD_HEADERS = {
    "not an object": (b'["w"]  ', "header", "'{' as its first byte", "'['"),
    "leading space": (b" {}", "header", "'{' as its first byte", "' '"),
    "byte order mark": (b"\xef\xbb\xbf{}", "header", "'{' as its first byte", r"'\xef'"),
    "ends in a newline": (b"{}\n", "header", "'}', then only spaces", r"'\n'"),
    "ends in NUL": (b"{}\0\0", "header", "'}', then only spaces", r"'\x00'"),
    "two values": (b"{} {}", "byte 3", "one JSON value", "Extra data"),
    "invalid UTF-8": (b'{"\xff":1}', "byte 2", "UTF-8", "an invalid sequence"),
    "lone surrogate": (b'{"\\ud800":1}', "", "Unicode text", "a lone surrogate"),
    "truncated JSON": (b'{"w":{}', "byte 7", "one JSON value", "Expecting"),
    "deep": (b'{"w":' + b"[" * 90 + b"]" * 90 + b"}", "", "nesting up to 64", "deeper nesting"),
    "duplicate tensor": (
        json.dumps({"w": F32})[:-1].encode() + b"," + json.dumps({"w": F32})[1:].encode(),
        "w",
        "each key once",
        "the key twice",
    ),
    "duplicate field": (
        b'{"w":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}',
        "dtype",
        "each key once",
        "the key twice",
    ),
    "float offset": (b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8.0]}}', "", "integers only", "number 8.0"),
    "exponent": (b'{"w":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}', "", "integers only", "number 2e0"),
    "NaN": (b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', "", "integers only", "number NaN"),
    "minus zero": (b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}', "", "no -0", "-0"),
    "unsafe integer": (
        b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616]}}',
        "",
        "an integer within 2^53 - 1",
        "18446744073709551616",
    ),
    "unknown dtype": ({"w": {**F32, "dtype": "F31"}}, "w.dtype", "one of BOOL, U8", "'F31'"),
    "our dtype name": ({"w": {**F32, "dtype": "float32"}}, "w.dtype", "one of BOOL, U8", "'float32'"),
    "dtype not text": ({"w": {**F32, "dtype": 7}}, "w.dtype", "a string", "a number"),
    "no dtype": ({"w": {"shape": [2], "data_offsets": [0, 8]}}, "w.dtype", "a value", "no such key"),
    "no shape": ({"w": {"dtype": "F32", "data_offsets": [0, 8]}}, "w.shape", "a value", "no such key"),
    "no offsets": ({"w": {"dtype": "F32", "shape": [2]}}, "w.data_offsets", "a value", "no such key"),
    "unknown key": ({"w": {**F32, "stride": [1]}}, "w.stride", "only the keys", "an unknown key"),
    "tensor not an object": ({"w": [0, 8]}, "w", "an object", "an array"),
    "negative dimension": ({"w": {**F32, "shape": [-2]}}, "w.shape[0]", "an integer from 0 to", "-2"),
    "boolean dimension": ({"w": {**F32, "shape": [2, True]}}, "w.shape[1]", "an integer", "a boolean"),
    "dimension as text": ({"w": {**F32, "shape": ["2"]}}, "w.shape[0]", "an integer", "a string"),
    "shape not an array": ({"w": {**F32, "shape": 2}}, "w.shape", "an array", "a number"),
    "three offsets": ({"w": {**F32, "data_offsets": [0, 4, 8]}}, "w.data_offsets", "[begin, end]", "[0, 4, 8]"),
    "begin after end": ({"w": {**F32, "data_offsets": [8, 0]}}, "w.data_offsets", "begin <= end", "[8, 0]"),
    "negative offset": ({"w": {**F32, "data_offsets": [-8, 0]}}, "w.data_offsets[0]", "an integer from 0", "-8"),
    "too few bytes": ({"w": {**F32, "shape": [3]}}, "w.data_offsets", "12 bytes for F32 of shape [3]", "8 bytes"),
    "too many bytes": ({"w": {**F32, "shape": [1]}}, "w.data_offsets", "4 bytes for F32 of shape [1]", "8 bytes"),
    "product past 2^64": (
        {"w": {"dtype": "U8", "shape": [2**33, 2**33], "data_offsets": [0, 8]}},
        "w.shape",
        "at most 2^53 - 1 bytes",
        "[8589934592, 8589934592]",
    ),
    "product wraps to 0 in 64 bits": (
        {"w": {"dtype": "F32", "shape": [2**31, 2**31, 4], "data_offsets": [0, 0]}},
        "w.shape",
        "at most 2^53 - 1 bytes",
        "[2147483648, 2147483648, 4]",
    ),
    "huge though empty": (
        {"w": {"dtype": "U8", "shape": [2**40, 2**40, 0], "data_offsets": [0, 0]}},
        "w.shape",
        "at most 2^53 - 1 bytes",
        "1099511627776, 0]",
    ),
    "empty with huge strides": (
        {"w": {"dtype": "U8", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}},
        "w.shape",
        "at most 2^53 - 1 bytes",
        "[0, 1099511627776, 1099511627776]",
    ),
    "overlap": (
        {"v": F32, "w": {**F32, "data_offsets": [4, 12]}},
        "w.data_offsets",
        "begin 8, where v ends",
        "an overlap: begin 4",
    ),
    "the same bytes twice": ({"v": F32, "w": F32}, "w.data_offsets", "begin 8, where v ends", "an overlap: begin 0"),
    "hole": (
        {"v": F32, "w": {**F32, "data_offsets": [12, 20]}},
        "w.data_offsets",
        "begin 8, where v ends",
        "a hole: begin 12",
    ),
    "hole at the front": (
        {"w": {**F32, "data_offsets": [8, 16]}},
        "w.data_offsets",
        "begin 0, where the header ends",
        "a hole: begin 8",
    ),
    "empty tensor within another": (
        {"v": F32, "w": {"dtype": "F32", "shape": [0], "data_offsets": [4, 4]}},
        "w.data_offsets",
        "begin 8",
        "an overlap: begin 4",
    ),
    "empty name": ({"": F32}, "''", "a tensor name in Unicode form NFC", "''"),
    "name not NFC": ({NFD: F32}, NFD, "a tensor name in Unicode form NFC", r"'u\u0308ber'"),
    "control characters in a name": ({"a\x1b[2J": {**F32, "dtype": "F31"}}, r"'a\x1b[2J'.dtype", "one of", "'F31'"),
    "metadata null": ({"__metadata__": None, "w": F32}, "__metadata__", "an object of texts", "None"),
    "metadata a list": ({"__metadata__": ["a"], "w": F32}, "__metadata__", "an object of texts", "['a']"),
    "metadata number": ({"__metadata__": {"a": 1}, "w": F32}, "__metadata__.a", "a string", "a number"),
    "metadata nested": ({"__metadata__": {"a": {"b": "c"}}, "w": F32}, "__metadata__.a", "a string", "an object"),
}


@pytest.mark.requirement("REQ-FIL-01")
@pytest.mark.parametrize("case", BAD_HEADERS)
def test_refuses_header(tmp_path: Path, case: str) -> None:
    header, field, expected, found = BAD_HEADERS[case]
    path = put(tmp_path, header, bytes(8))
    error = refused(path)
    assert (error.file, error.field) == (str(path), field)
    assert expected in error.expected
    assert found in error.found


@pytest.mark.requirement("REQ-FIL-01")
@pytest.mark.parametrize(
    ("data", "field", "expected", "found"),
    [
        (b"", "", "at least 8 bytes", "0: the file is truncated"),
        (b"\x02\0\0\0\0\0\0", "", "at least 8 bytes", "7: the file is truncated"),
        (bytes(8), "header length", "1 to 100000000", "0"),
        (bytes(8) + b"{}", "header length", "1 to 100000000", "0"),
        ((MAX_HEADER + 1).to_bytes(8, "little") + b"{}", "header length", "1 to 100000000", "100000001"),
        (b"\xff" * 8 + b"{}", "header length", "1 to 100000000", "18446744073709551615"),
        ((3).to_bytes(8, "little") + b"{}", "header length", "at least 11 bytes", "10: the file is truncated"),
        (file_bytes({"w": F32}, bytes(7)), "", "77 bytes", "76: the file is truncated"),
        (file_bytes({"w": F32}, bytes(9)), "", "77 bytes", "78: bytes after the last tensor"),
        (file_bytes({}) + b"\0", "", "10 bytes", "11: bytes after the last tensor"),
    ],
)
def test_refuses_length(tmp_path: Path, data: bytes, field: str, expected: str, found: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    error = refused(path)
    assert (error.file, error.field, error.found) == (str(path), field, found)
    assert expected in error.expected


def test_a_declared_length_is_not_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: (asked.append(n), real(fd, n, at))[1])
    size = 2**52
    path = put(tmp_path, {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}, bytes(8))
    assert refused(path).found.endswith("the file is truncated")
    assert max(asked) < 100


# ---------------------------------------------------------------- files that change


@pytest.mark.requirement("REQ-FIL-06")
def test_notices_a_write_while_it_was_read(tmp_path: Path) -> None:
    path = put(tmp_path, {"w": F32}, bytes(8))
    with open_file(path) as file:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))  # a writer who sets the time back is seen by the change time
        with pytest.raises(SourceFault, match="changed while it was read") as caught:
            file.check_unchanged()
    assert caught.value.subject == str(path)
    assert "ctime_ns" in str(caught.value.expected)


def test_notices_a_replaced_and_a_removed_file(tmp_path: Path) -> None:
    path = put(tmp_path, {"w": F32}, bytes(8))
    spare = put(tmp_path, {"w": F32}, bytes(8), name="spare")
    keep = tmp_path / "keep"
    os.link(path, keep)
    with open_file(path) as file:
        spare.replace(path)
        with pytest.raises(SourceFault) as caught:
            file.check_unchanged()
        assert caught.value.subject == str(path)


def test_notices_a_replaced_file_by_its_place_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, {"w": F32}, bytes(8))
    with open_file(path) as file:
        monkeypatch.setattr(safetensors_file.FileState, "require_same", lambda *_: None)
        put(tmp_path, {"w": F32}, bytes(8), name="spare").replace(path)
        with pytest.raises(SourceFault, match="the file was replaced while it was read; expected device and inode"):
            file.check_unchanged()
        path.unlink()
        with pytest.raises(SourceFault, match="the file went away; expected the file, found No such file"):
            file.check_unchanged()


def test_a_file_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = put(tmp_path, {"w": F32}, bytes(8))
    with open_file(path) as file:
        (view,) = file.views()
        os.truncate(path, path.stat().st_size - 3)
        with pytest.raises(MalformedArtefact) as caught:
            view.read(0, 8)
        assert (caught.value.file, caught.value.field) == (str(path), "w")
        assert caught.value.expected.startswith("8 bytes at offset")
        assert caught.value.found == "5: the file shrank while it was read"
        with pytest.raises(SourceFault, match=r"size 77, .* found size 74"):
            file.check_unchanged()


# ---------------------------------------------------------------- checkpoints

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def sharded(folder: Path, weight_map: object = None) -> Path:
    put(folder, {"a": F32}, b"aaaaaaaa", name=SHARDS[0])
    put(folder, {"b": F32}, b"bbbbbbbb", name=SHARDS[1])
    if weight_map is None:
        weight_map = {"a": SHARDS[0], "b": SHARDS[1]}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 16.0}, "weight_map": weight_map}))
    return folder


def test_reads_all_shards_of_an_index(tmp_path: Path) -> None:
    with open_checkpoint(sharded(tmp_path)) as checkpoint:
        read = {view.name: bytes(view.read(0, 8)) for view in checkpoint.views()}
        checkpoint.check_unchanged()
    assert read == {"a": b"aaaaaaaa", "b": b"bbbbbbbb"}


def test_a_consolidated_copy_beside_an_index_is_not_read(tmp_path: Path) -> None:
    put(sharded(tmp_path), {"c": F32}, bytes(8), name="consolidated.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert [view.name for view in checkpoint.views()] == ["a", "b"]


def test_notices_a_change_of_any_shard(tmp_path: Path) -> None:
    with open_checkpoint(sharded(tmp_path)) as checkpoint:
        os.utime(tmp_path / SHARDS[1], ns=(5, 5))
        with pytest.raises(SourceFault, match=SHARDS[1]):
            checkpoint.check_unchanged()


def test_refuses_a_tensor_that_the_index_lacks(tmp_path: Path) -> None:
    sharded(tmp_path)
    put(tmp_path, {"a": F32, "z": {**F32, "data_offsets": [8, 16]}}, bytes(16), name=SHARDS[0])
    error = refused(tmp_path)
    assert (error.file, error.field) == (str(tmp_path / INDEX), "weight_map.z")
    assert (error.expected, error.found) == (f"{SHARDS[0]}, which holds it", "no such key")


def test_refuses_a_tensor_that_no_shard_holds(tmp_path: Path) -> None:
    error = refused(sharded(tmp_path, {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[1]}))
    assert (error.file, error.field) == (str(tmp_path / SHARDS[1]), "c")
    assert (error.expected, error.found) == (
        f"the tensor, which {tmp_path / INDEX} places here",
        "no such tensor",
    )


def test_refuses_a_tensor_in_another_shard_than_the_index_says(tmp_path: Path) -> None:
    error = refused(sharded(tmp_path, {"a": SHARDS[1], "b": SHARDS[0]}))
    assert (error.field, error.found) == ("weight_map.a", f"shard {SHARDS[1]}")
    assert error.expected == f"{SHARDS[0]}, which holds it"


def test_refuses_a_tensor_held_by_two_shards(tmp_path: Path) -> None:
    sharded(tmp_path)
    put(tmp_path, {"a": F32, "b": {**F32, "data_offsets": [8, 16]}}, bytes(16), name=SHARDS[1])
    error = refused(tmp_path)
    assert (error.field, error.found) == ("weight_map.a", f"shard {SHARDS[0]}")


def test_refuses_a_missing_shard(tmp_path: Path) -> None:
    (sharded(tmp_path) / SHARDS[1]).unlink()
    error = refused(tmp_path)
    assert (error.file, error.found) == (str(tmp_path / INDEX), "no such file")
    assert SHARDS[1] in error.expected


def test_refuses_shards_without_index(tmp_path: Path) -> None:
    (sharded(tmp_path) / INDEX).unlink()
    error = refused(tmp_path)
    assert error.file == str(tmp_path)
    assert error.expected == "one *.safetensors file, or a *.safetensors.index.json that names the shards"
    assert error.found == f"2 files and no index: {SHARDS[0]}, {SHARDS[1]}"


def test_refuses_a_lone_shard(tmp_path: Path) -> None:
    put(tmp_path, {"a": F32}, bytes(8), name=SHARDS[0])
    error = refused(tmp_path)
    assert (error.expected, error.found) == ("a *.safetensors.index.json beside a shard", f"only {SHARDS[0]}")


def test_accepts_the_one_shard_of_one(tmp_path: Path) -> None:
    put(tmp_path, {"a": F32}, bytes(8), name="model-00001-of-00001.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert [view.name for view in checkpoint.views()] == ["a"]


def test_refuses_a_whole_file_beside_an_index_that_does_not_name_it(tmp_path: Path) -> None:
    put(sharded(tmp_path), {"a": F32}, bytes(8), name="model.safetensors")
    assert refused(tmp_path).found == "both, and the index does not name the file"


def test_refuses_two_indexes(tmp_path: Path) -> None:
    (sharded(tmp_path) / "other.safetensors.index.json").write_text("{}")
    assert refused(tmp_path).found == "model.safetensors.index.json, other.safetensors.index.json"


def test_says_when_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \*\.safetensors file and no"):
        open_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        open_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(UsageError, match="absent"):
        open_checkpoint(tmp_path / "absent" / "m.safetensors")


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "sub/model.safetensors",
        "..",
        ".",
        "",
        ".hidden.safetensors",
        "model.bin",
        "a\0b.safetensors",
        "a\\b.safetensors",
        "a\x1b.safetensors",
        "a\ud800.safetensors",
        7,
        None,
        ["model.safetensors"],
    ],
)
def test_refuses_shard_names_that_lead_elsewhere(tmp_path: Path, shard: object) -> None:
    put(tmp_path.parent, {"a": F32}, bytes(8), name="outside.safetensors")
    error = refused(sharded(tmp_path, {"a": shard}))
    assert (error.file, error.field) == (str(tmp_path / INDEX), "weight_map.a")
    assert error.expected == "the plain name of a *.safetensors file beside the index"
    assert error.found.isprintable()


@pytest.mark.parametrize(
    ("text", "field", "found"),
    [
        (b"", "", "Expecting value"),
        (b"\xff", "", "can't decode"),
        (b"[]", "", "an array"),
        (b"{}", "weight_map", "no such key"),
        (b'{"weight_map":{}}', "weight_map", "{}"),
        (b'{"weight_map":[]}', "weight_map", "[]"),
        (b'{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', "a", "the key twice"),
        (b'{"weight_map":{"a":"x.safetensors"},"weight_map":{}}', "weight_map", "the key twice"),
        (b"[" * 200_000, "", "recursion"),
    ],
)
def test_refuses_index(tmp_path: Path, text: bytes, field: str, found: str) -> None:
    (sharded(tmp_path) / INDEX).write_bytes(text)
    error = refused(tmp_path)
    assert (error.file, error.field) == (str(tmp_path / INDEX), field)
    assert found in error.found


# ---------------------------------------------------------------- links and other kinds of file


@pytest.mark.requirement("REQ-FIL-04")
def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "model", tmp_path / "secret"
    inside.mkdir()
    outside.mkdir()
    target = put(outside, {"w": F32}, bytes(8))
    (inside / "m.safetensors").symlink_to(target)
    for path in (inside, inside / "m.safetensors"):
        error = refused(path)
        assert error.file == str(inside / "m.safetensors")
        assert "blobs folder of its Hugging Face cache" in error.expected
        assert error.found == f"a link that leads outside, -> {target}"


def test_a_shard_or_an_index_that_is_a_link_outside_is_refused(tmp_path: Path) -> None:
    model, outside = tmp_path / "model", tmp_path / "outside"
    model.mkdir()
    outside.mkdir()
    for name in (SHARDS[1], INDEX):
        sharded(model)
        (model / name).replace(outside / name)
        (model / name).symlink_to(outside / name)
        error = refused(model)
        assert (error.file, error.found) == (str(model / name), f"a link that leads outside, -> {outside / name}")
        (model / name).unlink()


def test_a_link_within_the_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    put(tmp_path / "store", {"w": F32}, b"12345678")
    (tmp_path / "m.safetensors").symlink_to("store/m.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert bytes(checkpoint.views()[0].read(0, 8)) == b"12345678"
        checkpoint.check_unchanged()


def hugging_face_cache(folder: Path) -> Path:
    """Lay out ``<repo>/{blobs,snapshots/<revision>}`` with a sharded model and return the snapshot."""
    repo = folder / "models--org--name"
    snapshot = repo / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    sharded(snapshot)
    for path in list(snapshot.iterdir()):
        blob = repo / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        path.replace(blob)
        path.symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def test_reads_a_hugging_face_cache(tmp_path: Path) -> None:
    snapshot = hugging_face_cache(tmp_path)
    with open_checkpoint(snapshot) as checkpoint:
        assert [view.name for view in checkpoint.views()] == ["a", "b"]
    with open_file(snapshot / SHARDS[0]) as file:
        assert file.header.entries[0].name == "a"


def test_a_cache_link_to_another_repository_is_refused(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    snapshot, other = hugging_face_cache(mine), hugging_face_cache(theirs)
    (snapshot / SHARDS[0]).unlink()
    (snapshot / SHARDS[0]).symlink_to((other / SHARDS[0]).resolve())
    assert refused(snapshot).found.startswith("a link that leads outside, -> ")


def test_a_linked_blobs_folder_is_refused(tmp_path: Path) -> None:
    snapshot = hugging_face_cache(tmp_path)
    blobs = snapshot.parent.parent / "blobs"
    blobs.replace(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    assert refused(snapshot).found.startswith("a link that leads outside")


def test_broken_and_circular_links_are_refused(tmp_path: Path) -> None:
    link = tmp_path / "m.safetensors"
    link.symlink_to("absent")
    assert refused(link).found == "a link to nothing, -> absent"
    link.unlink()
    link.symlink_to("m.safetensors")
    assert refused(link).found == "a link that cannot be followed, -> m.safetensors"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert refused(tmp_path / "pipe.safetensors").found == "a pipe"
    assert refused(tmp_path).found == "a pipe"
    (tmp_path / "pipe.safetensors").unlink()
    (tmp_path / "d.safetensors").mkdir()
    assert refused(tmp_path).found == "a directory"
    with pytest.raises(MalformedArtefact, match="expected a regular file, found a device"):
        open_file("/dev/null")


def test_the_directory_itself_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    put(tmp_path / "v1", {"w": F32}, bytes(8))
    (tmp_path / "current").symlink_to("v1")
    with open_checkpoint(tmp_path / "current") as checkpoint:
        assert [view.name for view in checkpoint.views()] == ["w"]
