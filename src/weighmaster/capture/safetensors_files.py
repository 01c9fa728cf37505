# SPDX-License-Identifier: Apache-2.0
"""Read safetensors files and checkpoints strictly, by ranges, without mapping them.

A tensor is read with ``pread`` into memory of its own, so that a checkpoint larger than RAM can be weighed, and a file
that is cut meanwhile is an error and not a crash. What a header may hold is said in `core.safetensors_header`.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from weighmaster.capture.sources import open_regular, resolve_directory, resolve_within
from weighmaster.core.fields import Fields
from weighmaster.core.safetensors_header import show
from weighmaster.core.tensor import TensorView
from weighmaster.errors import MalformedArtefact, StorageError, UsageError
from weighmaster.safetensors_file import MAX_HEADER, SafetensorsFile

__all__ = ["MAX_HEADER", "Checkpoint", "SafetensorsFile", "open_checkpoint", "open_file"]

_INDEX_SUFFIX: Final = ".safetensors.index.json"
_SHARD: Final = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*\.safetensors")
_ONE_OF_MANY: Final = re.compile(r"-\d+-of-0*([2-9]|[1-9]\d+)\.safetensors$")
_SHOWN: Final = 200


class Checkpoint:
    """One file, or the shards of an index, together. A context manager; `open_checkpoint` makes it.

    Attributes:
        path: as the caller gave it.
        files: in the order of their names.
    """

    def __init__(self, path: Path, files: tuple[SafetensorsFile, ...]) -> None:
        self.path, self.files = path, files

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.close()

    def views(self) -> tuple[TensorView, ...]:
        """Return the tensors of all files, in the order of files and bytes; names are unique."""
        return tuple(view for file in self.files for view in file.views())

    def check_unchanged(self) -> None:
        """Check every file as `SafetensorsFile.check_unchanged` does; the first one that changed is raised."""
        for file in self.files:
            file.check_unchanged()


def open_file(path: Path | str) -> SafetensorsFile:
    """Open one safetensors file and check its header.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: it breaks the format, is not a regular file, or is a link that leads outside of its directory
            (see `capture.sources`).
        StorageError: it cannot be read.
    """
    given = Path(path)
    return SafetensorsFile(given, resolve_within(resolve_directory(given.parent), given))


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a safetensors file, or a directory with one such file or with an index (``*.safetensors.index.json``).

    Raises:
        UsageError: there is nothing of the kind.
        MalformedArtefact: a file breaks the format; there are several and no index; index and shards do not hold the
            same tensors; a shard's name or link leads outside; or it is not clear which files a loader would take.
        StorageError: a file cannot be read.
    """
    given = Path(path)
    if not given.is_dir():
        return Checkpoint(given, (open_file(given),))
    root = resolve_directory(given)
    names = _names_in(root)
    indexes = [n for n in names if n.endswith(_INDEX_SUFFIX)]
    files = [n for n in names if n.endswith(".safetensors")]
    if not indexes:
        only = _only_file(given, files)
        return Checkpoint(given, (SafetensorsFile(given / only, resolve_within(root, root / only)),))
    if len(indexes) > 1:
        raise MalformedArtefact(str(given), "", expected="one index", found=", ".join(indexes))
    return _open_sharded(given, root, indexes[0], files)


def _names_in(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise StorageError(f"{root}: cannot be listed: {error.strerror or error}") from error


def _only_file(directory: Path, files: list[str]) -> str:
    if not files:
        raise UsageError(f"{directory}: no *.safetensors file and no *{_INDEX_SUFFIX} in it")
    if len(files) > 1:
        found = f"{len(files)} files and no index: {show(', '.join(files))}"
        expected = f"one *.safetensors file, or a *{_INDEX_SUFFIX} that names the shards"
        raise MalformedArtefact(str(directory), "", expected=expected, found=found)
    if _ONE_OF_MANY.search(files[0]):
        expected = f"a *{_INDEX_SUFFIX} beside a shard"
        raise MalformedArtefact(str(directory), "", expected=expected, found=f"only {files[0]}")
    return files[0]


def _open_sharded(directory: Path, root: Path, index: str, files: list[str]) -> Checkpoint:
    where = str(directory / index)
    shard_of = _read_index(resolve_within(root, root / index), where)
    whole = index.removesuffix(".index.json")
    if whole in files and whole not in shard_of.values():
        # transformers takes the single file first: the shards would be weighed, and the file be served.
        expected, found = f"either {whole} or an index", "both, and the index does not name the file"
        raise MalformedArtefact(str(directory), "", expected=expected, found=found)
    with ExitStack() as stack:
        opened = []
        for shard in sorted(set(shard_of.values())):
            if not os.path.lexists(root / shard):
                raise MalformedArtefact(where, "weight_map", expected=f"shard {shard} beside it", found="no such file")
            file = stack.enter_context(SafetensorsFile(directory / shard, resolve_within(root, root / shard)))
            _require_indexed(file, shard, shard_of, where)
            opened.append(file)
        stack.pop_all()
    return Checkpoint(directory, tuple(opened))


def _require_indexed(file: SafetensorsFile, shard: str, shard_of: dict[str, str], index: str) -> None:
    held = {entry.name for entry in file.header.entries}
    listed = {name for name, where in shard_of.items() if where == shard}
    for name in sorted(held - listed):
        found = f"shard {shard_of[name]}" if name in shard_of else "no such key"
        raise MalformedArtefact(index, f"weight_map.{show(name)}", expected=f"{shard}, which holds it", found=found)
    for name in sorted(listed - held):
        expected = f"the tensor, which {index} places here"
        raise MalformedArtefact(str(file.path), show(name), expected=expected, found="no such tensor")


def _read_index(resolved: Path, file: str) -> dict[str, str]:
    """Return the shard of each tensor; other keys of an index, which may hold floats, are not looked at."""
    value = Fields(_parse_index(_read_document(resolved, file), file), file=file).any("weight_map")
    if not isinstance(value, dict) or not value:
        raise MalformedArtefact(file, "weight_map", expected="an object of shard names", found=show(repr(value)))
    for name, shard in value.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard) or not shard.isprintable():
            expected = "the plain name of a *.safetensors file beside the index"
            raise MalformedArtefact(file, f"weight_map.{show(name)}", expected=expected, found=ascii(shard)[:_SHOWN])
    return value


def _read_document(resolved: Path, file: str) -> bytes:
    with os.fdopen(open_regular(resolved), "rb") as stream:
        try:
            data = stream.read(MAX_HEADER + 1)
        except OSError as error:
            raise StorageError(f"{file}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_HEADER:
        raise MalformedArtefact(file, "", expected=f"at most {MAX_HEADER} bytes", found="more")
    return data


def _parse_index(data: bytes, file: str) -> object:
    # Not core.canonical: indexes in the wild hold floats (`total_size`). Numbers stay text here; none is used.
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        out: dict[str, object] = {}
        for key, value in pairs:
            if key in out:
                raise MalformedArtefact(file, show(key), expected="each key once", found="the key twice")
            out[key] = value
        return out

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=once, parse_float=str, parse_int=str, parse_constant=str
        )
    except (ValueError, RecursionError) as error:
        raise MalformedArtefact(file, "", expected="one JSON value in UTF-8", found=show(str(error))) from None
