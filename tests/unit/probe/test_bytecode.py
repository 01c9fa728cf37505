# SPDX-License-Identifier: Apache-2.0
"""The fact about bytecode: its value, what is remembered, and the processes that compile."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import subprocess
import sys
from pathlib import Path

import pytest

from weighmaster.core.environment import Fact
from weighmaster.probe import bytecode, compiled
from weighmaster.probe.bytecode import bytecode_fact
from weighmaster.probe.modules import LoadedModule

GOOD = Fact.of("python.bytecode", "as source")


def forged(path, text):
    code = compile(text, str(path), "exec", dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + bytes(8)  # one that is never checked against the source
    path.write_bytes(header + marshal.dumps(code))


def module(folder, name, text="x = 1\n", cached="x = 1\n"):
    source, target = folder / f"{name}.py", folder / f"{name}.pyc"
    source.write_text(text)
    if cached is not None:
        forged(target, cached)
    return LoadedModule(name=f"pkg.{name}", path=str(source), cached=str(target))


def test_value_does_not_depend_on_what_is_loaded(tmp_path):
    modules = [module(tmp_path, "a"), module(tmp_path, "b", cached=None)]
    assert bytecode_fact([]) == bytecode_fact(modules) == bytecode_fact(modules[:1]) == GOOD


def test_forged_bytecode_is_named(tmp_path):
    modules = [module(tmp_path, "a"), module(tmp_path, "c", cached="x = 3"), module(tmp_path, "b", cached="x = 2")]
    digests = {name: hashlib.sha256((tmp_path / f"{name}.pyc").read_bytes()).hexdigest() for name in ("b", "c")}
    lines = "".join(f"pkg.{name},{digest}\n" for name, digest in digests.items())
    expected = f"modified:pkg.b files:2 sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    assert bytecode_fact(modules) == Fact.of("python.bytecode", expected)


def test_time_and_size_in_the_header_are_not_believed(tmp_path):
    one = module(tmp_path, "a", cached="x = 2\n")
    stat = Path(one.path).stat()
    header = (0, int(stat.st_mtime), stat.st_size)
    data = (tmp_path / "a.pyc").read_bytes()
    (tmp_path / "a.pyc").write_bytes(data[:4] + b"".join(n.to_bytes(4, "little") for n in header) + data[16:])
    assert str(bytecode_fact([one]).value).startswith("modified:pkg.a files:1 ")


def test_bytecode_without_a_source_is_named(tmp_path):
    forged(tmp_path / "a.pyc", "x = 1")
    one = LoadedModule(name="pkg.a", path=str(tmp_path / "a.pyc"), cached=None)
    assert str(bytecode_fact([one]).value).startswith("modified:pkg.a files:1 ")


def test_bytecode_forged_after_it_was_judged_is_seen(tmp_path):
    one = module(tmp_path, "a")
    assert bytecode_fact([one]) == GOOD
    forged(tmp_path / "a.pyc", "x = 3333")
    assert str(bytecode_fact([one]).value).startswith("modified:pkg.a ")
    forged(tmp_path / "a.pyc", "x = 1\n")
    assert bytecode_fact([one]) == GOOD


def test_judged_once(tmp_path, monkeypatch):
    one = module(tmp_path, "a")
    assert bytecode_fact([one]) == GOOD
    monkeypatch.setattr(bytecode.compiled, "judge", lambda pairs, *_: pairs and pytest.fail("judged again"))
    assert bytecode_fact([one]) == GOOD


def test_source_that_is_gone_is_unreadable(tmp_path):
    one = module(tmp_path, "a")
    Path(one.path).unlink()
    assert bytecode_fact([one]) == Fact.unreadable("python.bytecode")


def test_file_that_changes_while_it_is_judged_is_unreadable(tmp_path, monkeypatch):
    one = module(tmp_path, "a")
    real = compiled.judge

    def meanwhile(*arguments):
        verdicts = real(*arguments)
        forged(tmp_path / "a.pyc", "x = 3333")
        return verdicts

    monkeypatch.setattr(bytecode.compiled, "judge", meanwhile)
    assert bytecode_fact([one]) == Fact.unreadable("python.bytecode")


def test_file_that_is_only_linked_to_meanwhile_is_read_again(tmp_path, monkeypatch):
    one = module(tmp_path, "a")
    real, links = compiled.judge, []

    def meanwhile(*arguments):
        verdicts = real(*arguments)
        if not links:
            links.append(tmp_path / "link")
            links[0].hardlink_to(tmp_path / "a.pyc")
            before = links[0].stat().st_ctime_ns
            while links[0].stat().st_ctime_ns == before:  # the clock of the file system ticks every few milliseconds
                links[0].chmod(0o600)
        return verdicts

    monkeypatch.setattr(bytecode.compiled, "judge", meanwhile)
    assert bytecode_fact([one]) == GOOD
    assert links


class TestProcesses:
    @pytest.fixture(autouse=True)
    def many(self, monkeypatch):
        monkeypatch.setattr(bytecode, "_ALONE", 1)

    def modules(self, folder, count=9):
        return [module(folder, f"m{i}", text=f"x = {i}\n", cached=f"x = {9 if i == 4 else i}\n") for i in range(count)]

    def named(self, folder):
        return str(bytecode_fact(self.modules(folder)).value)

    def test_each_verdict_goes_to_its_module(self, tmp_path, monkeypatch):
        monkeypatch.setattr(bytecode, "_judge_here", lambda _: pytest.fail("not judged elsewhere"))
        assert self.named(tmp_path).startswith("modified:pkg.m4 files:1 ")

    @pytest.mark.parametrize("executable", ["/nonexistent/python", "/bin/false", "/bin/echo", ""])
    def test_judged_here_where_no_process_answers(self, tmp_path, monkeypatch, executable):
        monkeypatch.setattr(sys, "executable", executable)
        assert self.named(tmp_path).startswith("modified:pkg.m4 files:1 ")

    def test_bytecode_that_ends_the_process_is_unreadable(self, tmp_path, monkeypatch):
        real = subprocess.Popen

        def killed(*arguments, **keywords):
            process = real(*arguments, **keywords)
            process.kill()
            return process

        monkeypatch.setattr(bytecode.subprocess, "Popen", killed)
        assert bytecode_fact(self.modules(tmp_path)) == Fact.unreadable("python.bytecode")

    def test_all_processes_work_at_once(self, tmp_path):
        """Each ends without being asked for its answer: none waits for the one before it."""
        pairs = [(m.path, m.cached) for m in self.modules(tmp_path)]
        process = bytecode._start(pairs)
        assert process.wait(timeout=60) == 0
        assert (
            bytecode._answer(process, len(pairs))
            == [compiled.AS_SOURCE] * 4 + [compiled.DIFFERS] + [compiled.AS_SOURCE] * 4
        )

    def test_source_that_goes_before_it_is_judged_is_unreadable(self, tmp_path, monkeypatch):
        modules, real = self.modules(tmp_path), bytecode._judge

        def late(todo):
            Path(modules[0].path).unlink(missing_ok=True)
            return real(todo)

        monkeypatch.setattr(bytecode, "_judge", late)
        assert bytecode_fact(modules) == Fact.unreadable("python.bytecode")

    def test_process_that_does_not_end_is_unreadable(self, tmp_path, monkeypatch):
        script = tmp_path / "wait.py"
        script.write_text("import time\ntime.sleep(60)\n")
        monkeypatch.setattr(bytecode.compiled, "__file__", str(script))
        monkeypatch.setattr(bytecode, "_PATIENCE", 0.1)
        assert bytecode_fact(self.modules(tmp_path)) == Fact.unreadable("python.bytecode")


def test_forged_cache_of_an_imported_package(child, tmp_path):
    package = tmp_path / "hqq"
    package.mkdir()
    source = package / "__init__.py"
    source.write_text("x = 1\n")
    stat = source.stat()
    cached = package / "__pycache__" / f"__init__.{sys.implementation.cache_tag}.pyc"
    cached.parent.mkdir()
    forged(cached, "x = 2\n")
    header = b"".join(n.to_bytes(4, "little") for n in (0, int(stat.st_mtime), stat.st_size))
    cached.write_bytes(cached.read_bytes()[:4] + header + cached.read_bytes()[16:])
    found = child("import hqq; assert hqq.x == 2", PYTHONPATH=str(tmp_path))
    assert next(f.value for f in found.facts if f.name == GOOD.name).startswith("modified:hqq files:1 ")
