# SPDX-License-Identifier: Apache-2.0
"""What an unfinished run left is gone on with only if it is ours, and of this source: its journal is not believed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from weighmaster.core.tensor import TensorView
from weighmaster.engines.port import DigestEngine
from weighmaster.errors import Fault, NotAdmitted, StorageError, TensorFault, TensorSetFault, UsageError
from weighmaster.pack.journal import JOURNAL, Finished
from weighmaster.pack.packed import FIVE, PackedTensor

__all__ = ["require_of_source", "require_own"]

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_REMEDY: Final = "choose a new directory"


def require_own(directory: Path) -> None:
    """Require that nobody else can have written an unfinished pack; a directory without journal is none.

    Raises:
        UsageError: the directory or its journal is a link, belongs to another user, or may be written by others.
        StorageError: one cannot be looked at.
    """
    journal = directory / JOURNAL
    if not os.path.lexists(journal):
        return
    for path, flags in ((directory, os.O_DIRECTORY), (journal, os.O_NONBLOCK)):
        _require_own(path, _status(path, flags))


def _status(path: Path, flags: int) -> os.stat_result:
    if path.is_symlink():
        raise _refusal(path, "is a symbolic link")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags)
    except OSError as error:
        if error.errno == errno.ELOOP:  # put there meanwhile
            raise _refusal(path, "is a symbolic link") from None
        raise StorageError(f"{path}: cannot be opened: {error.strerror or error}") from error
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _require_own(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise _refusal(path, f"belongs to the user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & _OTHERS:
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        raise _refusal(path, f"may be written by others ({mode})", "; if nobody else wrote there, chmod go-w it")


def _refusal(path: Path, what: str, otherwise: str = "") -> UsageError:
    return UsageError(f"{path}: {what}: an unfinished pack there is not gone on with; {_REMEDY}{otherwise}")


def require_of_source(
    finished: Finished, group: Sequence[TensorView], position: int, profile: str, engine: DigestEngine, file: str
) -> None:
    """Require that a shard of an earlier run is one of these tensors.

    What was coded with loss is compared in name, dtype and shape alone: its digests are those of the rebuilt tensor.

    Args:
        finished: what the journal says of it.
        group: tensors of the source that belong there.
        position: of the shard.
        profile: of the pack; ``exact`` has no tensor with loss.
        engine: digests the source again.
        file: the journal, for messages.

    Raises:
        NotAdmitted: with a fault per tensor that differs.
    """
    faults = tuple(_name_faults(finished.tensors, group)) or tuple(
        _faults(finished.tensors, group, position, profile, engine)
    )
    if faults:
        raise NotAdmitted(f"{file}: {finished.file.path} is not of this source; {_REMEDY}", faults)


def _name_faults(tensors: Sequence[PackedTensor], group: Sequence[TensorView]) -> Iterator[Fault]:
    there, wanted = [tensor.name for tensor in tensors], [view.name for view in group]
    for name in sorted({*there} ^ {*wanted}):
        where = "missing from" if name in wanted else "no tensor of the source for"
        yield TensorSetFault(name, f"{where} the finished shard")
    if {*there} == {*wanted} and there != wanted:
        yield TensorSetFault(there[0], "the finished shard has other tensors, or another order, than was planned")


def _faults(
    tensors: Sequence[PackedTensor], group: Sequence[TensorView], position: int, profile: str, engine: DigestEngine
) -> Iterator[Fault]:
    kept = []
    for tensor, view in zip(tensors, group, strict=True):
        was = (tensor.dtype, list(tensor.shape), tensor.shard)
        if was != (now := (view.dtype, list(view.shape), position)):
            yield TensorFault(view.name, "dtype, shape, shard differ", expected=str(now), found=str(was))
        elif tensor.codec == FIVE and profile == "exact":
            yield TensorFault(view.name, "codec loses bits, and the profile is exact", found=tensor.codec)
        elif tensor.codec != FIVE:
            kept.append((tensor, view))
    for (tensor, _), digest in zip(kept, engine.digest([view for _, view in kept]), strict=True):
        for what, found, expected in (
            ("SHA-256", tensor.sha256, digest.sha256),
            ("fs-verity digest", tensor.fsverity64k, digest.fsverity64k),
        ):
            if found != expected:
                yield TensorFault(tensor.name, f"not the bytes of the source ({what})", expected=expected, found=found)
