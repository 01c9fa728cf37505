# SPDX-License-Identifier: Apache-2.0
"""An admission in force: verdict, guard, and continuous re-verification of the live model."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from weighmaster.capture import torch_guard
from weighmaster.capture.port import Snapshot
from weighmaster.capture.torch_model import Module, TorchModel
from weighmaster.core.manifest import Row, alias_map
from weighmaster.core.statement import Coverage, Statement
from weighmaster.core.structure import Structure, StructureFact, structure_faults
from weighmaster.core.tensor import LEAF, TensorView
from weighmaster.engines.port import DigestEngine
from weighmaster.errors import Fault, NotAdmitted, TensorFault, TensorSetFault, UsageError
from weighmaster.flows.artefact import Manifest
from weighmaster.flows.environment import Judged
from weighmaster.flows.guard import Clock, Guard
from weighmaster.flows.mark_keeper import MarkKeeper
from weighmaster.flows.snapshots import Digested
from weighmaster.seal.check import SignerRecord

__all__ = ["Admission", "Recheck", "Verdict"]

_UNIT: Final = 64
"""Leaves per unit of re-verification: 4 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was admitted, against what, and what is not covered.

    Attributes:
        product: as signed.
        version: as signed.
        serial: as signed.
        root: identity of the weights.
        compared: stage and view of the table, and the digests that were compared.
        signers: who signed.
        coverage: of the trace in this process.
        trace: method of the trace.
        informed: differences from the validated environment that the signed policy lets pass, in words.
        not_covered: in words, for print.
    """

    product: str
    version: str
    serial: int
    root: str
    compared: str
    signers: tuple[SignerRecord, ...]
    coverage: Coverage
    trace: str
    informed: tuple[str, ...]
    not_covered: tuple[str, ...]

    @classmethod
    def of(
        cls,
        statement: Statement,
        signers: tuple[SignerRecord, ...],
        coverage: Coverage,
        *,
        informed: tuple[str, ...],
        rollback: tuple[str, ...],
    ) -> Verdict:
        """Put the verdict of a passed admission together; `rollback` says what the mark does not cover."""
        gate = statement.gate_table
        return cls(
            product=statement.product,
            version=statement.version,
            serial=statement.serial,
            root=gate.root,
            compared=f"{gate.count} tensors, stage {gate.stage}, view {gate.view}, "
            "fs-verity digest (SHA-256 up to 64 KiB) of each",
            signers=signers,
            coverage=coverage,
            trace=statement.method.trace,
            informed=informed,
            not_covered=(*_not_covered(statement, coverage), *rollback),
        )


def _not_covered(statement: Statement, coverage: Coverage) -> Iterator[str]:
    for e in coverage.excluded:
        yield f"NOT verified: {e.name} ({e.nbytes} bytes, {e.reason})"
    if statement.method.trace == "not traceable":
        yield "the model is compiled: what its kernels consume was not traced, only what the modules hold was digested"
    if statement.method.trace == "other path":
        yield "under the trace the model computes other bits than without: its coverage is that of the traced path"
    if coverage.unconsumed:
        yield (
            f"{coverage.unconsumed} tensors ({coverage.unconsumed_bytes} bytes) were digested, and the probe set "
            "did not exercise them"
        )
    yield "activations, caches and compute errors between two checks; a host whose root user patches the verifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """What one call of `Admission.recheck` did.

    Attributes:
        nbytes: bytes re-verified in this call.
        units: units of up to 4 MiB re-verified in this call.
        cycle_complete: whether this call finished a pass over the whole model (and renewed the lease).
        left: units left of the current cycle.
        cycles: passes completed since admission.
        informed: where this call began a cycle, differences of the environment that the policy lets pass, in words.
    """

    nbytes: int
    units: int
    cycle_complete: bool
    left: int
    cycles: int
    informed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    name: str
    first: int
    count: int


class Admission:
    """A live model that was admitted. It stays so while its lease lasts and no re-verification finds a fault."""

    def __init__(  # noqa: PLR0913
        self,
        *,
        live: TorchModel,
        manifest: Manifest,
        digested: Digested,
        structure: Structure,
        engine: DigestEngine,
        guard: Guard,
        lease: float,
        clock: Clock,
        mapped_first: bool,
        keeper: MarkKeeper,
        environment: Callable[[], Judged],
        verdict: Verdict,
    ) -> None:
        """Hold what `Gate.admit` found; not for callers."""
        self.verdict, self.manifest = verdict, manifest
        self._live, self._digested, self._engine = live, digested, engine
        self._guard, self._lease, self._clock = guard, lease, clock
        self._facts = {(f.path, f.kind): f for f in structure.facts if f.path.split("[")[0] != "<probe>"}
        self._rows = {r.name: r for r in manifest.gate.rows}
        self._mapped_first, self._keeper, self._environment = mapped_first, keeper, environment
        self._cycle: list[_Unit] = []
        self._lock = threading.Lock()
        self._cycles = 0

    # -- guard --------------------------------------------------------------------------------------------------------

    def guard(self, model: Module) -> Callable[[], None]:
        """Check before every forward pass of the admitted `model` that the admission is in force.

        Returns:
            A function that takes the guard off.

        Raises:
            UsageError: `model` is not the module that was admitted.
        """
        if model is not self._live.model:
            raise UsageError("guard: this is not the module object that was admitted")
        return torch_guard.install(model, self._guard.check)

    def check(self) -> None:
        """Return while the admission is in force.

        Raises:
            NotAdmitted: the lease ran out, or the admission was revoked.
        """
        self._guard.check()

    def revoke(self, reason: str = "revoked by the caller") -> None:
        """End the admission for good; guarded forward passes are blocked from now on."""
        self._guard.revoke(reason)

    @property
    def remaining(self) -> float:
        """Seconds left of the lease; 0 once revoked."""
        return self._guard.remaining

    # -- re-verification ----------------------------------------------------------------------------------------------

    def recheck(self, *, nbytes: int | None = None, seconds: float | None = None) -> Recheck:
        """Re-verify a part of the live model, oldest-verified first; without a budget, the rest of the cycle.

        Each call resolves all names anew and compares their set, forms, addresses, hooks and scalars. Each cycle begins
        with code, environment and a fresh secret permutation of the units, and covers every unit once: a fault that
        stays is found within two cycles. A completed cycle renews the lease.

        Args:
            nbytes: stop after at least so many bytes.
            seconds: stop after so many seconds.

        Raises:
            NotAdmitted: with every fault found; the admission is revoked.
            StorageError: a tensor could not be read; the admission is revoked.
        """
        with self._lock:
            self._guard.check()
            try:
                return self._recheck(nbytes, seconds)
            except NotAdmitted as halt:
                self._guard.revoke(str(halt))  # most have said so themselves; the first reason stands
                raise
            except Exception as error:
                # What cannot be read cannot be verified: the admission does not outlive the attempt.
                self._guard.revoke(f"re-verification could not be carried out: {type(error).__name__}: {error}")
                raise

    def _recheck(self, nbytes: int | None, seconds: float | None) -> Recheck:
        beginning = not self._cycle
        informed: tuple[str, ...] = ()
        snapshot = self._live.snapshot(structure=beginning)
        self._halt_on(self._state_faults(snapshot, whole=beginning))
        if beginning:
            judged = self._environment()
            self._halt_on(judged.faults)
            informed = judged.informed
            self._cycle = self._shuffled()
        views = {v.name: v for v in snapshot.views}
        done, units = self._run(views, nbytes, seconds)
        complete = not self._cycle
        if complete:
            self._keeper.keep()
            self._cycles += 1
            self._guard.open(self._lease)
        return Recheck(
            nbytes=done,
            units=units,
            cycle_complete=complete,
            left=len(self._cycle),
            cycles=self._cycles,
            informed=informed,
        )

    def _run(self, views: dict[str, TensorView], nbytes: int | None, seconds: float | None) -> tuple[int, int]:
        start, done, units = self._clock(), 0, 0
        for unit in self._mapped_units():
            done += self._verify(views[unit.name], unit)
            units += 1
        while self._cycle:
            unit = self._cycle[-1]
            done += self._verify(views[unit.name], unit)
            units += 1
            self._cycle.pop()
            if (nbytes is not None and done >= nbytes) or (seconds is not None and self._clock() - start >= seconds):
                break
        return done, units

    def _units(self) -> Iterator[_Unit]:
        for row in self.manifest.gate.primaries:
            for first in range(0, -(-row.nbytes // LEAF), _UNIT):
                yield _Unit(name=row.name, first=first, count=_UNIT)

    def _shuffled(self) -> list[_Unit]:
        units = list(self._units())
        secrets.SystemRandom().shuffle(units)
        return units

    def _mapped_units(self) -> Iterator[_Unit]:
        """Yield the units of tensors that are still mapped to a file, where the policy is to verify those first."""
        if self._mapped_first:
            mapped = {name for name, _ in self._live.mapped()}
            yield from (u for u in self._units() if u.name in mapped)

    def _verify(self, view: TensorView, unit: _Unit) -> int:
        expected, found = self._digests(view, unit)
        if expected == found:
            return min(unit.count * LEAF, view.nbytes - unit.first * LEAF)
        # One more read tells a fault of reading from a fault of state; both are reported, and either halts.
        _, again = self._digests(view, unit)
        second = "a second read gives the same bytes" if again == found else "a second read gives other bytes again"
        if again == expected:
            second = "a second read gives the validated bytes: the first one was disturbed"
        raise self._revoked([_unit_fault(view, unit, expected, found, second)])

    def _digests(self, view: TensorView, unit: _Unit) -> tuple[bytes, bytes]:
        """Return the validated and the live digest bytes of a unit."""
        row = self._rows[view.name]
        if view.nbytes <= LEAF:
            return bytes.fromhex(row.sha256), hashlib.sha256(view.read(0, view.nbytes)).digest()
        validated = self._digested.leaves[view.name][32 * unit.first : 32 * (unit.first + unit.count)]
        return validated, self._engine.leaves(view, unit.first, unit.count)

    # -- state --------------------------------------------------------------------------------------------------------

    def _state_faults(self, snapshot: Snapshot, *, whole: bool) -> list[Fault]:
        faults: list[Fault] = list(snapshot.faults)
        faults += _set_faults(self._rows, snapshot.views)
        for view in snapshot.views:
            before = self._digested.extents.get(view.name)
            if view.layout == "strided" and before is not None and view.extent != before:
                faults.append(
                    TensorSetFault(
                        view.name,
                        "its storage moved without announcement",
                        expected=str(before),
                        found=str(view.extent),
                    )
                )
        faults += self._fact_faults(snapshot.facts, whole=whole)
        return faults

    def _fact_faults(self, facts: tuple[StructureFact, ...], *, whole: bool) -> list[Fault]:
        """Compare structure facts; between cycles without those that only a whole walk collects."""
        expected = [f for f in self._facts.values() if whole or not f.path.startswith(("<code>", "<process>"))]
        before = Structure(facts=tuple(expected))
        return list(structure_faults(before, Structure(facts=facts)))

    def _halt_on(self, faults: Sequence[Fault]) -> None:
        if faults:
            raise self._revoked(faults)

    def _revoked(self, faults: Sequence[Fault]) -> NotAdmitted:
        """Revoke, and return what is to be raised."""
        self._guard.revoke(f"re-verification found {len(faults)} faults, the first: {faults[0]}")
        return NotAdmitted(f"{self.verdict.product}: re-verification failed", list(faults))


def _set_faults(rows: dict[str, Row], views: tuple[TensorView, ...]) -> list[Fault]:
    live = {v.name: v for v in views}
    aliases = alias_map(views)
    out: list[Fault] = [TensorSetFault(name, "is missing") for name in sorted(rows.keys() - live.keys())]
    out += [TensorSetFault(name, "is not in the validated table") for name in sorted(live.keys() - rows.keys())]
    for name in sorted(rows.keys() & live.keys()):
        row, view = rows[name], live[name]
        found = (view.dtype, view.shape, view.stride, view.nbytes, view.layout, view.role, aliases.get(name))
        if row.form != found:
            out.append(TensorSetFault(name, "its form changed", expected=str(row.form), found=str(found)))
    return out


def _unit_fault(view: TensorView, unit: _Unit, expected: bytes, found: bytes, second: str) -> TensorFault:
    """Return the fault of a unit: the first differing leaf, or the whole of a tensor of one leaf."""
    if view.nbytes <= LEAF:
        return TensorFault(view.name, f"bytes differ; {second}", expected=expected.hex(), found=found.hex())
    at = next(i for i in range(0, len(expected), 32) if expected[i : i + 32] != found[i : i + 32])
    leaf, leaves = unit.first + at // 32, -(-view.nbytes // LEAF)
    last = min((leaf + 1) * LEAF, view.nbytes) - 1
    where = f"in leaf {leaf} of {leaves} (bytes {leaf * LEAF} to {last})"
    return TensorFault(
        view.name,
        f"bytes differ {where}; {second}",
        expected=expected[at : at + 32].hex(),
        found=found[at : at + 32].hex(),
    )
