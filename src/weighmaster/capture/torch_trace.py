# SPDX-License-Identifier: Apache-2.0
"""Trace a forward pass below autograd: which memory do operators read that no operator of the pass made?

This is the second, independent method beside the walk. It sees what the dispatcher sees. It does not see: memory that a
kernel reads through a raw pointer or behind an opaque handle, other threads, CUDA graphs, and code paths that the probe
set does not reach.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from weighmaster.capture.torch_parts import parts_of
from weighmaster.capture.torch_plain import plain_text
from weighmaster.capture.torch_storage import dtype_name, memory_extent, unreadable
from weighmaster.core.tensor import Extent

__all__ = ["Consumed", "Literal", "Opaque", "Trace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """Memory that an operator read and none of the pass made.

    Attributes:
        extent: first to last byte that the operand addresses.
        dtype: of the operand.
        shape: of the operand.
        stride: of the operand.
        operator: the first operator that read it, such as ``aten.addmm.default``.
        module: path of the module in whose forward it was read; empty for the model itself.
    """

    extent: Extent
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    operator: str
    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """An operand whose bytes cannot be read: operator, module and reason."""

    operator: str
    module: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A tensor written as a literal in code (it reaches ``aten.lift_fresh``), by value."""

    module: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class is not annotated
    """Collects what one probe run consumes. Use as a context manager around the run.

    Attributes:
        consumed: by (extent, shape, stride), in the order of first use.
        opaque: operands that cannot be read.
        empty: operands of zero elements that no operator made.
        literals: in the order of use.
    """

    def __init__(
        self,
        paths: dict[int, str],
        inputs: tuple[torch.Tensor, ...],
        survivors: frozenset[int] = frozenset(),
        is_held: Callable[[Extent], bool] = lambda _extent: True,
    ) -> None:
        """Prepare a trace.

        Args:
            paths: id of each module to its path.
            inputs: the tensors of the probe set: reading them is no consumption.
            is_held: tells whether named tensors hold an extent; what none holds is taken by value too (`settle`).
            survivors: storages that an earlier pass made and that outlived it (`survivors` of that trace): they are
                state, whoever hands them out.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.consumed: dict[tuple[object, ...], Consumed] = {}
        self.opaque: list[Opaque] = []
        self.empty: list[Consumed] = []
        self.literals: list[Literal] = []
        self._paths = paths
        self._inputs = inputs  # held, so that their storages stay theirs
        self._given = {t.untyped_storage()._cdata for t in inputs if not unreadable(t)}
        self._earlier = survivors
        self._is_held = is_held
        self._passing: list[tuple[Any, tuple[object, ...], int]] = []
        self._noted: set[tuple[int, tuple[object, ...]]] = set()
        self._made: dict[int, Any] = {}
        self._literal: dict[int, Any] = {}
        self._stack: list[str] = []
        self._handles: list[Any] = []
        self._program = hashlib.sha256()
        self.operators = 0

    # -- context ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._handles = [
            torch_module.register_module_forward_pre_hook(self._enter_module),
            torch_module.register_module_forward_hook(self._leave_module, always_call=True),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def _enter_module(self, module: torch.nn.Module, _args: object) -> None:
        self._stack.append(self._paths.get(id(module), type(module).__qualname__))

    def _leave_module(self, _module: torch.nn.Module, _args: object, _output: object) -> None:
        if self._stack:
            self._stack.pop()

    @property
    def program(self) -> str:
        """SHA-256 over the sequence of operators with the types and shapes of their operands and their scalars."""
        return self._program.hexdigest()

    def survivors(self) -> frozenset[int]:
        """Return the storages that this pass made and that are still alive; call it when its outputs are dropped."""
        return frozenset(key for key, ref in self._made.items() if not ref.expired())

    # -- dispatch -----------------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        operands = [t for a in tree_leaves((args, keywords)) if isinstance(a, torch.Tensor) for t in _plain(a)]
        self._record_program(func, args, keywords)
        if any(_is_composite(a) for a in tree_leaves((args, keywords))):
            return NotImplemented  # the composite tensor computes next, and its operators on plain ones are traced
        # A storage given as such (set_ in torch.load, or by hand) was made by no operator either: what is read through
        # the tensor that gets it is a read of foreign memory.
        given = (a for a in tree_leaves((args, keywords)) if isinstance(a, torch.UntypedStorage))
        before = {_storage(t) for t in operands} | {int(s._cdata) for s in given}
        if "lift_fresh" in func.name() and "copy" not in func.name():
            self._record_literals(operands)
        elif not func.is_view:
            self._record_reads(func, operands)
        result = func(*args, **keywords)
        self._record_made(func, result, before)
        return result

    def _record_reads(self, func: Any, operands: list[torch.Tensor]) -> None:
        for tensor in operands:
            key = _storage(tensor)
            if key is None:
                reason = unreadable(tensor) or "has no storage"
                self.opaque.append(Opaque(operator=str(func), module=self._module, reason=reason))
            elif key not in self._made and key not in self._given and key not in self._literal:
                self._consume(func, tensor)

    def _consume(self, func: Any, tensor: torch.Tensor) -> None:
        extent = memory_extent(tensor)
        shape, stride = tuple(tensor.shape), tuple(tensor.stride())
        entry = Consumed(
            extent=extent,
            dtype=dtype_name(tensor),
            shape=shape,
            stride=stride,
            operator=str(func),
            module=self._module,
        )
        key = (extent, shape, stride)
        if extent.nbytes == 0:
            self.empty.append(entry)
            return
        self.consumed.setdefault(key, entry)
        storage = tensor.untyped_storage()
        # By storage too: where one literal was freed, another may stand at the same address.
        if (int(storage._cdata), key) not in self._noted and storage.resizable() and not self._is_held(extent):
            self._noted.add((int(storage._cdata), key))
            self._passing.append((_weak(storage), key, len(self.literals)))
            self._add_literal(tensor)

    def settle(self) -> None:
        """Tell literals from state, once the outputs of the run are dropped.

        TorchScript makes its literals below the dispatcher. Memory without a name that is gone with the run was such a
        one, and stands among the literals by value; what outlives the run is state, and stays consumed.
        """
        stayed = {key for reference, key, _ in self._passing if not reference.expired()}
        outlived = {index for reference, _, index in self._passing if not reference.expired()}
        for _, key, _ in self._passing:
            if key not in stayed:
                self.consumed.pop(key, None)
        self.literals = [lit for i, lit in enumerate(self.literals) if i not in outlived]
        self._passing = []

    def _add_literal(self, tensor: torch.Tensor) -> None:
        self.literals.append(
            Literal(
                module=self._module,
                dtype=dtype_name(tensor),
                shape=tuple(tensor.shape),
                sha256=value_digest(tensor),
            )
        )

    def _record_literals(self, operands: list[torch.Tensor]) -> None:
        """Take a fresh tensor by value; memory that belongs to somebody else (an array, a buffer) stays a read."""
        for tensor in operands:
            key = _storage(tensor)
            if key is None or key in self._made or key in self._given or key in self._literal:
                continue
            storage = tensor.untyped_storage()
            if storage.resizable():
                self._literal[key] = _weak(storage)
                self._add_literal(tensor)

    def _record_made(self, func: Any, result: Any, before: set[int | None]) -> None:
        for tensor in (t for a in tree_leaves(result) if isinstance(a, torch.Tensor) for t in _plain(a)):
            key = _storage(tensor)
            if key is None or key in before or key in self._given or key in self._literal or key in self._made:
                continue
            if key in self._earlier:
                self._consume(func, tensor)
            else:
                self._made[key] = _weak(tensor.untyped_storage())

    def _record_program(self, func: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        parts = [str(func)]
        for leaf in tree_leaves((args, keywords)):
            if isinstance(leaf, torch.Tensor):
                parts.append(f"{dtype_name(leaf)}{list(leaf.shape)}")
            else:
                parts.append(plain_text(leaf) or type(leaf).__qualname__)
        self._program.update(" ".join(parts).encode("utf-8", "surrogatepass") + b"\n")
        self.operators += 1

    @property
    def _module(self) -> str:
        return self._stack[-1] if self._stack else ""


def value_digest(tensor: torch.Tensor) -> str:
    """Return SHA-256 of the tensor's elements, row-major, little-endian."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if plain.numel() == 0:
        return hashlib.sha256().hexdigest()
    flat = torch.empty(0, dtype=torch.uint8)
    size = plain.numel() * plain.element_size()
    flat.set_(plain.untyped_storage(), plain.storage_offset() * plain.element_size(), (size,), (1,))
    return hashlib.sha256(flat.numpy().data).hexdigest()


def _weak(storage: torch.UntypedStorage) -> Any:
    """Return a weak reference that keeps the identity of a storage from being given again, not its bytes."""
    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]  # torch's class is not annotated


def _is_composite(value: object) -> bool:
    return isinstance(value, torch.Tensor) and is_traceable_wrapper_subclass(value)


def _plain(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    parts = parts_of(tensor)
    if parts is None:
        yield tensor
    else:
        for _, part in parts[0]:
            yield from _plain(part)


def _storage(tensor: torch.Tensor) -> int | None:
    """Return the identity of a tensor's storage; the trace holds weak references, so that none is given twice."""
    if unreadable(tensor):
        return None
    return int(tensor.untyped_storage()._cdata)
