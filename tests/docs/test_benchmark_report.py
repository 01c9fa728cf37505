# SPDX-License-Identifier: Apache-2.0
"""The benchmark page says what the newest result says, misses included, and the result names no host and no path."""

from __future__ import annotations

import copy
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def report():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import report as module  # a script's neighbours are found beside it
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture
def result(report):
    return json.loads(report.newest().read_text(encoding="utf-8"))


def check(directory):
    return subprocess.run(
        [sys.executable, str(directory / "report.py"), "--check"], capture_output=True, text=True, check=False
    )


def copied(tmp_path):
    (tmp_path / "results").mkdir()
    for path in [*BENCHMARKS.glob("*.py"), BENCHMARKS / "README.md", *BENCHMARKS.glob("results/*.json")]:
        (tmp_path / path.relative_to(BENCHMARKS)).write_bytes(path.read_bytes())
    return tmp_path


def test_the_page_is_that_of_the_newest_result():
    done = check(BENCHMARKS)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_edited_figure_on_the_page_is_found(tmp_path):
    page = copied(tmp_path) / "README.md"
    text = page.read_text(encoding="utf-8")
    figure = re.search(r"\| (\d+\.\d\d) \|", text)[1]
    page.write_text(text.replace(figure, "0.01", 1), encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1
    assert "benchmarks/README.md is not what its newest result gives" in done.stderr


def test_a_newer_result_makes_the_page_old(tmp_path, report, result):
    copied(tmp_path)
    newer = copy.deepcopy(result)
    newer["seconds"] += 100
    (tmp_path / "results" / "digest-9999-12-31.json").write_text(json.dumps(newer), encoding="utf-8")
    assert check(tmp_path).returncode == 1


def test_without_a_result_there_is_no_page(tmp_path):
    for path in copied(tmp_path).glob("results/*.json"):
        path.unlink()
    done = check(tmp_path)
    assert done.returncode == 1
    assert "no results: run 'make bench'" in done.stderr


def test_a_miss_is_printed_as_a_miss(report, result):
    for run in result["start"]["runs"]["help"]:
        run["wall"] = 0.2
    page = report.render(result, "x")
    assert "| `weighmaster --help` | 200 ms | under 150 ms | **not met** |" in page
    assert re.search(r"Not met or not shown: .*`weighmaster --help`", page)


def test_a_loaded_heavy_package_is_printed(report, result):
    assert "Neither the import nor the help loads torch" in report.render(result, "x")
    result["start"]["loaded"]["help"] = ["numpy", "torch"]
    assert "**Heavy packages are loaded: numpy, torch.**" in report.render(result, "x")


@pytest.mark.parametrize(("two", "valid"), [(1.0, True), (1.9, False)])
def test_scaling_without_two_free_cores_is_called_invalid(report, result, two, valid):
    result["peers"]["memory"]["control"] = {"one": [{"wall": 1.0, "cpu": 1.0}], "two": [{"wall": two, "cpu": 1.25}]}
    text = report.scaling(result)
    assert f"do {2 / two:.2f} times the work of one, each at 1.25 times its CPU-seconds" in text
    assert ("**invalid**" in text) is not valid


@pytest.mark.parametrize(
    ("measured", "at_least", "strict", "met"),
    [
        (0.8999, True, False, False),
        (0.90, True, False, True),
        (0.91, True, False, True),
        (0.90, False, False, True),
        (0.9001, False, False, False),
        (0.90, False, True, False),
        (0.89, False, True, True),
        (float("nan"), False, True, False),
    ],
)
def test_goals_are_judged_on_the_figure_and_not_on_its_print(report, measured, at_least, strict, met):
    goal = report.Goal(what="x", measured=measured, bound=0.90, at_least=at_least, strict=strict)
    assert goal.met is met
    assert goal.row()[3] == ("met" if met else "**not met**")


def test_two_threads_on_one_core_show_nothing(report, result):
    cases = result["peers"]["memory"]["cases"]
    for one, two in zip(cases["gate_1"], cases["gate_2"], strict=True):
        two["wall"], two["cpu"] = one["wall"], one["cpu"]
    found = {g.what: g for g in report.goals(result)}["memory: gate digest, CPU-seconds of 2 threads beside 1"]
    assert (found.measured, found.met) == (1.0, False)
    assert "**not shown**: no second core was free" in report.render(result, "x")


def test_ratios_are_taken_within_each_repeat(report):
    cases = {"a": [{"cpu": 1.0}, {"cpu": 10.0}, {"cpu": 3.0}], "b": [{"cpu": 1.0}, {"cpu": 5.0}, {"cpu": 1.0}]}
    assert report.ratio(cases, "a", "b") == 2.0


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("results/*.json")), ids=lambda p: p.name)
def test_results_are_whole_and_name_neither_hosts_nor_paths(path):
    text = path.read_text(encoding="utf-8")
    result = json.loads(text)
    assert result["quick"] is False
    if path.name.startswith("quality-"):
        assert_quality_is_whole(result)
    elif path.name.startswith("codec-"):
        assert_codec_is_whole(result)
    elif path.name.startswith("packing-"):
        assert result["parameters"]["repeats"] >= 5
        assert {len(runs) for runs in result["cold"]["runs"].values()} == {result["parameters"]["repeats"]}
    else:
        assert result["parameters"]["repeats"] >= 5
        assert all(len(runs) >= 5 for peer in result["peers"].values() for runs in peer["cases"].values())
    assert not re.search(r'"[^"]*/(?:home|root|tmp|usr|var|work|mnt)\b', text)
    assert platform.node() not in text
    assert os.environ.get("USER", "no user's name") not in text


def assert_codec_is_whole(result):
    """NumPy and compressing are slow, and measured less often; what is compared is not."""
    assert result["parameters"]["repeats"] >= 5
    compared = [result["five"]["decode"], result["five"]["encode"], result["wide"]["decode"]]
    compared += [result[name]["decompress"] for name in ("gaussian", "encoder")]
    assert all(len(runs) >= 5 for cases in compared for name, runs in cases.items() if name != "numpy")


def assert_quality_is_whole(result):
    size = result["parameters"]
    assert (size["half"], size["length"]) == ("report", 257)
    assert size["sequences"] >= 160
    for model in result["causal"].values():
        for row in model["methods"]:
            assert {len(row[key]) for key in ("kl", "nll", "top1")} == {size["sequences"]}
            assert row["bits"] == 8 * row["nbytes"] / model["parameters"]
    assert all(len(row["cosine"]) == size["texts"] for row in result["encoder"]["minilm"]["methods"])
