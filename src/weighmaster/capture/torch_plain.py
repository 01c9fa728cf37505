# SPDX-License-Identifier: Apache-2.0
"""Write plain Python values as texts that are the same in every process: scalars, and containers of nothing else."""

from __future__ import annotations

import enum
import hashlib
import io
import logging
import re
import threading
import types
import weakref
from pathlib import PurePath
from typing import Any, Final

import numpy as np
import torch

__all__ = ["is_opaque", "long_value", "plain_text"]

_SHOWN: Final = 512
"""Characters of a fact that are written out; a longer one is written as its digest and length."""

_OPAQUE: Final = (
    types.ModuleType,
    types.BuiltinFunctionType,
    types.CodeType,
    logging.Logger,
    io.IOBase,
    re.Pattern,
    weakref.ref,
    torch.Generator,
    type(threading.Lock()),
    type(threading.RLock()),
    threading.local,
    torch._C._SDPBackend if hasattr(torch._C, "_SDPBackend") else type(None),
)
"""Kinds of objects of which only the class is recorded: they hold no tensors that a kernel reads through Python."""


_WALKED: Final = (
    list,
    tuple,
    dict,
    set,
    frozenset,
    types.FunctionType,
    types.MappingProxyType,
    types.MethodType,
)
"""Kinds of builtin objects whose contents the walk follows."""


def is_opaque(value: object) -> bool:
    """Tell whether only the class of `value` is recorded."""
    return isinstance(value, _OPAQUE) or (
        type(value).__module__ in ("builtins", "torch._C")
        and not hasattr(value, "__dict__")
        and not isinstance(value, _WALKED)
    )


def long_value(text: str) -> str:
    """Return `text`, or its digest and length where it is long or is no valid Unicode."""
    data = text.encode("utf-8", "surrogatepass")
    if len(text) <= _SHOWN and "\x00" not in text:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            pass
        else:
            return text
    return f"sha256:{hashlib.sha256(data).hexdigest()} ({len(data)} bytes)"


def plain_text(value: Any) -> str | None:  # noqa: C901  # a decision table
    """Return a stable text of a plain value, or None where it is none.

    Plain are None, booleans, numbers (floats in hexadecimal, so that no bit is lost), strings, bytes, enum members,
    dtypes, devices, sizes, paths' names, classes, numpy scalars, and lists, tuples, sets and dicts of plain values.
    """
    if value is None or isinstance(value, (bool, str)):
        return repr(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, int):
        return f"{int(value)}"
    if isinstance(value, float):
        return float(value).hex()
    if isinstance(value, complex):
        return f"{value.real.hex()}+{value.imag.hex()}j"
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return f"{type(value).__name__} sha256:{hashlib.sha256(data).hexdigest()} ({len(data)} bytes)"
    if isinstance(value, np.generic):
        return f"{value.dtype} {value.tobytes().hex()}" if not value.dtype.hasobject else None
    if isinstance(value, (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.qscheme, range, slice)):
        return str(value)
    if isinstance(value, PurePath):
        return f"path {value.name!r}"
    if isinstance(value, type):
        return f"class {value.__module__}.{value.__qualname__}"
    if isinstance(value, types.BuiltinFunctionType):
        return f"builtin {getattr(value, '__module__', None)}.{value.__qualname__}"
    if value is Ellipsis or value is NotImplemented:
        return repr(value)
    return _plain_container(value)


def _plain_container(value: Any) -> str | None:
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        parts = _all_plain(value)
        return None if parts is None else f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, (set, frozenset)):
        parts = _all_plain(value)
        return None if parts is None else f"{type(value).__name__}({', '.join(sorted(parts))})"
    if type(value) in (dict, types.MappingProxyType) or type(value).__name__ in ("OrderedDict", "defaultdict"):
        keys, values = _all_plain(value.keys()), _all_plain(value.values())
        if keys is None or values is None:
            return None
        return f"dict({', '.join(f'{k}: {v}' for k, v in zip(keys, values, strict=True))})"
    return None


def _all_plain(values: Any) -> list[str] | None:
    parts: list[str] = []
    for value in values:
        text = _nested(value)
        if text is None:
            return None
        parts.append(text)
    return parts


def _nested(value: Any) -> str | None:
    try:
        return plain_text(value)
    except RecursionError:  # a container that holds itself, or is nested without end: the walk reports its depth
        return None
