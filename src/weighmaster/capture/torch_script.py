# SPDX-License-Identifier: Apache-2.0
"""Read what TorchScript keeps out of Python's sight: graphs as text, and the tensors that they hold as constants."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

import torch

__all__ = ["compiled_constants", "graph_text", "script_constants"]

_POSITION: Final = re.compile(r" # [^#\"]*:\d+:\d+$")
_MANGLED: Final = re.compile(r"(?<=\.)___torch_mangle_\d+\.")


def graph_text(graph: Any) -> str:
    """Return a graph as text, without source positions, and without the counts of compiled types of the process."""
    lines = (_POSITION.sub("", line).rstrip() for line in str(graph).splitlines())
    return _MANGLED.sub("", "\n".join(lines))


def compiled_constants(module: Any) -> list[torch.Tensor]:
    """Return the constants that the executor of TorchScript folded into its plans, ordered by their values.

    Plans are kept by input signature, in no stable order, so the value is what orders them.
    """
    plans: list[Any] = []
    with contextlib.suppress(RuntimeError):  # no forward, or not executed yet: there is no plan
        plans = list(module._c.get_debug_state().execution_plans.values())
    declared = {
        t.data_ptr() for m in module._c._method_names() for t in script_constants(module._c._get_method(m).graph)
    }
    folded = {t.data_ptr(): t for plan in plans for t in script_constants(plan.graph)}
    constants = [t for address, t in folded.items() if address not in declared]
    return sorted(constants, key=lambda t: (str(t.dtype), tuple(t.shape), _elements(t)))


def _elements(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes())


def script_constants(graph: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors that a graph holds as constants: frozen weights are among them."""
    for node in graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            yield node.t("value")
        elif node.hasAttribute("value") and node.kindOf("value") == "ts":
            yield from node.ts("value")
