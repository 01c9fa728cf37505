# SPDX-License-Identifier: Apache-2.0
"""The guard hook stands first, asks before every pass, and nothing else may wear its clothes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from weighmaster.capture.torch_guard import GuardHook, install, is_guard
from weighmaster.flows.guard import Guard


class Stop(Exception):
    pass


def stop() -> None:
    raise Stop


def test_it_asks_before_every_pass_and_before_other_hooks(head: Any) -> None:
    model, order = head(), []
    model.register_forward_pre_hook(lambda *_: order.append("other"))
    remove = install(model, lambda: order.append("guard"))
    model(torch.ones(1, 4))
    model(torch.ones(1, 4))
    assert order == ["guard", "other"] * 2
    remove()
    model(torch.ones(1, 4))
    assert order == ["guard", "other"] * 2 + ["other"]


def test_what_it_raises_blocks_the_pass(head: Any) -> None:
    model = head()
    install(model, stop)
    with pytest.raises(Stop):
        model(torch.ones(1, 4))
    with pytest.raises(Stop):
        model(x=torch.ones(1, 4))


def test_it_changes_no_argument(head: Any) -> None:
    model = head()
    expected = model(torch.ones(1, 4))
    install(model, lambda: None)
    assert torch.equal(model(torch.ones(1, 4)), expected)


def test_a_scripted_module_is_guarded_and_no_other(head: Any) -> None:
    scripted, other = torch.jit.script(head()), head()
    remove = install(scripted, stop)
    try:
        with pytest.raises(Stop):
            scripted(torch.ones(1, 4))
        other(torch.ones(1, 4))
    finally:
        remove()
    scripted(torch.ones(1, 4))


def test_only_our_hooks_around_a_guard_are_ours() -> None:
    class Derived(GuardHook):
        pass

    assert is_guard(GuardHook(Guard().check))
    assert not is_guard(GuardHook(stop))
    assert not is_guard(Derived(Guard().check))
    assert not is_guard(stop)
