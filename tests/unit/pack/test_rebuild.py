# SPDX-License-Identifier: Apache-2.0
"""Rebuilding: products of three small numbers, rounded once, are what integers give; planes lose nothing."""

from __future__ import annotations

import importlib.util
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weighmaster.pack.layout import Shape
from weighmaster.pack.rebuild import from_levels, from_planes, split_planes

TOOL = Path(__file__).parents[3] / "tools" / "unpack_by_hand.py"
LEVELS = np.arange(-255, 256, dtype=np.int16)
FLOATS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
RANGE = {"bfloat16": (-126, 127), "float16": (-126, 15), "float32": (-126, 127)}
"""Exponents of products that section 1 allows."""
ITEM = {"bfloat16": 2, "float16": 2, "float32": 4, "float8_e4m3fn": 1, "float8_e5m2": 1}


def by_hand() -> Any:
    spec = importlib.util.spec_from_file_location("unpack_by_hand", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HAND = by_hand()


def scales(random: np.random.Generator, dtype: str, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return pairs of scales, as bits, whose products with any level are neither too small nor too large."""
    low, high = RANGE[dtype]
    total = random.integers(low, high - 9, count)  # of R and C without their significands, which add less than 2; K 8
    a = np.clip(random.integers(-126, 128, count), total - 127, total + 126)
    r, c = random.integers(0, 128, (2, count))
    return ((a + 127) << 7 | r).astype(np.uint16), ((total - a + 127) << 7 | c).astype(np.uint16)


@pytest.mark.parametrize("dtype", FLOATS)
def test_integers_give_the_same_for_all_levels(dtype: str) -> None:
    """All 511 levels with 1,000 random pairs of scales over the whole range of exponents, and -0 told from +0."""
    random = np.random.default_rng(1)
    for r, c in zip(*scales(random, dtype, 1000), strict=True):
        found = from_levels(LEVELS[:, None], np.repeat(r, 511), np.array([c]), dtype)
        wide = LEVELS[:, None].astype(np.int64), np.repeat(np.int64(r), 511), np.array([c], np.int64)
        assert np.array_equal(found, HAND.rebuild(*wide, dtype)), (dtype, hex(r), hex(c))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS)
def test_all_significands_of_a_scale(dtype: str) -> None:
    """All levels x all significands of R x sixteen of C, at exponents where results are normal, subnormal and zero."""
    significands = np.arange(128)
    for exponent in (-126, -40, -26, -20, -9) if dtype == "float16" else (-126, 0, 118):
        a, b = exponent // 2, exponent - exponent // 2
        row = ((a + 127) << 7 | significands).astype(np.uint16)
        col = ((b + 127) << 7 | (np.arange(16) * 37) % 128).astype(np.uint16)
        levels = np.broadcast_to(LEVELS[:, None, None], (511, 128, 16)).reshape(511 * 128, 16)
        rows = np.tile(row, 511)
        found = from_levels(levels, rows, col, dtype)
        hand = HAND.rebuild(levels.astype(np.int64), rows.astype(np.int64), col.astype(np.int64), dtype)
        assert np.array_equal(found, hand), (dtype, exponent)


@pytest.mark.parametrize("dtype", FLOATS)
def test_torch_rounds_the_same(dtype: str) -> None:
    """A product of doubles, which is exact, converted by PyTorch; -0 among the results of float16."""
    random = np.random.default_rng(2)
    row, col = scales(random, dtype, 400)
    for r, c in zip(row, col, strict=True):
        r_value, c_value = (float(np.array([v << 16], np.uint32).view(np.float32)[0]) for v in (int(r), int(c)))
        exact = torch.from_numpy(LEVELS.astype(np.float64)) * r_value * c_value
        bits = (exact + 0.0).to(FLOATS[dtype]).view(torch.int32 if dtype == "float32" else torch.int16).numpy()
        found = from_levels(LEVELS[None], np.array([r]), np.repeat(c, 511), dtype).ravel()
        assert found.tolist() == bits.view(found.dtype).tolist()


def test_no_product_needs_more_than_24_bits() -> None:
    """The largest is 255^3, which binary32 holds; so the order of multiplication cannot matter."""
    assert 255**3 < 1 << 24
    k, r, c = np.meshgrid(np.arange(1, 256, 2), np.arange(128, 256, 3), np.arange(128, 256, 5))
    x, y, z = (v.astype(np.float32) for v in (k, r, c))
    assert np.array_equal((x * y) * z, x * (y * z))
    assert np.array_equal((x * z) * y, (k * r * c).astype(np.float32))


def test_values_that_anybody_can_check() -> None:
    one = np.array([0x3F80], np.uint16)
    for level, bits in ((0, 0), (1, 0x3F80), (-2, 0xC000), (255, 0x437F), (-255, 0xC37F)):
        assert from_levels(np.array([[level]], np.int16), one, one, "bfloat16").tolist() == [[bits]]
    tiny = np.array([(127 - 20) << 7], np.uint16)  # 2^-20 x 2^-5: half the least subnormal number of float16
    five = np.array([(127 - 5) << 7], np.uint16)
    found = from_levels(np.array([[-1, 1, 2, 3, -3, -4]], np.int16), tiny, np.repeat(five, 6), "float16")
    assert found.tolist() == [[0x8000, 0, 1, 2, 0x8002, 0x8002]]


@settings(max_examples=40, deadline=None)
@given(level=st.integers(-255, 255), r=st.integers(0, 127), c=st.integers(0, 127), exponent=st.integers(-126, 5))
def test_float16_by_fractions(level: int, r: int, c: int, exponent: int) -> None:
    a, b = exponent // 2, exponent - exponent // 2
    value = level * Fraction(128 + r, 128) * Fraction(128 + c, 128) * Fraction(2) ** exponent
    expected = int.from_bytes(struct.pack("<e", value), "little") | (0x8000 if level < 0 else 0)
    scale = [np.array([(e + 127) << 7 | s], np.uint16) for e, s in ((a, r), (b, c))]
    assert from_levels(np.array([[level]], np.int16), *scale, "float16").tolist() == [[expected]]


@pytest.mark.requirement("REQ-PAC-02")
@pytest.mark.parametrize("dtype", FLOATS)
def test_flushing_of_subnormal_numbers_changes_nothing(dtype: str) -> None:
    """DAZ and FTZ are set by other libraries, for their thread; no number here may depend on them."""
    random = np.random.default_rng(3)
    row, col = scales(random, dtype, 300)
    before = [from_levels(LEVELS[None], row[i : i + 1], np.repeat(col[i], 511), dtype) for i in range(300)]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        smallest = torch.tensor([1e-40], dtype=torch.float32)
        assert float((smallest * 1.0)[0]) == 0.0, "the mode is not in force"
        after = [from_levels(LEVELS[None], row[i : i + 1], np.repeat(col[i], 511), dtype) for i in range(300)]
    finally:
        torch.set_flush_denormal(False)
    assert all(np.array_equal(x, y) for x, y in zip(before, after, strict=True))
    if dtype == "float16":
        subnormal = [(b & 0x7FFF > 0) & (b & 0x7FFF < 0x400) for b in before]
        assert any(s.any() for s in subnormal)


@pytest.mark.parametrize(("dtype", "variant"), [*((d, 0) for d in ITEM), ("float32", 1)])
@settings(max_examples=40, deadline=None)
@given(data=st.binary(min_size=4, max_size=400))
def test_planes_lose_nothing(dtype: str, variant: int, data: bytes) -> None:
    size = ITEM[dtype]
    bits = np.frombuffer(data[: len(data) // 4 * 4], np.uint8).copy()
    if variant:
        bits.reshape(-1, 4)[:, :2] = 0
    count = len(bits) // size
    symbols, raw = split_planes(bits, dtype, variant)
    shape = Shape(codec=2, dtype=dtype, table_bits=12, variant=variant, rows=1, cols=count, band=1)
    assert symbols.shape == (count,)
    assert raw.shape == ({0: size - 1, 1: 1}[variant], count)
    assert from_planes(symbols, raw, shape).tobytes() == bits.tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_planes_of_every_pattern(dtype: str) -> None:
    """All 65,536 (256) patterns of bits."""
    bits = np.arange(1 << 8 * ITEM[dtype], dtype=np.uint32).astype(f"<u{ITEM[dtype]}").view(np.uint8)
    symbols, raw = split_planes(bits, dtype, 0)
    shape = Shape(codec=2, dtype=dtype, table_bits=12, variant=0, rows=1, cols=len(symbols), band=1)
    assert from_planes(symbols, raw, shape).tobytes() == bits.tobytes()
    assert len({*zip(symbols.tolist(), *raw.tolist(), strict=True)}) == 1 << 8 * ITEM[dtype]
