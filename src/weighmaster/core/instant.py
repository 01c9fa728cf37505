# SPDX-License-Identifier: Apache-2.0
"""Moments as formats write them: ``YYYY-MM-DDTHH:MM:SSZ``, whole seconds in UTC (RFC 3339), and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["CLOCK_SLACK", "instant_text", "parse_instant"]

CLOCK_SLACK: Final = timedelta(seconds=300)
"""How far two honest clocks may be apart. A clock is set back, or a timestamp comes from the future, beyond that."""

_FORM: Final = re.compile(r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T(?!24)[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)


def parse_instant(text: str) -> datetime:
    """Return the moment that `text` names, aware and in UTC.

    A leap second (``:60``) is refused: no clock that is read here counts it, and a moment has one spelling; so is hour
    24, which newer interpreters take for the next day. Years begin at 1000.

    Raises:
        ValueError: another form, or no such day or time.
    """
    if not _FORM.fullmatch(text):
        raise ValueError(f"not of the form YYYY-MM-DDTHH:MM:SSZ: {text[:40]!r}")
    return datetime.fromisoformat(text)


def instant_text(moment: datetime) -> str:
    """Return the text of an aware moment, cut to whole seconds.

    Raises:
        ValueError: `moment` has no time zone, or a year before 1000.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a moment without a time zone: {moment}")
    utc = moment.astimezone(UTC)
    if utc.year < 1000:  # noqa: PLR2004  # strftime would write fewer than four digits
        raise ValueError(f"a year before 1000: {moment}")
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ")
