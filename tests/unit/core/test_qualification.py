# SPDX-License-Identifier: Apache-2.0
"""A report says what ran, what did not pass and what it does not show; its digest sees every change."""

from __future__ import annotations

import hashlib
import json

import pytest

from weighmaster.core.canonical import dumps
from weighmaster.core.qualification import NOT_SHOWN, Check, Qualification, missing_faults
from weighmaster.errors import SelfTestFault

GOOD = Check(number="IQ-01", what="a|b", expected="<1>", found="1", passed=True, milliseconds=3)
BAD = Check(number="OQ-02", what="b", expected="accepted", found="x\ny", passed=False)


def report(*checks):
    return Qualification(
        started="2026-11-24T00:00:00Z",
        ended="2026-11-24T00:00:01Z",
        host={"python": "CPython 3.11.7"},
        packages={"weighmaster": "0.1.0"},
        checks=checks,
        faults=tuple(c.fault() for c in checks if not c.passed),
    )


@pytest.mark.requirement("REQ-QUA-03")
def test_the_digest_is_that_of_the_document_without_it():
    document = report(GOOD, BAD).document()
    rest = {key: value for key, value in document.items() if key != "sha256"}
    assert document["sha256"] == hashlib.sha256(dumps(rest)).hexdigest()
    assert document["sha256"] == hashlib.sha256(dumps(json.loads(dumps(rest)))).hexdigest()
    assert report(GOOD).document()["sha256"] != document["sha256"]


@pytest.mark.requirement("REQ-QUA-01", "REQ-QUA-02")
def test_every_check_is_in_the_report_and_one_that_did_not_pass_is_a_fault():
    document = report(GOOD, BAD).document()
    assert document["result"] == "fail"
    assert [(c["number"], c["result"], c["expected"], c["found"]) for c in document["checks"]] == [
        ("IQ-01", "pass", "<1>", "1"),
        ("OQ-02", "fail", "accepted", "x\ny"),
    ]
    (fault,) = document["faults"]
    assert (fault["exitCode"], fault["subject"], fault["expected"]) == (16, "OQ-02 b", "accepted")
    assert report(GOOD).document()["result"] == "pass"
    assert document["notShown"] == NOT_SHOWN


def test_the_form_for_people_says_the_same():
    page = report(GOOD, BAD).markdown()
    assert "Result: **fail**, 1 of 2 checks passed." in page
    assert f"`{report(GOOD, BAD).document()['sha256']}`" in page
    assert "| IQ-01 | a\\|b | &lt;1> | 1 | pass |\n" in page
    assert "| OQ-02 | b | accepted | x y | **FAIL** |\n" in page
    assert [line for line in NOT_SHOWN if f"- {line}\n" not in page] == []
    assert "| executed by |  |  |  |" in page


@pytest.mark.parametrize("found", [("IQ-01",), ("OQ-02", "IQ-01"), ("IQ-01", "OQ-02", "OQ-03"), ()])
def test_another_list_of_checks_is_a_fault(found):
    checks = tuple(Check(number=n, what="", expected="", found="", passed=True) for n in found)
    (fault,) = missing_faults(checks, ("IQ-01", "OQ-02"))
    assert type(fault) is SelfTestFault
    assert (fault.expected, fault.found) == ("IQ-01, OQ-02", ", ".join(found))
    assert missing_faults((GOOD, BAD), ("IQ-01", "OQ-02")) == ()
