# SPDX-License-Identifier: Apache-2.0
"""Write small safetensors files, such as probe sets: the same tensors always give the same bytes.

Source: the format section of the safetensors README (huggingface/safetensors). Tensors lie in descending order of their
element size, then by the UTF-8 bytes of their names, so that each element is aligned; the header is the RFC 8785 form,
padded with spaces to a multiple of 8.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

from weighmaster.core.canonical import dumps
from weighmaster.core.dtype import DTYPES, SAFETENSORS_NAMES

__all__ = ["safetensors_bytes"]

_NAMES: Final = {ours: theirs for theirs, ours in SAFETENSORS_NAMES.items()}
_ALIGNMENT: Final = 8


def safetensors_bytes(tensors: Iterable[tuple[str, str, tuple[int, ...], bytes]], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file in memory.

    Args:
        tensors: name (unique, NFC), dtype (a name of `core.dtype.DTYPES` that safetensors has too), shape, and the
            row-major little-endian bytes.
        metadata: texts for ``__metadata__``; left out when empty.

    Raises:
        ValueError: a name, dtype, shape or length that the format does not have.
    """
    placed = sorted(tensors, key=lambda t: (-DTYPES.get(t[1], 0), t[0].encode("utf-8")))
    header: dict[str, object] = {"__metadata__": _texts(metadata)} if metadata else {}
    offset = 0
    for name, dtype, shape, data in placed:
        _check(name, dtype, shape, len(data))
        if name in header:
            raise ValueError(f"{name!r}: the name is given twice")
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = dumps(header)
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *(data for _, _, _, data in placed)])


def _texts(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise ValueError(f"__metadata__.{key}: expected a text, found {type(value).__name__}")
    return dict(metadata)


def _check(name: str, dtype: str, shape: tuple[int, ...], nbytes: int) -> None:
    if not name or name == "__metadata__" or not unicodedata.is_normalized("NFC", name):
        raise ValueError(f"{name!r}: not a tensor name (not empty, not __metadata__, NFC)")
    if dtype not in _NAMES:
        raise ValueError(f"{name!r}: safetensors has no dtype {dtype!r}")
    if any(size < 0 for size in shape):
        raise ValueError(f"{name!r}: a negative size in {shape}")
    if nbytes != (wanted := math.prod(shape) * DTYPES[dtype]):
        raise ValueError(f"{name!r}: {dtype} of shape {shape} has {wanted} bytes, not {nbytes}")
