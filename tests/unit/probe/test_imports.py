# SPDX-License-Identifier: Apache-2.0
"""Imported files beside every RECORD there is."""

from __future__ import annotations

import hashlib
import sys

import pytest

from weighmaster.core.environment import Fact
from weighmaster.core.judgement import environment_faults
from weighmaster.probe.imports import Installed, import_facts
from weighmaster.probe.modules import LoadedModule


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def site(tmp_path):
    """A folder with one distribution as its RECORD says: ``pkg/a.py``, ``pkg/b.so``, ``random.py``."""
    (tmp_path / "pkg").mkdir()
    files = {"pkg/a.py": "a", "pkg/b.so": "b", "random.py": "r", "distutils.py": "d"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path, Installed(roots={f"{tmp_path}/": {name: sha256(text) for name, text in files.items()}})


def facts(site, *modules, mapped=(), covered=()):
    root, where = site
    loaded = [LoadedModule(name=name, path=str(root / path), cached=None) for name, path in modules]
    found = import_facts(loaded, [str(root / path) for path in mapped], covered=covered, where=where)
    return {fact.name.removeprefix("python."): fact for fact in found}


def test_all_as_recorded(site):
    assert facts(site, ("pkg.a", "pkg/a.py"), mapped=["pkg/b.so"]) == {
        "modified": Fact.absent("python.modified", scope="instance"),
        "shadowed": Fact.absent("python.shadowed"),
    }


def test_modified_files_are_named_imported_or_mapped(site):
    (site[0] / "pkg/a.py").write_text("a2")
    (site[0] / "pkg/b.so").write_text("b2")
    lines = f"pkg/a.py,{sha256('a2')}\npkg/b.so,{sha256('b2')}\n"
    found = facts(site, ("pkg.a", "pkg/a.py"), mapped=["pkg/b.so"])["modified"]
    assert (found.scope, found.value) == ("instance", f"modified:pkg/a.py files:2 sha256:{sha256(lines)}")


def test_module_that_nobody_lists(site):
    (site[0] / "app.py").write_text("app")
    (site[0] / "pkg/new.py").write_text("new")
    found = facts(site, ("app", "app.py"), ("pkg.new", "pkg/new.py"), ("__main__", "app.py"))
    assert found["outside.app"] == Fact.of("python.outside.app", sha256("app"), scope="instance")
    assert found["outside.pkg.new"].value == sha256("new")
    assert found["outside.__main__"].value == sha256("app")
    assert found["modified"].status == "absent"


def test_packages_with_a_fact_of_their_own_are_not_repeated(site):
    (site[0] / "pkg/new.py").write_text("new")
    assert "outside.pkg.new" not in facts(site, ("pkg.new", "pkg/new.py"), covered=["pkg"])


def test_gone_files_are_unreadable(site):
    found = facts(site, ("app", "none.py"))
    assert found["outside.app"] == Fact.unreadable("python.outside.app", scope="instance")
    (site[0] / "pkg/a.py").unlink()
    assert facts(site, ("pkg.a", "pkg/a.py"))["modified"].status == "unreadable"


def test_module_in_place_of_the_standard_library_also_if_recorded(site):
    found = facts(site, ("random", "random.py"))["shadowed"]
    digest = sha256(f"random,{sha256('r')}\n")
    assert found == Fact.of("python.shadowed", f"modified:random files:1 sha256:{digest}")


def test_distutils_of_setuptools_counts_only_as_it_was_installed(site):
    assert facts(site, ("distutils", "distutils.py"))["shadowed"].status == "absent"
    (site[0] / "distutils.py").write_text("other")
    assert str(facts(site, ("distutils", "distutils.py"))["shadowed"].value).startswith("modified:distutils ")


def test_path_that_two_distributions_claim(site):
    root, where = site
    where.roots[f"{root}/"]["pkg/a.py"] = f"{sha256('x')} {sha256('a')}"
    assert facts(site, ("pkg.a", "pkg/a.py"))["modified"].status == "absent"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("a b", "python.outside.a%20b"),
        ("é", "python.outside.%C3%A9"),
        ("x" * 600, f"python.outside.sha256:{sha256('x' * 600)}"),
    ],
)
def test_names_that_are_no_fact_names(site, module, name):
    (site[0] / "app.py").write_text("app")
    assert facts(site, (module, "app.py"))[name.removeprefix("python.")].name == name


def test_in_a_process(child, tmp_path):
    (tmp_path / "app.py").write_text("x = 1\n")
    (tmp_path / "colorsys.py").write_text("x = 1\n")
    plain, app = child(), child("import app", PYTHONPATH=str(tmp_path))
    assert environment_faults(plain, app) == ()
    assert Fact.of("python.outside.app", sha256("x = 1\n"), scope="instance") in app.facts
    (fault,) = environment_faults(plain, child("import colorsys", PYTHONPATH=str(tmp_path)))
    assert (fault.subject, fault.expected) == ("python.shadowed", "absent")
    assert "'modified:colorsys files:1 sha256:" in str(fault)


def test_module_of_the_archive_that_is_searched_before_the_standard_library(site):
    archive = next(path for path in sys.path if path.endswith(".zip"))
    loaded = [LoadedModule(name="json", path=f"{archive}/json/__init__.py", cached=None)]
    found = import_facts(loaded, (), covered=(), where=site[1])
    assert Fact.unreadable("python.shadowed") in found


def test_links_do_not_make_a_module_another_one(site, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "a.py"
    link.symlink_to(site[0] / "pkg/a.py")
    loaded = [LoadedModule(name="pkg.a", path=str(link), cached=None)]
    assert [f.status for f in import_facts(loaded, (), covered=(), where=site[1])] == ["absent", "absent"]
