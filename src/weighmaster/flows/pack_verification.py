# SPDX-License-Identifier: Apache-2.0
"""Check a whole pack: blobs, both digests of every tensor, every file (spec/pack.md, 6.5). No origin is checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from weighmaster.core.canonical import loads
from weighmaster.core.fields import Fields
from weighmaster.errors import Fault, NotAdmitted, SourceFault, StorageError, TensorFault
from weighmaster.pack.index_rules import SHARD_INDEX
from weighmaster.pack.packed import PackedFile, PackedTensor
from weighmaster.pack.reader import Pack, open_pack
from weighmaster.safetensors_file import open_regular

__all__ = ["CONSISTENT", "PackVerification", "require_whole", "summary_of", "verify_pack"]

CONSISTENT: Final = "consistent, origin not checked"
"""What can be said of a pack without its seals."""

_PIECE: Final = 1 << 20

Report = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackVerification:
    """What held: pack root, bits per weight, numbers of tensors and files, bytes of the rebuilt tensors."""

    root: str
    bits_per_weight: Fraction
    tensors: int
    files: int
    nbytes: int


def verify_pack(path: Path | str, *, threads: int | None = None, progress: Report | None = None) -> PackVerification:
    """Read every byte of a pack and compare it with what its index says.

    Args:
        path: its directory.
        threads: by default as many as CPUs that this process may run on.
        progress: called with numbers of rebuilt bytes.

    Raises:
        NotAdmitted: with a fault per tensor and file that differs.
        MalformedArtefact: something breaks spec/pack.md.
        UsageError: there is no pack.
        StorageError: a file cannot be read.
    """
    with open_pack(path, threads=threads) as pack:
        require_whole(pack, progress=progress)
        return summary_of(pack)


def summary_of(pack: Pack) -> PackVerification:
    """Return the numbers of a pack of which all was checked."""
    return PackVerification(
        root=pack.root,
        bits_per_weight=pack.bits_per_weight(),
        tensors=len(pack),
        files=len(pack.index.files),
        nbytes=sum(tensor.nbytes for tensor in pack.index.tensors),
    )


def require_whole(pack: Pack, *, progress: Report | None = None) -> None:
    """Compare all of an open pack with its index.

    Raises:
        NotAdmitted: with a fault per tensor and file that differs.
        MalformedArtefact: a blob breaks spec/pack.md.
        StorageError: a file cannot be read.
    """
    files = {file.path: file for file in pack.index.files}
    faults: list[Fault] = []
    for i, tensors in enumerate(pack.in_shard_order()):
        faults += _shard_faults(pack, files.pop(pack.index.shards[i]), i, tensors, progress or _silent)
    for file in files.values():
        faults += _compare(pack.path, file, _digest(pack.path / file.path))
    if SHARD_INDEX in files:
        faults += _placed(pack)
    pack.check_unchanged()
    if faults:
        raise NotAdmitted(f"{pack.path}: is not what its index says", faults)


def _shard_faults(
    pack: Pack, file: PackedFile, position: int, tensors: tuple[PackedTensor, ...], progress: Report
) -> Iterator[Fault]:
    """Yield what is wrong with the tensors of a shard, and with the shard: its bytes are these blobs and no others."""
    state = hashlib.sha256(pack.front(position))
    for tensor in tensors:
        blob = pack.blob(tensor.name)
        state.update(blob)
        if (found := hashlib.sha256(blob).hexdigest()) != tensor.blob:
            yield TensorFault(tensor.name, "its bytes in the shard differ (SHA-256)", expected=tensor.blob, found=found)
        try:
            pack.require_digests(tensor, pack.rebuild(tensor, blob, threads=pack.threads))
        except TensorFault as fault:
            yield fault
        progress(tensor.nbytes)
    yield from _compare(pack.path, file, state.hexdigest())


def _placed(pack: Pack) -> Iterator[SourceFault]:
    """Yield whether the shard index, by which others find the tensors, leads elsewhere than the index does."""
    path = f"{pack.path}/{SHARD_INDEX}"
    try:
        found = Fields(loads(pack.read_file(SHARD_INDEX), path, foreign=True), file=path).any("weight_map")
    except SourceFault:  # not the listed file: that was said
        return
    if found != {tensor.name: pack.index.shards[tensor.shard] for tensor in pack.index.tensors}:
        expected = "the shards of pack.index"
        yield SourceFault(path, "places the tensors in other shards", expected=expected, found="others")


def _compare(root: Path, file: PackedFile, found: str) -> Iterator[SourceFault]:
    if found != file.sha256:
        yield SourceFault(f"{root}/{file.path}", "is not the file of the index", expected=file.sha256, found=found)


def _digest(path: Path) -> str:
    state = hashlib.sha256()
    with os.fdopen(open_regular(path), "rb") as stream:
        try:
            while piece := stream.read(_PIECE):
                state.update(piece)
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
    return state.hexdigest()


def _silent(_nbytes: int) -> None:
    """Report to nobody."""
