# SPDX-License-Identifier: Apache-2.0
"""Write ``golden.bin`` for check_codec.c: small matrices, their chunks by the NumPy codec, what they are rebuilt to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from weighmaster.pack.coder import Levels, NumpyBackend, encode_exact, encode_levels
from weighmaster.pack.layout import Layout, parse_layout
from weighmaster.pack.native import CHUNK, head_of, tables_of
from weighmaster.pack.quantize import quantize
from weighmaster.pack.rans import decode_symbols

RANDOM = np.random.default_rng(4)


def scales(count: int, first: int) -> np.ndarray:
    return RANDOM.choice(np.arange(first, first + 700, 3, np.uint16)[:200], count)


def level_blobs() -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield blobs of levels, and data that quantizes to other levels by their scales."""
    for dtype, unsigned in (("bfloat16", np.uint16), ("float16", np.uint16), ("float32", np.uint32)):
        for rows, cols, spread, bits, chunk in (
            (9, 75, 6, 12, 300),
            (40, 33, 2, 11, 500),
            (5, 130, 80, 14, 65_536),
            (150, 32, 5, 12, 65_536),
            (1, 1, 3, 13, 1),
        ):
            wide = RANDOM.standard_normal((rows, cols)) * spread * np.exp2(RANDOM.integers(-3, 3, cols) / 2)
            at = np.unique(RANDOM.integers(0, rows * cols, 3))
            matrix = Levels(
                dtype=dtype,
                levels=np.clip(np.rint(wide), -255, 255).astype(np.int16),
                row_scale=scales(rows, 0x3800),
                col_scale=scales(cols, 0x3C00),
                patch_at=at,
                patch_bits=RANDOM.integers(0, 1 << 16, len(at)).astype(unsigned),
            )
            bits_of = RANDOM.integers(0, 1 << 32, rows * cols, dtype=np.uint64).astype(np.uint32)
            data = (bits_of & 0xBFFFFFFF).view(np.uint8) if unsigned is np.uint32 else _small(bits_of, dtype)
            yield encode_levels(matrix, NumpyBackend(), table_bits=bits, chunk=chunk), data


def _small(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Finite numbers of 16 bits, many of them subnormal in float16."""
    kept = bits & (0xBFFF if dtype == "bfloat16" else 0x8FFF)
    return kept.astype(np.uint16).view(np.uint8)


def plane_blobs() -> Iterator[bytes]:
    for dtype, size in (("bfloat16", 2), ("float16", 2), ("float32", 4), ("float8_e4m3fn", 1), ("float8_e5m2", 1)):
        for rows, cols, chunk in ((9, 75, 300), (3, 1, 2), (20, 64, 65_536)):
            values = RANDOM.standard_normal(rows * cols).astype(np.float32)
            data = (
                values.view(np.uint8) if size == 4 else (values.view(np.uint32) >> (32 - 8 * size)).astype(f"u{size}")
            )
            yield encode_exact(data.view(np.uint8), dtype, rows, cols, NumpyBackend(), chunk=chunk)
    high = (RANDOM.standard_normal(675).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.uint8)
    yield encode_exact(high, "float32", 9, 75, NumpyBackend(), chunk=300)


def parts(blob: bytes, data: np.ndarray | None) -> Iterator[Any]:
    """Yield the parts of one case in the order of check_codec.c."""
    view = memoryview(blob)
    layout: Layout = parse_layout(view, "golden")
    shape = layout.shape
    out = np.empty(shape.rows * shape.cols * shape.itemsize, np.uint8)
    NumpyBackend().decode(layout, view, layout.chunks, out)
    yield np.array(head_of(layout), np.uint64)
    yield from tables_of(layout)
    yield from (layout.row_scale, layout.col_scale, layout.row_class, layout.col_class)
    yield np.array([(c.begin, c.rows, c.words, c.patches, c.crc) for c in layout.chunks], CHUNK)
    yield np.frombuffer(blob, np.uint8)
    yield decode_symbols(layout, view, layout.chunks)
    yield out
    yield np.empty(0, np.uint8) if data is None else data
    if data is None:
        yield np.empty(0, np.int16)
    else:
        yield quantize(data, shape.dtype, shape.rows, shape.cols, layout.row_scale, layout.col_scale)


def main() -> None:
    out = bytearray()
    for blob, data in (*level_blobs(), *((blob, None) for blob in plane_blobs())):
        for part in parts(blob, data):
            text = np.ascontiguousarray(part).tobytes()
            out += len(text).to_bytes(8, "little") + text + bytes(-len(text) % 8)
    Path(sys.argv[1]).write_bytes(out)


if __name__ == "__main__":
    main()
