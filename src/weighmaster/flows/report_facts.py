# SPDX-License-Identifier: Apache-2.0
"""What a report says of a pack before any model runs: bytes, tensors, source, machine."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np

from weighmaster.capture.sources import source_files
from weighmaster.core.number import decimal_text
from weighmaster.core.pack_report import Calibration, EncoderRef, File, PackRef, Size, TensorLine
from weighmaster.core.tensor import TensorView
from weighmaster.errors import SourceFault, TensorSetFault
from weighmaster.flows.qualification import installed
from weighmaster.flows.report_weights import WeightError, compare_weights
from weighmaster.pack.index import INDEX
from weighmaster.pack.index_rules import SHARD_INDEX
from weighmaster.pack.packed import FIVE
from weighmaster.pack.reader import Pack, Rebuilt
from weighmaster.probe.cpu import cpu_facts

__all__ = ["machine", "pack_ref", "relative", "require_names", "require_source", "size_of", "tensor_line"]

_COPIES: Final = "source/"
"""Folder of a pack with the model's other files."""


def require_source(pack: Pack, source: Path) -> tuple[File, ...]:
    """Return the weight files that were packed, after comparing the source's files with the pack's index.

    Raises:
        SourceFault: a file is missing, or has another digest.
        UsageError: there is no such source.
        MalformedArtefact: there is something irregular in it.
        StorageError: it cannot be read.
    """
    there = {file.path: file for file in source_files(source)}
    for wanted in pack.index.source:
        found = there.get(wanted.path)
        if found is None or found.sha256 != wanted.sha256:
            detail = "is not the file that was packed"
            raise SourceFault(
                wanted.path, detail, expected=wanted.sha256, found=None if found is None else found.sha256
            )
    copies = {file.path.removeprefix(_COPIES): file for file in pack.index.files if file.path.startswith(_COPIES)}
    for path in sorted(copies.keys() & there.keys()):
        if copies[path].sha256 != there[path].sha256:
            detail = "is not the file that was packed"
            raise SourceFault(path, detail, expected=copies[path].sha256, found=there[path].sha256)
    return tuple(File(path=f.path, size=f.size, sha256=f.sha256) for f in pack.index.source)


def require_names(pack: Pack, views: Mapping[str, TensorView]) -> None:
    """Compare the names of the tensors of pack and source.

    Raises:
        TensorSetFault: one has a tensor that the other lacks.
    """
    for name in sorted(views.keys() ^ set(pack.names())):
        raise TensorSetFault(name, "is in the source alone" if name in views else "is in the pack alone")


def tensor_line(pack: Pack, name: str, rebuilt: Rebuilt, view: TensorView) -> tuple[TensorLine, WeightError]:
    """Compare a tensor with the source's and describe it."""
    entry = pack.entry(name)
    error = compare_weights(view, rebuilt.dtype, rebuilt.shape, rebuilt.data, lossless=entry.codec != FIVE)
    line = TensorLine(
        name=name,
        dtype=rebuilt.dtype,
        shape=rebuilt.shape,
        codec=entry.codec,
        nbytes=pack.blob_size(name),
        relative_squared_error=relative((error,)),
        max_error=decimal_text(error.max_error),
        rms=None if error.squared is None else decimal_text(math.sqrt(error.squared / max(entry.elements, 1))),
    )
    return line, error


def relative(errors: Sequence[WeightError]) -> str:
    """Return the relative squared error over tensors; those without finite elements have no error and no square."""
    squared = math.fsum(e.squared for e in errors if e.squared is not None)
    return decimal_text(math.fsum(e.squared_error for e in errors) / squared) if squared else "0"


def pack_ref(pack: Pack) -> PackRef:
    """Return root, encoder and calibration, as the index has them."""
    encoder, calibration = pack.index.encoder, pack.index.calibration
    return PackRef(
        root=pack.root,
        encoder=EncoderRef(
            name=encoder.name,
            version=encoder.version,
            profile=encoder.profile,
            bits=None if encoder.bits is None else decimal_text(Decimal(encoder.bits)),
            parameters=encoder.parameters,
        ),
        calibration=None
        if calibration is None
        else Calibration(kind=calibration.kind, sha256=calibration.sha256, tokens=calibration.tokens),
    )


def size_of(pack: Pack) -> Size:
    """Return bytes and bits of a pack, from the sizes of its files and blobs."""
    index = pack.index
    size = {file.path: file.size for file in index.files}
    payload = sum(pack.blob_size(name) for name in pack.names())
    counted = {*index.shards, SHARD_INDEX}
    return Size(
        elements=index.elements,
        payload=payload,
        headers=sum(size[shard] for shard in index.shards) - payload,
        index=(pack.path / INDEX).stat().st_size,
        shard_index=size.get(SHARD_INDEX, 0),
        beside=tuple(File(path=f.path, size=f.size, sha256=f.sha256) for f in index.files if f.path not in counted),
    )


def machine(pack: Pack) -> dict[str, str]:
    """Return processor, versions, and what decoded the pack."""
    cpu = next((fact.value for fact in cpu_facts() if fact.name == "cpu.name" and fact.value), None)
    return {
        "cpu": cpu or platform.machine(),
        "decoder": pack.backend.name,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "weighmaster": installed("weighmaster"),
    }
