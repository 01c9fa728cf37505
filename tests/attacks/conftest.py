# SPDX-License-Identifier: Apache-2.0
"""A model with one of everything that an attacker would reach for, and a way to ask what a refusal names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from weighmaster.errors import NotAdmitted

X = torch.arange(8.0).reshape(2, 4)


class Target(torch.nn.Module):
    """Two layers of one shape, a tie, a table of codes, a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.tied = torch.nn.Linear(4, 4, bias=False)
        self.tied.weight = self.first.weight
        self.register_buffer("codes", torch.tensor([1, 200, 3, 4], dtype=torch.uint8))
        self.gain = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.second(torch.relu(self.first(x)))) * self.codes.float() * self.gain

    def other(self, x: torch.Tensor) -> torch.Tensor:
        return -x


@pytest.fixture
def target() -> Callable[[], torch.nn.Module]:
    def make() -> torch.nn.Module:
        torch.manual_seed(0)
        return Target().eval()

    return make


@pytest.fixture
def guarded(target: Any, sealed: Any) -> tuple[torch.nn.Module, Any]:
    """An admitted model that is guarded, in the middle of a re-verification cycle."""
    model = target()
    admission = sealed(target(), example_inputs=X).admit(model)
    admission.guard(model)
    admission.recheck(nbytes=1)
    return model, admission


@pytest.fixture
def weighed(target: Any, sealed: Any) -> Any:
    return sealed(target(), example_inputs=X)


@pytest.fixture
def stopped() -> Callable[..., list[str]]:
    """Return what a refusal names: of `act`, which must be refused with `code`."""

    def subjects(act: Callable[[], object], code: int) -> list[str]:
        with pytest.raises(NotAdmitted) as caught:
            act()
        assert caught.value.exit_code == code
        return [f.subject for f in caught.value.faults]

    return subjects
