# SPDX-License-Identifier: Apache-2.0
"""A safetensors file that is in memory is read whole or refused. Headers: the tests of capture.safetensors_files."""

from __future__ import annotations

import pytest

from weighmaster.core.safetensors_header import parse_file
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.errors import MalformedArtefact

TENSORS = (("a", "float32", (2,), b"01234567"), ("b", "int8", (3,), b"abc"), ("e", "int8", (0,), b""))
FILE = safetensors_bytes(TENSORS, {"k": "v"})


def test_what_was_written_is_read() -> None:
    entries, metadata = parse_file(FILE, "f")
    assert [(e.name, e.dtype, e.shape, data) for e, data in entries] == list(TENSORS)
    assert metadata == (("k", "v"),)
    assert parse_file(safetensors_bytes((), {}), "f") == ((), ())


@pytest.mark.parametrize("length", range(len(FILE)))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(MalformedArtefact, match=r"^f: "):
        parse_file(FILE[:length], "f")


def test_bytes_after_the_last_tensor_are_refused() -> None:
    with pytest.raises(MalformedArtefact, match=f"expected {len(FILE)} bytes, found {len(FILE) + 1} bytes"):
        parse_file(FILE + b"x", "f")


@pytest.mark.parametrize("length", [0, 1 << 40])
def test_a_wrong_length_of_the_header_is_refused(length: int) -> None:
    with pytest.raises(MalformedArtefact, match=f"header length: expected 1 to {len(FILE) - 8}, found {length}"):
        parse_file(length.to_bytes(8, "little") + FILE[8:], "f")
