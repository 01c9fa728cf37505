# SPDX-License-Identifier: Apache-2.0
"""Round to nearest on a grid per group of weights (RTN), the yardstick of every quantizer; code of our own."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from peers import Rebuilt, Tensors, each_matrix

__all__ = ["rounding"]

GROUP = 64


def rounding(tensors: Tensors) -> Iterator[Rebuilt]:
    """Yield symmetric round-to-nearest at 5 and 4 bits, groups of 64 along the row, one float16 scale per group."""
    for bits in (5, 4):
        rebuilt, nbytes = each_matrix(tensors, lambda _, matrix, bits=bits: _one(matrix, bits))
        what = f"round to nearest, {bits} bits, groups of {GROUP}, float16 scales (largest magnitude on the grid's end)"
        yield Rebuilt(name=f"RTN {bits} g{GROUP}", what=what, nbytes=nbytes, tensors=rebuilt)


def _one(matrix: torch.Tensor, bits: int) -> tuple[torch.Tensor, int]:
    groups, top = matrix.reshape(-1, GROUP), 2 ** (bits - 1)
    scales = (groups.abs().amax(1, keepdim=True) / (top - 1)).half().float().clamp(min=6e-8)
    levels = (groups / scales).round().clamp(-top, top - 1)
    return levels * scales, matrix.numel() * bits // 8 + 2 * len(scales)
