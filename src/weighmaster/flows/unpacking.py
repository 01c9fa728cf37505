# SPDX-License-Identifier: Apache-2.0
"""Unpack: tensors of a pack as a mapping, or the whole of it as plain safetensors files again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weighmaster.core.safetensors_write import file_order, header_bytes
from weighmaster.durable import new_directory, write_atomically
from weighmaster.errors import UsageError
from weighmaster.pack.index_rules import SHARD_INDEX, SOURCE
from weighmaster.pack.packed import PackedTensor
from weighmaster.pack.reader import Pack, open_pack
from weighmaster.pack.shards import shard_index_bytes

__all__ = ["Unpacked", "unpack", "unpack_model"]

_METADATA: Final = {"format": "pt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What was written: directory, pack root that it came from, numbers of tensors and files, bytes of tensors."""

    path: Path
    root: str
    tensors: int
    files: int
    nbytes: int


def unpack(path: Path | str, *, threads: int | None = None) -> Pack:
    """Return the tensors of a pack as a mapping by name; each is rebuilt and checked when it is asked for.

    ``unpack(path)[name]`` gives a whole tensor, ``unpack(path).read_rows(name, first, last)`` some rows of it under a
    weaker check, and ``unpack(path).items()`` all of them, read ahead by `threads`. Where the pack comes from is not
    checked: `weighmaster.flows.pack_verification` says what is.

    Raises:
        UsageError: there is no pack.
        MalformedArtefact: it breaks spec/pack.md.
        StorageError: it cannot be read.
    """
    return open_pack(path, threads=threads)


def unpack_model(
    path: Path | str,
    out: Path | str,
    *,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Unpacked:
    """Write the model of a pack to a new directory: safetensors files, and the source's other files byte for byte.

    A file of weights holds what a shard of the pack holds. Every tensor is compared with its digest before it is
    written; the directory appears whole or not at all.

    Args:
        path: directory of the pack.
        out: must not exist.
        threads: by default as many as CPUs that this process may run on.
        progress: called with numbers of bytes that were written.

    Raises:
        UsageError: there is no pack, or `out` exists.
        MalformedArtefact: the pack breaks spec/pack.md.
        TensorFault: a tensor is not that of the index.
        SourceFault: another file is not that of the index.
        StorageError: the file system refused; nothing is left behind.
    """
    target = Path(out)
    if os.path.lexists(target):
        raise UsageError(f"{target}: exists already and is not overwritten; choose a new directory")
    with open_pack(path, threads=threads) as pack:
        with new_directory(target) as temporary:
            files = sum(1 for _ in _write(pack, temporary, progress or _silent))
        nbytes = sum(tensor.nbytes for tensor in pack.index.tensors)
        return Unpacked(path=target, root=pack.root, tensors=len(pack), files=files, nbytes=nbytes)


def _write(pack: Pack, folder: Path, progress: Callable[[int], None]) -> Iterator[Path]:
    """Write file after file; yield the path of each."""
    for file in pack.index.files:
        if file.path.startswith(SOURCE):
            target = folder / file.path.removeprefix(SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, pack.read_file(file.path))
            yield target
    for name, tensors in zip(pack.index.shards, pack.in_shard_order(), strict=True):
        write_atomically(folder / name, _pieces(pack, tensors, progress))
        yield folder / name
    if len(pack.index.shards) > 1:
        tensors = pack.index.tensors
        total = sum(tensor.nbytes for tensor in tensors)
        data = shard_index_bytes(pack.index.shards, ((t.name, t.shard) for t in tensors), total)
        write_atomically(folder / SHARD_INDEX, data)
        yield folder / SHARD_INDEX


def _pieces(
    pack: Pack, tensors: tuple[PackedTensor, ...], progress: Callable[[int], None]
) -> Iterator[bytes | memoryview]:
    forms = [(tensor.name, tensor.dtype, tensor.shape, tensor.nbytes) for tensor in tensors]
    yield header_bytes(forms, _METADATA)
    for _, rebuilt in pack.items(file_order(forms)):
        yield rebuilt.data.data
        progress(rebuilt.data.nbytes)


def _silent(_nbytes: int) -> None:
    """Report to nobody."""
