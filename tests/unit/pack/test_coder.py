# SPDX-License-Identifier: Apache-2.0
"""Tensors to blobs and back; and that nothing changed, cut or moved in a blob ever becomes a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.backends import available, best
from weighmaster.pack.coder import (
    Backend,
    Levels,
    NumpyBackend,
    decode_blob,
    decode_rows,
    encode_exact,
    encode_levels,
)
from weighmaster.pack.layout import parse_layout
from weighmaster.pack.rebuild import from_levels

ONE = 127 << 7
NUMPY = NumpyBackend()
SMALL = Path(__file__).parents[3] / "vectors" / "pack"
UNSIGNED: dict[str, Any] = {"bfloat16": np.uint16, "float16": np.uint16, "float32": np.uint32}
ITEM = {"bfloat16": 2, "float16": 2, "float32": 4, "float8_e4m3fn": 1, "float8_e5m2": 1}


def matrix(random: np.random.Generator, rows: int, cols: int, dtype: str, spread: float, patches: int) -> Levels:
    at = np.sort(random.choice(rows * cols, min(patches, rows * cols), replace=False))
    return Levels(
        dtype=dtype,
        levels=np.clip(np.rint(random.normal(0, spread, (rows, cols))), -255, 255).astype(np.int16),
        row_scale=(ONE - 1024 + 33 * random.integers(0, 5, rows)).astype(np.uint16),
        col_scale=(ONE - 512 + 7 * random.integers(0, 5, cols)).astype(np.uint16),
        patch_at=at.astype(np.int64),
        patch_bits=random.integers(0, 1 << 16, len(at)).astype(UNSIGNED[dtype]),
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    rows=st.integers(1, 30),
    cols=st.integers(1, 80),
    dtype=st.sampled_from(sorted(UNSIGNED)),
    spread=st.sampled_from([0.0, 1.0, 12.0, 200.0]),
    patches=st.integers(0, 9),
    chunk=st.sampled_from([1, 100, 700, 1 << 16]),
)
def test_levels_come_back(seed: int, rows: int, cols: int, dtype: str, spread: float, patches: int, chunk: int) -> None:
    """With patches over what the levels give."""
    made = matrix(np.random.default_rng(seed), rows, cols, dtype, spread, patches)
    expected = from_levels(made.levels, made.row_scale, made.col_scale, dtype).reshape(-1)
    expected[made.patch_at] = made.patch_bits
    blob = encode_levels(made, NUMPY, chunk=chunk)
    layout, data = decode_blob(memoryview(blob), "f", NUMPY)
    assert data.tobytes() == expected.tobytes()
    assert layout.shape.band == min(rows, max(1, chunk // cols))
    first = rows // 3
    assert decode_rows(layout, memoryview(blob), first, rows, NUMPY).tobytes() == expected[first * cols :].tobytes()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    rows=st.integers(1, 30),
    cols=st.integers(1, 80),
    dtype=st.sampled_from(sorted(ITEM)),
    kind=st.sampled_from(["any bits", "one byte", "zeros", "weights"]),
)
def test_every_bit_pattern_comes_back(seed: int, rows: int, cols: int, dtype: str, kind: str) -> None:
    random, count = np.random.default_rng(seed), rows * cols * ITEM[dtype]
    data = {
        "any bits": random.integers(0, 256, count),
        "one byte": np.full(count, seed % 256),
        "zeros": np.zeros(count),
        "weights": random.normal(0, 0.02, count).astype(np.float32).view(np.uint8)[:count],
    }[kind].astype(np.uint8)
    blob = encode_exact(data, dtype, rows, cols, NUMPY, chunk=500)
    assert decode_blob(memoryview(blob), "f", NUMPY)[1].tobytes() == data.tobytes()


@pytest.mark.parametrize("dtype", sorted(ITEM))
def test_a_tensor_of_zeros_comes_back(dtype: str) -> None:
    data = np.zeros(20 * ITEM[dtype], np.uint8)
    assert not decode_blob(memoryview(encode_exact(data, dtype, 4, 5, NUMPY)), "f", NUMPY)[1].any()


def test_float32_that_holds_bfloat16_takes_no_more_than_it() -> None:
    low = np.random.default_rng(0).normal(0, 0.02, 10_000).astype(np.float32).view(np.uint32) >> 16
    wide, narrow = (low << 16).astype("<u4").view(np.uint8), low.astype("<u2").view(np.uint8)
    blobs = [encode_exact(d, t, 100, 100, NUMPY) for d, t in ((wide, "float32"), (narrow, "bfloat16"))]
    assert [blob[7] for blob in blobs] == [1, 0]
    assert len(blobs[0]) == len(blobs[1])


def test_bfloat16_weights_take_less_than_eleven_bits() -> None:
    bits = np.random.default_rng(1).normal(0, 0.02, 1 << 18).astype(np.float32).view(np.uint32) >> 16
    blob = encode_exact(bits.astype("<u2").view(np.uint8), "bfloat16", 512, 512, NUMPY)
    assert 8 * len(blob) / (1 << 18) < 10.8


# -- nothing that was changed becomes a tensor ------------------------------------------------------------------------


def outcome(blob: bytes, backend: Backend) -> bytes | MalformedArtefact:
    try:
        return decode_blob(memoryview(blob), "f", backend)[1].tobytes()
    except MalformedArtefact as error:
        return error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "case"),
    [*((backend, "exact_float16") for backend in available()), (NUMPY, "patch_float32"), (best(), "patch_float32")],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_flipped_bit_is_refused(backend: Backend, case: str) -> None:
    """Exhaustively, header included: by the codec itself, before any digest is compared."""
    blob = (SMALL / case / "blob.bin").read_bytes()
    assert isinstance(outcome(blob, backend), bytes)
    for at in range(len(blob)):
        for bit in range(8):
            changed = blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :]
            assert isinstance(outcome(changed, backend), MalformedArtefact), (at, bit)


@pytest.mark.parametrize("case", ["exact_float16", "patch_float32"])
@pytest.mark.parametrize("backend", available(), ids=lambda b: b.name)
def test_every_truncation_is_refused(case: str, backend: Backend) -> None:
    blob = (SMALL / case / "blob.bin").read_bytes()
    for length in range(len(blob)):
        assert isinstance(outcome(blob[:length], backend), MalformedArtefact), length
    for more in (b"\0", b"\xff", blob):
        assert isinstance(outcome(blob + more, backend), MalformedArtefact), more


@pytest.mark.parametrize("backend", available(), ids=lambda b: b.name)
def test_parts_of_another_blob_are_refused(backend: Backend) -> None:
    """Side section and bodies of two tensors of one shape, exchanged: header and chunk table bind them."""
    random = np.random.default_rng(4)
    blobs = [encode_levels(matrix(random, 6, 50, "bfloat16", 3.0, 2), NUMPY, chunk=100) for _ in range(2)]
    starts = [parse_layout(memoryview(blob), "f").chunks[0].begin for blob in blobs]
    for mine, other in ((0, 1), (1, 0)):
        sides = [blob[44 : start - 12 * 3] for blob, start in zip(blobs, starts, strict=True)]
        swapped = blobs[mine][:44] + sides[other] + blobs[mine][starts[mine] - 36 :]
        assert isinstance(outcome(swapped, backend), MalformedArtefact)
        swapped = blobs[mine][: starts[mine]] + blobs[other][starts[other] :]
        assert isinstance(outcome(swapped, backend), MalformedArtefact)


@pytest.mark.parametrize("backend", available(), ids=lambda b: b.name)
def test_chunks_in_another_order_are_refused(backend: Backend) -> None:
    blob = encode_exact(np.arange(64, dtype=np.uint8), "float8_e5m2", 8, 8, NUMPY, chunk=8)
    chunks = parse_layout(memoryview(blob), "f").chunks
    bodies = [blob[c.begin : c.stop] for c in chunks]
    swapped = blob[: chunks[0].begin] + b"".join([bodies[1], bodies[0], *bodies[2:]])
    found = outcome(swapped, backend)
    assert isinstance(found, MalformedArtefact)
    assert found.field.startswith("chunk 0")
