# SPDX-License-Identifier: Apache-2.0
"""Reports and packs in statements: figures are copied, never made, and a report is about this very pack."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from tests.pack_reports import LANGUAGE
from tests.packs import tiny, write_model

import weighmaster as wm
from weighmaster.cli.main import main
from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.flows.derived import derived, is_pack, named, read_reference
from weighmaster.flows.pack_seal import derivation_of
from weighmaster.seal.keys import generate, write_private

FIGURES = {"kl": "0.002", "perplexityRatio": "1.25", "top1Agreement": "0.9"}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    wm.pack_model(write_model(tmp_path / "source", tiny()), tmp_path / "model.pack")
    return tmp_path / "model.pack"


@pytest.fixture
def report(pack: Path, tmp_path: Path) -> Path:
    """A report that says that it is about this pack."""
    with wm.open_pack(pack) as opened:
        about = dataclasses.replace(LANGUAGE, pack=dataclasses.replace(LANGUAGE.pack, root=opened.root))
    (tmp_path / "report.json").write_bytes(about.to_bytes())
    return tmp_path / "report.json"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other.json").write_bytes(LANGUAGE.to_bytes())
    return tmp_path / "other.json"


def test_a_report_is_read_strictly_and_its_figures_are_copied(report: Path) -> None:
    reference = read_reference(report)
    assert reference.report.sha256 == hashlib.sha256(report.read_bytes()).hexdigest()
    assert reference.report.format == "weighmaster-pack-report-v1"
    assert FIGURES.items() <= dict(reference.report.metrics).items()
    assert named([reference]) == (("weighmaster-pack-report-v1", reference.report.sha256),)
    report.write_bytes(report.read_bytes() + b"\n")
    with pytest.raises(MalformedArtefact, match=r"report\.json"):
        read_reference(report)
    with pytest.raises(UsageError, match=r"gone\.json"):
        read_reference(report.with_name("gone.json"))


def test_at_rest_the_statement_names_report_and_pack(pack: Path, report: Path) -> None:
    reference = read_reference(report)
    statement = wm.weigh_files(pack, product="p", version="1", serial=1, reports=(reference,)).statement
    assert statement.validation == (("weighmaster-pack-report-v1", reference.report.sha256),)
    with wm.open_pack(pack) as opened:
        assert statement.derivation == derivation_of(opened, (reference.report,))


def test_a_report_about_another_pack_is_refused(pack: Path, other: Path) -> None:
    with pytest.raises(UsageError, match=r"other\.json: is about another pack; expected [0-9a-f]{64}, found "):
        wm.weigh_files(pack, product="p", version="1", serial=1, reports=(read_reference(other),))


def test_of_plain_files_a_report_is_named_and_nothing_is_derived(pack: Path, other: Path, tmp_path: Path) -> None:
    reference = read_reference(other)
    statement = wm.weigh_files(tmp_path / "source", product="p", version="1", serial=1, reports=(reference,)).statement
    assert statement.derivation is None
    assert statement.validation == named([reference])


def test_what_is_no_pack_derives_nothing(tmp_path: Path) -> None:
    assert not is_pack(None)
    assert not is_pack(tmp_path)
    assert derived(object(), None, ()) is None
    assert derived(object(), tmp_path, ()) is None


def test_the_command_line_signs_and_weighs_with_a_report(
    pack: Path, report: Path, other: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_private(tmp_path / "ana.key", generate("ed25519"), None)
    identity = ["--product", "p", "--version", "1", "--serial", "3"]
    sign = ["sign", str(pack), "--key", str(tmp_path / "ana.key"), *identity]
    assert main([*sign, "--report", str(other)]) == 2
    assert "is about another pack" in capfd.readouterr().err
    assert main([*sign, "--report", str(report), "--json"]) == 0
    signed = json.loads(capfd.readouterr().out)
    (said,) = signed["reports"]
    assert FIGURES.items() <= {m["name"]: m["value"] for m in said["metrics"]}.items()
    out = tmp_path / "manifest"
    assert main(["weigh", str(pack), "--files", "-o", str(out), *identity, "--report", str(report)]) == 0
    text = capfd.readouterr().out
    assert f"rebuilt from  pack {signed['root']}\n" in text
    assert f"weighmaster-pack-report-v1, SHA-256 {said['sha256']}: " in text
    assert wm.read_unsigned(out).root == signed["tensorsRoot"]
