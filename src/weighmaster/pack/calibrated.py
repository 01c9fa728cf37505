# SPDX-License-Identifier: Apache-2.0
"""The encoder that knows what the model is fed: rounding with feedback, in steps by what a change costs.

It holds whole tensors in memory, and the statistics of the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.core.canonical import dumps
from weighmaster.core.fields import Fields
from weighmaster.core.tensor import TensorView
from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.pack.allocation import Fineness, fineness_of, scales_of
from weighmaster.pack.backends import best
from weighmaster.pack.datafree import SMALLEST, Datafree, bits_of, decimal, exact_bytes, in_range, sampled_bits
from weighmaster.pack.exact import Coded
from weighmaster.pack.feedback import rounded
from weighmaster.pack.layout import float_of
from weighmaster.pack.matrix import Matrix, matrix_of, unsigned
from weighmaster.pack.packed import FIVE
from weighmaster.pack.quantize import error, values_of
from weighmaster.pack.rate import cap_of, solve, table_bits_of
from weighmaster.pack.scales import split
from weighmaster.pack.statistics import Statistics, digest_of
from weighmaster.pack.streams import Band, choose, encode_bands
from weighmaster.pack.tables import MAX_LEVEL

__all__ = ["Calibrated", "from_state", "plan"]

DAMPING: Final = 0.1
"""Of the mean of the diagonal of the moments, added to it: what was not calibrated on changes little."""

_FINE: Final = 1024
"""Places of the step of the model per octave."""

_PLACES: Final = 1 << 17

_WHOLE: Final = 1 << 26
"""Elements of a model up to which the rate is found on all rows."""

_SAMPLED_ROWS: Final = 256

_MARGIN: Final = 0.006
"""Bits per weight that a rate found on a sample stays below what was asked."""

Scales = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rounded:
    """Rows of a tensor, rounded; a `streams.LevelSource`."""

    data: npt.NDArray[np.uint8]
    dtype: str
    row_scale: Scales
    col_scale: Scales
    levels: npt.NDArray[np.int16]
    patch_at: npt.NDArray[np.int64]

    def bands(self, _multiple: int) -> Iterator[Band]:
        """Give all rows."""
        yield Band(first=0, levels=self.levels, patch_at=self.patch_at, patch_bits=self._bits()[self.patch_at])

    def mean_squares(self) -> None:
        """Return nothing: the levels say it."""

    def _bits(self) -> npt.NDArray[np.unsignedinteger]:
        return self.data.view(unsigned(self.dtype))

    def squared_error(self) -> float:
        """Return the sum over the elements of the squares of what is changed."""
        data = self.data
        if len(self.patch_at):  # their levels are 0
            bits = self._bits().copy()
            bits[self.patch_at] = 0
            data = bits.view(np.uint8)
        return error(data, self.dtype, self.levels, self.row_scale, self.col_scale)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibrated:
    """A plan: the step of the model, and what the calibration found.

    Attributes:
        place: the step is 2^(place / 1024).
        plain: the step of tensors that the calibration did not see: the mean of the others', as a place.
        bits: per weight, that were asked for.
        damping: of the moments.
        statistics: of the calibration.
    """

    place: int
    plain: int
    bits: Decimal
    damping: float
    statistics: Statistics
    profile: str = "calibrated"

    def parameters(self) -> dict[str, str]:
        """Return the steps and what else shaped the levels."""
        return {
            "step": decimal(2.0 ** (self.place / _FINE)),
            "plainStep": decimal(2.0 ** (self.plain / _FINE)),
            "damping": decimal(self.damping),
            "columnCap": decimal(cap_of(self.bits)),
            "tableBits": str(table_bits_of(self.bits)),
            "statistics": digest_of(self.statistics),
        }

    def state(self) -> bytes:
        """Return all but the statistics, which are named by their digest."""
        places = {"place": self.place + _PLACES, "plain": self.plain + _PLACES}
        texts = {"damping": decimal(self.damping), "statistics": digest_of(self.statistics)}
        return dumps({"profile": self.profile, "bits": str(self.bits), **places, **texts})

    def encode(self, view: TensorView) -> Coded:
        """Code one tensor: with feedback if the calibration saw it, else as a data-free plan does."""
        matrix = matrix_of(view)
        moments = self.statistics.get(view.name)
        if matrix is None or matrix.size < SMALLEST or moments is None:
            return self.datafree().encode(view)
        data = matrix.read(0, matrix.rows)
        values = values_of(data, view.dtype).reshape(matrix.rows, matrix.cols)
        if not np.isfinite(values).all():
            return self.datafree().encode(view)
        source = self.rounded(matrix, data, fineness_of(moments, damping=self.damping))
        if source is None:
            return self.datafree().encode(view)
        blob = encode_bands(source, choose(source, table_bits_of(self.bits)).layout, best())
        if len(blob) >= view.nbytes:
            return self.datafree().encode(view)
        squared = float(np.square(values, dtype=np.float64).sum())
        return Coded(codec=FIVE, blob=blob, squared_error=source.squared_error(), squared=squared)

    def datafree(self) -> Datafree:
        """Return the plan for what the calibration did not see."""
        row, col = split(2.0 ** (self.plain / _FINE))
        return Datafree(row=int(row), col=int(col), bits=self.bits)

    def rounded(self, matrix: Matrix, data: npt.NDArray[np.uint8], fineness: Fineness) -> _Rounded | None:
        """Round rows of a tensor; None if the scales would be out of range."""
        dtype, step = matrix.view.dtype, 2.0 ** (self.place / _FINE)
        values = values_of(data, dtype).reshape(-1, matrix.cols)
        mean_square = np.zeros(matrix.cols)
        for begin in range(0, len(values), 256):
            relative = values[begin : begin + 256] / fineness.row[begin : begin + 256, None]
            mean_square += np.square(relative).sum(axis=0)
        row_scale, col_scale = scales_of(fineness, step, mean_square / len(values), cap_of(self.bits))
        if not all(in_range(dtype, r, col_scale) for r in (row_scale.min(), row_scale.max())):
            return None
        row, col = float_of(row_scale).astype(np.float64), float_of(col_scale).astype(np.float64)
        levels = rounded(values, fineness.root, row, col)
        return _Rounded(
            data=data,
            dtype=dtype,
            row_scale=row_scale,
            col_scale=col_scale,
            levels=levels,
            patch_at=_beyond(values, levels, row, col),
        )


def _beyond(
    values: npt.NDArray[np.float32],
    levels: npt.NDArray[np.int16],
    row: npt.NDArray[np.float64],
    col: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Return the positions of weights that no level reaches, as `feedback.rounded` tells them."""
    largest = np.abs(values).max(axis=1).astype(np.float64)
    rows = np.flatnonzero(largest > MAX_LEVEL * row * float(col.min()))
    steps = row[rows, None] * col
    r, c = np.nonzero((np.abs(values[rows]) > (MAX_LEVEL + 0.5) * steps) & (levels[rows] == 0))
    places: npt.NDArray[np.int64] = (rows[r] * values.shape[1] + c).astype(np.int64)
    return places


def plan(
    views: Sequence[TensorView], statistics: Statistics, *, bits: Decimal, fixed_bytes: int, damping: float = DAMPING
) -> Calibrated:
    """Find the step with which the whole file takes the bits asked for.

    Args:
        views: all tensors of the model.
        statistics: of the calibration.
        bits: per weight of all of them.
        fixed_bytes: what the file takes beside the blobs.
        damping: of the moments.

    Raises:
        UsageError: no step gives so few bits, or the statistics fit no tensor of the model.
    """
    matrices = [m for m in map(matrix_of, views) if m is not None and m.size >= SMALLEST]
    search = _Search(matrices=matrices, statistics=statistics, bits=bits, damping=damping)
    coded = {m.view.name for m in matrices}
    kept = sum(exact_bytes(v) for v in views if v.name not in coded)
    elements = sum(math.prod(v.shape) for v in views)
    target = float(bits) - (0 if search.whole else _MARGIN)
    x = solve(
        lambda x: (search.coded_bits(x) + 8 * (kept + fixed_bytes)) / elements, target, search.first_guess(target)
    )
    return search.at(x)


class _Search:
    """Trials of one model at several steps; what does not depend on the step is kept as far as it is small."""

    def __init__(self, *, matrices: Sequence[Matrix], statistics: Statistics, bits: Decimal, damping: float) -> None:
        self.statistics, self.bits, self.damping = statistics, bits, damping
        self.whole = sum(m.size for m in matrices) <= _WHOLE
        self.seen = [m for m in matrices if m.view.name in statistics and _fits(m, statistics)]
        self.unseen = [m for m in matrices if m.view.name not in statistics]
        if not self.seen:
            raise UsageError("the calibration saw no weight of this checkpoint")
        self._fineness: dict[str, Fineness] = {}
        logs = [m.size * float(np.log2(f.row).mean() + np.log2(f.col).mean()) for m, f in self._all()]
        self.middle = sum(logs) / sum(m.size for m in self.seen)

    def _all(self) -> Iterator[tuple[Matrix, Fineness]]:
        return ((m, self._fineness_of(m)) for m in self.seen)

    def _fineness_of(self, matrix: Matrix) -> Fineness:
        name = matrix.view.name
        if name not in self._fineness:
            fineness = fineness_of(self.statistics[name], damping=self.damping)
            if not self.whole:
                return fineness
            self._fineness[name] = fineness
        return self._fineness[name]

    def at(self, x: float) -> Calibrated:
        """Return the plan at the logarithm of a step."""
        return Calibrated(
            place=round(x * _FINE),
            plain=round((x + self.middle) * _FINE),
            bits=self.bits,
            damping=self.damping,
            statistics=self.statistics,
        )

    def first_guess(self, target: float) -> float:
        """Return the logarithm of the step that would do if the levels were Gaussian."""
        total = 0.0
        for matrix, fineness in self._all():
            data, row = _some_rows(matrix, fineness, 64)
            values = values_of(data, matrix.view.dtype).reshape(len(row), -1) / row[:, None] / fineness.col
            energy = np.square(values).mean(axis=0) + np.finfo(np.float64).tiny
            total += matrix.size * float(0.5 * np.log2(energy).mean())
        return total / sum(m.size for m in self.seen) + 0.5 * math.log2(2 * math.pi * math.e) - target

    def coded_bits(self, x: float) -> float:
        """Return the bits that all blobs of matrices take."""
        trial = self.at(x)
        plain = trial.datafree()
        total = sum(sampled_bits(m, plain, whole=self.whole) for m in self.unseen)
        for matrix, fineness in self._all():
            data, row = _some_rows(matrix, fineness, matrix.rows if self.whole else _SAMPLED_ROWS)
            part = Fineness(row=row, col=fineness.col, root=fineness.root)
            source = trial.rounded(matrix, data, part)
            full = 8.0 * matrix.view.nbytes
            bits = full if source is None else choose(source, table_bits_of(self.bits)).bits * matrix.rows / len(row)
            total += min(bits, full)
        return total


def _fits(matrix: Matrix, statistics: Statistics) -> bool:
    moments = statistics[matrix.view.name]
    if moments.inputs.shape == (matrix.cols, matrix.cols) and moments.outputs.shape == (matrix.rows,):
        return True
    found = f"{moments.outputs.shape[0]} x {moments.inputs.shape[0]}"
    raise UsageError(f"{matrix.view.name}: statistics of {found} for a matrix of {matrix.rows} x {matrix.cols}")


def _some_rows(matrix: Matrix, fineness: Fineness, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    if count >= matrix.rows:
        return matrix.read(0, matrix.rows), fineness.row
    at = np.linspace(0, matrix.rows - 1, count).astype(np.intp)
    return np.concatenate([matrix.read(int(i), int(i) + 1) for i in at]), fineness.row[at]


def from_state(fields: Fields, statistics: Statistics) -> Calibrated:
    """Return the plan of a state whose profile has been read.

    Raises:
        MalformedArtefact: it is none, or was made with other statistics.
    """
    bits = bits_of(fields)
    place, plain = (fields.integer(key, maximum=2 * _PLACES) - _PLACES for key in ("place", "plain"))
    damping = _positive(fields, "damping")
    wanted, found = fields.digest("statistics"), digest_of(statistics)
    fields.done()
    if wanted != found:
        raise MalformedArtefact(fields.file, "statistics", expected=wanted, found=found)
    return Calibrated(place=place, plain=plain, bits=bits, damping=damping, statistics=statistics)


def _positive(fields: Fields, key: str) -> float:
    text = fields.text(key)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < math.inf:
        raise fields.fault(key, "a positive number", repr(text))
    return value
