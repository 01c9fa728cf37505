# SPDX-License-Identifier: Apache-2.0
"""The hook that stands before every forward pass of a guarded model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["GuardHook", "install"]


class GuardHook:
    """A forward pre-hook that asks whether the pass may run. The structure does not list it; it changes no value."""

    __slots__ = ("check",)

    def __init__(self, check: Callable[[], None]) -> None:
        """Call `check` before each forward pass; it raises to block the pass."""
        self.check = check

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise what `check` raises; change nothing."""
        self.check()


def install(model: torch.nn.Module, check: Callable[[], None]) -> Callable[[], None]:
    """Put a `GuardHook` before all other hooks of `model`; return the function that takes it off."""
    handle = model.register_forward_pre_hook(GuardHook(check), prepend=True, with_kwargs=True)
    return handle.remove
