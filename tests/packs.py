# SPDX-License-Identifier: Apache-2.0
"""Small models and packs of them, for the tests of the container."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.core.tensor import TensorView
from weighmaster.flows import packing
from weighmaster.flows.packing import PackResult, pack_model
from weighmaster.pack.coder import Levels, NumpyBackend, encode_exact, encode_levels
from weighmaster.pack.index import INDEX, index_bytes, parse_index
from weighmaster.pack.packed import Index
from weighmaster.pack.plan import Coded

Tensors = Mapping[str, tuple[str, tuple[int, ...], bytes]]

SCALE = 0x3C00
"""2^-7 in bfloat16."""


def values(dtype: str, shape: tuple[int, ...], seed: int = 0) -> bytes:
    """Return the bytes of normally distributed weights."""
    drawn = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * np.float32(0.02)
    if dtype == "bfloat16":
        return (drawn.view(np.uint32) >> 16).astype("<u2").tobytes()
    return drawn.astype({"float16": "<f2", "float32": "<f4", "float64": "<f8"}[dtype]).tobytes()


def tiny() -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return a model of a matrix, a bias and a counter."""
    return {
        "a.weight": ("bfloat16", (6, 40), values("bfloat16", (6, 40))),
        "a.bias": ("float32", (6,), values("float32", (6,))),
        "steps": ("int64", (), bytes(8)),
    }


def write_model(folder: Path, tensors: Tensors, files: Mapping[str, str] | None = None) -> Path:
    """Write a model directory with one weight file."""
    folder.mkdir(parents=True)
    data = safetensors_bytes(((n, *t) for n, t in tensors.items()), {"format": "pt"})
    (folder / "model.safetensors").write_bytes(data)
    for path, text in ({"config.json": "{}"} if files is None else files).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def write_sharded(folder: Path, shards: Iterable[Tensors]) -> Path:
    """Write a model directory with a weight file for each of `shards`, and their index."""
    folder.mkdir(parents=True)
    listed = list(shards)
    weight_map = {}
    for i, tensors in enumerate(listed, 1):
        name = f"model-{i:05}-of-{len(listed):05}.safetensors"
        (folder / name).write_bytes(safetensors_bytes(((n, *t) for n, t in tensors.items()), {"format": "pt"}))
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


class TinyEncoder:
    """Codes every matrix, however small: bfloat16 by levels if there are `bits`, else by planes."""

    def __init__(self, profile: str = "exact") -> None:
        self.profile = profile

    def parameters(self) -> dict[str, str]:
        return {"step": "0.0078125"} if self.profile == "datafree" else {}

    def state(self) -> bytes:
        return b'{"profile":"exact"}'

    def encode(self, view: TensorView) -> Coded:
        data = np.frombuffer(view.read(0, view.nbytes), np.uint8)
        if view.dtype != "bfloat16" or len(view.shape) != 2 or not view.nbytes:
            return Coded(codec="raw-v1", blob=data.tobytes(), squared_error=0.0, squared=0.0)
        rows, cols = view.shape
        if self.profile == "exact":
            blob = encode_exact(data, view.dtype, rows, cols, NumpyBackend())
            return Coded(codec="exact-v1", blob=blob, squared_error=0.0, squared=1.0)
        weights = (data.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(rows, cols)
        levels = np.rint(weights * 2**7).clip(-255, 255).astype(np.int16)
        none = np.empty(0, np.int64)
        matrix = Levels(
            dtype=view.dtype,
            levels=levels,
            row_scale=np.full(rows, 0x3F80, np.uint16),
            col_scale=np.full(cols, SCALE, np.uint16),
            patch_at=none,
            patch_bits=none.astype(np.uint16),
        )
        error = float(np.sum((levels / 2**7 - weights.astype(np.float64)) ** 2))
        squared = float(np.sum(weights.astype(np.float64) ** 2))
        blob = encode_levels(matrix, NumpyBackend())
        return Coded(codec="five-v1", blob=blob, squared_error=error, squared=squared)


def pack_tiny(monkeypatch: Any, source: Path, out: Path, *, profile: str = "exact", **options: Any) -> PackResult:
    """Pack with `TinyEncoder`, so that small tensors are coded too."""
    with monkeypatch.context() as patch:
        patch.setattr(packing, "new_encoder", lambda *_: (TinyEncoder(profile), None))
        patch.setattr(packing, "resumed_encoder", lambda *_: TinyEncoder(profile))
        bits = None if profile == "exact" else "5"
        return pack_model(source, out, profile=profile, bits=bits, **options)


def read_index(pack: Path) -> Index:
    """Return the index of a pack."""
    return parse_index((pack / INDEX).read_bytes(), INDEX)


def write_index(pack: Path, index: Index) -> None:
    """Put another index in the place of the one of a pack."""
    (pack / INDEX).write_bytes(index_bytes(index))
