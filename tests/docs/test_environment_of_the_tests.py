# SPDX-License-Identifier: Apache-2.0
"""The tests run on what the set-up says: a CPU build of PyTorch, and the pinned versions."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PINS = dict(
    line.split("==", 1)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def test_torch_is_a_cpu_build():
    assert torch.version.cuda is None


@pytest.mark.parametrize("name", sorted(PINS))
def test_the_pinned_version_is_installed(name):
    assert version(name) == PINS[name]


def test_every_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    entries = [line for line in block.splitlines() if line.strip().startswith('"') and "weighmaster[" not in line]
    assert len(entries) > 10
    assert [line for line in entries if "#" not in line] == []
