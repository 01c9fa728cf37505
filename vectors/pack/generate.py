# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/pack.md: ``python vectors/pack/generate.py [DIRECTORY]``.

A case is a blob (``blob.bin``) or a whole pack (``pack/``), and what a reader says to it (``expect.json``). Every run
writes the same bytes; blobs are made by ``blob.py``, packs by ``packs.py``.
"""

from __future__ import annotations

import hashlib
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
