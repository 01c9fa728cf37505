# SPDX-License-Identifier: Apache-2.0
"""Digest the outputs of a model's leaf modules in the order in which they run, to say where two runs part.

A forward hook changes no bit of an eager forward pass. It sees module boundaries alone: what the code of a module with
children computes between them (attention, residual sums) shows in the next leaf module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import torch
from torch.utils._pytree import tree_leaves

from weighmaster.capture.torch_storage import dtype_name
from weighmaster.capture.torch_trace import value_digest

__all__ = ["ModuleOutput", "ModuleTrace", "TracedOutput", "first_divergence", "subsystem"]

_ATTENTION_OUTPUT: Final = ("o_proj", "out_proj", "c_proj", "dense", "wo")
"""Names of the projection that follows attention: it is the first leaf module that sees another attention backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleOutput:
    """One output tensor of one execution of a leaf module.

    Attributes:
        index: place in the order of execution, from 0.
        module: path below the model; empty for the model itself.
        kind: class of the module.
        dtype: of the output.
        shape: of the output.
        sha256: over its elements, row-major, little-endian.
        absmax: largest magnitude; NaN where any element is.
        l2: Euclidean norm, computed in float64.
    """

    index: int
    module: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    absmax: float
    l2: float


class ModuleTrace:
    """Forward hooks on every leaf module, for the time of a ``with`` block."""

    def __init__(self, model: torch.nn.Module, *, keep: bool = False) -> None:
        """Prepare hooks on `model`; with `keep`, float64 copies of the outputs are kept in `values`."""
        self._model, self._keep = model, keep
        self._handles: list[Any] = []
        self.outputs: list[ModuleOutput] = []
        self.values: list[torch.Tensor] = []

    def __enter__(self) -> Self:
        """Register the hooks."""
        for path, module in self._model.named_modules():
            if next(module.children(), None) is None:
                self._handles.append(module.register_forward_hook(self._hook(path)))
        return self

    def __exit__(self, *_: object) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, path: str) -> Callable[..., None]:
        def record(module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            for tensor in tree_leaves(output):
                if isinstance(tensor, torch.Tensor):
                    self._record(path, type(module).__name__, tensor.detach())

        return record

    def _record(self, path: str, kind: str, tensor: torch.Tensor) -> None:
        wide = tensor.to(torch.float64)
        self.outputs.append(
            ModuleOutput(
                index=len(self.outputs),
                module=path,
                kind=kind,
                dtype=dtype_name(tensor),
                shape=tuple(tensor.shape),
                sha256=value_digest(tensor),
                absmax=float(wide.abs().max()) if wide.numel() else 0.0,
                l2=float(wide.norm()) if wide.numel() else 0.0,
            )
        )
        if self._keep:
            self.values.append(wide.clone())


class TracedOutput(Protocol):
    """An output of a leaf module, of this run or of a recorded one, as far as two are compared."""

    @property
    def module(self) -> str:
        """Path below the model."""

    @property
    def dtype(self) -> str:
        """Of the output."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output."""

    @property
    def sha256(self) -> str:
        """Over its elements."""


def first_divergence(before: Sequence[TracedOutput], after: Sequence[TracedOutput]) -> int | None:
    """Return the place of the first output that differs in module, form or digest; None where both are the same."""
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        if (one.module, one.dtype, one.shape, one.sha256) != (other.module, other.dtype, other.shape, other.sha256):
            return index
    return None if len(before) == len(after) else min(len(before), len(after))


def subsystem(kind: str, module: str) -> str:
    """Return what computes the output of a leaf module of this class and path, in words.

    Measured: another ATen capability shows first in a normalisation, another GEMM library in the first projection,
    another attention backend in the projection after attention, another oneDNN in an activation.
    """
    name, lower = module.rsplit(".", 1)[-1], kind.lower()
    if "norm" in lower:
        return "normalisation kernels of ATen (CPU capability)"
    if "embedding" in lower:
        return "weights or inputs: a look-up computes nothing"
    if any(word in lower for word in ("gelu", "silu", "relu", "activation", "swish", "tanh", "sigmoid", "mish")):
        return "activation kernels (oneDNN, ATen)"
    if any(word in lower for word in ("linear", "conv", "linear4bit", "linear8bit")):
        attention = name in _ATTENTION_OUTPUT and ("attn" in module or "attention" in module)
        return "attention backend" if attention else "GEMM library (MKL, oneDNN, cuBLAS) or its threads"
    return f"kernels of {kind}"
