# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals over sequences; needs NumPy alone, so that the page is written without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import numpy as np

__all__ = ["interval"]

RESAMPLES: Final = 4000
SEED: Final = 42


def interval(
    statistic: Callable[[list[np.ndarray]], np.ndarray], *samples: Sequence[float], level: float = 0.95
) -> tuple[float, float, float]:
    """Return a statistic of means and its bootstrap interval over sequences.

    Args:
        statistic: from the means of the samples (one array per sample, one entry per resample) to the statistic.
        samples: per-sequence numbers, of the same sequences in the same order, so resampled together.
        level: of the percentile interval.

    Returns:
        The statistic of all sequences, the interval's lower end, its upper end.

    Raises:
        ValueError: the samples are not of the same number of sequences.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    counts = {len(array) for array in arrays}
    if len(counts) != 1:
        raise ValueError(f"samples of {sorted(counts)} sequences: not of the same ones")
    shares = _shares(counts.pop())
    whole = statistic([array.mean(keepdims=True) for array in arrays])[0]
    low, high = np.quantile(statistic([shares @ array for array in arrays]), [(1 - level) / 2, (1 + level) / 2])
    return float(whole), float(low), float(high)


@cache
def _shares(count: int) -> np.ndarray:
    """Return the share of each sequence in each resample, (resamples, count); the same for all statistics."""
    return np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
