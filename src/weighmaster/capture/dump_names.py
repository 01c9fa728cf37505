# SPDX-License-Identifier: Apache-2.0
"""Turn tensor names into file names and back, so that no two tensors share a file on any file system.

A name becomes ASCII: ``a-z 0-9 _ -`` and single inner dots stay, every other byte of its UTF-8 form becomes ``%`` and
two lowercase hexadecimal digits. Capitals are escaped too (``%57`` for ``W``): file systems that ignore case then still
keep ``W`` and ``w`` apart. A result longer than `MAX_BYTES` is cut and completed with ``~`` and the SHA-256 of the
full name; that one cannot be turned back, and the index beside the dump says which tensor it is.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from weighmaster.errors import MalformedArtefact

__all__ = ["MAX_BYTES", "escape", "unescape"]

MAX_BYTES: Final = 200
"""Bytes of an escaped name; 55 are left to suffixes before the usual limit of 255."""

_KEPT: Final = re.compile(rb"[a-z0-9_.-]")
_DOT: Final = re.compile(r"(?:^|(?<=\.))\.|\.$")
_ESCAPED: Final = re.compile(r"(?:[a-z0-9_.-]|%[0-9a-f]{2})+")
_SHORTENED: Final = re.compile(r"[a-z0-9_.%-]+~[0-9a-f]{64}")
_HEX_DIGITS: Final = 64


def escape(name: str) -> str:
    """Return the file name of a tensor: injective, also when case is ignored (see the module's docstring).

    Raises:
        ValueError: `name` is empty or holds a lone surrogate.
    """
    if not name:
        raise ValueError("the name of a tensor is not empty")
    full = _escape_dots("".join(_escape_byte(byte) for byte in name.encode("utf-8")))
    if len(full) <= MAX_BYTES:
        return full
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()
    return f"{full[: MAX_BYTES - _HEX_DIGITS - 1]}~{digest}"


def _escape_byte(byte: int) -> str:
    one = bytes((byte,))
    return one.decode("ascii") if _KEPT.match(one) else f"%{byte:02x}"


def _escape_dots(text: str) -> str:
    """Escape a leading dot, a final dot, and each dot that follows another."""
    return _DOT.sub("%2e", text)


def unescape(filename: str) -> str:
    """Return the tensor name that `escape` gave this file name.

    Raises:
        MalformedArtefact: a shortened name (only the index of the dump knows it), or not what `escape` returns for
            any name.
    """
    if _SHORTENED.fullmatch(filename):
        found = "a shortened one, which only the index of the dump can turn back"
        raise MalformedArtefact(filename, "", expected="an escaped tensor name", found=found)
    name = _decode(filename) if _ESCAPED.fullmatch(filename) else None
    if name is None or escape(name) != filename:
        raise MalformedArtefact(filename, "", expected="an escaped tensor name", found="another spelling")
    return name


def _decode(filename: str) -> str | None:
    raw = re.sub(rb"%([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode("ascii")), filename.encode("ascii"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
