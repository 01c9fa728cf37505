# SPDX-License-Identifier: Apache-2.0
"""Blobs as they are laid out: what is written is read, sizes are checked before anything is made of them."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.layout import (
    LEVELS,
    PLANES,
    Layout,
    Shape,
    assemble,
    classes_of,
    float_of,
    parse_layout,
    raw_planes,
)
from weighmaster.pack.tables import CLASSES, Table, fit_table

DTYPES = ("bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2")
ONE = 127 << 7
CHUNKS = ((1, 0, bytes(130)), (0, 1, bytes(128 + 8)))


def made(
    seed: int, *, codec: int = LEVELS, dtype: str = "float32", rows: int = 5, cols: int = 9, band: int = 3
) -> Layout:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 99, 11)
    counts[5] += 1
    table = fit_table(counts, -5 if codec == LEVELS else 30, 12, symmetric=codec == LEVELS)
    scales = [ONE + random.integers(0, 6, n).astype(np.uint16) for n in (rows, cols)]
    if codec == PLANES:
        scales = [np.empty(0, np.uint16)] * 2
    shape = Shape(codec=codec, dtype=dtype, table_bits=12, variant=0, rows=rows, cols=cols, band=band)
    return Layout(
        shape=shape,
        tables=(table,) * CLASSES,
        row_scale=scales[0],
        col_scale=scales[1],
        row_class=random.integers(-128, 128, rows).astype(np.int8),
        col_class=random.integers(-128, 128, cols).astype(np.int8),
        chunks=(),
        file="",
    )


def bodies(layout: Layout) -> list[tuple[int, int, bytes]]:
    """One word and no patch in each chunk; states and words are not looked at here."""
    heights = [min(layout.shape.band, layout.shape.rows - at) for at in range(0, layout.shape.rows, layout.shape.band)]
    return [(1, 0, bytes(130 + raw_planes(layout.shape) * height * layout.shape.cols)) for height in heights]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    kind=st.sampled_from([(LEVELS, d) for d in DTYPES[:3]] + [(PLANES, d) for d in DTYPES]),
    rows=st.integers(1, 40),
    cols=st.integers(1, 70),
    data=st.data(),
)
def test_what_is_written_is_read(seed: int, kind: tuple[int, str], rows: int, cols: int, data: Any) -> None:
    band = data.draw(st.integers(1, rows))
    layout = made(seed, codec=kind[0], dtype=kind[1], rows=rows, cols=cols, band=band)
    blob = assemble(layout, bodies(layout))
    read = parse_layout(memoryview(blob), "f")
    assert read.shape == layout.shape
    for name in ("row_scale", "col_scale", "row_class", "col_class"):
        assert getattr(read, name).tolist() == getattr(layout, name).tolist(), name
    for a, b in zip(read.tables, layout.tables, strict=True):
        assert isinstance(a, Table)
        assert b is not None
        assert (a.lowest, a.frequencies.tolist()) == (b.lowest, b.frequencies.tolist())
    assert [c.row for c in read.chunks] == list(range(0, rows, band))
    assert sum(c.rows for c in read.chunks) == rows
    assert read.chunks[-1].stop == len(blob)
    assert all(a.stop == b.begin for a, b in zip(read.chunks, read.chunks[1:], strict=False))
    assert assemble(read, bodies(read)) == blob


def test_more_scales_than_a_byte_counts_are_not_written() -> None:
    layout = made(0, rows=300)
    scales = (ONE + np.arange(300)).astype(np.uint16)
    wide = Layout(**{name: getattr(layout, name) for name in Layout.__slots__} | {"row_scale": scales})
    with pytest.raises(ValueError, match="300 different scales"):
        assemble(wide, bodies(wide))


def test_classes_are_clipped_sums() -> None:
    layout = made(7, rows=4, cols=6)
    found = classes_of(layout, 1, 3)
    sums = [[int(a) + int(b) for b in layout.col_class] for a in layout.row_class[1:3]]
    assert found.tolist() == [[min(max(n, 0), 7) for n in row] for row in sums]


def test_bits_of_bfloat16_are_floats() -> None:
    values = float_of(np.array([0x3F80, 0x0080, 0x7F7F, 0x4049], np.uint16)).tolist()
    assert values[:2] == [1.0, 2.0**-126]
    assert values[2] == (2 - 2**-7) * 2.0**127
    assert values[3] == 3.140625


def test_raw_planes_of_each_dtype() -> None:
    shape = {"codec": PLANES, "table_bits": 12, "rows": 1, "cols": 1, "band": 1}
    assert [raw_planes(Shape(dtype=d, variant=0, **shape)) for d in DTYPES] == [1, 1, 3, 0, 0]
    assert raw_planes(Shape(dtype="float32", variant=1, **shape)) == 1


def head(blob: bytes, edit: Any) -> bytes:
    """Return the blob with an edited header that has the CRC-32 of what stands there."""
    data = bytearray(blob)
    edit(data)
    struct.pack_into("<I", data, 40, zlib.crc32(data[:40]))
    return bytes(data)


@pytest.mark.parametrize("offset", [8, 16])
def test_an_absurd_size_allocates_nothing(offset: int) -> None:
    layout = made(0)
    blob = head(assemble(layout, bodies(layout)), lambda d: struct.pack_into("<Q", d, offset, 1 << 62))
    tracemalloc.start()
    with pytest.raises(MalformedArtefact):
        parse_layout(memoryview(blob), "f")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.requirement("REQ-PAC-04")
def test_a_side_section_that_inflates_to_a_gigabyte_is_left_alone() -> None:
    """Its header says how long it is; a bomb that lies about it is cut off there."""
    layout = made(0)
    blob = assemble(layout, bodies(layout))
    length = struct.unpack_from("<I", blob, 28)[0]
    bomb = zlib.compress(bytes(1 << 24), 9)

    def edit(data: bytearray) -> None:
        data[44 : 44 + length] = bomb
        struct.pack_into("<I", data, 28, len(bomb))
        struct.pack_into("<I", data, 36, zlib.crc32(bomb))

    tracemalloc.start()
    with pytest.raises(MalformedArtefact, match="when inflated") as caught:
        parse_layout(memoryview(head(blob, edit)), "f")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert caught.value.field == "side section"


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedArtefact):
        parse_layout(memoryview(data), "f")


@settings(max_examples=40, deadline=None)
@given(at=st.integers(4, 39), value=st.integers(0, 255))
def test_any_header_with_a_right_checksum_is_refused_or_read(at: int, value: int) -> None:
    layout = made(3)
    blob = assemble(layout, bodies(layout))

    def edit(data: bytearray) -> None:
        data[at] = value

    found = outcome(head(blob, edit))
    assert found.file == "f"
    assert isinstance(found, MalformedArtefact) or found.chunks[-1].stop == len(blob)


def outcome(blob: bytes) -> Layout | MalformedArtefact:
    try:
        return parse_layout(memoryview(blob), "f")
    except MalformedArtefact as error:
        return error
