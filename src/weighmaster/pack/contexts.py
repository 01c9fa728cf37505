# SPDX-License-Identifier: Apache-2.0
"""Choose the context class of each row and column, and the tables of the classes, for an encoder. NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.pack.tables import CLASSES, MAX_LEVEL, Table, fit_table

__all__ = [
    "coarser",
    "energy_classes",
    "fit_tables",
    "level_classes",
    "plain_tables",
    "plane_classes",
    "table_cost",
    "tables_for",
]

_FLOOR: Final = 0.05
"""Added to the energy of levels, so that rows of zeros have a finite class."""

_SHARE_BELOW: Final = 0.0005
"""Of the elements, which may lie below class 0 and share its table."""

_ROWS_AT_ONCE: Final = 1 << 22
"""Elements per step of a histogram."""

_FEW: Final = 8
"""Elements of a row or column below which its energy says too little for a class of its own."""

_FINENESS: Final = ((1.0, 1.0), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
"""Classes per octave of energy, of rows and of columns, to be tried."""

Classes = npt.NDArray[np.int8]
Counts = npt.NDArray[np.int64]
Energies = npt.NDArray[np.floating]


def level_classes(levels: npt.NDArray[np.int16]) -> tuple[Classes, Classes]:
    """Return the classes of rows int8 [rows] and columns int8 [cols] of levels: half an octave of rms apart."""
    energy = levels.astype(np.float32) ** 2
    return energy_classes(energy.mean(axis=1), energy.mean(axis=0))


def energy_classes(
    row_mean: Energies, col_mean: Energies, *, rows_per_octave: float = 1.0, cols_per_octave: float = 1.0
) -> tuple[Classes, Classes]:
    """Return the classes of rows int8 [rows] and of columns int8 [cols] of levels.

    Args:
        row_mean: mean square of the levels of each row.
        col_mean: the same of each column.
        rows_per_octave: classes per doubling of the mean square: 1 is half an octave of rms, 0 no classes of rows.
        cols_per_octave: the same of columns.
    """
    mean = float(row_mean.mean()) + _FLOOR
    rows_per_octave = rows_per_octave if len(col_mean) >= _FEW else 0.0
    cols_per_octave = cols_per_octave if len(row_mean) >= _FEW else 0.0
    rows = np.rint(rows_per_octave * np.log2((row_mean + _FLOOR) / mean))
    cols = np.rint(cols_per_octave * np.log2((col_mean + _FLOOR) / mean))
    return _anchored(rows, cols)


def plane_classes(symbols: npt.NDArray[np.uint8]) -> tuple[Classes, Classes]:
    """Return the classes of rows and columns of exponents: half an octave of their mean apart."""
    mean = symbols.mean(dtype=np.float64)
    rows = np.rint(2 * (symbols.mean(axis=1, dtype=np.float64) - mean))
    cols = np.rint(2 * (symbols.mean(axis=0, dtype=np.float64) - mean))
    return _anchored(rows, cols)


def _anchored(rows: npt.NDArray[np.floating], cols: npt.NDArray[np.floating]) -> tuple[Classes, Classes]:
    """Move the classes so that almost no element is below class 0, and keep them to what can make a difference."""
    sample = rows[:: max(1, len(rows) // 512), None] + cols[None, :: max(1, len(cols) // 512)]
    lowest = np.floor(np.quantile(sample, _SHARE_BELOW))
    return np.clip(rows, -120, 120).astype(np.int8), np.clip(cols - lowest, -120, 120).astype(np.int8)


def coarser(row_mean: Energies, col_mean: Energies) -> Iterator[tuple[Classes, Classes]]:
    """Give the classes of levels, from the finest that are worth a try down to one class for all."""
    for rows, cols in _FINENESS:
        yield energy_classes(row_mean, col_mean, rows_per_octave=rows, cols_per_octave=cols)


def fit_tables(
    symbols: npt.NDArray[np.int16], rows: Classes, cols: Classes, *, levels: bool, table_bits: int
) -> tuple[Table | None, ...]:
    """Return a table for each class that occurs.

    Args:
        symbols: int16 [rows, cols].
        rows: int8 [rows].
        cols: int8 [cols].
        levels: symbols are levels, whose tables are symmetric; else bytes.
        table_bits: B.
    """
    lowest = -MAX_LEVEL if levels else 0
    histogram = np.zeros((CLASSES, 2 * MAX_LEVEL + 1 if levels else 256), np.int64)
    step = max(1, _ROWS_AT_ONCE // symbols.shape[1])
    for first in range(0, len(symbols), step):
        part = symbols[first : first + step].astype(np.intp) - lowest
        classes = np.clip(rows[first : first + step, None].astype(np.intp) + cols, 0, CLASSES - 1)
        counts = np.bincount((classes * histogram.shape[1] + part).ravel(), minlength=histogram.size)
        histogram += counts.reshape(histogram.shape)
    return tuple(fit_table(row, lowest, table_bits, symmetric=levels) for row in histogram)


def plain_tables(histogram: Counts, table_bits: int) -> tuple[Table | None, ...]:
    """Return symmetric tables of levels, as near to a histogram [8, 511] as codes can be."""
    return tuple(fit_table(row, -MAX_LEVEL, table_bits, symmetric=True) for row in histogram)


def tables_for(histogram: Counts, table_bits: int, cost: Callable[[tuple[Table | None, ...]], float]) -> Any:
    """Return tables of levels: the cheapest of several ways to write them.

    Args:
        histogram: int64 [8, 511].
        table_bits: B.
        cost: bits of everything, given the tables.
    """
    ways = [(symmetric, grain) for symmetric in (True, False) for grain in (1, 2, 4)]
    tables = [tuple(fit_table(row, -MAX_LEVEL, table_bits, symmetric=s, grain=g) for row in histogram) for s, g in ways]
    return min(tables, key=cost)


def table_cost(histogram: Counts, tables: tuple[Table | None, ...], table_bits: int) -> float:
    """Return the bits that the entropy code takes for the symbols of a histogram [8, n], the least of them -255."""
    total = 0.0
    for row, table in zip(histogram, tables, strict=True):
        if table is not None:
            begin = table.lowest + MAX_LEVEL
            counts = row[begin : begin + len(table.frequencies)]
            there = counts > 0
            total += float((counts[there] * (table_bits - np.log2(table.frequencies[there]))).sum())
    return total
