# SPDX-License-Identifier: Apache-2.0
"""The entropy code: what is coded is decoded, at the cost that the tables promise, and nothing else is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.contexts import fit_tables
from weighmaster.pack.layout import LEVELS, Layout, Shape, assemble, parse_layout
from weighmaster.pack.rans import decode_symbols, encode_symbols

ONE = np.uint16(127 << 7)


def layout_of(symbols: np.ndarray[Any, Any], *, band: int, bits: int = 12, classes: Any = 0) -> Layout:
    rows, cols = symbols.shape
    a, b = (np.full(n, 0, np.int8) for n in (rows, cols))
    a[:] = classes
    return Layout(
        shape=Shape(codec=LEVELS, dtype="float32", table_bits=bits, variant=0, rows=rows, cols=cols, band=band),
        tables=fit_tables(symbols, a, b, levels=True, table_bits=bits),
        row_scale=np.full(rows, ONE),
        col_scale=np.full(cols, ONE),
        row_class=a,
        col_class=b,
        chunks=(),
        file="f",
    )


def coded(symbols: np.ndarray[Any, Any], **options: Any) -> bytes:
    layout = layout_of(symbols, **options)
    return assemble(layout, [(words, 0, body) for words, body in encode_symbols(layout, symbols)])


def decoded(blob: bytes, *, chunks: slice = slice(None)) -> np.ndarray[Any, Any]:
    layout = parse_layout(memoryview(blob), "f")
    return decode_symbols(layout, memoryview(blob), layout.chunks[chunks])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    rows=st.integers(1, 40),
    cols=st.integers(1, 100),
    spread=st.sampled_from([0.0, 0.3, 2.0, 60.0]),
    bits=st.integers(11, 14),
    data=st.data(),
)
def test_what_is_coded_is_decoded(seed: int, rows: int, cols: int, spread: float, bits: int, data: Any) -> None:
    random = np.random.default_rng(seed)
    symbols = np.clip(np.rint(random.normal(0, spread, (rows, cols))), -255, 255).astype(np.int16)
    band = data.draw(st.integers(1, rows))
    blob = coded(symbols, band=band, bits=bits, classes=random.integers(-2, 10, rows))
    assert decoded(blob).tolist() == symbols.tolist()


def test_chunks_stand_alone() -> None:
    symbols = np.random.default_rng(0).integers(-9, 10, (17, 50)).astype(np.int16)
    blob = coded(symbols, band=4)
    for first in range(5):
        for last in range(first + 1, 6):
            found = decoded(blob, chunks=slice(first, last))
            assert found.tolist() == symbols[4 * first : 4 * last].tolist()


def test_length_is_what_the_tables_promise() -> None:
    """Within a word of each lane, and the states, of the sum of log2(2^B / frequency)."""
    symbols = np.clip(np.rint(np.random.default_rng(1).normal(0, 5, (256, 256))), -255, 255).astype(np.int16)
    layout = layout_of(symbols, band=256)
    ((words, body),) = encode_symbols(layout, symbols)
    table = layout.tables[0]
    assert table is not None
    promised = float((12 - np.log2(table.frequencies[symbols - table.lowest])).sum())
    assert abs(16 * words + 32 * 16 - promised) < 32 * 17
    assert len(body) == 128 + 2 * words


def test_a_constant_takes_no_word() -> None:
    symbols = np.full((9, 70), -7, np.int16)
    layout = layout_of(symbols, band=9)
    alone = fit_tables(symbols - symbols, layout.row_class, layout.col_class, levels=True, table_bits=12)
    layout = Layout(**{name: getattr(layout, name) for name in Layout.__slots__} | {"tables": alone})
    assert encode_symbols(layout, symbols - symbols) == [(0, np.full(32, 1 << 16, "<u4").tobytes())]


def test_a_symbol_without_a_frequency_is_not_coded() -> None:
    symbols = np.zeros((2, 3), np.int16)
    layout = layout_of(np.array([[0, 0, 2], [0, -2, 0]], np.int16), band=2)
    symbols[1, 1] = 1
    with pytest.raises(ValueError, match="no frequency"):
        encode_symbols(layout, symbols)


def test_a_class_without_a_table_is_refused() -> None:
    symbols = np.zeros((2, 3), np.int16)
    blob = coded(symbols, band=2)
    layout = parse_layout(memoryview(blob), "f")
    moved = Layout(**{n: getattr(layout, n) for n in Layout.__slots__} | {"row_class": np.array([0, 1], np.int8)})
    with pytest.raises(MalformedArtefact, match="a table for every class that occurs"):
        decode_symbols(moved, memoryview(blob), layout.chunks)


def test_words_are_those_of_the_specification() -> None:
    """Section 3, read again with Python's integers, one lane after another."""
    symbols = np.random.default_rng(2).integers(-20, 21, (5, 45)).astype(np.int16)
    blob = coded(symbols, band=5)
    layout = parse_layout(memoryview(blob), "f")
    (chunk,), table = layout.chunks, layout.tables[0]
    assert table is not None
    frequencies = table.frequencies.tolist()
    states = [int.from_bytes(blob[chunk.begin + 4 * i :][:4], "little") for i in range(32)]
    words = iter(np.frombuffer(blob, "<u2", chunk.words, chunk.begin + 128).tolist())
    out = np.zeros((5, 45), np.int16)
    for s in range(0, 45, 32):
        for r in range(5):
            for lane in range(min(32, 45 - s)):
                slot, below, k = states[lane] % 4096, 0, 0
                while slot >= below + frequencies[k]:
                    below += frequencies[k]
                    k += 1
                out[r, s + lane] = k + table.lowest
                states[lane] = frequencies[k] * (states[lane] >> 12) + slot - below
                if states[lane] < 1 << 16:
                    states[lane] = (states[lane] << 16) | next(words)
    assert out.tolist() == symbols.tolist()
    assert states == [1 << 16] * 32
    assert next(words, None) is None
