# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/trust.md: against this package, and against their own generator."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from weighmaster.core.instant import parse_instant
from weighmaster.errors import MalformedArtefact, NotAdmitted
from weighmaster.flows.mark import Mark, MarkFile, mark_faults
from weighmaster.seal.trust_chain import VerifiedTrust, chain_to_bytes, open_trust, parse_chain

ROOT = Path(__file__).parents[2] / "vectors" / "trust"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def _json(case: str, file: str) -> Any:
    return json.loads((ROOT / case / file).read_bytes())


def _run(case: str) -> tuple[VerifiedTrust | None, list[Exception]]:
    """Follow the numbered verification; return what is trusted, and the faults."""
    asked = _json(case, "request.json")
    now = parse_instant(asked["now"])
    try:
        trust = open_trust((ROOT / case / "trust.json").read_bytes(), "trust.json", roots=asked["roots"], now=now)
        kept = MarkFile(ROOT / case / "mark").read()
    except NotAdmitted as halt:
        return None, [*halt.faults]
    except MalformedArtefact as error:
        return None, [error]
    if kept is None:
        return trust, []
    found = Mark.of(trust, product=asked["product"], serial=asked["serial"], time=now)
    return trust, [*mark_faults(kept, found, trust)]


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 11
    assert len(NEGATIVE) == 59


@pytest.mark.parametrize("case", POSITIVE)
def test_good_files_hold(case: str) -> None:
    trust, faults = _run(case)
    assert faults == []
    assert trust is not None
    expect = _json(case, "expect.json")
    assert (trust.trust.version, [*trust.keepers]) == (expect["version"], expect["keepers"])


@pytest.mark.requirement("REQ-TRU-15")
@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_files_do_not(case: str) -> None:
    expect = _json(case, "expect.json")
    _, faults = _run(case)
    assert {type(f).__name__ for f in faults} == {expect["error"]}
    text = "\n".join(map(str, faults))
    assert [fact for fact in expect["contains"] if fact not in text] == []


@pytest.mark.parametrize("case", NEGATIVE)
def test_a_bad_case_has_one_fault_only(case: str) -> None:
    """More than one only where a bad signature, or a set of keepers, was needed for the threshold as well."""
    _, faults = _run(case)
    others = [f for f in faults if "too few keepers" not in str(f) and "does not verify" not in str(f)]
    assert len(others) <= 1
    assert len(faults) <= 3


@pytest.mark.parametrize("case", [name for name in POSITIVE if name != "other_spelling"])
def test_files_are_canonical(case: str) -> None:
    data = (ROOT / case / "trust.json").read_bytes()
    assert chain_to_bytes(parse_chain(data, "trust.json")) == data


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "generate.py"))["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(ROOT): path.read_bytes() for case in CASES for path in (ROOT / case).iterdir()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []
