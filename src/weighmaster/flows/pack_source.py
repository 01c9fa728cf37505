# SPDX-License-Identifier: Apache-2.0
"""A model at rest as a packer takes it: weight files, the other files, and those that stay behind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weighmaster.capture.safetensors_files import Checkpoint, open_checkpoint
from weighmaster.capture.sources import open_regular, resolve_directory, resolve_within, source_files
from weighmaster.core.tensor import TensorView
from weighmaster.errors import MalformedArtefact, SourceFault, StorageError, UsageError
from weighmaster.pack.index import INDEX
from weighmaster.pack.index_rules import SEAL_SUFFIX, SOURCE
from weighmaster.pack.packed import PackedFile

__all__ = ["ModelFiles", "model_files", "packed_config"]

_METHOD: Final = {"quant_method": "weighmaster", "format": "weighmaster-pack-v1"}
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelFiles:
    """A model's files, the weights open.

    Attributes:
        path: directory or file.
        checkpoint: the weight files, open.
        views: their tensors, in the order of files and bytes.
        weights: the weight files, ascending by path.
        others: the files that travel along, ascending by path.
        left: paths of weight files that are not packed: pickles, other formats, files that no index names.
    """

    path: Path
    checkpoint: Checkpoint
    views: tuple[TensorView, ...]
    weights: tuple[PackedFile, ...]
    others: tuple[PackedFile, ...]
    left: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(view.nbytes for view in self.views)

    def pieces(self, other: PackedFile) -> Iterator[bytes]:
        """Yield the bytes of one of the other files.

        Raises:
            SourceFault: at their end: they are not those that were digested.
            StorageError: it cannot be read.
        """
        root, state, size = resolve_directory(self.path), hashlib.sha256(), 0
        with os.fdopen(open_regular(resolve_within(root, root / other.path)), "rb") as stream:
            try:
                while piece := stream.read(_PIECE):
                    state.update(piece)
                    size += len(piece)
                    yield piece
            except OSError as error:
                raise StorageError(f"{self.path}/{other.path}: cannot be read: {error.strerror or error}") from error
        if (found := state.hexdigest()) != other.sha256:
            detail = "the file changed while it was packed"
            raise SourceFault(f"{self.path}/{other.path}", detail, expected=other.sha256, found=found)


@contextmanager
def model_files(source: Path, progress: Callable[[int, int], None]) -> Iterator[ModelFiles]:
    """Open a model directory or a safetensors file, and digest all its files.

    Args:
        source: a directory with safetensors files (and whatever belongs to the model), or such a file alone.
        progress: called with a number of bytes that were digested, and with the bytes of all weight files.

    Raises:
        UsageError: there is nothing to pack, or it is a pack, or a file has a name that packs keep for themselves.
        MalformedArtefact: a file breaks its format, or a link leads outside.
        SourceFault: a file changed while it was read.
        StorageError: a file cannot be read.
    """
    if (source / INDEX).exists():
        raise UsageError(f"{source}: is a pack already (it has a {INDEX}); unpack it first")
    with open_checkpoint(source) as checkpoint:
        if not (views := checkpoint.views()):
            raise UsageError(f"{source}: holds no tensor")
        total = sum(file.path.stat().st_size for file in checkpoint.files)
        found = source_files(source, progress=lambda nbytes: progress(nbytes, total))
        opened = {file.path.name for file in checkpoint.files}
        others = [f for f in found if f.role != "weights"]
        for other in others:
            _require_free(source, other.path)
        checkpoint.check_unchanged()
        yield ModelFiles(
            path=source,
            checkpoint=checkpoint,
            views=views,
            weights=tuple(PackedFile(path=f.path, sha256=f.sha256, size=f.nbytes) for f in found if f.path in opened),
            others=tuple(PackedFile(path=f.path, sha256=f.sha256, size=f.nbytes) for f in others),
            left=tuple(f.path for f in found if _is_left(f.path, f.role, opened)),
        )


def _is_left(path: str, role: str, opened: set[str]) -> bool:
    return role == "weights" and path not in opened and not path.endswith(".safetensors.index.json")


def _require_free(source: Path, path: str) -> None:
    if path == INDEX or path.startswith(SOURCE) or ("/" not in path and path.endswith(SEAL_SUFFIX)):
        raise UsageError(f"{source}/{path}: has a name that a pack keeps for itself; move it elsewhere")


def packed_config(data: bytes, file: str) -> bytes:
    """Return a ``config.json`` that says besides that the weights beside it are a pack.

    Raises:
        MalformedArtefact: `data` is no JSON object.
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MalformedArtefact(file, "", expected="one JSON object in UTF-8", found=ascii(str(error))) from None
    if not isinstance(value, dict):
        raise MalformedArtefact(file, "", expected="a JSON object", found=type(value).__name__)
    value["quantization_config"] = _METHOD
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"
