# SPDX-License-Identifier: Apache-2.0
"""Measured numbers as text: one spelling each."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core.number import decimal_text, is_decimal_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (5.2e-4, "0.00052"),
        (1 / 3, "0.333333333"),
        (2 / 3, "0.666666667"),
        (1234567890.0, "1234567890"),
        (12345678949.0, "12345678900"),
        (1e-12, "0.000000000001"),
        (Decimal("5.00"), "5"),
        (1e15, "1000000000000000"),
    ],
)
def test_spelling(value, text):
    assert decimal_text(value) == text
    assert is_decimal_text(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_has_a_spelling_that_reads_back_and_is_its_own(value):
    text = decimal_text(value)
    assert is_decimal_text(text) or abs(value) < 1e-390
    assert decimal_text(Decimal(text)) == text
    assert math.isclose(float(text), value, rel_tol=5e-9, abs_tol=1e-320)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_has_none(value):
    with pytest.raises(ValueError, match="has no decimal notation"):
        decimal_text(value)


@pytest.mark.parametrize(
    "text", ["", "-0", "00", "01", "1.0", "1.", ".5", "+1", "1e3", "0x1", "1,5", " 1", "1\n", "--1", "nan", "٣", "-"]
)
def test_other_spellings_are_none(text):
    assert not is_decimal_text(text)
