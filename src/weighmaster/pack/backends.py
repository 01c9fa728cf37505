# SPDX-License-Identifier: Apache-2.0
"""Which codecs are there, and the fastest of them: a codec that gets its known answers wrong is never handed out."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.errors import SelfTestFault
from weighmaster.pack import quantize as reference
from weighmaster.pack.answers import codec_faults
from weighmaster.pack.coder import Backend, NumpyBackend
from weighmaster.pack.native import NativeBackend, paths

__all__ = ["available", "best", "describe", "energies", "faults", "histogram", "quantize"]

_NUMPY: Final = NumpyBackend()

Bytes = npt.NDArray[np.uint8]
Scales = npt.NDArray[np.uint16]


@cache
def _tested() -> tuple[tuple[NativeBackend, ...], tuple[SelfTestFault, ...]]:
    """Test every compiled codec once; return those that are right, and what is wrong with the others."""
    right: list[NativeBackend] = []
    wrong: list[SelfTestFault] = []
    for backend in map(NativeBackend, paths()):
        found = codec_faults(backend)
        wrong += found
        if not found:
            right.append(backend)
    return tuple(right), tuple(wrong)


def available() -> tuple[Backend, ...]:
    """Return the codecs that work here, the fastest first, the NumPy codec last."""
    return (*_tested()[0], _NUMPY)


def best() -> Backend:
    """Return the fastest codec that works here."""
    return available()[0]


def faults() -> tuple[SelfTestFault, ...]:
    """Return what is wrong with the compiled codecs that are not handed out."""
    return _tested()[1]


def describe() -> str:
    """Say which codec is in use, for people."""
    right = [backend.name for backend in _tested()[0]]
    text = right[0] if right else "numpy: slow, no compiled codec here"
    wrong = [name for name in paths() if name not in right]
    return f"{text}; wrong answers, not in use: {', '.join(wrong)}" if wrong else text


def energies(
    data: Bytes, dtype: str, rows: int, cols: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], bool]:
    """Do what `quantize.energies` does, by the fastest codec."""
    right = _tested()[0]
    return (right[0].energies if right else reference.energies)(data, dtype, rows, cols)


def quantize(
    data: Bytes, dtype: str, rows: int, cols: int, row_scale: Scales, col_scale: Scales
) -> npt.NDArray[np.int16]:
    """Do what `quantize.quantize` does, by the fastest codec."""
    right = _tested()[0]
    return (right[0].quantize if right else reference.quantize)(data, dtype, rows, cols, row_scale, col_scale)


def histogram(levels: npt.NDArray[np.int16], row_class: npt.NDArray[np.int8], col_class: npt.NDArray[np.int8]) -> Any:
    """Do what `quantize.histogram` does, by the fastest codec."""
    right = _tested()[0]
    return (right[0].histogram if right else reference.histogram)(levels, row_class, col_class)
