# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/environment.md: against this package, a second reading, and their own generator."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
from pathlib import Path
from typing import Any, get_args

import pytest
import rfc8785

from weighmaster.core.environment import Scope, Status, parse_environment
from weighmaster.core.judgement import Difference, judge
from weighmaster.core.policy import Comparison, Level, parse_policy, read_policy
from weighmaster.errors import MalformedArtefact, WeighmasterError

ROOT = Path(__file__).parents[2] / "vectors" / "environment"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def document(case: str, file: str) -> Any:
    return json.loads((ROOT / case / file).read_bytes())


def judged(case: str) -> tuple[Difference, ...]:
    """Read the three documents strictly and judge."""
    validated, found = (
        parse_environment((ROOT / case / name).read_bytes(), name) for name in ("validated.json", "found.json")
    )
    return judge(validated, found, parse_policy((ROOT / case / "policy.json").read_bytes(), "policy.json"))


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 13
    assert len(NEGATIVE) == 58


@pytest.mark.parametrize("case", POSITIVE)
def test_good_environments_do_not_halt(case: str) -> None:
    expect = document(case, "expect.json")
    found = [
        {"fact": d.fact, "level": d.level, "rule": d.rule.fact if d.rule is not None else None} for d in judged(case)
    ]
    assert found == expect["differences"]
    assert {d["level"] for d in found} <= {"inform"}


def findings(case: str) -> list[WeighmasterError]:
    """Return what halts, or what cannot be read."""
    try:
        return [d.fault() for d in judged(case) if d.level != "inform"]
    except MalformedArtefact as error:
        return [error]


@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_environments_have_exactly_their_fault(case: str) -> None:
    expect = document(case, "expect.json")
    (error,) = findings(case)
    assert type(error).__name__ == expect["error"]
    assert error.exit_code == {"EnvironmentFault": 12, "MalformedArtefact": 20}[expect["error"]]
    assert [fact for fact in expect["contains"] if fact not in str(error)] == []


@pytest.mark.parametrize("case", POSITIVE)
def test_digests_and_documents_are_those_of_another_rfc_8785(case: str) -> None:
    expect = document(case, "expect.json")
    data = (ROOT / case / "found.json").read_bytes()
    every = json.loads(data)
    assert rfc8785.dumps(every) == data
    for scope, key in (("class", "classDigest"), ("instance", "instanceDigest")):
        part = {**every, "facts": [fact for fact in every["facts"] if fact["scope"] == scope]}
        assert hashlib.sha256(rfc8785.dumps(part)).hexdigest() == expect[key]
    environment = parse_environment(data, "found.json")
    assert (environment.class_digest, environment.instance_digest) == (expect["classDigest"], expect["instanceDigest"])
    policy = parse_policy((ROOT / case / "policy.json").read_bytes(), "policy.json")
    assert policy.sha256 == expect["policySha256"]
    assert hashlib.sha256((ROOT / case / "policy.json").read_bytes()).hexdigest() == expect["policySha256"]


# -- a second reading of "Judgement", over plain JSON ------------------------------------------------------------------


def number(text: str | None) -> tuple[str, list[int]] | None:
    if text and re.fullmatch(r"0x[0-9a-fA-F]{1,32}", text):
        return "hex", [int(text, 16)]
    if text and re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18}){0,15}", text, re.ASCII):
        parts = [int(part) for part in text.split(".")]
        return "dotted", parts + [0] * (16 - len(parts))
    return None


def holds(compare: str, values: list[str], a: dict[str, Any], b: dict[str, Any]) -> bool:
    if compare == "in":
        return b["value"] in values
    if (a["status"], a["value"]) == (b["status"], b["value"]) or compare == "known":
        return True
    x, y = number(a["value"]), number(b["value"])
    if compare == "equal" or x is None or y is None or x[0] != y[0]:
        return False
    return y[1] >= x[1] if compare == "ge" else x[0] == "dotted" and x[1][0] == y[1][0]


def second_reading(case: str) -> list[tuple[str, str]]:
    a, b, policy = (document(case, name) for name in ("validated.json", "found.json", "policy.json"))
    if not any(fact["scope"] == "class" for fact in a["facts"]):
        return [("environment", "halt")]
    named = {rule["fact"] for rule in policy["rules"]}
    before, after = ({f["name"]: f for f in e["facts"] if f["scope"] == "class" or f["name"] in named} for e in (a, b))
    out = []
    for name in sorted({*before, *after}, key=str.encode):
        default = {"compare": "equal", "onDiff": "halt", "onMissing": "halt", "values": []}
        fits = (
            r
            for r in policy["rules"]
            if r["fact"] == name or name.startswith(r["fact"].rstrip("*") if r["fact"][-1] == "*" else "\0")
        )
        rule = next(fits, default)
        sides = before.get(name), after.get(name)
        if None in sides or "unreadable" in [s["status"] for s in sides if s]:
            out.append((name, rule["onMissing"]))
        elif not holds(rule["compare"], rule["values"], *sides):
            out.append((name, rule["onDiff"]))
    return out


@pytest.mark.requirement("REQ-ENV-07")
@pytest.mark.parametrize("case", [c for c in CASES if document(c, "expect.json")["error"] != "MalformedArtefact"])
def test_a_second_reader_judges_the_same(case: str) -> None:
    assert second_reading(case) == [(d.fact, d.level) for d in judged(case)]


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "generate.py"))["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(ROOT): path.read_bytes() for case in CASES for path in (ROOT / case).iterdir()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []


def spec() -> str:
    return (ROOT.parents[1] / "spec" / "environment.md").read_text(encoding="utf-8")


def test_words_of_the_specification_are_those_of_the_code() -> None:
    for word in (*get_args(Comparison), *get_args(Level), *get_args(Status), *get_args(Scope)):
        assert re.search(rf"[`| ]{re.escape(word)}[`| :,]", spec()), word


def test_example_of_the_specification_is_real() -> None:
    """The policy in the text is one, and the findings in the text are what it makes of the case beside it."""
    text = spec().split("## Policy")[1]
    blocks = re.findall(r"```(?:json)?\n(.*?)```", text, re.DOTALL)
    policy = read_policy(blocks[0].encode(), "spec/environment.md")
    validated, found = (
        parse_environment((ROOT / "several" / name).read_bytes(), name) for name in ("validated.json", "found.json")
    )
    assert blocks[1].splitlines() == [str(d.fault()) for d in judge(validated, found, policy)]
