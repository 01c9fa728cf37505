# SPDX-License-Identifier: Apache-2.0
"""The values of an index: what a pack says of its files, its tensors and its making (spec/pack.md, 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from weighmaster.core.dtype import DTYPES

__all__ = [
    "DTYPE_CODES",
    "EXACT",
    "FIVE",
    "INDEX",
    "RAW",
    "Calibration",
    "EncoderRecord",
    "Index",
    "PackedFile",
    "PackedTensor",
]

INDEX: Final = "pack.index"
"""The file that makes a directory a pack."""

DTYPE_CODES: Final = {"bfloat16": 1, "float16": 2, "float32": 3, "float8_e4m3fn": 4, "float8_e5m2": 5}
"""Dtypes that are coded, and their numbers in the header of a blob."""

FIVE: Final = "five-v1"
EXACT: Final = "exact-v1"
RAW: Final = "raw-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """A file: path with ``/``, relative; SHA-256; length in bytes."""

    path: str
    sha256: str
    size: int

    def to_json(self) -> dict[str, object]:
        """Return it as it stands in the index."""
        return {"path": self.path, "sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTensor:
    """A tensor of the model.

    Attributes:
        name: as in the checkpoint.
        dtype: of the rebuilt tensor.
        shape: of the rebuilt tensor.
        codec: ``five-v1``, ``exact-v1`` or ``raw-v1``.
        shard: position in the index's shards.
        blob: SHA-256 of its bytes in the shard.
        sha256: SHA-256 of the rebuilt bytes.
        fsverity64k: fs-verity digest of the rebuilt bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    codec: str
    shard: int
    blob: str
    sha256: str
    fsverity64k: str

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the rebuilt tensor."""
        return self.elements * DTYPES[self.dtype]

    def to_json(self) -> dict[str, object]:
        """Return it as it stands in the index."""
        names = ("name", "dtype", "shape", "codec", "shard", "blob", "sha256", "fsverity64k")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRecord:
    """What made the pack: name, version, profile, bits asked for (None for exact), parameters as pairs of texts."""

    name: str
    version: str
    profile: str
    bits: str | None
    parameters: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, object]:
        """Return it as it stands in the index."""
        names = ("name", "version", "profile", "bits")
        return {name: getattr(self, name) for name in names} | {"parameters": dict(self.parameters)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """On which tokens an encoder measured: ``self`` or ``file``; SHA-256 of them; how many."""

    kind: str
    sha256: str
    tokens: int

    def to_json(self) -> dict[str, object]:
        """Return it as it stands in the index."""
        return {"kind": self.kind, "sha256": self.sha256, "tokens": self.tokens}


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Everything that an index says.

    Attributes:
        encoder: what made the pack.
        calibration: on which tokens, or None.
        source: the weight files that were packed, ascending by path.
        files: every file of the pack but index and seals, ascending by path.
        shards: their names, in order.
        tensors: ascending by the UTF-8 bytes of their names.
        relative_squared_error: measured on the weights, decimal.
    """

    encoder: EncoderRecord
    calibration: Calibration | None
    source: tuple[PackedFile, ...]
    files: tuple[PackedFile, ...]
    shards: tuple[str, ...]
    tensors: tuple[PackedTensor, ...]
    relative_squared_error: str

    @property
    def elements(self) -> int:
        """Number of elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)
