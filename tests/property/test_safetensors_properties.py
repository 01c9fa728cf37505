# SPDX-License-Identifier: Apache-2.0
"""Whatever the bytes are: our reader refuses them in its own words, or reads exactly what the library reads."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unicodedata import is_normalized

import pytest
import safetensors
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weighmaster.capture.safetensors_files import open_file
from weighmaster.core.dtype import DTYPES, SAFETENSORS_NAMES
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.core.tensor import TensorView
from weighmaster.errors import MalformedArtefact, SourceFault

THEIRS = {ours: theirs for theirs, ours in SAFETENSORS_NAMES.items()}
SMALL = safetensors_bytes(
    [
        ("layer.weight", "float32", (2, 3), bytes(range(24))),
        ("layer.bias", "bfloat16", (2,), b"abcd"),
        ("mask", "bool", (), b"\1"),
        ("none", "int8", (0,), b""),
    ],
    {"format": "pt"},
)
HEADER_END = 8 + int.from_bytes(SMALL[:8], "little")


@contextmanager
def on_disk(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        path.write_bytes(data)
        yield path


def read_or_refuse(data: bytes) -> tuple[tuple[TensorView, bytes], ...] | None:
    """Return the tensors with their bytes, or None if the file was refused; any other exception is a failure."""
    with on_disk(data) as path:
        try:
            with open_file(path) as file:
                out = tuple((view, bytes(view.read(0, view.nbytes))) for view in file.views())
                file.check_unchanged()
        except (MalformedArtefact, SourceFault):
            return None
    return out


def require_consistent(data: bytes) -> bool:
    """Check an accepted file against the library and against itself; tell whether it was accepted."""
    read = read_or_refuse(data)
    if read is None:
        return False
    theirs = dict(safetensors.deserialize(data))
    assert {view.name for view, _ in read} == theirs.keys()
    for view, content in read:
        other = theirs[view.name]
        assert (THEIRS[view.dtype], list(view.shape)) == (other["dtype"], other["shape"])
        assert content == bytes(other["data"])
        elements = 1
        for size in view.shape:
            elements *= size
        assert len(content) == view.nbytes == elements * DTYPES[view.dtype]
    tail = b"".join(content for _, content in read)
    assert data.endswith(tail)
    assert len(data) == 8 + int.from_bytes(data[:8], "little") + len(tail)
    return True


@given(st.integers(0, HEADER_END - 1), st.integers(1, 255))
@example(8, ord("{") ^ ord("["))
@settings(max_examples=400, deadline=None)
def test_a_flipped_byte_of_the_header_is_refused_or_harmless(at: int, mask: int) -> None:
    data = bytearray(SMALL)
    data[at] ^= mask
    require_consistent(bytes(data))


@pytest.mark.requirement("REQ-FIL-01")
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.binary(max_size=3), st.integers(0, 3)), max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_edit_is_refused_or_harmless(edits: list[tuple[int, bytes, int]]) -> None:
    data = bytearray(SMALL)
    for at, new, removed in edits:
        data[at : at + removed] = new
    require_consistent(bytes(data))


@pytest.mark.requirement("REQ-FIL-01")
@given(st.integers(0, len(SMALL) - 1))
@settings(deadline=None)
def test_every_truncation_is_refused(length: int) -> None:
    assert read_or_refuse(SMALL[:length]) is None


@given(st.binary(min_size=1, max_size=20))
@settings(deadline=None)
def test_every_appendix_is_refused(more: bytes) -> None:
    assert read_or_refuse(SMALL + more) is None


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_refused_or_harmless(data: bytes) -> None:
    require_consistent(data)
    require_consistent(len(data).to_bytes(8, "little") + data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
SIZES = st.integers(0, 16) | st.integers(-2, 2**66)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*SAFETENSORS_NAMES, "F4", "F31"]),
        "shape": st.lists(SIZES, max_size=3) | JSON,
        "data_offsets": st.lists(SIZES, min_size=2, max_size=2) | JSON,
    }
)
NAMES = st.text(max_size=5) | st.sampled_from(["w", "__metadata__", "u\u0308"])


@given(st.dictionaries(NAMES, ENTRY | JSON, max_size=4), st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_header_is_refused_or_harmless(header: dict[str, object], data: bytes) -> None:
    text = json.dumps(header).encode("utf-8")
    require_consistent(len(text).to_bytes(8, "little") + text + data)


@st.composite
def tensor_lists(draw: st.DrawFn) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    names = st.text(min_size=1, max_size=8).filter(lambda n: is_normalized("NFC", n) and n != "__metadata__")
    out = []
    for name in draw(st.lists(names, max_size=5, unique=True)):
        dtype, shape = draw(st.sampled_from(sorted(THEIRS))), tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        nbytes = DTYPES[dtype]
        for size in shape:
            nbytes *= size
        out.append((name, dtype, shape, draw(st.binary(min_size=nbytes, max_size=nbytes))))
    return out


@given(tensor_lists(), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), st.randoms())
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read(tensors: list[tuple[str, str, tuple[int, ...], bytes]], metadata, random) -> None:
    data = safetensors_bytes(tensors, metadata)
    assert require_consistent(data)
    read = read_or_refuse(data)
    assert read is not None
    assert {v.name: (v.name, v.dtype, v.shape, content) for v, content in read} == {t[0]: t for t in tensors}
    random.shuffle(tensors)
    assert safetensors_bytes(tensors, metadata) == data
