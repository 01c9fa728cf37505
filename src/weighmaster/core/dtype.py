# SPDX-License-Identifier: Apache-2.0
"""The closed list of element types: name to bytes per element. Names are torch's without the ``torch.`` prefix."""

from __future__ import annotations

from typing import Final

__all__ = ["DTYPES", "SAFETENSORS_NAMES", "itemsize"]

DTYPES: Final[dict[str, int]] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "quint8": 1,
    "qint8": 1,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "float4_e2m1fn_x2": 1,
    "uint16": 2,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
    "uint32": 4,
    "int32": 4,
    "qint32": 4,
    "float32": 4,
    "uint64": 8,
    "int64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
"""Bytes per element. Adding a name is a new version of tensor-digest; changing one never happens."""

SAFETENSORS_NAMES: Final[dict[str, str]] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
}
"""Names of the safetensors header to ours."""


def itemsize(dtype: str) -> int:
    """Return the bytes per element of `dtype`.

    Raises:
        KeyError: the name is not on the closed list.
    """
    return DTYPES[dtype]
