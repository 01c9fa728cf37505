# SPDX-License-Identifier: Apache-2.0
"""core.safetensors_header.parse_header."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.core.canonical import dumps
from weighmaster.core.dtype import DTYPES, SAFETENSORS_NAMES
from weighmaster.core.safetensors_header import Header, parse_header

JSON = True
SEEDS = ()
INPUTS = (
    b"{}",
    b'{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}   ',
    b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"I8","shape":[0],"data_offsets":[4,4]}}',
    b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}',
    b'{"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
)
_LABELS = {ours: label for label, ours in SAFETENSORS_NAMES.items()}


def one(data: bytes) -> None:
    """What is accepted is written, and read as the same entries, without holes or overlaps."""
    round_trip(data, read=_read, write=_written, canonical=False)


def _read(data: bytes) -> Header:
    header = parse_header(data, "file")
    position = 0
    for entry in header.entries:
        size = DTYPES[entry.dtype]
        for extent in entry.shape:
            size *= extent
        if (entry.begin, entry.end) != (position, position + size):
            raise AssertionError(entry)
        position = entry.end
    return header


def _written(header: Header) -> bytes:
    # Not in canonical order: empty tensors at one offset stand in the order of the document.
    entries = (
        (e.name, {"dtype": _LABELS[e.dtype], "shape": e.shape, "data_offsets": (e.begin, e.end)})
        for e in header.entries
    )
    parts = [b'"__metadata__":' + dumps(dict(header.metadata)), *(dumps(n) + b":" + dumps(v) for n, v in entries)]
    return b"{" + b",".join(parts) + b"}"
