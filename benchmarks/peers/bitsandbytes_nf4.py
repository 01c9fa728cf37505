# SPDX-License-Identifier: Apache-2.0
"""NF4 of bitsandbytes, by its own functions, blocks of 64."""

from __future__ import annotations

from collections.abc import Iterator

import bitsandbytes
import torch
from bitsandbytes import functional

from peers import Rebuilt, Tensors, each_matrix

__all__ = ["nf4"]


def nf4(tensors: Tensors) -> Iterator[Rebuilt]:
    """Yield NF4 with float32 scales, and with quantized scales ("double quantization")."""
    for double, name in ((False, "bnb nf4"), (True, "bnb nf4, double")):
        rebuilt, nbytes = each_matrix(tensors, lambda _, matrix, double=double: _one(matrix, double=double))
        what = f"bitsandbytes {bitsandbytes.__version__}, quantize_4bit, nf4, blocks of 64, " + (
            "scales quantized (double quantization)" if double else "float32 scales"
        )
        yield Rebuilt(name=name, what=what, nbytes=nbytes, tensors=rebuilt)


def _one(matrix: torch.Tensor, *, double: bool) -> tuple[torch.Tensor, int]:
    packed, state = functional.quantize_4bit(
        matrix.contiguous(), blocksize=64, quant_type="nf4", compress_statistics=double
    )
    held = [packed, state.absmax]
    if double:
        held += [state.state2.absmax]  # its 256-entry code is a constant of the library
    nbytes = sum(tensor.numel() * tensor.element_size() for tensor in held)
    return functional.dequantize_4bit(packed, state), nbytes
