# SPDX-License-Identifier: Apache-2.0
"""What a pack says, for print, and how a directory is known to be one."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from weighmaster.cli.printing import count
from weighmaster.pack.packed import INDEX

if TYPE_CHECKING:
    from weighmaster.pack.packed import Index

__all__ = ["bits", "encoder_pairs", "index_document", "is_pack"]


def is_pack(directory: Path) -> bool:
    """Tell whether a directory is a pack, and no manifest."""
    return (directory / INDEX).is_file()


def bits(value: Fraction) -> str:
    """Return bits per weight with four digits after the point, rounded up."""
    tenthousandths = -(-value.numerator * 10_000 // value.denominator)
    return f"{tenthousandths // 10_000}.{tenthousandths % 10_000:04}"


def index_document(index: Index) -> dict[str, object]:
    """Return the main facts of an index as JSON."""
    return {
        "encoder": index.encoder.to_json(),
        "calibration": index.calibration and index.calibration.to_json(),
        "relativeSquaredError": index.relative_squared_error,
        "tensors": len(index.tensors),
        "codecs": dict(sorted(Counter(tensor.codec for tensor in index.tensors).items())),
        "elements": index.elements,
        "bytes": str(sum(tensor.nbytes for tensor in index.tensors)),
        "shards": len(index.shards),
        "files": len(index.files),
        "source": [file.to_json() for file in index.source],
    }


def encoder_pairs(index: Index) -> list[tuple[str, str]]:
    """Return lines about how a pack was made."""
    encoder, calibration = index.encoder, index.calibration
    asked = "" if encoder.bits is None else f", {encoder.bits} bits asked for"
    codecs = Counter(tensor.codec for tensor in index.tensors)
    text = "none"
    if calibration is not None:
        what = "written by the model itself" if calibration.kind == "self" else "from a file"
        text = f"{count(calibration.tokens, 'token')} {what}, SHA-256 {calibration.sha256}"
    return [
        ("encoder", f"{encoder.name} {encoder.version}, profile {encoder.profile}{asked}"),
        ("parameters", "\n".join(f"{key}: {value}" for key, value in encoder.parameters) or "none"),
        ("calibration", text),
        ("deviation", f"{index.relative_squared_error} relative squared error of the weights"),
        ("tensors", ", ".join(f"{number:,} {codec}" for codec, number in sorted(codecs.items()))),
    ]
