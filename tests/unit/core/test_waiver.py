# SPDX-License-Identifier: Apache-2.0
"""waiver v1: the statement that is signed, and what it covers. The parser's refusals are in vectors/waiver."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core.environment import Environment, Fact
from weighmaster.core.judgement import judge
from weighmaster.core.policy import Policy, Rule
from weighmaster.core.waiver import WaivedFact, Waiver, parse_waiver
from weighmaster.errors import MalformedArtefact

DRIVER = WaivedFact(fact="gpu.driver", validated=("value", "550.54"), found=("value", "550.90"))
NEW = WaivedFact(fact="lib.libnew.so", validated=None, found=("value", "00"))
WAIVER = Waiver(
    product="reader",
    root="1" * 64,
    policy_sha256="2" * 64,
    reason="CR 118",
    expires=datetime(2027, 1, 31, tzinfo=UTC),
    facts=(DRIVER, NEW),
)
POLICY = Policy(rules=(Rule(fact="gpu.driver", compare="equal", on_diff="change-control", on_missing="halt"),))


def difference(validated: Fact, found: Fact):
    before, after = (Environment.of((Fact.of("x.y", "1"), fact)) for fact in (validated, found))
    (only,) = judge(before, after, POLICY)
    return only


def test_reads_back_and_is_canonical():
    data = WAIVER.to_bytes()
    assert parse_waiver(data, "w") == WAIVER
    assert data == rfc8785.dumps(json.loads(data))


def test_it_covers_this_difference_and_no_other():
    def covers(validated: str, found: str) -> bool:
        return DRIVER.covers(difference(Fact.of("gpu.driver", validated), Fact.of("gpu.driver", found)))

    assert covers("550.54", "550.90")
    assert not covers("550.54", "550.91")
    assert not covers("550.53", "550.90")
    assert not covers("550.90", "550.54")
    absent = difference(Fact.of("gpu.driver", "550.54"), Fact.absent("gpu.driver"))
    assert not DRIVER.covers(absent)
    assert WaivedFact.of(absent).covers(absent)
    assert not NEW.covers(absent)


def test_what_could_not_be_read_is_not_waived():
    with pytest.raises(ValueError, match=r"gpu\.driver: what could not be read cannot be waived"):
        WaivedFact.of(difference(Fact.of("gpu.driver", "1"), Fact.unreadable("gpu.driver")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"facts": ()}, "no fact is waived"),
        ({"facts": (NEW, DRIVER)}, "not strictly ascending: 'gpu.driver' after 'lib.libnew.so'"),
        ({"facts": (DRIVER, DRIVER)}, "not strictly ascending"),
        ({"reason": " "}, "product and reason must not be empty"),
        ({"product": ""}, "product and reason must not be empty"),
    ],
)
def test_what_is_no_waiver(changes, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        replace(WAIVER, **changes)


@pytest.mark.parametrize(
    ("validated", "found", "said"),
    [
        (("value", "1"), ("value", "1"), "both sides are the same"),
        (None, None, "both sides are the same"),
        (("value", None), None, "a value stands exactly where"),
        (("absent", "1"), None, "a value stands exactly where"),
        (("unreadable", None), None, "cannot be waived"),
    ],
)
def test_what_is_no_difference(validated, found, said):
    with pytest.raises(ValueError, match=said):
        WaivedFact(fact="x.y", validated=validated, found=found)


def test_a_waiver_is_not_read_as_anything_else():
    data = WAIVER.to_bytes().replace(b"waiver/v1", b"manifest/v1")
    with pytest.raises(MalformedArtefact, match=r"predicateType: expected 'https://weighmaster\.dev/waiver/v1'"):
        parse_waiver(data, "w")


READINGS = st.one_of(
    st.none(),
    st.just(("absent", None)),
    st.text(st.characters(codec="utf-8"), max_size=8).map(lambda text: ("value", text)),
)
SIDES = st.tuples(READINGS, READINGS).filter(lambda sides: sides[0] != sides[1])
WAIVED = st.dictionaries(st.from_regex(r"[a-c]\.[ab\u00e9]{1,3}", fullmatch=True), SIDES, min_size=1, max_size=4)


@given(WAIVED, st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)))
def test_every_waiver_survives_the_document(waived, expires):
    facts = tuple(WaivedFact(fact=name, validated=waived[name][0], found=waived[name][1]) for name in sorted(waived))
    waiver = replace(WAIVER, facts=facts, expires=expires.replace(microsecond=0))
    data = waiver.to_bytes()
    assert data == rfc8785.dumps(json.loads(data))
    assert parse_waiver(data, "w") == waiver
