# SPDX-License-Identifier: Apache-2.0
"""From bands of levels to a blob: contexts and tables by what they really cost, then the entropy code, band by band."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from weighmaster.pack.backends import histogram
from weighmaster.pack.coder import Backend, Body
from weighmaster.pack.contexts import coarser, energy_classes, plain_tables, table_cost, tables_for
from weighmaster.pack.layout import LEVELS, Layout, Shape, assemble
from weighmaster.pack.tables import CLASSES, MAX_LEVEL, Table

__all__ = ["Band", "LevelSource", "Sized", "band_of", "choose", "encode_bands"]

_CHUNK: Final = 65_536
"""Elements of a chunk of a large tensor."""

_ONE_CHUNK: Final = 262_144
"""Elements up to which a tensor is one chunk: its states and record are 140 bytes."""

_CHUNK_BITS: Final = 8 * 12 + 32 * (16 + 8) + 64
"""A chunk's record; of each state, the bits below the lower bound and half a word that is not full; some to spare."""

_THOROUGH: Final = 1 << 23
"""Elements up to which several choices of classes are tried."""

_SPARE: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """Levels of consecutive rows.

    Attributes:
        first: number of the first row.
        levels: int16 [n, cols].
        patch_at: int64 [p], positions in the tensor, row-major, ascending.
        patch_bits: unsigned integers [p], the elements' bits.
    """

    first: int
    levels: npt.NDArray[np.int16]
    patch_at: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: _SPARE)
    patch_bits: npt.NDArray[Any] = dataclasses.field(default_factory=lambda: _SPARE)


class LevelSource(Protocol):
    """A quantized tensor, which is gone through several times."""

    @property
    def dtype(self) -> str:
        """Dtype of the tensor to be rebuilt."""

    @property
    def row_scale(self) -> npt.NDArray[np.uint16]:
        """Bits of bfloat16 [rows]."""

    @property
    def col_scale(self) -> npt.NDArray[np.uint16]:
        """Bits of bfloat16 [cols]."""

    def bands(self, multiple: int) -> Iterator[Band]:
        """Give all rows in order; every band but the last has a multiple of `multiple` rows."""

    def mean_squares(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return about the mean squares of the levels of rows and of columns, if they are known without the levels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sized:
    """What stands before the bodies of a blob, and how many bits the blob will take."""

    layout: Layout
    bits: float


def band_of(rows: int, cols: int) -> int:
    """Return the rows per chunk."""
    return rows if rows * cols <= _ONE_CHUNK else min(rows, max(1, _CHUNK // cols))


def choose(source: LevelSource, table_bits: int) -> Sized:
    """Choose classes and tables of a tensor by their cost."""
    rows, cols = len(source.row_scale), len(source.col_scale)
    band = band_of(rows, cols)
    thorough = rows * cols <= _THOROUGH
    known = None if thorough else source.mean_squares()
    row_mean, col_mean = known or _mean_squares(source, band)
    shape = Shape(codec=LEVELS, dtype=source.dtype, table_bits=table_bits, variant=0, rows=rows, cols=cols, band=band)
    ways = coarser(row_mean, col_mean) if thorough else [energy_classes(row_mean, col_mean)]
    tried = [_Trial.of(source, shape, a, b) for a, b in ways]
    best = min(tried, key=lambda trial: trial.bits(plain_tables(trial.counts, table_bits)))
    tables = tables_for(best.counts, table_bits, best.bits) if thorough else plain_tables(best.counts, table_bits)
    return Sized(layout=best.laid(tables), bits=best.bits(tables))


def _mean_squares(source: LevelSource, band: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    rows = len(source.row_scale)
    row_mean, col_sum = np.empty(rows), np.zeros(len(source.col_scale))
    for part in source.bands(band):
        energy = np.square(part.levels, dtype=np.float32)
        row_mean[part.first : part.first + len(energy)] = energy.mean(axis=1, dtype=np.float64)
        col_sum += energy.sum(axis=0, dtype=np.float64)
    return row_mean, col_sum / rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trial:
    """One choice of classes: what it makes of the histogram."""

    source: LevelSource
    shape: Shape
    row_class: npt.NDArray[np.int8]
    col_class: npt.NDArray[np.int8]
    counts: npt.NDArray[np.int64]
    patches: int

    @classmethod
    def of(
        cls, source: LevelSource, shape: Shape, row_class: npt.NDArray[np.int8], col_class: npt.NDArray[np.int8]
    ) -> _Trial:
        counts, patches = np.zeros((CLASSES, 2 * MAX_LEVEL + 1), np.int64), 0
        for part in source.bands(shape.band):
            here = slice(part.first, part.first + len(part.levels))
            counts += histogram(part.levels, row_class[here], col_class)
            patches += len(part.patch_at)
        return cls(source=source, shape=shape, row_class=row_class, col_class=col_class, counts=counts, patches=patches)

    def laid(self, tables: tuple[Table | None, ...]) -> Layout:
        return Layout(
            shape=self.shape,
            tables=tables,
            row_scale=self.source.row_scale,
            col_scale=self.source.col_scale,
            row_class=self.row_class,
            col_class=self.col_class,
            chunks=(),
            file="",
        )

    def bits(self, tables: tuple[Table | None, ...]) -> float:
        bodies = self.shape.chunks * _CHUNK_BITS + self.patches * 8 * (4 + self.shape.itemsize)
        return (
            8 * len(assemble(self.laid(tables), [])) + table_cost(self.counts, tables, self.shape.table_bits) + bodies
        )


def encode_bands(source: LevelSource, layout: Layout, backend: Backend) -> bytes:
    """Return the blob of a tensor with the layout that `choose` gave."""
    bodies: list[Body] = []
    for part in source.bands(layout.shape.band):
        here = slice(part.first, part.first + len(part.levels))
        piece = dataclasses.replace(
            layout,
            shape=dataclasses.replace(
                layout.shape, rows=len(part.levels), band=min(layout.shape.band, len(part.levels))
            ),
            row_scale=layout.row_scale[here],
            row_class=layout.row_class[here],
        )
        bodies += _patched(backend.encode(piece, part.levels), part, layout.shape)
    return assemble(layout, bodies)


def _patched(coded: list[tuple[int, bytes]], part: Band, shape: Shape) -> Iterator[Body]:
    for i, (words, body) in enumerate(coded):
        begin = (part.first + i * shape.band) * shape.cols
        low, high = np.searchsorted(part.patch_at, (begin, begin + shape.band * shape.cols))
        at, bits = part.patch_at[low:high] - begin, part.patch_bits[low:high]
        extra = at.astype("<u4").tobytes() + bits.astype(bits.dtype.newbyteorder("<")).tobytes()
        yield words, int(high - low), body + (extra if high > low else b"")
