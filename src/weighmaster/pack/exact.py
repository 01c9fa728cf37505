# SPDX-License-Identifier: Apache-2.0
"""Tensors that keep every bit: by planes where that is smaller, else as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weighmaster.core.canonical import dumps
from weighmaster.core.tensor import TensorView
from weighmaster.pack.coded import Coded
from weighmaster.pack.coder import Backend, encode_exact
from weighmaster.pack.layout import DTYPE_CODES, ITEMSIZE, MAX_CHUNK
from weighmaster.pack.quantize import energies

__all__ = ["Exact"]

_WIDTH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """The lossless encoder."""

    backend: Backend
    profile: str = "exact"

    def parameters(self) -> dict[str, str]:
        """Return nothing: there is nothing to choose."""
        return {}

    def state(self) -> bytes:
        """Return the profile."""
        return dumps({"profile": self.profile})

    def encode(self, view: TensorView) -> Coded:
        """Code one tensor without loss."""
        raw = bytes(view.read(0, view.nbytes))
        squared = _squared(raw, view)
        if view.dtype in DTYPE_CODES and raw:
            rows, cols = _matrix(view, len(raw) // ITEMSIZE[view.dtype])
            blob = encode_exact(np.frombuffer(raw, np.uint8), view.dtype, rows, cols, self.backend)
            if len(blob) < len(raw):
                return Coded(codec="exact-v1", blob=blob, squared_error=0.0, squared=squared)
        return Coded(codec="raw-v1", blob=raw, squared_error=0.0, squared=squared)


def _matrix(view: TensorView, size: int) -> tuple[int, int]:
    cols = view.shape[-1] if len(view.shape) > 1 else size
    if 1 <= cols <= MAX_CHUNK and size % cols == 0:
        return size // cols, cols
    cols = next(c for c in (_WIDTH, 256, 32, 1) if size % c == 0)
    return size // cols, cols


def _squared(raw: bytes, view: TensorView) -> float:
    """Return the sum of squares of the finite elements; 0 for dtypes that no codec changes."""
    if not raw or view.dtype not in {"bfloat16", "float16", "float32"}:
        return 0.0
    data = np.frombuffer(raw, np.uint8)
    return float(energies(data, view.dtype, 1, len(raw) // ITEMSIZE[view.dtype])[0][0])
