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
        seen.append((rate(x), x))
        if target - _CLOSE <= seen[-1][0] <= target or _narrow(seen, aim):
            break
        x = _next(seen, aim)
    below = [(r, -x) for r, x in seen if r <= target]
    if not below:
        raise UsageError(
            f"no encoding takes {target:.3f} bits per weight or less; the nearest takes {min(seen)[0]:.3f}"
        )
    return -max(below)[1]


def _narrow(seen: list[tuple[float, float]], aim: float) -> bool:
    """Return whether steps that differ by less than 0.3 % lie on both sides of the aim."""
    above, below = [x for r, x in seen if r > aim], [x for r, x in seen if r <= aim]
    return bool(above and below) and abs(min(below) - max(above)) < _CLOSE


def _next(seen: list[tuple[float, float]], aim: float) -> float:
    above = min((pair for pair in seen if pair[0] > aim), default=None)
    below = max((pair for pair in seen if pair[0] <= aim), default=None)
    if above is None or below is None:
        rate, x = below or above or (aim, 0.0)
        return x + math.copysign(min(8.0, max(2 * _CLOSE, abs(rate - aim) * 1.05)), rate - aim)
    share = (above[0] - aim) / (above[0] - below[0])
    return above[1] + min(0.95, max(0.05, share)) * (below[1] - above[1])
