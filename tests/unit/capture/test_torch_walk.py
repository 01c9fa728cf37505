# SPDX-License-Identifier: Apache-2.0
"""Every kind of state that a module can hold has a name, is a fact, or is a fault: never nothing."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import types
import unicodedata
from typing import Any

import numpy as np
import pytest
import torch

from weighmaster.capture.torch_guard import GuardHook
from weighmaster.capture.torch_model import TorchModel
from weighmaster.capture.torch_parts import parts_of
from weighmaster.capture.torch_walk import MAX_DEPTH, walk
from weighmaster.errors import StageFault


@dataclasses.dataclass
class Holder:
    tensor: Any
    note: str = "n"


class Slotted:
    __slots__ = ("__private", "tensor", "unset")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.__private = tensor * 2


class OnceSlots:
    __slots__ = iter(("tensor",))  # an iterator: used up when the class is made

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class TaggedList(list):
    pass


class TaggedText(str):
    pass


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024


class Colour(enum.Enum):
    RED = 1


class Packed(torch.Tensor):
    """A tensor subclass of two plain tensors and a context, as quantizers write them."""

    @staticmethod
    def __new__(cls, data: torch.Tensor, scale: torch.Tensor, group: int) -> Packed:  # noqa: PYI034
        return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=scale.dtype, device=data.device)

    def __init__(self, data: torch.Tensor, scale: torch.Tensor, group: int) -> None:
        self.data_, self.scale_, self.group = data, scale, group

    def __tensor_flatten__(self) -> tuple[list[str], dict[str, int]]:
        return ["data_", "scale_"], {"group": self.group}

    @staticmethod
    def __tensor_unflatten__(inner: Any, context: Any, _size: Any, _stride: Any) -> Packed:
        return Packed(inner["data_"], inner["scale_"], context["group"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return Packed(args[0].data_, args[0].scale_, args[0].group)
        plain = [a.data_ * a.scale_ if isinstance(a, Packed) else a for a in args]
        return func(*plain, **(kwargs or {}))


def packed(group: int = 4) -> Packed:
    return Packed(torch.arange(4, dtype=torch.int8), torch.ones(1), group)


def names(model: torch.nn.Module, **keywords: Any) -> list[str]:
    return [h.name for h in walk(model, **keywords).held]


def facts(model: torch.nn.Module) -> dict[tuple[str, str], str]:
    return {(f.path, f.kind): f.value for f in walk(model).facts}


def closure(tensor: Any) -> Any:
    def call() -> Any:
        return tensor

    return call


def defaulted(*, weight: Any = None) -> Any:
    return weight


STATES = {
    "attribute": (lambda: torch.ones(3), ["#s"]),
    "list": (lambda: [1, torch.ones(3)], ["#s[1]"]),
    "tuple": (lambda: (torch.ones(3), "x"), ["#s[0]"]),
    "namedtuple": (lambda: Pair(1, torch.ones(3)), ["#s[1]"]),
    "dict": (lambda: {"k": torch.ones(3), 7: torch.ones(3)}, ["#s['k']", "#s[7]"]),
    "ordered dict": (lambda: collections.OrderedDict(a=torch.ones(3)), ["#s['a']"]),
    "default dict": (lambda: collections.defaultdict(list, a=[torch.ones(3)]), ["#s['a'][0]"]),
    "mapping proxy": (lambda: types.MappingProxyType({"k": torch.ones(3)}), ["#s['k']"]),
    "deque": (lambda: collections.deque([0, torch.ones(3)]), ["#s[1]"]),
    "nested": (lambda: {"a": [{"b": (torch.ones(3),)}]}, ["#s['a'][0]['b'][0]"]),
    "dataclass": (lambda: Holder(torch.ones(3)), ["#s.tensor"]),
    "namespace": (lambda: types.SimpleNamespace(t=torch.ones(3)), ["#s.t"]),
    "slots": (lambda: Slotted(torch.ones(3)), ["#s._Slotted__private", "#s.tensor"]),
    "slots from an iterator": (lambda: OnceSlots(torch.ones(3)), ["#s.tensor"]),
    "numpy": (lambda: np.ones(3, dtype=np.float32), ["#s"]),
    "numpy of objects": (lambda: np.array([torch.ones(1), None], dtype=object), ["#s[0]"]),
    "partial": (
        lambda: functools.partial(closure, torch.ones(3), k={"w": torch.ones(2)}),
        ["#s<args>[0]", "#s<keywords>['k']['w']"],
    ),
    "closure": (lambda: closure(torch.ones(3)), ["#s<cell:tensor>"]),
    "closure of a closure": (lambda: closure(closure(torch.ones(3))), ["#s<cell:tensor><cell:tensor>"]),
    "bound method": (lambda: Holder(torch.ones(3)).__eq__, ["#s<self>.tensor"]),
    "attributes of a list": (lambda: _tagged(TaggedList([1])), ["#s.tensor"]),
    "attributes of a list of tensors": (lambda: _tagged(TaggedList([torch.ones(1)])), ["#s.tensor", "#s[0]"]),
    "attributes of a text": (lambda: _tagged(TaggedText("x")), ["#s.tensor"]),
}


def _tagged(value: Any) -> Any:
    value.tensor = torch.ones(3)
    return value


@pytest.mark.parametrize("kind", STATES)
def test_every_kind_of_plain_state_is_named(kind: str, head: Any) -> None:
    make, expected = STATES[kind]
    model = head()
    model.s = make()
    found = walk(model)
    assert sorted(h.name for h in found.held) == sorted([*expected, "fc.weight", "fc.bias"])
    assert found.faults == ()
    assert {h.role for h in found.held if h.name in expected} == {"attribute"}


def test_a_read_only_array_is_read_where_it_lies(head: Any) -> None:
    model = head()
    model.s = np.arange(3, dtype=np.float32)
    model.s.setflags(write=False)
    (held,) = [h for h in walk(model).held if h.name == "#s"]
    assert held.tensor.data_ptr() == model.s.ctypes.data
    assert not model.s.flags.writeable


def test_an_array_of_a_type_that_torch_does_not_have_is_a_fault(head: Any) -> None:
    model = head()
    model.s = np.array(["2020-01-01"], dtype="datetime64[D]")
    (fault,) = walk(model).faults
    assert isinstance(fault, StageFault)
    assert fault.subject == "#s"
    assert "numpy array that cannot be read" in fault.detail


WEIGHT = torch.ones(3)


def test_default_values_of_functions_are_named(head: Any) -> None:
    def call(x: Any, weight: Any = WEIGHT, *, bias: Any = WEIGHT) -> Any:
        return x, weight, bias

    model = head()
    model.s = call
    assert {"#s<default:0>", "#s<default:bias>"} < set(names(model))


def test_state_of_hooks_is_named_by_their_order(head: Any) -> None:
    model, weight = head(), torch.ones(4)
    model.fc.register_forward_hook(lambda _m, _a, out: out + weight)
    assert "fc#_forward_hooks[0]<cell:weight>" in names(model)
    assert ("fc#_forward_hooks[0]", "hook") in facts(model)


def test_tensor_attributes_two_deep(head: Any) -> None:
    model = head()
    model.fc.weight.state = types.SimpleNamespace(absmax=torch.ones(2), nested=torch.ones(2))
    model.fc.weight.state.nested.state2 = {"code": torch.ones(1)}
    found = {h.name: h.role for h in walk(model).held}
    assert found["fc.weight@state.absmax"] == "inner"
    assert found["fc.weight@state.nested@state2['code']"] == "inner"
    assert found["fc.weight"] == "parameter"


def test_a_subclass_is_named_by_its_plain_parts_and_context(head: Any) -> None:
    model = head()
    model.fc.weight = torch.nn.Parameter(packed(), requires_grad=False)
    found = {h.name: h.role for h in walk(model).held}
    assert found == {"fc.weight::data_": "inner", "fc.weight::scale_": "inner", "fc.bias": "parameter"}
    before = facts(model)
    assert before["fc.weight", "context"].endswith("Packed")
    model.fc.weight = torch.nn.Parameter(packed(group=8), requires_grad=False)
    changed = {k for k, v in facts(model).items() if before.get(k) != v}
    assert {k[0] for k in changed} == {"fc.weight::<context>", "fc.weight@group"}


def test_parts_of_nested_and_sparse_tensors() -> None:
    inner, context = parts_of(packed())  # type: ignore[misc]
    assert [n for n, _ in inner] == ["data_", "scale_"]
    assert context == {"group": 4}
    sparse = torch.eye(3).to_sparse()
    assert [n for n, _ in parts_of(sparse)[0]] == ["indices", "values"]  # type: ignore[index]
    rows = torch.eye(3).to_sparse_csr()
    assert [n for n, _ in parts_of(rows)[0]] == ["crow_indices", "col_indices", "values"]  # type: ignore[index]
    assert parts_of(torch.eye(3)) is None


def test_a_quantized_tensor_carries_its_scales_as_parts(head: Any) -> None:
    model = head()
    model.s = torch.quantize_per_channel(
        torch.ones(2, 3), torch.tensor([0.5, 0.25]), torch.tensor([0, 0]), 0, torch.qint8
    )
    assert {"#s", "#s::scales", "#s::zero_points"} < set(names(model))
    model.s = torch.quantize_per_tensor(torch.ones(2), 0.5, 3, torch.qint8)
    assert facts(model)["#s", "scalar"] == "torch.per_tensor_affine 0x1.0000000000000p-1 3"


def test_buffers_carry_their_persistence(head: Any) -> None:
    model = head()
    model.register_buffer("kept", torch.ones(1))
    model.register_buffer("passing", torch.ones(1), persistent=False)
    roles = {h.name: h.role for h in walk(model).held}
    assert (roles["kept"], roles["passing"]) == ("buffer", "non-persistent-buffer")


def test_shared_modules_and_tied_parameters_are_rows_of_their_own(head: Any) -> None:
    model = head()
    model.again = model.fc
    model.tied = torch.nn.Linear(4, 4, bias=False)
    model.tied.weight = model.fc.weight
    assert set(names(model)) == {"fc.weight", "fc.bias", "again.weight", "again.bias", "tied.weight"}
    assert facts(model)["again", "class"] == "the module at 'fc'"


def test_a_module_in_plain_state_is_walked_whole(head: Any) -> None:
    model = head()
    model.s = [torch.nn.Linear(2, 2), model.fc]
    assert {"#s[0].weight", "#s[0].bias"} < set(names(model))
    assert facts(model)["#s[1]", "class"] == "the module at 'fc'"


def test_cycles_end(head: Any) -> None:
    model = head()
    ring: list[Any] = [torch.ones(2)]
    ring.append(ring)
    box: dict[str, Any] = {"t": torch.ones(2)}
    box["self"] = box
    model.s, model.d, model.me = ring, box, model
    torch.Tensor.__setattr__(model.fc.weight, "own", model.fc.weight)
    found = walk(model)
    assert found.faults == ()
    assert {"#s[0]", "#d['t']", "fc.weight"} < {h.name for h in found.held}
    assert facts(model)["#s[1]", "class"] == "the object at '#s'"
    assert facts(model)["me", "class"] == "the module at ''"


def test_a_set_of_tensors_is_a_fault(head: Any) -> None:
    model = head()
    model.s = {torch.ones(1), "x"}
    (fault,) = walk(model).faults
    assert fault.subject == "#s"
    assert "set" in fault.detail
    assert "extra=" in fault.detail


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}, Holder, closure])
def test_deep_nesting_is_a_fault_and_no_silence(wrap: Any, head: Any) -> None:
    model, value = head(), torch.ones(1)
    for _ in range(MAX_DEPTH + 5):
        value = wrap(value)
    model.s = value
    found = walk(model)
    assert [h.name for h in found.held] == ["fc.weight", "fc.bias"]
    fault = found.faults[0]
    assert fault.subject.startswith("#s")
    assert f"deeper than {MAX_DEPTH} steps" in fault.detail


def test_very_deep_plain_values_are_a_fault_too(head: Any) -> None:
    model, value = head(), 1
    for _ in range(3000):
        value = [value]  # type: ignore[assignment]
    model.s = value
    assert any("deeper" in f.detail for f in walk(model).faults)


def test_a_key_without_a_stable_name_is_a_fault(head: Any) -> None:
    model = head()
    model.s = {object(): torch.ones(1)}
    (fault,) = walk(model).faults
    assert fault.subject == "#s"
    assert "key of type object" in fault.detail


def test_extra_tensors_are_named_by_the_caller(head: Any) -> None:
    found = {h.name: h.role for h in walk(head(), {"cache": torch.ones(2), "more": {"a": torch.ones(1)}}).held}
    assert (found["cache"], found["more['a']"]) == ("extra", "extra")


def test_names_must_be_nfc_and_unique(head: Any) -> None:
    model = head()
    model.s = {unicodedata.normalize("NFD", "\u00e9"): torch.ones(1)}
    (fault,) = TorchModel(model).snapshot().faults
    assert "normalisation form C" in fault.detail
    model.s = 1
    (fault,) = TorchModel(model, extra={"fc.weight": torch.ones(1)}).snapshot().faults
    assert (fault.subject, fault.detail) == ("fc.weight", "is the name of two tensors")
    model.register_buffer("s\ud800", torch.ones(1))
    assert "lone surrogate" in TorchModel(model).snapshot().faults[0].detail


def test_training_mode_is_reported_by_path(head: Any) -> None:
    model = head()
    model.fc.train()
    assert walk(model).training == ("fc",)


def test_scripted_modules_are_walked_with_their_constants() -> None:
    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(2, 2)
            self.scale = 3.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) * self.scale

    scripted = torch.jit.script(Scripted().eval())
    frozen = torch.jit.freeze(scripted)
    assert names(scripted) == ["fc.weight", "fc.bias"]
    held = walk(frozen).held
    assert {h.role for h in held} == {"constant"}
    assert len(held) == 2
    assert facts(scripted)["#scale", "scalar"] == "0x1.8000000000000p+1"


def test_the_walk_evaluates_no_property_and_calls_no_state_dict(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Touchy(type(head())):  # type: ignore[misc]
        @property
        def trap(self) -> None:
            raise AssertionError("a property was evaluated")

    monkeypatch.setattr(torch.nn.Module, "state_dict", lambda *_a, **_k: pytest.fail("state_dict was called"))
    monkeypatch.setattr(torch.nn.Module, "to", lambda *_a, **_k: pytest.fail("to was called"))
    assert names(Touchy()) == ["fc.weight", "fc.bias"]


# -- structure --------------------------------------------------------------------------------------------------------


def changed(model: torch.nn.Module, change: Any) -> set[str]:
    before = facts(model)
    change(model)
    after = facts(model)
    return {path for path, kind in before.keys() | after.keys() if before.get((path, kind)) != after.get((path, kind))}


def _hook(*_: Any) -> None:
    return None


CHANGES = {
    "scalar attribute": (lambda m: setattr(m, "gain", 2.0), "#gain"),
    "training mode": (lambda m: m.fc.train(), "fc"),
    "forward hook": (lambda m: m.fc.register_forward_hook(_hook), "fc#_forward_hooks[0]"),
    "forward pre-hook": (lambda m: m.register_forward_pre_hook(_hook), "#_forward_pre_hooks[0]"),
    "backward hook": (lambda m: m.register_full_backward_hook(_hook), "#_backward_hooks[0]"),
    "instance forward": (lambda m: setattr(m.fc, "forward", _hook), "fc#forward"),
    "wrapped module": (lambda m: setattr(m, "fc", torch.nn.Sequential(m.fc)), "fc"),
    "a hook in the clothes of our guard": (
        lambda m: m.register_forward_pre_hook(GuardHook(_hook), with_kwargs=True),
        "#_forward_pre_hooks[0]",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_the_model_changes_its_structure(kind: str, head: Any) -> None:
    change, path = CHANGES[kind]
    assert path in changed(head(), change)


def test_a_global_module_hook_changes_the_structure(head: Any) -> None:
    handles: list[Any] = []
    try:
        register = torch.nn.modules.module.register_module_forward_pre_hook
        found = changed(head(), lambda _m: handles.append(register(_hook)))
    finally:
        for handle in handles:
            handle.remove()
    assert "<process>#_global_forward_pre_hooks[0]" in found


def test_a_patch_at_class_level_changes_the_structure(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.nn.Linear.forward
    found = changed(head(), lambda _m: monkeypatch.setattr(torch.nn.Linear, "forward", lambda s, x: original(s, x) * 2))
    assert "<code>torch.nn.modules.linear.Linear" in found
    assert any("<lambda>" in path for path in found)


def test_two_methods_exchanged_change_the_structure(head: Any) -> None:
    class Two(type(head())):  # type: ignore[misc]
        gain = 1.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

        def other(self, x: torch.Tensor) -> torch.Tensor:
            return -self.fc(x)

    def exchange(_m: torch.nn.Module) -> None:
        Two.forward, Two.other = Two.other, Two.forward

    (path,) = changed(Two().eval(), exchange)
    assert path.endswith("Two")
    (path,) = changed(Two().eval(), lambda _m: setattr(Two, "gain", 2.0))
    assert path.endswith("Two")


def test_other_default_values_change_the_structure(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gained(type(head())):  # type: ignore[misc]
        def forward(self, x: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
            return self.fc(x) * gain

    found = changed(Gained().eval(), lambda m: monkeypatch.setattr(type(m).forward, "__defaults__", (2.0,)))
    assert any(path.startswith("<code>") and path.endswith("Gained.forward") for path in found)


@pytest.mark.parametrize("name", ["linear", "layer_norm"])
def test_a_patched_function_that_a_layer_calls_changes_the_structure(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(torch.nn.functional, name)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)).eval()
    found = changed(model, lambda _m: monkeypatch.setattr(torch.nn.functional, name, lambda *a, **k: original(*a, **k)))  # noqa: PLW0108
    assert any("<lambda>" in path for path in found)


def test_our_own_guard_does_not_change_the_structure(head: Any) -> None:
    from weighmaster.capture.torch_guard import install
    from weighmaster.flows.guard import Guard

    assert changed(head(), lambda m: install(m, Guard().check)) == set()
