# SPDX-License-Identifier: Apache-2.0
"""What a backend of the codec must do (`pack.coder.Backend`): give the bytes of the NumPy reference, or its error."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.coder import Backend, Levels, NumpyBackend, decode_blob, decode_rows, encode_exact, encode_levels
from weighmaster.pack.layout import STATES, parse_layout

__all__ = ["CodecSuite"]

SHAPES: Final = ((1, 1), (1, 31), (3, 32), (70, 33), (257, 1), (5, 1000), (64, 96), (19, 65))
"""Rows and columns: around the 32 lanes, and chunks of unequal height."""

_FLOATS: Final = ("bfloat16", "float16", "float32")
_PLANES: Final = (*_FLOATS, "float8_e4m3fn", "float8_e5m2")
_ONE: Final = {"bfloat16": 127 << 7, "float16": 117 << 7, "float32": 127 << 7}
_CHUNK: Final = 600
_REFERENCE: Final = NumpyBackend()


class CodecSuite:
    """Subclass it, return your backend from `make_backend`, and run pytest."""

    def make_backend(self) -> Backend:
        """Return the backend under test."""
        raise NotImplementedError

    def test_levels_are_coded_as_the_reference_codes_them(self) -> None:
        """Blobs of codec 1 are equal byte for byte."""
        backend = self.make_backend()
        for (matrix, bits), blob in zip(_matrices(), _blobs_of_levels(), strict=True):
            found = encode_levels(matrix, backend, table_bits=bits, chunk=_CHUNK)
            assert found == blob, (matrix.dtype, matrix.levels.shape)

    def test_planes_are_coded_as_the_reference_codes_them(self) -> None:
        """Blobs of codec 2 are equal byte for byte."""
        backend = self.make_backend()
        for (data, dtype, rows, cols), blob in zip(_tensors(), _blobs_of_planes(), strict=True):
            assert encode_exact(data, dtype, rows, cols, backend, chunk=_CHUNK) == blob, (dtype, rows, cols)

    def test_blobs_are_rebuilt_as_the_reference_rebuilds_them(self) -> None:
        """The same bytes of every blob."""
        backend = self.make_backend()
        for blob, expected in _rebuilt():
            layout, found = decode_blob(memoryview(blob), "blob", backend)
            assert found.tobytes() == expected, layout.shape

    def test_nothing_is_lost_of_planes(self) -> None:
        """The bytes of a tensor come back, NaN payloads among them."""
        backend = self.make_backend()
        for (data, dtype, rows, cols), blob in zip(_tensors(), _blobs_of_planes(), strict=True):
            assert decode_blob(memoryview(blob), "blob", backend)[1].tobytes() == data.tobytes(), (dtype, rows, cols)

    def test_threads_change_nothing(self) -> None:
        """Three threads, which is more than some blobs have chunks."""
        backend = self.make_backend()
        for blob, expected in _rebuilt():
            assert decode_blob(memoryview(blob), "blob", backend, threads=3)[1].tobytes() == expected

    def test_a_band_of_rows_is_that_part_of_the_whole(self) -> None:
        """Chunks are decoded on their own, from any of them on."""
        backend = self.make_backend()
        for blob, expected in _rebuilt():
            layout = parse_layout(memoryview(blob), "blob")
            rows, width = layout.shape.rows, layout.shape.cols * layout.shape.itemsize
            for first, last in ((0, 1), (rows // 3, rows // 3 + 1), (rows // 2, rows)):
                found = decode_rows(layout, memoryview(blob), first, last, backend)
                assert found.tobytes() == expected[first * width : last * width], (layout.shape, first, last)

    def test_bytes_may_lie_anywhere(self) -> None:
        """A blob at an odd address, read-only, and an output at one."""
        backend = self.make_backend()
        for blob, expected in _rebuilt():
            layout = parse_layout(memoryview(blob), "blob")
            out = np.zeros(len(expected) + 3, np.uint8)
            backend.decode(layout, memoryview(b"\0" + blob)[1:], layout.chunks, out[1:-2])
            assert out[1:-2].tobytes() == expected, layout.shape
            assert not out[[0, -2, -1]].any(), "bytes beside the output were written"

    def test_flushing_of_subnormal_numbers_changes_nothing(self) -> None:
        """Other libraries set the mode; results near the smallest numbers are those without it."""
        torch = pytest.importorskip("torch", reason="torch is asked to set the mode")
        backend = self.make_backend()
        for matrix, bits in _matrices():
            blob = encode_levels(_near_the_smallest(matrix), backend, table_bits=bits, chunk=_CHUNK)
            expected = decode_blob(memoryview(blob), "blob", backend)[1].tobytes()
            if not torch.set_flush_denormal(True):
                pytest.skip("this processor has no such mode")
            try:
                found = decode_blob(memoryview(blob), "blob", backend)[1].tobytes()
            finally:
                torch.set_flush_denormal(False)
            assert found == expected, (matrix.dtype, matrix.levels.shape)

    def test_every_flipped_bit_of_a_body_is_refused(self) -> None:
        """By its CRC-32."""
        blob = encode_levels(_matrix(5, 40, "bfloat16", seed=1), _REFERENCE, chunk=80)
        layout = parse_layout(memoryview(blob), "blob")
        for at in range(layout.chunks[0].begin, len(blob)):
            _require_the_error_of_the_reference(self.make_backend(), _flipped(blob, at, at % 8), "CRC-32")

    def test_a_body_with_a_right_checksum_is_refused_all_the_same(self) -> None:
        """Changed states and words, with CRC-32s made anew, end in the error of the reference or in its bytes."""
        backend = self.make_backend()
        blob = encode_levels(_matrix(4, 70, "float32", seed=2), _REFERENCE, chunk=140)
        layout = parse_layout(memoryview(blob), "blob")
        for number, chunk in enumerate(layout.chunks):
            for at in range(chunk.begin, chunk.begin + STATES + 2 * chunk.words, 3):
                _require_the_error_of_the_reference(backend, _resealed(blob, number, _flip(at, at % 8)), "entropy code")

    def test_patches_are_held_to_their_chunk(self) -> None:
        """Positions that descend, repeat or lie outside are refused."""
        matrix = _matrix(4, 40, "bfloat16", seed=3)
        blob = encode_levels(matrix, _REFERENCE, chunk=80)
        layout = parse_layout(memoryview(blob), "blob")
        number, chunk = next((i, c) for i, c in enumerate(layout.chunks) if c.patches > 1)
        at = chunk.begin + STATES + 2 * chunk.words
        for pair in ((7, 7), (7, 3), (chunk.rows * 40, 3), (0xFFFFFFFF, 0), (0x80000000, 0x7FFFFFFF)):

            def edit(data: bytearray, pair: tuple[int, int] = pair) -> None:
                struct.pack_into("<II", data, at, *pair)

            _require_the_error_of_the_reference(self.make_backend(), _resealed(blob, number, edit), "patches")


@cache
def _matrices() -> tuple[tuple[Levels, int], ...]:
    """Return matrices of levels, and table bits: every shape, narrow and wide levels, with patches."""
    shapes = [(i, shape, j, dtype) for i, shape in enumerate(SHAPES) for j, dtype in enumerate(_FLOATS)]
    return tuple((_matrix(*shape, dtype, seed=10 * i + j), 11 + (i + j) % 4) for i, shape, j, dtype in shapes)


@cache
def _tensors() -> tuple[tuple[npt.NDArray[np.uint8], str, int, int], ...]:
    """Return bytes, dtype, rows and columns of tensors for the lossless codec."""
    shapes = [(i, shape, j, dtype) for i, shape in enumerate(SHAPES) for j, dtype in enumerate(_PLANES)]
    every = [(_tensor(a * b, dtype, seed=10 * i + j), dtype, a, b) for i, (a, b), j, dtype in shapes]
    return (*every, *((_low_half_cleared(a * b, seed=a), "float32", a, b) for a, b in SHAPES))


@cache
def _blobs_of_levels() -> tuple[bytes, ...]:
    return tuple(encode_levels(matrix, _REFERENCE, table_bits=bits, chunk=_CHUNK) for matrix, bits in _matrices())


@cache
def _blobs_of_planes() -> tuple[bytes, ...]:
    return tuple(encode_exact(*tensor, _REFERENCE, chunk=_CHUNK) for tensor in _tensors())


@cache
def _rebuilt() -> tuple[tuple[bytes, bytes], ...]:
    """Return blobs, made by the reference, and the bytes that the reference rebuilds from them."""
    blobs = (*_blobs_of_levels(), *_blobs_of_planes())
    return tuple((blob, decode_blob(memoryview(blob), "blob", _REFERENCE)[1].tobytes()) for blob in blobs)


def _matrix(rows: int, cols: int, dtype: str, *, seed: int) -> Levels:
    random = np.random.default_rng(seed)
    spread = 40.0 if seed % 3 else 1.5
    levels = np.rint(random.normal(0, spread, (rows, cols)) * random.choice([0.3, 1.0, 2.0], (rows, 1)))
    levels = np.clip(levels, -255, 255).astype(np.int16)
    count = min(rows * cols, 1 + rows * cols // 20)
    at = np.sort(random.choice(rows * cols, count, replace=False)).astype(np.int64)
    unsigned: Any = np.uint32 if dtype == "float32" else np.uint16
    return Levels(
        dtype=dtype,
        levels=levels,
        row_scale=(_ONE[dtype] + 40 * random.integers(-3, 4, rows)).astype(np.uint16),
        col_scale=(_ONE[dtype] + 17 * random.integers(-3, 4, cols)).astype(np.uint16),
        patch_at=at,
        patch_bits=random.integers(0, np.iinfo(unsigned).max, count, dtype=unsigned, endpoint=True),
    )


def _near_the_smallest(matrix: Levels) -> Levels:
    """Return the matrix with scales whose products begin at 2^-126, or 2^-24: the smallest of a dtype; no patches."""
    rows, cols = matrix.levels.shape
    return Levels(
        dtype=matrix.dtype,
        levels=matrix.levels,
        row_scale=np.full(rows, (64 << 7) + 5, np.uint16),
        col_scale=np.where(np.arange(cols) % 2, 64 << 7, 166 << 7).astype(np.uint16),
        patch_at=np.empty(0, np.int64),
        patch_bits=matrix.patch_bits[:0],
    )


def _tensor(count: int, dtype: str, *, seed: int) -> npt.NDArray[np.uint8]:
    """Return numbers like weights, some of them patterns of any bits."""
    random = np.random.default_rng(seed)
    wide = random.normal(0, 0.02, count).astype(np.float32).view(np.uint32)
    wide = np.where(random.integers(0, 20, count) == 0, random.integers(0, 1 << 32, count, dtype=np.uint32), wide)
    wide[0] |= 1  # never all zero below: that would be another variant
    if dtype == "float32":
        return wide.astype("<u4").view(np.uint8)
    if dtype in _FLOATS:
        return (wide >> 16).astype("<u2").view(np.uint8)
    return (wide >> 24).astype(np.uint8)


def _low_half_cleared(count: int, *, seed: int) -> npt.NDArray[np.uint8]:
    return (_tensor(count, "float32", seed=seed).view("<u4") & np.uint32(0xFFFF0000)).astype("<u4").view(np.uint8)


def _flip(at: int, bit: int) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        data[at] ^= 1 << bit

    return edit


def _flipped(blob: bytes, at: int, bit: int) -> bytes:
    data = bytearray(blob)
    _flip(at, bit)(data)
    return bytes(data)


def _resealed(blob: bytes, number: int, edit: Callable[[bytearray], None]) -> bytes:
    """Return a blob whose chunk was edited and has the CRC-32 of what stands there now."""
    layout = parse_layout(memoryview(blob), "blob")
    chunk = layout.chunks[number]
    data = bytearray(blob)
    edit(data)
    record = layout.chunks[0].begin - 12 * (layout.shape.chunks - number)
    struct.pack_into("<I", data, record + 8, zlib.crc32(data[chunk.begin : chunk.stop]))
    return bytes(data)


def _require_the_error_of_the_reference(backend: Backend, blob: bytes, field: str) -> None:
    """Require the reference's error, in `field`, or its bytes where a fault leaves a right end of the code."""
    expected, found = _outcome(_REFERENCE, blob), _outcome(backend, blob)
    assert found == expected
    assert not isinstance(found, str) or found.endswith(field)


def _outcome(backend: Backend, blob: bytes) -> bytes | str:
    try:
        return decode_blob(memoryview(blob), "blob", backend)[1].tobytes()
    except MalformedArtefact as error:
        return f"{error.file}: {error.field}"
