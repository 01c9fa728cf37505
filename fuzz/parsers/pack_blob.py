# SPDX-License-Identifier: Apache-2.0
"""pack.layout.parse_layout with pack.tables.read_tables, and what decodes the bodies behind it.

An input is a blob whose CRC-32s are made anew before it is read, so that no checksum hides what they cover; an inflated
side section of an input may stand in place of the deflated one.
"""

from __future__ import annotations

import contextlib
import io
import runpy
import struct
import zlib
from typing import Any, Final

from fuzz.harness import ROOT, refused_or_read, require
from weighmaster.errors import MalformedArtefact
from weighmaster.pack.backends import available
from weighmaster.pack.coder import decode_blob
from weighmaster.pack.layout import Layout, parse_layout
from weighmaster.pack.tables import read_tables

SEEDS = ("vectors/pack/*/blob.bin",)
_HEADER, _RECORD, _MOST = 44, 12, 1 << 20
_BACKENDS = available()
_HAND: Final[dict[str, Any]] = runpy.run_path(str(ROOT / "tools" / "unpack_by_hand.py"), run_name="by_hand")


def one(data: bytes) -> None:
    """All backends give the same bytes, or the same fault, and so does the script that unpacks by hand."""
    for blob in (data, resealed(data)):
        layout = refused_or_read(blob, _shape)
        if layout is not None and layout[0] * layout[1] > _MOST:
            continue
        outcomes = {backend.name: _decoded(blob, backend) for backend in _BACKENDS}
        require(len(set(outcomes.values())) == 1, f"backends differ: {outcomes}")
        found = next(iter(outcomes.values()))
        require(_by_hand(blob) == (found if isinstance(found, bytes) else None), f"by hand it is not: {found!r}")
    for levels in (False, True):
        refused_or_read(data, lambda d, levels=levels: read_tables(d, levels=levels, table_bits=12, file="f")[1])


def _shape(blob: bytes) -> tuple[int, int]:
    layout: Layout = parse_layout(memoryview(blob), "f")
    require(layout.chunks[-1].stop == len(blob), "bytes that belong to nothing")
    require(all(int(t.frequencies.sum()) == 1 << layout.shape.table_bits for t in layout.tables if t), "a table's sum")
    return layout.shape.rows, layout.shape.cols


def _decoded(blob: bytes, backend: object) -> object:
    try:
        return decode_blob(memoryview(blob), "f", backend)[1].tobytes()  # type: ignore[arg-type]
    except MalformedArtefact as error:
        return str(error)


def _by_hand(blob: bytes) -> bytes | None:
    """Return the bytes that the script rebuilds, or None where it refuses."""

    def read(offset: int, count: int) -> bytes:
        return blob[offset : offset + count]

    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return b"".join(_HAND["blocks"](read, _HAND["open_blob"](read, len(blob), "f"), "f"))
        except SystemExit:
            return None


def resealed(data: bytes) -> bytes:
    """Return the blob with a side section that inflates, and right lengths and CRC-32s, as far as it goes."""
    if len(data) < _HEADER:
        return data
    out = bytearray(data)
    rows, _, band, length = struct.unpack_from("<QQII", out, 8)
    if _HEADER + length <= len(out):
        side = bytes(out[_HEADER : _HEADER + length])
        try:
            plain = zlib.decompress(side)
        except zlib.error:
            plain = side  # what the mutation left of it is the section itself
            out[_HEADER : _HEADER + length] = side = zlib.compress(plain, 1)
            length = len(side)
        struct.pack_into("<III", out, 28, length, len(plain), zlib.crc32(side))
    struct.pack_into("<I", out, 40, zlib.crc32(out[:40]))
    count = -(-rows // band) if band else 0
    if not 0 < count <= (len(out) - _HEADER - length) // _RECORD:
        return bytes(out)
    _reseal_bodies(out, _HEADER + length, count)
    return bytes(out)


def _reseal_bodies(out: bytearray, table: int, count: int) -> None:
    """Give each body that lies within the blob the CRC-32 of what stands there."""
    codec, dtype, variant = out[4], out[5], out[7]
    rows, cols, band = struct.unpack_from("<QQI", out, 8)
    planes = 0 if codec == 1 else 1 if variant else {1: 1, 2: 1, 3: 3}.get(dtype, 0)
    item, at = {3: 4, 4: 1, 5: 1}.get(dtype, 2), table + _RECORD * count
    for i in range(count):
        words, patches = struct.unpack_from("<II", out, table + _RECORD * i)
        elements = min(band, rows - i * band) * cols
        stop = at + 128 + 2 * words + planes * elements + (4 + item) * patches
        if stop > len(out):
            return
        struct.pack_into("<I", out, table + _RECORD * i + 8, zlib.crc32(out[at:stop]))
        at = stop
