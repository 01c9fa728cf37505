# SPDX-License-Identifier: Apache-2.0
"""Write whole packs for the vectors from spec/pack.md, section 5: shards, index, digests, by hashlib and JSON alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]
Files = dict[str, bytes]

LABELS: Final = {
    "bfloat16": ("BF16", 2), "float16": ("F16", 2), "float32": ("F32", 4), "int64": ("I64", 8), "uint8": ("U8", 1),
    "bool": ("BOOL", 1), "float8_e4m3fn": ("F8_E4M3", 1), "complex64": ("C64", 8),
}  # fmt: skip
"""Dtype to its label in safetensors, and bytes of an element."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of a pack: what it is, what lies in the shard, and what is rebuilt from it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    codec: str
    blob: bytes
    data: bytes
    shard: int = 0

    def stored(self) -> tuple[str, list[int]]:
        """Return dtype and shape in the shard."""
        return (self.dtype, list(self.shape)) if self.codec == "raw-v1" else ("uint8", [len(self.blob)])


@dataclass(kw_only=True)
class Plan:
    """What a pack is made of; the functions edit what was made, so that one rule is broken and the rest agrees."""

    tensors: list[Tensor]
    profile: str = "datafree"
    bits: str | None = "5.0"
    parameters: Json = field(default_factory=lambda: {"tableBits": "12"})
    calibration: Json | None = None
    source: list[Json] = field(default_factory=lambda: [entry("model.safetensors", b"what was packed")])
    others: Files = field(
        default_factory=lambda: {"source/config.json": b"{}", "config.json": b'{"quantization_config":1}'}
    )
    deviation: Any = "0.0001"
    seals: Files = field(default_factory=dict)
    header: Callable[[Json], bytes] = lambda header: dumps(header)  # noqa: PLW0108  # defined below
    shard: Callable[[bytes], bytes] = lambda data: data
    shards: Callable[[Files], None] = lambda files: None
    index: Callable[[Json], None] = lambda index: None
    line: Callable[[bytes], bytes] = lambda line: line
    last: Callable[[str], str] = lambda digest: f"{digest}\n"
    after: Callable[[Files], None] = lambda files: None


def dumps(value: Any) -> bytes:
    """Return the RFC 8785 form of a value whose keys are ASCII."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def sha(data: bytes) -> str:
    """Return the SHA-256 as text."""
    return hashlib.sha256(data).hexdigest()


def entry(path: str, data: bytes) -> Json:
    """Return an entry of a file."""
    return {"path": path, "sha256": sha(data), "size": len(data)}


def fsverity(data: bytes) -> str:
    """Return the fs-verity digest of at most 64 KiB (spec/tensor-digest.md)."""
    root = hashlib.sha256(data.ljust(65_536, b"\0")).digest() if data else bytes(32)
    head = bytes([1, 1, 16, 0, 0, 0, 0, 0]) + len(data).to_bytes(8, "little")
    return sha(head + root.ljust(64, b"\0") + bytes(176))


def shard(tensors: list[Tensor], plan: Plan) -> bytes:
    """Return a safetensors file with its one header."""
    header: Json = {"__metadata__": {"format": "pt"}}
    at, data = 0, b""
    for t in sorted(tensors, key=lambda t: (-LABELS[t.stored()[0]][1], t.name.encode())):
        dtype, shape = t.stored()
        header[t.name] = {"data_offsets": [at, at + len(t.blob)], "dtype": LABELS[dtype][0], "shape": shape}
        at, data = at + len(t.blob), data + t.blob
    text = plan.header(header)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + plan.shard(data)


def described(t: Tensor) -> Json:
    """Return the entry of a tensor."""
    return {
        "blob": sha(t.blob), "codec": t.codec, "dtype": t.dtype, "fsverity64k": fsverity(t.data), "name": t.name,
        "sha256": sha(t.data), "shape": list(t.shape), "shard": t.shard,
    }  # fmt: skip


def made(plan: Plan) -> Files:
    """Return the files of a pack."""
    count = 1 + max(t.shard for t in plan.tensors)
    names = (
        ["model.safetensors"] if count == 1 else [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    )
    files = {name: shard([t for t in plan.tensors if t.shard == i], plan) for i, name in enumerate(names)}
    if count > 1:
        total = sum(len(t.blob) for t in plan.tensors)
        weights = {t.name: names[t.shard] for t in plan.tensors}
        document = {"metadata": {"total_size": total}, "weight_map": weights}
        files["model.safetensors.index.json"] = dumps(document) + b"\n"
    files |= plan.others
    plan.shards(files)
    index: Json = {
        "calibration": plan.calibration,
        "deviation": {"relativeSquaredError": plan.deviation},
        "encoder": {
            "bits": plan.bits, "name": "by hand", "parameters": plan.parameters, "profile": plan.profile,
            "version": "1",
        },
        "files": [entry(path, files[path]) for path in sorted(files, key=str.encode)],
        "format": "weighmaster-pack-v1",
        "shards": names,
        "source": plan.source,
        "tensors": [described(t) for t in sorted(plan.tensors, key=lambda t: t.name.encode())],
    }  # fmt: skip
    index = deepcopy(index)
    plan.index(index)
    line = plan.line(dumps(index)) + b"\n"
    files |= {"pack.index": line + plan.last(sha(line)).encode()} | plan.seals
    plan.after(files)
    return files
