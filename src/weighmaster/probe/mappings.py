# SPDX-License-Identifier: Apache-2.0
"""Read /proc/self/maps: which files this process executes, and whether a path still leads to the very file mapped."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weighmaster.probe.file_digests import file_sha256

__all__ = ["MappedFile", "anonymous_code", "mapped_sha256", "parse_maps", "read_maps"]

_MAPS: Final = Path("/proc/self/maps")
_FIELDS: Final = 6  # address, permissions, offset, device, inode, path (proc(5))
_DELETED: Final = " (deleted)"
_NAMED: Final = ("[heap]", "[stack", "[anon:")
"""Names that the kernel, or a program by prctl(2), gives to memory without a file; ``[vdso]`` is the kernel's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFile:
    """A file with at least one executable mapping in this process.

    Attributes:
        path: as the kernel gives it, without the mark of a deleted file.
        device: number of the device, as `os.stat` gives it.
        inode: number of the inode.
        fixed: false where the mapping says that the path cannot answer for the bytes: the file is deleted or lives in
            memory only, or a mapping of it is writable and executable, or writable and shared.
    """

    path: str
    device: int
    inode: int
    fixed: bool


def read_maps() -> str | None:
    """Return the text of /proc/self/maps, or None where there is none (not Linux) or it cannot be read."""
    try:
        return _MAPS.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapping:
    start: int
    stop: int
    permissions: str
    device: int
    inode: int
    path: str


def _mappings(maps: str) -> Iterator[_Mapping]:
    for line in maps.split("\n"):
        columns = line.split(maxsplit=_FIELDS - 1)
        if len(columns) < _FIELDS or columns[5].startswith("["):  # anonymous memory, stack, vdso
            continue
        (start, stop), (major, minor) = columns[0].split("-"), columns[3].split(":")
        device = _device(int(major, 16), int(minor, 16))
        yield _Mapping(
            start=int(start, 16),
            stop=int(stop, 16),
            permissions=columns[1],
            device=device,
            inode=int(columns[4]),
            path=columns[5].replace("\\012", "\n"),
        )


def _device(major: int, minor: int) -> int:
    try:
        return os.makedev(major, minor)
    except OverflowError:
        raise ValueError(f"no device: {major:x}:{minor:x}") from None


def parse_maps(maps: str) -> tuple[MappedFile, ...]:
    """Return the executable mapped files of a maps text, in order of path, device and inode.

    Raises:
        ValueError: a line that no kernel writes; nothing is guessed from the others.
    """
    permissions: dict[tuple[str, int, int], set[str]] = {}
    for mapping in _mappings(maps):
        permissions.setdefault((mapping.path, mapping.device, mapping.inode), set()).add(mapping.permissions)
    executable = (_mapped(key, found) for key, found in sorted(permissions.items()) if any("x" in p for p in found))
    return tuple(dict.fromkeys(executable))  # without the mark of deletion two can be one


def _mapped(key: tuple[str, int, int], permissions: set[str]) -> MappedFile:
    path, device, inode = key
    on_disk = path.startswith("/") and not path.startswith("/memfd:") and not path.endswith(_DELETED)
    loose = any("w" in p and ("x" in p or "s" in p) for p in permissions)
    return MappedFile(path=path.removesuffix(_DELETED), device=device, inode=inode, fixed=on_disk and not loose)


def anonymous_code(maps: str) -> str | None:
    """Return how memory without a file can be executed: ``executable``, ``writable and executable``, or None.

    Compilers that work while a process runs make such memory (oneDNN, Triton, libffi); so does code that hides.
    """
    columns = (line.split(maxsplit=_FIELDS - 1) for line in maps.split("\n"))
    anonymous = (c[1] for c in columns if len(c) == _FIELDS - 1 or (len(c) == _FIELDS and c[5].startswith(_NAMED)))
    found = [permissions for permissions in anonymous if "x" in permissions]
    if any("w" in permissions for permissions in found):
        return "writable and executable"
    return "executable" if found else None


def mapped_sha256(file: MappedFile) -> str | None:
    """Return SHA-256 of a mapped file, or None where its path does not lead to exactly the file that is mapped."""
    if not file.fixed:
        return None
    return file_sha256(file.path, same=lambda fd: _is_mapped_file(fd, file))


def _is_mapped_file(fd: int, file: MappedFile) -> bool:
    stat = os.fstat(fd)
    if (stat.st_dev, stat.st_ino) == (file.device, file.inode):
        return True
    # btrfs, and overlayfs on older kernels, show another device in maps than stat does: compare maps with maps.
    return same_by_mapping(fd, file.device, file.inode)


def same_by_mapping(fd: int, device: int, inode: int) -> bool:
    """Tell whether a mapping of `fd` made now carries this device and inode in /proc/self/maps."""
    if os.fstat(fd).st_size == 0:
        return False
    with mmap.mmap(fd, mmap.PAGESIZE if os.fstat(fd).st_size >= mmap.PAGESIZE else 0, access=mmap.ACCESS_COPY) as page:
        window = ctypes.c_char.from_buffer(page)
        address, maps = ctypes.addressof(window), read_maps()
        del window  # else the mapping cannot be closed
    if maps is None:
        return False
    return any(m.start <= address < m.stop and (m.device, m.inode) == (device, inode) for m in _mappings(maps))
