# SPDX-License-Identifier: Apache-2.0
"""Moments: one spelling, in both directions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from weighmaster.core.fields import Fields
from weighmaster.core.instant import instant_text, parse_instant
from weighmaster.errors import MalformedArtefact

NOON = datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-11-24T12:00:05Z", "1000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_there_and_back(text: str) -> None:
    assert instant_text(parse_instant(text)) == text


def test_it_is_aware_and_in_utc() -> None:
    assert parse_instant("2026-11-24T12:00:05Z") == NOON
    assert instant_text(NOON.astimezone(timezone(timedelta(hours=-7)))) == "2026-11-24T12:00:05Z"
    assert instant_text(NOON.replace(microsecond=999_999)) == "2026-11-24T12:00:05Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-24",
        "2026-11-24T12:00:05",
        "2026-11-24t12:00:05z",
        "2026-11-24 12:00:05Z",
        "2026-11-24T12:00:05+00:00",
        "2026-11-24T12:00:05.0Z",
        "2026-11-24T12:00Z",
        "2026-02-29T12:00:05Z",
        "2026-13-01T12:00:05Z",
        "2026-11-24T24:00:00Z",
        "2026-06-30T23:59:60Z",
        "2026-11-24T12:00:05Z\n",
        "\uff12026-11-24T12:00:05Z",
        "0000-11-24T12:00:05Z",
        "0999-12-31T23:59:59Z",
        "26-11-24T12:00:05Z",
    ],
)
def test_other_spellings_and_moments_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"form|range|must be in"):
        parse_instant(text)


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        instant_text(datetime(2026, 1, 1))


def test_fields_name_the_key_and_take_null_only_where_it_may_stand() -> None:
    with pytest.raises(MalformedArtefact, match=r"t.json: expires: expected a moment YYYY-MM-DDTHH:MM:SSZ, found .*24"):
        Fields({"expires": "2026-11-24"}, file="t.json").instant("expires")
    assert Fields({"notAfter": None}, file="t.json").optional_instant("notAfter") is None
    with pytest.raises(MalformedArtefact, match="notAfter: expected a value, found no such key"):
        Fields({}, file="t.json").optional_instant("notAfter")
