# SPDX-License-Identifier: Apache-2.0
"""Write safetensors files, small ones whole: the same tensors always give the same bytes.

Source: the format section of the safetensors README (huggingface/safetensors). Tensors lie in descending order of their
element size, then by the UTF-8 bytes of their names, so that each element is aligned; the header is the RFC 8785 form,
padded with spaces to a multiple of 8.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from weighmaster.core.canonical import dumps
from weighmaster.core.dtype import DTYPES, SAFETENSORS_NAMES

__all__ = ["Form", "file_order", "header_bytes", "safetensors_bytes"]

_NAMES: Final = {ours: theirs for theirs, ours in SAFETENSORS_NAMES.items()}
_ALIGNMENT: Final = 8

Form: TypeAlias = tuple[str, str, tuple[int, ...], int]
"""Name, dtype, shape and number of bytes of a tensor."""


def safetensors_bytes(tensors: Iterable[tuple[str, str, tuple[int, ...], bytes]], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file in memory.

    Args:
        tensors: name (unique, NFC), dtype (a name of `core.dtype.DTYPES` that safetensors has too), shape, and the
            row-major little-endian bytes.
        metadata: texts for ``__metadata__``; left out when empty.

    Raises:
        ValueError: a name, dtype, shape or length that the format does not have.
    """
    data_of: dict[str, bytes] = {}
    forms = []
    for name, dtype, shape, data in tensors:
        if name in data_of:
            raise ValueError(f"{name!r}: the name is given twice")
        data_of[name] = data
        forms.append((name, dtype, shape, len(data)))
    return b"".join([header_bytes(forms, metadata), *(data_of[name] for name in file_order(forms))])


def file_order(forms: Iterable[Form]) -> list[str]:
    """Return the names of tensors in the order in which their bytes lie."""
    return [form[0] for form in sorted(forms, key=_place)]


def _place(form: Form) -> tuple[int, bytes]:
    return -DTYPES.get(form[1], 0), form[0].encode("utf-8")


def header_bytes(forms: Iterable[Form], metadata: Mapping[str, str]) -> bytes:
    """Return what stands before the bytes of the tensors: the length of the header, and the header.

    Args:
        forms: name (unique, NFC), dtype, shape and number of bytes.
        metadata: texts for ``__metadata__``; left out when empty.

    Raises:
        ValueError: a name, dtype, shape or length that the format does not have.
    """
    header: dict[str, object] = {"__metadata__": _texts(metadata)} if metadata else {}
    offset = 0
    for name, dtype, shape, nbytes in sorted(forms, key=_place):
        _check(name, dtype, shape, nbytes)
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    text = dumps(header)
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


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
