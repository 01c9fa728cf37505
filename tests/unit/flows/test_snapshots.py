# SPDX-License-Identifier: Apache-2.0
"""Tables come from live extents: aliases anew each time, bytes digested once; steady means twice the same."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from weighmaster.capture.probe_set import from_examples
from weighmaster.capture.torch_model import TorchModel
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.flows.snapshots import digest_snapshot, take_steady

X = torch.ones(2, 4)


def table(model: torch.nn.Module, **keywords: Any) -> Any:
    return digest_snapshot(TorchModel(model).snapshot(), HashlibEngine(), stage="S3", **keywords)


def test_rows_carry_the_digest_of_the_bytes(head: Any) -> None:
    model = head()
    rows = {r.name: r for r in table(model).table.rows}
    assert rows["fc.weight"].sha256 == hashlib.sha256(model.fc.weight.detach().numpy().tobytes()).hexdigest()
    assert (rows["fc.weight"].role, rows["fc.weight"].layout) == ("parameter", "strided")


def test_aliases_point_to_the_smallest_name_and_other_types_are_none(head: Any) -> None:
    model = head()
    model.again = model.fc.weight
    model.raw = model.fc.weight.detach().view(torch.int32)
    model.part = model.fc.weight.detach()[:2]
    rows = {r.name: r for r in table(model).table.rows}
    assert rows["again"].alias is None
    assert rows["fc.weight"].alias == "again"
    assert rows["fc.weight"].sha256 == rows["#raw"].sha256
    assert rows["#raw"].alias is None
    assert rows["#part"].alias is None


def test_tied_tensors_are_digested_once(head: Any) -> None:
    model, read = head(), []
    model.tied = torch.nn.Linear(4, 4, bias=False)
    model.tied.weight = model.fc.weight
    done = table(model, progress=read.append)
    assert {r.name: r.alias for r in done.table.rows} == {
        "fc.bias": None,
        "fc.weight": None,
        "tied.weight": "fc.weight",
    }
    assert sum(read) == 16 * 4 + 4 * 4


def test_only_the_gate_digest_may_be_asked_for(small: Any) -> None:
    both, gate = table(small()), table(small(), wanted="gate")
    assert {r.name: r.gate_digest for r in both.table.rows} == {r.name: r.gate_digest for r in gate.table.rows}
    assert len(gate.leaves["up.weight"]) == 64


def test_a_steady_model_is_taken_with_its_trace(head: Any) -> None:
    steady = take_steady(TorchModel(head()), from_examples(X), HashlibEngine(), wanted="both")
    assert steady.faults == ()
    assert steady.traced is not None
    assert ("<probe>", "trace") in {(f.path, f.kind) for f in steady.structure.facts}
    keys = [(f.path.encode(), f.kind) for f in steady.structure.facts]
    assert keys == sorted(set(keys))


def test_an_unsteady_tensor_is_named_with_both_digests(tiny_head: Any) -> None:
    class Drifting(tiny_head):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                self.fc.weight += 1
            return super().forward(x)

    steady = take_steady(TorchModel(Drifting().eval()), from_examples(X), HashlibEngine(), wanted="both")
    (fault,) = [f for f in steady.faults if f.subject == "fc.weight"]
    assert "is not steady: it changed while the probe set ran" in fault.detail
    assert len(fault.expected or "") == len(fault.found or "") == 64
    assert fault.expected != fault.found


def test_a_model_that_turns_to_training_while_it_runs_is_named(tiny_head: Any) -> None:
    class Turning(tiny_head):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.fc.training = True
            return super().forward(x)

    steady = take_steady(TorchModel(Turning().eval()), from_examples(X), HashlibEngine(), wanted="both")
    assert [f.subject for f in steady.faults] == ["fc"]
    assert steady.digested is None
