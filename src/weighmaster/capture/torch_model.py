# SPDX-License-Identifier: Apache-2.0
"""A live torch module as Weighmaster sees it: snapshots, probe runs, traces, mapped storages."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from weighmaster.capture import torch_storage
from weighmaster.capture.port import MappedPolicy, Snapshot, Traced
from weighmaster.capture.probe_set import ProbeSet, output_tensors
from weighmaster.capture.torch_coverage import Intervals, coverage_of, naive_extents
from weighmaster.capture.torch_plain import long_value
from weighmaster.capture.torch_storage import mapped_ranges, memory_extent, tensor_view
from weighmaster.capture.torch_trace import Trace, value_digest
from weighmaster.capture.torch_walk import Held, Walk, walk
from weighmaster.core.structure import StructureFact
from weighmaster.core.tensor import Extent, TensorView
from weighmaster.errors import Fault, StageFault, UsageError

__all__ = ["Module", "TorchModel"]

Module: TypeAlias = torch.nn.Module
"""The live model, as the floors above name its type without importing torch."""


class TorchModel:
    """The capture of one live `torch.nn.Module`. It reads; only `privatize` replaces pages, and never their bytes.

    Attributes:
        model: the module itself, never a copy.
        loader: name of this adapter, for the manifest's method.
    """

    loader = "torch-module"
    warm_ups = 3
    """Probe runs before the first snapshot: the profiling executor of TorchScript settles in its third run."""

    def __init__(
        self,
        model: object,
        *,
        extra: Mapping[str, Any] | None = None,
        materialize: tuple[str, ...] = (),
        excluded: Mapping[str, str] | None = None,
    ) -> None:
        """Capture `model`.

        Args:
            model: live module, on any device, in evaluation mode.
            extra: tensors that kernels consume and no walk reaches, by name.
            materialize: names of tensors that may be copied because they have gaps or overlaps.
            excluded: name of each excluded tensor to its reason.

        Raises:
            UsageError: `model` is no module.
        """
        if not isinstance(model, torch.nn.Module):
            hint = "; weigh the module that runs: program.module()" if type(model).__name__ == "ExportedProgram" else ""
            raise UsageError(
                f"expected a torch.nn.Module, found {type(model).__module__}.{type(model).__qualname__}{hint}"
            )
        self.model = model
        self.extra = dict(extra or {})
        self.materialize = frozenset(materialize)
        self.reasons = dict(excluded or {})
        self._gappy: dict[tuple[object, ...], str] = {}

    @property
    def device(self) -> torch.device:
        """The device of the first parameter, where probe inputs go; the CPU where there is none."""
        first = next(iter(self.model.parameters()), None)
        return first.device if first is not None else torch.device("cpu")

    def snapshot(self, *, structure: bool = True) -> Snapshot:
        """Walk the model once and return its tensors, undigested, with all that stands in the way of digesting them."""
        found = walk(self.model, self.extra, structure=structure)
        faults = [*found.faults, *_name_faults(found)]
        views: list[TensorView] = []
        excluded: list[TensorView] = []
        self._gappy = {}
        for held in sorted(found.held, key=lambda h: h.name.encode("utf-8", "surrogatepass")):
            try:
                view = tensor_view(held.name, held.role, held.tensor, materialize=held.name in self.materialize)
            except StageFault as fault:
                faults.append(fault)
                continue
            if view.layout != "strided":
                self._remember_gappy(held)
            (excluded if held.name in self.reasons else views).append(view)
        faults += _vacuous_parameters(views)
        return Snapshot(
            views=tuple(views),
            excluded=tuple(excluded),
            facts=found.facts,
            faults=tuple(faults),
            training=found.training,
        )

    def _remember_gappy(self, held: Held) -> None:
        tensor = held.tensor
        self._gappy[(memory_extent(tensor), tuple(tensor.shape), tuple(tensor.stride()))] = held.name

    def run(self, probe: ProbeSet) -> tuple[torch.Tensor, ...]:
        """Run the probe set once, untraced, and return the tensors of its outputs."""
        return output_tensors(probe.run(self.model, self.device))

    def traceable(self) -> bool:
        """Tell whether operators of this model reach the dispatcher one by one: compiled modules do not."""
        return not any(
            type(m).__name__ == "OptimizedModule" or getattr(m, "_compiled_call_impl", None) is not None
            for m in self.model.modules()
        )

    def trace(self, probe: ProbeSet, snapshot: Snapshot) -> Traced:
        """Run the probe set traced, untraced and traced again; return what it consumed and whether all agree."""
        paths = {id(m): path for path, m in self.model.named_modules()}
        naive = naive_extents(self.model)
        if not self.traceable():
            empty = Trace(paths, ())
            coverage, _ = coverage_of(empty, snapshot.views, snapshot.excluded, self.reasons, self._gappy, naive)
            return Traced(method="not traceable", coverage=coverage, facts=(), faults=())
        named = Intervals(v.extent for v in (*snapshot.views, *snapshot.excluded) if v.extent)
        first, seen = self._traced_run(probe, paths, named)
        plain = [value_digest(t) for t in self.run(probe)]
        second, again = self._traced_run(probe, paths, named, first.survivors())
        faults = [*_disagreements(first, second)]
        coverage, unnamed = coverage_of(second, snapshot.views, snapshot.excluded, self.reasons, self._gappy, naive)
        same = seen == plain == again
        return Traced(
            method="same path" if same else "other path",
            coverage=coverage,
            facts=_trace_facts(second),
            faults=(*faults, *unnamed),
        )

    def _traced_run(
        self,
        probe: ProbeSet,
        paths: dict[int, str],
        named: Intervals,
        survivors: frozenset[int] = frozenset(),
    ) -> tuple[Trace, list[str]]:
        inputs = probe.inputs(self.device)
        moved = ProbeSet(
            kind=probe.kind,
            seed=probe.seed,
            calls=probe.calls,
            tensors=tuple((n, t) for (n, _), t in zip(probe.tensors, inputs, strict=True)),
        )
        with torch.no_grad(), Trace(paths, inputs, survivors, lambda e: named.overlap(e) == e.nbytes) as trace:
            outputs = moved.run(self.model)
        digests = [value_digest(t) for t in output_tensors(outputs)]
        del outputs
        trace.settle()
        return trace, digests

    # -- mapped files -------------------------------------------------------------------------------------------------

    def mapped(self) -> tuple[tuple[str, str], ...]:
        """Return (tensor name, file) of each named tensor in host memory that is still mapped to a file."""
        found = walk(self.model, self.extra, structure=False)
        extents = {_extent(h): h.name for h in found.held}
        hits = mapped_ranges(e for e in extents if e is not None)
        return tuple((extents[extent], mapping.path) for extent, mapping in hits)

    def privatize(self, policy: MappedPolicy) -> tuple[str, tuple[Fault, ...]]:
        """Apply `policy` to mapped storages; return what the method records, and the faults of ``refuse``."""
        mapped = self.mapped()
        if not mapped:
            return "none", ()
        if policy == "refuse":
            return "none", tuple(
                StageFault(name, "is still mapped to a file: an edit of the file would change it", found=path)
                for name, path in mapped
            )
        if policy == "first":
            return "first", ()
        found = walk(self.model, self.extra, structure=False)
        torch_storage.make_private(e for e in map(_extent, found.held) if e is not None)
        return "private", ()


def _extent(held: Held) -> Extent | None:
    if torch_storage.unreadable(held.tensor) or held.tensor.device.type != "cpu":
        return None
    return memory_extent(held.tensor)


def _name_faults(found: Walk) -> list[Fault]:
    faults: list[Fault] = []
    seen: set[str] = set()
    for held in found.held:
        if not held.name.isascii():
            faults += _spelling_faults(held.name)
        if held.name in seen:
            faults.append(StageFault(_shown(held.name), "is the name of two tensors"))
        seen.add(held.name)
    return faults


def _spelling_faults(name: str) -> list[Fault]:
    if not unicodedata.is_normalized("NFC", name):
        return [StageFault(_shown(name), "is a name that is not in Unicode normalisation form C")]
    if any("\ud800" <= c <= "\udfff" for c in name):
        return [StageFault(_shown(name), "is a name with a lone surrogate")]
    return []


def _shown(name: str) -> str:
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def _vacuous_parameters(views: list[TensorView]) -> list[Fault]:
    return [
        StageFault(
            v.name, "is a parameter of zero elements: there is nothing to verify", found=f"shape {list(v.shape)}"
        )
        for v in views
        if v.nbytes == 0 and v.role == "parameter"
    ]


def _disagreements(first: Trace, second: Trace) -> list[Fault]:
    faults: list[Fault] = []
    if first.literals != second.literals:
        changed = [b for a, b in zip(first.literals, second.literals, strict=False) if a != b] or [*second.literals]
        faults.append(
            StageFault(
                (changed[0].module if changed else "") or "(model)",
                "literal tensors of two probe runs differ",
                expected=f"{len(first.literals)} literals as in the first run",
                found=f"{len(second.literals)}, the first other one {changed[0].dtype if changed else 'missing'}",
            )
        )
    if first.program != second.program:
        faults.append(
            StageFault(
                "(model)",
                "two probe runs execute different operators: the model is not in steady state",
                expected=f"{first.operators} operators {first.program[:16]}",
                found=f"{second.operators} operators {second.program[:16]}",
            )
        )
    return faults


def _trace_facts(trace: Trace) -> tuple[StructureFact, ...]:
    facts = [
        StructureFact(path="<probe>", kind="trace", value=f"{trace.operators} operators sha256:{trace.program}"),
        *(
            StructureFact(
                path=f"<probe>[{i}]",
                kind="literal",
                value=long_value(f"{lit.module} {lit.dtype} {list(lit.shape)} sha256:{lit.sha256}"),
            )
            for i, lit in enumerate(trace.literals)
        ),
    ]
    return tuple(facts)
