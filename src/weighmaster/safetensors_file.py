# SPDX-License-Identifier: Apache-2.0
"""One safetensors file, read strictly, by ranges, without mapping it.

A tensor is read with ``pread`` into memory of its own, so that a file larger than RAM can be read, and one that is cut
meanwhile is an error and not a crash. What a header may hold is said in `core.safetensors_header`.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from weighmaster.core.safetensors_header import Entry, Header, parse_header, show
from weighmaster.core.tensor import TensorView, row_major
from weighmaster.errors import MalformedArtefact, SourceFault, StorageError, UsageError

__all__ = ["MAX_HEADER", "FileState", "SafetensorsFile", "open_regular"]

MAX_HEADER: Final = 100_000_000
"""Bytes of the JSON header, as in the library; the index of a sharded checkpoint is held to it too."""

_PREFIX: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """What the kernel says about an open file; two equal states mean that nothing known changed in between.

    A change is noticed as finely as the file system keeps time (often 1 to 4 ms); permissions and hard links count too.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, fd: int) -> FileState:
        """Return the state of an open file descriptor."""
        st = os.fstat(fd)
        return cls(device=st.st_dev, inode=st.st_ino, size=st.st_size, mtime_ns=st.st_mtime_ns, ctime_ns=st.st_ctime_ns)

    def require_same(self, now: FileState, file: str) -> None:
        """Compare with a later state of the same file.

        Raises:
            SourceFault: it changed; names the file and what differs.
        """
        names = [f.name for f in fields(self) if getattr(self, f.name) != getattr(now, f.name)]
        if names:
            before, after = (", ".join(f"{n} {getattr(s, n)}" for n in names) for s in (self, now))
            raise SourceFault(file, "the file changed while it was read", expected=before, found=after)


class SafetensorsFile:
    """An open file whose header has been checked. A context manager; `open_file` makes it.

    Attributes:
        path: as the caller gave it.
        header: what the file says that it holds.
    """

    def __init__(self, path: Path, resolved: Path) -> None:
        self.path, self._resolved = path, resolved
        self._fd: int | None = open_regular(resolved)
        try:
            self._state = FileState.of(self._fd)
            self.header, self._base = self._read_header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; views of it cannot be read any more."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def views(self) -> tuple[TensorView, ...]:
        """Return the tensors in the order of their bytes, readable until `close`; `read` may be called by threads."""
        return tuple(self._view(entry) for entry in self.header.entries)

    def front(self) -> bytes:
        """Return the bytes before the tensors: the length of the header, and the header."""
        return self._pread(0, self._base, "header")

    def _view(self, entry: Entry) -> TensorView:
        return TensorView(
            name=entry.name,
            dtype=entry.dtype,
            shape=entry.shape,
            stride=row_major(entry.shape),
            nbytes=entry.nbytes,
            layout="canonical",
            role="file",
            extent=None,
            read=functools.partial(self._read, entry),
        )

    def check_unchanged(self) -> None:
        """Compare the file with what it was at `open_file`: device, inode, size, times of change, place.

        Raises:
            SourceFault: it was written to, cut, or replaced by another one.
            UsageError: it is closed.
        """
        self._state.require_same(FileState.of(self._open_fd()), str(self.path))
        try:
            there = self._resolved.stat()
        except OSError as error:
            found = error.strerror or str(error)
            raise SourceFault(str(self.path), "the file went away", expected="the file", found=found) from None
        was, now = (self._state.device, self._state.inode), (there.st_dev, there.st_ino)
        if was != now:
            detail = "the file was replaced while it was read"
            raise SourceFault(
                str(self.path), detail, expected=f"device and inode {was}", found=f"device and inode {now}"
            )

    def _read_header(self) -> tuple[Header, int]:
        size, file = self._state.size, str(self.path)
        if size < _PREFIX:
            raise MalformedArtefact(file, "", expected="at least 8 bytes", found=f"{size}: the file is truncated")
        length = int.from_bytes(self._pread(0, _PREFIX, "header"), "little")
        if not 0 < length <= MAX_HEADER:
            raise MalformedArtefact(file, "header length", expected=f"1 to {MAX_HEADER}", found=str(length))
        if length > size - _PREFIX:
            expected = f"a file of at least {_PREFIX + length} bytes"
            raise MalformedArtefact(file, "header length", expected=expected, found=f"{size}: the file is truncated")
        header = parse_header(self._pread(_PREFIX, length, "header"), file)
        wanted = _PREFIX + length + (header.entries[-1].end if header.entries else 0)
        if size != wanted:
            found = f"{size}: " + ("the file is truncated" if size < wanted else "bytes after the last tensor")
            raise MalformedArtefact(file, "", expected=f"{wanted} bytes", found=found)
        return header, _PREFIX + length

    def _read(self, entry: Entry, start: int, stop: int) -> memoryview:
        if not 0 <= start <= stop <= entry.nbytes:
            raise ValueError(f"{entry.name}: range {start} to {stop} of {entry.nbytes} bytes")
        return memoryview(self._pread(self._base + entry.begin + start, stop - start, show(entry.name)))

    def _pread(self, offset: int, count: int, field: str) -> bytes:
        """Read exactly `count` bytes; the kernel may give them in several pieces."""
        fd, pieces, done = self._open_fd(), [], 0
        while done < count:
            try:
                piece = os.pread(fd, count - done, offset + done)
            except OSError as error:
                raise StorageError(f"{self.path}: cannot be read: {error.strerror or error}") from error
            if not piece:
                found = f"{done}: the file shrank while it was read"
                expected = f"{count} bytes at offset {offset}"
                raise MalformedArtefact(str(self.path), field, expected=expected, found=found)
            pieces.append(piece)
            done += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _open_fd(self) -> int:
        if self._fd is None:
            raise UsageError(f"{self.path}: the file is closed; read its tensors before")
        return self._fd


def open_regular(resolved: Path) -> int:
    """Open a regular file for reading; never a link, a pipe, a socket or a device, and never waiting for one.

    Args:
        resolved: as `resolve_within` returns it.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: it is not a regular file.
        StorageError: it cannot be opened.
    """
    try:
        fd = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{resolved}: {error.strerror}") from None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link put there meanwhile; a socket
            raise _irregular(resolved, "a link" if error.errno == errno.ELOOP else "a socket or device") from None
        raise StorageError(f"{resolved}: cannot be opened: {error.strerror or error}") from error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise _irregular(resolved, _kind(mode))
    return fd


def _irregular(path: Path, found: str) -> MalformedArtefact:
    return MalformedArtefact(str(path), "", expected="a regular file", found=found)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"
