# SPDX-License-Identifier: Apache-2.0
"""The encoder that looks at the weights alone: one step for the whole model, so that every bit buys the same error."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.core.canonical import dumps
from weighmaster.core.fields import Fields
from weighmaster.core.tensor import TensorView
from weighmaster.pack.backends import best, energies, quantize
from weighmaster.pack.exact import Coded, ExactEncoder
from weighmaster.pack.layout import LARGEST, float_of
from weighmaster.pack.matrix import Matrix, matrix_of, unsigned
from weighmaster.pack.packed import FIVE
from weighmaster.pack.quantize import error, scale_products, values_of
from weighmaster.pack.rate import LEAST, MOST, cap_of, solve, table_bits_of
from weighmaster.pack.scales import nearest_scale, split
from weighmaster.pack.streams import Band, band_of, choose, encode_bands
from weighmaster.pack.tables import MAX_LEVEL

__all__ = [
    "SMALLEST",
    "Datafree",
    "PlainLevels",
    "bits_of",
    "decimal",
    "exact_bytes",
    "from_state",
    "in_range",
    "plan",
    "sampled_bits",
]

SMALLEST: Final = 4096
"""Elements below which a tensor is kept as it is."""

_KEPT: Final = 1 << 26
"""Elements up to which levels are kept between passes."""

_WHOLE: Final = 1 << 26
"""Elements of a model up to which the rate is found on all of them."""

_SAMPLED_ROWS: Final = 96
"""Rows of each tensor of a larger model on which the rate is found, or 1 % of them if that is more."""

_MARGIN: Final = 0.006
"""Bits per weight that a rate found on a sample stays below what was asked."""

_PER_OCTAVE: Final = 8

_BOOK: Final = 256
"""Different scales of rows, or of columns, at most."""

_ROUNDING: Final = 1 / 12
"""Mean square that rounding adds to a level."""

_QUICK: Final = 1 << 22
"""Bytes."""

_GAUSSIAN: Final = 0.5 * math.log2(2 * math.pi * math.e)
"""Bits of entropy of a Gaussian of variance 1 in steps of 1."""

_BITS: Final = re.compile(r"\d(\.\d{1,6})?")

Scales = npt.NDArray[np.uint16]


@dataclass(slots=True, kw_only=True, eq=False)
class PlainLevels:
    """The nearest levels of a tensor, made band by band; a `streams.LevelSource`. Energies are those of the weights."""

    matrix: Matrix
    row_scale: Scales
    col_scale: Scales
    row_energy: npt.NDArray[np.float64]
    col_energy: npt.NDArray[np.float64]
    _kept: dict[tuple[int, int], Band] = dataclasses.field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """Dtype of the tensor."""
        return self.matrix.view.dtype

    def bands(self, multiple: int) -> Iterator[Band]:
        """Give all rows in order."""
        for first, last in self.matrix.bands(multiple):
            band = self._kept.get((first, last))
            if band is None:
                data = self.matrix.read(first, last)
                band = patched(data, self.dtype, first, self.row_scale[first:last], self.col_scale)
                if self.matrix.size <= _KEPT:
                    self._kept[first, last] = band
            yield band

    def mean_squares(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Return the mean squares of the levels from those of the weights, if all have one step."""
        if int(self.col_scale.min()) != int(self.col_scale.max()):
            return None
        square = float(scale_products(self.row_scale[:1], self.col_scale[:1])[0, 0]) ** 2
        rows, cols = self.matrix.rows, self.matrix.cols
        return self.row_energy / (cols * square) + _ROUNDING, self.col_energy / (rows * square) + _ROUNDING

    def squared_error(self) -> float:
        """Return the sum over the elements of the squares of what is lost."""
        total = 0.0
        for band in self.bands(band_of(self.matrix.rows, self.matrix.cols)):
            last = band.first + len(band.levels)
            data = self.matrix.read(band.first, last)
            if len(band.patch_at):  # their levels are 0
                bits = data.view(unsigned(self.dtype)).copy()
                bits[band.patch_at - band.first * self.matrix.cols] = 0
                data = bits.view(np.uint8)
            total += error(data, self.dtype, band.levels, self.row_scale[band.first : last], self.col_scale)
        return total


def patched(data: npt.NDArray[np.uint8], dtype: str, first: int, row_scale: Scales, col_scale: Scales) -> Band:
    """Quantize rows; what is beyond the levels becomes level 0 and a patch."""
    rows, cols = len(row_scale), len(col_scale)
    levels = quantize(data, dtype, rows, cols, row_scale, col_scale)
    if int(levels.max()) < MAX_LEVEL and int(levels.min()) > -MAX_LEVEL:
        return Band(first=first, levels=levels)
    at = np.flatnonzero(np.abs(levels.ravel()) == MAX_LEVEL)
    r, c = np.divmod(at, cols)
    step = float_of(row_scale)[r].astype(np.float64) * float_of(col_scale)[c]
    at = at[np.abs(values_of(data, dtype)[at].astype(np.float64)) > (MAX_LEVEL + 0.5) * step]
    levels.ravel()[at] = 0
    bits = data.view(unsigned(dtype))[at]
    return Band(first=first, levels=levels, patch_at=at + first * cols, patch_bits=bits)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sample:
    """Some rows of a tensor, quantized."""

    data: npt.NDArray[np.uint8]
    dtype: str
    row_scale: Scales
    col_scale: Scales

    def bands(self, _multiple: int) -> Iterator[Band]:
        """Give them all."""
        yield patched(self.data, self.dtype, 0, self.row_scale, self.col_scale)

    def mean_squares(self) -> None:
        """Return nothing: the levels say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Datafree:
    """A plan: the step of the model.

    Attributes:
        row: bits of bfloat16, the scale of all rows.
        col: bits of bfloat16, the scale of the columns that stay below the cap.
        bits: per weight, that were asked for; they imply the cap of columns and the table bits.
    """

    row: int
    col: int
    bits: Decimal
    profile: str = "datafree"

    @property
    def step(self) -> float:
        """The step, R * C."""
        return float(np.prod(float_of(np.array([self.row, self.col], np.uint16)).astype(np.float64)))

    @property
    def table_bits(self) -> int:
        """Table bits B."""
        return table_bits_of(self.bits)

    def parameters(self) -> dict[str, str]:
        """Return the step and what the rate implied."""
        return {"step": decimal(self.step), "columnCap": decimal(cap_of(self.bits)), "tableBits": str(self.table_bits)}

    def state(self) -> bytes:
        """Return all of it."""
        return dumps({"profile": self.profile, "bits": str(self.bits), "row": self.row, "col": self.col})

    def encode(self, view: TensorView) -> Coded:
        """Code one tensor: in levels if it is large enough and finite and that is smaller, else without loss."""
        exact = ExactEncoder()
        matrix = matrix_of(view)
        if matrix is None or matrix.size < SMALLEST:
            return exact.encode(view)
        row_energy, col_energy, finite = _energies(matrix)
        col_scale = self.col_scales(col_energy / matrix.rows)
        if not finite or not in_range(view.dtype, np.uint16(self.row), col_scale):
            return exact.encode(view)
        source = PlainLevels(
            matrix=matrix,
            row_scale=np.full(matrix.rows, self.row, np.uint16),
            col_scale=col_scale,
            row_energy=row_energy,
            col_energy=col_energy,
        )
        blob = encode_bands(source, choose(source, self.table_bits).layout, best())
        if len(blob) >= view.nbytes:
            return exact.encode(view)
        return Coded(codec=FIVE, blob=blob, squared_error=source.squared_error(), squared=float(row_energy.sum()))

    def col_scales(self, col_mean: npt.NDArray[np.float64]) -> Scales:
        """Return the scales of columns, given their mean squares: larger where the cap would be passed."""
        over = np.sqrt(col_mean) / (cap_of(self.bits) * self.step)
        scale = float(float_of(np.array([self.col], np.uint16))[0])
        steps = np.ceil(np.log2(np.maximum(over, 1)) * _PER_OCTAVE) / _PER_OCTAVE
        return nearest_scale(scale * 2.0**steps)


def in_range(dtype: str, row: np.uint16, col_scale: Scales) -> bool:
    """Return whether all levels times these scales are numbers of the dtype (spec/pack.md, 1)."""
    high = float(float_of(np.array([row, col_scale.max()], np.uint16)).astype(np.float64).prod())
    return len(np.unique(col_scale)) <= _BOOK and MAX_LEVEL * high <= LARGEST[dtype]


def _energies(matrix: Matrix) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], bool]:
    row, col, finite = np.empty(matrix.rows), np.zeros(matrix.cols), True
    for first, last in matrix.bands():
        rows, cols, sound = energies(matrix.read(first, last), matrix.view.dtype, last - first, matrix.cols)
        row[first:last] = rows
        col, finite = col + cols, finite and sound
    return row, col, finite


def decimal(value: float) -> str:
    """Return a number as a decimal string of seven digits."""
    return f"{value:.7g}"


def from_state(fields: Fields) -> Datafree:
    """Return the plan of a state whose profile has been read.

    Raises:
        MalformedArtefact: it is none.
    """
    bits = bits_of(fields)
    row, col = (fields.integer(key, minimum=0x0080, maximum=0x7F7F) for key in ("row", "col"))
    fields.done()
    return Datafree(row=row, col=col, bits=bits)


def bits_of(fields: Fields) -> Decimal:
    """Return the bits asked for, of a state."""
    text = fields.text("bits")
    if not _BITS.fullmatch(text) or not LEAST <= Decimal(text) <= MOST:
        raise fields.fault("bits", f"a decimal number from {LEAST} to {MOST}", repr(text))
    return Decimal(text)


def plan(views: Sequence[TensorView], *, bits: Decimal, fixed_bytes: int) -> Datafree:
    """Find the step with which the whole file takes the bits asked for.

    Args:
        views: all tensors of the model.
        bits: per weight of all of them.
        fixed_bytes: what the file takes beside the blobs.

    Raises:
        UsageError: no step gives so few bits.
    """
    matrices = [m for m in map(matrix_of, views) if m is not None and m.size >= SMALLEST]
    names = {m.view.name for m in matrices}
    kept = sum(exact_bytes(v) for v in views if v.name not in names)
    elements = sum(math.prod(v.shape) for v in views)
    whole = sum(m.size for m in matrices) <= _WHOLE

    def made(x: float) -> Datafree:
        row, col = split(2.0**x)
        return Datafree(row=int(row), col=int(col), bits=bits)

    def rate(x: float) -> float:
        trial = made(x)
        coded = sum(sampled_bits(m, trial, whole=whole) for m in matrices)
        return (coded + 8 * (kept + fixed_bytes)) / elements

    target = float(bits) - (0 if whole else _MARGIN)
    return made(solve(rate, target, _first_guess(matrices, target)))


def exact_bytes(view: TensorView) -> int:
    """Return what a tensor takes that is kept as it is: by coding it if that is quick, else its own size."""
    return len(ExactEncoder().encode(view).blob) if view.nbytes <= _QUICK else view.nbytes


def sampled_bits(matrix: Matrix, trial: Datafree, *, whole: bool) -> float:
    """Return the bits that a tensor will take, from all rows (`whole`) or a sample of them."""
    count = matrix.rows if whole else min(matrix.rows, max(_SAMPLED_ROWS, matrix.rows // 100))
    at = np.linspace(0, matrix.rows - 1, count).astype(np.intp)
    data = matrix.read(0, matrix.rows) if whole else np.concatenate([matrix.read(int(i), int(i) + 1) for i in at])
    _, col, finite = energies(data, matrix.view.dtype, count, matrix.cols)
    col_scale = trial.col_scales(col / count)
    if not finite or not in_range(matrix.view.dtype, np.uint16(trial.row), col_scale):
        return 8.0 * matrix.view.nbytes
    sample = _Sample(
        data=data,
        dtype=matrix.view.dtype,
        row_scale=np.full(count, trial.row, np.uint16),
        col_scale=col_scale,
    )
    return min(choose(sample, trial.table_bits).bits * matrix.rows / count, 8.0 * matrix.view.nbytes)


def _first_guess(matrices: Sequence[Matrix], target: float) -> float:
    """Return the logarithm of the step that would do if every tensor were Gaussian."""
    total, size = 0.0, 0
    for matrix in matrices:
        rows = min(matrix.rows, 64)
        row, _, finite = energies(matrix.read(0, rows), matrix.view.dtype, rows, matrix.cols)
        mean = float(row.sum()) / (rows * matrix.cols)
        if finite and mean > 0:
            total, size = total + matrix.size * (0.5 * math.log2(mean) + _GAUSSIAN), size + matrix.size
    return total / size - target if size else -target
