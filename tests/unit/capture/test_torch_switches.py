# SPDX-License-Identifier: Apache-2.0
"""Facts about torch: in fresh processes, because switches are global."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from weighmaster.capture import torch_switches
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.core.environment import Environment, Fact, parse_environment
from weighmaster.core.judgement import environment_faults

SWITCHES = "facts = Environment.of(torch_facts())"
EVERYTHING = "from weighmaster.probe.collect import collect; facts = collect(torch_facts())"
PROGRAM = """
import sys, torch, warnings
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.core.environment import Environment
warnings.simplefilter("ignore")
{code}
{read}
sys.stdout.buffer.write(facts.to_bytes())
"""


def child(code: str = "", *, read: str = SWITCHES, cwd: str = "/", **variables: str) -> Environment:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=code, read=read)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return parse_environment(done.stdout, "child")


@pytest.fixture(scope="module")
def plain() -> Environment:
    return child()


def named(validated: Environment, found: Environment) -> dict[str, tuple[str | None, str | None]]:
    assert validated.class_digest != found.class_digest
    return {fault.subject: (fault.expected, fault.found) for fault in environment_faults(validated, found)}


def test_all_are_readable_class_facts_here(plain):
    assert {fact.scope for fact in plain.facts} == {"class"}
    assert [fact.name for fact in plain.facts if fact.status == "unreadable"] == []
    assert len(plain.facts) == 61


def test_matmul_precision(plain):
    found = named(plain, child("torch.set_float32_matmul_precision('high')"))
    assert found["torch.precision.float32_matmul"] == ("'highest'", "'high'")
    assert all(name.startswith("torch.precision.") for name in found)


def test_older_and_newer_switches_together_are_read_without_an_unreadable_fact(plain):
    found = named(plain, child("torch.backends.cuda.matmul.fp32_precision = 'tf32'"))
    assert found == {
        "torch.precision.cuda_matmul": ("'none'", "'tf32'"),
        "torch.precision.float32_matmul": ("'highest'", "'superseded'"),
    }


@pytest.mark.parametrize(
    ("code", "fact", "value"),
    [
        ("torch.backends.mkldnn.enabled = False", "torch.mkldnn.enabled", "False"),
        ("torch.use_deterministic_algorithms(True)", "torch.deterministic.enabled", "True"),
        ("torch.set_default_dtype(torch.float64)", "torch.default.dtype", "torch.float64"),
        ("torch.set_flush_denormal(True)", "torch.flush_denormal", "True"),
        ("torch.backends.cuda.enable_flash_sdp(False)", "torch.sdp.flash", "False"),
        ("torch.backends.mha.set_fastpath_enabled(False)", "torch.mha.fastpath", "False"),
        ("torch.set_num_interop_threads(1)", "torch.threads.interop", "1"),
        ("torch.backends.cudnn.benchmark = True", "torch.cudnn.benchmark", "True"),
        ("torch.autocast('cpu').__enter__()", "torch.autocast.cpu", "True"),
    ],
)
def test_one_switch_is_one_fault(plain, code, fact, value):
    found = named(plain, child(code))
    assert list(found) == [fact]
    assert found[fact][1] == repr(value)


def test_threads_count_as_setting_and_as_effect():
    one, two = (child(read=EVERYTHING, OMP_NUM_THREADS=count) for count in ("1", "2"))
    found = named(one, two)
    assert found["env.OMP_NUM_THREADS"] == ("'1'", "'2'")
    assert set(found) == {
        "env.OMP_NUM_THREADS",
        "torch.threads.intraop",
        "torch.threads.mkl",
        "torch.threads.openmp",
    }


def test_instruction_set_that_torch_is_told_to_use(plain):
    found = named(plain, child(ATEN_CPU_CAPABILITY="default"))
    assert list(found) == ["torch.cpu.capability"]
    assert found["torch.cpu.capability"][1] == "'DEFAULT'"


@pytest.mark.requirement("REQ-ENV-03")
def test_same_class_in_two_processes_with_another_seed_and_folder(tmp_path):
    first = child(read=EVERYTHING, PYTHONHASHSEED="1")
    second = child(read=EVERYTHING, PYTHONHASHSEED="2", cwd=str(tmp_path))
    assert first.class_digest == second.class_digest
    assert environment_faults(first, second) == ()
    names = {fact.name for fact in first.scoped("class")}
    assert {"python.torch.record", "lib.libtorch_cpu.so"} <= names


def test_reading_changes_nothing_and_makes_no_context():
    before = torch_facts()
    assert torch_facts() == before
    assert torch.get_num_threads() == int(next(f.value for f in before if f.name == "torch.threads.intraop") or 0)
    if not torch.cuda.is_available():
        assert not torch.cuda.is_initialized()


def test_threads_are_the_same_seen_from_another_thread():
    seen: list[tuple[Fact, ...]] = []
    thread = threading.Thread(target=lambda: seen.append(torch_facts()))
    thread.start()
    thread.join()
    assert [fact for fact in seen[0] if "threads" in fact.name] == [f for f in torch_facts() if "threads" in f.name]


class TestGetters:
    def status(self, name: str) -> str:
        return next(fact.status for fact in torch_facts() if fact.name == name)

    def test_missing_is_absent(self, monkeypatch):
        monkeypatch.delattr(torch.backends.mha, "get_fastpath_enabled")
        assert self.status("torch.mha.fastpath") == "absent"

    def test_raising_is_unreadable(self, monkeypatch):
        def broken() -> bool:
            raise RuntimeError("no answer")

        monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", broken)
        assert self.status("torch.mha.fastpath") == "unreadable"

    def test_configuration_text(self, monkeypatch):
        monkeypatch.setattr(torch.__config__, "parallel_info", lambda: "nothing that is known")
        assert self.status("torch.threads.mkl") == "absent"

        def broken() -> str:
            raise RuntimeError("no answer")

        monkeypatch.setattr(torch.__config__, "parallel_info", broken)
        assert self.status("torch.threads.mkl") == "unreadable"

    def test_older_torch_without_the_newer_switches(self, monkeypatch):
        real = torch_switches._get

        def older(path: str) -> object:
            if "fp32_precision" in path:
                raise AttributeError(path)
            return real(path)

        monkeypatch.setattr(torch_switches, "_get", older)
        assert self.status("torch.precision.cuda_matmul") == "absent"
        assert self.status("torch.legacy.matmul_tf32") == "value"
        assert self.status("torch.precision.float32_matmul") == "value"
