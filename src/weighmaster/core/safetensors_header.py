# SPDX-License-Identifier: Apache-2.0
"""Parse a safetensors file that is in memory, or the header of one, strictly; pure.

Source of the format: the README of huggingface/safetensors. A subset of what the library accepts is accepted: unknown
keys, repeated keys, ``null`` for ``__metadata__``, names that are empty or not NFC, and headers that end in anything
but spaces are refused here as well.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from weighmaster.core.canonical import MAX_SAFE_INTEGER, loads
from weighmaster.core.dtype import DTYPES, SAFETENSORS_NAMES
from weighmaster.core.fields import Fields
from weighmaster.errors import MalformedArtefact

__all__ = ["Entry", "Header", "parse_file", "parse_header", "show"]

_METADATA: Final = "__metadata__"
_SHOWN: Final = 200
_PREFIX: Final = 8
"""Bytes before the header that hold its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a header: name, our dtype, shape, and its bytes [begin, end) after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A parsed header: texts of ``__metadata__`` by key, and the entries in the order of their bytes, without gaps."""

    metadata: tuple[tuple[str, str], ...]
    entries: tuple[Entry, ...]


def parse_file(data: bytes, file: str) -> tuple[tuple[tuple[Entry, bytes], ...], tuple[tuple[str, str], ...]]:
    """Parse a whole file.

    Returns:
        Each entry with its bytes, in their order, and the texts of ``__metadata__`` by key.

    Raises:
        MalformedArtefact: as `parse_header`, or the file is cut, or has bytes after its last tensor.
    """
    length, most = int.from_bytes(data[:_PREFIX], "little"), max(len(data) - _PREFIX, 0)
    if len(data) < _PREFIX or not 0 < length <= most:
        raise MalformedArtefact(file, "header length", expected=f"1 to {most}", found=str(length))
    header, base = parse_header(data[_PREFIX : _PREFIX + length], file), _PREFIX + length
    end = base + (header.entries[-1].end if header.entries else 0)
    if end != len(data):
        raise MalformedArtefact(file, "", expected=f"{end} bytes", found=f"{len(data)} bytes")
    return tuple((e, data[base + e.begin : base + e.end]) for e in header.entries), header.metadata


def parse_header(data: bytes, file: str) -> Header:
    """Parse the JSON header of a safetensors file (without the 8 bytes of its length).

    Raises:
        MalformedArtefact: it breaks a rule of the format or of this module's docstring; `file` names it.
    """
    if data[:1] != b"{":
        raise MalformedArtefact(file, "header", expected="'{' as its first byte", found=repr(data[:1])[1:])
    text = data.rstrip(b" ")
    if text[-1:] != b"}":
        raise MalformedArtefact(file, "header", expected="'}', then only spaces", found=repr(text[-1:])[1:])
    top: dict[str, object] = loads(text, file)
    metadata = _read_metadata(top.pop(_METADATA, {}), file)
    entries = sorted((_read_entry(n, v, file) for n, v in top.items()), key=lambda e: (e.begin, e.end))
    _require_contiguous(entries, file)
    return Header(metadata=metadata, entries=tuple(entries))


def _read_metadata(value: object, file: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise MalformedArtefact(file, _METADATA, expected="an object of texts", found=repr(value)[:_SHOWN])
    fields = Fields(value, file=file, path=_METADATA)
    return tuple((key, fields.text(key, empty=True)) for key in sorted(value))


def _read_entry(name: str, value: object, file: str) -> Entry:
    if not name or not unicodedata.is_normalized("NFC", name):
        expected = "a tensor name in Unicode form NFC"
        raise MalformedArtefact(file, show(name), expected=expected, found=ascii(name)[:_SHOWN])
    fields = Fields(value, file=file, path=show(name))
    label, shape, offsets = fields.text("dtype"), fields.integers("shape"), fields.integers("data_offsets")
    fields.done()
    if label not in SAFETENSORS_NAMES:
        raise fields.fault("dtype", f"one of {', '.join(SAFETENSORS_NAMES)}", repr(label[:_SHOWN]))
    if len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004  # begin and end
        raise fields.fault("data_offsets", "[begin, end], begin <= end", show(str(list(offsets))))
    dtype = SAFETENSORS_NAMES[label]
    entry = Entry(name=name, dtype=dtype, shape=shape, begin=offsets[0], end=offsets[1])
    wanted = _size(shape, DTYPES[dtype], fields)
    if entry.nbytes != wanted:
        expected = f"{wanted} bytes for {label} of shape {show(str(list(shape)))}"
        raise fields.fault("data_offsets", expected, f"{entry.nbytes} bytes, {list(offsets)}")
    return entry


def _size(shape: tuple[int, ...], itemsize: int, fields: Fields) -> int:
    """Return the bytes of a tensor; sizes of zero count as one against the limit, as they do in strides."""
    extent = itemsize
    for size in shape:
        extent *= max(size, 1)
        if extent > MAX_SAFE_INTEGER:
            raise fields.fault("shape", "at most 2^53 - 1 bytes", show(str(list(shape))))
    return 0 if 0 in shape else extent


def _require_contiguous(entries: Iterable[Entry], file: str) -> None:
    """Require that each tensor begins where the one before it ends, the first one at 0."""
    position, before = 0, "the header"
    for entry in entries:
        if entry.begin != position:
            kind = "an overlap" if entry.begin < position else "a hole"
            found = f"{kind}: begin {entry.begin}"
            field = f"{show(entry.name)}.data_offsets"
            raise MalformedArtefact(file, field, expected=f"begin {position}, where {before} ends", found=found)
        position, before = entry.end, show(entry.name)


def show(text: str) -> str:
    """Return `text` as it may stand in a message: short, and without control characters."""
    return text if text.isprintable() and 0 < len(text) <= _SHOWN else ascii(text[:_SHOWN])
