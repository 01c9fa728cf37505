# SPDX-License-Identifier: Apache-2.0
"""``environment``, ``selftest`` and ``completion``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from weighmaster.cli import selftest as verb
from weighmaster.cli.main import VERBS
from weighmaster.core.environment import Environment, Fact
from weighmaster.core.selftest import COUNT
from weighmaster.errors import SelfTestFault
from weighmaster.flows import selftest


def test_environment_prints_the_class_facts_and_its_digest(cli):
    document = cli("environment", "--json").json
    facts = [Fact(**fact) for fact in document["facts"]]
    assert {f.scope for f in facts} == {"class"}
    assert Environment.of(facts).class_digest == document["classDigest"]
    run = cli("environment")
    assert f"class digest     {document['classDigest']}\n" in run.out
    assert "\ntorch.build.version " in run.out
    assert {f["scope"] for f in cli("environment", "--all", "--json").json["facts"]} == {"class", "instance"}


def test_selftest_counts_and_names_versions(cli):
    run = cli("selftest")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith(f"self-test     {2 * COUNT} known answers right\n")
    document = cli("selftest", "--json").json
    assert (document["result"], document["checks"], document["faults"]) == ("right", 2 * COUNT, [])
    assert document["versions"]["torch"] != "not installed"


def test_selftest_report_is_new_and_canonical(cli, tmp_path):
    report = tmp_path / "report.json"
    document = cli("selftest", "--report", report, "--json").json
    assert json.loads(report.read_bytes()) == document
    run = cli("selftest", "--report", report)
    assert run.code == 2
    assert "exists already and is not overwritten" in run.err


def test_wrong_answer_is_16_and_still_reported(cli, tmp_path, monkeypatch):
    fault = SelfTestFault("sha256 of 'abc'", "wrong answer", expected="ba78", found="0000")
    monkeypatch.setattr(selftest, "digest_faults", lambda *_digest: (fault,))
    report = tmp_path / "report.json"
    run = cli("selftest", "--report", report)
    assert (run.code, run.out) == (16, "")
    assert "(1) self-test: sha256 of 'abc': wrong answer; expected ba78, found 0000" in run.err
    assert "Do not serve from this machine" in run.err
    written = json.loads(report.read_bytes())
    assert (written["result"], written["faults"][0]["found"]) == ("wrong", "0000")
    assert cli("selftest", "--json").json["result"] == "halt"


def test_package_that_is_not_there(monkeypatch):
    monkeypatch.setattr(verb, "_PACKAGES", ("no-such-distribution",))
    assert verb._versions()["no-such-distribution"] == "not installed"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_names_every_verb(cli, shell):
    run = cli("completion", shell)
    assert (run.code, run.err) == (0, "")
    assert [name for name in VERBS if name not in run.out] == []
    assert cli("completion", shell, "--json").json["script"] == run.out.rstrip("\n")


def test_completion_for_bash_is_a_script(cli, tmp_path):
    script = tmp_path / "script"
    script.write_text(cli("completion", "bash").out)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, check=True).stderr == b""


def test_completion_without_its_package(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    run = cli("completion", "bash")
    assert (run.code, run.out) == (2, "")
    assert "the package shtab is not installed" in run.err
    assert "pip install 'weighmaster[completion]'" in run.err


def test_other_shells_are_refused(cli):
    assert cli("completion", "fish").code == 2
