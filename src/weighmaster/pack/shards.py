# SPDX-License-Identifier: Apache-2.0
"""Which tensor goes to which shard, what stands in a shard before the blobs, and how much all that is not blobs takes.

The header of a shard follows from its entries alone: its one form is that of `core.safetensors_write`, and a reader
refuses another, so that no bit of it can change unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from weighmaster.core.canonical import dumps
from weighmaster.core.safetensors_write import Form, header_bytes
from weighmaster.core.tensor import TensorView
from weighmaster.pack.index import index_bytes
from weighmaster.pack.index_rules import SHARD_INDEX, shard_names
from weighmaster.pack.packed import RAW, Calibration, EncoderRecord, Index, PackedFile, PackedTensor

__all__ = ["METADATA", "SHARD_BYTES", "fixed_bytes", "plan_shards", "shard_header", "shard_index_bytes", "stored_form"]

SHARD_BYTES: Final = 2 << 30
"""Bytes of the source that one shard takes up: what a killed run may have to do again."""

METADATA: Final = {"format": "pt"}
"""Of every shard; loaders ask for it."""

_DIGEST: Final = "0" * 64
_PARAMETERS: Final = 640
"""Bytes allowed for the encoder's parameters, which nobody knows before the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sized:
    tensor: PackedTensor
    nbytes: int


def plan_shards(views: Iterable[TensorView], limit: int = SHARD_BYTES) -> tuple[tuple[TensorView, ...], ...]:
    """Cut the tensors, in their order, into groups of at most `limit` bytes; a larger tensor has one of its own."""
    groups: list[list[TensorView]] = []
    size = 0
    for view in views:
        if not groups or size + view.nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append(view)
        size += view.nbytes
    return tuple(map(tuple, groups))


def stored_form(tensor: PackedTensor, nbytes: int) -> Form:
    """Return the form in which a tensor lies in its shard: itself, or a row of bytes."""
    if tensor.codec == RAW:
        return tensor.name, tensor.dtype, tensor.shape, nbytes
    return tensor.name, "uint8", (nbytes,), nbytes


def shard_header(forms: Iterable[Form]) -> bytes:
    """Return what stands in a shard before the blobs."""
    return header_bytes(forms, METADATA)


def shard_index_bytes(shards: Sequence[str], shard_of: Iterable[tuple[str, int]], total: int) -> bytes:
    """Return ``model.safetensors.index.json``.

    Args:
        shards: names of the shards.
        shard_of: name of each tensor, and the position of its shard.
        total: bytes of all blobs.
    """
    weight_map = {name: shards[position] for name, position in shard_of}
    return dumps({"metadata": {"total_size": total}, "weight_map": weight_map}) + b"\n"


def fixed_bytes(
    groups: Sequence[Sequence[TensorView]],
    *,
    source: tuple[PackedFile, ...],
    others: tuple[PackedFile, ...],
    calibrated: bool,
) -> int:
    """Return, within some tens of bytes and rather more than less, what headers, index and shard index will take."""
    shards = shard_names(len(groups))
    sized = [_Sized(tensor=_blank(view, i), nbytes=view.nbytes) for i, group in enumerate(groups) for view in group]
    ordered = sorted(sized, key=lambda s: s.tensor.name.encode("utf-8"))
    listed = [PackedFile(path=p, sha256=_DIGEST, size=10**10) for p in (*shards, SHARD_INDEX)]
    index = Index(
        encoder=EncoderRecord(
            name="weighmaster",
            version="0" * 12,
            profile="calibrated",
            bits="0.0",
            parameters=(("p", "0" * _PARAMETERS),),
        ),
        calibration=Calibration(kind="self", sha256=_DIGEST, tokens=10**9) if calibrated else None,
        source=source,
        files=(*listed, *others),
        shards=shards,
        tensors=tuple(s.tensor for s in ordered),
        relative_squared_error="0." + "0" * 12,
    )
    headers = [
        shard_header(stored_form(s.tensor, s.nbytes) for s in sized if s.tensor.shard == i) for i in range(len(groups))
    ]
    total = sum(map(len, headers)) + len(index_bytes(index))
    if len(groups) > 1:
        total += len(shard_index_bytes(shards, ((s.tensor.name, s.tensor.shard) for s in sized), 10**12))
    return total


def _blank(view: TensorView, shard: int) -> PackedTensor:
    return PackedTensor(
        name=view.name,
        dtype=view.dtype,
        shape=view.shape,
        codec="exact-v1",
        shard=shard,
        blob=_DIGEST,
        sha256=_DIGEST,
        fsverity64k=_DIGEST,
    )
