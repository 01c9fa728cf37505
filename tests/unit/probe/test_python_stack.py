# SPDX-License-Identifier: Apache-2.0
"""Facts about distributions: installed, imported, modified, shadowed, editable."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from weighmaster.core.environment import Fact
from weighmaster.probe import python_stack
from weighmaster.probe.imports import installed


def install(site, name="hqq", version="1.0", *, files=(("__init__.py", "x = 1\n"), ("core.py", "y = 1\n"))):
    """Write a distribution with a RECORD, as an installer does."""
    lines = []
    (site / name).mkdir(parents=True)
    for file, text in files:
        (site / name / file).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name}/{file},sha256={digest},{len(text)}\n")
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(lines))
    return info


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return folder


@pytest.fixture
def facts(child, site):
    def run(code=""):
        found = child(code, PYTHONPATH=str(site))
        return {f.name: (f.scope, f.value or f.status) for f in found.facts if f.name.startswith("python.")}

    return run


def test_not_installed(facts):
    found = facts()
    assert found["python.hqq.version"] == ("instance", "absent")
    assert "python.hqq.record" not in found


def test_installed_but_not_imported(facts, site):
    install(site)
    found = facts()
    assert found["python.hqq.version"] == ("instance", "1.0")
    assert "python.hqq.record" not in found


def test_imported(facts, site):
    install(site)
    found = facts("import hqq")
    assert found["python.hqq.version"] == ("class", "1.0")
    scope, value = found["python.hqq.record"]
    assert (scope, value.split(":")[0], " " in value) == ("class", "record", False)
    assert facts("import hqq.core")["python.hqq.record"] == (scope, value)


@pytest.mark.requirement("REQ-ENV-04")
def test_file_modified_after_the_installation(facts, site):
    install(site)
    clean = facts("import hqq.core")["python.hqq.record"][1]
    (site / "hqq/core.py").write_text("y = 2\n")
    assert facts("import hqq")["python.hqq.record"][1] == clean  # not in use
    assert facts("import hqq.core")["python.hqq.record"][1].startswith(f"{clean} modified:hqq/core.py files:1 sha256:")


def test_module_that_the_record_does_not_list(facts, site):
    install(site)
    (site / "hqq/added.py").write_text("")
    assert " modified:hqq/added.py " in facts("import hqq.added")["python.hqq.record"][1]


def test_package_that_shadows_the_installed_one(facts, site, tmp_path):
    install(site)
    shadow = tmp_path / "shadow"
    (shadow / "hqq").mkdir(parents=True)
    (shadow / "hqq/__init__.py").write_text("x = 1\n")
    found = facts(f"import sys; sys.path.insert(0, {str(shadow)!r}); import hqq")
    assert " modified:outside/__init__.py " in found["python.hqq.record"][1]


def test_file_that_is_gone_after_the_import(facts, site):
    install(site)
    found = facts(f"import hqq.core, os; os.unlink({str(site / 'hqq/core.py')!r})")
    assert found["python.hqq.record"] == ("class", "unreadable")


def test_record_that_is_no_csv(facts, site):
    info = install(site)
    with (info / "RECORD").open("a") as file:
        file.write("x" * (1 << 18) + ",sha256=AAAA,3\n")
    assert facts("import hqq")["python.hqq.record"] == ("class", "unreadable")


def test_imported_without_a_distribution(facts, site):
    (site / "hqq").mkdir()
    (site / "hqq/__init__.py").write_text("")
    found = facts("import hqq")
    assert found["python.hqq.version"] == ("class", "absent")
    assert found["python.hqq.record"][1].startswith("tree:")


def test_editable(facts, site, tmp_path):
    info = install(site)
    (info / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))
    found = facts("import hqq")
    assert found["python.hqq.record"][1].startswith("tree:")
    assert facts("import hqq.core") == found  # does not depend on what is imported
    (site / "hqq/core.py").write_text("y = 2\n")
    assert facts("import hqq")["python.hqq.record"] != found["python.hqq.record"]


def found_in(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    return {f.name: f.value or f.status for f in python_stack._distribution("hqq", "installed", None)}


@pytest.mark.parametrize("data", [None, b"", b"Name: hqq\n", b"Name: hqq\nVersion: \xff\n", b"Name: hqq\nVersion:\n"])
def test_metadata_that_are_gone_or_damaged(site, monkeypatch, data):
    """Such a folder is left behind by an installation that was cut off; it is no reason to break down."""
    metadata = install(site) / "METADATA"
    metadata.unlink()
    if data is not None:
        metadata.write_bytes(data)
    assert found_in(site, monkeypatch)["python.hqq.version"] == "unreadable"


def test_record_that_is_no_text(site, monkeypatch):
    (install(site) / "RECORD").write_bytes(b"hqq/__init__.py,\xff,6\n")
    assert found_in(site, monkeypatch)["python.hqq.record"] == "unreadable"
    assert f"{site}/" not in installed().roots


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"dir_info": "x"}', '{"dir_info": 5}', "[" * 100_000, '{"dir_info": null}']
)
def test_damaged_origin_is_no_editable_installation(site, monkeypatch, text):
    info = install(site)
    plain = found_in(site, monkeypatch)
    (info / "direct_url.json").write_text(text)
    assert found_in(site, monkeypatch) == plain
    assert plain["python.hqq.record"].startswith("record:")


def test_on_demand_packages_count_whenever_they_are_installed(facts, site):
    found = facts()
    assert found["python.tokenizers.version"][0] == "class"
    assert facts("import tokenizers") == found


def test_changed_standard_library(site, monkeypatch):
    (site / "lib").mkdir()
    (site / "lib/os.py").write_text("x = 1\n")
    monkeypatch.setattr(python_stack, "standard_folder", lambda: f"{site}/lib")
    (first,) = (f for f in python_stack.python_facts({}) if f.name == "python.stdlib")
    (site / "lib/site-packages").mkdir()
    (site / "lib/site-packages/a.py").write_text("")
    assert first in python_stack.python_facts({})
    (site / "lib/os.py").write_text("x = 2\n")
    (second,) = (f for f in python_stack.python_facts({}) if f.name == "python.stdlib")
    assert (first.scope, first.value != second.value) == ("class", True)
    (site / "lib/os.py").unlink()
    assert Fact.unreadable("python.stdlib") in python_stack.python_facts({})


def test_weighmaster_itself_is_for_the_audit_trail(facts):
    found = facts()
    assert found["python.weighmaster.version"][0] == "instance"
    assert found["python.weighmaster.record"][0] == "instance"
