# SPDX-License-Identifier: Apache-2.0
"""An admission is in force while its lease lasts and nothing is found; re-verification covers the whole model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from weighmaster.errors import (
    EnvironmentFault,
    NotAdmitted,
    StageFault,
    StructureFault,
    TensorFault,
    TensorSetFault,
    UsageError,
)
from weighmaster.flows import admission as admission_module

X = torch.ones(1, 3, 32, 32)
TOTAL = 11
"""Tensors of the small net; each is one unit."""


def refused(act: Any, words: str) -> None:
    """Fail unless `act` is refused with `words` in the whole text: pytest's ``match`` sees a group's headline alone."""
    with pytest.raises(NotAdmitted) as caught:
        act()
    assert words in str(caught.value)


def found(admission: Any, **keywords: Any) -> NotAdmitted:
    with pytest.raises(NotAdmitted) as caught:
        admission.recheck(**keywords)
    return caught.value


@pytest.fixture
def admitted(small: Any, sealed: Any) -> Any:
    model = small()
    return model, sealed(small()).admit(model)


# -- guard ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ADM-16")
def test_the_gate_blocks_before_admission_and_opens_after(small: Any, sealed: Any) -> None:
    done, model = sealed(small()), small()
    expected = model(X)
    gate = done.gate()
    gate.guard(model)
    refused(lambda: model(X), "has not been admitted")
    gate.admit(model)
    assert torch.equal(model(X), expected)


@pytest.mark.requirement("REQ-ADM-16")
def test_a_refused_model_stays_blocked(small: Any, sealed: Any, flip_bit: Any) -> None:
    done, model = sealed(small()), small()
    gate = done.gate()
    gate.guard(model)
    flip_bit(model.down.bias)
    refused(lambda: gate.admit(model), "down.bias")
    refused(lambda: model(X), "has not been admitted")


@pytest.mark.requirement("REQ-ADM-16")
def test_what_was_admitted_does_not_open_the_gate_for_another_module(small: Any, sealed: Any, flip_bit: Any) -> None:
    gate, good, bad = sealed(small()).gate(), small(), small()
    flip_bit(bad.down.bias)
    gate.admit(good)
    with pytest.raises(UsageError, match="expected the module that it guards or has admitted, found another"):
        gate.guard(bad)
    with pytest.raises(UsageError, match="found another"):
        gate.admit(bad)
    gate.guard(good)
    good(X)


@pytest.mark.requirement("REQ-ADM-16")
def test_a_guarded_module_is_the_one_that_is_admitted(small: Any, sealed: Any) -> None:
    gate, model = sealed(small()).gate(), small()
    gate.guard(model)
    with pytest.raises(UsageError, match="found another"):
        gate.admit(small())
    refused(lambda: model(X), "has not been admitted")
    gate.admit(model)
    model(X)


def test_after_a_revocation_there_is_no_second_verdict(small: Any, sealed: Any) -> None:
    gate, model = sealed(small()).gate(), small()
    gate.admit(model).revoke("maintenance")
    refused(lambda: gate.admit(model), "the admission was revoked")


@pytest.mark.requirement("REQ-ADM-16", "REQ-REV-04")
def test_the_lease_ends_and_a_cycle_renews_it(small: Any, sealed: Any, fake_clock: Any) -> None:
    done, model = sealed(small()), small()
    admission = done.admit(model, lease=60.0, clock=fake_clock)
    remove = admission.guard(model)
    fake_clock.now += 59
    model(X)
    assert admission.remaining == 1.0
    admission.recheck(nbytes=1)
    assert admission.remaining == 1.0, "a part of a cycle renews nothing"
    admission.recheck()
    assert admission.remaining == 60.0
    fake_clock.now += 60
    refused(lambda: model(X), "the lease ran out")
    refused(admission.recheck, "the lease ran out")
    remove()
    model(X)


@pytest.mark.requirement("REQ-ADM-16", "REQ-REV-03")
def test_revocation_blocks(admitted: Any) -> None:
    model, admission = admitted
    admission.guard(model)
    admission.check()
    admission.revoke("recalled")
    for act in (admission.check, admission.recheck, lambda: model(X)):
        with pytest.raises(NotAdmitted) as caught:
            act()
        assert caught.value.faults[0].found == "recalled"
    assert admission.remaining == 0.0


def test_another_module_is_not_guarded(admitted: Any, small: Any) -> None:
    with pytest.raises(UsageError, match="not the module object that was admitted"):
        admitted[1].guard(small())


# -- re-verification: cycles ------------------------------------------------------------------------------------------


def names_of(cycle: Any) -> list[tuple[str, int]]:
    return [(u.name, u.first) for u in cycle]


@pytest.mark.requirement("REQ-REV-01")
def test_a_cycle_in_pieces_covers_everything_once(admitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, admission = admitted
    seen: Counter[str] = Counter()
    original = type(admission)._verify
    monkeypatch.setattr(type(admission), "_verify", lambda s, v, u: (seen.update([v.name]), original(s, v, u))[1])
    steps = []
    while not steps or not steps[-1].cycle_complete:
        steps.append(admission.recheck(nbytes=1))
    assert len(steps) == TOTAL
    assert [s.left for s in steps] == list(range(TOTAL - 1, -1, -1))
    assert seen == Counter({r.name: 1 for r in admission.manifest.gate.primaries})
    assert sum(s.nbytes for s in steps) == admission.manifest.statement.gate_table.nbytes
    assert steps[-1].cycles == 1


@pytest.mark.requirement("REQ-REV-01")
def test_each_cycle_has_a_fresh_order(admitted: Any) -> None:
    _, admission = admitted
    orders = {tuple(names_of(admission._shuffled())) for _ in range(20)}
    assert len(orders) > 15
    assert len({frozenset(o) for o in orders}) == 1


def test_large_tensors_are_cut_into_units(admitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, admission = admitted
    monkeypatch.setattr(admission_module, "_UNIT", 1)
    units = names_of(admission._units())
    assert units.count(("up.weight", 0)) == units.count(("up.weight", 1)) == 1
    assert len(units) == TOTAL + 1
    done = admission.recheck()
    assert (done.units, done.nbytes) == (TOTAL + 1, admission.manifest.statement.gate_table.nbytes)


@pytest.mark.requirement("REQ-REV-07")
def test_a_budget_of_seconds_stops_after_the_unit_in_hand(small: Any, sealed: Any, fake_clock: Any) -> None:
    admission = sealed(small()).admit(small(), clock=fake_clock)
    assert admission.recheck(seconds=0.0).units == 1
    assert admission.recheck(seconds=1.0).cycle_complete, "the clock stands, so all is done within the second"


@pytest.mark.requirement("REQ-REV-02", "REQ-REV-03")
@pytest.mark.parametrize("name", ["conv.weight", "bn.running_var", "up.weight", "down.weight"])
def test_a_flip_is_found_within_two_cycles(name: str, admitted: Any, flip_bit: Any) -> None:
    model, admission = admitted
    admission.recheck(nbytes=1)
    module, _, attribute = name.rpartition(".")
    flip_bit(getattr(model.get_submodule(module), attribute), -1)
    refusal = None
    for _ in range(2 * TOTAL):
        try:
            admission.recheck(nbytes=1)
        except NotAdmitted as caught:
            refusal = caught
            break
    assert refusal is not None
    (fault,) = refusal.faults
    assert isinstance(fault, TensorFault)
    assert fault.subject == name
    assert (
        "a second read gives other bytes again" in fault.detail or "a second read gives the same bytes" in fault.detail
    )
    if name == "up.weight":
        assert "in leaf 1 of 2 (bytes 65536 to 131071)" in fault.detail
    refused(admission.check, "the admission was revoked")


@pytest.mark.requirement("REQ-REV-08")
def test_a_disturbed_read_is_told_apart_and_halts_all_the_same(admitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, admission = admitted
    original, reads = type(admission)._digests, []

    def once(self: Any, view: Any, unit: Any) -> Any:
        expected, live = original(self, view, unit)
        reads.append(view.name)
        return expected, (b"x" * len(live) if len(reads) == 1 else live)

    monkeypatch.setattr(type(admission), "_digests", once)
    assert "the first one was disturbed" in found(admission).faults[0].detail


# -- re-verification: state, in every call ----------------------------------------------------------------------------


def in_mid_cycle(admission: Any) -> None:
    admission.recheck(nbytes=1)


@pytest.mark.requirement("REQ-REV-05")
def test_a_rebound_parameter_is_found_at_once(admitted: Any) -> None:
    model, admission = admitted
    in_mid_cycle(admission)
    model.down.weight = torch.nn.Parameter(model.down.weight.detach().clone())
    refusal = found(admission, nbytes=1)
    (fault,) = refusal.faults
    assert isinstance(fault, TensorSetFault)
    assert (fault.subject, fault.detail) == ("down.weight", "its storage moved without announcement")


@pytest.mark.requirement("REQ-REV-05")
def test_a_moved_storage_is_found_at_once(admitted: Any) -> None:
    model, admission = admitted
    in_mid_cycle(admission)
    model.up.weight.data = model.up.weight.data.clone()
    assert [f.subject for f in found(admission, nbytes=1).faults] == ["up.weight"]


@pytest.mark.requirement("REQ-REV-05")
@pytest.mark.parametrize(
    ("change", "subject", "kind"),
    [
        (lambda m: m.up.register_forward_hook(lambda *_: None), "up#_forward_hooks[0]", StructureFault),
        (lambda m: setattr(m.bn, "eps", 0.5), "bn#eps", StructureFault),
        (lambda m: setattr(m.up, "forward", lambda x: x), "up#forward", StructureFault),
        (lambda m: m.bn.train(), "bn", StructureFault),
        (lambda m: m.register_buffer("more", torch.ones(1)), "more", TensorSetFault),
        (lambda m: delattr(m.bn, "num_batches_tracked"), "bn.num_batches_tracked", TensorSetFault),
        (lambda m: setattr(m, "s", {torch.ones(1)}), "#s", StageFault),
    ],
    ids=["hook", "scalar", "forward", "training", "added", "dropped", "unreadable"],
)
def test_a_change_of_the_object_is_found_in_the_next_call(change: Any, subject: str, kind: type, admitted: Any) -> None:
    model, admission = admitted
    in_mid_cycle(admission)
    change(model)
    refusal = found(admission, nbytes=1)
    assert any(f.subject == subject and isinstance(f, kind) for f in refusal.faults)
    assert admission.remaining == 0.0


@pytest.mark.requirement("REQ-REV-06")
def test_a_patch_of_a_class_is_found_in_the_next_cycle(admitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, admission = admitted
    in_mid_cycle(admission)
    original = torch.nn.Linear.forward
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda s, x: original(s, x))  # noqa: PLW0108
    assert admission.recheck().cycle_complete, "within a cycle code is not digested again"
    refusal = found(admission, nbytes=1)
    assert "<code>torch.nn.modules.linear.Linear" in [f.subject for f in refusal.faults]


@pytest.mark.requirement("REQ-REV-06")
def test_a_patch_of_a_function_that_layers_call_is_found_in_the_next_cycle(
    admitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, admission = admitted
    original = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *a: original(*a))  # noqa: PLW0108
    assert found(admission).exit_code == 17


@pytest.mark.requirement("REQ-REV-06")
def test_a_switch_of_the_process_is_found_in_the_next_cycle(admitted: Any) -> None:
    _, admission = admitted
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        refusal = found(admission)
    finally:
        torch.set_num_threads(threads)
    assert all(isinstance(f, EnvironmentFault) for f in refusal.faults)
    assert "torch.threads.intraop" in [f.subject for f in refusal.faults]


def test_swap_and_restore_between_two_checks_is_not_found(admitted: Any) -> None:
    """The stated bound of re-verification: what is put back before the next look leaves no trace."""
    model, admission = admitted
    admission.recheck()
    kept = model.down.weight.detach().clone()
    with torch.no_grad():
        model.down.weight.zero_()
        model(X)
        model.down.weight.copy_(kept)
    assert admission.recheck().cycle_complete


# -- mapped files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mapped(small: Any, tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    path = tmp_path / "model.safetensors"
    save_file(small().state_dict(), path)
    model = small()
    model.load_state_dict(load_file(path), assign=True)
    return model.eval(), path


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 100_000)
        file.write(b"\xff" * 50_000)


@pytest.mark.requirement("REQ-REV-09", "REQ-CAP-07")
def test_first_verifies_mapped_tensors_in_every_call(small: Any, sealed: Any, mapped: Any) -> None:
    model, path = mapped
    admission = sealed(small()).admit(model, mapped="first")
    assert admission.recheck(nbytes=1).units > 1
    edit(path)
    refusal = found(admission, nbytes=1)
    (fault,) = refusal.faults
    assert isinstance(fault, TensorFault)
    assert fault.subject in {"up.weight", "down.weight"}


@pytest.mark.requirement("REQ-CAP-07")
def test_private_makes_an_edit_of_the_file_harmless(small: Any, sealed: Any, mapped: Any) -> None:
    model, path = mapped
    admission = sealed(small()).admit(model)
    edit(path)
    assert admission.recheck().cycle_complete


@pytest.mark.requirement("REQ-CAP-07")
def test_refuse_refuses(small: Any, sealed: Any, mapped: Any) -> None:
    refusal = sealed(small()).refuse(mapped[0], mapped="refuse")
    assert refusal.exit_code == 18
    assert {f.found for f in refusal.faults} == {str(mapped[1])}
