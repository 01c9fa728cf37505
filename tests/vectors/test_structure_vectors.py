# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/structure.md: against this package, sha256sum, and their own generator."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from weighmaster.capture import torch_walk
from weighmaster.core.structure import KINDS, parse_structure, structure_faults
from weighmaster.errors import MalformedArtefact

ROOT = Path(__file__).parents[2] / "vectors" / "structure"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def expectation(case: str) -> Any:
    return json.loads((ROOT / case / "expect.json").read_bytes())


def findings(case: str) -> list[Exception]:
    """Follow the numbered verification of the specification."""
    try:
        signed, found = (
            parse_structure((ROOT / case / name).read_bytes(), name) for name in ("signed.jsonl", "found.jsonl")
        )
    except MalformedArtefact as error:
        return [error]
    return [*structure_faults(signed, found)]


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 3
    assert len(NEGATIVE) == 24


@pytest.mark.parametrize("case", POSITIVE)
def test_same_structures_have_no_fault(case: str) -> None:
    assert findings(case) == []
    parsed = parse_structure((ROOT / case / "signed.jsonl").read_bytes(), "signed.jsonl")
    assert len(parsed.facts) == expectation(case)["facts"]
    assert parsed.data == (ROOT / case / "signed.jsonl").read_bytes()


@pytest.mark.parametrize("case", POSITIVE)
def test_digest_is_that_of_sha256sum(case: str) -> None:
    command = ["sha256sum", str(ROOT / case / "signed.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == expectation(case)["digest"]
    assert parse_structure((ROOT / case / "signed.jsonl").read_bytes(), "s").digest == expectation(case)["digest"]


@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_cases_have_exactly_their_fault(case: str) -> None:
    expect = expectation(case)
    (error,) = findings(case)
    assert type(error).__name__ == expect["error"]
    assert [text for text in expect["contains"] if text not in str(error)] == []


def test_known_kinds_are_those_of_the_specification() -> None:
    spec = (ROOT.parents[1] / "spec" / "structure.md").read_text(encoding="utf-8")
    table = spec[spec.index("| kind |") :].split("\n\n")[0]
    assert sorted(line.split("`")[1] for line in table.splitlines()[2:]) == sorted(KINDS)


def test_example_of_the_specification_is_real() -> None:
    spec = (ROOT.parents[1] / "spec" / "structure.md").read_text(encoding="utf-8")
    example = spec.split("```")[1].strip().splitlines()
    lines = (ROOT / "model" / "signed.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(example) == 6
    assert [line for line in example if line not in lines] == []
    (fault,) = findings("configuration_changed_fail")
    assert spec.split("```")[3].strip() == str(fault)


def test_what_is_left_out_is_what_the_specification_lists() -> None:
    spec = (ROOT.parents[1] / "spec" / "structure.md").read_text(encoding="utf-8")
    table = spec.split("| attribute | reason |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert named == set(torch_walk.LEFT_OUT) | set(torch_walk._GRAPH_INTERNALS)


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "generate.py"))["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(ROOT): path.read_bytes() for case in CASES for path in (ROOT / case).iterdir()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []
