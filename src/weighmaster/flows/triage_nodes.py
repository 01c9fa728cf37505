# SPDX-License-Identifier: Apache-2.0
"""Answer the nodes of a triage by machine, each from what it can really see; what it cannot see is not answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from weighmaster.capture.open_model import Opened
from weighmaster.capture.probe_set import parse_probe_set
from weighmaster.capture.replay import output_sha256
from weighmaster.capture.sources import source_files
from weighmaster.capture.torch_model import TorchModel
from weighmaster.core.compare import Diff, compare
from weighmaster.core.environment import Environment
from weighmaster.core.judgement import judge
from weighmaster.core.source import Source, source_faults
from weighmaster.core.structure import structure_faults
from weighmaster.core.triage import Answer
from weighmaster.engines.port import DigestEngine
from weighmaster.errors import Fault, WeighmasterError
from weighmaster.flows.answers_files import RecordedAnswers
from weighmaster.flows.answers_verify import verify_here
from weighmaster.flows.artefact import PROBE_SET, Manifest
from weighmaster.flows.preserve import Preserved
from weighmaster.flows.snapshots import Steady, digest_snapshot, take_steady

__all__ = [
    "RUNS",
    "KnownAnswers",
    "answer_configuration",
    "answer_file",
    "answer_known",
    "answer_live",
    "answer_load",
    "answer_parent",
    "answer_pipeline",
    "answer_preserved",
    "answer_recorded",
    "answer_reproducible",
    "reach_steady",
    "unanswered",
]

RUNS: Final = 3
"""How often a replay is run."""

_PIPELINE_ROLES: Final = frozenset({"tokenizer", "template", "preprocessor"})
_DECODING: Final = "generation_config.json"
_SHOWN: Final = 5


class KnownAnswers(Protocol):
    """A verdict on known answers: ``EXACT``, ``ENVELOPE`` or ``FAIL``."""

    @property
    def verdict(self) -> str:
        """The verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Files of a release compared with those at hand, by what they are for."""

    validated: tuple[Source, ...]
    found: tuple[Source, ...]

    def faults(self, wanted: Callable[[Source], bool]) -> tuple[Fault, ...]:
        """Return the faults of the files that are `wanted`."""
        return source_faults(tuple(filter(wanted, self.validated)), tuple(filter(wanted, self.found)))


def unanswered(node: str, reason: str, evidence: str = "") -> Answer:
    """Return that nobody answered, and why."""
    return Answer(node=node, answer="not answered", by="nobody", evidence=evidence, reason=reason)


def _judged(node: str, faults: Sequence[object], evidence: str, well: str) -> Answer:
    """Return ``no`` with the first faults in words, or ``yes``."""
    if not faults:
        return Answer(node=node, answer="yes", by="machine", evidence=evidence, reason=well)
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    reason = "; ".join(str(fault) for fault in faults[:_SHOWN]) + more
    return Answer(node=node, answer="no", by="machine", evidence=evidence, reason=reason)


def answer_preserved(kept: Preserved) -> Answer:
    """Node 0: every live tensor is in the bundle."""
    evidence = f"bundle.json sha256:{kept.sha256}, {len(kept.table.rows)} live tensors, root {kept.table.root}"
    return _judged("preserved", kept.faults, evidence, "the bundle was written before anything else was done")


# -- files ----------------------------------------------------------------------------------------------------------


def compared_files(manifest: Manifest, source: Path | None) -> Compared | str:
    """Return the files to compare, or why they cannot be."""
    if source is None:
        return "no directory of sources was given"
    if not manifest.statement.sources:
        return "the manifest lists no source file"
    try:
        return Compared(validated=manifest.statement.sources, found=source_files(source))
    except WeighmasterError as error:
        return f"the sources cannot be listed: {error}"


def _is_weights(source: Source) -> bool:
    return source.role == "weights"


def _is_pipeline(source: Source) -> bool:
    return source.role in _PIPELINE_ROLES or source.path.rpartition("/")[2] == _DECODING


def _is_rest(source: Source) -> bool:
    return not _is_weights(source) and not _is_pipeline(source)


def answer_file(files: Compared | str) -> Answer:
    """Node 2a: weight files against the statement."""
    if isinstance(files, str):
        return unanswered("file", files)
    count = sum(map(_is_weights, files.validated))
    if not count:
        return unanswered("file", "the manifest lists no weight file")
    return _judged("file", files.faults(_is_weights), f"SHA-256 of {count} weight files", "all are as in the statement")


def answer_pipeline(files: Compared | str) -> Answer:
    """Node 5: files of preprocessor, tokenizer, template and decoding parameters against the statement."""
    if isinstance(files, str):
        return unanswered("pipeline", files)
    names = [source.path for source in files.validated if _is_pipeline(source)]
    if not names and not any(map(_is_pipeline, files.found)):
        return unanswered("pipeline", "neither manifest nor sources have such a file")
    well = "all are as in the statement; parameters that a request carries were not seen"
    return _judged("pipeline", files.faults(_is_pipeline), f"SHA-256 of {', '.join(names) or 'no file'}", well)


# -- weights --------------------------------------------------------------------------------------------------------


def answer_load(manifest: Manifest, loaded: Opened | None, live: TorchModel, engine: DigestEngine) -> Answer:
    """Node 2b: what a load gives, nothing having run, against the table of stage S1."""
    table = next((t for t in manifest.tables if t.stage == "S1"), None)
    if loaded is None:
        return unanswered("load", "no load was made; an admission at that load answers this")
    if table is None:
        return unanswered("load", "the manifest has no table of a load (stage S1)")
    fresh = TorchModel(loaded.model, extra=live.extra, materialize=tuple(live.materialize), excluded=live.reasons)
    fresh.privatize("private")
    snapshot = fresh.snapshot(structure=False)
    if snapshot.faults:
        return unanswered("load", f"tensors cannot be read: {snapshot.faults[0]}")
    diff = compare(table, digest_snapshot(snapshot, engine, stage="S1").table)
    evidence = f"a load in this process ({loaded.loader}) against table S1, {len(table.rows)} tensors"
    return _judged("load", (*loaded.faults, *_faults(diff)), evidence, "all tensors are as validated")


def _faults(diff: Diff) -> tuple[Fault, ...]:
    return (*diff.set_faults(), *diff.byte_faults())


def reach_steady(manifest: Manifest, live: TorchModel, engine: DigestEngine) -> Steady | str:
    """Run the probe set on the live model, or say why it was not."""
    if manifest.probe_set is None or manifest.gate.stage != "S3":
        return "the manifest is one of files: it holds no table of live weights"
    live.privatize("private")
    return take_steady(live, parse_probe_set(manifest.probe_set, PROBE_SET), engine, wanted="both")


def answer_live(manifest: Manifest, kept: Preserved, steady: Steady | str) -> Answer:
    """Node 2c: the preserved live digests, or those after the probe set, against the gate table."""
    if isinstance(steady, str):
        return unanswered("live", steady)
    before = compare(manifest.gate, kept.table)
    if before.same or steady.digested is None:
        evidence = f"preserved digests of {len(kept.table.rows)} tensors, as they lay"
        return _judged("live", _faults(before), evidence, "all tensors are as validated")
    diff = compare(manifest.gate, steady.digested.table)
    evidence = f"digests of {len(kept.table.rows)} tensors, as preserved and again after the probe set"
    return _judged("live", _faults(diff), evidence, "all tensors are as validated once the probe set ran")


# -- configuration --------------------------------------------------------------------------------------------------


def answer_configuration(manifest: Manifest, found: Environment, steady: Steady | str, files: Compared | str) -> Answer:
    """Node 3: environment under the policy, structure of the live model, and files of configuration and code."""
    if manifest.environment is None or manifest.policy is None or manifest.structure is None:
        return unanswered("configuration", "the manifest holds no environment: it is one of files")
    judged = judge(manifest.environment, found, manifest.policy)
    faults: list[object] = [difference.fault() for difference in judged if difference.level != "inform"]
    if not isinstance(files, str):
        faults += files.faults(_is_rest)
    evidence = f"{len(found.facts)} facts under the policy, class digest {found.class_digest}"
    taken = not isinstance(steady, str) and steady.digested is not None
    if not isinstance(steady, str):
        faults += steady.faults
    if taken and not isinstance(steady, str):
        faults += structure_faults(manifest.structure, steady.structure)
        evidence += "; classes, code and operators of the live model"
    if not taken and not faults:
        return unanswered("configuration", f"the structure of the live model was not compared: {steady}", evidence)
    return _judged("configuration", faults, evidence, "equal, or different where the policy lets it pass")


# -- outputs --------------------------------------------------------------------------------------------------------


def answer_known(known: KnownAnswers | None) -> Answer:
    """Node 4: the verdict of a run of known answers."""
    if known is None:
        return unanswered("answers", "no run of known answers was given")
    evidence = f"verdict {known.verdict}"
    if known.verdict not in {"EXACT", "ENVELOPE", "FAIL"}:
        return unanswered("answers", f"expected EXACT, ENVELOPE or FAIL, found {known.verdict!r}", evidence)
    faults = ("a known answer is not given",) if known.verdict == "FAIL" else ()
    return _judged("answers", faults, evidence, "the known answers are given")


def answer_recorded(recorded: RecordedAnswers, manifest: Manifest, live: TorchModel) -> Answer:
    """Node 4: recorded answers run on the live model; only those of the weights of this release count."""
    if recorded.answers.root != manifest.root:
        reason = f"answers of other weights; expected root {manifest.root}, found {recorded.answers.root}"
        return unanswered("answers", reason)
    try:
        verdict, _ = verify_here(recorded, live.model)
    except WeighmasterError as error:
        return unanswered("answers", f"the known answers were not run: {error}")
    return answer_known(verdict)


def answer_reproducible(replay: Callable[[], Any] | None) -> Answer:
    """Node 6: the same input `RUNS` times in this process, compared bit for bit."""
    if replay is None:
        return unanswered("reproducible", "no replay was given")
    try:
        digests = [output_sha256(replay()) for _ in range(RUNS)]
    except Exception as error:  # noqa: BLE001  # foreign code raises anything
        return unanswered("reproducible", f"the replay raised {type(error).__name__}: {error}")
    different = len(set(digests))
    faults = (f"{different} different outputs in {RUNS} runs",) if different > 1 else ()
    well = f"{RUNS} equal outputs in this process; a person says so where another output was expected"
    return _judged("reproducible", faults, "sha256:" + ", ".join(dict.fromkeys(digests)), well)


def answer_parent(parent: Callable[[], Any] | None, accept: Callable[[Any], bool] | None) -> Answer:
    """Node 7: run the parent on the input, and ask `accept` about its output."""
    if parent is None or accept is None:
        return unanswered("parent", "no parent, or no way to tell an acceptable answer, was given")
    try:
        output = parent()
        accepted: object = accept(output)
        digest = output_sha256(output)
    except Exception as error:  # noqa: BLE001  # foreign code raises anything
        return unanswered("parent", f"the parent could not be asked: {type(error).__name__}: {error}")
    if not isinstance(accepted, bool):
        return unanswered("parent", f"accept: expected True or False, found {type(accepted).__qualname__}")
    faults = () if accepted else ("the parent's output is not acceptable either",)
    return _judged("parent", faults, f"output of the parent sha256:{digest}", "the parent's output is acceptable")
