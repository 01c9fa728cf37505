# SPDX-License-Identifier: Apache-2.0
"""The whole collection, in fresh processes under other real settings."""

from __future__ import annotations

import pytest

from weighmaster.core.environment import Fact
from weighmaster.core.judgement import environment_faults
from weighmaster.probe.collect import collect


def named(validated, found):
    return [fault.subject for fault in environment_faults(validated, found)]


def value(environment, name):
    return next((fact.value for fact in environment.facts if fact.name == name), None)


@pytest.mark.requirement("REQ-ENV-03")
def test_same_class_in_another_process_with_another_seed_and_folder(child, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first = child(PYTHONHASHSEED="1")
    second = child("import ssl, sqlite3", PYTHONHASHSEED="2", cwd=tmp_path / "elsewhere", HF_HOME="/data")
    assert first.class_digest == second.class_digest
    assert named(first, second) == []
    assert first.instance_digest != second.instance_digest
    assert not [fact.name for fact in first.scoped("class") if fact.status == "unreadable"]


def test_thread_count_variable(child):
    one, two = child(OMP_NUM_THREADS="1"), child(OMP_NUM_THREADS="2")
    assert one.class_digest != two.class_digest
    (fault,) = environment_faults(one, two)
    assert str(fault) == "env.OMP_NUM_THREADS: differs; expected '1', found '2'"


@pytest.mark.parametrize("name", ["OMP_SOMETHING_NEW", "MKL_NOBODY_KNOWS", "CUBLASLT_X", "VLLM_ATTENTION_BACKEND"])
def test_unknown_variable_with_a_known_beginning(child, name):
    plain, other = child(), child(**{name: "1"})
    assert plain.class_digest != other.class_digest
    (fault,) = environment_faults(plain, other)
    assert (fault.subject, fault.expected, fault.found) == (f"env.{name}", None, "'1'")


@pytest.mark.requirement("REQ-ENV-04")
def test_preloaded_library(child, library):
    plain, other = child(), child(LD_PRELOAD=str(library))
    assert plain.class_digest != other.class_digest
    assert named(plain, other) == ["env.LD_PRELOAD", f"lib.{library.resolve().name}"]


def test_optimized_interpreter(child):
    assert named(child(), child(PYTHONOPTIMIZE="1")) == ["python.optimize"]


def test_customized_interpreter(child, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("x = 1\n")
    assert named(child(), child(PYTHONPATH=str(tmp_path))) == ["python.sitecustomize"]


def test_variable_changed_after_the_start(child):
    changed = child("import os; os.environ['OMP_NUM_THREADS'] = '4'", OMP_NUM_THREADS="2")
    assert (value(changed, "env.OMP_NUM_THREADS"), value(changed, "env.start.OMP_NUM_THREADS")) == ("4", "2")
    assert named(child(OMP_NUM_THREADS="4"), changed) == ["env.start.OMP_NUM_THREADS"]


@pytest.mark.requirement("REQ-ENV-04")
def test_library_deleted_after_mapping(child, library, tmp_path):
    copy = tmp_path / "libcopy.so"
    copy.write_bytes(library.read_bytes())
    load = f"import ctypes, os; ctypes.CDLL({str(copy)!r}); "
    (fault,) = environment_faults(child(), child(load))
    assert (fault.subject, fault.expected) == ("lib.libcopy.so", None)
    (fault,) = environment_faults(child(), child(load + f"os.unlink({str(copy)!r})"))
    assert (fault.subject, fault.expected, fault.found) == ("lib.libcopy.so", None, "unreadable")
    assert "cannot be read" in str(fault)


@pytest.mark.requirement("REQ-ENV-04")
def test_library_replaced_after_mapping(child, library, tmp_path):
    copy, other = tmp_path / "libcopy.so", tmp_path / "other"
    copy.write_bytes(library.read_bytes())
    other.write_bytes(library.read_bytes())
    swap = f"import ctypes, os; ctypes.CDLL({str(copy)!r}); os.rename({str(other)!r}, {str(copy)!r})"
    (fault,) = environment_faults(child(), child(swap))
    assert (fault.subject, fault.found) == ("lib.libcopy.so", "unreadable")


def test_library_that_lives_in_memory_only(child, library):
    load = (
        "import ctypes, os; fd = os.memfd_create('hidden'); "
        f"os.write(fd, open({str(library)!r}, 'rb').read()); ctypes.CDLL(f'/proc/self/fd/{{fd}}')"
    )
    (fault,) = environment_faults(child(), child(load))
    assert (fault.subject, fault.found) == ("lib.memfd:hidden", "unreadable")


def test_code_that_was_never_in_a_file(child):
    plain = child()
    page = "import mmap; page = mmap.mmap(-1, 4096, {}, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
    made = child(page.format("mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS"))
    assert value(plain, "process.anonymous_code") is None
    assert value(made, "process.anonymous_code") == "writable and executable"
    assert named(plain, made) == []  # compilers at work make such memory: it is for the audit trail
    assert named(plain, child(page.format("mmap.MAP_SHARED | mmap.MAP_ANONYMOUS"))) == ["lib.zero"]  # no compiler's


def test_facts_of_the_caller_are_added_and_cannot_replace_ours():
    given = Fact.of("engine.attention", "flash")
    assert given in collect([given]).facts
    with pytest.raises(ValueError, match=r"'cpu\.vendor' after 'cpu\.vendor'"):
        collect([Fact.of("cpu.vendor", "mine")])
