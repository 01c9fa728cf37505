# SPDX-License-Identifier: Apache-2.0
"""The capture reads a live module and changes nothing; mapped storages are found and made private in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from weighmaster.capture.probe_set import from_examples
from weighmaster.capture.torch_model import TorchModel
from weighmaster.errors import StageFault, UsageError

X = torch.ones(2, 3, 32, 32)


@pytest.fixture
def mapped(small: Callable[[], torch.nn.Module], tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    """A model whose tensors are still mapped to its checkpoint."""
    path = tmp_path / "model.safetensors"
    save_file(small().state_dict(), path)
    model = small()
    model.load_state_dict(load_file(path), assign=True)
    return model.eval(), path


def edit(path: Path) -> None:
    """Change the last byte of every kilobyte, in place."""
    with path.open("r+b") as file:
        for at in range(4096, path.stat().st_size, 1024):
            file.seek(at)
            file.write(b"\x5a")


def test_a_module_is_needed() -> None:
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module, found builtins\.dict"):
        TorchModel({})  # type: ignore[arg-type]


def test_views_are_sorted_by_name_in_utf8_order(head: Any) -> None:
    model = head()
    model.register_buffer("\U0001f600", torch.ones(1))
    model.register_buffer("\uffe5", torch.ones(1))
    names = [v.name for v in TorchModel(model).snapshot().views]
    assert names == ["fc.bias", "fc.weight", "\uffe5", "\U0001f600"]


def test_excluded_tensors_stand_apart(head: Any) -> None:
    model = head()
    model.register_buffer("cache", torch.ones(7))
    found = TorchModel(model, excluded={"cache": "kv-cache"}).snapshot()
    assert [v.name for v in found.excluded] == ["cache"]
    assert "cache" not in {v.name for v in found.views}


@pytest.mark.requirement("REQ-CAP-04")
def test_a_parameter_of_zero_elements_is_a_fault(head: Any) -> None:
    model = head()
    model.fc.weight = torch.nn.Parameter(torch.empty(0, 4))
    (fault,) = TorchModel(model).snapshot().faults
    assert (fault.subject, fault.found) == ("fc.weight", "shape [0, 4]")
    assert "zero elements" in fault.detail


def test_a_gappy_tensor_needs_to_be_named_for_a_copy(head: Any) -> None:
    model = head()
    model.gap = torch.arange(8)[::2]
    (fault,) = TorchModel(model).snapshot().faults
    assert fault.subject == "#gap"
    found = TorchModel(model, materialize=("#gap",)).snapshot()
    assert found.faults == ()
    assert next(v for v in found.views if v.name == "#gap").layout == "materialized-v1"


def test_mapped_storages_are_found_with_tensor_and_file(mapped: tuple[torch.nn.Module, Path]) -> None:
    model, path = mapped
    found = dict(TorchModel(model).mapped())
    assert set(found.values()) == {str(path)}
    assert {"up.weight", "down.weight", "conv.weight", "bn.running_mean"} <= set(found)


def test_an_edit_of_the_file_reaches_a_mapped_model(mapped: tuple[torch.nn.Module, Path]) -> None:
    model, path = mapped
    before = model.up.weight.clone()
    edit(path)
    assert not torch.equal(model.up.weight, before), "if this fails, the loader copies and these tests test nothing"


@pytest.mark.requirement("REQ-CAP-07")
def test_private_keeps_addresses_and_bytes_and_cuts_the_file_off(
    mapped: tuple[torch.nn.Module, Path], digest_of: Callable[[torch.Tensor], str]
) -> None:
    model, path = mapped
    addresses = {n: t.data_ptr() for n, t in model.state_dict().items()}
    before = {n: digest_of(t) for n, t in model.state_dict().items()}
    outputs = model(X)
    live = TorchModel(model)
    assert live.privatize("private") == ("private", ())
    assert live.mapped() == ()
    edit(path)
    assert {n: t.data_ptr() for n, t in model.state_dict().items()} == addresses
    assert {n: digest_of(t) for n, t in model.state_dict().items()} == before
    assert torch.equal(model(X), outputs)


def test_refuse_names_each_tensor_and_the_file(mapped: tuple[torch.nn.Module, Path]) -> None:
    model, path = mapped
    method, faults = TorchModel(model).privatize("refuse")
    assert method == "none"
    assert {"up.weight", "down.weight"} <= {f.subject for f in faults}
    assert {f.found for f in faults} == {str(path)}
    assert all(isinstance(f, StageFault) and "still mapped to a file" in f.detail for f in faults)


def test_first_leaves_the_mapping(mapped: tuple[torch.nn.Module, Path]) -> None:
    live = TorchModel(mapped[0])
    assert live.privatize("first") == ("first", ())
    assert live.mapped()


def test_a_model_in_memory_of_its_own_is_not_touched(small: Callable[[], torch.nn.Module]) -> None:
    assert TorchModel(small()).privatize("refuse") == ("none", ())


def test_compiled_modules_are_not_traceable(small: Callable[[], torch.nn.Module]) -> None:
    model = small()
    assert TorchModel(model).traceable()
    assert not TorchModel(torch.compile(model)).traceable()
    model.compile()
    assert not TorchModel(model).traceable()


def test_the_random_state_is_as_before_after_a_run(small: Callable[[], torch.nn.Module]) -> None:
    noisy = torch.nn.Sequential(small(), torch.nn.Dropout(0.5))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    TorchModel(noisy).run(from_examples(X))
    assert torch.equal(torch.rand(1), expected)
