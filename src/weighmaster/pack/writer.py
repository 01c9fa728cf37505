# SPDX-License-Identifier: Apache-2.0
"""Write one shard: blobs go to a nameless temporary file until all sizes are known, then header and blobs at once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from weighmaster.core.safetensors_write import file_order
from weighmaster.durable import write_atomically
from weighmaster.errors import StorageError
from weighmaster.pack.packed import PackedFile, PackedTensor
from weighmaster.pack.shards import shard_header, stored_form

__all__ = ["Spool", "write_hashed"]

_PIECE: Final = 1 << 22


class Spool:
    """The blobs of one shard, before they have a place. A context manager; a killed process leaves nothing of it."""

    def __init__(self, directory: Path) -> None:
        """Open it on the file system of `directory`.

        Raises:
            StorageError: it cannot be opened.
        """
        self._directory = directory
        self._at: dict[str, tuple[int, int]] = {}
        self._end = 0
        try:
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115  # closed by __exit__
        except OSError as error:
            raise self._error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, blob: bytes) -> None:
        """Append the blob of a tensor.

        Raises:
            StorageError: the file system refused.
        """
        left = memoryview(blob)
        try:
            while left:
                left = left[os.write(self._file.fileno(), left) :]
        except OSError as error:
            raise self._error(error) from error
        self._at[name] = (self._end, len(blob))
        self._end += len(blob)

    def write(self, path: Path, tensors: Sequence[PackedTensor]) -> PackedFile:
        """Write the shard that holds `tensors` under its final name, whole.

        Raises:
            StorageError: the file system refused; nothing is left behind.
        """
        forms = [stored_form(tensor, self._at[tensor.name][1]) for tensor in tensors]
        return write_hashed(path, path.name, self._pieces(shard_header(forms), file_order(forms)))

    def _pieces(self, header: bytes, order: Sequence[str]) -> Iterator[bytes]:
        yield header
        for name in order:
            begin, length = self._at[name]
            for at in range(begin, begin + length, _PIECE):
                yield self._pread(at, min(_PIECE, begin + length - at))

    def _pread(self, at: int, count: int) -> bytes:
        try:
            piece = os.pread(self._file.fileno(), count, at)
        except OSError as error:
            raise self._error(error) from error
        if len(piece) != count:
            raise StorageError(f"{self._directory}: a temporary file gave {len(piece)} bytes of {count}")
        return piece

    def _error(self, error: OSError) -> StorageError:
        return StorageError(f"{self._directory}: no room for a temporary file: {error.strerror or error}")


def write_hashed(path: Path, name: str, pieces: Iterable[bytes | memoryview]) -> PackedFile:
    """Write a file whole (`durable.write_atomically`) and return its entry for the index, under `name`."""
    state, size = hashlib.sha256(), 0

    def counted() -> Iterator[bytes | memoryview]:
        nonlocal size
        for piece in pieces:
            state.update(piece)
            size += memoryview(piece).nbytes
            yield piece

    write_atomically(path, counted())
    return PackedFile(path=name, sha256=state.hexdigest(), size=size)
