# SPDX-License-Identifier: Apache-2.0
"""Lines of ``.pth`` files: what is executed is what validation is bound to."""

from __future__ import annotations

import hashlib

import pytest

from weighmaster.core.environment import MAX_VALUE, Fact
from weighmaster.probe import startup
from weighmaster.probe.modules import LoadedModule
from weighmaster.probe.startup import customization_facts, pth_facts

ABSENT = (Fact.absent("python.pth"), Fact.absent("python.pth_paths", scope="instance"))


def facts(folder, **files):
    for name, data in files.items():
        (folder / f"{name}.pth").write_bytes(data)
    executed, paths = pth_facts([str(folder)])
    return executed.value, paths.value


def value(*lines):
    text = b"".join(line + b"\n" for line in lines)
    return f"lines:{len(lines)} sha256:{hashlib.sha256(text).hexdigest()}"


def test_none(tmp_path):
    assert pth_facts([str(tmp_path), str(tmp_path / "none")]) == ABSENT
    (tmp_path / "a.pth").write_bytes(b"# import x\n\n  \n")
    (tmp_path / "b.txt").write_bytes(b"import x\n")
    assert pth_facts([str(tmp_path)]) == ABSENT


def test_executed_lines_of_all_files_sorted(tmp_path):
    found = facts(tmp_path, z=b"import a\n/opt/x\n", a=b"\xef\xbb\xbfimport\tb \r\nimport c")
    assert found == (value(b"import\tb", b"import a", b"import c"), "/opt/x")


def test_file_and_order_make_no_difference_and_a_line_does(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = facts(tmp_path / "one", a=b"import a\nimport b\n")
    assert facts(tmp_path / "two", x=b"import b\n", y=b"import a\n") == first
    assert facts(tmp_path / "two", y=b"import a; evil()\n") != first
    assert facts(tmp_path / "two", y=b"import a\n", z=b"import a\n") != first


@pytest.mark.parametrize("end", ["\f", "\v", "\x1c", "\x85", "\u2028"])
@pytest.mark.parametrize("start", ["# a comment", "/opt/x", "import a"])
def test_what_some_interpreters_take_for_two_lines_is_executed_as_a_whole(tmp_path, start, end):
    line = f"{start}{end}import evil".encode()
    assert facts(tmp_path, a=line + b"\n") == (value(line), None)


def test_hidden_file_counts(tmp_path):
    (tmp_path / ".a.pth").write_bytes(b"import a\n")
    assert pth_facts([str(tmp_path)])[0].value == value(b"import a")


def test_words_that_only_begin_like_an_import_are_paths(tmp_path):
    assert facts(tmp_path, a=b"imports/x\nimport\n import a\n") == (None, " import a; import; imports/x")


def test_paths_that_are_no_text_or_too_long(tmp_path):
    assert facts(tmp_path, a=b"/opt/\xff")[1] == "/opt/\\xff"
    long = b"x" * (MAX_VALUE + 1)
    assert facts(tmp_path, a=long)[1] == f"sha256:{hashlib.sha256(long).hexdigest()}"


def test_unreadable(tmp_path):
    (tmp_path / "a.pth").mkdir()
    assert [fact.status for fact in pth_facts([str(tmp_path)])] == ["unreadable", "unreadable"]


def test_without_the_site_module_no_line_runs(monkeypatch):
    class Flags:
        no_site = 1

    monkeypatch.setattr(startup.sys, "flags", Flags)
    assert pth_facts() == ABSENT


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
def test_customization(tmp_path, name):
    path = tmp_path / f"{name}.py"
    path.write_bytes(b"x = 1\n")
    module = LoadedModule(name=name, path=str(path), cached=None)
    expected = Fact.of(f"python.{name}", hashlib.sha256(b"x = 1\n").hexdigest())
    assert expected in customization_facts([module])
    path.unlink()
    assert Fact.unreadable(f"python.{name}") in customization_facts([module])
    assert {fact.status for fact in customization_facts([])} == {"absent"}
