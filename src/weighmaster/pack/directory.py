# SPDX-License-Identifier: Apache-2.0
"""The files of a pack as they lie in its directory, held against what the index says (spec/pack.md, 6.3)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from weighmaster.core.safetensors_header import show
from weighmaster.errors import MalformedArtefact, StorageError
from weighmaster.pack.index import INDEX
from weighmaster.pack.index_rules import SEAL_SUFFIX
from weighmaster.pack.packed import Index

__all__ = ["is_seal", "require_files", "seals", "walk"]

_DEEPEST: Final = 16


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the relative path of everything below `root` that is no folder, and what the kernel says of it.

    Links are not followed.

    Raises:
        StorageError: a folder cannot be listed.
        MalformedArtefact: a name is not Unicode text, or folders lie too deep.
    """
    yield from _walk(root, "", 0)


def _walk(root: Path, folder: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    if depth > _DEEPEST:
        raise MalformedArtefact(str(root), show(folder), expected=f"at most {_DEEPEST} folders deep", found="more")
    try:
        with os.scandir(root / folder) as entries:
            listed = sorted(((e.name, e.stat(follow_symlinks=False)) for e in entries), key=lambda pair: pair[0])
    except OSError as error:
        raise StorageError(f"{root / folder}: cannot be listed: {error.strerror or error}") from error
    for name, status in listed:
        path = f"{folder}/{name}" if folder else name
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(root, path, depth + 1)
        else:
            yield path, status


def is_seal(path: str) -> bool:
    """Tell whether a file at this path of a pack is a seal over it, which its index does not list."""
    return "/" not in path and path.endswith(SEAL_SUFFIX)


def seals(root: Path) -> tuple[str, ...]:
    """Return the names of the seals that lie in a pack.

    Raises:
        StorageError: it cannot be listed.
    """
    return tuple(path for path, _ in walk(root) if is_seal(path))


def require_files(root: Path, index: Index, *, also: frozenset[str] = frozenset()) -> None:
    """Hold names, kinds and sizes of the files against the index; no byte of them is read.

    Args:
        root: the directory of the pack.
        index: its index.
        also: paths that may be there besides: those of a pack in the making.

    Raises:
        MalformedArtefact: a file is missing, or there without being listed, or no regular file, or of another size.
        StorageError: the directory cannot be listed.
    """
    sizes = {file.path: file.size for file in index.files}
    for path, status in walk(root):
        where = f"{root}/{show(path)}"
        if not stat.S_ISREG(status.st_mode):
            found = "a link" if stat.S_ISLNK(status.st_mode) else "another kind of file"
            raise MalformedArtefact(where, "", expected="a regular file", found=found)
        if path in sizes:
            if status.st_size != sizes.pop(path):
                size = next(file.size for file in index.files if file.path == path)
                raise MalformedArtefact(where, "", expected=f"{size} bytes", found=str(status.st_size))
        elif path != INDEX and path not in also and not is_seal(path):
            raise MalformedArtefact(where, "", expected="only files that the index lists, and seals", found="another")
    for path in sorted(sizes):
        raise MalformedArtefact(
            f"{root}/{show(path)}", "", expected="a file that the index lists", found="no such file"
        )
