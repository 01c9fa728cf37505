# SPDX-License-Identifier: Apache-2.0
"""Every parser has a fuzzer, the inputs that are kept hold, and the harness notices what it is there to notice."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from random import Random

import pytest

from fuzz import driver, harness, json_mutator, report
from weighmaster.core.canonical import loads
from weighmaster.errors import MalformedArtefact

SOURCE = harness.ROOT / "src" / "weighmaster"
READERS = re.compile(r"parse_\w+|loads\w*|load_public|split_leaves|root_from_proof|open_trust")


def exported(path: Path) -> set[str]:
    """Names in ``__all__`` of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["__all__"]:
            return set(ast.literal_eval(node.value)) if isinstance(node.value, ast.List) else set()
    return set()


def test_every_reader_of_the_package_has_a_fuzzer() -> None:
    readers = {name for path in SOURCE.rglob("*.py") for name in exported(path) if READERS.fullmatch(name)}
    fuzzed = "\n".join((harness.ROOT / "fuzz" / "parsers" / f"{name}.py").read_text() for name in harness.names())
    assert len(readers) >= 13
    assert {
        name
        for name in readers
        if f"{name}(" not in fuzzed and f"={name}," not in fuzzed and f", {name}, " not in fuzzed
    } == set()


@pytest.mark.parametrize("name", harness.names())
def test_seeds_and_kept_inputs_hold(name: str) -> None:
    parser = harness.parser(name)
    inputs = [*harness.seeds(parser), *(path.read_bytes() for path in harness.corpus(name))]
    assert len(inputs) >= 2
    for data in inputs:
        parser.one(data)


def test_a_corpus_stays_small() -> None:
    for name in harness.names():
        sizes = [path.stat().st_size for path in harness.corpus(name)]
        assert len(sizes) <= 200
        assert sum(sizes) <= 300_000


def write(value: object) -> bytes:
    return json.dumps(value).encode()


COUNT = iter(range(9))
FAULTY = {
    "another exception": (lambda d: int(d[5:]), write, True),
    "another spelling accepted": (json.loads, write, True),
    "another value": (lambda d: [json.loads(d)], write, False),
    "two outcomes": (lambda _: next(COUNT), write, False),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_the_harness_finds_a_faulty_parser(fault: str) -> None:
    read, writer, canonical = FAULTY[fault]
    with pytest.raises((harness.Finding, ValueError)):
        harness.round_trip(b'{"a":  1}', read=read, write=writer, canonical=canonical)


def refuse(message: str) -> MalformedArtefact:
    return MalformedArtefact("f", message, expected="", found="")


@pytest.mark.parametrize("message", ["\ud800", "x" * (1 << 21)])
def test_the_harness_finds_a_message_that_nobody_can_read(message: str) -> None:
    def read(_: bytes) -> None:
        raise refuse(message)

    with pytest.raises((harness.Finding, UnicodeEncodeError)):
        harness.refused_or_read(b"", read)


def test_the_harness_finds_two_refusals() -> None:
    count = iter(range(9))

    def read(_: bytes) -> None:
        raise refuse(str(next(count)))

    with pytest.raises(harness.Finding, match="refused in two ways"):
        harness.refused_or_read(b"", read)


def test_another_spelling_must_be_the_same_value() -> None:
    with pytest.raises(harness.Finding, match="another spelling"):
        harness.read_again(b"[1, 2]", read=len, respell=lambda d: d.replace(b" ", b""))


def test_mutations_follow_from_their_seed_and_reach_the_values() -> None:
    document = b'{"a":[1,"x",{"b":null}],"c":"{\\"d\\":1}"}\n{"e":2}\n'
    made = {json_mutator.mutate(document, 4096, seed, lambda d, _: d) for seed in range(400)}
    again = {json_mutator.mutate(document, 4096, seed, lambda d, _: d) for seed in range(400)}
    assert made == again
    lines = [data.split(b"\n")[0] for data in made]
    parsed = sum(isinstance(outcome(line), (dict, list)) for line in lines)
    assert len(made) > 50
    assert parsed > len(made) // 3


def outcome(line: bytes) -> object:
    try:
        return loads(line, "f")
    except MalformedArtefact:
        return None


def test_mutations_take_any_bytes() -> None:
    random = Random(0)
    for seed in range(300):
        data = random.randbytes(random.randrange(40)) + random.choice([b"", b"{}", b'[""]', b'{"":""}'])
        assert isinstance(json_mutator.mutate(data, 64, seed, lambda d, _: d), bytes)


def test_the_page_says_what_the_results_say() -> None:
    text = report.README.read_text(encoding="utf-8")
    assert report.written(text, report.RESULTS) == text
    for path in report.RESULTS.glob("*.json"):
        for run in json.loads(path.read_bytes())["runs"]:
            assert set(run) == {"parser", "seconds", "runs", "edges", "findings"}


LOG = """INFO: Seed: 1
#17	INITED cov: 175 ft: 436 corp: 13/9133b exec/s: 0 rss: 228Mb
#206	REDUCE cov: 192 ft: 516 corp: 31/16Kb lim: 4096 exec/s: 0 rss: 228Mb L: 664/911 MS: 1 Custom-
"""


def test_a_run_is_read_from_what_it_printed() -> None:
    done = driver._read("bundle", 2.04, f"{LOG}Done 300 runs in 2 second(s)\n", ())
    assert (done.runs, done.edges, done.seconds, done.findings) == (300, 192, 2.0, ())
    found = driver._read("bundle", 2, LOG, ("crash-1",))
    assert (found.runs, found.edges, found.findings) == (206, 192, ("crash-1",))
    assert driver._read("bundle", 2, LOG, ()).findings == ("it ended before its time",)


def test_runs_of_a_day_add_up_and_a_finding_stays(tmp_path: Path) -> None:
    runs = [
        {"parser": "bundle", "seconds": 1.5, "runs": 100, "edges": 7, "findings": ["crash-1"]},
        {"parser": "bundle", "seconds": 0.5, "runs": 100, "edges": 9, "findings": []},
    ]
    (tmp_path / "2026-01-01.json").write_text(json.dumps({"runs": runs}), encoding="utf-8")
    (line,) = [text for text in report.table(tmp_path).splitlines() if text.startswith("| `bundle` ")]
    assert line.startswith("| `bundle` | 2 | 200 | 100 | 9 | ")
    assert line.endswith(" | 1 |")
