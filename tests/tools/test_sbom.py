# SPDX-License-Identifier: Apache-2.0
"""The SBOM is valid, complete, the same every time, and bound to its content."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EPOCH = 1_795_483_557
OWN = f"pkg:pypi/weighmaster@{PROJECT['version']}"


def load(name):
    spec = spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = load("sbom")


@pytest.fixture
def document():
    return tool.sbom(PROJECT, PROJECT["version"], EPOCH)


def properties(component):
    return {p["name"].removeprefix("weighmaster:"): p["value"] for p in component["properties"]}


@pytest.mark.requirement("REQ-REL-02")
def test_it_is_valid_and_names_every_dependency_with_its_range(document):
    assert json.loads(tool.to_bytes(document)) == document
    listed = {(c["name"], properties(c)["range"], properties(c)["extra"]) for c in document["components"]}
    assert ("cryptography", "<60,>=45", "none: always needed") in listed
    wanted = {(None, text) for text in PROJECT["dependencies"]}
    wanted |= {
        (extra, text)
        for extra, texts in PROJECT["optional-dependencies"].items()
        for text in texts
        if extra not in tool.TOOL_EXTRAS and not text.startswith("weighmaster[")
    }
    assert len(document["components"]) == len(wanted)
    edges = {d["ref"]: d["dependsOn"] for d in document["dependencies"]}
    assert edges[OWN] == [c["bom-ref"] for c in document["components"]]
    assert not {c["name"] for c in document["components"]} & {"pytest", "ruff", "build", "weighmaster"}


def test_what_was_run_is_told_from_what_was_not(document, monkeypatch):
    by_name = {c["name"]: c for c in document["components"]}
    assert properties(by_name["torch"])["run-with"] == by_name["torch"]["version"]
    assert by_name["cryptography"]["licenses"]
    monkeypatch.setattr(tool, "_metadata_of", lambda name: None)
    bare = tool.sbom(PROJECT, "1", EPOCH)
    tool.to_bytes(bare)
    assert {properties(c)["run-with"] for c in bare["components"]} == {"not run"}
    assert [c for c in bare["components"] if "version" in c or "@" in c["purl"]] == []


def test_direct_dependencies_are_complete_and_further_ones_are_not(document):
    complete, incomplete = document["compositions"]
    assert (complete["aggregate"], complete["dependencies"]) == ("complete", [OWN])
    assert (incomplete["aggregate"], len(incomplete["dependencies"])) == ("incomplete", len(document["components"]))


def test_the_serial_number_follows_from_the_content(document):
    assert tool.sbom(PROJECT, PROJECT["version"], EPOCH) == document
    others = [
        tool.sbom(PROJECT, "9", EPOCH),
        tool.sbom(PROJECT, PROJECT["version"], EPOCH + 1),
        tool.sbom(PROJECT, PROJECT["version"], EPOCH, b"wheel"),
    ]
    assert len({d["serialNumber"] for d in (document, *others)}) == 4
    (digest,) = others[2]["metadata"]["component"]["hashes"]
    assert digest == {"alg": "SHA-256", "content": hashlib.sha256(b"wheel").hexdigest()}


@pytest.mark.requirement("REQ-REL-02")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(bomFormat="SPDX"),
        lambda d: d.update(extra=1),
        lambda d: d["components"][0].update(type="weights"),
        lambda d: d["components"][0].pop("name"),
        lambda d: d["metadata"]["component"]["licenses"].append({"license": {"id": "No-Such"}}),
        lambda d: d.update(serialNumber="random"),
    ],
)
def test_what_is_not_valid_is_not_written(document, spoil):
    spoilt = copy.deepcopy(document)
    spoil(spoilt)
    with pytest.raises(tool.SbomError, match=r"not a valid CycloneDX 1\.6 document"):
        tool.to_bytes(spoilt)


def run(tmp_path, **variables):
    command = [sys.executable, str(ROOT / "tools/sbom.py"), "--out", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"} | variables
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_two_processes_write_the_same_bytes(tmp_path):
    for folder, seed, zone in (("1", "1", "UTC"), ("2", "2", "Pacific/Kiritimati")):
        done = run(tmp_path / folder, SOURCE_DATE_EPOCH=str(EPOCH), PYTHONHASHSEED=seed, TZ=zone)
        assert (done.returncode, done.stderr) == (0, "")
    one, two = ((tmp_path / f / f"weighmaster-{PROJECT['version']}.cdx.json").read_bytes() for f in ("1", "2"))
    assert one == two
    assert json.loads(one)["metadata"]["timestamp"] == "2026-11-24T01:25:57Z"


def test_without_the_time_of_the_commit_nothing_is_written(tmp_path):
    done = run(tmp_path / "out")
    assert done.returncode == 2
    assert "expected SOURCE_DATE_EPOCH" in done.stderr
    assert not (tmp_path / "out").exists()
