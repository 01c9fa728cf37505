# SPDX-License-Identifier: Apache-2.0
"""``environment``, ``selftest`` and ``completion``."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import weighmaster as wm
from weighmaster.cli import selftest as verb
from weighmaster.cli.main import VERBS
from weighmaster.core.canonical import dumps
from weighmaster.core.environment import Environment, Fact
from weighmaster.core.selftest import COUNT
from weighmaster.errors import SelfTestFault
from weighmaster.flows import selftest
from weighmaster.flows.qualification import NUMBERS


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


@pytest.mark.requirement("REQ-QUA-01")
def test_report_of_an_editable_installation_does_not_pass_and_is_written(cli, tmp_path):
    """The tests run on the source tree, of whose files no RECORD tells."""
    report, page = tmp_path / "report.json", tmp_path / "report.md"
    run = cli("selftest", "--report", report, "--report", page)
    assert (run.code, run.out) == (16, "")
    assert "(1) self-test: IQ-03 files are those of RECORD: did not pass" in run.err
    document = json.loads(report.read_bytes())
    assert report.read_bytes() == dumps(document) + b"\n"
    assert document["result"] == "fail"
    assert {c["number"] for c in document["checks"] if c["result"] == "fail"} <= {"IQ-02", "IQ-03", "IQ-04"}
    assert f"`{document['sha256']}`" in page.read_text(encoding="utf-8")


@pytest.mark.requirement("REQ-QUA-01", "REQ-QUA-02", "REQ-QUA-04")
def test_report_of_a_recorded_installation_with_cryptography_alone(tmp_path):
    """Files and RECORD as an installer leaves them, in a process to which no runtime is importable."""
    site = installed_copy(tmp_path)
    report = tmp_path / "report.json"
    done = run_without_runtimes(site, "selftest", "--report", str(report), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(report.read_bytes())
    assert json.loads(done.stdout) == document
    assert document["result"] == "pass"
    assert [c["number"] for c in document["checks"]] == list(NUMBERS)
    text = run_without_runtimes(site, "selftest", "--report", str(tmp_path / "report.md")).stdout
    assert text.startswith("IQ      8 checks passed\nOQ      44 checks passed\nreport  SHA-256 ")


@pytest.mark.requirement("REQ-QUA-01")
def test_one_changed_byte_of_an_installed_file_does_not_pass(tmp_path):
    site = installed_copy(tmp_path)
    with (site / "weighmaster/core/compare.py").open("a", encoding="utf-8") as file:
        file.write("\n")
    done = run_without_runtimes(site, "selftest", "--report", str(tmp_path / "report.json"))
    assert done.returncode == 16
    assert "found 1 that are not: weighmaster/core/compare.py" in done.stderr


def installed_copy(tmp_path):
    site = tmp_path / "site"
    shutil.copytree(Path(wm.__file__).parent, site / "weighmaster", ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"weighmaster-{wm.__version__}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(metadata.distribution("weighmaster").read_text("METADATA"), encoding="utf-8")
    lines = []
    for path in sorted(p for p in (site / "weighmaster").rglob("*") if p.is_file()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
        lines.append(f"{path.relative_to(site).as_posix()},sha256={digest},{path.stat().st_size}\n")
    (info / "RECORD").write_text("".join(lines), encoding="utf-8")
    return site


def run_without_runtimes(site, *words):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'numpy', 'transformers', 'safetensors']));"
        "from weighmaster.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(site)})


def test_report_overwrites_nothing(cli, tmp_path):
    report = tmp_path / "report.json"
    report.write_text("kept", encoding="utf-8")
    run = cli("selftest", "--report", tmp_path / "new.json", "--report", report)
    assert run.code == 2
    assert "exists already and is not overwritten" in run.err
    assert report.read_text(encoding="utf-8") == "kept"
    assert not (tmp_path / "new.json").exists()


def test_wrong_answer_is_16_and_still_reported(cli, tmp_path, monkeypatch):
    fault = SelfTestFault("sha256 of 'abc'", "wrong answer", expected="ba78", found="0000")
    monkeypatch.setattr(selftest, "digest_faults", lambda *_digest: (fault,))
    run = cli("selftest")
    assert (run.code, run.out) == (16, "")
    assert "(1) self-test: sha256 of 'abc': wrong answer; expected ba78, found 0000" in run.err
    assert "Do not serve from this machine" in run.err
    assert cli("selftest", "--json").json["result"] == "halt"
    report = tmp_path / "report.json"
    run = cli("selftest", "--report", report)
    assert run.code == 16
    checks = {c["number"]: c for c in json.loads(report.read_bytes())["checks"]}
    assert checks["OQ-01"]["result"] == "fail"
    assert "expected ba78, found 0000" in checks["OQ-01"]["found"]


def test_package_that_is_not_there(monkeypatch, cli):
    monkeypatch.setattr(verb, "_PACKAGES", ("no-such-distribution",))
    assert cli("selftest", "--json").json["versions"]["no-such-distribution"] == "not installed"


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
