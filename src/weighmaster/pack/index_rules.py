# SPDX-License-Identifier: Apache-2.0
"""What the parts of an index owe to each other: orders, names of shards, which files there may be (spec/pack.md, 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from weighmaster.core.canonical import MAX_SAFE_INTEGER
from weighmaster.core.source import CODE_SUFFIXES
from weighmaster.errors import MalformedArtefact
from weighmaster.pack.packed import INDEX, Index

__all__ = ["CONFIG", "SEAL_SUFFIX", "SHARD_INDEX", "SOURCE", "check_index", "is_code", "shard_names"]

SHARD_INDEX: Final = "model.safetensors.index.json"
CONFIG: Final = "config.json"
SOURCE: Final = "source/"
SEAL_SUFFIX: Final = ".sigstore.json"

_MOST_SHARDS: Final = 99_999


def is_code(path: str) -> bool:
    """Tell whether a file is code: it lies under ``source/`` alone, where no runtime looks for it."""
    return path.endswith(CODE_SUFFIXES)


def shard_names(count: int) -> tuple[str, ...]:
    """Return the names that the shards of a pack have."""
    if count == 1:
        return ("model.safetensors",)
    return tuple(f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1))


def check_index(index: Index, file: str) -> None:
    """Check what no single entry shows.

    Raises:
        MalformedArtefact: an order, a shard or a file is not as it must be.
    """
    _require_ascending([f.path for f in index.source], "source", "path", file)
    _require_ascending([f.path for f in index.files], "files", "path", file)
    _require_ascending([t.name for t in index.tensors], "tensors", "name", file)
    _require_some({"source": index.source, "shards": index.shards, "tensors": index.tensors}, file)
    if (index.calibration is not None) != (index.encoder.profile == "calibrated"):
        expected = "an object for the profile calibrated, and null for the others"
        raise MalformedArtefact(file, "calibration", expected=expected, found=f"profile {index.encoder.profile}")
    _check_shards(index, file)
    _check_files(index, file)
    if index.elements > MAX_SAFE_INTEGER // 16:
        expected = f"at most {MAX_SAFE_INTEGER // 16} elements"
        raise MalformedArtefact(file, "tensors", expected=expected, found=str(index.elements))


def _require_ascending(texts: Sequence[str], field: str, key: str, file: str) -> None:
    for i, (before, after) in enumerate(pairwise(texts), 1):
        if before.encode("utf-8") >= after.encode("utf-8"):
            found = f"{after!r} after {before!r}"[:400]
            expected = "ascending order by UTF-8 bytes, each once"
            raise MalformedArtefact(file, f"{field}[{i}].{key}", expected=expected, found=found)


def _require_some(lists: dict[str, Sequence[object]], file: str) -> None:
    for field, entries in lists.items():
        if not entries:
            raise MalformedArtefact(file, field, expected="at least one entry", found="none")


def _check_shards(index: Index, file: str) -> None:
    count = len(index.shards)
    if count > _MOST_SHARDS or index.shards != shard_names(count):
        expected = "model.safetensors alone, or model-00001-of-0000N.safetensors to N"
        raise MalformedArtefact(file, "shards", expected=expected, found=str(list(index.shards))[:400])
    for i, tensor in enumerate(index.tensors):
        if tensor.shard >= count:
            expected = f"a position below {count}"
            raise MalformedArtefact(file, f"tensors[{i}].shard", expected=expected, found=str(tensor.shard))
    unused = set(range(count)) - {tensor.shard for tensor in index.tensors}
    if unused:
        field = f"shards[{min(unused)}]"
        raise MalformedArtefact(file, field, expected="at least one tensor in each shard", found="none")


def _check_files(index: Index, file: str) -> None:
    """Require shards and their index, and that every other file is one of the source's, under ``source/`` as well."""
    files = {f.path: f for f in index.files}
    wanted = {*index.shards, *([SHARD_INDEX] if len(index.shards) > 1 else [])}
    for name in sorted(wanted - files.keys()):
        raise MalformedArtefact(file, "files", expected=f"an entry for {name}", found="none")
    for i, entry in enumerate(index.files):
        field = f"files[{i}].path"
        if entry.path in wanted:
            continue
        if _is_reserved(entry.path):
            raise MalformedArtefact(file, field, expected="no weights, index or seal here", found=repr(entry.path))
        if entry.path.startswith(SOURCE):
            continue
        if is_code(entry.path):
            raise MalformedArtefact(file, field, expected=f"code under {SOURCE} alone", found=repr(entry.path))
        twin = files.get(SOURCE + entry.path)
        same = twin is not None and (entry.path == CONFIG or (twin.sha256, twin.size) == (entry.sha256, entry.size))
        if not same:
            found = "none" if twin is None else f"SHA-256 {twin.sha256}, {twin.size} bytes"
            expected = f"a file {SOURCE}{entry.path} with the same bytes"
            raise MalformedArtefact(file, field, expected=expected, found=found)
    _require_no_folder_is_a_file(files, file)


def _is_reserved(path: str) -> bool:
    inner = path.removeprefix(SOURCE)
    ours = inner in {INDEX, SHARD_INDEX} or ("/" not in inner and inner.endswith(SEAL_SUFFIX))
    return ours or inner.endswith(".safetensors")


def _require_no_folder_is_a_file(paths: Iterable[str], file: str) -> None:
    held = set(paths)
    for path in sorted(held):
        parts = path.split("/")
        for i in range(1, len(parts)):
            if (folder := "/".join(parts[:i])) in held:
                raise MalformedArtefact(file, "files", expected=f"{folder!r} as a file or a folder", found="both")
