# SPDX-License-Identifier: Apache-2.0
"""The bytes and the values of the yardstick, round to nearest, and what a peer leaves as it is."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def rounding(script):
    return script("peers/rounding.py").rounding


def test_every_byte_is_counted_and_vectors_stay(rounding):
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(8, 128, generator=generator).bfloat16()
    norm = torch.rand(128, generator=generator).bfloat16()
    five, four = rounding({"w": matrix, "norm": norm})
    assert (five.nbytes, four.nbytes) == (8 * 128 * 5 // 8 + 2 * 16 + 256, 8 * 128 * 4 // 8 + 2 * 16 + 256)
    assert torch.equal(five.tensors["norm"], norm.float())
    for found, bits in ((five, 5), (four, 4)):
        groups = found.tensors["w"].reshape(-1, 64)
        assert all(len(group.unique()) <= 2**bits for group in groups)
        step = matrix.float().reshape(-1, 64).abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert ((groups - matrix.float().reshape(-1, 64)).abs() <= 0.502 * step).all()  # half a step; float16 scales


def test_a_group_of_zeros_stays_zero(rounding):
    five, _ = rounding({"w": torch.zeros(2, 64)})
    assert torch.equal(five.tensors["w"], torch.zeros(2, 64))
