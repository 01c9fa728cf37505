# SPDX-License-Identifier: Apache-2.0
"""The directory that a pack is made in: whose it is, what of an earlier run is in it, and how files get there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from weighmaster.core.safetensors_header import show
from weighmaster.errors import StorageError, UsageError
from weighmaster.pack.directory import walk
from weighmaster.pack.index import INDEX
from weighmaster.pack.journal import JOURNAL
from weighmaster.pack.packed import PackedFile
from weighmaster.pack.writer import write_hashed
from weighmaster.safetensors_file import open_regular

__all__ = ["Output", "make_output"]

_PARTIAL: Final = re.compile(r"(.*/)?\.[^/]+\.[0-9a-f]{8}\.partial(/.*)?", re.DOTALL)
"""Names that `durable.write_atomically` gives to files before they are whole; the folder of a calibration."""

_WORK: Final = ".calibration.{}.partial"

_PIECE: Final = 1 << 20


def make_output(path: Path) -> Output:
    """Make the directory, or take the one that is there.

    Raises:
        UsageError: it is a link, or no directory.
        StorageError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)  # whatever the umask: others may not write
    except FileExistsError:
        raise UsageError(f"{path}: is no directory") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be made: {error.strerror or error}") from error
    return Output(path)


class Output:
    """The directory of a pack in the making. The caller holds its lock.

    Attributes:
        path: of the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def clean(self, expected: Iterable[str]) -> None:
        """Remove what a killed run left half-written, and refuse files that are no part of the pack to be.

        Args:
            expected: paths of the files of the pack.

        Raises:
            UsageError: it holds a finished pack, or something else.
            StorageError: it cannot be listed, or a file not removed.
        """
        found = {path for path, _ in walk(self.path)}
        partial = {path for path in found if _PARTIAL.fullmatch(path)}
        if INDEX in found and JOURNAL not in found:
            raise UsageError(f"{self.path}: holds a pack already and is not overwritten; choose a new directory")
        unknown = found - partial - ({*expected, INDEX, JOURNAL} if JOURNAL in found else set())
        if unknown:
            what = f"{show(min(unknown))}, which is no part of an unfinished pack of this model"
            raise UsageError(f"{self.path}: is not empty: it holds {what}; choose a new directory")
        for path in partial:
            self._remove(path)
        for folder in self.path.glob(_WORK.format("*")):
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give the name of a folder that may be made, and is removed with all that is in it at the end."""
        folder = self.path / _WORK.format(secrets.token_hex(4))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def holds(self, file: PackedFile) -> bool:
        """Tell whether a file is there with these very bytes; it is read whole.

        Raises:
            StorageError: it cannot be read.
        """
        path = self.path / file.path
        if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
            return False
        state = hashlib.sha256()
        with os.fdopen(open_regular(path), "rb") as stream:
            try:
                while piece := stream.read(_PIECE):
                    state.update(piece)
            except OSError as error:
                raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
        return state.hexdigest() == file.sha256

    def write(self, path: str, pieces: Iterable[bytes | memoryview]) -> PackedFile:
        """Write a file whole, folders included, and return its entry for the index.

        Raises:
            StorageError: the file system refused.
        """
        target = self.path / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{target.parent}: cannot be made: {error.strerror or error}") from error
        return write_hashed(target, path, pieces)

    def finish(self) -> None:
        """Remove the journal: from now on the directory is a pack.

        Raises:
            StorageError: it cannot be removed.
        """
        self._remove(JOURNAL)

    def _remove(self, path: str) -> None:
        try:
            (self.path / path).unlink()
        except OSError as error:
            raise StorageError(f"{self.path}/{path}: cannot be removed: {error.strerror or error}") from error
