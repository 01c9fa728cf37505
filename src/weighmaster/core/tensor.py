# SPDX-License-Identifier: Apache-2.0
"""The tensor as the digest sees it: a name, a type, a shape, and a way to read its bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = [
    "LEAF",
    "Extent",
    "ReadRange",
    "TensorView",
    "ViewKind",
    "canonical_stride",
    "fills_extent",
    "row_major",
    "view_of_bytes",
]

LEAF: Final = 65_536
"""Bytes per leaf of the fs-verity tree (tensor-digest v1)."""

ViewKind: TypeAlias = Literal["kernel", "logical"]

ReadRange: TypeAlias = Callable[[int, int], memoryview]
"""``read(start, stop)`` gives the bytes [start, stop) of B(t). It may copy; it never changes what it reads."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Extent:
    """The bytes of memory that a tensor occupies.

    Attributes:
        device: such as ``cpu`` or ``cuda:0``.
        address: of the first byte.
        nbytes: length.
    """

    device: str
    address: int
    nbytes: int

    @property
    def stop(self) -> int:
        """Address after the last byte."""
        return self.address + self.nbytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorView:
    """One tensor of a snapshot, readable but not yet digested.

    Attributes:
        name: unique in its snapshot, NFC.
        dtype: a name of `core.dtype.DTYPES`.
        shape: elements per dimension.
        stride: elements to step per dimension; as `canonical_stride` writes it.
        nbytes: length of B(t) in bytes.
        layout: ``strided``, or the id of the transform that made the bytes (``materialized-v1``, ``resolved-v1``).
        role: from the role table of ``torch-names-v1``, or ``file``.
        extent: where the bytes lie in memory; None for a file.
        read: reads a range of B(t).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    nbytes: int
    layout: str
    role: str
    extent: Extent | None
    read: ReadRange


@functools.lru_cache(maxsize=1024)  # a model has many tensors of few shapes
def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a C-contiguous tensor of this shape, in elements.

    A dimension of size 0 counts as 1, as torch has it.
    """
    out, step = [], 1
    for size in reversed(shape):
        out.append(step)
        step *= max(size, 1)
    return tuple(reversed(out))


def canonical_stride(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """Return `stride` with dimensions of size <= 1 written as row-major would have them (they are never stepped)."""
    return tuple(r if size <= 1 else s for size, s, r in zip(shape, stride, row_major(shape), strict=True))


def fills_extent(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Tell whether the elements lie without gap or overlap, in any order of dimensions; `stride` is canonical."""
    if 0 in shape:
        return stride == row_major(shape)
    step = 1
    for distance, size in sorted((s, n) for n, s in zip(shape, stride, strict=True) if n > 1):
        if distance != step:
            return False
        step *= size
    return True


def view_of_bytes(name: str, data: bytes) -> TensorView:
    """Return `data` as a tensor of bytes, for self-tests and for engines under test."""
    return TensorView(
        name=name,
        dtype="uint8",
        shape=(len(data),),
        stride=(1,),
        nbytes=len(data),
        layout="canonical",
        role="file",
        extent=None,
        read=lambda start, stop: memoryview(data)[start:stop],
    )
