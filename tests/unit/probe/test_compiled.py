# SPDX-License-Identifier: Apache-2.0
"""Bytecode beside its source: equal, forged, damaged, of another interpreter."""

from __future__ import annotations

import importlib.util
import marshal
import subprocess
import sys

import pytest

from weighmaster.probe import compiled
from weighmaster.probe.compiled import AS_SOURCE, DIFFERS, UNREADABLE, judge, same_code

MAGIC = importlib.util.MAGIC_NUMBER
REST = b"\1\0\0\0" + bytes(8)  # of the header: never checked against the source
SOURCE = """
import os

class A:
    rate: float = 0.5

    def scale(self, x, *, by=2):
        assert by, "nothing"
        return {"a", "b"}, (lambda y: (x * y * by, 1.0, -0.0, 1j, b"z"))
"""


def write(folder, text, name="a"):
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def bytecode(folder, source, text, *, optimize=0, magic=MAGIC, name=None):
    code = compile(text, name or str(source), "exec", dont_inherit=True, optimize=optimize)
    path = folder / "a.pyc"
    path.write_bytes(magic + REST + marshal.dumps(code))
    return path


def verdict(source, cached, optimize=0):
    (found,) = judge([(str(source), str(cached))], MAGIC, optimize)
    return found


def test_same(tmp_path):
    source = write(tmp_path, SOURCE)
    assert verdict(source, bytecode(tmp_path, source, SOURCE)) == AS_SOURCE


def test_compiled_in_another_folder(tmp_path):
    source = write(tmp_path, SOURCE)
    assert verdict(source, bytecode(tmp_path, source, SOURCE, name="/build/elsewhere/a.py")) == AS_SOURCE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5", "0.25"),
        ("-0.0", "0.0"),
        ("1.0", "1"),
        ("1j", "2j"),
        ('b"z"', '"z"'),
        ("by=2", "by=3"),
        ("x * y", "y * x"),
        ("scale", "scald"),
        ('"a", "b"', '"a", "c"'),
        ("import os", "import io"),
        ("*, by", "by"),
        ('assert by, "nothing"', "pass"),
        ("class A", "\nclass A"),  # line numbers: a forgery need not be the same length
    ],
)
def test_every_difference_counts(tmp_path, old, new):
    assert old in SOURCE
    source = write(tmp_path, SOURCE)
    assert verdict(source, bytecode(tmp_path, source, SOURCE.replace(old, new, 1))) == DIFFERS


def test_another_level_of_optimization(tmp_path):
    source = write(tmp_path, SOURCE)
    cached = bytecode(tmp_path, source, SOURCE, optimize=1)
    assert (verdict(source, cached, 1), verdict(source, cached, 0)) == (AS_SOURCE, DIFFERS)


@pytest.mark.parametrize("data", [MAGIC + REST, MAGIC + REST + b"c", MAGIC + REST + bytes(64)])
def test_damaged(tmp_path, data):
    source = write(tmp_path, SOURCE)
    (tmp_path / "a.pyc").write_bytes(data)
    assert verdict(source, tmp_path / "a.pyc") == DIFFERS


def test_of_another_interpreter_or_no_code_at_all(tmp_path):
    source = write(tmp_path, SOURCE)
    assert verdict(source, bytecode(tmp_path, source, "x = 1", magic=b"\0\0\r\n")) == AS_SOURCE  # nobody takes it
    (tmp_path / "a.pyc").write_bytes(MAGIC + REST + marshal.dumps("text"))
    assert verdict(source, tmp_path / "a.pyc") == DIFFERS


@pytest.mark.parametrize(
    ("flags", "late", "longer", "found"),
    [
        (0, 0, 0, DIFFERS),
        (0, 1, 0, AS_SOURCE),
        (0, 0, 1, AS_SOURCE),
        (1, 1, 1, DIFFERS),
        (3, 0, 0, DIFFERS),
        (4, 0, 0, AS_SOURCE),
    ],
)
def test_only_bytecode_that_the_interpreter_takes_counts(tmp_path, flags, late, longer, found):
    source = write(tmp_path, SOURCE)
    forged = bytecode(tmp_path, source, "x = 1")
    stat = source.stat()
    header = b"".join(n.to_bytes(4, "little") for n in (flags, int(stat.st_mtime) + late, stat.st_size + longer))
    forged.write_bytes(MAGIC + header + forged.read_bytes()[16:])
    assert verdict(source, forged) == found
    forged.write_bytes(forged.read_bytes()[:15])
    assert verdict(source, forged) == AS_SOURCE


def test_source_that_does_not_compile_and_files_that_are_gone(tmp_path):
    source = write(tmp_path, SOURCE)
    cached = bytecode(tmp_path, source, SOURCE)
    source.write_text("def (")
    assert verdict(source, cached) == DIFFERS
    source.unlink()
    assert verdict(source, cached) == UNREADABLE
    assert verdict(write(tmp_path, SOURCE), tmp_path / "none.pyc") == UNREADABLE


def with_constants(*constants):
    return compile("x = 1", "a", "exec").replace(co_consts=constants)


@pytest.mark.parametrize("text", ["(" * 5000 + ")" * 5000, "-" * 100_000 + "1", "a" + ".b" * 50_000])
def test_source_that_is_nested_too_deeply(tmp_path, text):
    cached = bytecode(tmp_path, tmp_path / "a.py", "x = 1\n")
    assert verdict(write(tmp_path, text), cached) == DIFFERS


def test_slices_as_newer_interpreters_keep_them():
    one, two = slice(1, 2, None), slice(1, 3, None)
    assert same_code(with_constants(1, (one,)), with_constants(1, (slice(1, 2, None),)))
    assert not same_code(with_constants(1, (one,)), with_constants(1, (two,)))
    assert not same_code(with_constants(1, (one,)), with_constants(1, (one, one)))
    assert not same_code(with_constants(one), with_constants((1, 2, None)))
    assert not same_code(with_constants(one), with_constants(slice(1.0, 2, None)))
    assert not same_code(with_constants(one), with_constants(one).replace(co_name="other"))
    assert same_code(with_constants(with_constants(one)), with_constants(with_constants(one)))
    assert not same_code(with_constants(with_constants(one)), with_constants(with_constants(two)))


def test_run_as_a_script(tmp_path):
    source = write(tmp_path, SOURCE)
    good, bad = bytecode(tmp_path, source, SOURCE), tmp_path / "b.pyc"
    bad.write_bytes(bytecode(tmp_path, source, SOURCE + "y = 1").read_bytes())
    bytecode(tmp_path, source, SOURCE)
    pairs = [(str(source), str(good)), (str(source), str(bad))]
    request = marshal.dumps((pairs, MAGIC, 0))
    command = [sys.executable, "-I", "-S", compiled.__file__]
    done = subprocess.run(command, input=request, capture_output=True, check=True)
    assert marshal.loads(done.stdout) == [AS_SOURCE, DIFFERS]
