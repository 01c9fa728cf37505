# SPDX-License-Identifier: Apache-2.0
"""How fine rows and columns are."""

from decimal import Decimal

import numpy as np
import pytest

from weighmaster.errors import UsageError
from weighmaster.pack.allocation import fineness_of, scales_of
from weighmaster.pack.layout import float_of
from weighmaster.pack.rate import cap_of, solve, table_bits_of
from weighmaster.pack.scales import nearest_scale, split
from weighmaster.pack.statistics import Moments, digest_of


def made(outputs, inputs=None):
    inputs = np.eye(6, dtype=np.float32) if inputs is None else inputs
    return Moments(inputs=inputs, outputs=np.asarray(outputs, np.float64))


def test_a_costly_row_has_the_smaller_step():
    fineness = fineness_of(made([1.0, 100.0]), damping=0.1)
    assert fineness.row[1] < fineness.row[0]
    assert fineness.row[0] / fineness.row[1] < 100**0.5  # softened: less than the costs alone would have


def test_a_costly_column_has_the_smaller_step():
    fineness = fineness_of(made([1.0], np.diag([1, 4, 1, 1, 1, 1]).astype(np.float32)), damping=1e-6)
    assert fineness.col[0] / fineness.col[1] == pytest.approx(2, rel=1e-3)


def test_costs_of_two_tensors_compare():
    cheap, dear = (fineness_of(made(np.full(3, g)), damping=0.1) for g in (1.0, 16.0))
    assert cheap.row / dear.row == pytest.approx(np.full(3, 4.0))


def test_rows_without_any_cost_are_finite():
    assert np.isfinite(fineness_of(made(np.zeros(3)), damping=0.1).row).all()


def test_a_column_is_held_to_the_cap():
    fineness = fineness_of(made(np.ones(4)), damping=0.1)
    energy = np.array([1.0, 1.0, 1e6, 1.0, 1.0, 1.0])
    row, col = scales_of(fineness, 1.0, energy, 24.0)
    rms = np.sqrt(energy) / (float_of(row)[0] * float_of(col)) * fineness.row[0]
    assert rms.max() <= 24.0 * 1.01
    assert col[2] > col[1]


def test_scales_are_few():
    random = np.random.default_rng(0)
    x = random.standard_normal((4000, 300)) * np.exp(random.standard_normal(300))
    moments = Moments(inputs=(x.T @ x / 4000).astype(np.float32), outputs=np.exp(random.standard_normal(5000) * 3))
    row, col = scales_of(fineness_of(moments, damping=0.1), 0.01, np.ones(300), 24.0)
    assert len(np.unique(row)) <= 256
    assert len(np.unique(col)) <= 256


@pytest.mark.parametrize("step", [1e-6, 0.0123, 0.5, 3.7, 1e5])
def test_two_scales_make_a_step(step):
    first, second = (float(float_of(np.array([bits], np.uint16))[0]) for bits in split(step))
    assert first * second == pytest.approx(step, rel=3e-4)


def test_scales_are_normal_numbers():
    assert (float_of(nearest_scale(np.array([1e-300, 1e300]))) == [2.0**-60, 2.0**60]).all()


@pytest.mark.parametrize(("bits", "cap", "table"), [("3", 6, 12), ("5", 24, 12), ("5.5", 31, 12), ("8", 72, 13)])
def test_what_a_rate_implies(bits, cap, table):
    assert cap_of(Decimal(bits)) == pytest.approx(cap, abs=0.1)
    assert table_bits_of(Decimal(bits)) == table


@pytest.mark.parametrize("slope", [0.4, 1.0, 1.6])
def test_the_search_ends_below_the_target_and_near(slope):
    x = solve(lambda x: 9 - slope * x, 5.0, -3.0)
    assert 4.99 <= 9 - slope * x <= 5.0


def test_the_search_ends_where_the_rate_jumps():
    x = solve(lambda x: 6.0 if x < 1.25 else 4.0, 5.0, 0.0)
    assert 1.25 <= x < 1.3


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match=r"3\.000 bits per weight; the least is 7"):
        solve(lambda _: 7.0, 3.0, 0.0)


def test_the_digest_of_statistics_sees_a_bit():
    one = {"a": made([1.0, 2.0]), "b": made([3.0])}
    other = {"b": made([3.0]), "a": made([1.0, np.nextafter(2.0, 3.0)])}
    assert digest_of(one) == digest_of(dict(reversed(list(one.items()))))
    assert digest_of(one) != digest_of(other)
