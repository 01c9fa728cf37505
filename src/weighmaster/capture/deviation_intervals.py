# SPDX-License-Identifier: Apache-2.0
"""How sure a paired difference is: percentile bootstrap over sequences, and Student's t interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["CONFIDENCE", "RESAMPLES", "SEED", "Estimate", "bootstrap", "student", "t_interval"]

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 10_000
SEED: Final = 20_240_229

_DRAWS: Final = 1 << 20
"""Random numbers held at a time."""

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Takes samples [..., items, columns], gives one number for each: [...]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval; no interval where fewer than two items were measured."""

    value: float
    low: float | None
    high: float | None


def bootstrap(columns: Floats, statistic: Statistic) -> Estimate:
    """Return `statistic` of the items with its percentile interval over 10,000 resamples, seed 20240229.

    Items are drawn with replacement, a whole row at a time: figures of two models on one item stay together, which is
    what makes the interval a paired one. The draws are those of the bit generator PCG64, whose stream NumPy fixes;
    so the same rows give the same interval everywhere. (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap",
    1993, chapter 13.)

    Args:
        columns: float64 [items, columns].
        statistic: vectorised over leading dimensions.
    """
    value = float(statistic(columns))
    if len(columns) < 2:  # noqa: PLR2004  # one item says nothing about the spread
        return Estimate(value=value, low=None, high=None)
    drawn = np.concatenate([statistic(columns[picked]) for picked in _resamples(len(columns))])
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Estimate(value=value, low=float(low), high=float(high))


def _resamples(items: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield positions [n, items], 10,000 rows in all; modulo is fair to within 2^-40 for a million items."""
    source, at_once = np.random.PCG64(SEED), max(1, _DRAWS // items)
    for first in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - first)
        raw = np.asarray(source.random_raw(count * items), np.uint64)
        yield (raw % np.uint64(items)).astype(np.intp).reshape(count, items)


def t_interval(differences: Floats, weights: Floats) -> Estimate:
    """Return the weighted mean difference with the interval of the paired t test.

    With equal weights this is mean and standard error of the differences; with others the ratio estimator and its
    linearised error (W. Cochran, "Sampling Techniques", 3rd edition, 6.4).

    Args:
        differences: float64 [items], sums over each item.
        weights: float64 [items], what each sum is over (tokens).
    """
    count, mean = len(differences), float(differences.sum() / weights.sum())
    if count < 2:  # noqa: PLR2004
        return Estimate(value=mean, low=None, high=None)
    rest = (differences - mean * weights) / weights.mean()
    half = student(count - 1) * math.sqrt(float((rest * rest).sum()) / (count * (count - 1)))
    return Estimate(value=mean, low=mean - half, high=mean + half)


def student(freedom: int) -> float:
    """Return t such that Student's distribution holds 95 % between -t and t.

    By bisection of the finite series (M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions", 26.7.3, 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < CONFIDENCE else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Return P(|T| <= t) where tan(angle) = t / sqrt(freedom)."""
    cosine, odd = math.cos(angle), freedom % 2
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))
    return math.sin(angle) * total
