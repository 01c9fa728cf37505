# SPDX-License-Identifier: Apache-2.0
"""``weighmaster report``: where the report goes, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.packs import pack_tiny, tiny, write_model

from weighmaster.cli.main import main
from weighmaster.cli.report_summary import new_report


@pytest.fixture
def packed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model", tiny(), {})
    pack_tiny(monkeypatch, tmp_path / "model", tmp_path / "m.pack", profile="datafree")
    return tmp_path


def test_report_beside_the_pack(packed, capsys):
    assert main(["report", "m.pack", "--source", "model"]) == 0
    out = capsys.readouterr().out
    assert "Real bits per weight  " in out
    assert "Outputs               not compared: model has no config.json, so there is no model to run\n" in out
    assert "Origin                not checked\n" in out
    assert "Report                m.pack.report/report.html\n" in out
    assert (packed / "m.pack.report" / "report.json").is_file()
    assert main(["report", "m.pack", "--source", "model"]) == 2
    assert "m.pack.report: exists already and is not overwritten" in capsys.readouterr().err


def test_pack_ends_with_a_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model", tiny(), {})
    assert main(["pack", "model", "-o", "m.pack"]) == 0
    out = capsys.readouterr().out
    assert "read back        3 tensors, each as it has to be\n" in out
    assert "not compared: nothing is lost: every tensor was compared with the source" in out
    assert (tmp_path / "m.pack.report" / "report.html").is_file()
    assert main(["pack", "model", "-o", "n.pack", "--report", "r", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"]["root"] == document["root"]
    assert document["report"]["directory"] == "r"


def test_a_report_in_the_way_is_said_before_anything_is_packed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model", tiny(), {})
    (tmp_path / "m.pack.report").mkdir()
    assert main(["pack", "model", "-o", "m.pack"]) == 2
    assert "m.pack.report: exists already and is not overwritten" in capsys.readouterr().err
    assert not (tmp_path / "m.pack").exists()


@pytest.mark.parametrize(("pack", "report"), [("p", "p.report"), ("a/p/", "a/p.report"), (".", "here.report")])
def test_where_a_report_goes(tmp_path, monkeypatch, pack, report):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert new_report(Path(pack), None) in {Path(report), tmp_path / report}
    assert new_report(Path(pack), Path("x")) == Path("x")


def test_json(packed, capsys):
    assert main(["report", "m.pack", "--source", "model", "-o", "r", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["result"], document["directory"], document["originChecked"]) == ("reported", "r", False)
    said = json.loads((packed / "r" / "report.json").read_text())
    assert document["figures"] == {"bitsPerWeight": said["size"]["bitsPerWeight"]}
    assert document["format"] == said["format"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: --source"),
        (("--source", "model", "--tokens", "a", "--texts", "b"), "not allowed with argument"),
        (("--source", "model", "--tokens", "t.npy"), "model has no config.json"),
        (("--source", "model", "--metric", "nowhere:f"), "no module named 'nowhere'"),
        (("--source", "elsewhere"), "elsewhere"),
        (("--source", "model", "--sequences", "0"), "expected a length of at least 2 and a sequence"),
    ],
)
def test_refused(packed, capsys, words, message):
    assert main(["report", "m.pack", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (packed / "m.pack.report").exists()
