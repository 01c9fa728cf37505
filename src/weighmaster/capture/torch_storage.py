# SPDX-License-Identifier: Apache-2.0
"""Read the bytes of live torch tensors where they lie: extents, dense checks, zero-copy readers, mappings to files."""

from __future__ import annotations

import bisect
import ctypes
import functools
import mmap
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import torch

from weighmaster.core.dtype import DTYPES
from weighmaster.core.tensor import Extent, TensorView, canonical_stride, row_major
from weighmaster.errors import StageFault, StorageError

__all__ = [
    "FileMapping",
    "dtype_name",
    "file_mappings",
    "is_dense",
    "make_private",
    "memory_extent",
    "raw_bytes",
    "tensor_of",
    "tensor_view",
    "unreadable",
]

_COPY: Final = 8 << 20
"""Bytes copied at a time from a device, or when a mapped range is made private."""


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """Return the row-major little-endian bytes of a tensor's elements."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def tensor_of(data: bytes, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the tensor, in memory of its own, whose row-major little-endian bytes these are."""
    if not data:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.frombuffer(bytearray(data), dtype=getattr(torch, dtype)).reshape(shape)


def dtype_name(tensor: torch.Tensor) -> str:
    """Return our name of the tensor's element type."""
    return _dtype_text(tensor.dtype)


# A model may hold a hundred thousand tensors, of few types and on few devices: these texts are made once.
@functools.cache
def _dtype_text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@functools.cache
def _device_text(device: torch.device) -> str:
    return str(device)


def unreadable(tensor: torch.Tensor) -> str | None:
    """Tell why the bytes of `tensor` cannot be read as they lie, or None where they can."""
    if tensor.is_meta:
        return "is on the meta device: it has no bytes"
    if tensor.layout is not torch.strided:
        return f"has layout {tensor.layout}: its storage is not a strided block"
    if dtype_name(tensor) not in DTYPES:
        return f"has element type {tensor.dtype}, which tensor-digest v1 does not list"
    try:
        if tensor.numel() and not tensor.untyped_storage().data_ptr():
            return "has no readable storage"
    except (RuntimeError, NotImplementedError) as error:
        return f"keeps its storage behind a handle ({error})"
    return None


def memory_extent(tensor: torch.Tensor) -> Extent:
    """Return the bytes from the first to the last element that `tensor` can address; it need not be dense."""
    count = tensor.numel()
    if count and not tensor.is_contiguous():
        count = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return Extent(device=_device_text(tensor.device), address=tensor.data_ptr(), nbytes=count * tensor.element_size())


def is_dense(tensor: torch.Tensor) -> bool:
    """Tell whether the elements fill their extent without gap or overlap, in any order of dimensions."""
    if tensor.is_contiguous():
        return True
    return memory_extent(tensor).nbytes == tensor.numel() * tensor.element_size() and _non_overlapping(tensor)


def _non_overlapping(tensor: torch.Tensor) -> bool:
    step = 1
    for stride, size in sorted((s, n) for n, s in zip(tensor.shape, tensor.stride(), strict=True) if n > 1):
        if stride != step:
            return False
        step *= size
    return True


def tensor_view(name: str, role: str, tensor: torch.Tensor, *, materialize: bool = False) -> TensorView:
    """Return `tensor` as the digest reads it.

    A dense tensor, of any stride permutation, is read where it lies. A conjugate or negative view is resolved first
    (layout ``resolved-v1``); anything else only where the caller asked for it by name (layout ``materialized-v1``).

    Raises:
        StageFault: the bytes cannot be read, or do not fill their extent and `materialize` is false.
    """
    reason = unreadable(tensor)
    if reason:
        raise StageFault(name, reason)
    layout = "strided"
    if tensor.is_conj() or tensor.is_neg():
        tensor, layout = tensor.detach().resolve_conj().resolve_neg().contiguous(), "resolved-v1"
    elif tensor.numel() and not is_dense(tensor):
        if not materialize:
            raise StageFault(
                name,
                "is a view with gaps or overlaps; weigh its base, or ask for a copy with materialize=[name]",
                expected="a dense, non-overlapping extent",
                found=f"shape {list(tensor.shape)} stride {list(tensor.stride())}",
            )
        tensor, layout = tensor.detach().contiguous(), "materialized-v1"
    shape = tuple(tensor.shape)
    contiguous = tensor.is_contiguous() or not tensor.numel()
    stride = row_major(shape) if contiguous else canonical_stride(shape, tuple(tensor.stride()))
    extent = memory_extent(tensor)
    return TensorView(
        name=name,
        dtype=dtype_name(tensor),
        shape=shape,
        stride=stride,
        nbytes=extent.nbytes,
        layout=layout,
        role=role,
        extent=extent,
        read=_reader(tensor, extent),
    )


def _reader(tensor: torch.Tensor, extent: Extent) -> Callable[[int, int], memoryview]:
    if sys.byteorder != "little":
        raise StageFault("(host)", "big-endian hosts are refused", expected="little", found=sys.byteorder)
    if tensor.device.type == "cpu":
        return _HostReader(tensor.untyped_storage(), extent.address)
    return _DeviceReader(tensor, extent.nbytes)


class _HostReader:
    """Reads host memory without a copy; holds the storage, so that it stays even where the tensor gets another."""

    __slots__ = ("address", "storage")

    def __init__(self, storage: torch.UntypedStorage, address: int) -> None:
        self.storage, self.address = storage, address

    def __call__(self, start: int, stop: int) -> memoryview:
        return memoryview((ctypes.c_ubyte * (stop - start)).from_address(self.address + start)).cast("B").toreadonly()


class _DeviceReader:
    """Reads device memory through copies of at most `_COPY` bytes."""

    __slots__ = ("flat",)

    def __init__(self, tensor: torch.Tensor, nbytes: int) -> None:
        offset = tensor.storage_offset() * tensor.element_size()
        flat = torch.empty(0, dtype=torch.uint8, device=tensor.device)
        self.flat = flat.set_(tensor.untyped_storage(), offset, (nbytes,), (1,))

    def __call__(self, start: int, stop: int) -> memoryview:
        out = bytearray(stop - start)
        host = torch.frombuffer(out, dtype=torch.uint8)
        for at in range(start, stop, _COPY):
            end = min(at + _COPY, stop)
            host[at - start : end - start].copy_(self.flat[at:end])
        return memoryview(out).toreadonly()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMapping:
    """A range of this process's memory that is mapped to a file.

    Attributes:
        start: first address.
        stop: address after the last.
        writable: whether the process may write to it.
        path: as the kernel names it.
    """

    start: int
    stop: int
    writable: bool
    path: str


def file_mappings() -> tuple[FileMapping, ...]:
    """Return the file-backed ranges of this process (``/proc/self/maps``, proc(5)), ascending; memfd is a file too."""
    out = []
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123  # not a file
        for line in maps:
            parts = line.rstrip("\n").split(maxsplit=5)
            if len(parts) < 6 or parts[4] == "0" or parts[5].startswith("/dev/zero"):  # noqa: PLR2004
                continue
            start, stop = (int(x, 16) for x in parts[0].split("-"))
            out.append(FileMapping(start=start, stop=stop, writable="w" in parts[1], path=parts[5]))
    return tuple(out)


def mapped_ranges(extents: Iterable[Extent]) -> tuple[tuple[Extent, FileMapping], ...]:
    """Return the extents in host memory that touch a file-backed range, each with its first such range."""
    mappings = file_mappings()
    stops = [m.stop for m in mappings]
    out = []
    for extent in extents:
        if extent.device != "cpu" or not extent.nbytes:
            continue
        at = bisect.bisect_right(stops, extent.address)  # the first mapping that ends after the first byte
        if at < len(mappings) and mappings[at].start < extent.stop:
            out.append((extent, mappings[at]))
    return tuple(out)


def make_private(extents: Iterable[Extent]) -> int:
    """Replace the file-backed pages under `extents` by private anonymous ones with the same bytes; return their bytes.

    Addresses do not change, so every tensor, view and alias over the range keeps working, and an edit of the file no
    longer reaches the model. The copy is made beside and moved over the range in one call (``mremap`` with
    ``MREMAP_FIXED``, mremap(2)): no reader ever sees a hole. Call it while no forward pass runs.

    Raises:
        StorageError: the kernel refused.
    """
    done = 0
    for start, stop, writable in _page_ranges(extents):
        for at in range(start, stop, _COPY):
            done += _replace_pages(at, min(_COPY, stop - at), writable=writable)
    return done


def _page_ranges(extents: Iterable[Extent]) -> list[tuple[int, int, bool]]:
    """Return whole pages, clipped to their mapping, merged where they touch."""
    page = mmap.PAGESIZE
    spans = set()
    mappings = file_mappings()
    for extent, first in mapped_ranges(extents):
        for m in mappings[mappings.index(first) :]:
            if m.start >= extent.stop:
                break
            low, high = max(m.start, extent.address // page * page), min(m.stop, -(-extent.stop // page) * page)
            if low < high:
                spans.add((low, high, m.writable))
    merged: list[tuple[int, int, bool]] = []
    for low, high, writable in sorted(spans):
        if merged and low <= merged[-1][1] and writable == merged[-1][2]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]), writable)
        else:
            merged.append((low, high, writable))
    return merged


_PROT_READ, _PROT_WRITE = 1, 2
_MAP_PRIVATE, _MAP_ANONYMOUS = 2, 32
_MREMAP_MAYMOVE_FIXED = 3
_FAILED: Final = ctypes.c_void_p(-1).value


def _replace_pages(start: int, length: int, *, writable: bool) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    fresh = libc.mmap(
        pointer(0), size(length), _PROT_READ | _PROT_WRITE, _MAP_PRIVATE | _MAP_ANONYMOUS, -1, ctypes.c_long(0)
    )
    if fresh == _FAILED:
        raise StorageError(f"no memory for a private copy of {length} mapped bytes (errno {ctypes.get_errno()})")
    ctypes.memmove(fresh, start, length)
    if not writable:
        libc.mprotect(pointer(fresh), size(length), _PROT_READ)
    moved = libc.mremap(pointer(fresh), size(length), size(length), _MREMAP_MAYMOVE_FIXED, pointer(start))
    if moved != start:
        raise StorageError(f"mapped pages could not be replaced by private ones (errno {ctypes.get_errno()})")
    return length
