# SPDX-License-Identifier: Apache-2.0
"""HQQ (half-quadratic quantization), by its own quantizer: 4 bits, groups of 64, its optimizer on."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from hqq.core.quantize import Quantizer

from peers import Rebuilt, Tensors, each_matrix

__all__ = ["hqq"]


def hqq(tensors: Tensors) -> Iterator[Rebuilt]:
    """Yield HQQ with groups along the row (its default) and with groups across rows (its better one, it says)."""
    for axis, name in ((1, "HQQ 4 g64"), (0, "HQQ 4 g64, axis 0")):
        rebuilt, nbytes = each_matrix(tensors, lambda _, matrix, axis=axis: _one(matrix, axis))
        what = f"hqq {version('hqq')}, 4 bits, groups of 64, axis {axis}, float16 scales and zeros"
        yield Rebuilt(name=name, what=what, nbytes=nbytes, tensors=rebuilt)


def _one(matrix: torch.Tensor, axis: int) -> tuple[torch.Tensor, int]:
    packed, meta = Quantizer.quantize(matrix, nbits=4, group_size=64, axis=axis, device="cpu")
    held: list[Any] = [packed]
    for name in ("scale", "zero"):  # HQQLinear keeps both at the compute dtype, float16
        meta[name] = meta[name].half()
        held.append(meta[name])
    nbytes = sum(tensor.numel() * tensor.element_size() for tensor in held)
    return Quantizer.dequantize(packed, {**meta, "scale": meta["scale"].float(), "zero": meta["zero"].float()}), nbytes
