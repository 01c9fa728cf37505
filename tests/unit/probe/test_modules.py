# SPDX-License-Identifier: Apache-2.0
"""Which files modules come from, and which of them are the interpreter's own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from weighmaster.probe.modules import LoadedModule, in_standard_library, loaded_modules, members, resolver


def loaded(path, name="a"):
    spec = importlib.util.spec_from_file_location(name, path)
    return importlib.util.module_from_spec(spec)


def test_source_bytecode_and_memory(tmp_path):
    for name in ("a.py", "b.pyc"):
        (tmp_path / name).touch()
    modules = {"b": loaded(tmp_path / "b.pyc", "b"), "a": loaded(tmp_path / "a.py"), "memory": ModuleType("memory")}
    cached = importlib.util.cache_from_source(str(tmp_path / "a.py"))
    assert loaded_modules(modules) == (
        LoadedModule(name="a", path=str(tmp_path / "a.py"), cached=cached),
        LoadedModule(name="b", path=str(tmp_path / "b.pyc"), cached=None),
    )


def test_main_has_the_name_that_it_was_run_by(tmp_path):
    (tmp_path / "tool.py").write_text(
        "from weighmaster.probe.modules import loaded_modules\n"
        "print([m.name for m in loaded_modules() if m.path == __file__])\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "tool"], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout == "['tool']\n"
    done = subprocess.run([sys.executable, tmp_path / "tool.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "['__main__']\n"


def test_members():
    modules = [LoadedModule(name=name, path="/x", cached=None) for name in ("hqq", "hqq.core", "hqqa", "a.hqq")]
    assert {m.name for m in members(modules, ("hqq",))} == {"hqq", "hqq.core"}
    assert members(modules, ()) == frozenset()


@pytest.mark.parametrize("path", [json.__file__, sys.modules["_json"].__file__, os.__file__])
def test_standard_library(path):
    assert in_standard_library(os.path.realpath(path))


def test_installed_packages_below_the_standard_library_are_not_part_of_it():
    root = Path(os.__file__).resolve().parent
    assert not in_standard_library(f"{root}/site-packages/json/__init__.py")
    assert not in_standard_library(f"{root}/dist-packages/json/__init__.py")
    assert not in_standard_library(f"{root}-other/json/__init__.py")
    assert not in_standard_library(os.path.realpath(pytest.__file__))


def test_the_archive_before_the_standard_library_is_not_part_of_it():
    """It is searched first, so a file put there takes the place of any module; no fact digests what is in it."""
    archive = next(path for path in sys.path if path.endswith(".zip"))
    assert not in_standard_library(f"{archive}/json/__init__.py")


def test_links_are_resolved_as_realpath_does(tmp_path):
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "real/a.py").touch()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real/link.py").symlink_to("../real/a.py")
    resolve = resolver()
    for path in ("real/a.py", "folder/a.py", "folder/link.py", "folder/below/..", "folder/none.py", "real/below/"):
        assert resolve(f"{tmp_path}/{path}") == os.path.realpath(f"{tmp_path}/{path}")
    assert resolve("/a.py") == "/a.py"
