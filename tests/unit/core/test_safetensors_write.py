# SPDX-License-Identifier: Apache-2.0
"""The writer of small safetensors files: exact bytes, read back by the library and by our reader."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from weighmaster.capture.safetensors_files import open_file
from weighmaster.core.safetensors_write import safetensors_bytes

IDS = ("input_ids", "int64", (1, 3), bytes(range(24)))
MASK = ("attention_mask", "bool", (3,), b"\1\1\0")


def test_writes_exactly_these_bytes() -> None:
    header = (
        b'{"__metadata__":{"seed":"7"},"attention_mask":{"data_offsets":[24,27],"dtype":"BOOL","shape":[3]},'
        b'"input_ids":{"data_offsets":[0,24],"dtype":"I64","shape":[1,3]}}'
    )
    header += b" " * (-len(header) % 8)
    wanted = len(header).to_bytes(8, "little") + header + bytes(range(24)) + b"\1\1\0"
    assert safetensors_bytes([MASK, IDS], {"seed": "7"}) == wanted


def test_order_of_the_arguments_is_of_no_effect() -> None:
    one = safetensors_bytes([IDS, MASK], {"b": "2", "a": "1"})
    assert one == safetensors_bytes(iter([MASK, IDS]), {"a": "1", "b": "2"})
    assert one != safetensors_bytes([IDS, MASK], {"b": "2", "a": "2"})


def test_the_library_and_our_reader_read_it_back(tmp_path: Path) -> None:
    floats = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    half = torch.arange(5).to(torch.bfloat16)
    tensors = [
        MASK,
        IDS,
        ("pixels", "float32", (2, 3), floats.numpy().tobytes()),
        ("half", "bfloat16", (5,), half.view(torch.uint8).numpy().tobytes()),
        ("scalar", "uint8", (), b"\x2a"),
        ("empty", "float16", (0, 2), b""),
    ]
    path = tmp_path / "probe.safetensors"
    path.write_bytes(safetensors_bytes(tensors, {"seed": "7"}))
    for read in (safetensors.torch.load_file(path), safetensors.torch.load(path.read_bytes())):
        assert read["input_ids"].tolist() == torch.frombuffer(bytearray(IDS[3]), dtype=torch.int64).view(1, 3).tolist()
        assert read["attention_mask"].tolist() == [True, True, False]
        assert torch.equal(read["pixels"], floats)
        assert torch.equal(read["half"], half)
        assert read["scalar"].item() == 42
        assert read["empty"].shape == (0, 2)
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == {"seed": "7"}
    with open_file(path) as file:
        ours = {v.name: (v.name, v.dtype, v.shape, bytes(v.read(0, v.nbytes))) for v in file.views()}
        assert file.header.metadata == (("seed", "7"),)
    assert ours == {t[0]: t for t in tensors}


def test_every_element_is_aligned(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes([("a", "uint8", (1,), b"x"), ("b", "float64", (1,), bytes(8)), MASK], {}))
    with open_file(path) as file:
        header_end = path.stat().st_size - file.header.entries[-1].end
        assert header_end % 8 == 0
        assert [(e.name, e.begin) for e in file.header.entries] == [("b", 0), ("a", 8), ("attention_mask", 9)]


def test_no_metadata_is_left_out(tmp_path: Path) -> None:
    assert safetensors_bytes([], {}) == (8).to_bytes(8, "little") + b"{}      "


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ([IDS, IDS], {}, "'input_ids': the name is given twice"),
        ([("", *IDS[1:])], {}, "'': not a tensor name"),
        ([("__metadata__", *IDS[1:])], {}, "'__metadata__': not a tensor name"),
        ([("__metadata__", *IDS[1:])], {"a": "b"}, "'__metadata__': not a tensor name"),
        ([("u\u0308", *IDS[1:])], {}, "not a tensor name .*NFC"),
        ([("\ud800", *IDS[1:])], {}, "surrogates not allowed"),
        ([("x", "qint8", (1,), b"0")], {}, "'x': safetensors has no dtype 'qint8'"),
        ([("x", "F32", (1,), b"0000")], {}, "'x': safetensors has no dtype 'F32'"),
        ([("x", "int8", (2,), b"0")], {}, r"'x': int8 of shape \(2,\) has 2 bytes, not 1"),
        ([("x", "int8", (-1, -1), b"0")], {}, r"'x': a negative size in \(-1, -1\)"),
        ([], {"a": 1}, "__metadata__.a: expected a text, found int"),
        ([], {1: "a"}, "keys must be strings"),
    ],
)
def test_refuses(
    tensors: list[tuple[str, str, tuple[int, ...], bytes]], metadata: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        safetensors_bytes(tensors, metadata)
