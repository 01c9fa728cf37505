# SPDX-License-Identifier: Apache-2.0
"""Frequency tables of the entropy code: how they are written, read, and fitted to a histogram (spec/pack.md, 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.errors import MalformedArtefact

__all__ = ["CLASSES", "MAX_LEVEL", "Table", "fit_table", "frequency_of", "read_tables", "table_bytes"]

CLASSES: Final = 8
"""Context classes of a tensor, each with its table."""

MAX_LEVEL: Final = 255
"""Largest magnitude of a level."""

_FIRST_CODE: Final = 16
_HIGH: Final = 255
_EVERY: Final = 16
"""Frequencies below this are all there, whatever the grain."""
_ABSENT, _FULL, _SYMMETRIC = 0, 1, 2

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Frequencies of consecutive symbols.

    Attributes:
        lowest: symbol of the first frequency.
        frequencies: int64 [n], each at least 0; they sum to 2^B.
    """

    lowest: int
    frequencies: npt.NDArray[np.int64]

    @property
    def highest(self) -> int:
        """Symbol of the last frequency."""
        return self.lowest + len(self.frequencies) - 1


def frequency_of(codes: Codes) -> npt.NDArray[np.int64]:
    """Return the frequencies of codes: 0, or a number of five significant bits at most.

    Args:
        codes: uint8 [n], none of them 1 to 15.
    """
    exponent, mantissa = codes.astype(np.int64) >> 4, codes.astype(np.int64) & 15
    values = ((16 + mantissa) << np.maximum(exponent - 1, 0)) >> 4
    return np.where(codes == 0, 0, values)


class _Bytes:
    """A position in a byte string that cannot be read beyond its end."""

    def __init__(self, data: bytes, file: str) -> None:
        self.data, self.file, self.at = data, file, 0

    def take(self, count: int, field: str) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            found = f"{len(piece)} to its end"
            raise MalformedArtefact(self.file, f"side section: {field}", expected=f"{count} bytes", found=found)
        self.at += count
        return piece

    def integer(self, field: str, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(2, field), "little", signed=signed)


def read_tables(side: bytes, *, levels: bool, table_bits: int, file: str) -> tuple[tuple[Table | None, ...], int]:
    """Read the eight tables at the start of a side section; None for a class that does not occur.

    Args:
        side: the inflated side section.
        levels: symbols are levels (codec 1), not bytes (codec 2).
        table_bits: B, 11 to 14.
        file: names the blob in errors.

    Returns:
        The tables, and the position after them.

    Raises:
        MalformedArtefact: a rule of spec/pack.md, 2.2, is broken.
    """
    stream = _Bytes(side, file)
    tables = tuple(_read_table(stream, f"table {i}", levels, 1 << table_bits) for i in range(CLASSES))
    return tables, stream.at


def _read_table(stream: _Bytes, field: str, levels: bool, total: int) -> Table | None:  # noqa: FBT001  # private
    kind = stream.take(1, field)[0]
    if kind == _ABSENT:
        return None
    if kind == _FULL:
        lowest, count, place = stream.integer(field, signed=True), stream.integer(field), stream.integer(field)
    elif kind == _SYMMETRIC and levels:
        lowest, count, place = 0, stream.integer(field), 0
    else:
        allowed = "0, 1 or 2" if levels else "0 or 1"
        raise _fault(stream, field, f"a kind of table, {allowed}", str(kind))
    least, most = (-MAX_LEVEL, MAX_LEVEL) if levels else (0, 255)
    if not 1 <= count <= most - least + 1 or lowest < least or lowest + count - 1 > most or place >= count:
        found = f"lowest {lowest}, count {count}, position {place}"
        raise _fault(stream, field, f"symbols within {least} to {most}, and a position among them", found)
    frequencies = _frequencies(stream, field, count, place)
    if kind == _SYMMETRIC:
        lowest, place = 1 - count, count - 1
        frequencies = np.concatenate([frequencies[:0:-1], frequencies])
    rest = total - int(frequencies.sum())
    if rest < 1:
        raise _fault(stream, field, f"frequencies that leave at least 1 of {total}", f"{total - rest} without the rest")
    frequencies[place] = rest
    return Table(lowest=lowest, frequencies=frequencies)


def _frequencies(stream: _Bytes, field: str, count: int, place: int) -> npt.NDArray[np.int64]:
    differences = np.frombuffer(stream.take(count, field), np.uint8)
    codes = np.cumsum(differences, dtype=np.uint8)
    bad = np.flatnonzero((codes > 0) & (codes < _FIRST_CODE))
    if bad.size or codes[place]:
        at = int(bad[0]) if bad.size else place
        wanted = "0 at the position of the rest, elsewhere 0 or 16 to 255"
        raise _fault(stream, f"{field}: code {at}", wanted, str(int(codes[at])))
    return frequency_of(codes)


def _fault(stream: _Bytes, field: str, expected: str, found: str) -> MalformedArtefact:
    return MalformedArtefact(stream.file, f"side section: {field}", expected=expected, found=found)


def table_bytes(table: Table | None) -> bytes:
    """Return how a table of `fit_table` is written.

    Raises:
        ValueError: a frequency, other than that of the symbol that takes the rest, has no code.
    """
    if table is None:
        return bytes([_ABSENT])
    frequencies = table.frequencies
    if 0 > table.lowest == -table.highest and bool((frequencies == frequencies[::-1]).all()):  # bytes are not below 0
        half = frequencies[len(frequencies) // 2 :]
        return bytes([_SYMMETRIC]) + len(half).to_bytes(2, "little") + _difference_bytes(half, 0)
    uncoded = np.flatnonzero(frequency_of(_codes_of(frequencies)) != frequencies)
    place = int(uncoded[0]) if uncoded.size else int(frequencies.argmax())
    head = table.lowest.to_bytes(2, "little", signed=True) + len(frequencies).to_bytes(2, "little")
    return bytes([_FULL]) + head + place.to_bytes(2, "little") + _difference_bytes(frequencies, place)


def _difference_bytes(frequencies: npt.NDArray[np.int64], place: int) -> bytes:
    codes = _codes_of(frequencies)
    wrong = frequency_of(codes) != frequencies
    wrong[place] = False
    if wrong.any():
        raise ValueError(f"frequency {int(frequencies[wrong][0])} has no code")
    codes[place] = 0
    return np.diff(codes, prepend=np.uint8(0)).astype(np.uint8).tobytes()


def _codes_of(frequencies: npt.NDArray[np.int64]) -> Codes:
    """Return the code of each frequency that has one, and some code for the others."""
    codes = _CODES[np.minimum(np.searchsorted(_FREQUENCIES, frequencies), len(_CODES) - 1)]
    return np.where(frequencies == 0, 0, codes).astype(np.uint8)


def fit_table(
    histogram: npt.NDArray[np.int64], lowest: int, table_bits: int, *, symmetric: bool, grain: int = 1
) -> Table | None:
    """Return a table in which every symbol that occurs has a frequency of at least 1.

    Args:
        histogram: int64 [n], occurrences of the symbols from `lowest` upwards.
        lowest: symbol of its first place.
        table_bits: B; there must be fewer than 2^B symbols.
        symmetric: give a level and its negative one frequency, which halves what the table costs. Level 0 must occur.
        grain: 1, 2, 4 or 8: take only every so-manieth code, which makes tables cheaper and the symbols dearer.

    Returns:
        None if nothing occurs.
    """
    if not histogram.any():
        return None
    lowest, counts = _trimmed(histogram, lowest)
    if symmetric:
        lowest, counts = _mirrored(lowest, counts)
    place = len(counts) // 2 if symmetric else int(counts.argmax())
    share = counts.astype(np.float64) * ((1 << table_bits) / int(counts.sum()))
    shrink, least = 1.0, max(1, int(share[place] * 0.9))
    while True:
        frequencies = np.where(counts > 0, _nearest(share * shrink, grain), 0)
        frequencies[place] = 0
        rest = (1 << table_bits) - int(frequencies.sum())
        if rest >= least:
            frequencies[place] = rest
            return Table(lowest=lowest, frequencies=frequencies)
        shrink, least = shrink * 0.99, max(1, int(least * 0.99))


def _nearest(values: npt.NDArray[np.float64], grain: int) -> npt.NDArray[np.int64]:
    grid: npt.NDArray[np.int64] = _FREQUENCIES[(_CODES % grain == 0) | (_FREQUENCIES < _EVERY)]
    above = np.clip(np.searchsorted(grid, values), 1, len(grid) - 1)
    nearer = values - grid[above - 1] < grid[above] - values
    taken: npt.NDArray[np.int64] = grid[np.where(nearer, above - 1, above)]
    return taken


def _trimmed(histogram: npt.NDArray[np.int64], lowest: int) -> tuple[int, npt.NDArray[np.int64]]:
    there = np.flatnonzero(histogram)
    return lowest + int(there[0]), histogram[there[0] : there[-1] + 1].astype(np.int64)


def _mirrored(lowest: int, counts: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
    reach = max(-lowest, lowest + len(counts) - 1)
    wide = np.zeros(2 * reach + 1, np.int64)
    wide[lowest + reach : lowest + reach + len(counts)] = counts
    return -reach, wide + wide[::-1]


_FREQUENCIES, _FIRST = np.unique(frequency_of(np.arange(_FIRST_CODE, _HIGH + 1, dtype=np.uint8)), return_index=True)
_CODES: Final[Codes] = (_FIRST + _FIRST_CODE).astype(np.uint8)
