# SPDX-License-Identifier: Apache-2.0
"""The shipped suites, run on the adapters and engines that exist, and on ones with a defect."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.errors import NotWeighed
from weighmaster.testing import CaptureSuite, EngineSuite


def convnet():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    ).eval()


class TestHashlibOneThread(EngineSuite):
    def make_engine(self):
        return HashlibEngine(threads=1)


class TestHashlibThreads(EngineSuite):
    def make_engine(self):
        return HashlibEngine(threads=3)


class TestConvnet(CaptureSuite):
    def make_model(self):
        return convnet()


class TestScripted(CaptureSuite):
    example = torch.ones(1, 3, 8, 8)

    def make_model(self):
        return torch.jit.script(convnet())


class TestExported(CaptureSuite):
    example = torch.ones(2, 3, 8, 8)

    def make_model(self):
        return torch.export.export(convnet(), (torch.ones(2, 3, 8, 8),)).module()


class WrongLeaves(HashlibEngine):
    """Hashes the wrong bytes in the last leaf of large tensors."""

    def digest(self, views, *, wanted="both", progress=None):
        out = super().digest(views, wanted=wanted, progress=progress)
        return tuple(dataclasses.replace(d, fsverity64k="0" * 64) if len(d.leaves) > 32 else d for d in out)


@pytest.mark.requirement("REQ-DIG-02")
def test_the_engine_suite_finds_a_wrong_engine():
    class Suite(EngineSuite):
        def make_engine(self):
            return WrongLeaves(threads=1)

    with pytest.raises(AssertionError, match="t65537"):
        Suite().test_both_digests_are_those_of_the_reference()


def test_the_capture_suite_finds_a_model_that_changes_while_it_runs():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return self.linear(x) + 0 * self.calls

    class Suite(CaptureSuite):
        def make_model(self):
            return Counting().eval()

    with pytest.raises(NotWeighed) as halt:
        Suite().test_every_consumed_byte_is_in_the_table()
    assert "calls: is not steady: it changed while the probe set ran (bytes differ" in str(halt.value)
