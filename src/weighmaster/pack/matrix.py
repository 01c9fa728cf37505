# SPDX-License-Identifier: Apache-2.0
"""A tensor as the matrix that is coded, and its bytes by bands of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.core.tensor import TensorView
from weighmaster.pack.layout import ITEMSIZE, MAX_CHUNK

__all__ = ["BAND", "Matrix", "matrix_of", "unsigned"]

BAND: Final = 1 << 23
"""Elements that are read at once."""

_NARROW: Final = 32
"""A last dimension below this is a kernel's or a window's, and is laid together with those before it."""

_QUANTIZED: Final = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A tensor as rows and columns, in row-major order.

    Attributes:
        view: the tensor.
        rows: rows * cols is its number of elements.
        cols: see rows.
    """

    view: TensorView
    rows: int
    cols: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.rows * self.cols

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return ITEMSIZE[self.view.dtype]

    def read(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """Return the bytes of rows [first, last)."""
        width = self.cols * self.itemsize
        return np.frombuffer(self.view.read(first * width, last * width), np.uint8)

    def bands(self, multiple: int = 1) -> Iterator[tuple[int, int]]:
        """Return the rows [first, last) of every band of about `BAND` elements, whole multiples of `multiple` rows."""
        step = max(1, BAND // (self.cols * multiple)) * multiple
        return ((first, min(self.rows, first + step)) for first in range(0, self.rows, step))


def matrix_of(view: TensorView) -> Matrix | None:
    """Return a tensor of at least two dimensions as the matrix that `five-v1` may code, or None.

    The first dimension makes the rows, but stacked matrices (experts) lie one below another. Which rows and columns
    they are decides what shares a scale and a context, nothing else.
    """
    shape = view.shape
    size = math.prod(shape)
    if view.dtype not in _QUANTIZED or len(shape) < 2 or not size:  # noqa: PLR2004  # two dimensions
        return None
    stacked = len(shape) > 2 and shape[-1] >= _NARROW  # noqa: PLR2004
    cols = shape[-1] if stacked else size // shape[0]
    return Matrix(view=view, rows=size // cols, cols=cols) if cols <= MAX_CHUNK else None


def unsigned(dtype: str) -> np.dtype[Any]:
    """Return the little-endian unsigned integers that hold the bits of a dtype of two or four bytes."""
    return np.dtype(f"<u{ITEMSIZE[dtype]}")
