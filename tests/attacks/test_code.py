# SPDX-License-Identifier: Apache-2.0
"""Attempts 17 to 34: the same weights, and other code, configuration or calls (see README.md)."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from weighmaster.capture.torch_guard import GuardHook

X = torch.arange(8.0).reshape(2, 4)


def double(*arguments: Any) -> Any:
    return arguments[-1] * 2


@pytest.mark.requirement("REQ-ADM-07")
def test_17_a_forward_hook_before_admission(weighed: Any, target: Any, stopped: Any) -> None:
    model = target()
    model.second.register_forward_hook(double)
    assert "second#_forward_hooks[0]" in stopped(lambda: weighed.admit(model), 17)


@pytest.mark.requirement("REQ-REV-05")
def test_18_a_forward_hook_after_admission(guarded: Any, stopped: Any) -> None:
    model, admission = guarded
    model.second.register_forward_hook(double)
    assert "second#_forward_hooks[0]" in stopped(lambda: admission.recheck(nbytes=1), 17)


def test_19_a_hook_for_all_modules_of_the_process(guarded: Any, stopped: Any) -> None:
    _, admission = guarded
    admission.recheck()
    handle = torch.nn.modules.module.register_module_forward_hook(double)
    try:
        assert "<process>#_global_forward_hooks[0]" in stopped(admission.recheck, 17)
    finally:
        handle.remove()


def test_20_a_hook_in_the_clothes_of_our_guard(guarded: Any, stopped: Any) -> None:
    model, admission = guarded
    model.second.register_forward_pre_hook(GuardHook(lambda: None), with_kwargs=True)
    assert "second#_forward_pre_hooks[0]" in stopped(lambda: admission.recheck(nbytes=1), 17)


def test_21_an_adapter_after_admission(guarded: Any, stopped: Any) -> None:
    model, admission = guarded
    base = model.second
    model.second = torch.nn.Sequential(base, torch.nn.Linear(4, 4)).eval()
    found = stopped(lambda: admission.recheck(nbytes=1), 17)
    assert {"second", "second.1.weight", "second.weight"} < set(found)


def test_22_another_forward_of_one_object(guarded: Any, stopped: Any) -> None:
    model, admission = guarded
    model.second.forward = double
    assert "second#forward" in stopped(lambda: admission.recheck(nbytes=1), 17)


@pytest.mark.requirement("REQ-REV-06")
def test_23_another_forward_of_the_class(guarded: Any, stopped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, admission = guarded
    admission.recheck()
    monkeypatch.setattr(type(model), "forward", lambda _s, x: x)
    assert any(s.endswith("Target") for s in stopped(admission.recheck, 17))


def test_24_two_methods_exchanged(guarded: Any, stopped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, admission = guarded
    admission.recheck()
    first, second = type(model).forward, type(model).other
    monkeypatch.setattr(type(model), "forward", second)
    monkeypatch.setattr(type(model), "other", first)
    (name,) = stopped(admission.recheck, 17)
    assert name.endswith("Target")


@pytest.mark.requirement("REQ-REV-06")
@pytest.mark.parametrize("module", [torch.nn.functional, torch.nn.modules.linear.F])
def test_25_a_function_that_layers_call(
    module: Any, guarded: Any, stopped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, admission = guarded
    admission.recheck()
    original = module.linear
    monkeypatch.setattr(module, "linear", lambda *a: original(*a) * 2)
    assert stopped(admission.recheck, 17)


def test_26_a_scalar(guarded: Any, stopped: Any) -> None:
    model, admission = guarded
    model.gain = 1.0000001
    assert stopped(lambda: admission.recheck(nbytes=1), 17) == ["#gain"]


def test_27_training_mode(guarded: Any, stopped: Any) -> None:
    model, admission = guarded
    model.second.train()
    assert stopped(lambda: admission.recheck(nbytes=1), 17) == ["second"]


@pytest.mark.requirement("REQ-ADM-07")
def test_28_weights_written_as_literals_in_code(tiny_head: Any, sealed: Any, stopped: Any) -> None:
    scope: dict[str, Any] = {"torch": torch, "base": tiny_head, "__name__": "served"}
    source = "class Literal(base):\n def forward(self, x):\n  return self.fc(x) + torch.tensor([{0}, 2.0, 3.0, 4.0])\n"

    def make(first: str) -> Any:
        exec(source.format(first), scope)
        torch.manual_seed(0)
        return scope["Literal"]().eval()

    done = sealed(make("1.0"), example_inputs=X)
    done.admit(make("1.0"))
    found = stopped(lambda: done.admit(make("1.5")), 17)
    assert "<probe>[0]" in found
    assert "<code>served.Literal.forward" in found


@pytest.mark.requirement("REQ-ADM-04")
def test_29_another_number_of_threads(weighed: Any, target: Any, stopped: Any) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert "torch.threads.intraop" in stopped(lambda: weighed.admit(target()), 12)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.requirement("REQ-REV-04")
def test_30_the_clock_set_back(weighed: Any, target: Any, fake_clock: Any, stopped: Any, monkeypatch: Any) -> None:
    model = target()
    admission = weighed.admit(model, lease=10.0, clock=fake_clock)
    admission.guard(model)
    fake_clock.now += 11
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert stopped(lambda: model(X), 14) == ["admission"]
    assert stopped(admission.recheck, 14) == ["admission"]


def test_31_another_model_under_the_same_guard(guarded: Any, target: Any) -> None:
    from weighmaster.errors import UsageError

    with pytest.raises(UsageError, match="not the module object that was admitted"):
        guarded[1].guard(target())


def test_32_calling_forward_directly_is_not_guarded(guarded: Any) -> None:
    """A stated bound: the guard stands before calls of the model, not before calls of its methods and parts."""
    model, admission = guarded
    admission.revoke()
    model.forward(X)
    model.second(X)


def test_33_a_builtin_put_in_place_of_another_after_admission_is_not_found(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stated bound: functions written in C have no code to digest. Before admission, the operators traced differ."""
    _, admission = guarded
    admission.recheck()
    monkeypatch.setattr(torch, "relu", torch.sigmoid)
    assert admission.recheck().cycle_complete


@pytest.mark.requirement("REQ-ADM-07")
def test_34_a_builtin_put_in_place_of_another_before_admission(
    weighed: Any, target: Any, stopped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "relu", torch.sigmoid)
    assert "<probe>" in stopped(lambda: weighed.admit(target()), 17)
