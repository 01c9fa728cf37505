# SPDX-License-Identifier: Apache-2.0
"""From the bits asked for to a step: what a rate implies, and the search for the step that meets it."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import numpy as np

from weighmaster.errors import UsageError

__all__ = ["LEAST", "MOST", "cap_of", "solve", "table_bits_of"]

LEAST, MOST = Decimal(3), Decimal(8)
"""Bits per weight that may be asked for."""

_CAPS: Final = ((3, 6.0), (4, 12.0), (5, 24.0), (6, 40.0), (7, 56.0), (8, 72.0))
"""Largest root mean square of the levels of a column, by rate; geometric in between (spec/pack.md, appendix)."""

_TABLE_BITS: Final = ((Decimal("5.5"), 12), (MOST, 13))

_CLOSE: Final = 0.004
"""Bits per weight below the target that are close enough."""

_ROUNDS: Final = 12


def cap_of(bits: Decimal) -> float:
    """Return the largest root mean square that the levels of a column may have."""
    rates, caps = zip(*_CAPS, strict=True)
    return float(2.0 ** np.interp(float(bits), rates, np.log2(caps)))


def table_bits_of(bits: Decimal) -> int:
    """Return the table bits B."""
    return next(b for rate, b in _TABLE_BITS if bits <= rate)


def solve(rate: Callable[[float], float], target: float, start: float) -> float:
    """Return x with `rate(x)` at most the target and close to it; a rate falls by about 1 when x grows by 1.

    Args:
        rate: bits per weight at the logarithm, to base 2, of a step.
        target: bits per weight that must not be passed.
        start: a first guess of x.

    Returns:
        The x with the highest rate found that the target allows.

    Raises:
        UsageError: none was found.
    """
    seen: list[tuple[float, float]] = []
    x, aim = start, target - _CLOSE / 2
    for _ in range(_ROUNDS):
        seen.append((x, rate(x)))
        if target - _CLOSE <= seen[-1][1] <= target or _narrow(seen, aim):
            break
        x = _next(seen, aim)
    below = [(r, -x) for x, r in seen if r <= target]
    if not below:
        least = min(r for _, r in seen)
        raise UsageError(f"nothing was found that takes {target:.3f} bits per weight; the least is {least:.3f}")
    return -max(below)[1]


def _sides(seen: list[tuple[float, float]], aim: float) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return what was too much, the coarsest step last, and what was not, the finest step first."""
    return sorted(p for p in seen if p[1] > aim), sorted(p for p in seen if p[1] <= aim)


def _narrow(seen: list[tuple[float, float]], aim: float) -> bool:
    """Return whether steps that differ by less than 0.3 % lie on both sides of the aim."""
    above, below = _sides(seen, aim)
    return bool(above and below) and abs(below[0][0] - above[-1][0]) < _CLOSE


def _next(seen: list[tuple[float, float]], aim: float) -> float:
    above, below = _sides(seen, aim)
    if above and below:
        (x, rate), (last, least) = above[-1], below[0]
        return x + min(0.9, max(0.1, (rate - aim) / (rate - least))) * (last - x)
    x, rate = above[-1] if above else below[0]
    slope = 1.0
    if len(seen) > 1:
        (one, high), (two, low) = sorted(seen)[:2] if below else sorted(seen)[-2:]
        slope = min(2.0, max(0.25, (high - low) / (two - one))) if two > one else 1.0
    return x + math.copysign(min(8.0, max(_CLOSE, abs(rate - aim) / slope)), rate - aim)
