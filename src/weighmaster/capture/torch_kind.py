# SPDX-License-Identifier: Apache-2.0
"""Tell what a file of PyTorch is from the members of its archive, before any of PyTorch's readers opens it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Final, Literal, TypeAlias

from weighmaster.capture.sources import open_regular, resolve_directory, resolve_within
from weighmaster.errors import MalformedArtefact, StorageError

__all__ = ["MAX_INFLATED", "FileKind", "kind_of"]

FileKind: TypeAlias = Literal["torchscript", "torch-export", "checkpoint", "safetensors", "other"]

MAX_INFLATED: Final = 256 << 20
"""Bytes that the compressed members of an archive may inflate to, together: PyTorch compresses code, never tensors."""

_CHECKPOINTS: Final = (".bin", ".ckpt", ".pt", ".pth")
_PICKLES: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_HEAD: Final = 9
"""Bytes that tell safetensors: 8 of length, 1 of JSON."""


def kind_of(path: Path) -> FileKind:
    """Tell what `path` is; its name counts only where it is no archive.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: it is an archive that says to hold more than it can, or no regular file, or a link outside.
        StorageError: it cannot be read.
    """
    if path.suffix == ".safetensors":
        return "safetensors"
    resolved = resolve_within(resolve_directory(path.parent), path)
    try:
        with os.fdopen(open_regular(resolved), "rb") as file:
            head = file.read(_HEAD)
            if zipfile.is_zipfile(file):
                return _archive_kind(file, path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(head) == _HEAD and head.endswith(b"\0\0\0\0{"):  # length of the header below 4 GiB, and its first byte
        return "safetensors"
    return "checkpoint" if head.startswith(_PICKLES) or path.suffix in _CHECKPOINTS else "other"


def _archive_kind(file: object, path: Path) -> FileKind:
    names = {name.partition("/")[2] for name in _members(file, path)}
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if any(name.startswith("models/") and name.endswith(".json") for name in names):
        return "torch-export"
    return "checkpoint" if "data.pkl" in names else "other"


def _members(file: object, path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:  # type: ignore[call-overload]  # an open file
            infos = archive.infolist()
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError) as error:
        raise MalformedArtefact(str(path), "", expected="a zip archive", found=str(error)) from error
    _require_honest(infos, path)
    return [info.filename for info in infos]


def _require_honest(infos: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse archives that are small on disk and large in memory, and those in which a name stands twice."""
    size = path.stat().st_size
    stored = sum(i.file_size for i in infos if i.compress_type == zipfile.ZIP_STORED)
    inflated = sum(i.file_size for i in infos if i.compress_type != zipfile.ZIP_STORED)
    if stored > size:
        expected = f"members of at most {size} bytes, as the file"
        raise MalformedArtefact(str(path), "", expected=expected, found=f"{stored} bytes")
    if inflated > MAX_INFLATED:
        expected = f"compressed members of at most {MAX_INFLATED} bytes"
        raise MalformedArtefact(str(path), "", expected=expected, found=f"{inflated} bytes")
    names: set[str] = set()
    for info in infos:
        if info.filename in names:
            raise MalformedArtefact(str(path), repr(info.filename), expected="each member once", found="it twice")
        names.add(info.filename)
