# SPDX-License-Identifier: Apache-2.0
"""Intervals: against published quantiles, and the same every time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weighmaster.capture.deviation_intervals import RESAMPLES, bootstrap, student, t_interval


def mean(samples):
    return samples[..., 0].mean(-1)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    # Table of critical values, two-sided 0.05 (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2).
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (29, 2.045), (30, 2.042), (100, 1.984)],
)
def test_quantiles_of_student(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, abs=5e-4)


def test_t_interval_is_that_of_the_textbook():
    differences = np.array([0.3, -0.1, 0.25, 0.05, 0.2])
    found = t_interval(differences, np.ones(5))
    half = 2.776445 * differences.std(ddof=1) / math.sqrt(5)
    assert found.value == pytest.approx(0.14, rel=1e-12)
    assert found.high - found.value == pytest.approx(half, rel=1e-6) == found.value - found.low


def test_t_interval_weights_items_by_what_they_sum_over():
    found = t_interval(np.array([3.0, 1.0]), np.array([3.0, 1.0]))
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert t_interval(np.array([6.0, 1.0]), np.array([3.0, 1.0])).value == 1.75


def test_bootstrap_is_the_same_every_time_and_covers_the_standard_error():
    rows = np.random.default_rng(3).normal(2.0, 1.0, (400, 1))
    first, again = bootstrap(rows, mean), bootstrap(rows.copy(), mean)
    assert first == again
    assert first.value == rows.mean()
    half = 1.96 * rows.std(ddof=1) / math.sqrt(400)
    assert (first.high - first.low) / 2 == pytest.approx(half, rel=0.05)
    assert first.low < first.value < first.high


def test_bootstrap_draws_whole_rows():
    """Two columns that move together have a difference without spread: the interval is a paired one."""
    rows = np.random.default_rng(4).normal(0.0, 5.0, (50, 1)) + np.array([[0.0, 0.5]])
    found = bootstrap(rows, lambda s: (s[..., 1] - s[..., 0]).mean(-1))
    assert found.low == pytest.approx(0.5, abs=1e-12) == found.high


def test_number_of_resamples():
    seen = []
    bootstrap(np.zeros((7, 1)), lambda s: seen.append(s.shape) or s[..., 0].mean(-1))
    assert seen[0] == (7, 1)
    assert sum(shape[0] for shape in seen[1:]) == RESAMPLES


def test_one_item_has_no_interval():
    one = np.array([[2.0]])
    assert (bootstrap(one, mean).low, bootstrap(one, mean).high) == (None, None)
    assert t_interval(np.array([2.0]), np.array([1.0])).low is None
