# SPDX-License-Identifier: Apache-2.0
"""Environment variables: which are recorded, as what, and that no secret is."""

from __future__ import annotations

import hashlib
import os

import pytest

from weighmaster.core.environment import MAX_VALUE
from weighmaster.probe import variables
from weighmaster.probe.variables import NAMED, for_child, scope_of, unlike, variable_facts


def facts(now, start=None):
    return {fact.name: fact for fact in variable_facts(now, now if start is None else start)}


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("OMP_NUM_THREADS", "class"),
        ("OMP_BRAND_NEW", "class"),
        ("CUBLASLT_WORKSPACE_SIZE", "class"),
        ("NVIDIA_TF32_OVERRIDE", "class"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "class"),
        ("GLIBC_TUNABLES", "class"),
        ("LD_PRELOAD", "class"),
        ("VLLM_ATTENTION_BACKEND", "class"),
        ("VLLM_PORT", "instance"),
        ("VLLM_PORT_8000_TCP_ADDR", "instance"),
        ("TRITON_SERVICE_HOST", "instance"),
        ("CUDA_VISIBLE_DEVICES", "instance"),
        ("KMP_INIT_AT_FORK", "instance"),
        ("KMP_AFFINITY", "class"),
        ("HF_TOKEN", "instance"),
        ("LD_LIBRARY_PATH", "instance"),
        ("MALLOC_ARENA_MAX", "instance"),
        ("PATH", None),
        ("HOME", None),
        ("AWS_SECRET_ACCESS_KEY", None),
        ("NVIDIA_PRODUCT_NAME", None),
        ("omp_num_threads", None),
    ],
)
def test_scope(name, scope):
    assert scope_of(name) == scope


def test_named_variables_are_absent_when_not_set():
    found = facts({})
    assert sorted(found) == sorted(f"env.{name}" for name in NAMED)
    assert {(fact.status, fact.scope) for fact in found.values()} == {("absent", "class")}


def test_empty_is_not_absent():
    assert facts({"OMP_NUM_THREADS": ""})["env.OMP_NUM_THREADS"].value == ""


@pytest.mark.parametrize(
    ("now", "start", "expected"),
    [
        ({"OMP_X": "1"}, {"OMP_X": "1"}, {"env.OMP_X": "1"}),
        ({"OMP_X": "2"}, {"OMP_X": "1"}, {"env.OMP_X": "2", "env.start.OMP_X": "1"}),
        ({"OMP_X": "2"}, {}, {"env.OMP_X": "2", "env.start.OMP_X": None}),
        ({}, {"OMP_X": "1"}, {"env.OMP_X": None, "env.start.OMP_X": "1"}),
        ({"PATH": "a"}, {"PATH": "b"}, {}),
    ],
)
def test_start_values_only_where_they_differ(now, start, expected):
    found = {name: fact.value for name, fact in facts(now, start).items() if name.split(".")[-1] not in NAMED}
    assert found == expected


@pytest.mark.requirement("REQ-ENV-05")
@pytest.mark.parametrize(
    ("name", "value", "recorded"),
    [
        ("HF_TOKEN", "hf_abc", "set"),
        ("VLLM_API_KEY", "sk-abc", "set"),
        ("VLLM_my_password", "x", "set"),
        ("TORCH_SECRET_THING", "x", "set"),
        ("HF_ENDPOINT", "https://me:pw@host/x", "set"),
        ("HF_ENDPOINT", "https://host/x", "https://host/x"),
        ("VLLM_MAX_TOKENS", "512", "512"),
        ("VLLM_API_TOKENS", "abcdef", "set"),
    ],
)
def test_secrets_are_not_recorded(name, value, recorded):
    found = facts({name: value}, {name: value + "1"})
    assert found[f"env.{name}"].value == recorded
    if recorded == "set":
        assert found[f"env.start.{name}"].value == "set"
        assert value not in repr(found)


def test_values_that_are_no_text_or_too_long_are_digested():
    raw = b"\xff\xfe"
    found = facts({"OMP_X": raw.decode("utf-8", "surrogateescape"), "OMP_Y": "y" * (MAX_VALUE + 1)})
    assert found["env.OMP_X"].value == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert found["env.OMP_Y"].value == f"sha256:{hashlib.sha256(b'y' * (MAX_VALUE + 1)).hexdigest()}"


def test_names_that_are_no_fact_names():
    assert "env.OMP_%20%0A%FF" in facts({"OMP_ \n\udcff": "1"})


class TestStart:
    def read(self, monkeypatch, tmp_path, data):
        path = tmp_path / "environ"
        path.write_bytes(data)
        monkeypatch.setattr(variables, "_START", path)
        return variables.read_start()

    def test_first_of_two_counts(self, monkeypatch, tmp_path):
        assert self.read(monkeypatch, tmp_path, b"A=1\0A=2\0B==\0") == {"A": "1", "B": "="}

    @pytest.mark.parametrize("data", [b"python: worker 1\0", b"A=1\0rest of a title\0", b"=x\0"])
    def test_overwritten(self, monkeypatch, tmp_path, data):
        assert self.read(monkeypatch, tmp_path, data) is None
        (fact,) = [fact for fact in variable_facts({}) if fact.name == "env.start"]
        assert (fact.status, fact.scope) == ("unreadable", "instance")

    def test_not_there(self, monkeypatch, tmp_path):
        monkeypatch.setattr(variables, "_START", tmp_path / "none")
        assert variables.read_start() is None


def test_a_child_has_ours_and_what_is_set_for_it(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MKL_CBWR", raising=False)
    given = for_child({"OMP_NUM_THREADS": "2"})
    assert (given["OMP_NUM_THREADS"], given["PATH"]) == ("2", os.environ["PATH"])
    assert unlike({"OMP_NUM_THREADS": "1"}) == ()
    assert unlike({"OMP_NUM_THREADS": "2", "MKL_CBWR": "AVX2"}) == ("MKL_CBWR", "OMP_NUM_THREADS")
