# SPDX-License-Identifier: Apache-2.0
"""Digest what a replay returns, so that two runs can be compared bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from weighmaster.errors import UsageError

__all__ = ["output_sha256"]


def output_sha256(value: Any) -> str:
    """Return the SHA-256 of an output: tensors, bytes, text, whole numbers, and lists, tuples and mappings of them.

    Raises:
        UsageError: something else is in it, whose bytes nobody could compare.
    """
    digest = hashlib.sha256()
    for kind, data in _parts(value):
        digest.update(f"{kind} {len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[tuple[str, bytes]]:
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous()
        yield f"tensor {plain.dtype} {tuple(plain.shape)}", plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, bytes):
        yield "bytes", value
    elif isinstance(value, str | int) or value is None:
        yield type(value).__name__, repr(value).encode("utf-8", "surrogatepass")
    elif isinstance(value, Mapping):
        yield "mapping", str(len(value)).encode()
        for key, item in value.items():
            yield from _parts(key)
            yield from _parts(item)
    elif isinstance(value, list | tuple):
        yield "list", str(len(value)).encode()
        for item in value:
            yield from _parts(item)
    else:
        raise UsageError(f"replay: expected tensors, bytes, text or whole numbers, found {type(value).__qualname__}")
