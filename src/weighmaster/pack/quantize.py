# SPDX-License-Identifier: Apache-2.0
"""What an encoder does to every weight: sums of squares, nearest levels, histograms, error. NumPy.

The native codec has the first three as well, with the same results bit for bit (`pack.backends`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.pack.layout import LANES, float_of
from weighmaster.pack.rebuild import from_levels
from weighmaster.pack.tables import CLASSES, MAX_LEVEL

__all__ = ["energies", "error", "histogram", "quantize", "scale_products", "values_of"]

_ROWS_AT_ONCE: Final = 1 << 20
"""Elements per step, so that what a step makes stays in the cache."""

_CACHED: Final = 1 << 16
"""Elements per step of the error, which goes over them several times."""

_TINY: Final = 1e-30
"""Below this, squares in binary32 may have been lost."""

_SYMBOLS: Final = 2 * MAX_LEVEL + 1

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Scales = npt.NDArray[np.uint16]
Levels = npt.NDArray[np.int16]


def values_of(data: Bytes, dtype: str) -> Floats:
    """Return the numbers of little-endian bytes as float32: exact for all three dtypes.

    Args:
        data: uint8 [n * itemsize].
        dtype: ``bfloat16``, ``float16`` or ``float32``.
    """
    if dtype == "bfloat16":
        return float_of(data.view("<u2"))
    if dtype == "float16":
        return data.view("<f2").astype(np.float32)
    return data.view("<f4").astype(np.float32, copy=False)


def energies(
    data: Bytes, dtype: str, rows: int, cols: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], bool]:
    """Return the sums of squares of rows float64 [rows] and of columns float64 [cols], and whether all are finite.

    Squares are taken in binary64, where they are exact; what is not finite counts as 0. Columns are added row after
    row; a row is added in 32 lanes, by column modulo 32, and the lanes in halves: so every codec has the same sums.
    """
    row, col, finite = np.zeros(rows), np.zeros(cols), True
    step = max(1, _ROWS_AT_ONCE // cols)
    values = values_of(data, dtype).reshape(rows, cols)
    for first in range(0, rows, step):
        part = values[first : first + step]
        known = np.isfinite(part)
        finite = finite and bool(known.all())
        squares = np.square(np.where(known, part, 0), dtype=np.float64)
        row[first : first + step] = _row_sums(squares)
        squares[0] += col
        col = np.add.accumulate(squares, axis=0, out=squares)[-1].copy()
    return row, col, finite


def _row_sums(squares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lanes = np.zeros((len(squares), LANES))
    for first in range(0, squares.shape[1], LANES):
        part = squares[:, first : first + LANES]
        lanes[:, : part.shape[1]] += part
    while (half := lanes.shape[1] // 2) > 0:
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def scale_products(row_scale: Scales, col_scale: Scales) -> Floats:
    """Return ``R * C``, exact in binary32: float32 [rows, cols]."""
    return float_of(row_scale)[:, None] * float_of(col_scale)[None, :]


def quantize(data: Bytes, dtype: str, rows: int, cols: int, row_scale: Scales, col_scale: Scales) -> Levels:
    """Return the nearest levels: int16 [rows, cols].

    Defined in binary32, so that all codecs agree: ``w / (R * C)``, divided with one rounding; rounded to the nearest
    integer, ties to even; clipped to +-255.

    Args:
        data: finite numbers, little-endian, uint8 [rows * cols * itemsize].
        dtype: ``bfloat16``, ``float16`` or ``float32``.
        rows: of the matrix.
        cols: of the matrix.
        row_scale: uint16 [rows], bits of bfloat16.
        col_scale: uint16 [cols], bits of bfloat16. Every product R * C is at least 2^-126.
    """
    levels = np.empty((rows, cols), np.int16)
    values = values_of(data, dtype).reshape(rows, cols)
    step = max(1, _ROWS_AT_ONCE // cols)
    for first in range(0, rows, step):
        here = slice(first, first + step)
        with np.errstate(over="ignore"):
            quotient = values[here] / scale_products(row_scale[here], col_scale)
        levels[here] = np.clip(np.rint(quotient, out=quotient), -MAX_LEVEL, MAX_LEVEL, out=quotient)
    return levels


def histogram(levels: Levels, row_class: npt.NDArray[np.int8], col_class: npt.NDArray[np.int8]) -> Any:
    """Return how often each class has each level, -255 upwards: int64 [8, 511].

    Args:
        levels: int16 [rows, cols].
        row_class: int8 [rows].
        col_class: int8 [cols]. The class of an element is the sum of both, held to 0 to 7.
    """
    counts = np.zeros(CLASSES * _SYMBOLS, np.int64)
    step = max(1, _ROWS_AT_ONCE // levels.shape[1])
    for first in range(0, len(levels), step):
        classes = np.clip(row_class[first : first + step, None].astype(np.int32) + col_class, 0, CLASSES - 1)
        places = classes * np.int32(_SYMBOLS) + (levels[first : first + step] + np.int16(MAX_LEVEL))
        counts += np.bincount(places.ravel(), minlength=len(counts))
    return counts.reshape(CLASSES, _SYMBOLS)


def error(data: Bytes, dtype: str, levels: Levels, row_scale: Scales, col_scale: Scales) -> float:
    """Return the sum of squares of what `levels` rebuild less what was there; patches are not looked at.

    Differences are taken in binary32, and their squares added there by blocks, if that does not overflow: the sum is
    right to about five digits.
    """
    total, (rows, cols) = 0.0, levels.shape
    size = data.size // rows
    step = max(1, _CACHED // cols)
    for first in range(0, rows, step):
        here = slice(first, first + step)
        values = values_of(data[first * size : (first + step) * size], dtype)
        total += _block_error(values, dtype, levels[here], row_scale[here], col_scale)
    return total


def _block_error(values: Floats, dtype: str, levels: Levels, row_scale: Scales, col_scale: Scales) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        difference = _rebuilt(levels, row_scale, col_scale, dtype)
        difference -= values
        squares = float(difference @ difference)
    if not np.isfinite(squares) or squares < _TINY:
        wide = difference.astype(np.float64)
        squares = float(wide @ wide)
    return squares


def _rebuilt(levels: Levels, row_scale: Scales, col_scale: Scales, dtype: str) -> Floats:
    """Return what levels rebuild, as new float32 [rows * cols]: `rebuild.from_levels` in place."""
    if dtype == "float16":
        return values_of(from_levels(levels, row_scale, col_scale, dtype).view(np.uint8).ravel(), dtype)
    products = levels.astype(np.float32)
    products *= float_of(row_scale)[:, None]  # exact, as is the next product
    products *= float_of(col_scale)
    if dtype == "bfloat16":
        bits = products.view(np.uint32)
        bits += 0x7FFF + ((bits >> 16) & 1)
        bits &= 0xFFFF0000
    return products.ravel()
