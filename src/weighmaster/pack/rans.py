# SPDX-License-Identifier: Apache-2.0
"""The entropy code in NumPy: the specification as code, and what decodes where no compiler was (spec/pack.md, 3).

All chunks of the same height go side by side: one step handles one row of one strip in each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.layout import LANES, STATES, Chunk, Layout, classes_of
from weighmaster.pack.tables import CLASSES, Table

__all__ = ["decode_symbols", "encode_symbols"]

_LOWER: Final = 1 << 16

Symbols = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class _Slots:
    """Tables by class and slot: symbol, frequency, and slot less cumulative frequency; [CLASSES << B] each."""

    symbol: npt.NDArray[np.int16]
    frequency: npt.NDArray[np.uint32]
    rest: npt.NDArray[np.uint32]


def _slots(tables: Sequence[Table | None], table_bits: int) -> _Slots:
    size = 1 << table_bits
    out = _Slots(
        np.zeros(CLASSES * size, np.int16), np.ones(CLASSES * size, np.uint32), np.zeros(CLASSES * size, np.uint32)
    )
    for i, table in enumerate(tables):
        if table is not None:
            here = slice(i * size, (i + 1) * size)
            places = np.repeat(np.arange(len(table.frequencies)), table.frequencies)
            cumulative = np.cumsum(table.frequencies) - table.frequencies
            out.symbol[here] = places + table.lowest
            out.frequency[here] = table.frequencies[places]
            out.rest[here] = np.arange(size) - cumulative[places]
    return out


def decode_symbols(layout: Layout, blob: memoryview, chunks: Sequence[Chunk]) -> Symbols:
    """Return the symbols of consecutive chunks: int16 [rows, cols].

    Raises:
        MalformedArtefact: an element is in a class without a table, a state starts below its bound, words are missing,
            or the end is not that of section 3.
    """
    first, last = chunks[0].row, chunks[-1].row + chunks[-1].rows
    classes = classes_of(layout, first, last)
    _require_tables(layout, classes)
    out = np.empty((last - first, layout.shape.cols), np.int16)
    slots = _slots(layout.tables, layout.shape.table_bits)
    for group in _of_equal_height(chunks):
        start = group[0].row - first
        count, rows = len(group), group[0].rows
        band = out[start : start + count * rows].reshape(count, rows, -1)
        _decode_group(layout, blob, group, slots, classes[start : start + count * rows].reshape(band.shape), band)
    return out


def _require_tables(layout: Layout, classes: npt.NDArray[np.intp]) -> None:
    missing = [i for i, table in enumerate(layout.tables) if table is None]
    if missing and np.isin(classes, missing).any():
        expected = "a table for every class that occurs"
        raise MalformedArtefact(layout.file, "side section: classes", expected=expected, found=f"none for {missing}")


def _of_equal_height(chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
    full = [chunk for chunk in chunks if chunk.rows == chunks[0].rows]
    yield full
    if len(full) < len(chunks):
        yield chunks[len(full) :]


def _decode_group(
    layout: Layout,
    blob: memoryview,
    group: Sequence[Chunk],
    slots: _Slots,
    classes: npt.NDArray[np.intp],
    out: Symbols,
) -> None:
    bits, mask = layout.shape.table_bits, np.uint32((1 << layout.shape.table_bits) - 1)
    states = np.stack([np.frombuffer(blob, "<u4", LANES, c.begin) for c in group]).astype(np.uint32)
    if (bad := np.any(states < _LOWER, axis=1)).any():
        raise _broken(layout, group, bad, "states of at least 2^16", "a smaller one")
    words, at = _words(blob, group)
    stop = at + [c.words for c in group]
    for strip in range(0, layout.shape.cols, LANES):
        width = min(LANES, layout.shape.cols - strip)
        state = states[:, :width]
        for row in range(group[0].rows):
            slot = (classes[:, row, strip : strip + width] << bits) | (state & mask)
            out[:, row, strip : strip + width] = slots.symbol[slot]
            state = slots.frequency[slot] * (state >> bits) + slots.rest[slot]
            low = state < _LOWER
            ahead = np.cumsum(low, axis=1)
            word = words[np.minimum(at[:, None] + ahead - low, len(words) - 1)]
            state = np.where(low, (state << 16) | word, state)
            at = at + ahead[:, -1]
        states[:, :width] = state
        if (at > stop).any():
            raise _broken(layout, group, at > stop, "enough words", "a word beyond its last")
    if (bad := (at != stop) | np.any(states != _LOWER, axis=1)).any():
        raise _broken(layout, group, bad, "states of 2^16 after its last word", "another end")


def _words(blob: memoryview, group: Sequence[Chunk]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    pieces = [np.frombuffer(blob, "<u2", c.words, c.begin + STATES) for c in group]
    starts = np.cumsum([0, *(c.words for c in group)])[:-1].astype(np.int64)
    return np.concatenate([*pieces, np.zeros(1, "<u2")]).astype(np.uint32), starts


def _broken(layout: Layout, group: Sequence[Chunk], bad: Any, expected: str, found: str) -> MalformedArtefact:
    number = group[int(np.flatnonzero(bad)[0])].row // layout.shape.band
    return MalformedArtefact(layout.file, f"chunk {number}: entropy code", expected=expected, found=found)


def encode_symbols(layout: Layout, symbols: Symbols) -> list[tuple[int, bytes]]:
    """Return the words (number) and states with words (bytes) of every chunk.

    Args:
        layout: header, tables and classes; every symbol has a frequency in the table of its class.
        symbols: int16 [rows, cols].
    """
    band = layout.shape.band
    whole = layout.shape.rows // band
    out = _encode_group(layout, symbols, 0, whole, band)
    rest = layout.shape.rows - whole * band
    return out + (_encode_group(layout, symbols, whole * band, 1, rest) if rest else [])


def _encode_group(layout: Layout, symbols: Symbols, first: int, count: int, rows: int) -> list[tuple[int, bytes]]:
    cols, bits = layout.shape.cols, layout.shape.table_bits
    block = symbols[first : first + count * rows]
    frequency, cumulative = _by_symbol(layout, block, classes_of(layout, first, first + len(block)))
    shape = (count, rows, cols)
    frequency, cumulative = frequency.reshape(shape), cumulative.reshape(shape)
    states = np.full((count, LANES), _LOWER, np.uint64)
    written: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]] = []
    for strip in range((cols - 1) // LANES * LANES, -1, -LANES):
        width = min(LANES, cols - strip)
        state = states[:, :width]
        for row in range(rows - 1, -1, -1):
            f = frequency[:, row, strip : strip + width]
            full = state >= f << np.uint64(32 - bits)
            written.append((state & np.uint64(0xFFFF), full))
            state = np.where(full, state >> np.uint64(16), state)
            state = ((state // f) << np.uint64(bits)) + state % f + cumulative[:, row, strip : strip + width]
        states[:, :width] = state
    # A decoder reads forwards, lane by lane, what was written backwards.
    return [_body(states[i], [(word[i], full[i]) for word, full in reversed(written)]) for i in range(count)]


def _by_symbol(
    layout: Layout, symbols: Symbols, classes: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    lowest = min(t.lowest for t in layout.tables if t is not None)
    span = max(t.highest for t in layout.tables if t is not None) - lowest + 1
    frequency, cumulative = np.zeros((CLASSES, span), np.uint64), np.zeros((CLASSES, span), np.uint64)
    for i, table in enumerate(layout.tables):
        if table is not None:
            here = slice(table.lowest - lowest, table.highest - lowest + 1)
            frequency[i, here] = table.frequencies
            cumulative[i, here] = np.cumsum(table.frequencies) - table.frequencies
    at = symbols.astype(np.intp) - lowest
    if not frequency[classes, at].all():
        raise ValueError("a symbol has no frequency in the table of its class")
    return frequency[classes, at], cumulative[classes, at]


def _body(
    states: npt.NDArray[np.uint64], steps: Sequence[tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]]
) -> tuple[int, bytes]:
    words = np.concatenate([word[full] for word, full in steps]).astype("<u2")
    return len(words), states.astype("<u4").tobytes() + words.tobytes()
