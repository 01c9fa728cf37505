# SPDX-License-Identifier: Apache-2.0
"""The time policy of spec/seal.md, cell by cell: who signed, what the timestamp says, and what the clock says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from weighmaster.core.instant import CLOCK_SLACK
from weighmaster.errors import SignatureFault
from weighmaster.seal.bundle import make_bundle, open_sealed, parse_bundle, with_timestamp
from weighmaster.seal.check import SignerRecord, signature_faults
from weighmaster.seal.keys import PrivateKey
from weighmaster.seal.trust import Trust

PAYLOAD = b'{"a":1}'
SECOND = timedelta(seconds=1)

STAMPS = {
    "none": None,
    "before": datetime(2029, 6, 1, tzinfo=UTC),
    "inside": datetime(2030, 6, 1, tzinfo=UTC),
    "after": datetime(2031, 6, 1, tzinfo=UTC),
    "bad": datetime(2029, 6, 1, tzinfo=UTC),
}
NOW = {
    "before": datetime(2029, 9, 1, tzinfo=UTC),
    "inside": datetime(2030, 9, 1, tzinfo=UTC),
    "after": datetime(2031, 9, 1, tzinfo=UTC),
}

HOLDS, FUTURE, OTHER = "", "the timestamp is from the future", "the timestamp is over other bytes"
EXPIRED, INVALID = "the key of Alice counts no more", "one that is valid at"

TABLE = {
    # who signed, timestamp: clock before, inside, after
    ("key", "none"): (HOLDS, HOLDS, HOLDS),
    ("key", "before"): (HOLDS, HOLDS, HOLDS),
    ("key", "inside"): (FUTURE, HOLDS, HOLDS),
    ("key", "after"): (FUTURE, FUTURE, HOLDS),
    ("key", "bad"): (OTHER, OTHER, OTHER),
    ("key with notAfter", "none"): (HOLDS, HOLDS, EXPIRED),
    ("key with notAfter", "before"): (HOLDS, HOLDS, HOLDS),
    ("key with notAfter", "inside"): (FUTURE, HOLDS, HOLDS),
    ("key with notAfter", "after"): (FUTURE, FUTURE, EXPIRED),
    ("key with notAfter", "bad"): (OTHER, OTHER, OTHER),
    ("certificate", "none"): (INVALID, HOLDS, INVALID),
    ("certificate", "before"): (INVALID, INVALID, INVALID),
    ("certificate", "inside"): (FUTURE, HOLDS, HOLDS),
    ("certificate", "after"): (FUTURE, FUTURE, INVALID),
    ("certificate", "bad"): (OTHER, OTHER, OTHER),
}
CELLS = [(who, stamp, clock) for who, stamp in TABLE for clock in NOW]


def _texts(data: bytes, trust: Trust, now: datetime) -> tuple[tuple[SignerRecord, ...], list[str]]:
    """Return who signed, and the faults of the single signature, without the threshold that it then misses."""
    records, faults = signature_faults(open_sealed((("b.json", data),)), trust, "p", now=now)
    assert all(type(f) is SignatureFault for f in faults)
    assert len(records) + len(faults) in ({1, 2} if faults else {1})
    return records, [str(f) for f in faults if "too few persons" not in str(f)]


def _bundle(world: SimpleNamespace, alice: PrivateKey, who: str, stamp: str) -> bytes:
    made = world.bundle() if who == "certificate" else make_bundle(PAYLOAD, alice)
    moment = STAMPS[stamp]
    if moment is None:
        return made
    value = b"another signature" if stamp == "bad" else parse_bundle(made, "b").signature.value
    return with_timestamp(made, world.stamp(moment)(value), "b")


def _limited(trust: Trust, end: datetime) -> Trust:
    return replace(trust, keys=(replace(trust.keys[0], not_after=end), *trust.keys[1:]))


@pytest.mark.requirement("REQ-SEA-14", "REQ-SEA-15")
@pytest.mark.parametrize(("who", "stamp", "clock"), CELLS)
def test_every_cell(
    who: str, stamp: str, clock: str, world: SimpleNamespace, pki: SimpleNamespace, trust: Trust, alice: PrivateKey
) -> None:
    trusted = world.trusting(trust)
    if who == "key with notAfter":
        trusted = _limited(trusted, pki.END)
    records, texts = _texts(_bundle(world, alice, who, stamp), trusted, NOW[clock])
    expected = TABLE[who, stamp][list(NOW).index(clock)]
    if expected == HOLDS:
        assert texts == []
        assert [r.time for r in records] == [STAMPS[stamp]]
    else:
        assert records == ()
        (text,) = texts
        assert text.startswith("b.json: ")
        assert expected in text


def test_the_table_is_whole() -> None:
    assert len(CELLS) == 3 * len(STAMPS) * len(NOW)


def test_validity_includes_its_first_and_its_last_second(
    world: SimpleNamespace, pki: SimpleNamespace, trust: Trust
) -> None:
    trusted, data = world.trusting(trust), world.bundle()
    for now in (pki.BEGIN, pki.END, pki.END + timedelta(microseconds=999_999)):
        assert _texts(data, trusted, now)[1] == []
    for now in (pki.BEGIN - SECOND, pki.BEGIN - timedelta(microseconds=1), pki.END + SECOND):
        assert INVALID in _texts(data, trusted, now)[1][0]


def test_validity_by_timestamp_includes_its_first_and_its_last_second(
    world: SimpleNamespace, pki: SimpleNamespace, trust: Trust
) -> None:
    trusted, now = world.trusting(trust), datetime(2035, 1, 1, tzinfo=UTC)
    for moment in (pki.BEGIN, pki.END):
        assert _texts(world.bundle(stamp=world.stamp(moment)), trusted, now)[1] == []
    for moment in (pki.BEGIN - SECOND, pki.END + SECOND):
        assert INVALID in _texts(world.bundle(stamp=world.stamp(moment)), trusted, now)[1][0]


@pytest.mark.requirement("REQ-SEA-16")
def test_a_key_counts_up_to_the_second_of_its_end(trust: Trust, alice: PrivateKey, world: SimpleNamespace) -> None:
    end = datetime(2030, 6, 1, 12, tzinfo=UTC)
    trusted, data = _limited(world.trusting(trust), end), make_bundle(PAYLOAD, alice)
    assert _texts(data, trusted, end + timedelta(microseconds=999_999))[1] == []
    assert _texts(data, trusted, end + SECOND)[1] == [
        (
            "b.json: the key of Alice counts no more; expected a signature made at the latest at 2030-06-01T12:00:00Z"
            ", found one of 2030-06-01T12:00:01Z, by the clock"
        )
    ]


def test_the_zone_of_the_clock_does_not_matter(world: SimpleNamespace, pki: SimpleNamespace, trust: Trust) -> None:
    trusted, data, east = world.trusting(trust), world.bundle(), timezone(timedelta(hours=14))
    assert _texts(data, trusted, pki.END.astimezone(east))[1] == []
    assert INVALID in _texts(data, trusted, (pki.END + SECOND).astimezone(east))[1][0]
    with pytest.raises(ValueError, match="a moment without a time zone: 2030-06-01"):
        _texts(data, trusted, datetime(2030, 6, 1))  # what is tested


@pytest.mark.parametrize("year", [1, 1000, 1950, 1970, 2038, 2049, 2050, 9000])
def test_far_from_validity(year: int, world: SimpleNamespace, trust: Trust) -> None:
    now = datetime(year, 1, 1, tzinfo=UTC)
    _, (text,) = _texts(world.bundle(), world.trusting(trust), now)
    assert INVALID in text
    assert "found one valid from 2030-01-01T00:00:00Z to 2031-01-01T00:00:00Z" in text


def test_a_certificate_until_the_end_of_the_calendar(
    world: SimpleNamespace, pki: SimpleNamespace, trust: Trust
) -> None:
    """RFC 5280, 4.1.2.5: 99991231235959Z stands for a certificate without an end."""
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    root = pki.authority("Endless CA", end=end)
    dora = pki.leaf("Dora", root, *world.carol.certificate.extensions[2].value, end=end)
    trusted = world.trusting(trust)
    authority = replace(trusted.authorities[0], certificate=root.certificate, intermediates=())
    assert _texts(world.bundle(dora), replace(trusted, authorities=(authority,)), end)[1] == []


@pytest.mark.requirement("REQ-SEA-17")
def test_a_timestamp_may_be_ahead_of_the_clock_by_the_slack(world: SimpleNamespace, trust: Trust) -> None:
    moment = datetime(2030, 6, 1, 12, tzinfo=UTC)
    trusted, data = world.trusting(trust), world.bundle(stamp=world.stamp(moment))
    assert _texts(data, trusted, moment - CLOCK_SLACK)[1] == []
    assert _texts(data, trusted, moment - CLOCK_SLACK - SECOND)[1] == [
        (
            "b.json: the timestamp is from the future; expected at most 300 s after 2030-06-01T11:54:59Z"
            ", found 2030-06-01T12:00:00Z"
        )
    ]


@pytest.mark.parametrize("text", ["20300601120000.5Z", "20300601120000.999999Z", "20300601120000.9999999Z"])
def test_a_fraction_of_a_second_is_dropped(text: str, world: SimpleNamespace, trust: Trust) -> None:
    records, texts = _texts(world.bundle(stamp=world.stamp(text)), world.trusting(trust), NOW["after"])
    assert texts == []
    assert [r.time for r in records] == [datetime(2030, 6, 1, 12, tzinfo=UTC)]


@pytest.mark.parametrize(
    "text",
    [
        "20300630235960Z",  # a leap second: no clock that is read here counts it
        "20300601120060Z",
        "20300601120000.50Z",  # RFC 3161, 2.4.2: trailing zeros are omitted
        "20300601120000.Z",
        "20300601120000+0000",
        "20300601120000",
        "203006011200Z",
        "20300631120000Z",
        "20300601240000Z",
        "300601120000Z",
    ],
)
def test_another_spelling_of_a_moment_is_no_timestamp(text: str, world: SimpleNamespace, trust: Trust) -> None:
    _, (found,) = _texts(world.bundle(stamp=world.stamp(text)), world.trusting(trust), NOW["after"])
    assert found.startswith(
        "b.json: its timestamp cannot be read; expected an RFC 3161 response, found ValueError Malformed"
    )


@pytest.mark.parametrize("text", ["00000101000000Z", "00010101000000Z", "09991231235959Z", "99991231235959Z"])
@pytest.mark.parametrize("now", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_ends_of_the_calendar(text: str, now: datetime, world: SimpleNamespace, trust: Trust) -> None:
    """No sum of a moment and the slack leaves the calendar, and each of them can be named in a message."""
    _, (found,) = _texts(world.bundle(stamp=world.stamp(text)), world.trusting(trust), now)
    assert found.startswith("b.json: ")
