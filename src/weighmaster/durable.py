# SPDX-License-Identifier: Apache-2.0
"""Read and write files and directories whole: temporary name, fsync, rename; never half under the final name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from weighmaster.errors import MalformedArtefact, StorageError, UsageError

__all__ = ["MAX_DOCUMENT", "locked", "new_directory", "read_whole", "write_atomically"]

MAX_DOCUMENT: Final = 1 << 30
"""Bytes: no document of ours is larger; a larger file is refused before it is read."""


def write_atomically(
    path: Path, data: bytes | Iterable[bytes | memoryview], *, mode: int = 0o644, replace: bool = True
) -> None:
    """Write `data` to `path` so that a reader, a crash or a full disk never sees a part of it.

    Args:
        path: final name; its directory must exist.
        data: the bytes, or an iterable of pieces.
        mode: permissions of the file, given at creation (no moment at which it is readable by others).
        replace: if false, an existing file is left alone and `UsageError` raised.

    Raises:
        UsageError: `path` exists and `replace` is false.
        StorageError: the file system refused (full disk, permissions); nothing is left behind.
    """
    pieces: Iterable[bytes | memoryview] = (data,) if isinstance(data, bytes) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(path)
            else:
                os.link(temporary, path)  # fails if the name is taken, unlike rename
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        _sync_directory(path.parent)
    except FileExistsError:
        raise UsageError(f"{path}: exists already and is not overwritten") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Yield a temporary directory that becomes `directory` when the block ends well: whole or not at all.

    Raises:
        UsageError: `directory` exists: nothing is written over.
        StorageError: the file system refused; nothing is left behind.
    """
    if os.path.lexists(directory):
        raise UsageError(f"{directory}: exists already and is not overwritten; choose a new directory")
    temporary = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.rename(temporary, directory)  # noqa: PTH104  # Path.rename would replace an empty directory made meanwhile
    except OSError as error:
        raise StorageError(f"{directory}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(directory: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the exclusive lock of a directory, against other processes that ask for it (flock(2)).

    Args:
        directory: must exist.
        wait: until whoever holds the lock lets it go; otherwise that is an error.

    Raises:
        StorageError: there is no such directory, or it cannot be opened or locked.
        UsageError: another holds the lock, and `wait` is false.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"{directory}: cannot be locked: {error.strerror or error}") from error
    try:
        _lock(fd, directory, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        # Closing alone would not do: a process forked meanwhile holds the same open directory, and with it the lock.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _lock(fd: int, directory: Path, how: int) -> None:
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        raise UsageError(f"{directory}: another process is at work in it") from None
    except OSError as error:  # NFS has no exclusive lock of a directory
        raise StorageError(f"{directory}: cannot be locked: {error.strerror or error}") from error


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_whole(path: Path, *, limit: int = MAX_DOCUMENT) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises:
        UsageError: there is no such file, or it is no regular file.
        MalformedArtefact: it is larger than `limit`.
        StorageError: it cannot be read.
    """
    try:
        data = _read_regular(path, limit + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise MalformedArtefact(str(path), "", expected=f"at most {limit} bytes", found="more")
    return data


def _read_regular(path: Path, count: int) -> bytes:
    # Not blocking, so that a named pipe in the place of a file is refused and not waited for.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"{path}: is no regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(count)
    finally:
        os.close(fd)
