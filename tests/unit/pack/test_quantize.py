# SPDX-License-Identifier: Apache-2.0
"""What an encoder does to every weight, in NumPy."""

import math

import numpy as np
import pytest

from weighmaster.pack.layout import float_of
from weighmaster.pack.quantize import energies, error, histogram, quantize, values_of
from weighmaster.pack.rebuild import from_levels


def as_bytes(values, dtype):
    values = np.asarray(values, np.float32)
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").view(np.uint8).ravel()
    return values.astype({"float16": "<f2", "float32": "<f4"}[dtype]).view(np.uint8).ravel()


ONE = np.uint16(0x3F80)
DTYPES = pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])


@DTYPES
def test_values_are_exact(dtype):
    values = np.array([0.0, -0.0, 1.5, -3.0, 2.0**-14, 2.0**-24, 65504.0 if dtype != "bfloat16" else 65280.0])
    assert np.array_equal(values_of(as_bytes(values, dtype), dtype), values.astype(np.float32))


@DTYPES
def test_energies(dtype):
    values = np.array([[1, 2, -3], [0.5, 0, 4]], np.float32)
    row, col, finite = energies(as_bytes(values, dtype), dtype, 2, 3)
    assert row.tolist() == [14.0, 16.25]
    assert col.tolist() == [1.25, 4.0, 25.0]
    assert finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_energies_tell_what_is_not_finite(bad):
    values = np.array([[1, bad], [2, 3]], np.float32)
    assert energies(as_bytes(values, "float32"), "float32", 2, 2)[2] is False


def test_levels_are_the_nearest_ties_to_even_and_clipped():
    values = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 254.6, 255.4, 300.0, -1e30]], np.float32)
    levels = quantize(as_bytes(values, "float32"), "float32", 1, 9, np.full(1, ONE), np.full(9, ONE))
    assert levels.tolist() == [[0, 2, 2, 0, -2, 255, 255, 255, -255]]
    assert levels.dtype == np.int16


@DTYPES
def test_levels_come_back(dtype):
    random = np.random.default_rng(1)
    levels = random.integers(-120, 121, (40, 33)).astype(np.int16)
    row = random.integers(0x3C00, 0x3C40, 40).astype(np.uint16)
    col = random.integers(0x3F80, 0x3FC0, 33).astype(np.uint16)
    data = from_levels(levels, row, col, dtype).view(np.uint8).ravel()
    assert np.array_equal(quantize(data, dtype, 40, 33, row, col), levels)
    assert error(data, dtype, levels, row, col) == 0.0


def test_error_is_that_of_what_is_rebuilt():
    random = np.random.default_rng(2)
    values = random.standard_normal((64, 48)).astype(np.float32)
    row, col = np.full(64, 0x3D00, np.uint16), np.full(48, ONE)
    levels = quantize(as_bytes(values, "float32"), "float32", 64, 48, row, col)
    step = float(float_of(row)[0])
    wanted = np.square(levels * np.float64(step) - values).sum()
    assert error(as_bytes(values, "float32"), "float32", levels, row, col) == pytest.approx(wanted)
    assert wanted == pytest.approx(values.size * step**2 / 12, rel=0.1)


def test_histogram_counts_by_class():
    levels = np.array([[0, 1, -255], [255, 1, 1]], np.int16)
    counts = histogram(levels, np.array([0, 3], np.int8), np.array([0, 1, -5], np.int8))
    assert counts.shape == (8, 511)
    assert {(int(c), int(k) - 255): int(counts[c, k]) for c, k in zip(*np.nonzero(counts), strict=True)} == {
        (0, 0): 1,
        (1, 1): 1,
        (0, -255): 1,
        (3, 255): 1,
        (4, 1): 1,
        (0, 1): 1,
    }
