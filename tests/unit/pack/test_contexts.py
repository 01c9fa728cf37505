# SPDX-License-Identifier: Apache-2.0
"""Classes of rows and columns: they follow the data, stay in bounds, and are worth their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighmaster.pack.contexts import fit_tables, level_classes, plane_classes
from weighmaster.pack.tables import CLASSES, Table


def bits_of(symbols: np.ndarray[Any, Any], a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], *, levels: bool) -> float:
    tables = fit_tables(symbols, a, b, levels=levels, table_bits=12)
    classes = np.clip(a[:, None].astype(int) + b, 0, CLASSES - 1)
    total = 0.0
    for i, table in enumerate(tables):
        if isinstance(table, Table):
            mine = symbols[classes == i].astype(int) - table.lowest
            total += float((12 - np.log2(table.frequencies[mine])).sum())
    return total


def test_loud_rows_and_columns_have_higher_classes() -> None:
    random = np.random.default_rng(0)
    loud = np.array([1.0, 4.0])
    spread = loud[np.arange(64) % 2][:, None] * loud[np.arange(96) // 48]
    a, b = level_classes(np.rint(random.normal(0, 4 * spread)).astype(np.int16))
    assert (a[1::2] - a[::2] >= 2).all()
    assert (b[48:] - b[:48] >= 2).all()


def test_classes_save_bits_where_rows_differ() -> None:
    random = np.random.default_rng(1)
    symbols = np.clip(np.rint(random.normal(0, np.geomspace(0.5, 30, 128)[:, None], (128, 256))), -255, 255)
    symbols = symbols.astype(np.int16)
    a, b = level_classes(symbols)
    one = np.zeros(128, np.int8), np.zeros(256, np.int8)
    assert bits_of(symbols, a, b, levels=True) < 0.9 * bits_of(symbols, *one, levels=True)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 30),
    cols=st.integers(1, 30),
    seed=st.integers(0, 999),
    spread=st.sampled_from([0.0, 1.0, 250.0]),
)
def test_every_element_has_a_table_with_its_symbol(rows: int, cols: int, seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    levels = np.clip(np.rint(random.normal(0, spread, (rows, cols))), -255, 255).astype(np.int16)
    a, b = level_classes(levels)
    assert (a.dtype, b.dtype, a.shape, b.shape) == (np.int8, np.int8, (rows,), (cols,))
    assert np.isfinite(bits_of(levels, a, b, levels=True))
    planes = random.integers(0, 256, (rows, cols)).astype(np.uint8)
    a, b = plane_classes(planes)
    assert (a.dtype, b.dtype, a.shape, b.shape) == (np.int8, np.int8, (rows,), (cols,))
    assert np.isfinite(bits_of(planes.astype(np.int16), a, b, levels=False))


def test_few_elements_lie_below_class_0() -> None:
    levels = np.rint(np.random.default_rng(2).normal(0, np.geomspace(1, 9, 400), (300, 400))).astype(np.int16)
    a, b = level_classes(levels)
    assert ((a[:, None].astype(int) + b) < 0).mean() < 0.01


def test_tables_are_those_of_the_classes_alone() -> None:
    symbols = np.array([[1, 2], [30, 31]], np.int16)
    tables = fit_tables(symbols, np.array([0, 5], np.int8), np.array([0, 0], np.int8), levels=False, table_bits=12)
    held = {i: (t.lowest, t.highest) for i, t in enumerate(tables) if t is not None}
    assert held == {0: (1, 2), 5: (30, 31)}


@pytest.mark.parametrize("at_once", [1, 7, 1 << 22])
def test_histograms_are_counted_in_parts(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = np.random.default_rng(3).integers(-9, 10, (23, 11)).astype(np.int16)
    a, b = level_classes(symbols)
    whole = fit_tables(symbols, a, b, levels=True, table_bits=12)
    monkeypatch.setattr("weighmaster.pack.contexts._ROWS_AT_ONCE", at_once)
    parts = fit_tables(symbols, a, b, levels=True, table_bits=12)
    assert [t and t.frequencies.tolist() for t in parts] == [t and t.frequencies.tolist() for t in whole]
