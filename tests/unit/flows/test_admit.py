# SPDX-License-Identifier: Apache-2.0
"""The gate, step by step: each step's fault, by exit code and by the thing that it names; the lowest step decides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from weighmaster.core.policy import Policy, Rule
from weighmaster.errors import (
    CoverageFault,
    EnvironmentFault,
    Faults,
    IdentityFault,
    SelfTestFault,
    SignatureFault,
    SourceFault,
    StageFault,
    StructureFault,
    TensorFault,
    TensorSetFault,
)
from weighmaster.flows import admit as admit_module
from weighmaster.flows import snapshots as snapshots_module
from weighmaster.flows.approve import sign
from weighmaster.flows.weigh import weigh_files
from weighmaster.seal.keys import generate
from weighmaster.seal.trust_edit import with_product, with_revoked_key, with_revoked_root

TENSORS = [
    "bn.bias",
    "bn.num_batches_tracked",
    "bn.running_mean",
    "bn.running_var",
    "bn.weight",
    "conv.bias",
    "conv.weight",
    "down.bias",
    "down.weight",
    "up.bias",
    "up.weight",
]
X = torch.ones(2, 3, 32, 32)


def get(model: torch.nn.Module, name: str) -> torch.Tensor:
    module, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(module), attribute)


def subjects(refusal: Faults, kind: type) -> list[str]:
    return [f.subject for f in refusal.faults if isinstance(f, kind)]


@pytest.mark.requirement("REQ-ADM-19", "REQ-ADM-12")
def test_an_equal_model_is_admitted(small: Any, sealed: Any) -> None:
    done = sealed(small())
    verdict = done.admit(small()).verdict
    assert (verdict.product, verdict.version, verdict.serial, verdict.root) == ("reader", "1.0", 1, done.manifest.root)
    assert [s.person for s in verdict.signers] == ["Ana"]
    assert verdict.compared.startswith("11 tensors, stage S3, view kernel")
    assert any("num_batches" not in n and "did not exercise" in n for n in verdict.not_covered)
    assert verdict.coverage == done.manifest.statement.coverage


def test_the_list_of_tensors_is_whole(small: Any, sealed: Any) -> None:
    assert [r.name for r in sealed(small()).manifest.gate.rows] == TENSORS


# -- (1) self-test ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-01")
def test_step_1_a_wrong_answer_of_the_engine_ends_it(small: Any, sealed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = sealed(small())
    wrong = SelfTestFault("hashlib-v1", "gave a wrong digest", expected="a", found="b")
    monkeypatch.setattr(admit_module, "self_test", lambda _engine: (1, (wrong,)))
    refusal = done.refuse(small())
    assert (refusal.step, refusal.exit_code, refusal.faults) == (1, 16, (wrong,))


# -- (2) signature and trust ------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-02")
def test_step_2_no_signature(small: Any, sealed: Any) -> None:
    done = sealed(small())
    (done.directory / "signer-1.sigstore.json").unlink()
    refusal = done.refuse(small())
    assert (refusal.exit_code, subjects(refusal, SignatureFault)) == (13, [str(done.directory)])
    assert refusal.faults[0].found == "none"


@pytest.mark.requirement("REQ-ADM-02", "REQ-TRU-01")
def test_step_2_a_key_that_is_not_trusted(small: Any, sealed: Any) -> None:
    done, mallory = sealed(small()), generate("ed25519")
    sign(done.directory, mallory)
    refusal = done.refuse(small())
    assert (refusal.exit_code, refusal.faults[0].subject) == (13, "signer-2.sigstore.json")
    assert refusal.faults[0].found == mallory.public.fingerprint


@pytest.mark.requirement("REQ-ADM-02", "REQ-TRU-02")
def test_step_2_a_revoked_key(small: Any, sealed: Any, signer: Any) -> None:
    done = sealed(small())
    refusal = done.refuse(small(), trust=with_revoked_key(done.trust, signer.public.fingerprint))
    assert refusal.exit_code == 13
    assert any("the key of Ana is revoked" in f.detail for f in refusal.faults)


@pytest.mark.requirement("REQ-ADM-02")
@pytest.mark.parametrize(
    "name",
    ["tensors.S3.kernel.jsonl", "structure.jsonl", "environment.json", "policy.json", "probe-set.safetensors"],
)
def test_step_2_a_file_that_was_exchanged(name: str, small: Any, sealed: Any) -> None:
    done, other = sealed(small()), sealed(torch.nn.Sequential(torch.nn.Linear(2, 2)).eval())
    if name == "environment.json":
        (done.directory / name).write_bytes((done.directory / name).read_bytes() + b" ")
    elif name == "policy.json":  # a policy that lets everything pass
        weak = Rule(fact="torch.*", compare="known", on_diff="inform", on_missing="inform")
        (done.directory / name).write_bytes(Policy(rules=(weak,)).to_bytes())
    else:
        shutil.copy(other.directory / name, done.directory / name)
    refusal = done.refuse(small())
    (fault,) = refusal.faults
    assert (refusal.exit_code, fault.subject) == (13, f"{done.directory}/{name}")
    assert "is not what the statement names: SHA-256" in fault.detail


# -- (3) identity -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-03")
def test_step_3_a_manifest_of_another_product(small: Any, sealed: Any) -> None:
    done = sealed(small())
    rule = replace(done.trust.product("reader"), product="triage")
    refusal = done.refuse(small(), trust=with_product(done.trust, rule), expect="triage")
    assert refusal.exit_code == 14
    (fault,) = refusal.faults
    assert isinstance(fault, IdentityFault)
    assert (fault.subject, fault.expected, fault.found) == ("product", "triage", "reader")


@pytest.mark.requirement("REQ-ADM-03")
def test_step_3_an_older_serial(small: Any, sealed: Any) -> None:
    refusal = sealed(small(), serial=4, rule={"minimum_serial": 5}).refuse(small())
    (fault,) = refusal.faults
    assert (refusal.exit_code, fault.subject, fault.expected, fault.found) == (14, "serial", ">= 5", "4")


@pytest.mark.requirement("REQ-ADM-03")
def test_step_3_a_revoked_root(small: Any, sealed: Any) -> None:
    done = sealed(small())
    refusal = done.refuse(small(), trust=with_revoked_root(done.trust, product="reader", root=done.manifest.root))
    (fault,) = refusal.faults
    assert (refusal.exit_code, fault.subject, fault.found) == (14, "root", f"revoked root {done.manifest.root}")


@pytest.mark.requirement("REQ-ADM-03")
def test_step_3_a_root_that_is_not_accepted(small: Any, sealed: Any) -> None:
    refusal = sealed(small(), rule={"accepted_roots": ("0" * 64,)}).refuse(small())
    assert (refusal.exit_code, refusal.faults[0].expected) == (14, "0" * 64)


@pytest.mark.requirement("REQ-ADM-13")
def test_a_fault_in_steps_1_to_3_runs_nothing_of_the_model(small: Any, sealed: Any) -> None:
    done, model = sealed(small(), serial=1, rule={"minimum_serial": 5}), small()
    model.register_forward_hook(lambda *_: pytest.fail("the model ran"))
    done.refuse(model)


# -- (4) environment --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-04")
def test_step_4_another_number_of_threads(small: Any, sealed: Any) -> None:
    done, threads = sealed(small()), torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        refusal = done.refuse(small())
    finally:
        torch.set_num_threads(threads)
    assert refusal.exit_code == 12
    fault = next(f for f in refusal.faults if f.subject == "torch.threads.intraop")
    assert isinstance(fault, EnvironmentFault)
    assert (fault.expected, fault.found) == (repr(str(threads)), repr(str(threads + 1)))


@pytest.mark.requirement("REQ-ADM-04")
def test_step_4_a_switch_that_changes_how_torch_computes(small: Any, sealed: Any) -> None:
    done = sealed(small())
    try:
        torch.use_deterministic_algorithms(True)
        refusal = done.refuse(small())
    finally:
        torch.use_deterministic_algorithms(False)
    assert subjects(refusal, EnvironmentFault) == ["torch.deterministic.enabled"]


# -- (5) sources ------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text('{"eps": 1e-5}')
    (directory / "tokenizer.json").write_text("{}")
    return directory


@pytest.mark.requirement("REQ-ADM-05")
def test_step_5_an_edited_file(small: Any, sealed: Any, source: Path) -> None:
    done = sealed(small(), source=source)
    done.admit(small(), source=source)
    (source / "config.json").write_text('{"eps": 1e-6}')
    refusal = done.refuse(small(), source=source)
    assert (refusal.exit_code, subjects(refusal, SourceFault)) == (17, ["config.json"])


@pytest.mark.requirement("REQ-ADM-05")
@pytest.mark.parametrize("change", ["unlink", "add"])
def test_step_5_a_missing_or_added_file(change: str, small: Any, sealed: Any, source: Path) -> None:
    done = sealed(small(), source=source)
    if change == "unlink":
        (source / "tokenizer.json").unlink()
    else:
        (source / "tokenizer.model").write_text("x")
    refusal = done.refuse(small(), source=source)
    assert [s.split(".")[0] for s in subjects(refusal, SourceFault)] == ["tokenizer"]


@pytest.mark.requirement("REQ-ADM-05")
def test_step_5_the_gate_must_be_told_where_the_files_are(small: Any, sealed: Any, source: Path) -> None:
    refusal = sealed(small(), source=source).refuse(small())
    assert (refusal.exit_code, refusal.faults[0].found) == (17, "no source")


# -- (6) stage and method ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-06")
def test_step_6_a_manifest_of_files_admits_no_live_model(small: Any, sealed: Any, signer: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    done = sealed(small())
    save_file(small().state_dict(), tmp_path / "m.safetensors")
    directory = weigh_files(tmp_path / "m.safetensors", product="reader", version="1", serial=1).write(
        tmp_path / "files"
    )
    sign(directory, signer)
    refusal = replace(done, directory=directory).refuse(small(), source=tmp_path / "m.safetensors")
    fault = next(f for f in refusal.faults if isinstance(f, StageFault))
    assert fault.subject == "gate table"
    assert fault.found == "stage S0, view logical, without a probe set"


@pytest.mark.requirement("REQ-ADM-06", "REQ-CAP-05")
def test_step_6_training_mode(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    model.down.train()
    refusal = done.refuse(model)
    assert (refusal.exit_code, subjects(refusal, StageFault)) == (18, ["down"])


@pytest.mark.requirement("REQ-ADM-06")
def test_step_6_a_report_of_the_loader(small: Any, sealed: Any) -> None:
    done = sealed(small())
    with pytest.raises(Faults) as caught:
        done.gate().admit(small(), loading_faults=(StageFault("up.weight", "was newly initialised"),))
    assert (caught.value.exit_code, caught.value.faults[0].subject) == (18, "up.weight")


@pytest.mark.requirement("REQ-ADM-06")
def test_step_6_other_extra_names(head: Any, sealed: Any) -> None:
    done = sealed(head(), example_inputs=torch.ones(1, 4), extra={"more": torch.ones(1)})
    refusal = done.refuse(head())
    fault = next(f for f in refusal.faults if f.subject == "method: extra")
    assert (fault.expected, fault.found) == ("more", "none")
    assert subjects(refusal, TensorSetFault) == ["more"]


def test_step_6_one_extra_name_is_not_two(head: Any, sealed: Any) -> None:
    one = torch.ones(1)
    done = sealed(head(), example_inputs=torch.ones(1, 4), extra={"a, b": one})
    assert "method: extra" in subjects(done.refuse(head(), extra={"a": one, "b": one}), StageFault)


@pytest.mark.requirement("REQ-ADM-06")
def test_step_6_a_model_that_cannot_run_the_probe_set(small: Any, head: Any, sealed: Any) -> None:
    refusal = sealed(small()).refuse(head())
    (fault,) = subjects(refusal, StageFault)
    assert fault == "probe set"
    assert "the model does not run it: RuntimeError" in refusal.faults[0].detail


# -- (7) structure ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-07")
def test_step_7_a_hook(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    model.up.register_forward_hook(lambda *_: None)
    refusal = done.refuse(model)
    assert refusal.exit_code == 17
    assert "up#_forward_hooks[0]" in subjects(refusal, StructureFault)


@pytest.mark.requirement("REQ-ADM-07")
def test_step_7_a_scalar(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    model.bn.eps = 1e-3
    refusal = done.refuse(model)
    assert (refusal.exit_code, refusal.step) == (17, 7)
    fault = next(f for f in refusal.faults if f.subject == "bn#eps")
    assert (fault.expected, fault.found) == ((1e-5).hex(), (1e-3).hex())


# -- (8) tensor set, (9) tensor digests -------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-09")
@pytest.mark.parametrize("where", ["first", "last"])
def test_step_9_one_flipped_bit_in_any_tensor(where: str, small: Any, sealed: Any, flip_bit: Any) -> None:
    done, model = sealed(small()), small()
    rows = {r.name: r for r in done.manifest.gate.rows}
    for name in TENSORS:
        tensor = get(model, name)
        size = tensor.numel() * tensor.element_size()
        at = 0 if where == "first" else size - 1
        flip_bit(tensor, at)
        refusal = done.refuse(model)
        flip_bit(tensor, at)
        assert (refusal.exit_code, refusal.step) == (10, 9)
        (fault,) = refusal.faults
        assert isinstance(fault, TensorFault)
        assert fault.subject == name
        assert fault.expected == rows[name].gate_digest != fault.found
        if size > 65_536:
            leaf, begin = (0, 0) if where == "first" else (1, 65_536)
            assert f"first in leaf {leaf} of 2 (bytes {begin} to {begin + 65_535})" in fault.detail
    done.admit(model)


@pytest.mark.requirement("REQ-ADM-09")
def test_step_9_swapped_tensors_of_one_shape_are_both_named(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    model.bn.weight, model.bn.bias = model.bn.bias, model.bn.weight
    refusal = done.refuse(model)
    assert (refusal.exit_code, subjects(refusal, TensorFault)) == (10, ["bn.bias", "bn.weight"])


@pytest.mark.requirement("REQ-ADM-08")
def test_step_8_a_dropped_tensor(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    del model.bn.num_batches_tracked
    model.bn.num_batches_tracked = None
    refusal = done.refuse(model)
    assert subjects(refusal, TensorSetFault) == ["bn.num_batches_tracked"]
    assert "is missing" in next(f for f in refusal.faults if isinstance(f, TensorSetFault)).detail


@pytest.mark.requirement("REQ-ADM-08")
def test_step_8_an_added_tensor(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    model.register_buffer("adapter", torch.ones(3))
    refusal = done.refuse(model)
    (fault,) = refusal.faults
    assert (refusal.exit_code, fault.subject) == (11, "adapter")
    assert "is not in the validated table" in fault.detail


@pytest.mark.requirement("REQ-ADM-08")
def test_step_8_a_renamed_tensor_says_where_its_bytes_went(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    model.bn.register_buffer("running_average", model.bn._buffers.pop("running_mean"))
    model.bn.__dict__["running_mean"] = model.bn.running_average
    refusal = done.refuse(model)
    gone = next(f for f in refusal.faults if f.subject == "bn.running_mean" and isinstance(f, TensorSetFault))
    assert "its bytes stand under" in gone.detail
    assert "bn.running_average" in subjects(refusal, TensorSetFault)


@pytest.mark.requirement("REQ-ADM-08")
def test_step_8_a_recast_tensor(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    model.bn.num_batches_tracked = model.bn.num_batches_tracked.to(torch.int32)
    refusal = done.refuse(model)
    (fault,) = refusal.faults
    assert (refusal.exit_code, fault.subject) == (11, "bn.num_batches_tracked")
    assert "dtype" in fault.detail
    assert "int64" in (fault.expected or "")
    assert "int32" in (fault.found or "")


@pytest.mark.requirement("REQ-ADM-08", "REQ-MAN-05")
def test_step_8_an_alias_made(small: Any, sealed: Any) -> None:
    model = small()
    with torch.no_grad():
        model.bn.weight.copy_(model.bn.bias)
    done, other = sealed(model), small()
    other.bn.weight = other.bn.bias
    refusal = done.refuse(other)
    assert refusal.exit_code == 11
    assert subjects(refusal, TensorSetFault) == ["bn.weight"]
    assert "alias of bn.bias" in (refusal.faults[0].found or "")


@pytest.mark.requirement("REQ-ADM-08", "REQ-MAN-05")
def test_step_8_an_alias_broken(small: Any, sealed: Any) -> None:
    model, other = small(), small()
    model.bn.weight = model.bn.bias
    with torch.no_grad():
        other.bn.weight.copy_(other.bn.bias)
    refusal = sealed(model).refuse(other)
    (fault,) = refusal.faults
    assert (refusal.exit_code, fault.subject) == (11, "bn.weight")
    assert "alias" in fault.detail
    assert "alias of bn.bias" in (fault.expected or "")


# -- (10) coverage ----------------------------------------------------------------------------------------------------


class Stateful(torch.nn.Module):
    """Holds a weight as a buffer, so that it can be excluded, and a cache that is written."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(25))
        self.register_buffer("cache", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache += 1
        return x * self.weight


@pytest.mark.requirement("REQ-ADM-10")
def test_step_10_a_parameter_that_was_signed_as_state(small: Any, sealed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as lenient:  # a signer whose tool let it pass
        lenient.setattr(snapshots_module, "role_faults", lambda _excluded, _reasons: ())
        done = sealed(small(), exclude={"up.weight": "kv-cache"})
    refusal = done.refuse(small())
    (fault,) = (f for f in refusal.faults if isinstance(f, CoverageFault))
    assert (refusal.exit_code, fault.subject, fault.found) == (18, "up.weight", "parameter")


@pytest.mark.requirement("REQ-ADM-10")
def test_step_10_more_is_excluded_than_the_trust_file_allows(sealed: Any) -> None:
    exclude = {"weight": "opaque-handle", "cache": "kv-cache"}
    keywords = {"exclude": exclude, "example_inputs": torch.ones(25)}
    refusal = sealed(Stateful().eval(), **keywords).refuse(Stateful().eval())
    (fault,) = refusal.faults
    assert isinstance(fault, CoverageFault)
    assert (refusal.exit_code, fault.expected, fault.found) == (18, "at most 0 bytes", "100 bytes")
    assert "weight" in fault.detail
    assert "cache" not in fault.detail
    allowed = sealed(Stateful().eval(), rule={"max_excluded_bytes": 100}, **keywords).admit(Stateful().eval())
    assert "NOT verified: weight (100 bytes, opaque-handle)" in allowed.verdict.not_covered


@pytest.mark.requirement("REQ-ADM-10")
def test_step_10_unnamed_consumption_here(tiny_head: Any, sealed: Any) -> None:
    terms: dict[str, Any] = {"t": None}
    HOLDER.update(terms)

    class Adding(tiny_head):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + HOLDER["t"] if HOLDER["t"] is not None else super().forward(x)

    torch.manual_seed(0)
    done = sealed(Adding().eval(), example_inputs=torch.ones(1, 4))
    HOLDER["t"] = torch.zeros(4)
    torch.manual_seed(0)
    refusal = done.refuse(Adding().eval())
    (name,) = subjects(refusal, CoverageFault)
    assert name == "(model)"
    assert "<probe>" in subjects(refusal, StructureFault)


HOLDER: dict[str, Any] = {}


# -- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-14")
def test_faults_of_all_steps_are_collected_and_the_lowest_decides(
    small: Any, sealed: Any, source: Path, flip_bit: Callable[..., None]
) -> None:
    done, model, threads = sealed(small(), source=source), small(), torch.get_num_threads()
    flip_bit(model.up.weight, 70_000)
    flip_bit(model.conv.bias)
    model.register_buffer("more", torch.ones(1))
    model.bn.eps = 0.5
    (source / "config.json").write_text("{}")
    try:
        torch.set_num_threads(threads + 1)
        refusal = done.refuse(model, source=source)
    finally:
        torch.set_num_threads(threads)
    assert (refusal.step, refusal.exit_code) == (4, 12)
    steps = [f.step for f in refusal.faults]
    assert steps == sorted(steps)
    assert {4, 5, 7, 8, 9} == set(steps)
    assert {"config.json", "bn#eps", "more", "up.weight", "conv.bias"} < {f.subject for f in refusal.faults}
    text = str(refusal)
    assert text.startswith("reader: the live model is not admitted (")
    assert "(9) tensor digests: up.weight: bytes differ, first in leaf 1 of 2" in text
    assert json.dumps([f.to_json() for f in refusal.faults])


# -- compiled modules -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-20")
def test_a_compiled_module_is_weighed_and_not_admitted(tiny_head: Any, sealed: Any) -> None:
    """A bound, stated in README: the compiler keeps ids of this process on the module, so no other load has them."""

    def compiled() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.compile(tiny_head().eval(), backend="eager")  # type: ignore[return-value]

    done = sealed(compiled(), example_inputs=torch.ones(1, 4))
    assert done.manifest.statement.method.trace == "not traceable"
    assert done.manifest.statement.coverage.consumed == 0
    refusal = done.refuse(compiled())
    assert refusal.exit_code == 17
    assert "#_torchdynamo_wrapper_id" in subjects(refusal, StructureFault)
