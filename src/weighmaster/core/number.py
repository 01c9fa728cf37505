# SPDX-License-Identifier: Apache-2.0
"""Measured numbers as text: plain decimal notation in exactly one spelling, for formats that hold no floats."""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

__all__ = ["DIGITS", "decimal_text", "is_decimal_text"]

DIGITS: Final = 9
"""Significant digits that are kept."""

_FORM: Final = re.compile(r"(?!-0$)-?(0|[1-9][0-9]{0,308})(\.[0-9]{0,400}[1-9])?")
_ROUND: Final = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN)


def decimal_text(value: float | Decimal) -> str:
    """Return a finite number with nine significant digits, without exponent and without zeros at the end: ``0.00052``.

    Raises:
        ValueError: it is infinite or not a number.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} has no decimal notation")
    number = Decimal(value).normalize(_ROUND)
    return format(number, "f") if number else "0"


def is_decimal_text(text: str) -> bool:
    """Tell whether `text` is such a spelling."""
    return _FORM.fullmatch(text) is not None
