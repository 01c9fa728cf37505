# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/pack.md: ``python vectors/pack/generate.py [DIRECTORY]``.

A case is a blob (``blob.bin``) or a whole pack (``pack/``), and what a reader says to it (``expect.json``). Every run
writes the same bytes; blobs are made by ``blob.py``, packs by ``packs.py``.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from weighmaster.core.canonical import dumps

HERE: Final = Path(__file__).parent
B: Final = SimpleNamespace(**runpy.run_path(str(HERE / "blob.py")))
P: Final = SimpleNamespace(**runpy.run_path(str(HERE / "packs.py")))

Json = dict[str, Any]
Case = tuple[dict[str, bytes], Json]
ONE: Final = 127 << 7
"""1 as bits of bfloat16."""


def small(**change: Any) -> Any:
    """Return the model that most faults are made in: 4 x 5 levels, two chunks, a patch in each."""
    model = {
        "rows": 4,
        "cols": 5,
        "band": 3,
        "symbols": [0, 1, -1, 2, 0, -3, 1, 0, 0, 1, 0, 0, -1, 4, 0, 1, 0, -1, 0, 0],
        "row_scale": [ONE, ONE - 128, ONE + 3, ONE],
        "col_scale": [ONE - 640, ONE - 630, ONE - 640, ONE - 599, ONE - 640],
        "row_class": [0, 0, 0, -1],
        "col_class": [0, 0, 0, 1, 0],
        "patches": {3: 0x7FC1, 9: 0xFF80, 19: 0x8000},
    }
    return B.Model(**model | change)


def planes(dtype: str, values: list[int], rows: int, cols: int, **change: Any) -> Any:
    """Return a model of codec 2 from the bits of its elements."""
    variant = change.get("variant", 0)
    symbols, raw = zip(*(B.split(value, dtype, variant) for value in values), strict=True)
    model = {"codec": 2, "dtype": dtype, "rows": rows, "cols": cols, "band": rows, "symbols": symbols, "raw": raw}
    return B.Model(**model | change)


def matrix(label: str, rows: int, cols: int, spread: int, **change: Any) -> Any:
    """Return a model of codec 1 with a few scales and two classes of rows."""
    a, b = B.stream(f"{label} rows", rows), B.stream(f"{label} cols", cols)
    model = {
        "rows": rows,
        "cols": cols,
        "band": max(1, rows // 3),
        "symbols": B.levels(label, rows * cols, spread),
        "row_scale": [ONE - 256 + 9 * (n % 5) for n in a],
        "col_scale": [ONE - 700 + 17 * (n % 7) for n in b],
        "row_class": [n % 2 for n in a],
        "col_class": [1 + n % 2 for n in b],
    }
    return B.Model(**model | change)


def good(model: Any, **blob: Any) -> Case:
    """Return a blob that is read."""
    data = B.rebuilt(model)
    expect = {"codec": model.codec, "cols": model.cols, "dtype": model.dtype, "error": None, "rows": model.rows}
    return {"blob.bin": B.blob(model, **blob)}, expect | {"sha256": hashlib.sha256(data).hexdigest()}


def bad(field: str, contains: list[str], data: bytes) -> Case:
    """Return a blob that is refused for one field."""
    return {"blob.bin": data}, {"contains": contains, "error": "MalformedArtefact", "field": field}


def fault(field: str, contains: list[str], model: Any | None = None, **blob: Any) -> Case:
    """Return a blob with one fault."""
    return bad(field, contains, B.blob(model or small(), **blob))


def specials(dtype: str) -> list[int]:
    """Return patterns of bits that arithmetic would change: NaN payloads, infinities, -0, subnormal numbers."""
    mantissa, width = {"bfloat16": (7, 16), "float16": (10, 16), "float32": (23, 32)}[dtype]
    ones = (1 << (width - 1 - mantissa)) - 1 << mantissa
    unit = 1 << mantissa
    values = [0, 1, unit - 1, unit, ones - unit, ones, ones | 1, ones | unit - 1]
    return [sign | value for sign in (0, 1 << (width - 1)) for value in values]


def weights(label: str, count: int) -> list[int]:
    """Return bits of float32 numbers like weights."""
    numbers = (level / 977 for level in B.levels(label, count, 60))
    return [int.from_bytes(struct.pack("<f", number), "little") for number in numbers]


def positive_levels() -> dict[str, Case]:
    """Return blobs of codec 1."""
    exact = ONE - 128 * 20  # 2^-20
    ladder = [n for n in range(1, 256) for _ in range(2)]
    full = [level * sign for level, sign in zip(ladder, (1, -1) * 255, strict=True)] + [0] * 34
    codes = [16] * 255 + [0] + [16] * 255
    many = [ONE - 1300 + i for i in range(256)]
    return {
        "one": good(small(rows=1, cols=1, band=1, symbols=[1], row_scale=[ONE], col_scale=[ONE], row_class=[0],
                          col_class=[0], patches={})),
        "example": good(small(rows=1, cols=4, band=1, symbols=[1, 0, -2, 0], row_scale=[ONE], row_class=[0],
                              col_scale=[ONE - 128, ONE - 128, ONE - 64, ONE - 128], col_class=[0] * 4,
                              patches={3: 0x7FC1})),
        "small": good(small()),
        "bfloat16": good(matrix("bfloat16", 9, 70, 3)),
        "float16": good(matrix("float16", 9, 33, 5, dtype="float16", bits=13)),
        "float32": good(matrix("float32", 7, 64, 9, dtype="float32", bits=11)),
        "table_bits_14": good(matrix("14", 6, 50, 20, bits=14)),
        "one_row": good(matrix("one row", 1, 131, 4)),
        "one_column": good(matrix("one column", 131, 1, 4)),
        "chunks_of_a_row": good(matrix("rows", 5, 40, 3, band=1)),
        "levels_255": good(B.Model(rows=8, cols=68, band=3, symbols=full, row_scale=[ONE] * 8, col_scale=[ONE] * 68,
                                   tables={0: B.Table(codes, -255, 255, symmetric=False)})),
        "table_full": good(small(tables={0: B.Table([16, 90, 20, 0, 100, 60, 16, 16], -3, 3, symmetric=False)})),
        "frequency_0": good(small(symbols=[3 * n for n in small().symbols])),
        "rest_of_1": good(small(bits=11, tables={0: B.Table([0, 156, 143, 130, 116, 19, 17])})),
        "one_symbol": good(small(symbols=[0] * 20)),
        "one_symbol_of_255": good(small(symbols=[-255] * 20, tables={0: B.Table([0], -255, 0, symmetric=False)})),
        "table_of_no_use": good(small(tables={5: B.Table([0, 16])})),
        "classes_beyond": good(small(row_class=[-128, 127, 3, 0], col_class=[127, -128, 4, -3, 1])),
        "scales_256": good(small(rows=256, cols=1, band=100, symbols=B.levels("256", 256, 3), row_scale=many,
                                 col_scale=[ONE], row_class=[0] * 256, col_class=[0])),
        "scale_of_no_row": good(small(), rows=struct.pack("<6H", 5, 0x80, ONE - 128, ONE, ONE + 3, 0x7F7F)
                                + b"\2\1\3\2"),
        "scale_one_value": good(small(row_scale=[ONE] * 4, col_scale=[ONE - 5] * 5)),
        "patches_all": good(small(patches={i: 0x1234 + i for i in range(20)})),
        "patches_none": good(small(patches={})),
        "patch_float32": good(small(dtype="float32", patches={0: 0x7FA00001, 19: 1})),
        "half_subnormal": good(small(dtype="float16", row_scale=[exact] * 4,
                                     col_scale=[ONE - 3 * 128, ONE - 2 * 128 + 1, ONE - 4 * 128 + 7, ONE - 5 * 128,
                                                ONE + 4 * 128 + 5], symbols=[*range(-10, 10)], patches={})),
        "half_ties": good(small(dtype="float16", row_scale=[exact, exact - 128, exact - 256, exact + 640],
                                col_scale=[ONE - 4 * 128, ONE - 5 * 128, ONE - 4 * 128, ONE - 6 * 128, ONE],
                                symbols=[*range(-10, 10)], patches={})),
        "bfloat16_ties": good(small(symbols=[1, -1, 3, -3, 5, 7, -7, 9, 11, 13, -15, *range(17, 35, 2)],
                                    row_scale=[ONE, ONE + 1, ONE + 2, ONE + 64], patches={},
                                    col_scale=[ONE + 64, ONE + 1, ONE + 32, ONE + 127, ONE + 96])),
        "bfloat16_largest": good(small(rows=1, cols=2, band=1, symbols=[255, -255], row_scale=[ONE + 60 * 128],
                                       col_scale=[ONE + 60 * 128] * 2, row_class=[0], col_class=[0, 0], patches={},
                                       tables={0: B.Table([16, *[0] * 509, 0], -255, 510, symmetric=False)})),
        "half_largest": good(small(rows=1, cols=2, band=1, dtype="float16", symbols=[89, -89], row_class=[0],
                                   row_scale=[ONE + 56], col_scale=[ONE + 9 * 128] * 2, col_class=[0, 0], patches={})),
        "smallest": good(small(rows=1, cols=2, band=1, symbols=[1, -1], row_scale=[ONE - 63 * 128],
                               col_scale=[ONE - 63 * 128] * 2, row_class=[0], col_class=[0, 0], patches={})),
        "smallest_half": good(small(rows=1, cols=2, band=1, dtype="float16", symbols=[1, -1], col_class=[0, 0],
                                    row_scale=[ONE - 63 * 128], col_scale=[ONE - 63 * 128] * 2, row_class=[0],
                                    patches={})),
        "deflated": good(matrix("bfloat16", 9, 70, 3), packed=HUFFMAN),
        "deflated_by_fixed_codes": good(small(), packed=FIXED),
    }  # fmt: skip


def positive_planes() -> dict[str, Case]:
    """Return blobs of codec 2."""
    whole = weights("planes", 7 * 45)
    halves = [int.from_bytes(struct.pack("<e", level / 977), "little") for level in B.levels("half", 90, 60)]
    wide = [value << 16 for value in specials("bfloat16")] + [value & 0xFFFF0000 for value in whole[:48]]
    eight = [n & 255 for n in B.stream("float8", 99)]
    return {
        "exact_bfloat16": good(planes("bfloat16", specials("bfloat16") + [v >> 16 for v in whole[:74]], 10, 9, band=4)),
        "exact_float16": good(planes("float16", specials("float16") + halves[:74], 3, 30, bits=11)),
        "exact_float32": good(planes("float32", specials("float32") + whole[:299], 7, 45, band=2, bits=14)),
        "exact_float32_of_bfloat16": good(planes("float32", wide, 2, 32, variant=1)),
        "exact_float8_e4m3fn": good(planes("float8_e4m3fn", eight, 33, 3, band=10)),
        "exact_float8_e5m2": good(planes("float8_e5m2", eight, 3, 33)),
        "exact_constant": good(planes("bfloat16", [0x3F80] * 40, 1, 40)),
        "exact_classes": good(planes("bfloat16", [v >> 16 for v in whole[:64]], 2, 32, row_class=[0, 7])),
    }


def negative_headers() -> dict[str, Case]:
    """Return blobs whose header breaks a rule; its CRC is that of what stands there."""

    def head(field: str, contains: list[str], **header: Any) -> Case:
        return fault(field, contains, header=header)

    whole, exact = B.blob(small()), planes("bfloat16", [0x3F80] * 20, 4, 5)
    wide, sizes = planes("float32", [0] * 20, 4, 5), "header"
    return {
        "magic_fail": head("header: magic", ["'WMT1'", "'WMT2'"], magic=b"WMT2"),
        "header_crc_fail": fault("header: CRC-32", [], wrong="header"),
        "header_bit_fail": bad("header: CRC-32", [], whole[:9] + bytes([whole[9] ^ 1]) + whole[10:]),
        "header_cut_fail": bad("header", ["44 bytes", "found 43"], whole[:43]),
        "empty_fail": bad("header", ["found 0"], b""),
        "codec_0_fail": head("header", ["codec 0"], codec=0),
        "codec_3_fail": head("header", ["codec 3"], codec=3),
        "dtype_0_fail": head("header", ["dtype 0"], dtype=0),
        "dtype_6_fail": fault("header", ["dtype 6"], exact, header={"dtype": 6}),
        "levels_of_float8_fail": head("header", ["dtype 4"], dtype=4),
        "table_bits_10_fail": head("header: table bits", ["11 to 14, found 10"], bits=10),
        "table_bits_15_fail": head("header: table bits", ["11 to 14, found 15"], bits=15),
        "variant_of_levels_fail": head("header: variant", ["found 1"], variant=1),
        "variant_of_bfloat16_fail": fault("header: variant", ["found 1"], exact, header={"variant": 1}),
        "variant_2_fail": fault("header: variant", ["found 2"], wide, header={"variant": 2}),
        "rows_0_fail": head(sizes, ["rows 0"], rows=0),
        "cols_0_fail": head(sizes, ["cols 0"], cols=0),
        "band_0_fail": head(sizes, ["band 0"], band=0),
        "band_beyond_rows_fail": head(sizes, ["band 5"], band=5),
        "chunk_too_large_fail": head(sizes, ["band 3"], cols=5592406),
        "rows_absurd_fail": head("header", ["bytes"], rows=1 << 60),
        "side_beyond_blob_fail": head("header", ["bytes"], length=1 << 31),
        "side_size_absurd_fail": head("header: size of the side section", ["at most 5190"], size=1 << 31),
    }


def negative_sides() -> dict[str, Case]:
    """Return blobs whose side section cannot be inflated to what the header says, or breaks a rule."""
    plain = B.side(small())
    packed = B.stored(plain)
    size, bomb = "side section", zlib.compress(bytes(1 << 20), 9)[:40]
    exact = planes("bfloat16", [0x3F80] * 20, 4, 5)
    classes = B.struct.pack("<9b", *small().row_class, *small().col_class)
    return {
        "side_crc_fail": fault("side section: CRC-32", [], wrong="side"),
        "side_longer_fail": fault(size, ["when inflated"], size=len(plain) - 1),
        "side_shorter_fail": fault(size, ["when inflated"], size=len(plain) + 1),
        "side_bomb_fail": fault(size, ["when inflated"], packed=bomb),
        "side_trailing_fail": fault(size, ["1 bytes after the stream"], packed=packed + b"\0"),
        "side_no_stream_fail": fault(size, ["a deflated stream"], packed=plain),
        "side_bare_fail": fault(size, ["a deflated stream"], packed=packed[2:-4]),
        "side_adler_fail": fault(size, ["a deflated stream"], packed=packed[:-1] + bytes([packed[-1] ^ 1])),
        "side_cut_fail": fault(size, ["when inflated"], packed=packed[:-4]),
        "side_ends_in_table_fail": fault("side section: table 7", ["to its end"], tables=bytes(7), rows=b"", cols=b"",
                                         classes=b""),
        "scales_of_planes_fail": fault("side section: classes", ["9 bytes"], exact, rows=B.scales([ONE] * 4)),
        "classes_missing_fail": fault("side section: classes", ["9 bytes", "found 8"], classes=classes[:-1]),
        "classes_too_many_fail": fault("side section: classes", ["9 bytes", "found 10"], classes=classes + b"\0"),
        "class_without_table_fail": fault("side section: classes", ["a table for every class"],
                                          classes=classes[:-1] + b"\x03"),
        "no_table_fail": fault("side section: classes", ["a table for every class"], tables=bytes(8)),
    }  # fmt: skip


def negative_tables() -> dict[str, Case]:
    """Return blobs one of whose tables breaks a rule."""
    good = small().tables[0].written()
    exact = planes("bfloat16", [0x3F80] * 20, 4, 5)

    def table(field: str, contains: list[str], data: bytes, model: Any = None, *, at: int = 0) -> Case:
        tables = [good, small().tables[1].written(), *[b"\0"] * 6] if model is None else [b"\0"] * 8
        tables[at] = data
        return fault(f"side section: table {at}{field}", contains, model, tables=b"".join(tables))

    def full(codes: list[int], lowest: int, place: int) -> bytes:
        return bytes(B.Table(codes, lowest, place, symmetric=False).written())

    return {
        "table_kind_fail": table("", ["a kind of table", "found 3"], b"\x03"),
        "table_kind_of_last_fail": table("", ["a kind of table", "found 255"], b"\xff", at=7),
        "table_symmetric_of_planes_fail": table("", ["a kind of table", "found 2"], b"\x02\x01\0\0", exact),
        "table_lowest_fail": table("", ["lowest -256"], full([0, 16], -256, 0)),
        "table_highest_fail": table("", ["lowest 255, count 2"], full([0, 16], 255, 0)),
        "table_byte_256_fail": table("", ["lowest 254, count 3"], full([0, 16, 16], 254, 0), exact),
        "table_byte_below_0_fail": table("", ["lowest -1"], full([0, 16], -1, 0), exact),
        "table_symmetric_257_fail": table("", ["count 257"], B.Table([0, *[16] * 256]).written()),
        "table_count_0_fail": table("", ["count 0"], b"\x02\0\0"),
        "table_full_count_0_fail": table("", ["count 0"], full([], 0, 0)),
        "table_position_fail": table("", ["position 2"], full([0, 16], 0, 2)),
        "table_code_15_fail": table(": code 2", ["found 15"], B.Table([0, 16, 15]).written()),
        "table_code_1_fail": table(": code 1", ["found 1"], full([0, 1], 0, 0)),
        "table_code_of_rest_fail": table(": code 0", ["found 16"], B.Table([16, 16]).written()),
        "table_leaves_0_fail": table("", ["at least 1 of 4096"], full([0, 208], 0, 0)),
        "table_leaves_less_fail": table("", ["at least 1 of 4096"], B.Table([0, 208]).written()),
    }


def negative_scales() -> dict[str, Case]:
    """Return blobs whose scales break a rule."""

    def rows(contains: list[str], data: bytes) -> Case:
        return fault("side section: row scales", contains, rows=data)

    def value(bits: int) -> Case:
        return rows(["normal positive bfloat16"], struct.pack("<HH", 1, bits))

    def products(contains: str, model: Any) -> Case:
        return fault("side section: scales", [contains], model)

    two = struct.pack("<HHH", 2, ONE - 128, ONE)
    tiny = {"rows": 1, "cols": 2, "band": 1, "symbols": [1, -1], "row_class": [0], "col_class": [0, 0], "patches": {}}
    return {
        "scales_none_fail": rows(["1 to 256 values"], struct.pack("<H", 0)),
        "scales_257_fail": rows(["1 to 256 values"], struct.pack("<258H", 257, *range(ONE, ONE + 257)) + bytes(4)),
        "scales_descend_fail": rows(["strictly ascending"], struct.pack("<HHH", 2, ONE, ONE - 128) + bytes(4)),
        "scales_equal_fail": rows(["strictly ascending"], struct.pack("<HHH", 2, ONE, ONE) + bytes(4)),
        "scale_0_fail": value(0),
        "scale_subnormal_fail": value(0x7F),
        "scale_negative_fail": value(0x8000 | ONE),
        "scale_infinity_fail": value(0x7F80),
        "scale_nan_fail": value(0x7FC0),
        "scale_code_fail": rows(["codes below 2", "found 2"], two + b"\0\1\2\1"),
        "column_scale_code_fail": fault("side section: column scales", ["codes below 2"], cols=two + b"\0\1\1\1\xff"),
        "column_scales_cut_fail": fault("side section: column scales", ["values"], cols=two, classes=b""),
        "product_too_small_fail": products("at least 2^-126", small(
            **tiny, row_scale=[ONE - 63 * 128], col_scale=[ONE - 63 * 128 - 1] * 2)),
        "product_too_large_fail": products("|w| <=", small(
            **tiny | {"symbols": [127, -127]}, row_scale=[ONE + 61 * 128], col_scale=[ONE + 60 * 128 + 2] * 2)),
        "product_beyond_half_fail": products("|w| <=", small(
            **tiny, dtype="float16", row_scale=[ONE + 8 * 128], col_scale=[ONE + 8 * 128] * 2)),
        "product_beyond_half_by_a_unit_fail": products("|w| <=", small(
            **tiny, dtype="float16", row_scale=[ONE + 15 * 128 + 127], col_scale=[ONE + 3] * 2)),
        "level_that_does_not_occur_too_large_fail": products("|w| <=", small(
            **tiny, dtype="float16", row_scale=[ONE + 8 * 128], col_scale=[ONE + 2] * 2,
            tables={0: B.Table([0, 16, *[0] * 254])})),
    }  # fmt: skip


def negative_bodies() -> dict[str, Case]:
    """Return blobs whose chunk table or bodies break a rule; CRCs are those of what stands there, but where named."""

    def changed(which: int, edit: Any) -> Any:
        return lambda bodies: [edit(*b) if i == which else b for i, b in enumerate(bodies)]

    def entropy(which: int, edit: Any) -> Case:
        return fault(f"chunk {which}: entropy code", [], bodies=changed(which, edit))

    def patches(edit: Any) -> Case:
        return fault("chunk 0: patches", ["positions strictly ascending"], bodies=changed(0, edit))

    def state(data: bytes, lane: int, value: int) -> bytes:
        return data[: 4 * lane] + struct.pack("<I", value) + data[4 * lane + 4 :]

    def lane(data: bytes, number: int) -> int:
        return int(struct.unpack_from("<I", data, 4 * number)[0])

    whole, exact = B.blob(small()), planes("bfloat16", [0x3F80] * 20, 4, 5)
    busy = matrix("words", 2, 64, 9, band=2)
    words = B.body(busy, 0)[0]
    end = 4 * 32 + 2 * words

    def of_busy(edit: Any) -> Case:
        return fault("chunk 0: entropy code", [], busy, bodies=changed(0, edit))

    return {
        "chunk_crc_fail": fault("chunk 0: CRC-32", [], wrong="bodies"),
        "body_bit_fail": bad("chunk 1: CRC-32", [], whole[:-1] + bytes([whole[-1] ^ 1])),
        "chunks_swapped_fail": bad("chunk 0: CRC-32", [], B.blob(exact_pair(), bodies=lambda b: b)[: -2 * CHUNK]
                                   + B.blob(exact_pair())[-CHUNK:] + B.blob(exact_pair())[-2 * CHUNK : -CHUNK]),
        "state_below_fail": entropy(1, lambda w, p, b: (w, p, state(b, 0, 0xFFFF))),
        "state_of_idle_lane_fail": entropy(0, lambda w, p, b: (w, p, state(b, 31, 0x10001))),
        "state_too_large_fail": entropy(0, lambda w, p, b: (w, p, state(b, 0, lane(b, 0) ^ 1 << 31))),
        "states_swapped_fail": of_busy(lambda w, p, b: (w, p, state(state(b, 0, lane(b, 1)), 1, lane(b, 0)))),
        "word_missing_fail": of_busy(lambda w, p, b: (w - 1, p, b[: end - 2] + b[end:])),
        "word_too_many_fail": of_busy(lambda w, p, b: (w + 1, p, b[:end] + b"\0\0" + b[end:])),
        "word_changed_fail": of_busy(lambda w, p, b: (w, p, b[: end - 2] + bytes([b[end - 2] ^ 1]) + b[end - 1 :])),
        "words_none_fail": of_busy(lambda w, p, b: (0, p, b[:128] + b[end:])),
        "words_beyond_elements_fail": fault("chunk 0", ["at most 15 words"],
                                            bodies=changed(0, lambda w, p, b: (16, p, b[:128] + bytes(32) + b[128:]))),
        "body_beyond_blob_fail": fault("chunk 1", ["within the blob"],
                                       bodies=changed(1, lambda w, p, b: (w, p + 1, b))),
        "blob_cut_fail": bad("chunk 1", ["within the blob"], whole[:-1]),
        "bytes_after_fail": fault("chunks", ["to the end of the blob"], tail=b"\0"),
        "patches_descend_fail": patches(lambda w, p, b: (w, p, b[:-12] + struct.pack("<II", 9, 3) + b[-4:])),
        "patch_twice_fail": patches(lambda w, p, b: (w, p, b[:-12] + struct.pack("<II", 9, 9) + b[-4:])),
        "patch_beyond_chunk_fail": patches(lambda w, p, b: (w, p, b[:-12] + struct.pack("<II", 3, 15) + b[-4:])),
        "patch_far_beyond_fail": patches(lambda w, p, b: (w, p, b[:-12] + struct.pack("<II", 3, 0xFFFFFFFF) + b[-4:])),
        "patches_too_many_fail": fault("chunk 1: patches", ["at most 5", "found 6"],
                                       bodies=changed(1, lambda w, p, b: (w, 6, b + bytes(30)))),
        "patch_of_planes_fail": fault("chunk 0: patches", ["at most 0", "found 1"], exact,
                                      bodies=changed(0, lambda w, p, b: (w, 1, b + bytes(6)))),
    }  # fmt: skip


def exact_pair() -> Any:
    """Return two chunks of one size with different raw bytes."""
    return planes("bfloat16", [0x3F80, 0x3F81], 2, 1, band=1)


CHUNK: Final = 128 + 1
"""Bytes of a body of `exact_pair`."""

HUFFMAN: Final = bytes.fromhex(
    "78da458d3d0ec2300c859f7fe27205aec019d29c8d95b5828995a37005260624242a2644173a51f1aa46e28b1dfbe9d909b401ba69bc7ffab9db4fc3"
    "e379d3000edfd7fb0a92b02dbbd295633915075c4c541a9cf325f779ccab76dd6e5a0504210a375743386f0fd54866c9555320b9bbb8c34c401902281f"
    "4b5cb530faa0c143a033fc86c14a16595515ff58c6ab5993fc00776a19a3"
)
FIXED: Final = bytes.fromhex(
    "78da63626160989596c7c4cac0c030357b2a0318303330d837d837db3332303102d9b65cb69ab60c400e48ee3f1033320000d63206c8"
)
"""Side sections as zlib 1.2.13 deflates them at level 9: dynamic and fixed Huffman codes."""


def tensor(name: str, model: Any, shard: int = 0, shape: tuple[int, ...] = (), **blob: Any) -> Any:
    """Return a coded tensor of a pack."""
    return P.Tensor(
        name=name,
        dtype=model.dtype,
        shape=shape or (model.rows, model.cols),
        codec="five-v1" if model.codec == 1 else "exact-v1",
        blob=B.blob(model, **blob),
        data=B.rebuilt(model),
        shard=shard,
    )


def raw(name: str, dtype: str, shape: tuple[int, ...], data: bytes, shard: int = 0) -> Any:
    """Return a tensor that lies in its shard as it is."""
    return P.Tensor(name=name, dtype=dtype, shape=shape, codec="raw-v1", blob=data, data=data, shard=shard)


BIAS: Final = raw("bias", "float32", (2,), struct.pack("<ff", 1.0, -0.0))
CALIBRATION: Final = {"kind": "self", "sha256": "ab" * 32, "tokens": 4096}


def pack(**plan: Any) -> Any:
    """Return the plan that most faults of packs are made in: a matrix of levels, and a bias as it is."""
    return P.Plan(**{"tensors": [tensor("w", small()), BIAS]} | plan)


def pack_case(plan: Any) -> Case:
    """Return a pack that is read."""
    files = P.made(plan)
    tensors = sorted(plan.tensors, key=lambda t: t.name.encode())
    read = [{"dtype": t.dtype, "name": t.name, "sha256": P.sha(t.data), "shape": list(t.shape)} for t in tensors]
    expect = {"error": None, "root": P.sha(files["pack.index"]), "tensors": read}
    return {f"pack/{path}": data for path, data in files.items()}, expect


def positive_packs() -> dict[str, Case]:
    """Return packs that are read."""
    exact = planes("bfloat16", [0x3F80, 0x7FC1] * 10, 4, 5)
    three = [
        tensor("a.weight", small(), 0),
        BIAS,
        tensor("z", planes("float8_e4m3fn", [1, 2, 3], 1, 3), 2),
        tensor("b.weight", small(dtype="float16", patches={}), 1, (2, 5, 2)),
    ]
    plain = [
        raw("int", "int64", (1, 2), bytes(range(16))),
        raw("scalar", "float32", (), bytes(4)),
        BIAS,
        raw("empty", "float16", (0, 3), b""),
        raw("mask", "bool", (3,), b"\0\1\1"),
        tensor("w", small()),
        raw("complex", "complex64", (1,), bytes(8)),
        raw("\u00e9", "uint8", (1,), b"\7"),
    ]
    return {
        "pack": pack_case(pack()),
        "pack_exact": pack_case(pack(tensors=[tensor("w", exact, shape=(20,)), BIAS], profile="exact", bits=None,
                                     deviation="0", parameters={})),
        "pack_calibrated": pack_case(pack(profile="calibrated", bits="4.5", calibration=CALIBRATION)),
        "pack_shards": pack_case(pack(tensors=three)),
        "pack_plain_tensors": pack_case(pack(tensors=plain)),
        "pack_files": pack_case(pack(others={"source/sub/a.txt": b"a", "source/tokenizer.json": b"{}",
                                             "tokenizer.json": b"{}", "source/code.py": b"pass\n"})),
        "pack_sealed": pack_case(pack(seals={"signer-1.sigstore.json": b"{}"})),
    }  # fmt: skip


def bad_pack(error: str, contains: list[str], **plan: Any) -> Case:
    """Return a pack that is refused, with one fault."""
    files = P.made(pack(**plan))
    return {f"pack/{path}": data for path, data in files.items()}, {"contains": contains, "error": error}


def negative_indexes() -> dict[str, Case]:
    """Return packs whose index breaks a rule of section 5; its last line is that of what stands there."""

    def index(where: str, edit: Any, **plan: Any) -> Case:
        return bad_pack("MalformedArtefact", ["pack.index", where], index=edit, **plan)

    def put(where: str, key: str, value: Any, *path: Any) -> Case:
        def edit(document: Json) -> None:
            for part in path:
                document = document[part]
            document[key] = value

        return index(where, edit)

    def made(where: str, **plan: Any) -> Case:
        return bad_pack("MalformedArtefact", ["pack.index", where], **plan)

    def twice(line: bytes) -> bytes:
        return line.replace(b'"format":', b'"format":"weighmaster-pack-v1","format":')

    first, weight = ("tensors", 0), ("tensors", 1)
    both = {"source/config.json": b"{}", "config.json": b"{}"}
    two = [tensor("w", small()), raw("bias", "float32", (2,), bytes(8), 1)]
    huge = [2**30, 2**30]
    return {
        "index_last_line_fail": made("last line", last=lambda digest: f"{digest[::-1]}\n"),
        "index_last_line_missing_fail": made("last line", last=lambda digest: ""),
        "index_last_line_capitals_fail": made("last line", last=lambda digest: f"{digest.upper()}\n"),
        "index_last_line_end_fail": made("last line", last=lambda digest: digest),
        "index_line_after_fail": made("last line", last=lambda digest: f"{digest}\n\n"),
        "index_not_canonical_fail": made("", line=lambda line: line.replace(b":", b": ", 1)),
        "index_order_of_keys_fail": made("", line=lambda line: line.replace(b"{", b'{"tensors":[],', 1)),
        "index_key_twice_fail": made("format", line=twice),
        "index_two_objects_fail": made("", line=lambda line: line + b"\n" + line),
        "index_not_json_fail": made("", line=lambda line: line[1:]),
        "index_array_fail": made("", line=lambda line: b"[" + line + b"]"),
        "index_empty_fail": bad_pack("MalformedArtefact", ["pack.index"],
                                     after=lambda files: files.update({"pack.index": b""})),
        "index_key_unknown_fail": put("note", "note", ""),
        "index_key_missing_fail": index("deviation", lambda document: document.pop("deviation")),
        "index_format_fail": put("format", "format", "weighmaster-pack-v2"),
        "encoder_key_unknown_fail": put("encoder", "seed", "1", "encoder"),
        "encoder_profile_fail": put("encoder.profile", "profile", "trellis", "encoder"),
        "encoder_bits_missing_fail": made("encoder.bits", bits=None),
        "encoder_bits_of_exact_fail": made("encoder.bits", profile="exact"),
        "encoder_bits_number_fail": made("encoder.bits", bits=5),
        "encoder_bits_spelling_fail": made("encoder.bits", bits="05.0"),
        "encoder_parameter_number_fail": made("encoder.parameters", parameters={"tableBits": 12}),
        "encoder_name_empty_fail": put("encoder.name", "name", "", "encoder"),
        "calibration_missing_fail": made("calibration", profile="calibrated"),
        "calibration_of_datafree_fail": made("calibration", calibration=CALIBRATION),
        "calibration_kind_fail": made("calibration.kind", profile="calibrated",
                                      calibration=CALIBRATION | {"kind": "web"}),
        "calibration_tokens_fail": made("calibration.tokens", profile="calibrated",
                                        calibration=CALIBRATION | {"tokens": 0}),
        "source_none_fail": made("source", source=[]),
        "source_unsorted_fail": made("source[1].path", source=[P.entry("b", b""), P.entry("a", b"")]),
        "source_path_up_fail": made("source[0].path", source=[P.entry("../model.safetensors", b"")]),
        "source_size_text_fail": made("source[0].size", source=[P.entry("a", b"") | {"size": "0"}]),
        "files_unsorted_fail": index("files[1].path", lambda document: document["files"].reverse()),
        "files_twice_fail": index("files[1].path", lambda d: d["files"].insert(0, d["files"][0])),
        "files_path_absolute_fail": put("files[0].path", "path", "/config.json", "files", 0),
        "files_path_dot_fail": put("files[0].path", "path", "./config.json", "files", 0),
        "files_size_negative_fail": put("files[0].size", "size", -1, "files", 0),
        "files_digest_capitals_fail": put("files[0].sha256", "sha256", "AB" * 32, "files", 0),
        "files_without_shard_fail": index("files", lambda document: document["files"].pop(1)),
        "files_without_twin_fail": made("files[1].path", others={"readme.md": b"1", "source/config.json": b"{}"}),
        "files_other_twin_fail": made("files[4].path", others=both | {"source/t.json": b"1", "t.json": b"2"}),
        "files_other_weights_fail": made("files[3].path", others=both | {"source/x.safetensors": b"1"}),
        "files_index_fail": made("files[2].path", others=both | {"pack.index": b"1"}),
        "files_seal_fail": made("files[2].path", others=both | {"s.sigstore.json": b"1"}),
        "files_file_and_folder_fail": made("files", others=both | {"source/a": b"1", "source/a/b": b"2"},
                                           after=lambda files: files.pop("source/a/b")),
        "shards_name_fail": put("shards", "shards", ["weights.safetensors"]),
        "shards_none_fail": put("shards", "shards", []),
        "shards_count_fail": put("shards", "shards", ["model-00001-of-00001.safetensors"]),
        "shards_order_fail": made("shards", tensors=two, index=lambda document: document["shards"].reverse()),
        "shard_of_nothing_fail": made("shards", tensors=two, index=lambda d: d["tensors"][0].update(shard=0)),
        "shard_index_not_listed_fail": made("files", tensors=two, index=lambda d: d["files"].pop(3)),
        "tensors_none_fail": put("tensors", "tensors", []),
        "tensors_unsorted_fail": index("tensors[1].name", lambda document: document["tensors"].reverse()),
        "tensor_twice_fail": index("tensors[1].name", lambda d: d["tensors"].insert(0, d["tensors"][0])),
        "tensor_key_missing_fail": index("tensors[0].blob", lambda document: document["tensors"][0].pop("blob")),
        "tensor_name_empty_fail": put("tensors[0].name", "name", "", *first),
        "tensor_name_metadata_fail": put("tensors[0].name", "name", "__metadata__", *first),
        "tensor_name_not_nfc_fail": put("tensors[1].name", "name", "w\u0065\u0301", *weight),
        "tensor_dtype_fail": put("tensors[0].dtype", "dtype", "float6", *first),
        "tensor_dtype_of_levels_fail": put("tensors[1].dtype", "dtype", "float8_e5m2", *weight),
        "tensor_dtype_of_planes_fail": index(
            "tensors[0].dtype", lambda d: d["tensors"][0].update(codec="exact-v1", dtype="int64")),
        "tensor_codec_fail": put("tensors[1].codec", "codec", "tcq8-v1", *weight),
        "tensor_shape_negative_fail": put("tensors[1].shape", "shape", [-4, -5], *weight),
        "tensor_shape_number_fail": put("tensors[1].shape", "shape", 20, *weight),
        "tensor_shape_absurd_fail": put("tensors[1].shape", "shape", huge, *weight),
        "tensor_coded_empty_fail": put("tensors[1].codec", "shape", [0, 5], *weight),
        "tensor_shard_fail": put("tensors[1].shard", "shard", 1, *weight),
        "tensor_digest_short_fail": put("tensors[0].sha256", "sha256", "ab" * 31, *first),
        "deviation_number_fail": made("deviation.relativeSquaredError", deviation=1),
        "deviation_exponent_fail": made("deviation.relativeSquaredError", deviation="1e-4"),
    }  # fmt: skip


def negative_packs() -> dict[str, Case]:  # noqa: C901  # its small functions count
    """Return packs whose files are not those of the index, or whose shards or blobs do not fit it."""

    def shard(contains: str, **plan: Any) -> Case:
        return bad_pack("MalformedArtefact", ["model.safetensors", contains], **plan)

    def files(contains: str, edit: Any) -> Case:
        return bad_pack("MalformedArtefact", [contains], after=edit)

    def flipped(path: str, at: int) -> Any:
        def edit(made: dict[str, bytes]) -> None:
            data = bytearray(made[path])
            data[at] ^= 1
            made[path] = bytes(data)

        return edit

    def header(edit: Any) -> Any:
        def edited(document: Json) -> bytes:
            edit(document)
            return bytes(P.dumps(document))

        return edited

    def claim(error: str, contains: list[str], edit: Any) -> Case:
        return bad_pack(error, contains, index=edit)

    def weights(key: str) -> Any:
        def edit(document: Json) -> None:
            document["tensors"][1][key] = "00" * 32

        return edit

    def moved(document: Json) -> None:
        document["w"]["data_offsets"] = [n + 1 for n in document["w"]["data_offsets"]]

    def unsorted(document: Json) -> bytes:
        return json.dumps(dict(sorted(document.items(), reverse=True)), separators=(",", ":")).encode()

    def other_order(document: Json) -> None:
        size = document["w"]["data_offsets"][1] - 8
        document["w"]["data_offsets"], document["bias"]["data_offsets"] = [0, size], [size, size + 8]

    same = [
        tensor("v", planes("float16", [0x3C00 + n for n in range(20)], 4, 5)),
        tensor("w", planes("float16", [0x3C20 + n for n in range(20)], 4, 5)),
    ]
    length = len(same[0].blob)
    half = tensor("w", small(dtype="float16", patches={}))
    return {
        "file_missing_fail": files("source/config.json", lambda made: made.pop("source/config.json")),
        "file_left_over_fail": files("notes.txt", lambda made: made.update({"notes.txt": b"1"})),
        "file_left_over_in_source_fail": files("source/x.py", lambda made: made.update({"source/x.py": b"pass\n"})),
        "file_seal_in_a_folder_fail": files("source/s.sigstore.json",
                                            lambda made: made.update({"source/s.sigstore.json": b"{}"})),
        "file_longer_fail": files("config.json", lambda made: made.update({"config.json": made["config.json"] + b" "})),
        "file_bit_fail": bad_pack("SourceFault", ["config.json"], after=flipped("source/config.json", 0)),
        "shard_cut_fail": files("model.safetensors",
                                lambda made: made.update({"model.safetensors": made["model.safetensors"][:-1]})),
        "index_of_another_pack_fail": files(
            "model.safetensors", lambda made: made.update({"pack.index": P.made(pack(tensors=same))["pack.index"]})),
        "shard_header_length_fail": shard("header", shards=lambda made: made.update(
            {"model.safetensors": bytes([255] * 4) + made["model.safetensors"][4:]})),
        "shard_header_order_fail": shard("header", header=unsorted),
        "shard_header_spaces_fail": shard("header", header=lambda document: P.dumps(document) + b" " * 8),
        "shard_header_metadata_fail": shard("header", header=header(lambda d: d["__metadata__"].update(a="b"))),
        "shard_header_no_metadata_fail": shard("header", header=header(lambda d: d.pop("__metadata__"))),
        "shard_order_of_bytes_fail": shard("header", header=header(other_order),
                                           shard=lambda data: data[8:] + data[:8]),
        "shard_hole_fail": shard("w", header=header(moved), shard=lambda data: data[:8] + b"\0" + data[8:]),
        "shard_bytes_after_fail": shard("", shard=lambda data: data + b"\0"),
        "shard_tensor_renamed_fail": shard("", header=header(lambda d: d.update(x=d.pop("w")))),
        "shard_tensor_extra_fail": shard("c", header=header(lambda d: d.update(
            c={"data_offsets": [8, 8], "dtype": "U8", "shape": [0]}))),
        "shard_dtype_of_blob_fail": shard("w", header=header(lambda d: d["w"].update(dtype="I8"))),
        "shard_shape_of_blob_fail": shard("w", header=header(lambda d: d["w"].update(
            shape=[1, *d["w"]["shape"]]))),
        "shard_dtype_of_tensor_fail": shard("bias", header=header(lambda d: d["bias"].update(dtype="I32"))),
        "shard_shape_of_tensor_fail": shard("bias", header=header(lambda d: d["bias"].update(shape=[1, 2]))),
        "blobs_swapped_fail": bad_pack("TensorFault", ["v", "bytes"], tensors=same,
                                       shard=lambda data: data[length:] + data[:length]),
        "blob_of_a_fault_fail": bad_pack("MalformedArtefact", ["w", "chunk 0: CRC-32"],
                                         tensors=[tensor("w", small(), wrong="bodies"), BIAS]),
        "blob_of_another_dtype_fail": bad_pack("MalformedArtefact", ["w", "header"], tensors=[half, BIAS],
                                               index=lambda d: d["tensors"][1].update(dtype="bfloat16")),
        "blob_of_another_codec_fail": bad_pack("MalformedArtefact", ["w", "header"],
                                               index=lambda d: d["tensors"][1].update(codec="exact-v1")),
        "blob_of_another_size_fail": bad_pack("MalformedArtefact", ["w", "header"],
                                              index=lambda d: d["tensors"][1].update(shape=[4, 6])),
        "blob_digest_fail": claim("TensorFault", ["w", "00" * 32], weights("blob")),
        "tensor_digest_fail": claim("TensorFault", ["w", "00" * 32], weights("sha256")),
        "tensor_tree_digest_fail": claim("TensorFault", ["w", "00" * 32], weights("fsverity64k")),
        "raw_digest_fail": bad_pack("TensorFault", ["bias"], shard=lambda data: b"\1" + data[1:]),
    }  # fmt: skip


def cases() -> dict[str, Case]:
    """Return all cases by name."""
    return (
        positive_levels()
        | positive_planes()
        | negative_headers()
        | negative_sides()
        | negative_tables()
        | negative_scales()
        | negative_bodies()
        | positive_packs()
        | negative_indexes()
        | negative_packs()
    )


def write(directory: Path) -> None:
    """Write every case into a folder of its own."""
    for name, (files, expect) in cases().items():
        for file, data in (files | {"expect.json": dumps(expect) + b"\n"}).items():
            path = directory / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
