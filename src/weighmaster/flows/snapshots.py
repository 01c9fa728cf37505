# SPDX-License-Identifier: Apache-2.0
"""Digest snapshots into tables, and bring a live model to its steady state with the probe set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weighmaster.capture.port import Snapshot, Traced
from weighmaster.capture.probe_set import ProbeSet
from weighmaster.capture.torch_model import TorchModel
from weighmaster.core.compare import compare
from weighmaster.core.manifest import Row, Table, alias_map
from weighmaster.core.structure import Structure, StructureFact
from weighmaster.core.tensor import Extent, ViewKind
from weighmaster.engines.port import DigestEngine, Progress, Wanted
from weighmaster.errors import Fault, StageFault
from weighmaster.flows.exclusions import role_faults

__all__ = ["Digested", "Steady", "digest_snapshot", "take_steady", "training_faults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Digested:
    """A snapshot with its table.

    Attributes:
        table: rows of the snapshot; where only the gate digest was wanted, rows carry that one alone.
        leaves: leaf digests by primary name (only of rows above one leaf where the gate digest was wanted).
        extents: where each row lies.
    """

    table: Table
    leaves: Mapping[str, bytes]
    extents: Mapping[str, Extent | None]


def digest_snapshot(
    snapshot: Snapshot,
    engine: DigestEngine,
    *,
    stage: str,
    view: ViewKind = "kernel",
    wanted: Wanted = "both",
    progress: Progress | None = None,
) -> Digested:
    """Digest the tensors of a snapshot without faults; aliases are derived anew and digested once."""
    aliases = alias_map(snapshot.views) if view == "kernel" else {}
    primaries = [v for v in snapshot.views if v.name not in aliases]
    digests = dict(
        zip((v.name for v in primaries), engine.digest(primaries, wanted=wanted, progress=progress), strict=True)
    )
    rows = []
    for v in snapshot.views:
        digest = digests[aliases.get(v.name, v.name)]
        rows.append(
            Row(
                name=v.name,
                dtype=v.dtype,
                shape=v.shape,
                stride=v.stride,
                nbytes=v.nbytes,
                layout=v.layout,
                role=v.role,
                alias=aliases.get(v.name),
                sha256=digest.sha256,
                fsverity64k=digest.fsverity64k,
            )
        )
    return Digested(
        table=Table(stage=stage, view=view, rows=tuple(rows)),
        leaves={name: d.leaves for name, d in digests.items()},
        extents={v.name: v.extent for v in snapshot.views},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """A model in steady state (S3), taken twice around further probe runs.

    Attributes:
        digested: the first snapshot's table, with which the second one agrees; None where none was taken.
        structure: facts of the walk and of the trace.
        traced: coverage and method.
        faults: everything that stands in the way; the rest is only meaningful where this is empty.
    """

    digested: Digested | None
    structure: Structure
    traced: Traced | None
    faults: tuple[Fault, ...]


def take_steady(
    model: TorchModel, probe: ProbeSet, engine: DigestEngine, *, wanted: Wanted, progress: Progress | None = None
) -> Steady:
    """Run the probe set until the model is steady, then snapshot, trace, and snapshot again (manifest v1, "stages").

    The order is: a look at what is loaded; warm-up; snapshot a; traced run, untraced run, traced run; snapshot b;
    a and b must agree in tensors, bytes and structure.
    """
    loaded = model.snapshot(structure=False)
    out_of_role = role_faults(loaded.excluded, model.reasons)
    if loaded.faults or loaded.training or out_of_role:  # nothing is run: a pass in training mode changes the model
        return _not_taken(loaded, out_of_role)
    refusal = _warm_up(model, probe)
    if refusal is not None:
        return Steady(digested=None, structure=Structure(facts=()), traced=None, faults=(refusal,))
    before = model.snapshot()
    if before.faults or before.training:
        return _not_taken(before)
    a = digest_snapshot(before, engine, stage="S3", wanted=wanted, progress=progress)
    traced = model.trace(probe, before)
    after = model.snapshot()
    if after.faults or after.training:
        return _not_taken(after)
    b = digest_snapshot(after, engine, stage="S3", wanted="gate", progress=progress)
    faults = (*traced.faults, *_unsteady(a, b), *_unsteady_facts(before.facts, after.facts))
    structure = Structure(facts=_sorted((*after.facts, *traced.facts)))
    return Steady(digested=a, structure=structure, traced=traced, faults=faults)


def _warm_up(model: TorchModel, probe: ProbeSet) -> StageFault | None:
    try:
        for _ in range(model.warm_ups):
            model.run(probe)
    except Exception as error:  # noqa: BLE001  # whatever the model raises is a finding about the model
        return StageFault("probe set", f"the model does not run it: {type(error).__name__}: {error}")
    return None


def training_faults(snapshot: Snapshot) -> tuple[StageFault, ...]:
    """Return a fault per module in training mode: such a model is not what serves, and a pass would change it."""
    return tuple(
        StageFault(
            path or "(model)", "is in training mode; call eval() on the model", expected="evaluation", found="training"
        )
        for path in snapshot.training
    )


def _not_taken(snapshot: Snapshot, others: tuple[Fault, ...] = ()) -> Steady:
    faults = (*snapshot.faults, *training_faults(snapshot), *others)
    return Steady(digested=None, structure=Structure(facts=()), traced=None, faults=faults)


def _unsteady(a: Digested, b: Digested) -> list[Fault]:
    diff = compare(a.table, b.table)
    found: list[Fault] = [*diff.set_faults(), *diff.byte_faults(dict(a.leaves), dict(b.leaves))]
    return [
        StageFault(
            f.subject,
            f"is not steady: it changed while the probe set ran ({f.detail})",
            expected=f.expected,
            found=f.found,
        )
        for f in found
    ]


def _unsteady_facts(a: tuple[StructureFact, ...], b: tuple[StructureFact, ...]) -> list[Fault]:
    before = {(f.path, f.kind): f.value for f in a}
    after = {(f.path, f.kind): f.value for f in b}
    return [
        StageFault(
            path or "(model)",
            f"is not steady: its {kind} changed while the probe set ran",
            expected=before.get((path, kind)),
            found=after.get((path, kind)),
        )
        for path, kind in sorted(before.keys() | after.keys())
        if before.get((path, kind)) != after.get((path, kind))
    ]


def _sorted(facts: tuple[StructureFact, ...]) -> tuple[StructureFact, ...]:
    return tuple(sorted(facts, key=lambda f: (f.path.encode("utf-8"), f.kind)))
