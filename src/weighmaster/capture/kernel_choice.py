# SPDX-License-Identifier: Apache-2.0
"""Which implementation a Hugging Face model calls where its configuration leaves a choice: attention, by registry."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import torch

from weighmaster.capture.torch_code import qualified_name

__all__ = ["attention_choices"]


def attention_choices(model: torch.nn.Module) -> Iterator[tuple[str, str, types.FunctionType | None]]:
    """Yield (module path, implementation, function) wherever a configuration names an attention implementation.

    The function is looked up in transformers' registry at the time of the call, as the model does; a name that is not
    there belongs to the model's own code, which is digested with its class.
    """
    registry: Any = getattr(sys.modules.get("transformers.modeling_utils"), "ALL_ATTENTION_FUNCTIONS", {})
    seen: set[int] = set()
    for path, module in model.named_modules():
        config = vars(module).get("config")
        if id(config) in seen:
            continue
        seen.add(id(config))
        name = getattr(config, "_attn_implementation", None)
        if isinstance(name, str):
            function = registry.get(name) if hasattr(registry, "get") else None
            shown = f"attention {name} {qualified_name(function) if callable(function) else '(of the class)'}"
            yield path, shown, function if isinstance(function, types.FunctionType) else None
