# SPDX-License-Identifier: Apache-2.0
"""How far the rebuilt tensors are from the source's, element by element. What that does to outputs is not said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.core.tensor import TensorView
from weighmaster.errors import TensorFault, TensorSetFault

__all__ = ["WeightError", "compare_weights"]

_BAND: Final = 1 << 22
"""Bytes of a tensor compared at a time."""

_FLOATS: Final[dict[str, np.dtype[Any]]] = {
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightError:
    """Sums over the elements of one tensor; `squared` is None where they are no finite floating-point numbers."""

    squared_error: float
    squared: float | None
    max_error: float


def compare_weights(
    source: TensorView, dtype: str, shape: tuple[int, ...], data: npt.NDArray[np.uint8], *, lossless: bool
) -> WeightError:
    """Compare a tensor that a pack rebuilt with that of the source, reading the source by bands.

    Args:
        source: tensor of the checkpoint.
        dtype: of the rebuilt one.
        shape: of it.
        data: its bytes.
        lossless: its codec loses nothing.

    Raises:
        TensorSetFault: type or shape differ.
        TensorFault: the bytes differ where the codec loses nothing.
    """
    if (source.dtype, source.shape) != (dtype, shape):
        expected, found = f"{source.dtype} {list(source.shape)}", f"{dtype} {list(shape)}"
        raise TensorSetFault(source.name, "the pack holds another form", expected=expected, found=found)
    bands = [
        _band(source, data[start : start + _BAND], start, lossless=lossless) for start in range(0, source.nbytes, _BAND)
    ]
    finite = [band.squared for band in bands if band.squared is not None]
    return WeightError(
        squared_error=math.fsum(band.squared_error for band in bands),
        squared=math.fsum(finite) if len(finite) == len(bands) else None,
        max_error=max((band.max_error for band in bands), default=0.0),
    )


def _band(source: TensorView, rebuilt: npt.NDArray[np.uint8], start: int, *, lossless: bool) -> WeightError:
    held = np.frombuffer(source.read(start, start + len(rebuilt)), np.uint8)
    original = _widened(held, source.dtype)
    squared = None if original is None else float((original * original).sum())
    if np.array_equal(held, rebuilt):
        return WeightError(squared_error=0.0, squared=squared, max_error=0.0)
    differing = start + int(np.flatnonzero(held != rebuilt)[0])
    if lossless or original is None:
        raise TensorFault(source.name, f"differs from the source at byte {differing}, and its codec loses nothing")
    error = np.abs(original - _as_floats(rebuilt, source.dtype))
    return WeightError(squared_error=float((error * error).sum()), squared=squared, max_error=float(error.max()))


def _widened(data: npt.NDArray[np.uint8], dtype: str) -> npt.NDArray[np.float64] | None:
    """Return elements as float64 if all are finite floating-point numbers."""
    if dtype != "bfloat16" and dtype not in _FLOATS:
        return None
    values = _as_floats(data, dtype)
    return values if np.isfinite(values).all() else None


def _as_floats(data: npt.NDArray[np.uint8], dtype: str) -> npt.NDArray[np.float64]:
    if dtype == "bfloat16":
        bits: npt.NDArray[Any] = data.view("<u2").astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64)
    widened: npt.NDArray[np.float64] = data.view(_FLOATS[dtype]).astype(np.float64)
    return widened
