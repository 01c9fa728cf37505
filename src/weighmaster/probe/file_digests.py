# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of files, remembered within the process as long as the kernel's own record of the file stands still."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["Identity", "file_sha256", "identity"]

Identity: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, mtime and ctime in nanoseconds. A ctime cannot be set by a call; a write renews it."""

_KNOWN: Final[dict[Identity, str]] = {}


def file_sha256(path: str, same: Callable[[int], bool] | None = None) -> str | None:
    """Return SHA-256 of a regular file, 64 hexadecimal digits; None where it cannot be read or changes meanwhile.

    Args:
        path: the file.
        same: told the open descriptor; a false answer means that this is not the file asked about, and gives None.
    """
    try:
        if same is None and (known := _KNOWN.get(identity(path))) is not None:
            return known
        # O_NONBLOCK: opening a pipe that someone put there must not hang; it has no effect on regular files.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or (same is not None and not same(fd)):
            return None
        return _digest(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def _digest(fd: int) -> str | None:
    before = identity(fd)
    if before in _KNOWN:
        return _KNOWN[before]
    with os.fdopen(fd, "rb", closefd=False) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if identity(fd) != before:
        return None
    _KNOWN[before] = found
    return found


def identity(file: int | str) -> Identity:
    """Return what the kernel says about a file, links followed.

    Args:
        file: an open descriptor or a path.

    Raises:
        OSError: there is no such file, or its folder may not be searched.
    """
    found = os.stat(file)  # noqa: PTH116  # a descriptor as well as a path
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
