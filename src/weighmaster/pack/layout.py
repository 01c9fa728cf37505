# SPDX-License-Identifier: Apache-2.0
"""The blob of a coded tensor: its header, side section and chunk table, read strictly and written (spec/pack.md, 2)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.packed import DTYPE_CODES
from weighmaster.pack.tables import CLASSES, Table, read_tables, table_bytes

__all__ = [
    "HEADER",
    "LANES",
    "LARGEST",
    "LEVELS",
    "PLANES",
    "STATES",
    "Chunk",
    "Layout",
    "Shape",
    "assemble",
    "classes_of",
    "float_of",
    "front_of",
    "parse_layout",
    "raw_planes",
]

LANES: Final = 32
STATES: Final = 4 * LANES
"""Bytes of the states at the start of a chunk."""

LEVELS, PLANES = 1, 2
"""Codecs."""

ITEMSIZE: Final = {"bfloat16": 2, "float16": 2, "float32": 4, "float8_e4m3fn": 1, "float8_e5m2": 1}
MAX_CHUNK: Final = 1 << 24
"""Elements."""

LARGEST: Final = {"bfloat16": (2 - 2**-7) * 2.0**127, "float16": 65504.0, "float32": (2 - 2**-23) * 2.0**127}
"""Largest finite number of a dtype that levels can have."""

_MAGIC: Final = b"WMT1"
_HEADER: Final = struct.Struct("<4sBBBBQQIIIII")
HEADER: Final = _HEADER.size
"""Bytes of the header."""

_RECORD: Final = np.dtype([("words", "<u4"), ("patches", "<u4"), ("crc", "<u4")])
_TABLE_BITS: Final = range(11, 15)
_SMALLEST_NORMAL: Final = 2.0**-126


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the header says: codec, dtype, table bits B, variant, rows, cols, and rows per chunk."""

    codec: int
    dtype: str
    table_bits: int
    variant: int
    rows: int
    cols: int
    band: int

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.rows // self.band)

    @property
    def itemsize(self) -> int:
        """Bytes of a rebuilt element."""
        return ITEMSIZE[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Where one chunk lies: `begin` of its body in the blob, `stop`; its rows; words, patches and CRC-32."""

    begin: int
    stop: int
    row: int
    rows: int
    words: int
    patches: int
    crc: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """All of a blob but its bodies, checked.

    Attributes:
        shape: the header.
        tables: one per class, None where the class does not occur.
        row_scale: uint16 [rows], bits of bfloat16; empty for planes.
        col_scale: uint16 [cols], bits of bfloat16; empty for planes.
        row_class: int8 [rows].
        col_class: int8 [cols].
        chunks: where the bodies lie, in order.
        file: names the blob in errors.
    """

    shape: Shape
    tables: tuple[Table | None, ...]
    row_scale: npt.NDArray[np.uint16]
    col_scale: npt.NDArray[np.uint16]
    row_class: npt.NDArray[np.int8]
    col_class: npt.NDArray[np.int8]
    chunks: tuple[Chunk, ...]
    file: str


def raw_planes(shape: Shape) -> int:
    """Return the raw bytes per element that stand beside its symbol."""
    if shape.codec == LEVELS:
        return 0
    return 1 if shape.variant == 1 else shape.itemsize - 1


def float_of(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return bfloat16 given as bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def classes_of(layout: Layout, first: int, last: int) -> npt.NDArray[np.intp]:
    """Return the class of each element of rows [first, last): intp [last - first, cols]."""
    total = layout.row_class[first:last, None].astype(np.intp) + layout.col_class[None, :]
    return np.clip(total, 0, CLASSES - 1, out=total)


def front_of(head: memoryview, file: str) -> tuple[Shape, int]:
    """Read the header alone: return what it says, and how many bytes of the blob stand before the bodies.

    Raises:
        MalformedArtefact: the header breaks a rule of spec/pack.md, 2.
    """
    shape, side_length, _, _ = _parse_header(head, file)
    return shape, HEADER + side_length + _RECORD.itemsize * shape.chunks


def parse_layout(blob: memoryview, file: str) -> Layout:
    """Read and check header, side section and chunk table; bodies are located, not read.

    Raises:
        MalformedArtefact: a rule of spec/pack.md, 1 or 2, is broken. Nothing is allocated for a size before that is
            checked against the blob.
    """
    shape, side_length, side_size, side_crc = _parse_header(blob, file)
    table_at = _HEADER.size + side_length
    bodies_at = table_at + _RECORD.itemsize * shape.chunks
    if bodies_at + shape.chunks * STATES > len(blob):
        raise _fault(file, "header", f"at least {bodies_at + shape.chunks * STATES} bytes", f"{len(blob)}")
    packed = bytes(blob[_HEADER.size : table_at])
    if (crc := zlib.crc32(packed)) != side_crc:
        raise _fault(file, "side section: CRC-32", f"{side_crc:08x}", f"{crc:08x}")
    side = _inflate(packed, side_size, file)
    tables, at = read_tables(side, levels=shape.codec == LEVELS, table_bits=shape.table_bits, file=file)
    row_scale, at = _read_scales(side, at, shape.rows, shape, "row scales", file)
    col_scale, at = _read_scales(side, at, shape.cols, shape, "column scales", file)
    if len(side) - at != shape.rows + shape.cols:
        raise _fault(file, "side section: classes", f"{shape.rows + shape.cols} bytes", f"{len(side) - at}")
    classes = np.frombuffer(side, np.int8, offset=at)
    if shape.codec == LEVELS:
        _check_products(row_scale, col_scale, tables, shape, file)
    return Layout(
        shape=shape,
        tables=tables,
        row_scale=row_scale,
        col_scale=col_scale,
        row_class=classes[: shape.rows],
        col_class=classes[shape.rows :],
        chunks=_read_chunks(blob, table_at, bodies_at, shape, file),
        file=file,
    )


def _fault(file: str, field: str, expected: str, found: str) -> MalformedArtefact:
    return MalformedArtefact(file, field, expected=expected, found=found)


def _parse_header(blob: memoryview, file: str) -> tuple[Shape, int, int, int]:
    if len(blob) < _HEADER.size:
        raise _fault(file, "header", f"{_HEADER.size} bytes", str(len(blob)))
    head = bytes(blob[: _HEADER.size])
    magic, codec, dtype, bits, variant, rows, cols, band, length, size, crc, own = _HEADER.unpack(head)
    if magic != _MAGIC:
        raise _fault(file, "header: magic", repr(_MAGIC)[1:], repr(magic)[1:])
    if own != (real := zlib.crc32(head[:-4])):
        raise _fault(file, "header: CRC-32", f"{own:08x}", f"{real:08x}")
    names = [name for name, code in DTYPE_CODES.items() if code == dtype]
    if codec not in {LEVELS, PLANES} or not names or (codec == LEVELS and names[0] not in LARGEST):
        raise _fault(file, "header", "a codec, 1 or 2, and a dtype that it has", f"codec {codec}, dtype {dtype}")
    if bits not in _TABLE_BITS:
        raise _fault(file, "header: table bits", "11 to 14", str(bits))
    if variant and (codec, names[0], variant) != (PLANES, "float32", 1):
        raise _fault(file, "header: variant", "0, or 1 for planes of float32", str(variant))
    if not rows or not cols or not 1 <= band <= rows or band * cols > MAX_CHUNK:
        wanted = f"rows and cols of at least 1, band from 1 to rows, band * cols <= {MAX_CHUNK}"
        raise _fault(file, "header", wanted, f"rows {rows}, cols {cols}, band {band}")
    if size > (most := 5172 + 2 * (rows + cols)):
        raise _fault(file, "header: size of the side section", f"at most {most}", str(size))
    shape = Shape(codec=codec, dtype=names[0], table_bits=bits, variant=variant, rows=rows, cols=cols, band=band)
    return shape, length, size, crc


def _inflate(packed: bytes, size: int, file: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        side = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise _fault(file, "side section", "a deflated stream (RFC 1950)", str(error)) from None
    if len(side) != size or not inflater.eof or inflater.unused_data:
        found = f"{len(side)}{'' if inflater.eof else ' or more'}, {len(inflater.unused_data)} bytes after the stream"
        raise _fault(file, "side section", f"{size} bytes when inflated, and nothing after", found)
    return side


def _read_scales(
    side: bytes, at: int, count: int, shape: Shape, field: str, file: str
) -> tuple[npt.NDArray[np.uint16], int]:
    if shape.codec == PLANES:
        return np.empty(0, np.uint16), at
    values = int.from_bytes(side[at : at + 2], "little")
    codes_at = at + 2 + 2 * values
    stop = codes_at + (count if values > 1 else 0)
    if not 1 <= values <= 256 or stop > len(side):  # noqa: PLR2004  # one byte per code
        raise _fault(file, f"side section: {field}", f"1 to 256 values and {count} codes", f"{values} values")
    book = np.frombuffer(side, "<u2", values, at + 2)
    if values > 1 and not (np.diff(book.astype(np.int64)) > 0).all():
        raise _fault(file, f"side section: {field}", "values strictly ascending", "another order")
    normal = (book >= 0x0080) & (book < 0x7F80)  # noqa: PLR2004  # exponent 1 to 254, no sign
    if not normal.all():
        found = f"bits {int(book[~normal][0]):04x}"
        raise _fault(file, f"side section: {field}", "normal positive bfloat16", found)
    if values == 1:
        return np.full(count, book[0], np.uint16), stop
    codes = np.frombuffer(side, np.uint8, count, codes_at)
    if int(codes.max()) >= values:
        raise _fault(file, f"side section: {field}", f"codes below {values}", str(int(codes.max())))
    return book.astype(np.uint16)[codes], stop


def _check_products(
    row: npt.NDArray[np.uint16], col: npt.NDArray[np.uint16], tables: tuple[Table | None, ...], shape: Shape, file: str
) -> None:
    """Hold every product of level and scales to the normal range of binary32 and the finite range of the dtype."""
    # Bits of positive numbers are ordered as the numbers are; the products here are exact in binary64.
    low = float(float_of(row.min(keepdims=True))[0]) * float(float_of(col.min(keepdims=True))[0])
    high = float(float_of(row.max(keepdims=True))[0]) * float(float_of(col.max(keepdims=True))[0])
    reach = max((max(-t.lowest, t.highest) for t in tables if t is not None), default=0)
    if low < _SMALLEST_NORMAL:
        raise _fault(file, "side section: scales", "products of at least 2^-126", f"{low!r}")
    if reach * high > LARGEST[shape.dtype]:
        raise _fault(file, "side section: scales", f"|w| <= {LARGEST[shape.dtype]!r}", f"{reach * high!r}")


def _read_chunks(blob: memoryview, table_at: int, bodies_at: int, shape: Shape, file: str) -> tuple[Chunk, ...]:
    records = np.frombuffer(blob[table_at:bodies_at], _RECORD)
    chunks, begin = [], bodies_at
    for i, record in enumerate(records):
        row = i * shape.band
        rows = min(shape.band, shape.rows - row)
        words, patches, crc = int(record["words"]), int(record["patches"]), int(record["crc"])
        elements = rows * shape.cols
        if patches > (elements if shape.codec == LEVELS else 0):
            raise _fault(
                file, f"chunk {i}: patches", f"at most {elements if shape.codec == LEVELS else 0}", str(patches)
            )
        body = STATES + 2 * words + raw_planes(shape) * elements + patches * (4 + shape.itemsize)
        if words > elements or begin + body > len(blob):
            found = f"{words} words, {body} bytes of which {len(blob) - begin} are there"
            raise _fault(file, f"chunk {i}", f"at most {elements} words, within the blob", found)
        chunks.append(Chunk(begin=begin, stop=begin + body, row=row, rows=rows, words=words, patches=patches, crc=crc))
        begin += body
    if begin != len(blob):
        raise _fault(file, "chunks", f"bodies to the end of the blob, {len(blob)}", f"to {begin}")
    return tuple(chunks)


def assemble(layout: Layout, bodies: list[tuple[int, int, bytes]]) -> bytes:
    """Return the blob of a tensor.

    Args:
        layout: what stands before the bodies; its `chunks` are not looked at.
        bodies: words, patches and bytes of each chunk.
    """
    side = b"".join([*map(table_bytes, layout.tables), *_scales(layout), layout.row_class.tobytes()])
    side += layout.col_class.tobytes()
    packed = min((_deflate(side, s) for s in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY)), key=len)
    shape = layout.shape
    head = _HEADER.pack(
        _MAGIC,
        shape.codec,
        DTYPE_CODES[shape.dtype],
        shape.table_bits,
        shape.variant,
        shape.rows,
        shape.cols,
        shape.band,
        len(packed),
        len(side),
        zlib.crc32(packed),
        0,
    )[:-4]
    records = np.array([(words, patches, zlib.crc32(body)) for words, patches, body in bodies], _RECORD)
    pieces = [head, zlib.crc32(head).to_bytes(4, "little"), packed, records.tobytes()]
    return b"".join([*pieces, *(body for _, _, body in bodies)])


def _deflate(data: bytes, strategy: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, 15, 9, strategy)
    return deflater.compress(data) + deflater.flush()


def _scales(layout: Layout) -> list[bytes]:
    if layout.shape.codec == PLANES:
        return []
    return [_scale_bytes(layout.row_scale), _scale_bytes(layout.col_scale)]


def _scale_bytes(bits: npt.NDArray[np.uint16]) -> bytes:
    book, codes = np.unique(bits, return_inverse=True)
    if len(book) > 256:  # noqa: PLR2004  # one byte per code
        raise ValueError(f"{len(book)} different scales; there can be 256")
    if len(book) == 1:
        return (1).to_bytes(2, "little") + book.astype("<u2").tobytes()
    return len(book).to_bytes(2, "little") + book.astype("<u2").tobytes() + codes.astype(np.uint8).tobytes()
