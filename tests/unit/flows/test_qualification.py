# SPDX-License-Identifier: Apache-2.0
"""Each operational check fails where what it checks is broken, and none can be left out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from weighmaster.core.compare import Diff
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.flows import operation, operation_comparison, operation_seal, operation_trust
from weighmaster.flows.exercise import MOMENT, PRODUCT, make_exercise
from weighmaster.flows.operation import COUNT, OPERATION_NUMBERS, operation_checks
from weighmaster.flows.qualification import NUMBERS, installed, qualify
from weighmaster.flows.trusted import open_trusted
from weighmaster.seal.keys import generate

SEAL = range(6, 17)
FILES = (19, 20, 21, 22, 23, 25, 26)


def numbers(*values):
    return [f"OQ-{n:02}" for n in values]


def failed(folder):
    return [c.number for c in operation_checks(folder, HashlibEngine()) if not c.passed]


@pytest.mark.requirement("REQ-QUA-02")
def test_all_pass_here(tmp_path):
    checks = operation_checks(tmp_path, HashlibEngine())
    assert [(c.number, c.found) for c in checks if not c.passed] == []
    assert tuple(c.number for c in checks) == OPERATION_NUMBERS
    refused = [c for c in checks if c.expected != "accepted"]
    assert len(refused) == 38
    assert {c.expected.rpartition(" ")[2] for c in refused} == {"2", "10", "11", "12", "13", "14", "16", "17", "20"}


@pytest.mark.requirement("REQ-QUA-02")
@pytest.mark.parametrize(
    ("name", "broken", "found"),
    [
        ("open_trusted", lambda sealed, trust, expect, **_: None, numbers(5, *SEAL, *FILES)),
        ("source_faults", lambda validated, found: (), numbers(31)),
        ("environment_faults", lambda validated, found: (), numbers(32, 33)),
        ("structure_faults", lambda validated, found: (), numbers(34)),
        ("digest_faults", lambda routine: (), numbers(2)),
        ("load_private", lambda path, passphrase: generate("ed25519"), numbers(4)),
        ("read_manifest", lambda directory: None, numbers(24)),
        ("parse_chain", lambda data, file: None, numbers(17, 18)),
        ("open_trust", lambda data, file, **_: None, numbers(37, 38, 39, 41)),
        (
            "compare",
            lambda validated, found: Diff(missing=(), extra=(), reshaped=(), changed=(), moved=()),
            numbers(28, 29, 30),
        ),
    ],
)
def test_a_check_fails_where_what_it_checks_accepts_everything(tmp_path, monkeypatch, name, broken, found):
    places = (operation_seal, operation_comparison, operation_trust)
    module = next(place for place in places if hasattr(place, name))
    monkeypatch.setattr(module, name, broken)
    assert failed(tmp_path) == found


def test_a_check_fails_where_everything_is_refused(tmp_path, monkeypatch):
    """Refusals with the wrong exit code, and good cases that are refused, do not pass either."""

    def refuses(sealed, trust, expect, **keywords):
        return open_trusted(sealed, trust, "no such product", **keywords)

    monkeypatch.setattr(operation_seal, "open_trusted", refuses)
    assert set(numbers(5, 13, 14, 15, 16, 21)) <= set(failed(tmp_path))


def test_a_defect_is_no_refusal(tmp_path, monkeypatch):
    def breaks(sealed, trust, expect, **_):
        raise KeyError("open")

    monkeypatch.setattr(operation_seal, "open_trusted", breaks)
    checks = {c.number: c for c in operation_checks(tmp_path, HashlibEngine())}
    assert (checks["OQ-06"].passed, checks["OQ-06"].found) == (False, "defect (KeyError): 'open'")


def test_an_engine_that_is_wrong_is_found(tmp_path):
    """It cannot even make a manifest whose files belong together; the report says so of every check."""

    class Wrong(HashlibEngine):
        def digest(self, views, **keywords):
            return super().digest(views, **keywords)[:1] * len(views)

    checks = operation_checks(tmp_path, Wrong())
    assert tuple(c.number for c in checks) == OPERATION_NUMBERS
    assert [c.passed for c in checks] == [False] * COUNT
    assert "MalformedArtefact" in checks[0].found


def test_the_release_of_the_exercise_is_a_real_one(tmp_path):
    exercise = make_exercise(tmp_path, HashlibEngine())
    trusted = open_trusted(exercise.sealed, exercise.trust, PRODUCT, now=MOMENT, mark=None)
    assert trusted.manifest.root == exercise.manifest.root
    assert [(s.person, s.roles) for s in trusted.signers] == [("Ben", ("approver",)), ("Ana", ("signer",))]
    assert max(row.nbytes for row in trusted.manifest.gate.rows) > 65_536


@pytest.mark.requirement("REQ-QUA-02")
def test_a_check_that_was_left_out_is_a_fault(monkeypatch):
    monkeypatch.setattr(operation, "CASES", operation.CASES[:-1])
    faults = qualify("0.1.0", lambda: datetime(2026, 11, 24, tzinfo=UTC)).faults
    (fault,) = [f for f in faults if f.subject == "checks"]
    assert fault.expected == ", ".join(NUMBERS)
    assert fault.found == ", ".join(NUMBERS[:-1])
    assert COUNT == 44


def test_a_report_names_times_host_and_packages():
    times = iter([datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC), datetime(2026, 11, 24, 1, 2, 4, tzinfo=UTC)])
    document = qualify("0.1.0", lambda: next(times)).document()
    assert (document["started"], document["ended"]) == ("2026-11-24T01:02:03Z", "2026-11-24T01:02:04Z")
    assert document["host"]["python"].startswith("CPython 3.")
    assert document["packages"]["cryptography"] == installed("cryptography")
    assert installed("no-such-distribution") == "not installed"
    assert [c["number"] for c in document["checks"]] == list(NUMBERS)
