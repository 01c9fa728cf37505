# SPDX-License-Identifier: Apache-2.0
"""``module:callable``: what it may return, and every way in which it goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from weighmaster.capture.callables import call_for_model
from weighmaster.capture.open_model import open_model
from weighmaster.errors import KeyFault, StageFault, UsageError
from weighmaster.flows.weigh import weigh

SOURCE = """
import torch
from weighmaster.errors import KeyFault

def make():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 4).eval()

def with_examples():
    return make(), {"input": torch.ones(2, 4)}

def program():
    return torch.export.export(make(), (torch.ones(1, 4),))

def program_with_examples():
    return program(), torch.full((1, 4), 3.0)

def trained():
    return torch.export.export(torch.nn.Dropout().train(), (torch.ones(1, 4),))

def raises():
    raise RuntimeError("no weights today")

def raises_ours():
    raise KeyFault("the key is gone")

def nothing():
    return None

def three():
    return make(), 1, 2

def wants(argument):
    return make()

def lazy():
    import wm_lazy_part
    return wm_lazy_part.make()

class Factory:
    @staticmethod
    def build():
        return make()

live = make()
number = 3
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "wm_models.py").write_text(SOURCE)
    (tmp_path / "wm_lazy_part.py").write_text("from wm_models import make\n")
    (tmp_path / "wm_broken.py").write_text("raise ValueError('half written')\n")
    (tmp_path / "wm_needs.py").write_text("import wm_not_installed\n")
    monkeypatch.chdir(tmp_path)
    yield
    for name in [n for n in sys.modules if n.startswith("wm_")]:
        del sys.modules[name]


def message(spec: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        open_model(spec)
    return caught.value


def test_a_module_is_taken_as_it_is() -> None:
    opened = open_model("wm_models:make")
    assert (opened.loader, opened.source, opened.faults, opened.probe) == ("callable", None, (), "auto")
    assert isinstance(opened.model, torch.nn.Linear)


def test_examples_come_with_the_model() -> None:
    opened = open_model("wm_models:with_examples")
    assert isinstance(opened.probe, dict)
    before = opened.model(torch.ones(2, 4))
    manifest = weigh(opened.model, product="p", version="1", serial=1, example_inputs=opened.probe)
    coverage = manifest.statement.coverage
    assert coverage is not None
    assert coverage.consumed_bytes == coverage.consumed_hashed_bytes == 80
    assert torch.equal(before, opened.model(torch.ones(2, 4)))


def test_a_program_gives_its_module_and_examples() -> None:
    model, probe, faults = call_for_model("wm_models:program")
    assert isinstance(model, torch.fx.GraphModule)
    assert faults == ()
    assert isinstance(probe, tuple)
    assert torch.equal(probe[0], torch.ones(1, 4))


def test_given_examples_go_before_those_of_a_program() -> None:
    _, probe, _ = call_for_model("wm_models:program_with_examples")
    assert isinstance(probe, torch.Tensor)
    assert torch.equal(probe, torch.full((1, 4), 3.0))


def test_a_program_in_training_mode_is_a_fault() -> None:
    (fault,) = open_model("wm_models:trained").faults
    assert type(fault) is StageFault
    assert fault.found == "training mode"


@pytest.mark.parametrize("spec", ["wm_models:Factory.build", "wm_models:lazy"])
def test_dotted_and_lazily_imported(spec: str) -> None:
    assert isinstance(open_model(spec).model, torch.nn.Linear)


def test_the_path_is_put_back() -> None:
    before = list(sys.path)
    open_model("wm_models:make")
    message("wm_models:raises")
    message("wm_broken:make")
    assert sys.path == before


def test_a_file_of_that_name_goes_first(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "wm_models:make")
    assert "a checkpoint of tensors has no model" in str(message("wm_models:make"))


def test_no_such_module() -> None:
    error = message("wm_absent:make")
    assert "wm_absent:make: no module named 'wm_absent'" in str(error)
    assert isinstance(error.__cause__, ModuleNotFoundError)


def test_no_such_submodule() -> None:
    assert "no module named 'wm_models.sub'" in str(message("wm_models.sub:make"))


def test_a_module_that_needs_another() -> None:
    error = message("wm_needs:make")
    assert "module 'wm_needs' needs 'wm_not_installed', which is not installed" in str(error)


def test_a_module_that_raises_on_import() -> None:
    error = message("wm_broken:make")
    assert "wm_broken:make: the import raised ValueError: half written" in str(error)
    assert isinstance(error.__cause__, ValueError)


def test_no_such_attribute() -> None:
    error = message("wm_models:absent")
    assert "module 'wm_models' has no attribute 'absent'" in str(error)
    assert isinstance(error.__cause__, AttributeError)


def test_not_callable() -> None:
    assert "wm_models:number: expected a callable, found int" in str(message("wm_models:number"))


def test_a_live_model_is_no_callable() -> None:
    assert "wm_models:live: is a model itself" in str(message("wm_models:live"))


def test_it_raises() -> None:
    error = message("wm_models:raises")
    assert "wm_models:raises: the call raised RuntimeError: no weights today" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


def test_it_wants_arguments() -> None:
    error = message("wm_models:wants")
    assert "the call raised TypeError" in str(error)
    assert "argument" in str(error)


def test_our_own_errors_pass() -> None:
    with pytest.raises(KeyFault, match="the key is gone"):
        open_model("wm_models:raises_ours")


@pytest.mark.parametrize(("name", "found"), [("nothing", "builtins.NoneType"), ("three", "builtins.tuple")])
def test_it_returns_something_else(name: str, found: str) -> None:
    text = str(message(f"wm_models:{name}"))
    assert "expected the call to return a torch.nn.Module" in text
    assert text.endswith(f"found {found}")


@pytest.mark.parametrize("spec", [":", "a:", ":b", "a:b:c", "a-b:c", "https://host/model", "a:b()", "os:system('x')"])
def test_what_is_no_such_name(spec: str) -> None:
    assert "expected module:callable" in str(message(spec))
