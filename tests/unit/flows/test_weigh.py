# SPDX-License-Identifier: Apache-2.0
"""Weighing reads, never changes; it refuses what it cannot name; two processes find the same structure."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from weighmaster.capture.probe_auto import auto_probe
from weighmaster.capture.probe_set import from_examples, output_tensors
from weighmaster.capture.torch_model import TorchModel
from weighmaster.errors import CoverageFault, NotWeighed, StageFault, UsageError
from weighmaster.flows.weigh import as_probe_set, weigh, weigh_files

ID = {"product": "reader", "version": "1.0", "serial": 1}
X = torch.ones(2, 4)


def faults(model: torch.nn.Module, **keywords: Any) -> list[Any]:
    with pytest.raises(NotWeighed) as caught:
        weigh(model, **{**ID, "example_inputs": X, **keywords})
    return list(caught.value.faults)


def state(model: torch.nn.Module, digest: Any) -> dict[str, str]:
    return {v.name: digest(bytes(v.read(0, v.nbytes))) for v in TorchModel(model).snapshot(structure=False).views}


@pytest.mark.requirement("REQ-ADM-18", "REQ-ADM-19")
def test_weigh_admit_and_recheck_change_no_byte_and_no_output(
    any_model: torch.nn.Module, sealed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    probe = auto_probe(any_model)
    for _ in range(3):  # steady first: some libraries repack weights in their first pass, with or without us
        probe.run(any_model)
    outputs = [t.clone() for t in output_tensors(probe.run(any_model))]
    before = state(any_model, lambda data: hashlib.sha256(data).hexdigest())
    for name in ("state_dict", "to", "_apply", "load_state_dict", "requires_grad_", "train"):
        monkeypatch.setattr(torch.nn.Module, name, lambda *_a, _n=name, **_k: pytest.fail(f"{_n} was called"))
    signed = sealed(any_model)
    admission = signed.admit(any_model)
    admission.recheck()
    monkeypatch.undo()
    assert state(any_model, lambda data: hashlib.sha256(data).hexdigest()) == before
    again = output_tensors(probe.run(any_model))
    assert all(torch.equal(a, b) for a, b in zip(outputs, again, strict=True))


def test_the_statement_says_how_it_was_made(head: Any) -> None:
    manifest = weigh(head(), **ID, example_inputs=X)
    statement = manifest.statement
    assert (statement.product, statement.version, statement.serial) == ("reader", "1.0", 1)
    assert (statement.gate_stage, statement.gate_view) == ("S3", "kernel")
    assert [t.stage for t in statement.tables] == ["S1", "S3"]
    assert (statement.method.loader, statement.method.trace, statement.method.mapped) == (
        "torch-module",
        "same path",
        "none",
    )
    assert manifest.root == manifest.gate.root == statement.gate_table.root
    assert statement.structure == manifest.structure.digest  # type: ignore[union-attr]


@pytest.mark.requirement("REQ-MAN-09")
def test_two_weighings_of_equal_models_agree(small: Any) -> None:
    first, second = weigh(small(), **ID), weigh(small(), **ID)
    assert first.root == second.root
    assert first.statement.structure == second.statement.structure
    assert first.statement.to_bytes() == second.statement.to_bytes()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"serial": -1}, "serial"),
        ({"product": ""}, "product"),
        ({"exclude": {"fc.weight": "too-large"}}, "expected a reason of"),
        ({"example_inputs": "zeros"}, "expected 'auto' or tensors, found the string 'zeros'"),
        ({"example_inputs": []}, "give at least one call"),
    ],
)
def test_wrong_arguments_are_usage_errors(keywords: Any, words: str, head: Any) -> None:
    with pytest.raises(UsageError) as caught:
        weigh(head(), **{**ID, "example_inputs": X, **keywords})
    assert words in str(caught.value)


def test_probe_sets_may_be_given_in_every_form(head: Any) -> None:
    live, probe = TorchModel(head()), from_examples(X)
    assert as_probe_set(probe, live) is probe
    assert as_probe_set(probe.to_bytes(), live).to_bytes() == probe.to_bytes()
    assert as_probe_set(X, live).to_bytes() == probe.to_bytes()
    assert as_probe_set("auto", live).kind == "features"


@pytest.mark.requirement("REQ-FIL-05")
def test_faults_of_the_loader_are_faults(head: Any) -> None:
    report = StageFault("lm_head.weight", "is missing in the checkpoint")
    assert faults(head(), loading_faults=(report,)) == [report]


def test_all_faults_are_collected_and_the_lowest_step_decides(head: Any) -> None:
    model = head()
    model.s = {torch.ones(1)}
    model.gap = torch.ones(8)[::2]
    model.train()
    with pytest.raises(NotWeighed) as caught:
        weigh(model, **ID, example_inputs=X)
    assert {f.subject for f in caught.value.faults} == {"#s", "#gap", "(model)", "fc"}
    assert (caught.value.step, caught.value.exit_code) == (6, 18)


@pytest.mark.requirement("REQ-CAP-03")
def test_a_tensor_that_changes_while_the_probe_set_runs_is_not_steady(tiny_head: Any) -> None:
    class Counting(tiny_head):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return super().forward(x)

    found = faults(Counting().eval())
    assert [f.subject for f in found] == ["count"]
    assert "is not steady" in found[0].detail
    manifest = weigh(Counting().eval(), **ID, example_inputs=X, exclude={"count": "workspace"})
    (exclusion,) = manifest.statement.coverage.excluded  # type: ignore[union-attr]
    assert (exclusion.name, exclusion.nbytes, exclusion.reason) == ("count", 4, "workspace")


@pytest.mark.requirement("REQ-CAP-03")
def test_a_fact_that_changes_while_the_probe_set_runs_is_not_steady(tiny_head: Any) -> None:
    class Stepping(tiny_head):  # type: ignore[misc]
        step = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.step += 1
            return super().forward(x)

    found = faults(Stepping().eval())
    assert {f.subject for f in found} == {"#step"}


def test_an_exclusion_of_nothing_is_a_fault(head: Any) -> None:
    (fault,) = faults(head(), exclude={"fc.cache": "kv-cache"})
    assert (fault.subject, fault.expected) == ("fc.cache", "the exact name of a tensor")


def test_a_parameter_is_no_state(head: Any) -> None:
    (fault,) = faults(head(), exclude={"fc.weight": "kv-cache"})
    assert isinstance(fault, CoverageFault)
    assert "a tensor of role parameter cannot be excluded as kv-cache" in fault.detail


def mapped_model(make: Any, path: Path) -> torch.nn.Module:
    save_file(make().state_dict(), path)
    model = make()
    model.load_state_dict(load_file(path), assign=True)
    return model.eval()


def test_mapped_storages_are_made_private_or_refused(small: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = mapped_model(small, path)
    found = faults(model, mapped="refuse", example_inputs="auto")
    assert {f.found for f in found} == {str(path)}
    address, before = model.up.weight.data_ptr(), model.up.weight.clone()
    manifest = weigh(model, **ID)
    assert manifest.statement.method.mapped == "private"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 100_000)
        file.write(b"\xff" * 50_000)
    assert torch.equal(model.up.weight, before)
    assert model.up.weight.data_ptr() == address
    assert weigh(small(), **ID).root == manifest.root


STRUCTURE = """
import sys, os, json, torch
from transformers import LlamaConfig, LlamaForCausalLM
from weighmaster.flows.weigh import weigh
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
        self.names = {"a", "b", "c", "d"}
        self.table = {"x": 1.5, "y": (1, 2)}
        self.hook = self.fc.register_forward_hook(lambda m, a, o: o)
    def forward(self, x):
        return self.fc(x) if "a" in {"a", "b", "z"} else x
def done(model):
    torch.manual_seed(0)
    m = weigh(model.eval(), product="p", version="1", serial=1)
    return [m.statement.structure, m.root, m.structure.data.decode()]
torch.manual_seed(0)
small = dict(hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, intermediate_size=64,
             vocab_size=64, max_position_embeddings=32)
print(json.dumps([done(Net()), done(LlamaForCausalLM(LlamaConfig(**small)))]))
"""


@pytest.mark.requirement("REQ-MAN-09")
def test_structure_and_root_are_equal_in_fresh_processes(tmp_path: Path) -> None:
    found = []
    for seed in ("1", "77"):
        place = tmp_path / seed
        place.mkdir()
        (place / f"run{seed}.py").write_text(STRUCTURE)
        environment = {"PYTHONHASHSEED": seed, "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": str(place)}
        done = subprocess.run(
            [sys.executable, f"run{seed}.py"], cwd=place, env=environment, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    for first, second in zip(*found, strict=True):
        assert set(first[2].splitlines()) ^ set(second[2].splitlines()) == set()
        assert first[:2] == second[:2]


def structure(model: torch.nn.Module) -> dict[tuple[str, str], str]:
    manifest = weigh(model, **ID)
    assert manifest.structure is not None
    return {(f.path, f.kind): f.value for f in manifest.structure.facts}


@pytest.mark.parametrize(
    ("change", "path"),
    [({"rms_norm_eps": 1e-5}, "model.norm#variance_epsilon"), ({"hidden_act": "gelu"}, "model.layers.0.mlp.act_fn")],
)
def test_a_configuration_of_the_same_tensors_is_another_structure(change: Any, path: str, llama: Any) -> None:
    first, second = weigh(llama(), **ID), weigh(llama(**change), **ID)
    assert first.root == second.root, "the tensors are the same: only structure tells"
    assert first.structure is not None
    assert second.structure is not None
    assert path in {f.path for f in set(first.structure.facts) - set(second.structure.facts)}


@pytest.mark.requirement("REQ-ADM-07")
def test_an_adapter_is_another_structure(llama: Any) -> None:
    class Adapter(torch.nn.Module):
        def __init__(self, base: torch.nn.Module) -> None:
            super().__init__()
            self.base, self.low, self.high = (
                base,
                torch.nn.Linear(64, 2, bias=False),
                torch.nn.Linear(2, 64, bias=False),
            )
            torch.nn.init.zeros_(self.high.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.high(self.low(x))

    plain, adapted = llama(), llama()
    adapted.model.layers[0].self_attn.q_proj = Adapter(adapted.model.layers[0].self_attn.q_proj).eval()
    first, second = structure(plain), structure(adapted)
    assert second["model.layers.0.self_attn.q_proj", "class"].endswith("Adapter")
    assert first["<probe>", "trace"] != second["<probe>", "trace"]


@pytest.mark.requirement("REQ-ADM-07")
def test_a_function_patched_in_the_library_is_another_structure(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama import modeling_llama

    before = structure(llama())
    original = modeling_llama.rotate_half
    monkeypatch.setattr(modeling_llama, "rotate_half", lambda x: original(x) * 1.0)
    assert structure(llama()) != before


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_are_weighed_without_loading(small: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(small().state_dict(), path)
    manifest = weigh_files(path, **ID)
    assert (manifest.statement.gate_stage, manifest.statement.gate_view) == ("S0", "logical")
    assert {r.name for r in manifest.gate.rows} == set(small().state_dict())
    assert [s.path for s in manifest.statement.sources] == ["model.safetensors"]
    live = weigh(small(), **ID)
    digests = {r.name: r.sha256 for r in live.gate.rows}
    assert all(digests[r.name] == r.sha256 for r in manifest.gate.rows)
