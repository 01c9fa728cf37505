# SPDX-License-Identifier: Apache-2.0
"""Strides, extents, and whether elements fill the memory that they span."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core.tensor import Extent, canonical_stride, fills_extent, row_major

SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@given(SHAPES)
def test_row_major_is_what_torch_makes(shape: tuple[int, ...]) -> None:
    assert row_major(shape) == torch.empty(shape).stride()


@given(SHAPES, st.randoms(use_true_random=False))
def test_any_permutation_fills_its_extent(shape: tuple[int, ...], random) -> None:
    order = list(range(len(shape)))
    random.shuffle(order)
    tensor = torch.empty(shape).permute(order)
    if tensor.numel():
        assert fills_extent(tuple(tensor.shape), canonical_stride(tuple(tensor.shape), tensor.stride()))


@given(SHAPES, st.lists(st.integers(0, 30), min_size=4, max_size=4))
def test_filling_is_decided_as_by_counting(shape: tuple[int, ...], strides: list[int]) -> None:
    """Against the definition: every offset from 0 to the last is hit exactly once."""
    stride = canonical_stride(shape, tuple(strides[: len(shape)]))
    if 0 in shape:
        assert fills_extent(shape, stride) == (stride == row_major(shape))
        return
    hit = sorted(sum(i * s for i, s in zip(at, stride, strict=True)) for at in itertools.product(*map(range, shape)))
    assert fills_extent(shape, stride) == (hit == list(range(len(hit))))


def test_dimensions_that_are_never_stepped_are_written_row_major() -> None:
    assert canonical_stride((1, 3, 1), (99, 1, 7)) == (3, 1, 1)
    assert canonical_stride((2, 3), (1, 2)) == (1, 2)
    assert canonical_stride((), ()) == ()
    assert row_major((2, 0, 3)) == (3, 3, 1)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        canonical_stride((2, 3), (1,))


def test_extent_knows_its_end_and_its_order() -> None:
    first, second = Extent(device="cpu", address=16, nbytes=4), Extent(device="cpu", address=20, nbytes=1)
    assert first.stop == second.address
    assert first < second
