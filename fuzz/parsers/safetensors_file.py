# SPDX-License-Identifier: Apache-2.0
"""core.safetensors_header.parse_file."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.safetensors_header import parse_file
from weighmaster.core.safetensors_write import safetensors_bytes

JSON = False
SEEDS = ()
INPUTS = (
    safetensors_bytes((), {}),
    safetensors_bytes((("a", "float32", (2,), b"01234567"), ("e", "int8", (0,), b"")), {"k": "v"}),
)


def one(data: bytes) -> None:
    """What is accepted is written, and read as the same tensors."""
    round_trip(data, read=lambda d: sorted(_read(d)), write=_written, canonical=False)


def _read(data: bytes) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    return [(e.name, e.dtype, e.shape, raw) for e, raw in parse_file(data, "file")[0]]


def _written(tensors: list[tuple[str, str, tuple[int, ...], bytes]]) -> bytes:
    return safetensors_bytes(tensors, {})
