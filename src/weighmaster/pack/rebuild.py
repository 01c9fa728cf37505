# SPDX-License-Identifier: Apache-2.0
"""From symbols to the bytes of a tensor, and back where nothing is lost (spec/pack.md, 1 and 4). NumPy."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.pack.layout import ITEMSIZE, Shape, float_of, raw_planes

__all__ = ["from_levels", "from_planes", "split_planes"]

_UNSIGNED: Final[dict[int, Any]] = {1: np.uint8, 2: np.dtype("<u2"), 4: np.dtype("<u4")}
_EXPONENT: Final = {"bfloat16": 7, "float32": 23}

Bits = npt.NDArray[Any]


def from_levels(
    levels: npt.NDArray[np.int16], row: npt.NDArray[np.uint16], col: npt.NDArray[np.uint16], dtype: str
) -> Bits:
    """Return ``RNE(k * R * C)`` as bits of `dtype`: unsigned [rows, cols].

    Args:
        levels: int16 [rows, cols].
        row: bits of bfloat16 [rows].
        col: bits of bfloat16 [cols].
        dtype: ``bfloat16``, ``float16`` or ``float32``.
    """
    # Exact in binary64 whatever the mode for subnormal numbers: no product here is near the smallest one.
    exact = levels.astype(np.float64) * float_of(row).astype(np.float64)[:, None]
    exact *= float_of(col).astype(np.float64)
    exact += 0.0  # level 0 gives +0
    if dtype == "float16":
        return _half(exact)
    bits = exact.astype(np.float32).view(np.uint32)
    if dtype == "float32":
        return bits
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _half(exact: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """Round to float16 in integers: a flush-to-zero mode would drop subnormal results of a conversion."""
    bits = exact.astype(np.float32).view(np.uint32)
    sign, exponent = (bits >> 16) & 0x8000, ((bits >> 23) & 255).astype(np.int64) - 127
    mantissa = ((bits & 0x7FFFFF) | 0x800000).astype(np.int64)
    drop = np.clip(13 + np.maximum(-14 - exponent, 0), 13, 26)
    kept = (mantissa + (1 << (drop - 1)) - 1 + ((mantissa >> drop) & 1)) >> drop
    # A normal result has its hidden bit in `kept`: adding the exponent less one carries it, and a carry of rounding.
    half = kept + (np.maximum(exponent + 14, 0) << 10)
    return (sign | np.where(bits & 0x7FFFFFFF == 0, 0, half)).astype(np.uint16)


def from_planes(symbols: npt.NDArray[np.uint8], raw: npt.NDArray[np.uint8], shape: Shape) -> Bits:
    """Return the bits of elements from their symbols and raw planes.

    Args:
        symbols: uint8 [n].
        raw: uint8 [planes, n], lowest byte first.
        shape: header of the blob.
    """
    unsigned: Any = np.uint16 if shape.variant == 1 else _UNSIGNED[shape.itemsize]
    low = np.zeros(len(symbols), np.uint32)
    for i, plane in enumerate(raw):
        low |= plane.astype(np.uint32) << (8 * i)
    high = symbols.astype(np.uint32)
    place = _EXPONENT.get("bfloat16" if shape.variant == 1 else shape.dtype)
    if place is None:
        whole: Bits = ((high << (8 * len(raw))) | low).astype(unsigned)
        return whole
    bits = ((low >> place) << (place + 8)) | (high << place) | (low & ((1 << place) - 1))
    rebuilt: Bits = bits << 16 if shape.variant == 1 else bits.astype(unsigned)
    return rebuilt


def split_planes(
    data: npt.NDArray[np.uint8], dtype: str, variant: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return symbols uint8 [n] and raw planes uint8 [planes, n] of a tensor's bytes.

    Args:
        data: the bytes, uint8 [n * itemsize].
        dtype: one that codec 2 has.
        variant: 1 for float32 whose low 16 bits are all zero.
    """
    bits = data.view(_UNSIGNED[ITEMSIZE[dtype]]).astype(np.uint32)
    if variant == 1:
        bits >>= 16
    place = _EXPONENT.get("bfloat16" if variant == 1 else dtype)
    planes = raw_planes(Shape(codec=2, dtype=dtype, table_bits=12, variant=variant, rows=1, cols=1, band=1))
    if place is None:
        symbols, low = bits >> (8 * planes), bits & ((1 << (8 * planes)) - 1)
    else:
        symbols = (bits >> place) & 255
        low = ((bits >> (place + 8)) << place) | (bits & ((1 << place) - 1))
    raw = np.stack([low >> (8 * i) for i in range(planes)]) if planes else np.empty((0, len(bits)))
    return symbols.astype(np.uint8), raw.astype(np.uint8)
