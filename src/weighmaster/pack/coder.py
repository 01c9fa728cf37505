# SPDX-License-Identifier: Apache-2.0
"""Tensors to blobs and back, by whichever backend is there; all backends give the same bytes (spec/pack.md, 2 to 4)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.contexts import fit_tables, level_classes, plane_classes
from weighmaster.pack.layout import LEVELS, PLANES, STATES, Chunk, Layout, Shape, assemble, parse_layout, raw_planes
from weighmaster.pack.rans import decode_symbols, encode_symbols
from weighmaster.pack.rebuild import from_levels, from_planes, split_planes

__all__ = ["CHUNK", "Backend", "Levels", "NumpyBackend", "decode_blob", "decode_rows", "encode_exact", "encode_levels"]

CHUNK: Final = 65_536
"""Elements of a chunk that an encoder aims at."""

Bytes = npt.NDArray[np.uint8]
Body = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """A matrix as an encoder quantized it.

    Attributes:
        dtype: of the tensor to be rebuilt: ``bfloat16``, ``float16`` or ``float32``.
        levels: int16 [rows, cols], within +-255.
        row_scale: uint16 [rows], bits of bfloat16, at most 256 different ones.
        col_scale: uint16 [cols], the same.
        patch_at: int64 [p], row-major positions, ascending, of elements that are kept as they are.
        patch_bits: unsigned integers [p], their bits.
    """

    dtype: str
    levels: npt.NDArray[np.int16]
    row_scale: npt.NDArray[np.uint16]
    col_scale: npt.NDArray[np.uint16]
    patch_at: npt.NDArray[np.int64]
    patch_bits: npt.NDArray[Any]


class Backend(Protocol):
    """What codes and decodes chunks. Every backend gives the same bytes; `testing.CodecSuite` holds it to that."""

    name: str

    def decode(self, layout: Layout, blob: memoryview, chunks: Sequence[Chunk], out: Bytes) -> None:
        """Write the rebuilt bytes of consecutive chunks, patches included, to `out`; check CRC-32 and end states.

        Raises:
            MalformedArtefact: a chunk does not follow spec/pack.md.
        """

    def encode(self, layout: Layout, symbols: npt.NDArray[np.int16]) -> list[tuple[int, bytes]]:
        """Return the number of words, and states with words, of every chunk."""


class NumpyBackend:
    """The specification as code."""

    name = "numpy"

    def decode(self, layout: Layout, blob: memoryview, chunks: Sequence[Chunk], out: Bytes) -> None:
        """Write the rebuilt bytes of consecutive chunks to `out`: uint8 [elements * itemsize]."""
        check_crc(layout, blob, chunks)
        symbols, shape = decode_symbols(layout, blob, chunks), layout.shape
        if shape.codec == LEVELS:
            first, last = chunks[0].row, chunks[-1].row + chunks[-1].rows
            bits = from_levels(symbols, layout.row_scale[first:last], layout.col_scale, shape.dtype).reshape(-1)
        else:
            raw = [_raw_of(layout, blob, chunk) for chunk in chunks]
            bits = from_planes(symbols.reshape(-1).astype(np.uint8), np.concatenate(raw, axis=1), shape)
        out[:] = bits.astype(bits.dtype.newbyteorder("<")).view(np.uint8)
        apply_patches(layout, blob, chunks, out)

    def encode(self, layout: Layout, symbols: npt.NDArray[np.int16]) -> list[tuple[int, bytes]]:
        """Return the number of words, and states with words, of every chunk."""
        return encode_symbols(layout, symbols)


def check_crc(layout: Layout, blob: memoryview, chunks: Sequence[Chunk]) -> None:
    """Compare the CRC-32 of each body with its record.

    Raises:
        MalformedArtefact: one differs.
    """
    for chunk in chunks:
        if (crc := zlib.crc32(blob[chunk.begin : chunk.stop])) != chunk.crc:
            field = f"chunk {chunk.row // layout.shape.band}: CRC-32"
            raise MalformedArtefact(layout.file, field, expected=f"{chunk.crc:08x}", found=f"{crc:08x}")


def _raw_of(layout: Layout, blob: memoryview, chunk: Chunk) -> Bytes:
    planes, count = raw_planes(layout.shape), chunk.rows * layout.shape.cols
    return np.frombuffer(blob, np.uint8, planes * count, chunk.begin + STATES + 2 * chunk.words).reshape(planes, count)


def apply_patches(layout: Layout, blob: memoryview, chunks: Sequence[Chunk], out: Bytes) -> None:
    """Write the patches of consecutive chunks over what was rebuilt.

    Raises:
        MalformedArtefact: positions that do not ascend, or lie outside the chunk.
    """
    size, base = layout.shape.itemsize, chunks[0].row
    for chunk in chunks:
        if not chunk.patches:
            continue
        count, elements = chunk.patches, chunk.rows * layout.shape.cols
        at = np.frombuffer(blob, "<u4", count, chunk.begin + STATES + 2 * chunk.words).astype(np.int64)
        if (np.diff(at) <= 0).any() or at[-1] >= elements:
            field = f"chunk {chunk.row // layout.shape.band}: patches"
            expected = f"positions strictly ascending, below {elements}"
            raise MalformedArtefact(layout.file, field, expected=expected, found=f"{at[:8].tolist()} ... {at[-1]}")
        values = np.frombuffer(blob, np.uint8, count * size, chunk.stop - count * size).reshape(count, size)
        out.reshape(-1, size)[at + (chunk.row - base) * layout.shape.cols] = values


def decode_blob(blob: memoryview, file: str, backend: Backend, *, threads: int = 1) -> tuple[Layout, Bytes]:
    """Rebuild a whole tensor; nothing is compared with a digest here.

    Raises:
        MalformedArtefact: the blob does not follow spec/pack.md.
    """
    layout = parse_layout(blob, file)
    return layout, decode_rows(layout, blob, 0, layout.shape.rows, backend, threads=threads)


def decode_rows(
    layout: Layout, blob: memoryview, first: int, last: int, backend: Backend, *, threads: int = 1
) -> Bytes:
    """Rebuild rows [first, last): uint8 [(last - first) * cols * itemsize]; only their chunks are decoded."""
    shape = layout.shape
    chunks = layout.chunks[first // shape.band : -(-last // shape.band)]
    row, width = chunks[0].row, shape.cols * shape.itemsize
    out = np.empty((chunks[-1].row + chunks[-1].rows - row) * width, np.uint8)
    step = -(-len(chunks) // threads)

    def decode(group: Sequence[Chunk]) -> None:
        begin = (group[0].row - row) * width
        backend.decode(layout, blob, group, out[begin : begin + sum(c.rows for c in group) * width])

    groups = [chunks[i : i + step] for i in range(0, len(chunks), step)]
    if len(groups) == 1:
        decode(groups[0])
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, groups))
    return out[(first - row) * width : (last - row) * width]


def encode_levels(matrix: Levels, backend: Backend, *, table_bits: int = 12, chunk: int = CHUNK) -> bytes:
    """Return the blob (codec 1) of a quantized matrix.

    Raises:
        ValueError: more than 256 different scales, or a level beyond +-255.
    """
    rows, cols = matrix.levels.shape
    shape = Shape(
        codec=LEVELS,
        dtype=matrix.dtype,
        table_bits=table_bits,
        variant=0,
        rows=rows,
        cols=cols,
        band=min(rows, max(1, chunk // cols)),
    )
    a, b = level_classes(matrix.levels)
    layout = Layout(
        shape=shape,
        tables=fit_tables(matrix.levels, a, b, levels=True, table_bits=table_bits),
        row_scale=matrix.row_scale,
        col_scale=matrix.col_scale,
        row_class=a,
        col_class=b,
        chunks=(),
        file="",
    )
    bodies = [
        _patched(body, matrix, i * shape.band * cols, min(rows, (i + 1) * shape.band) * cols)
        for i, body in enumerate(backend.encode(layout, matrix.levels))
    ]
    return assemble(layout, bodies)


def _patched(body: tuple[int, bytes], matrix: Levels, begin: int, stop: int) -> Body:
    low, high = np.searchsorted(matrix.patch_at, (begin, stop))
    at, bits = matrix.patch_at[low:high] - begin, matrix.patch_bits[low:high]
    extra = at.astype("<u4").tobytes() + bits.astype(bits.dtype.newbyteorder("<")).tobytes()
    return body[0], int(high - low), body[1] + extra


def encode_exact(
    data: Bytes, dtype: str, rows: int, cols: int, backend: Backend, *, table_bits: int = 12, chunk: int = CHUNK
) -> bytes:
    """Return the blob (codec 2) of a tensor: lossless.

    Args:
        data: its bytes, uint8 [rows * cols * itemsize].
        dtype: one that codec 2 has.
        rows: rows * cols is the number of elements, both at least 1.
        cols: see rows.
        backend: codes the chunks.
        table_bits: B.
        chunk: elements per chunk to aim at.
    """
    low = data.view("<u4") & 0xFFFF if dtype == "float32" else None
    variant = 1 if low is not None and not low.any() else 0
    symbols, raw = split_planes(data, dtype, variant)
    matrix = symbols.reshape(rows, cols)
    band = min(rows, max(1, chunk // cols))
    a, b = plane_classes(matrix)
    wide = matrix.astype(np.int16)
    layout = Layout(
        shape=Shape(codec=PLANES, dtype=dtype, table_bits=table_bits, variant=variant, rows=rows, cols=cols, band=band),
        tables=fit_tables(wide, a, b, levels=False, table_bits=table_bits),
        row_scale=np.empty(0, np.uint16),
        col_scale=np.empty(0, np.uint16),
        row_class=a,
        col_class=b,
        chunks=(),
        file="",
    )
    bodies = []
    for i, (words, body) in enumerate(backend.encode(layout, wide)):
        here = slice(i * band * cols, min(rows, (i + 1) * band) * cols)
        bodies.append((words, 0, body + raw[:, here].tobytes()))
    return assemble(layout, bodies)
