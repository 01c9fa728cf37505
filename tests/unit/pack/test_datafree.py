# SPDX-License-Identifier: Apache-2.0
"""The encoder that looks at the weights alone, on matrices of every kind."""

import math
from decimal import Decimal

import numpy as np
import pytest
from tests.unit.pack.views import view

from weighmaster.errors import UsageError
from weighmaster.pack.backends import best
from weighmaster.pack.coder import decode_blob
from weighmaster.pack.datafree import Datafree
from weighmaster.pack.plan import plan_datafree
from weighmaster.pack.quantize import values_of
from weighmaster.pack.scales import split

SIZES = ["bfloat16", "float16", "float32"]


def plan(step, bits="5"):
    row, col = split(step)
    return Datafree(row=int(row), col=int(col), bits=Decimal(bits))


def rebuilt(coded, source):
    if coded.codec == "raw-v1":
        data = np.frombuffer(coded.blob, np.uint8)
    else:
        data = decode_blob(memoryview(coded.blob), "w", best())[1]
    return values_of(data, source.dtype).reshape(source.shape)


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize(
    "shape", [(64, 64), (1, 5000), (5000, 1), (3, 1700), (97, 131), (16, 16, 5, 5), (4, 30, 64)], ids=str
)
def test_every_shape_and_dtype_is_near(dtype, shape):
    source = view(gaussian(*shape), dtype)
    coded = plan(0.25).encode(source)
    assert coded.codec == "five-v1"
    error = rebuilt(coded, source) - values_of(np.frombuffer(source.read(0, source.nbytes), np.uint8), dtype).reshape(
        shape
    )
    assert np.abs(error).max() <= 0.126 + 2.0**-7
    assert coded.squared_error == pytest.approx(float(np.square(error, dtype=np.float64).sum()), rel=1e-5)
    assert coded.squared == pytest.approx(float(np.square(gaussian(*shape), dtype=np.float64).sum()), rel=0.02)
    assert 8 * len(coded.blob) / error.size < 6


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((80, 80)),
        np.full((80, 80), 0.3),
        np.full((80, 80), 1e-40),
        np.full((80, 80), -0.0),
        np.diag(np.full(80, 0.5)),
        np.concatenate([np.zeros((40, 80)), np.ones((40, 80))]),
        gaussian(80, 80) * np.logspace(-8, 0, 80, dtype=np.float32),
    ],
    ids=["zeros", "constant", "subnormal", "minus zeros", "diagonal", "zero rows", "columns over eight decades"],
)
def test_odd_matrices(values):
    source = view(values)
    coded = plan(0.01).encode(source)
    off = np.abs(rebuilt(coded, source) - values.astype(np.float32)).max()
    assert off <= 0.0051 * max(1, np.abs(values).max() * 12)  # the loudest columns are held to the cap
    assert len(coded.blob) < source.nbytes


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_kept_bit_for_bit(bad):
    values = gaussian(80, 80)
    values[3, 4] = bad
    source = view(values)
    coded = plan(0.25).encode(source)
    assert coded.codec in {"exact-v1", "raw-v1"}
    assert rebuilt(coded, source).tobytes() == values.tobytes()
    assert coded.squared_error == 0.0


def test_an_outlier_is_kept_bit_for_bit():
    values = gaussian(80, 80)
    values[3, 4], values[70, 0] = 1e30, -12345.678
    source = view(values)
    coded = plan(0.25).encode(source)
    out = rebuilt(coded, source)
    assert coded.codec == "five-v1"
    assert (out[3, 4], out[70, 0]) == (values[3, 4], values[70, 0]) or np.abs(out - values).max() <= 1e30 * 0.01
    assert math.isfinite(coded.squared_error)


def test_a_level_that_is_clipped_is_a_patch():
    values = gaussian(200, 80)
    values[3, 4] = 70.0  # 280 steps; its column stays below the cap
    source = view(values)
    coded = plan(0.25).encode(source)
    out = rebuilt(coded, source)
    assert out[3, 4] == np.float32(70.0)
    assert np.abs(out - values).max() < 0.13


def test_a_loud_column_has_a_step_of_its_own():
    values = gaussian(80, 80)
    values[:, 7] *= 100
    out = rebuilt(plan(0.25).encode(view(values)), view(values))
    assert np.abs(out[:, 8] - values[:, 8]).max() <= 0.126
    assert 0.2 < np.abs(out[:, 7] - values[:, 7]).max() < 4


def test_what_would_leave_the_dtype_is_kept():
    source = view(np.full((80, 80), 6e4), "float16")
    coded = plan(1e4).encode(source)
    assert coded.codec == "exact-v1"
    assert (rebuilt(coded, source) == np.float16(6e4)).all()


def model(dtype="bfloat16"):
    return [
        view(gaussian(300, 400, seed=1) * 0.02, dtype, "a"),
        view(gaussian(200, 800, seed=2) * 0.1, dtype, "b"),
        view(np.ones(300), dtype, "norm"),
    ]


@pytest.mark.parametrize("bits", ["3", "4.3", "5", "6.7", "8"])
def test_the_whole_file_takes_what_was_asked(bits):
    views = model()
    encoder = plan_datafree(views, bits=Decimal(bits), fixed_bytes=3000)
    size = 3000 + sum(len(encoder.encode(v).blob) for v in views)
    assert float(bits) - 0.02 <= 8 * size / 280_300 <= float(bits)


def test_both_tensors_have_the_same_step():
    encoder = plan_datafree(model(), bits=Decimal(5), fixed_bytes=0)
    a, b, _ = (encoder.encode(v) for v in model())
    assert a.squared_error / 120_000 == pytest.approx(b.squared_error / 160_000, rel=0.05)
    assert len(a.blob) / 120_000 < len(b.blob) / 160_000 - 0.2  # 2.3 bits less


def test_a_rate_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="bits per weight; the least is"):
        plan_datafree([view(gaussian(64, 64))], bits=Decimal(3), fixed_bytes=1_000_000)


def test_a_model_without_matrices_has_no_rate_to_choose():
    with pytest.raises(UsageError, match="the least is 32"):
        plan_datafree([view(np.ones(300))], bits=Decimal(8), fixed_bytes=0)
