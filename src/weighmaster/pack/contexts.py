# SPDX-License-Identifier: Apache-2.0
"""Choose the context class of each row and column, and the tables of the classes, for an encoder. NumPy."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.pack.tables import CLASSES, MAX_LEVEL, Table, fit_table

__all__ = ["fit_tables", "level_classes", "plane_classes"]

_FLOOR: Final = 0.05
"""Added to the energy of levels, so that rows of zeros have a finite class."""

_SHARE_BELOW: Final = 0.0005
"""Of the elements, which may lie below class 0 and share its table."""

_ROWS_AT_ONCE: Final = 1 << 22
"""Elements per step of a histogram."""

Classes = npt.NDArray[np.int8]


def level_classes(levels: npt.NDArray[np.int16]) -> tuple[Classes, Classes]:
    """Return the classes of rows int8 [rows] and columns int8 [cols] of levels: half an octave of rms apart."""
    energy = levels.astype(np.float32) ** 2
    mean = float(energy.mean()) + _FLOOR
    rows = np.rint(np.log2((energy.mean(axis=1) + _FLOOR) / mean))
    cols = np.rint(np.log2((energy.mean(axis=0) + _FLOOR) / mean))
    return _anchored(rows, cols)


def plane_classes(symbols: npt.NDArray[np.uint8]) -> tuple[Classes, Classes]:
    """Return the classes of rows and columns of exponents: half an octave of their mean apart."""
    mean = symbols.mean(dtype=np.float64)
    rows = np.rint(2 * (symbols.mean(axis=1, dtype=np.float64) - mean))
    cols = np.rint(2 * (symbols.mean(axis=0, dtype=np.float64) - mean))
    return _anchored(rows, cols)


def _anchored(rows: npt.NDArray[np.floating], cols: npt.NDArray[np.floating]) -> tuple[Classes, Classes]:
    """Move the classes so that almost no element is below class 0."""
    sample = rows[:: max(1, len(rows) // 512), None] + cols[None, :: max(1, len(cols) // 512)]
    lowest = np.floor(np.quantile(sample, _SHARE_BELOW))
    return np.clip(rows, -120, 120).astype(np.int8), np.clip(cols - lowest, -120, 120).astype(np.int8)


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
