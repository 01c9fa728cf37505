# SPDX-License-Identifier: Apache-2.0
"""What operators read and none of them made is consumed: named, a literal by value, or a fault that says where."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from weighmaster.capture.probe_auto import auto_probe
from weighmaster.capture.torch_model import TorchModel
from weighmaster.capture.torch_trace import Trace, value_digest
from weighmaster.errors import CoverageFault, Fault, NotWeighed, StageFault
from weighmaster.flows.weigh import weigh

X = torch.ones(2, 4)


class Independent(TorchDispatchMode):
    """A second tracer, made another way: it keeps every result alive and goes by addresses of storages."""

    def __init__(self, inputs: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.kept: list[Any] = list(inputs)
        self.made = {t.untyped_storage().data_ptr() for t in inputs}
        self.read: set[tuple[int, int]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, torch.Tensor)]
        returns = func._schema.returns
        is_view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if not is_view:
            for t in leaves:
                if t.numel() and t.untyped_storage().data_ptr() not in self.made:
                    span = 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
                    self.read.add((t.data_ptr(), span * t.element_size()))
        held = {t.untyped_storage().data_ptr() for t in leaves}
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor):
                self.kept.append(t)
                if t.untyped_storage().data_ptr() not in held or "lift_fresh" in str(func):
                    self.made.add(t.untyped_storage().data_ptr())
        return out

    def nbytes(self) -> int:
        """Bytes of the union of what was read."""
        total, end = 0, 0
        for start, size in sorted(self.read):
            total += max(0, start + size - max(start, end))
            end = max(end, start + size)
        return total


@pytest.mark.requirement("REQ-CAP-08")
def test_consumed_is_what_an_independent_tracer_sees(any_model: torch.nn.Module) -> None:
    live = TorchModel(any_model)
    probe = auto_probe(any_model)
    manifest = weigh(any_model, product="p", version="1", serial=1, example_inputs=probe)
    with torch.no_grad(), Independent(probe.inputs()) as second:
        probe.run(live.model)
    coverage = manifest.statement.coverage
    assert coverage is not None
    assert (coverage.consumed, coverage.consumed_bytes) == (len(second.read), second.nbytes())
    assert coverage.consumed_hashed_bytes == coverage.consumed_bytes
    assert manifest.statement.method.trace == "same path"


@pytest.mark.requirement("REQ-CAP-02")
@pytest.mark.parametrize("kind", ["nf4", "nf4-double", "fp4", "int8"])
def test_parameters_and_buffers_alone_miss_what_a_quantized_model_consumes(
    kind: str, quantized: Callable[[str], torch.nn.Module]
) -> None:
    model = quantized(kind)
    manifest = weigh(model, product="p", version="1", serial=1)
    coverage = manifest.statement.coverage
    assert coverage is not None
    assert coverage.naive_bytes < coverage.consumed_bytes
    spans = [
        (t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in (*model.parameters(), *model.buffers())
    ]
    probe = auto_probe(model)
    with torch.no_grad(), Independent(probe.inputs()) as second:
        probe.run(model)
    missed = sum(n for a, n in second.read if not any(lo <= a and a + n <= hi for lo, hi in spans))
    assert coverage.consumed_bytes - coverage.naive_bytes == missed > 0


def refused(model: torch.nn.Module, **keywords: Any) -> list[Fault]:
    with pytest.raises(NotWeighed) as caught:
        weigh(model.eval(), product="p", version="1", serial=1, **{"example_inputs": X, **keywords})
    return list(caught.value.faults)


HIDDEN = torch.arange(4.0)
ARRAY = np.arange(4, dtype=np.float32)
RAW = bytearray(16)
COUNT = itertools.count()


def adding(base: type[torch.nn.Module], term: Callable[[], torch.Tensor]) -> torch.nn.Module:
    """A one-layer model that adds `term()`, which no walk reaches: it is a global of this module."""
    TERMS[base] = term

    class Adding(base):  # type: ignore[misc,valid-type]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + TERMS[base]()

    return Adding().eval()


TERMS: dict[Any, Callable[[], torch.Tensor]] = {}


@pytest.mark.requirement("REQ-CAP-01")
def test_a_hidden_global_is_a_fault_until_it_is_named(tiny_head: Any) -> None:
    model = adding(tiny_head, lambda: HIDDEN)
    model.inner = torch.nn.Sequential(adding(tiny_head, lambda: HIDDEN))
    (fault,) = refused(adding(tiny_head, lambda: HIDDEN))
    assert isinstance(fault, CoverageFault)
    assert fault.subject == "(model)"
    assert "aten.add.Tensor consumes a float32 tensor of shape [4] (16 bytes)" in fault.detail
    assert "extra={name: tensor}" in fault.detail
    manifest = weigh(
        adding(tiny_head, lambda: HIDDEN), product="p", version="1", serial=1, example_inputs=X, extra={"h": HIDDEN}
    )
    row = next(r for r in manifest.gate.rows if r.name == "h")
    assert row.role == "extra"
    assert manifest.statement.method.extra == ("h",)


def test_the_fault_names_the_module_that_consumed(tiny_head: Any) -> None:
    model = torch.nn.Sequential(torch.nn.Sequential(adding(tiny_head, lambda: HIDDEN)))
    (fault,) = refused(model)
    assert fault.subject == "0.0"


@pytest.mark.requirement("REQ-CAP-01")
@pytest.mark.parametrize(
    "term",
    [
        lambda: torch.from_numpy(ARRAY),
        lambda: torch.as_tensor(ARRAY),
        lambda: torch.tensor(ARRAY),
        lambda: torch.frombuffer(RAW, dtype=torch.float32),
        lambda: torch.empty(0).set_(HIDDEN),
        lambda: torch.empty(0).set_(HIDDEN.untyped_storage(), 0, (4,), (1,)),
        lambda: HIDDEN.view(2, 2).t().reshape(-1),
        lambda: HIDDEN[1:3].repeat(2),
        lambda: torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(HIDDEN)),
    ],
    ids=["from_numpy", "as_tensor", "tensor", "frombuffer", "set_", "set_ storage", "view", "slice", "dlpack"],
)
def test_no_way_to_foreign_memory_passes_unnamed(term: Any, tiny_head: Any) -> None:
    faults = refused(adding(tiny_head, term))
    assert any(isinstance(f, CoverageFault) and "no walk names" in f.detail for f in faults)


def test_weights_loaded_in_the_forward_pass_do_not_pass_unnamed(tiny_head: Any, tmp_path: Any) -> None:
    torch.save(HIDDEN, tmp_path / "w.pt")
    faults = refused(adding(tiny_head, lambda: torch.load(tmp_path / "w.pt")))
    assert any(isinstance(f, CoverageFault) for f in faults)


def test_a_literal_is_recorded_by_value(tiny_head: Any) -> None:
    manifest = weigh(
        adding(tiny_head, lambda: torch.tensor([1.0, 2.0, 3.0, 4.0])),
        product="p",
        version="1",
        serial=1,
        example_inputs=X,
    )
    assert manifest.structure is not None
    assert manifest.statement.coverage is not None
    (literal,) = [f for f in manifest.structure.facts if f.kind == "literal"]
    assert literal.path == "<probe>[0]"
    assert value_digest(torch.tensor([1.0, 2.0, 3.0, 4.0])) in literal.value
    assert "float32 [4]" in literal.value
    assert manifest.statement.coverage.literals == 1


def test_a_literal_that_differs_between_passes_is_a_fault(tiny_head: Any) -> None:
    (fault,) = refused(adding(tiny_head, lambda: torch.tensor([float(next(COUNT))] * 4)))
    assert isinstance(fault, StageFault)
    assert "literal tensors of two probe runs differ" in fault.detail
    assert fault.expected == "1 literals as in the first run"


@pytest.mark.requirement("REQ-CAP-03")
def test_a_program_that_differs_between_passes_is_a_fault(tiny_head: Any) -> None:
    (fault,) = refused(adding(tiny_head, lambda: torch.ones(4) * next(COUNT)))
    assert "two probe runs execute different operators" in fault.detail


def test_a_consumed_weight_of_zero_elements_is_a_fault(tiny_head: Any) -> None:
    nothing = torch.empty(0, 4)
    (fault,) = refused(adding(tiny_head, lambda: torch.cat([nothing, torch.ones(1, 4)]).sum(0)))
    assert isinstance(fault, CoverageFault)
    assert "zero elements, shape [0, 4]" in fault.detail


@pytest.mark.requirement("REQ-CAP-04")
def test_a_meta_parameter_is_a_fault(head: Any) -> None:
    model = head()
    model.fc.weight = torch.nn.Parameter(torch.ones(4, 4, device="meta"))
    (fault,) = refused(model)
    assert (fault.subject, fault.detail) == ("fc.weight", "is on the meta device: it has no bytes")


def test_a_consumed_meta_tensor_is_a_fault(tiny_head: Any) -> None:
    ghost = torch.ones(2, device="meta")
    faults = refused(adding(tiny_head, lambda: torch.ones(4) if (ghost + 1) is not None else HIDDEN))
    assert any("cannot be read: is on the meta device" in f.detail for f in faults)


CACHE: dict[str, torch.Tensor] = {}


def test_a_tensor_cached_by_the_first_pass_is_consumed_in_the_next(tiny_head: Any) -> None:
    CACHE.clear()
    (fault,) = refused(adding(tiny_head, lambda: CACHE.setdefault("c", torch.arange(4.0) * 2)))
    assert isinstance(fault, CoverageFault)

    class Caching(tiny_head):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not hasattr(self, "cache"):
                self.cache = torch.arange(4.0) * 2
            return super().forward(x) + self.cache

    manifest = weigh(Caching().eval(), product="p", version="1", serial=1, example_inputs=X)
    assert "#cache" in {r.name for r in manifest.gate.rows}
    loaded = next(t for t in manifest.tables if t.stage == "S1")
    assert "#cache" not in {r.name for r in loaded.rows}


def test_state_that_a_pass_makes_and_the_next_returns_is_consumed(tiny_head: Any) -> None:
    pool = [torch.zeros(4), torch.zeros(4)]
    library = torch.library.Library("wmtest", "DEF")
    library.define("pooled(Tensor x) -> Tensor")
    library.impl("pooled", lambda _x: pool[0], "CompositeExplicitAutograd")
    model = adding(tiny_head, lambda: torch.ops.wmtest.pooled(torch.ones(1)) * 1)
    with Trace({}, ()) as first:
        model(X)
    assert not any(c.shape == (4,) and c.operator.startswith("aten.mul") for c in first.consumed.values())
    with Trace({}, (), first.survivors()) as second:
        model(X)
    assert any(c.operator == "wmtest.pooled.default" for c in second.consumed.values())


@pytest.mark.requirement("REQ-CAP-05")
def test_training_mode_is_refused_before_anything_runs(head: Any) -> None:
    model = head()
    model.fc.train()
    with pytest.raises(NotWeighed) as caught:
        weigh(model, product="p", version="1", serial=1, example_inputs=X)
    assert [f.subject for f in caught.value.faults] == ["fc"]
    assert "training mode" in caught.value.faults[0].detail


def test_dropout_in_evaluation_mode_is_no_matter_and_out_of_it_is_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)).eval()
    manifest = weigh(model, product="p", version="1", serial=1, example_inputs=X)
    assert manifest.statement.method.trace == "same path"
    model[1].training = True
    with pytest.raises(NotWeighed) as caught:
        weigh(model, product="p", version="1", serial=1, example_inputs=X)
    assert [f.subject for f in caught.value.faults] == ["1"]


def test_dropout_written_into_forward_draws_the_same_mask_in_each_run(tiny_head: Any) -> None:
    model = adding(tiny_head, lambda: torch.nn.functional.dropout(torch.ones(4), 0.5, training=True))
    torch.manual_seed(3)
    manifest = weigh(model, product="p", version="1", serial=1, example_inputs=X)
    # A probe run puts torch's random state back.
    assert manifest.statement.method.trace == "same path"


def test_outputs_under_the_trace_are_those_without(any_model: torch.nn.Module) -> None:
    probe = auto_probe(any_model)
    live = TorchModel(any_model)
    for _ in range(3):
        live.run(probe)
    plain = [value_digest(t) for t in live.run(probe)]
    with torch.no_grad(), Trace({}, probe.inputs()):
        traced = [value_digest(t) for t in live.run(probe)]
    assert traced == plain


def test_inputs_are_no_consumption_and_views_read_nothing() -> None:
    weight, other = torch.ones(4, 4), torch.ones(4)
    with Trace({}, (X,)) as trace:
        other.view(2, 2).t()
        torch.mm(X, weight)
    (consumed,) = trace.consumed.values()
    assert (consumed.extent.address, consumed.operator) == (weight.data_ptr(), "aten.mm.default")
    assert trace.opaque == []


def test_operators_inside_a_composite_tensor_are_traced() -> None:
    hidden = torch.ones(1)

    class Scaled(torch.Tensor):
        @staticmethod
        def __new__(cls, data: torch.Tensor, scale: torch.Tensor, idle: torch.Tensor) -> Any:
            return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=scale.dtype)

        def __init__(self, data: torch.Tensor, scale: torch.Tensor, idle: torch.Tensor) -> None:
            self.data_, self.scale, self.idle = data, scale, idle

        def __tensor_flatten__(self) -> Any:
            return ["data_", "scale", "idle"], None

        @staticmethod
        def __tensor_unflatten__(inner: Any, *_: Any) -> Any:
            return Scaled(inner["data_"], inner["scale"], inner["idle"])

        @classmethod
        def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            plain = [a.data_ * a.scale + hidden if isinstance(a, Scaled) else a for a in args]
            return func(*plain, **(kwargs or {}))

    weight = Scaled(torch.ones(4, dtype=torch.int8), torch.ones(1), torch.ones(7))
    with Trace({}, (X,)) as trace:
        X + weight
    read = {c.extent.address for c in trace.consumed.values()}
    assert read == {weight.data_.data_ptr(), weight.scale.data_ptr(), hidden.data_ptr()}, "and not the idle part"


def test_two_literals_at_one_address_are_both_recorded() -> None:
    def fresh(value: float) -> torch.Tensor:
        with torch.utils._python_dispatch._disable_current_modes():
            return torch.full((4,), value)

    with Trace({}, (), is_held=lambda _e: False) as trace:
        total = torch.zeros(4)
        for value in (1.0, 2.0):
            total = total + fresh(value)  # the second may get the memory of the first
    trace.settle()
    assert [lit.sha256 for lit in trace.literals] == [value_digest(torch.full((4,), v)) for v in (1.0, 2.0)]
    assert trace.consumed == {}


def test_what_outlives_the_run_is_no_literal() -> None:
    with torch.utils._python_dispatch._disable_current_modes():
        kept = torch.full((4,), 3.0)
    with Trace({}, (), is_held=lambda _e: False) as trace:
        torch.zeros(4) + kept
    trace.settle()
    assert trace.literals == []
    assert [c.extent.address for c in trace.consumed.values()] == [kept.data_ptr()]


def test_value_digest_is_row_major() -> None:
    import hashlib

    tensor = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    assert value_digest(tensor.t()) == hashlib.sha256(bytes([0, 3, 1, 4, 2, 5])).hexdigest()
    assert value_digest(torch.empty(0)) == hashlib.sha256().hexdigest()
