# SPDX-License-Identifier: Apache-2.0
"""Every compiled codec gives what the NumPy codec gives: bytes, and the same fault for what is broken."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
import torch

from weighmaster.errors import MalformedArtefact
from weighmaster.pack import native, quantize
from weighmaster.pack.coder import Levels, NumpyBackend, decode_blob, decode_rows, encode_exact, encode_levels
from weighmaster.pack.contexts import level_classes
from weighmaster.pack.layout import LEVELS, STATES, Layout, Shape, parse_layout
from weighmaster.pack.native import NativeBackend
from weighmaster.pack.tables import CLASSES, Table

NUMPY = NumpyBackend()
BACKENDS = [NativeBackend(name) for name in native.paths()]
UNSIGNED = {"bfloat16": np.uint16, "float16": np.uint16, "float32": np.uint32}
PLANES = ("bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2")
SHAPES = ((1, 1), (1, 100), (100, 1), (37, 70), (200, 33), (300, 64), (5, 1000))

pytestmark = pytest.mark.skipif(
    not BACKENDS, reason="no compiled codec here (test_backends.py says whether it must be)"
)


def each(backend_id=lambda b: b.name):
    return pytest.mark.parametrize("backend", BACKENDS, ids=backend_id)


def matrix(rng, rows, cols, dtype="bfloat16", spread=6.0, patches=0):
    wide = rng.standard_normal((rows, cols)) * spread * np.exp2(rng.integers(-3, 3, cols) / 2)
    at = np.unique(rng.integers(0, rows * cols, patches)) if patches else np.empty(0, np.int64)
    return Levels(
        dtype=dtype,
        levels=np.clip(np.rint(wide), -255, 255).astype(np.int16),
        row_scale=rng.choice(np.arange(0x3880, 0x3E00, 7, np.uint16)[:200], rows),
        col_scale=rng.choice(np.arange(0x3B80, 0x4000, 5, np.uint16)[:200], cols),
        patch_at=at,
        patch_bits=rng.integers(0, 1 << 16, len(at)).astype(UNSIGNED[dtype]),
    )


def decoded(blob, backend, **options):
    return decode_blob(memoryview(blob), "blob", backend, **options)[1]


@each()
@pytest.mark.parametrize("dtype", UNSIGNED)
@pytest.mark.parametrize("table_bits", [11, 12, 13, 14])
def test_levels_of_every_dtype_shape_and_table_size(backend, dtype, table_bits):
    rng = np.random.default_rng(table_bits)
    for rows, cols in SHAPES:
        for spread in (0.0, 2.0, 90.0):
            made = matrix(rng, rows, cols, dtype, spread, patches=3)
            blob = encode_levels(made, NUMPY, table_bits=table_bits, chunk=700)
            assert encode_levels(made, backend, table_bits=table_bits, chunk=700) == blob
            assert (decoded(blob, backend) == decoded(blob, NUMPY)).all()


@each()
@pytest.mark.parametrize("dtype", PLANES)
def test_planes_of_every_dtype(backend, dtype):
    rng = np.random.default_rng(7)
    for rows, cols in SHAPES:
        count = rows * cols * (1 if dtype.startswith("float8") else 4 if dtype == "float32" else 2)
        noise = rng.integers(0, 256, count).astype(np.uint8)
        weights = rng.standard_normal(rows * cols).astype(np.float32)
        narrow = (weights.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)[:count].copy()
        datas = [noise, weights.view(np.uint8) if dtype == "float32" else narrow]
        if dtype == "float32":
            datas.append((weights.view(np.uint32) & 0xFFFF0000).view(np.uint8))  # variant 1
        for data in datas:
            blob = encode_exact(data, dtype, rows, cols, NUMPY, table_bits=13, chunk=500)
            assert encode_exact(data, dtype, rows, cols, backend, table_bits=13, chunk=500) == blob
            assert (decoded(blob, backend) == data).all()


@each()
def test_planes_of_twelve_bits_whose_lowest_symbol_is_not_zero(backend):
    rng = np.random.default_rng(8)
    data = (rng.standard_normal(40 * 96).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    blob = encode_exact(data, "bfloat16", 40, 96, NUMPY)
    assert min(t.lowest for t in parse_layout(memoryview(blob), "blob").tables if t) > 0
    assert (decoded(blob, backend) == data).all()


@each()
def test_random_bits_of_every_kind_survive_planes(backend):
    patterns = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)  # NaN payloads, infinities, -0, subnormal numbers
    for dtype in ("bfloat16", "float16"):
        assert (decoded(encode_exact(patterns, dtype, 256, 256, backend), backend) == patterns).all()


@each()
def test_a_table_of_one_symbol_and_classes_that_are_absent(backend):
    rng = np.random.default_rng(3)
    rows, cols = 40, 70
    row_class, col_class = rng.integers(-128, 128, rows).astype(np.int8), rng.integers(-2, 3, cols).astype(np.int8)
    one, many = np.array([4096]), np.array([1, 4000, 95])
    tables = [None] * CLASSES
    classes = np.clip(row_class[:, None].astype(int) + col_class, 0, CLASSES - 1)
    for i in np.unique(classes):
        tables[i] = Table(lowest=-int(i), frequencies=many if i % 2 else one)
    choice = np.where(classes % 2 == 1, rng.integers(0, 3, classes.shape), 0)
    symbols = (choice - classes).astype(np.int16)
    shape = Shape(codec=LEVELS, dtype="bfloat16", table_bits=12, variant=0, rows=rows, cols=cols, band=16)
    layout = Layout(
        shape=shape,
        tables=tuple(tables),
        row_scale=np.full(rows, 0x3F80, np.uint16),
        col_scale=np.full(cols, 0x3F80, np.uint16),
        row_class=row_class,
        col_class=col_class,
        chunks=(),
        file="",
    )
    assert backend.encode(layout, symbols) == NUMPY.encode(layout, symbols)


@each()
def test_a_matrix_of_zeros_whose_scales_would_overflow(backend):
    zeros = np.zeros((3, 40), np.int16)
    empty = np.empty(0, np.int64)
    made = Levels(
        dtype="float32",
        levels=zeros,
        row_scale=np.full(3, 0x7F7F, np.uint16),
        col_scale=np.full(40, 0x7F7F, np.uint16),
        patch_at=empty,
        patch_bits=empty.astype(np.uint32),
    )
    assert not decoded(encode_levels(made, backend), backend).any()


@each()
def test_a_scale_that_overflows_before_the_other_brings_it_back(backend):
    made = Levels(
        dtype="bfloat16",
        levels=np.tile(np.arange(-255, 256, dtype=np.int16), (2, 1)),
        row_scale=np.full(2, 0x7F00, np.uint16),  # 2^127: times 2 it is infinite
        col_scale=np.full(511, 0x0F80, np.uint16),
        patch_at=np.empty(0, np.int64),
        patch_bits=np.empty(0, np.uint16),
    )
    blob = encode_levels(made, NUMPY)
    assert (decoded(blob, backend) == decoded(blob, NUMPY)).all()


@each()
def test_row_bands_and_threads_give_the_same_bytes(backend):
    made = matrix(np.random.default_rng(5), 90, 80, patches=9)
    blob = encode_levels(made, NUMPY, chunk=400)
    whole = decoded(blob, NUMPY)
    assert (decoded(blob, backend, threads=3) == whole).all()
    layout = parse_layout(memoryview(blob), "blob")
    band = decode_rows(layout, memoryview(blob), 13, 57, backend)
    assert (band == whole[13 * 160 : 57 * 160]).all()


# -- faults -----------------------------------------------------------------------------------------------------------


def fault(blob, backend):
    """Return the fault of a blob, or its bytes."""
    try:
        return "bytes", decoded(blob, backend).tobytes()
    except MalformedArtefact as found:
        return "fault", str(found)


@pytest.fixture(scope="module")
def small():
    made = matrix(np.random.default_rng(11), 7, 34, patches=4)
    return encode_levels(made, NUMPY, chunk=102)


def resealed(blob, layout):
    """Return a blob whose chunks have the CRC-32 of what is there now."""
    out = bytearray(blob)
    table_at = layout.chunks[0].begin - 12 * len(layout.chunks)
    for i, chunk in enumerate(layout.chunks):
        crc = zlib.crc32(out[chunk.begin : chunk.stop])
        out[table_at + 12 * i + 8 : table_at + 12 * i + 12] = crc.to_bytes(4, "little")
    return bytes(out)


@pytest.mark.slow
def test_every_flipped_bit_is_the_same_fault(small):
    for bit in range(8 * len(small)):
        flipped = bytearray(small)
        flipped[bit // 8] ^= 1 << bit % 8
        found = {fault(flipped, backend) for backend in (*BACKENDS, *([NUMPY] if bit % 8 == bit // 8 % 8 else []))}
        assert [kind for kind, _ in found] == ["fault"], f"bit {bit}"


@pytest.mark.slow
def test_flipped_bits_under_a_valid_crc_end_as_in_numpy(small):
    layout = parse_layout(memoryview(small), "blob")
    seen = set()
    for bit in range(8 * layout.chunks[0].begin, 8 * len(small), 7):
        flipped = bytearray(small)
        flipped[bit // 8] ^= 1 << bit % 8
        blob = resealed(flipped, layout)
        found = {fault(blob, backend) for backend in (*BACKENDS, NUMPY)}
        assert len(found) == 1, f"bit {bit}"
        seen.update(kind if kind == "bytes" else what.split(": ", 2)[-1][:30] for kind, what in found)
    assert len(seen) > 2  # values of patches change bytes; words, states and positions are faults of several kinds


@each()
def test_two_faults_are_named_in_the_order_of_numpy(backend, small):
    layout = parse_layout(memoryview(small), "blob")
    first, second = layout.chunks[0], layout.chunks[1]
    for places in (
        (first.begin + STATES, second.begin + 3),  # a word of chunk 0, then a state of chunk 1: states come first
        (first.stop - 1 - 2 * first.patches - 4, second.begin + STATES),
        (first.begin + STATES + 2 * first.words - 1, second.begin + STATES),
    ):
        damaged = bytearray(small)
        for at in places:
            damaged[at] = 0 if at == second.begin + 3 else damaged[at] ^ 0xFF
        damaged[second.begin + 2] = 0 if places[1] == second.begin + 3 else damaged[second.begin + 2]
        blob = resealed(damaged, layout)
        assert fault(blob, backend) == fault(blob, NUMPY)
        assert fault(blob, NUMPY)[0] == "fault"


@each()
def test_truncation_anywhere_is_the_same_fault(backend, small):
    for size in range(len(small)):
        assert fault(small[:size], backend) == fault(small[:size], NUMPY)


@each()
@pytest.mark.parametrize("lost", [1, 3, 6])
def test_words_that_are_missing(backend, small, lost):
    """The last words of a chunk are cut out, and everything else is put right."""
    layout = parse_layout(memoryview(small), "blob")
    chunk = layout.chunks[0]
    lost = min(lost, chunk.words)
    at = chunk.begin + STATES + 2 * (chunk.words - lost)
    body = small[chunk.begin : at] + small[at + 2 * lost : chunk.stop]
    record = (chunk.words - lost).to_bytes(4, "little") + chunk.patches.to_bytes(4, "little")
    table_at = chunk.begin - 12 * len(layout.chunks)
    blob = small[:table_at] + record + zlib.crc32(body).to_bytes(4, "little") + small[table_at + 12 : chunk.begin]
    blob += body + small[chunk.stop :]
    assert fault(blob, backend) == fault(blob, NUMPY)
    assert "chunk 0: entropy code" in fault(blob, backend)[1]


@each()
def test_words_that_are_too_many(backend, small):
    layout = parse_layout(memoryview(small), "blob")
    chunk = layout.chunks[1]
    at = chunk.begin + STATES + 2 * chunk.words
    body = small[chunk.begin : at] + b"\0\0" + small[at : chunk.stop]
    record = (chunk.words + 1).to_bytes(4, "little") + chunk.patches.to_bytes(4, "little")
    table_at = layout.chunks[0].begin - 12 * (len(layout.chunks) - 1)
    blob = small[:table_at] + record + zlib.crc32(body).to_bytes(4, "little")
    blob += small[table_at + 12 : chunk.begin] + body + small[chunk.stop :]
    assert fault(blob, backend) == fault(blob, NUMPY)
    assert "chunk 1: entropy code" in fault(blob, backend)[1]


@each()
def test_a_class_without_a_table(backend):
    made = matrix(np.random.default_rng(2), 20, 64)
    blob = encode_levels(made, NUMPY)
    layout = parse_layout(memoryview(blob), "blob")
    used = np.unique(np.clip(level_classes(made.levels)[0][:, None].astype(int) + level_classes(made.levels)[1], 0, 7))
    missing = int(used[0])
    less = dataclasses.replace(layout, tables=tuple(None if i == missing else t for i, t in enumerate(layout.tables)))
    out = np.empty(20 * 64 * 2, np.uint8)
    with pytest.raises(MalformedArtefact) as expected:
        NUMPY.decode(less, memoryview(blob), less.chunks, out)
    with pytest.raises(MalformedArtefact) as found:
        backend.decode(less, memoryview(blob), less.chunks, out)
    assert str(found.value) == str(expected.value)
    assert f"none for [{missing}" in str(found.value) or str(missing) in str(found.value)


@each()
def test_a_symbol_without_a_frequency_is_not_encoded(backend):
    made = matrix(np.random.default_rng(2), 20, 64)
    layout = parse_layout(memoryview(encode_levels(made, NUMPY)), "blob")
    for level in (254, 255, 256, -256, 32_767, -32_768):
        symbols = made.levels.copy()
        symbols[7, 63] = level
        with pytest.raises(ValueError, match="no frequency"):
            backend.encode(layout, symbols)


@each()
def test_sizes_that_do_not_fit_are_refused_before_anything_is_read(backend):
    made = matrix(np.random.default_rng(2), 20, 64)
    blob = encode_levels(made, NUMPY, chunk=320)
    view = memoryview(blob)
    layout = parse_layout(view, "blob")
    out = np.empty(20 * 64 * 2, np.uint8)
    chunk = layout.chunks[-1]
    for chunks, room in (
        ([*layout.chunks[:-1], dataclasses.replace(chunk, begin=len(blob) - 10)], out),
        ([*layout.chunks[:-1], dataclasses.replace(chunk, words=chunk.words + 100_000)], out),
        ([*layout.chunks[:-1], dataclasses.replace(chunk, patches=1 << 31)], out),
        (layout.chunks, out[:-1]),
        (layout.chunks[:2], out),
    ):
        with pytest.raises(ValueError, match="sizes do not fit"):
            backend.decode(layout, view, chunks, room)
    with pytest.raises(ValueError, match="wrong size"):
        backend.decode(dataclasses.replace(layout, col_class=layout.col_class[:-1]), view, layout.chunks, out)
    broken = (Table(lowest=0, frequencies=np.array([4095])), *layout.tables[1:])
    with pytest.raises(ValueError, match="do not fit together"):
        backend.decode(dataclasses.replace(layout, tables=broken), view, layout.chunks, out)


def test_an_unknown_path_is_refused():
    made = matrix(np.random.default_rng(2), 2, 3)
    with pytest.raises(ValueError, match="no path sse9"):
        encode_levels(made, NativeBackend("sse9"))


# -- modes of the floating-point unit ---------------------------------------------------------------------------------


@each()
def test_flushing_subnormal_numbers_changes_nothing(backend):
    rng = np.random.default_rng(9)
    cases = []
    for dtype, unsigned in UNSIGNED.items():
        made = matrix(rng, 30, 70, dtype, 5.0)
        if dtype == "float16":
            made = dataclasses.replace(made, row_scale=np.full(30, 0x3780, np.uint16))  # 2^-16: subnormal results
        bits = rng.integers(0, 1 << 16, 30 * 70).astype(unsigned)
        bits &= 0x03FF if dtype == "float16" else 0x807F  # nothing but subnormal numbers
        data = bits.view(np.uint8)
        tiny = np.full(30, 0x0080, np.uint16), np.full(70, 0x3F80, np.uint16)  # 2^-126
        cases.append((dtype, encode_levels(made, NUMPY), data, tiny))
    plain = [_all_of(backend, *case) for case in cases]
    assert torch.set_flush_denormal(True)
    try:
        flushed = [_all_of(backend, *case) for case in cases]
    finally:
        torch.set_flush_denormal(False)
    assert flushed == plain
    for (dtype, blob, _, _), result in zip(cases, plain, strict=True):
        assert result[0] == decoded(blob, NUMPY).tobytes()
        halves = np.frombuffer(result[0], np.uint16) & 0x7FFF
        assert dtype != "float16" or ((halves > 0) & (halves < 0x400)).any()


def _all_of(backend, dtype, blob, data, scales):
    row, col, finite = backend.energies(data, dtype, 30, 70)
    levels = backend.quantize(data, dtype, 30, 70, *scales)
    return decoded(blob, backend).tobytes(), row.tobytes(), col.tobytes(), finite, levels.tobytes()


# -- what encoders measure --------------------------------------------------------------------------------------------


def numbers(rng, dtype, count, *, finite):
    """Bits of every kind: subnormal, large, and, if asked for, infinite and NaN."""
    bits = rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32)
    if dtype == "float32":
        return (np.where(bits & 0x7F800000 == 0x7F800000, bits ^ 0x40000000, bits) if finite else bits).view(np.uint8)
    exponent = 0x7F80 if dtype == "bfloat16" else 0x7C00
    half = (bits & 0xFFFF).astype(np.uint16)
    return (np.where(half & exponent == exponent, half ^ 0x4000, half) if finite else half).view(np.uint8)


@each()
@pytest.mark.parametrize("dtype", UNSIGNED)
@pytest.mark.parametrize("finite", [True, False])
def test_energies_are_those_of_numpy(backend, dtype, finite):
    rng = np.random.default_rng(21)
    for rows, cols in (*SHAPES, (700, 40)):
        data = numbers(rng, dtype, rows * cols, finite=finite)
        expected, found = quantize.energies(data, dtype, rows, cols), backend.energies(data, dtype, rows, cols)
        assert (found[0] == expected[0]).all()
        assert (found[1] == expected[1]).all()
        assert found[2] is expected[2]


@each()
@pytest.mark.parametrize("dtype", UNSIGNED)
def test_levels_are_those_of_numpy(backend, dtype):
    rng = np.random.default_rng(22)
    for rows, cols in SHAPES:
        data = numbers(rng, dtype, rows * cols, finite=True)
        small = rng.standard_normal(rows * cols).astype(np.float32)
        near = {
            "float32": small.view(np.uint8),
            "bfloat16": (small.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8),
            "float16": small.astype(np.float16).view(np.uint8),
        }[dtype]
        for values in (data, near):
            for first in (0x0080, 0x3C00):
                row = rng.integers(first, first + 0x300, rows).astype(np.uint16)
                col = rng.integers(0x3F80, 0x4100, cols).astype(np.uint16)
                expected = quantize.quantize(values, dtype, rows, cols, row, col)
                assert (backend.quantize(values, dtype, rows, cols, row, col) == expected).all()


@each()
def test_ties_go_to_the_even_level(backend):
    halves = (np.arange(-1100, 1101) / 2).astype(np.float32)
    one = np.array([0x3F80], np.uint16)
    levels = backend.quantize(halves.view(np.uint8), "float32", 1, len(halves), one, np.repeat(one, len(halves)))
    assert (levels[0] == np.clip(np.rint(halves), -255, 255)).all()


@each()
@pytest.mark.parametrize("scale", [0, 0x7F80, 0x8080, 0x0001])
def test_scales_that_are_not_normal_and_positive_are_refused(backend, scale):
    data = np.zeros(8, np.uint8)
    good, bad = np.full(2, 0x3F80, np.uint16), np.array([0x3F80, scale], np.uint16)
    with pytest.raises(ValueError, match="normal positive"):
        backend.quantize(data, "bfloat16", 2, 2, bad, good)
    with pytest.raises(ValueError, match="normal positive"):
        backend.quantize(data, "bfloat16", 2, 2, good, bad)


@each()
def test_histograms_are_those_of_numpy(backend):
    rng = np.random.default_rng(23)
    for rows, cols in (*SHAPES, (3, 5000)):
        levels = rng.integers(-255, 256, (rows, cols)).astype(np.int16)
        for low, high in ((-128, 128), (-1, 3)):
            row = rng.integers(low, high, rows).astype(np.int8)
            col = rng.integers(low, high, cols).astype(np.int8)
            assert (backend.histogram(levels, row, col) == quantize.histogram(levels, row, col)).all()


@each()
@pytest.mark.parametrize("level", [256, -256, 32_767, -32_768])
def test_a_level_beyond_is_refused(backend, level):
    levels = np.zeros((2, 40), np.int16)
    levels[1, 39] = level
    with pytest.raises(ValueError, match="beyond"):
        backend.histogram(levels, np.zeros(2, np.int8), np.zeros(40, np.int8))


@pytest.mark.parametrize("plain", [True, False])
def test_the_checksum_is_that_of_zlib(plain):
    data = np.random.default_rng(1).integers(0, 256, 3000).astype(np.uint8).tobytes()
    for size in [*range(300), 511, 512, 513, 1500, 3000]:
        for start in (0, 1, 7):
            piece = data[start:size]
            assert native.extension().crc32(piece, plain) == zlib.crc32(piece)
