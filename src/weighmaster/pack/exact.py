# SPDX-License-Identifier: Apache-2.0
"""What an encoder is, and the encoder that loses nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from weighmaster.core.canonical import dumps
from weighmaster.core.tensor import TensorView
from weighmaster.pack.backends import best
from weighmaster.pack.coder import encode_exact
from weighmaster.pack.layout import MAX_CHUNK
from weighmaster.pack.packed import DTYPE_CODES, EXACT, RAW

__all__ = ["Coded", "Encoder", "ExactEncoder", "matrix_of", "squares"]

_SMALLEST: Final = 2_048
"""Bytes: a tensor below this stays raw, for the tables alone would cost more than is saved."""

_PIECE: Final = 1 << 24
"""Bytes of a tensor that are looked at together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A tensor as it lies in a shard.

    Attributes:
        codec: ``five-v1``, ``exact-v1``, or ``raw-v1``.
        blob: spec/pack.md, 2; the tensor's own bytes for ``raw-v1``.
        squared_error: sum over the elements of (rebuilt - source)^2, in float64; 0 where nothing is lost.
        squared: sum of the squares of the source's finite elements.
    """

    codec: str
    blob: bytes
    squared_error: float
    squared: float


class Encoder(Protocol):
    """Codes tensors by one plan. The same plan and tensor always give the same blob."""

    @property
    def profile(self) -> str:
        """``exact``, ``datafree`` or ``calibrated``."""

    def parameters(self) -> dict[str, str]:
        """Return what the plan was made with, for the index: texts, numbers as decimal strings."""

    def encode(self, view: TensorView) -> Coded:
        """Code one tensor, reading it by row bands."""

    def state(self) -> bytes:
        """Return what `resume` needs to go on with the same plan, as canonical JSON."""


class ExactEncoder:
    """Loses nothing: ``exact-v1`` where that is smaller, ``raw-v1`` elsewhere."""

    profile = "exact"

    def parameters(self) -> dict[str, str]:
        """Return none: there is nothing to choose."""
        return {}

    def state(self) -> bytes:
        """Return the profile."""
        return dumps({"profile": self.profile})

    def encode(self, view: TensorView) -> Coded:
        """Code one tensor."""
        data = bytes(view.read(0, view.nbytes))
        squared = squares(np.frombuffer(data, np.uint8), view.dtype)
        shape = matrix_of(view.shape)
        if view.dtype in DTYPE_CODES and view.nbytes >= _SMALLEST and shape is not None:
            blob = encode_exact(np.frombuffer(data, np.uint8), view.dtype, *shape, best())
            if len(blob) < len(data):
                return Coded(codec=EXACT, blob=blob, squared_error=0.0, squared=squared)
        return Coded(codec=RAW, blob=data, squared_error=0.0, squared=squared)


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return rows and columns that a tensor is coded as, or None where the format has no room for such rows.

    The last dimension gives the columns; where it is short, as in a convolution, all dimensions but the first do.
    """
    count = math.prod(shape)
    if count == 0:
        return None
    if len(shape) < 2:  # noqa: PLR2004
        return (1, count) if count <= MAX_CHUNK else None
    cols = shape[-1] if shape[-1] >= 32 else count // shape[0]  # noqa: PLR2004  # lanes
    return (count // cols, cols) if cols <= MAX_CHUNK else None


def squares(data: npt.NDArray[np.uint8], dtype: str) -> float:
    """Return the sum of the squares of the finite elements, in float64; 0 for dtypes that are no plain floats."""
    return math.fsum(_squares(data[i : i + _PIECE], dtype) for i in range(0, len(data), _PIECE))


def _squares(data: npt.NDArray[np.uint8], dtype: str) -> float:
    if dtype == "bfloat16":
        values = (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in {"float16", "float32", "float64"}:
        values = data.view({"float16": "<f2", "float32": "<f4", "float64": "<f8"}[dtype])
    else:
        return 0.0
    wide = values[np.isfinite(values)].astype(np.float64)
    with np.errstate(over="ignore"):  # float64 alone can be that large
        return float(np.dot(wide, wide))
