# SPDX-License-Identifier: Apache-2.0
"""Admit: decide before serving whether the live model is the validated one.

The numbers are those of ``spec/admission.md``. A fault in steps 1 to 3 ends the run, for nothing after it could be
trusted; from step 4 on all faults are collected and raised together.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from weighmaster.capture import torch_guard
from weighmaster.capture.port import MappedPolicy
from weighmaster.capture.probe_set import parse_probe_set
from weighmaster.capture.sources import source_files
from weighmaster.capture.torch_model import Module, TorchModel
from weighmaster.core.compare import compare
from weighmaster.core.source import source_faults
from weighmaster.core.statement import Coverage, Statement
from weighmaster.core.structure import Structure, structure_faults
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.engines.port import DigestEngine, Progress
from weighmaster.errors import (
    CoverageFault,
    Fault,
    NotAdmitted,
    SourceFault,
    StageFault,
    UsageError,
)
from weighmaster.flows.admission import Admission, Verdict
from weighmaster.flows.artefact import PROBE_SET, Manifest, SealedManifest, read_manifest
from weighmaster.flows.clock import WallClock, wall_clock
from weighmaster.flows.environment import Judged, judge_environment
from weighmaster.flows.exclusions import exclusion_faults
from weighmaster.flows.guard import Clock, Guard, boot_clock
from weighmaster.flows.mark import MarkFile
from weighmaster.flows.mark_keeper import MarkKeeper
from weighmaster.flows.selftest import self_test
from weighmaster.flows.snapshots import Steady, take_steady
from weighmaster.flows.trusted import Trusted, open_trusted, read_trust
from weighmaster.flows.waivers import read_waivers
from weighmaster.seal.trust_chain import VerifiedTrust

__all__ = ["LEASE", "Gate", "live_faults", "open_trusted"]

LEASE: Final = 3600.0
"""Seconds that an admission lasts without a completed cycle of re-verification, unless the gate says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What stands in this process: the steady state, or why it could not be taken."""

    steady: Steady | None
    mapped: str
    faults: tuple[Fault, ...]


class Gate:
    """Decides whether a live model may serve. One gate guards one model of one product."""

    def __init__(  # noqa: PLR0913  # each keyword is a decision of the deployment
        self,
        sealed: SealedManifest | Path | str,
        trust: VerifiedTrust | Path | str,
        *,
        expect: str,
        mark: Path | str | None,
        roots: str | None = None,
        source: Path | str | None = None,
        extra: Mapping[str, Any] | None = None,
        mapped: MappedPolicy = "private",
        waivers: Iterable[Path | str] = (),
        lease: float = LEASE,
        engine: DigestEngine | None = None,
        clock: Clock = boot_clock,
        wall: WallClock = wall_clock,
    ) -> None:
        """Prepare a gate.

        Args:
            sealed: a signed manifest, or its directory.
            trust: the trust file, by path or verified already.
            expect: the product that is deployed here. A genuine manifest of another product is not this one's.
            mark: file in which the gate keeps what it has seen, so that nothing older is believed again; its directory
                must be writable and outlive the process. None keeps nothing, and every verdict says so.
            roots: fingerprint of the roots at which the trust file must begin; required with a path.
            source: the model directory that was loaded, where the manifest lists source files.
            extra: the tensors that were given as ``extra`` when the model was weighed, by the same names.
            mapped: what to do about storages that are still mapped to a file.
            waivers: bundles of waivers for differences of the environment under change control (`core.waiver`).
            lease: seconds that an admission lasts without a completed re-verification cycle.
            engine: digest engine; by default hashlib on all CPUs.
            clock: of the lease; for tests.
            wall: the wall clock, by which trust and waivers expire; for tests.

        Raises:
            NotAdmitted: the trust file does not hold.
            UsageError: a path of a trust file without roots, or of a waiver that is not there.
        """
        self.sealed = sealed if isinstance(sealed, SealedManifest) else read_manifest(sealed)
        self.trust = read_trust(trust, roots, wall())
        self.mark = None if mark is None else MarkFile(mark)
        self.expect, self.source, self.extra, self.mapped = expect, source, dict(extra or {}), mapped
        self.engine = engine or HashlibEngine()
        self._waivers = read_waivers(waivers)
        self._lease, self._clock, self._wall = lease, clock, wall
        self._guard = Guard(clock)
        self._own: weakref.ref[Module] | None = None

    def guard(self, model: Module) -> None:
        """Block forward passes of `model` from now on, until `admit` has admitted it.

        Raises:
            UsageError: the gate guards another module, or has admitted one.
        """
        self._require_own(model)
        self._own = weakref.ref(model)
        torch_guard.install(model, self._guard.check)

    def _require_own(self, model: Module) -> None:
        """One guard stands before all that this gate guards: what opens it for one module opens it for another."""
        own = None if self._own is None else self._own()
        if own is not None and own is not model:
            raise UsageError("gate: expected the module that it guards or has admitted, found another: one gate each")

    def admit(
        self, model: Module, *, loading_faults: tuple[Fault, ...] = (), progress: Progress | None = None
    ) -> Admission:
        """Return an `Admission`, or raise.

        Args:
            model: the live module that will serve, in this process.
            loading_faults: what the loader reported (missing, unexpected or mismatched keys).
            progress: called with a number of bytes as they are digested.

        Raises:
            NotAdmitted: with every fault found; its exit code is that of the lowest step. Also where an earlier
                admission by this gate was revoked, for its guard never opens again.
            UsageError: the gate guards another module, or has admitted one.
            MalformedArtefact: a file of the manifest, or the mark, does not follow its specification.
            StorageError: the mark cannot be read or written.
        """
        self._require_own(model)
        self._guard.require_not_revoked()
        # (1) Self-test: known answers through the reference and through the engine that will be used.
        _, wrong = self_test(self.engine)
        if wrong:
            raise NotAdmitted("the self-test failed", wrong)
        # (2) Signature and trust, (3) identity.
        trusted = open_trusted(self.sealed, self.trust, self.expect, now=self._wall(), mark=self.mark)
        live = TorchModel(
            model,
            extra=self.extra,
            materialize=trusted.manifest.statement.method.materialized,
            excluded=_exclusions(trusted.manifest.statement),
        )
        with Guard.probing():
            observed = _observe(live, trusted.manifest, self.mapped, self.engine, progress)
        # (4) Environment, collected after the warm-up: libraries load lazily.
        judged = self._environment(trusted)
        # (4) to (11), all collected.
        faults = (
            *judged.faults,
            *live_faults(trusted, observed, live=live, source=self.source, loading_faults=loading_faults),
        )
        if faults:
            raise NotAdmitted(f"{self.expect}: the live model is not admitted", faults)
        # (12) Verdict.
        return self._admission(trusted, live, observed, judged.informed)

    def _environment(self, trusted: Trusted) -> Judged:
        return judge_environment(trusted, self._waivers, max(self._wall(), trusted.now))

    def _admission(
        self, trusted: Trusted, live: TorchModel, observed: Observed, informed: tuple[str, ...]
    ) -> Admission:
        if observed.steady is None or observed.steady.digested is None or observed.steady.traced is None:
            raise AssertionError("a steady state without faults has a table and a trace")
        keeper = MarkKeeper(file=self.mark, trusted=trusted, wall=self._wall)
        keeper.keep()  # before the first pass: what is served once is never older than what the mark says
        self._own = weakref.ref(live.model)
        self._guard.open(self._lease)
        coverage = observed.steady.traced.coverage
        return Admission(
            live=live,
            manifest=trusted.manifest,
            digested=observed.steady.digested,
            structure=observed.steady.structure,
            engine=self.engine,
            guard=self._guard,
            lease=self._lease,
            clock=self._clock,
            mapped_first=observed.mapped == "first",
            environment=partial(self._environment, trusted),
            keeper=keeper,
            verdict=Verdict.of(
                trusted.manifest.statement,
                trusted.signers,
                coverage,
                informed=informed,
                rollback=keeper.not_covered,
            ),
        )


def _exclusions(statement: Statement) -> dict[str, str]:
    return {e.name: e.reason for e in statement.coverage.excluded} if statement.coverage else {}


def _observe(
    live: TorchModel, manifest: Manifest, mapped: MappedPolicy, engine: DigestEngine, progress: Progress | None
) -> Observed:
    """Run the signed probe set - these inputs, never the caller's - and take the steady state."""
    statement = manifest.statement
    if (statement.gate_stage, statement.gate_view) != ("S3", "kernel") or manifest.probe_set is None:
        fault = StageFault(
            "gate table",
            "cannot admit a live model: its steady state under the signed probe set is compared, nothing less",
            expected="stage S3, view kernel, with a probe set",
            found=f"stage {statement.gate_stage}, view {statement.gate_view}, "
            f"{'with' if manifest.probe_set else 'without'} a probe set",
        )
        return Observed(steady=None, mapped="none", faults=(fault,))
    probe = parse_probe_set(manifest.probe_set, PROBE_SET)
    method, faults = live.privatize(mapped)
    if faults:
        return Observed(steady=None, mapped=method, faults=faults)
    steady = take_steady(live, probe, engine, wanted="gate", progress=progress)
    return Observed(steady=steady, mapped=method, faults=())


def live_faults(
    trusted: Trusted,
    observed: Observed,
    *,
    live: TorchModel,
    source: Path | str | None,
    loading_faults: tuple[Fault, ...],
) -> tuple[Fault, ...]:
    """Return the findings of steps 5 to 11 of the numbered algorithm."""
    manifest, steady = trusted.manifest, observed.steady
    statement = manifest.statement
    faults: list[Fault] = []
    # (5) Sources: the files that this load was made from.
    faults += _sources(statement, source)
    # (6) Stage and method: same stage, same probe set, same trace, clean loading report, nothing vacuous.
    faults += [*loading_faults, *observed.faults, *_method(statement, live, steady)]
    if steady is None:
        return tuple(faults)
    faults += steady.faults
    if steady.digested is None or steady.traced is None:
        return tuple(faults)
    # (7) Structure: classes, code, scalars, hooks, adapters, operators of the probe run.
    faults += structure_faults(manifest.structure or Structure(facts=()), steady.structure)
    # (8) Tensor set, as sets of names first, aliases included; (9) tensor digests.
    diff = compare(manifest.gate, steady.digested.table)
    faults += diff.set_faults()
    faults += diff.byte_faults(dict(manifest.leaves), dict(steady.digested.leaves))
    # (10) Coverage: what is consumed here and not in the table came with the steady state; here what is left out.
    faults += _coverage(trusted, steady.traced.coverage)
    # (11) Known answers: none are recorded in this version of the statement.
    return tuple(faults)


def _sources(statement: Statement, source: Path | str | None) -> tuple[Fault, ...]:
    if not statement.sources:
        return ()
    if source is None:
        return (
            SourceFault(
                "sources",
                f"the statement lists {len(statement.sources)} files, and the gate was not told where they are",
                expected="Gate(..., source=DIRECTORY)",
                found="no source",
            ),
        )
    return source_faults(statement.sources, source_files(source))


def _method(statement: Statement, live: TorchModel, steady: Steady | None) -> list[Fault]:
    faults: list[Fault] = []
    signed, method = statement.method, steady.traced.method if steady and steady.traced else None
    pairs = [
        ("loader", (signed.loader,), (live.loader,)),
        ("extra", signed.extra, tuple(sorted(live.extra))),
    ]
    if method is not None:
        pairs.append(("trace", (signed.trace,), (method,)))
    for what, want, have in pairs:
        if want != have:
            expected, found = (", ".join(names) or "none" for names in (want, have))
            faults.append(StageFault(f"method: {what}", "differs from the signed one", expected=expected, found=found))
    return faults


def _coverage(trusted: Trusted, coverage: Coverage) -> list[Fault]:
    signed = trusted.manifest.statement.coverage
    if signed is None:
        return [CoverageFault("coverage", "is not in the statement", expected="coverage", found="none")]
    rule = trusted.trust.product(trusted.manifest.statement.product)
    cap = rule.max_excluded_bytes if rule else 0
    faults: list[Fault] = [*exclusion_faults(signed.excluded, cap=cap)]
    if signed.excluded != coverage.excluded:
        faults.append(
            CoverageFault(
                "exclusions",
                "are not the tensors that the statement excludes",
                expected=str([(e.name, e.dtype, e.shape) for e in signed.excluded]),
                found=str([(e.name, e.dtype, e.shape) for e in coverage.excluded]),
            )
        )
    return faults
