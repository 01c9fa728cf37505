# SPDX-License-Identifier: Apache-2.0
"""Build a probe set for a TorchScript module from its graph: the first layer that takes the input says its shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch

from weighmaster.capture.probe_set import SEED, ProbeSet, from_examples

__all__ = ["script_probe"]

_LENGTH: Final = 16
"""Tokens per generated sequence."""

_SIDE: Final = 32
"""Pixels per side."""

_STEPS: Final = 16
"""Operators between the input and the first layer (casts, permutations) that are followed."""

_WEIGHT_AT: Final[dict[str, int]] = {
    "aten::_convolution": 1,
    "aten::conv1d": 1,
    "aten::conv2d": 1,
    "aten::conv3d": 1,
    "aten::embedding": 0,
    "aten::linear": 1,
}
"""Operators that say what they take, and the place of their weight among their inputs."""


def script_probe(module: Any) -> ProbeSet | None:
    """Return generated inputs, batch 1 and 2, or None where the graph does not say what the one input is.

    Args:
        module: a `torch.jit.ScriptModule`; frozen ones too, whose weights are constants of the graph.
    """
    try:
        graph = module.inlined_graph
    except RuntimeError:  # no forward
        return None
    given = list(graph.inputs())[1:]
    if len(given) != 1 or str(given[0].type()) != "Tensor":
        return None
    for node in graph.nodes():
        at = _WEIGHT_AT.get(node.kind())
        if at is None:
            continue
        operands = list(node.inputs())
        weight = _constant(operands[at], module)
        if weight is None or not _comes_from(operands[1 - at], given[0]):
            return None
        return _inputs(node, operands, weight)
    return None


def _inputs(node: Any, operands: list[Any], weight: torch.Tensor) -> ProbeSet | None:
    random = torch.Generator().manual_seed(SEED)
    if node.kind() == "aten::embedding":
        calls = [(torch.randint(0, weight.shape[0], (batch, _LENGTH), generator=random),) for batch in (1, 2)]
        return replace(from_examples(calls), kind="tokens", seed=SEED)
    shape = _shape(node, operands, weight)
    if shape is None or not weight.is_floating_point():
        return None
    calls = [(torch.randn((batch, *shape), generator=random).to(weight.dtype),) for batch in (1, 2)]
    return replace(from_examples(calls), kind="features", seed=SEED)


def _shape(node: Any, operands: list[Any], weight: torch.Tensor) -> tuple[int, ...] | None:
    if node.kind() == "aten::linear":
        return (int(weight.shape[1]),)
    transposed = node.kind() == "aten::_convolution" and bool(operands[6].toIValue())
    groups = operands[8 if node.kind() == "aten::_convolution" else 6].toIValue()
    if not isinstance(groups, int):
        return None
    channels = int(weight.shape[0]) if transposed else int(weight.shape[1]) * groups
    sides = weight.dim() - 2
    return (channels, *((4 * _SIDE,) if sides == 1 else (_SIDE,) * sides))


def _constant(value: Any, module: Any) -> torch.Tensor | None:
    """Return the tensor that a value of the graph stands for: a constant, or an attribute of the module."""
    names: list[str] = []
    node = value.node()
    while node.kind() == "prim::GetAttr":
        names.append(node.s("name"))
        node = node.inputsAt(0).node()
    if not names:
        held = value.toIValue()
    else:
        held = module
        for name in reversed(names):
            held = getattr(held, name, None)
    return held if isinstance(held, torch.Tensor) else None


def _comes_from(value: Any, given: Any) -> bool:
    for _ in range(_STEPS):
        if value.debugName() == given.debugName():
            return True
        first = next(iter(value.node().inputs()), None)
        if first is None:
            return False
        value = first
    return False
