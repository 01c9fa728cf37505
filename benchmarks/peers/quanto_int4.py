# SPDX-License-Identifier: Apache-2.0
"""int4 of optimum-quanto: its default optimizer, and the group size that its linear layer picks."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import torch
from optimum.quanto import MaxOptimizer, qint4, quantize_weight

from peers import Rebuilt, Tensors, each_matrix

__all__ = ["quanto"]


def quanto(tensors: Tensors) -> Iterator[Rebuilt]:
    """Yield int4 with float16 scale and shift per group of 128 (less where 128 does not divide the row)."""
    rebuilt, nbytes = each_matrix(tensors, lambda _, matrix: _one(matrix))
    what = f"optimum-quanto {version('optimum-quanto')}, qint4, groups of 128 (or less), float16 scales and shifts"
    yield Rebuilt(name="quanto int4", what=what, nbytes=nbytes, tensors=rebuilt)


def _one(matrix: torch.Tensor) -> tuple[torch.Tensor, int]:
    group = _group(matrix.shape[1])
    scale, shift = MaxOptimizer()(matrix, qtype=qint4, axis=0, group_size=group)
    scale, shift = scale.half(), shift.half()
    weight = quantize_weight(matrix, qint4, 0, scale.float(), shift.float(), group, optimized=False)
    return weight.dequantize(), matrix.numel() // 2 + 2 * (scale.numel() + shift.numel())


def _group(columns: int) -> int:
    """Return the group that quanto's linear layer takes: the largest divisor of the row among 128, 96, 64, 32."""
    return next(group for group in (128, 96, 64, 32) if columns % group == 0)
