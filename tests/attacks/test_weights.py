# SPDX-License-Identifier: Apache-2.0
"""Attempts 1 to 16: other weights under a genuine manifest (see README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from weighmaster.errors import CoverageFault, NotWeighed
from weighmaster.flows.weigh import weigh

X = torch.arange(8.0).reshape(2, 4)
HIDDEN: dict[str, torch.Tensor] = {}


def refused(model: torch.nn.Module, **keywords: Any) -> list[Any]:
    with pytest.raises(NotWeighed) as caught:
        weigh(model, product="p", version="1", serial=1, example_inputs=X, **keywords)
    return list(caught.value.faults)


@pytest.mark.requirement("REQ-REV-02", "REQ-REV-03")
def test_01_swap_bytes_after_admission(guarded: Any, flip_bit: Any, stopped: Any) -> None:
    model, admission = guarded
    admission.recheck()
    flip_bit(model.second.weight, 17, 6)
    assert stopped(admission.recheck, 10) == ["second.weight"]
    assert stopped(lambda: model(X), 14) == ["admission"]


@pytest.mark.requirement("REQ-REV-05")
def test_02_rebind_a_parameter_after_admission(guarded: Any, stopped: Any) -> None:
    model, admission = guarded
    model.second.weight = torch.nn.Parameter(model.second.weight.detach().clone())
    assert stopped(lambda: admission.recheck(nbytes=1), 11) == ["second.weight"]


def test_03_write_through_the_other_name_of_a_tied_tensor(guarded: Any, stopped: Any) -> None:
    model, admission = guarded
    admission.recheck()
    with torch.no_grad():
        model.tied.weight[0, 0] += 1
    assert stopped(admission.recheck, 10) == ["first.weight"]


def test_04_untie_and_change_one_of_the_two(weighed: Any, target: Any, stopped: Any) -> None:
    model = target()
    model.tied.weight = torch.nn.Parameter(model.first.weight.detach() * 2)
    assert stopped(lambda: weighed.admit(model), 11) == ["tied.weight"]


@pytest.mark.requirement("REQ-MAN-05")
def test_05_make_two_equal_tensors_one(sealed: Any, target: Any, stopped: Any) -> None:
    def equal() -> Any:
        model = target()
        model.second.load_state_dict(model.first.state_dict())
        return model

    model = equal()
    model.second.weight = model.first.weight
    done = sealed(equal(), example_inputs=X)
    assert stopped(lambda: done.admit(model), 11) == ["second.weight"]


def test_06_exchange_two_tensors_of_one_shape(weighed: Any, target: Any, stopped: Any) -> None:
    model = target()
    model.first.bias, model.second.bias = model.second.bias, model.first.bias
    assert stopped(lambda: weighed.admit(model), 10) == ["first.bias", "second.bias"]


def test_07_one_storage_behind_two_views(sealed: Any, stopped: Any, tiny_head: Any) -> None:
    class Views(tiny_head):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.base = [torch.arange(6.0)]
            self.left, self.right = self.base[0][:4], self.base[0][2:]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.left * self.right

    def make() -> Any:
        torch.manual_seed(0)
        return Views().eval()

    done, apart, moved = sealed(make(), example_inputs=X), make(), make()
    moved.base[0][3] += 1  # lies in all three
    assert stopped(lambda: done.admit(moved), 10) == ["#base[0]", "#left", "#right"]
    admission = done.admit(apart)
    apart.right = apart.right.clone()  # same bytes, no longer the same memory: a later write would reach one alone
    assert stopped(lambda: admission.recheck(nbytes=1), 11) == ["#right"]


def test_08_the_same_bytes_under_another_type(weighed: Any, target: Any, stopped: Any) -> None:
    model = target()
    model.codes = model.codes.view(torch.int8)  # 200 is -56 now
    assert {"<probe>", "codes"} <= set(stopped(lambda: weighed.admit(model), 17))


@pytest.mark.requirement("REQ-CAP-04")
def test_09_meta_tensors(target: Any) -> None:
    model = target()
    model.second.weight = torch.nn.Parameter(model.second.weight.to("meta"))
    assert [f.subject for f in refused(model)] == ["second.weight"]


@pytest.mark.requirement("REQ-CAP-04")
def test_10_an_empty_weight_before_and_the_real_one_elsewhere(tiny_head: Any) -> None:
    class Moved(tiny_head):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            HIDDEN["w"] = self.fc.weight.detach().clone()
            self.fc.weight = torch.nn.Parameter(torch.empty(0, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x, HIDDEN["w"], self.fc.bias)

    found = {f.subject: f.detail for f in refused(Moved().eval())}
    assert "zero elements" in found["fc.weight"]


@pytest.mark.requirement("REQ-CAP-01")
def test_11_genuine_weights_for_show_and_others_for_use(tiny_head: Any, sealed: Any, stopped: Any) -> None:
    class Shown(tiny_head):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x, HIDDEN.get("used", self.fc.weight), self.fc.bias)

    HIDDEN.clear()
    torch.manual_seed(0)
    done = sealed(Shown().eval(), example_inputs=X)
    torch.manual_seed(0)
    model = Shown().eval()
    HIDDEN["used"] = model.fc.weight.detach() * 2
    with pytest.raises(Exception) as caught:  # noqa: PT011
        done.admit(model)
    assert any(isinstance(f, CoverageFault) and "no walk names" in f.detail for f in caught.value.faults)


@pytest.mark.requirement("REQ-CAP-01")
def test_12_hidden_weights_inside_a_tensor_subclass() -> None:
    class Sly(torch.Tensor):
        """Shows one tensor and adds another one when it computes."""

        @staticmethod
        def __new__(cls, data: torch.Tensor) -> Any:
            return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=data.dtype)

        def __init__(self, data: torch.Tensor) -> None:
            self.shown = data

        def __tensor_flatten__(self) -> Any:
            return ["shown"], None

        @staticmethod
        def __tensor_unflatten__(inner: Any, *_: Any) -> Any:
            return Sly(inner["shown"])

        @classmethod
        def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.detach.default:
                return Sly(args[0].shown)
            if func.is_view:
                return Sly(func(args[0].shown, *args[1:]))
            return func(*[a.shown + HIDDEN["sly"] if isinstance(a, Sly) else a for a in args], **(kwargs or {}))

    HIDDEN["sly"] = torch.ones(4, 4)
    model = torch.nn.Linear(4, 4).eval()
    model.weight = torch.nn.Parameter(Sly(model.weight.detach()), requires_grad=False)
    (fault,) = refused(model)
    assert isinstance(fault, CoverageFault)
    assert "aten.add.Tensor consumes a float32 tensor of shape [4, 4]" in fault.detail


@pytest.mark.requirement("REQ-CAP-07")
def test_13_an_edit_of_the_checkpoint_under_a_mapped_model(target: Any, sealed: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "m.safetensors"
    tensors = {n: t.clone() for n, t in target().state_dict().items()}
    save_file(tensors, path)
    model, done = target(), sealed(target(), example_inputs=X)
    mapped = load_file(path)
    model.second.weight = torch.nn.Parameter(mapped["second.weight"], requires_grad=False)
    admission = done.admit(model)
    before = model(X)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 4 * 64)
        file.write(b"\xff" * 4 * 64)
    assert torch.equal(model(X), before)
    assert admission.recheck().cycle_complete


@pytest.mark.requirement("REQ-CAP-01")
def test_14_half_a_weight_digested_and_the_same_half_excluded(tiny_head: Any) -> None:
    whole = HIDDEN["whole"] = torch.arange(8.0)

    class Halved(tiny_head):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.shown, self.left_out = whole[:4], whole[:4]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + (HIDDEN["whole"] * 2)[4:]

    (fault,) = refused(Halved().eval(), exclude={"#left_out": "workspace"})
    assert "(32 bytes) that no walk names" in fault.detail


@pytest.mark.requirement("REQ-REV-05")
def test_15_weights_that_arrive_with_the_first_request(tiny_head: Any, sealed: Any, stopped: Any) -> None:
    class Late(tiny_head):  # type: ignore[misc]
        late: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if self.late is None else super().forward(x) + self.late

    model = Late().eval()
    admission = sealed(model, example_inputs=X).admit(model)
    model.late = torch.ones(4)
    assert stopped(lambda: admission.recheck(nbytes=1), 11) == ["#late"]


def test_16_swap_and_restore_between_two_checks_is_not_found(guarded: Any) -> None:
    """A stated bound: re-verification sees what stands there when it looks."""
    model, admission = guarded
    admission.recheck()
    kept = model.second.weight.detach().clone()
    with torch.no_grad():
        model.second.weight.zero_()
        model(X)
        model.second.weight.copy_(kept)
    assert admission.recheck().cycle_complete
