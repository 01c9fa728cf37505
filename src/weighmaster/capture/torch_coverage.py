# SPDX-License-Identifier: Apache-2.0
"""Set what the trace saw consumed beside what the walk named: bytes covered, bytes without a name."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

import torch

from weighmaster.capture.torch_storage import memory_extent, unreadable
from weighmaster.capture.torch_trace import Consumed, Trace
from weighmaster.core.statement import Coverage, Exclusion
from weighmaster.core.tensor import Extent, TensorView
from weighmaster.errors import CoverageFault, Fault

__all__ = ["Intervals", "coverage_of", "naive_extents"]


class Intervals:
    """A union of extents per device, to ask what lies in it."""

    def __init__(self, extents: Iterable[Extent]) -> None:
        """Merge `extents`; those that touch become one."""
        self._starts: dict[str, list[int]] = {}
        self._stops: dict[str, list[int]] = {}
        for extent in sorted(e for e in extents if e.nbytes):
            starts, stops = self._starts.setdefault(extent.device, []), self._stops.setdefault(extent.device, [])
            if stops and extent.address <= stops[-1]:
                stops[-1] = max(stops[-1], extent.stop)
            else:
                starts.append(extent.address)
                stops.append(extent.stop)

    def overlap(self, extent: Extent) -> int:
        """Return the bytes of `extent` that lie in the union."""
        starts, stops = self._starts.get(extent.device, []), self._stops.get(extent.device, [])
        at = max(bisect.bisect_right(starts, extent.address) - 1, 0)
        total = 0
        while at < len(starts) and starts[at] < extent.stop:
            total += max(0, min(stops[at], extent.stop) - max(starts[at], extent.address))
            at += 1
        return total

    def total(self) -> int:
        """Return the bytes of the union."""
        return sum(
            stop - start
            for device in self._starts
            for start, stop in zip(self._starts[device], self._stops[device], strict=True)
        )

    def extents(self) -> Iterable[Extent]:
        """Yield the merged extents."""
        for device, starts in self._starts.items():
            for start, stop in zip(starts, self._stops[device], strict=True):
                yield Extent(device=device, address=start, nbytes=stop - start)


def naive_extents(model: torch.nn.Module) -> Intervals:
    """Return what ``named_parameters`` and ``named_buffers`` show: what a script that hashes those would cover."""
    tensors = [t for _, t in (*model.named_parameters(), *model.named_buffers())]
    return Intervals(memory_extent(t) for t in tensors if not unreadable(t))


def coverage_of(
    trace: Trace,
    views: tuple[TensorView, ...],
    excluded: tuple[TensorView, ...],
    reasons: dict[str, str],
    gappy: dict[tuple[object, ...], str],
    naive: Intervals,
) -> tuple[Coverage, tuple[Fault, ...]]:
    """Return the coverage of a trace, and a fault for each consumed thing that no row holds.

    Args:
        trace: one traced probe run.
        views: digested tensors.
        excluded: tensors that the statement excludes.
        reasons: name of each excluded tensor to its reason.
        gappy: (extent, shape, stride) of tensors that were materialized, by what operators see of them.
        naive: what a naive script would see.
    """
    held = Intervals(v.extent for v in views if v.extent and v.layout == "strided")
    named = Intervals(v.extent for v in (*views, *excluded) if v.extent and v.layout == "strided")
    consumed = Intervals(c.extent for c in trace.consumed.values())
    faults: list[Fault] = []
    gaps: list[Extent] = []
    for key, entry in trace.consumed.items():
        if key in gappy:
            gaps.append(entry.extent)
        elif named.overlap(entry.extent) < entry.extent.nbytes:
            faults.append(_unnamed(entry))
    faults += [_vacuous(e) for e in trace.empty]
    faults += [
        CoverageFault(o.module or "(model)", f"operator {o.operator} consumes a tensor that cannot be read: {o.reason}")
        for o in trace.opaque
    ]
    return _count(views, excluded, reasons, trace, consumed, held, Intervals(gaps), naive), tuple(_once(faults))


def _count(  # one value out of many parts, in one place
    views: tuple[TensorView, ...],
    excluded: tuple[TensorView, ...],
    reasons: dict[str, str],
    trace: Trace,
    consumed: Intervals,
    held: Intervals,
    gaps: Intervals,
    naive: Intervals,
) -> Coverage:
    extents = {v.extent: v for v in views if v.extent and v.nbytes}
    idle = [v for e, v in extents.items() if not consumed.overlap(e)]
    pieces = list(consumed.extents())
    distinct = {c.extent for c in trace.consumed.values()}
    return Coverage(
        consumed=len(distinct),
        consumed_bytes=consumed.total(),
        consumed_hashed_bytes=sum(min(held.overlap(e) + gaps.overlap(e), e.nbytes) for e in pieces),
        hashed=len(extents),
        hashed_bytes=sum(v.nbytes for v in extents.values()),
        unconsumed=len(idle),
        unconsumed_bytes=sum(v.nbytes for v in idle),
        naive=sum(1 for e in distinct if naive.overlap(e)),
        naive_bytes=sum(naive.overlap(e) for e in pieces),
        empty=sum(1 for v in views if v.nbytes == 0),
        literals=len(trace.literals),
        excluded=tuple(
            Exclusion(name=v.name, dtype=v.dtype, shape=v.shape, nbytes=v.nbytes, reason=reasons[v.name])
            for v in excluded
        ),
    )


def _unnamed(entry: Consumed) -> CoverageFault:
    return CoverageFault(
        entry.module or "(model)",
        f"operator {entry.operator} consumes a {entry.dtype} tensor of shape {list(entry.shape)} "
        f"({entry.extent.nbytes} bytes) that no walk names; pass it as extra={{name: tensor}}",
    )


def _vacuous(entry: Consumed) -> CoverageFault:
    return CoverageFault(
        entry.module or "(model)",
        f"operator {entry.operator} consumes a {entry.dtype} tensor of zero elements, shape {list(entry.shape)}: "
        "there is nothing to verify, and the weights lie somewhere else",
    )


def _once(faults: list[Fault]) -> Iterable[Fault]:
    seen: set[str] = set()
    for fault in faults:
        if str(fault) not in seen:
            seen.add(str(fault))
            yield fault
