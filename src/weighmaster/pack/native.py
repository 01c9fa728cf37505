# SPDX-License-Identifier: Apache-2.0
"""The compiled codec, `native/`: the same bytes and the same faults as the NumPy codec, faster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.coder import apply_patches, check_crc
from weighmaster.pack.layout import Chunk, Layout
from weighmaster.pack.packed import DTYPE_CODES
from weighmaster.pack.tables import CLASSES, MAX_LEVEL

__all__ = ["CHUNK", "NativeBackend", "extension", "head_of", "paths", "tables_of"]

Bytes = npt.NDArray[np.uint8]

CHUNK: Final = np.dtype([("begin", "<u8"), ("rows", "<u4"), ("words", "<u4"), ("patches", "<u4"), ("crc", "<u4")])
"""Record of a chunk as the extension reads it."""

_OK, _CRC, _NO_TABLE, _SMALL, _BEYOND, _END, _PATCH = range(7)
_BROKEN: Final = {
    _SMALL: ("states of at least 2^16", "a smaller one"),
    _BEYOND: ("enough words", "a word beyond its last"),
    _END: ("states of 2^16 after its last word", "another end"),
}


@cache
def extension() -> ModuleType | None:
    """Return the extension, or None where there was no compiler, or it was built for another machine.

    It is loaded when a codec is first asked for: a mapped library is a fact of the environment, and a process that
    reads no pack is not to have another environment because of it.
    """
    try:
        return import_module("weighmaster.pack._native")
    except ImportError:
        return None


def paths() -> tuple[str, ...]:
    """Return the paths that this processor has, the fastest first; none without the extension."""
    loaded = extension()
    return () if loaded is None else tuple(loaded.paths())


def _loaded() -> Any:
    """Return the extension of a backend that exists: `paths` named it."""
    return extension()


class NativeBackend:
    """One path of the compiled codec.

    Attributes:
        name: ``avx512``, ``avx2``, ``neon`` or ``c``, one of `paths`.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        """Return how it is made."""
        return f"NativeBackend({self.name!r})"

    def decode(self, layout: Layout, blob: memoryview, chunks: Sequence[Chunk], out: Bytes) -> None:
        """Write the rebuilt bytes of consecutive chunks, patches included, to `out`; the GIL is free meanwhile.

        Args:
            layout: of the blob.
            blob: the whole blob.
            chunks: consecutive ones, at least one.
            out: contiguous uint8 [elements * itemsize].

        Raises:
            MalformedArtefact: a chunk does not follow spec/pack.md: the fault that the NumPy codec names.
        """
        rows = slice(chunks[0].row, chunks[-1].row + chunks[-1].rows)
        records = np.array([(c.begin, c.rows, c.words, c.patches, c.crc) for c in chunks], CHUNK)
        status, where = _loaded().decode(
            self.name,
            head_of(layout),
            *tables_of(layout),
            layout.row_scale[rows],
            layout.col_scale,
            layout.row_class[rows],
            layout.col_class,
            records,
            blob,
            out,
        )
        if status != _OK:
            raise _fault(status, layout, blob, chunks[where], out)

    def encode(self, layout: Layout, symbols: npt.NDArray[np.int16]) -> list[tuple[int, bytes]]:
        """Return the number of words, and states with words, of every chunk.

        Raises:
            ValueError: a symbol has no frequency in the table of its class.
        """
        matrix = np.ascontiguousarray(symbols, np.int16)
        classes = layout.row_class, layout.col_class
        coded: list[tuple[int, bytes]] = _loaded().encode(
            self.name, head_of(layout), layout.shape.band, *tables_of(layout), *classes, matrix
        )
        return coded

    def energies(
        self, data: Bytes, dtype: str, rows: int, cols: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], bool]:
        """Do what `quantize.energies` does."""
        row, col = np.empty(rows), np.empty(cols)
        finite = _loaded().energies(self.name, DTYPE_CODES[dtype], rows, cols, np.ascontiguousarray(data), row, col)
        return row, col, finite

    def quantize(
        self,
        data: Bytes,
        dtype: str,
        rows: int,
        cols: int,
        row_scale: npt.NDArray[np.uint16],
        col_scale: npt.NDArray[np.uint16],
    ) -> npt.NDArray[np.int16]:
        """Do what `quantize.quantize` does."""
        levels = np.empty((rows, cols), np.int16)
        scales = np.ascontiguousarray(row_scale, np.uint16), np.ascontiguousarray(col_scale, np.uint16)
        _loaded().quantize(self.name, DTYPE_CODES[dtype], rows, cols, np.ascontiguousarray(data), *scales, levels)
        return levels

    def histogram(
        self, levels: npt.NDArray[np.int16], row_class: npt.NDArray[np.int8], col_class: npt.NDArray[np.int8]
    ) -> npt.NDArray[np.int64]:
        """Do what `quantize.histogram` does."""
        counts = np.empty((CLASSES, 2 * MAX_LEVEL + 1), np.int64)
        classes = np.ascontiguousarray(row_class, np.int8), np.ascontiguousarray(col_class, np.int8)
        _loaded().histogram(np.ascontiguousarray(levels, np.int16), *classes, counts)
        return counts


def head_of(layout: Layout) -> tuple[int, int, int, int, int]:
    """Return codec, dtype, table bits, variant and columns."""
    shape = layout.shape
    return shape.codec, DTYPE_CODES[shape.dtype], shape.table_bits, shape.variant, shape.cols


def tables_of(layout: Layout) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16]]:
    """Return lowest and count of each table, and the frequencies of all of them."""
    pairs = [(t.lowest, len(t.frequencies)) if t is not None else (0, 0) for t in layout.tables]
    shares = [t.frequencies.astype(np.uint16) for t in layout.tables if t is not None]
    return np.array(pairs, np.int32), np.concatenate([np.empty(0, np.uint16), *shares])


def _fault(status: int, layout: Layout, blob: memoryview, chunk: Chunk, out: Bytes) -> MalformedArtefact:
    """Name a fault as the NumPy codec does."""
    if status == _CRC:
        check_crc(layout, blob, [chunk])
    elif status == _PATCH:
        apply_patches(layout, blob, [chunk], out)
    elif status == _NO_TABLE:
        found = f"none for {[i for i, table in enumerate(layout.tables) if table is None]}"
        expected = "a table for every class that occurs"
        return MalformedArtefact(layout.file, "side section: classes", expected=expected, found=found)
    elif status in _BROKEN:
        expected, found = _BROKEN[status]
        field = f"chunk {chunk.row // layout.shape.band}: entropy code"
        return MalformedArtefact(layout.file, field, expected=expected, found=found)
    raise AssertionError(f"{layout.file}: the compiled codec finds a fault ({status}) that the NumPy codec does not")
