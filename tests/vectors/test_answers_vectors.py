# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/answers.md: against this package, another canonicaliser, and their own generator."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import rfc8785

from weighmaster.core.answers_reader import parse_answers
from weighmaster.errors import MalformedArtefact

ROOT = Path(__file__).parents[2] / "vectors" / "answers"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def read(case: str) -> bytes:
    return (ROOT / case / "answers.json").read_bytes()


def expected(case: str) -> dict[str, object]:
    return json.loads((ROOT / case / "expect.json").read_bytes())


@pytest.mark.parametrize("case", POSITIVE)
def test_answers_that_hold(case):
    answers = parse_answers(read(case), "answers.json")
    assert answers.root == expected(case)["root"]
    assert answers.to_bytes() == read(case) == rfc8785.dumps(json.loads(read(case)))


@pytest.mark.parametrize("case", NEGATIVE)
def test_answers_with_one_fault(case):
    with pytest.raises(MalformedArtefact) as caught:
        parse_answers(read(case), "answers.json")
    assert str(caught.value).startswith("answers.json: ")
    assert [text for text in expected(case)["contains"] if text not in str(caught.value)] == []


def test_number_of_cases():
    assert (len(POSITIVE), len(NEGATIVE)) == (4, 36)


def test_the_generator_writes_these_files(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["generate.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "generate.py"), run_name="__main__")
    written = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*.json")}
    assert written == {str(p.relative_to(ROOT)): p.read_bytes() for p in ROOT.rglob("*.json")}
