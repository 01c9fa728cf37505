# SPDX-License-Identifier: Apache-2.0
"""The hook that stands before every forward pass of a guarded model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules import module as torch_module

from weighmaster.capture.torch_code import qualified_name

__all__ = ["GuardHook", "install", "is_guard"]


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
    """Put a `GuardHook` before all other hooks of `model`; return the function that takes it off.

    A scripted module takes no hooks of its own: there the hook stands before every module of the process, and asks for
    this one alone.
    """
    if isinstance(model, torch.jit.ScriptModule):
        everywhere = torch_module.register_module_forward_pre_hook(_OneModule(model, check))
        return everywhere.remove
    handle = model.register_forward_pre_hook(GuardHook(check), prepend=True, with_kwargs=True)
    return handle.remove


class _OneModule(GuardHook):
    """A process-wide hook that checks one module."""

    __slots__ = ("model",)

    def __init__(self, model: torch.nn.Module, check: Callable[[], None]) -> None:
        super().__init__(check)
        self.model = model

    def __call__(self, module: torch.nn.Module, *_args: Any) -> None:
        if module is self.model:
            self.check()


def is_guard(hook: object) -> bool:
    """Tell whether structure v1 leaves `hook` out: exactly our two classes, and only where they ask a `Guard`.

    A hook of ours around any other callable is a hook like all others.
    """
    if type(hook) not in (GuardHook, _OneModule):
        return False
    asked = getattr(getattr(hook, "check", None), "__func__", None)
    return qualified_name(asked) == "weighmaster.flows.guard.Guard.check"
