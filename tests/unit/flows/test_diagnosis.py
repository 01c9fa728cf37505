# SPDX-License-Identifier: Apache-2.0
"""Each class of fault gets its word, and a near case does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from weighmaster.core.digest import digest_bytes
from weighmaster.core.manifest import Row, Table
from weighmaster.core.tensor import TensorView, row_major
from weighmaster.errors import TensorFault
from weighmaster.flows.diagnosis import Finding, diagnose
from weighmaster.flows.diagnosis_bits import CASTS, round_to

SEEDS = pytest.mark.parametrize("seed", range(3))
DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
SHAPE = (256, 256)


def encode(values, dtype):
    if dtype == "bfloat16":
        return (round_to(values, *CASTS[dtype]).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return (np.rint(values * 1000).clip(-127, 127) if dtype == "int8" else values).astype(dtype).tobytes()


def weights(seed):
    return np.random.default_rng(seed).normal(0, 0.05, SHAPE)


def view(data, dtype="float32", shape=SHAPE, name="w"):
    return TensorView(name=name, dtype=dtype, shape=shape, stride=row_major(shape), nbytes=len(data), layout="strided",
                      role="parameter", extent=None, read=lambda a, b: memoryview(data)[a:b])  # fmt: skip


def table(data, dtype="float32", shape=SHAPE):
    digest = digest_bytes(data)
    row = Row(name="w", dtype=dtype, shape=shape, stride=row_major(shape), nbytes=len(data), layout="strided",
              role="parameter", alias=None, sha256=digest.sha256, fsverity64k=digest.fsverity64k)  # fmt: skip
    return Table(stage="S3", view="kernel", rows=(row,))


def judge(before, after, dtype="float32") -> Finding:
    (finding,) = diagnose(table(before, dtype), [view(after, dtype)], [view(before, dtype)])
    return finding


@SEEDS
@DTYPES
@pytest.mark.parametrize("mask", [1, 0x80, 0x81, 0xFF])
def test_flips_are_listed_bit_by_bit(seed, dtype, mask):
    before = encode(weights(seed), dtype)
    after = bytearray(before)
    after[1001] ^= mask
    found = judge(before, bytes(after), dtype)
    size = len(before) // 65536
    bits = [8 * (1001 % size) + b for b in range(8) if mask >> b & 1]
    assert found.kind == "flipped-bits"
    assert [(f["index"], f["bit"]) for f in found.figures["flips"]] == [(1001 // size, b) for b in bits]
    assert found.document()["figures"]["bits"] == len(bits)


@SEEDS
@DTYPES
def test_replaced_and_tails_and_shift(seed, dtype):
    before, other = encode(weights(seed), dtype), encode(weights(seed + 100), dtype)
    cut = len(before) // 2 + 1
    assert judge(before, other, dtype).kind == "replaced"
    zeros = judge(before, before[:cut] + bytes(len(before) - cut), dtype)
    assert (zeros.kind, zeros.figures["fill"]) == ("truncated-tail", "zeros")
    assert cut <= zeros.figures["offset"] <= cut + 4
    shifted = judge(before, bytes(3) + before[:-3], dtype)
    assert (shifted.kind, shifted.figures["bytes"]) == ("shifted", 3)


@SEEDS
@pytest.mark.parametrize("through", sorted(CASTS))
def test_recast_within_float32_and_by_dtype(seed, through):
    before = encode(weights(seed), "float32")
    values = np.frombuffer(before, "<f4").astype(float)
    found = judge(before, round_to(values, *CASTS[through]).astype("<f4").tobytes())
    assert (found.kind, found.figures["through"]) == ("recast", through)


def test_recast_by_dtype_and_form():
    before = encode(weights(1), "float32")
    half = view(np.frombuffer(before, "<f4").astype("<f2").tobytes(), "float16")
    (found,) = diagnose(table(before), [half], [view(before)])
    assert found.kind == "recast"
    (found,) = diagnose(table(before), [half])
    assert found.kind == "form"


@SEEDS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_adapter_of_rank_8(seed, dtype):
    rng = np.random.default_rng(seed)
    before = encode(weights(seed), dtype)
    delta = rng.normal(0, 0.05, (256, 8)) @ rng.normal(0, 0.05, (8, 256))
    found = judge(before, encode(weights(seed) + delta, dtype), dtype)
    assert (found.kind, found.figures["rank"]) == ("adapter-merged", 8)


@SEEDS
def test_int4_in_blocks_of_32(seed):
    values = weights(seed).astype("<f4")
    blocks = values.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 7
    found = judge(values.tobytes(), (np.rint(blocks / scale) * scale).astype("<f4").tobytes())
    assert (found.kind, found.figures["block"]) == ("requantized", 32)


@SEEDS
def test_small_noise_is_undetermined(seed):
    noisy = weights(seed) + np.random.default_rng(seed + 9).normal(0, 0.01, SHAPE)
    assert judge(encode(weights(seed), "float32"), encode(noisy, "float32")).kind == "undetermined"


def test_one_row_overwritten_is_no_adapter():
    values = weights(1)
    values[3] = weights(2)[3]
    assert judge(encode(weights(1), "float32"), encode(values, "float32")).kind == "undetermined"


def test_digests_alone_name_the_leaf_and_a_lying_reference_is_refused():
    before = encode(weights(1), "float32")
    after = bytearray(before)
    after[70_000] ^= 1
    (found,) = diagnose(table(before), [view(bytes(after))], leaves={"w": digest_bytes(before).leaves})
    assert (found.kind, found.figures["leaves"]) == ("undetermined", [1])
    with pytest.raises(TensorFault, match="reference is not the validated tensor"):
        diagnose(table(before), [view(before)], [view(bytes(after))])


def test_sets_differ_and_equal_is_silent():
    before = encode(weights(1), "float32")
    assert diagnose(table(before), [view(before)]) == ()
    assert [f.kind for f in diagnose(table(before), [view(before, name="x")])] == ["missing", "extra"]


@SEEDS
def test_a_small_tensor_of_other_values_is_not_called_flipped(seed):
    before, after = (np.random.default_rng(s).normal(0, 1, 8).astype("<f2").tobytes() for s in (seed, seed + 50))
    (found,) = diagnose(table(before, "float16", (8,)), [view(after, "float16", (8,))], [view(before, "float16", (8,))])
    assert found.kind == "undetermined"


def test_rows_and_columns_mean_nothing_where_bytes_lie_otherwise():
    rng = np.random.default_rng(7)
    before = encode(weights(7), "float32")
    after = encode(weights(7) + rng.normal(0, 0.01, (256, 8)) @ rng.normal(0, 1, (8, 256)), "float32")
    assert judge(before, after).kind == "adapter-merged"
    turned = (1, 256)
    rows = tuple(dataclasses.replace(row, stride=turned) for row in table(before).rows)
    live, reference = (dataclasses.replace(view(data), stride=turned) for data in (after, before))
    (found,) = diagnose(Table(stage="S3", view="kernel", rows=rows), [live], [reference])
    assert found.kind != "adapter-merged"
