# SPDX-License-Identifier: Apache-2.0
"""Weigh: read every kernel-consumed tensor of a model, digest it, and put the manifest together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighmaster.capture.port import MappedPolicy, Snapshot
from weighmaster.capture.probe_auto import auto_probe
from weighmaster.capture.probe_set import ProbeSet, from_examples, parse_probe_set
from weighmaster.capture.safetensors_files import open_checkpoint
from weighmaster.capture.sources import source_files
from weighmaster.capture.torch_files import open_pickled
from weighmaster.capture.torch_kind import kind_of
from weighmaster.capture.torch_model import TorchModel
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.core.derivation import Derivation
from weighmaster.core.environment import Environment
from weighmaster.core.judgement import judge
from weighmaster.core.policy import DEFAULT_POLICY, Policy
from weighmaster.core.policy import SCHEME as POLICY_SCHEME
from weighmaster.core.source import Evidence, Source
from weighmaster.core.statement import EXCLUSION_REASONS, EnvironmentRef, Method, Statement, TableEntry
from weighmaster.core.tensor import TensorView
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.engines.port import DigestEngine, Progress
from weighmaster.errors import Fault, NotWeighed, StageFault, UsageError
from weighmaster.flows.artefact import Manifest
from weighmaster.flows.derived import ReportReference, derived, is_pack, named, reports_of
from weighmaster.flows.evidence import read_evidence
from weighmaster.flows.pack_seal import derivation_of, table_of
from weighmaster.flows.pack_verification import require_whole
from weighmaster.flows.selftest import require_self_test
from weighmaster.flows.snapshots import Digested, Steady, digest_snapshot, take_steady, training_faults
from weighmaster.pack.reader import open_pack
from weighmaster.probe.collect import collect

__all__ = ["as_probe_set", "weigh", "weigh_files"]


def weigh(  # noqa: PLR0913  # each keyword is a field of the statement or of the method
    model: Any,
    *,
    product: str,
    version: str,
    serial: int,
    example_inputs: Any = "auto",
    extra: Mapping[str, Any] | None = None,
    exclude: Mapping[str, str] | None = None,
    materialize: tuple[str, ...] = (),
    mapped: MappedPolicy = "private",
    policy: Policy | None = None,
    source: Path | str | None = None,
    evidence: tuple[tuple[Path | str, Path | str], ...] = (),
    loading_faults: tuple[Fault, ...] = (),
    validation: tuple[tuple[str, str], ...] = (),
    reports: tuple[ReportReference, ...] = (),
    reaction: str = "halt",
    engine: DigestEngine | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Weigh a live model in its steady state and return its manifest, unsigned.

    Args:
        model: a `torch.nn.Module` in evaluation mode, on any device; it is read, never moved or saved.
        product: name of the product that the model is deployed as.
        version: the product's version.
        serial: integer, larger than that of any earlier manifest of the product.
        example_inputs: ``"auto"`` (inputs generated from the model's configuration with a fixed seed), a tensor, a
            tuple of arguments, a dict of keyword arguments, a list of such calls, or a `ProbeSet`.
        extra: tensors that kernels consume and the walk cannot reach, by name.
        exclude: name of a tensor to a reason of `EXCLUSION_REASONS`; its bytes will be stated as NOT verified.
        materialize: names of tensors with gaps or overlaps that may be copied to be digested.
        mapped: what to do about storages that are still mapped to a file (`MappedPolicy`).
        policy: how a gate compares environments; by default every class fact must be equal.
        source: model directory or file whose files become the sources. Where it is a pack, the model must have been
            loaded from it, and the statement says so.
        evidence: pairs of a bundle that others made about the source files, and the public key that it must hold under.
        loading_faults: what the loader reported (missing, unexpected or mismatched keys).
        validation: pairs (name, SHA-256) of reports to refer to.
        reports: reports on packs to refer to (`read_reference`); their figures are stated where the source is a pack.
        reaction: of a running service on a fault: ``halt``, ``drain`` or ``fallback:<root>``.
        engine: digest engine; by default hashlib on all CPUs.
        progress: called with a number of bytes as they are digested.

    Raises:
        NotWeighed: with every fault found.
        UsageError: an argument is wrong.
    """
    require_self_test()
    engine = engine or HashlibEngine()
    _check_exclusions(exclude or {})
    live = TorchModel(model, extra=extra, materialize=materialize, excluded=exclude)
    probe = as_probe_set(example_inputs, live)
    sources = source_files(source) if source is not None else ()
    derivation = derived(model, source, reports)
    verified = read_evidence(evidence, sources)
    mapped_method, faults = live.privatize(mapped)
    loaded = live.snapshot(structure=False)
    _require_clean((*loading_faults, *faults, *loaded.faults, *training_faults(loaded)))
    s1 = digest_snapshot(loaded, engine, stage="S1", progress=progress)
    steady = take_steady(live, probe, engine, wanted="both", progress=progress)
    _require_clean((*steady.faults, *_unknown_exclusions(live, steady)))
    environment, policy = collect(torch_facts()), policy or DEFAULT_POLICY
    _require_clean(_own_faults(environment, policy))
    return _manifest(
        (s1, steady),
        live,
        probe,
        (environment, policy),
        (sources, verified),
        (product, version, serial),
        engine,
        mapped_method,
        _Said(validation=(*validation, *named(reports)), reaction=reaction, derivation=derivation),
    )


def as_probe_set(example: Any, live: TorchModel) -> ProbeSet:
    """Return the probe set that `example` stands for (`weigh`)."""
    if isinstance(example, ProbeSet):
        return example
    if isinstance(example, str):
        if example != "auto":
            raise UsageError(f"example_inputs: expected 'auto' or tensors, found the string {example!r}")
        return auto_probe(live.model)
    if isinstance(example, bytes):
        return parse_probe_set(example, "example_inputs")
    return from_examples(example)


def _check_exclusions(exclude: Mapping[str, str]) -> None:
    for name, reason in exclude.items():
        if reason not in EXCLUSION_REASONS:
            raise UsageError(
                f"exclude: {name!r}: expected a reason of {', '.join(EXCLUSION_REASONS)}, found {reason!r}"
            )


def _unknown_exclusions(live: TorchModel, steady: Steady) -> list[Fault]:
    if steady.traced is None:  # its faults say why, and what is held in steady state is not known
        return []
    found = {e.name for e in steady.traced.coverage.excluded}
    return [
        StageFault(name, "is excluded, and no such tensor is held", expected="the exact name of a tensor")
        for name in sorted(live.reasons.keys() - found)
    ]


def _own_faults(environment: Environment, policy: Policy) -> tuple[Fault, ...]:
    """Return a fault per fact under which this environment would not be admitted to itself.

    A class fact that cannot be read, unless a rule of the policy takes that; or a rule that the validated value breaks.
    Nothing is signed that no gate could ever admit.
    """
    return tuple(d.fault() for d in judge(environment, environment, policy) if d.level != "inform")


def _require_clean(faults: tuple[Fault, ...]) -> None:
    if faults:
        raise NotWeighed("the model cannot be weighed", faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the caller says beside what is found."""

    validation: tuple[tuple[str, str], ...]
    reaction: str
    derivation: Derivation | None


def _manifest(  # noqa: PLR0913, PLR0917
    taken: tuple[Digested, Steady],
    live: TorchModel,
    probe: ProbeSet,
    compared: tuple[Environment, Policy],
    files: tuple[tuple[Source, ...], tuple[Evidence, ...]],
    identity: tuple[str, str, int],
    engine: DigestEngine,
    mapped_method: str,
    said: _Said,
) -> Manifest:
    (s1, steady), (environment, policy) = taken, compared
    if steady.digested is None or steady.traced is None:
        raise AssertionError("a steady state without faults has a table and a trace")
    tables = (s1.table, steady.digested.table)
    probe_bytes = probe.to_bytes()
    try:
        statement = Statement(
            product=identity[0],
            version=identity[1],
            serial=identity[2],
            gate_stage="S3",
            gate_view="kernel",
            tables=tuple(TableEntry.of(t) for t in tables),
            method=Method(
                engine=engine.name,
                loader=live.loader,
                trace=steady.traced.method,
                mapped=mapped_method,
                materialized=tuple(sorted(live.materialize)),
                extra=tuple(sorted(live.extra)),
            ),
            probe_set=_sha256(probe_bytes),
            coverage=steady.traced.coverage,
            structure=steady.structure.digest,
            environment=_environment_ref(environment, policy),
            sources=files[0],
            evidence=files[1],
            validation=said.validation,
            reaction=said.reaction,
            derivation=said.derivation,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Manifest(
        statement=statement,
        payload=statement.to_bytes(),
        tables=tables,
        leaves=dict(steady.digested.leaves),
        structure=steady.structure,
        environment=environment,
        policy=policy,
        probe_set=probe_bytes,
    )


def _environment_ref(environment: Environment, policy: Policy) -> EnvironmentRef:
    return EnvironmentRef(
        sha256=_sha256(environment.to_bytes()),
        class_digest=environment.class_digest,
        policy=POLICY_SCHEME,
        policy_sha256=policy.sha256,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def weigh_files(
    path: Path | str,
    *,
    product: str,
    version: str,
    serial: int,
    evidence: tuple[tuple[Path | str, Path | str], ...] = (),
    reports: tuple[ReportReference, ...] = (),
    engine: DigestEngine | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Weigh a safetensors file, a checkpoint directory, a pickled checkpoint or a pack at rest (S0, view ``logical``).

    Nothing is executed: a pickle is read by an unpickler that builds tensors and plain containers alone, into memory.
    Such a manifest identifies files. The gate does not admit a live model on it. Of a pack, all of which is read, the
    table holds the rebuilt tensors, as the unpacked model would have them.

    Args:
        path: file or directory.
        product: name of the product.
        version: the product's version.
        serial: integer, larger than that of any earlier manifest of the product.
        evidence: as in `weigh`.
        reports: reports on packs to refer to; their figures are stated where `path` is a pack.
        engine: digest engine; by default hashlib on all CPUs.
        progress: called with a number of bytes as they are digested.

    Raises:
        UsageError: there is nothing of the kind, or a pickle that asks for more.
        MalformedArtefact: the checkpoint does not follow the format.
        SourceFault: a file changed while it was read.
        NotWeighed: evidence does not hold, or is about other files.
        NotAdmitted: a pack is not what its index says.
    """
    require_self_test()
    engine = engine or HashlibEngine()
    digested, loader, derivation = _digest_files(Path(path), engine, progress, reports)
    sources = source_files(path)
    statement = Statement(
        product=product,
        version=version,
        serial=serial,
        gate_stage="S0",
        gate_view="logical",
        tables=(TableEntry.of(digested.table),),
        method=Method(engine=engine.name, loader=loader, trace="none", mapped="none", materialized=(), extra=()),
        probe_set=None,
        coverage=None,
        structure=None,
        environment=None,
        sources=sources,
        evidence=read_evidence(evidence, sources),
        validation=named(reports),
        derivation=derivation,
    )
    return Manifest(
        statement=statement,
        payload=statement.to_bytes(),
        tables=(digested.table,),
        leaves=dict(digested.leaves),
        structure=None,
        environment=None,
        policy=None,
        probe_set=None,
    )


def _digest_files(
    path: Path, engine: DigestEngine, progress: Progress | None, reports: tuple[ReportReference, ...]
) -> tuple[Digested, str, Derivation | None]:
    """Return the digests of a checkpoint's tensors, how they were read, and the pack that it is."""
    if is_pack(path):
        with open_pack(path) as pack:
            require_whole(pack, progress=progress)
            digested = Digested(table=table_of(pack.index), leaves={}, extents={})
            return digested, "weighmaster-pack", derivation_of(pack, reports_of(pack.root, reports))
    if path.is_file() and kind_of(path) in ("checkpoint", "torchscript", "torch-export"):
        return _digest_views(open_pickled(path), engine, progress), "torch-pickle", None
    with open_checkpoint(path) as checkpoint:
        digested = _digest_views(checkpoint.views(), engine, progress)
        checkpoint.check_unchanged()
    return digested, "safetensors-files", None


def _digest_views(views: tuple[TensorView, ...], engine: DigestEngine, progress: Progress | None) -> Digested:
    ordered = tuple(sorted(views, key=lambda v: v.name.encode("utf-8")))
    snapshot = Snapshot(views=ordered, excluded=(), facts=(), faults=(), training=())
    return digest_snapshot(snapshot, engine, stage="S0", view="logical", progress=progress)
