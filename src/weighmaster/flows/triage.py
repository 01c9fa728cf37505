# SPDX-License-Identifier: Apache-2.0
"""Triage an unacceptable output: preserve the evidence, answer the nodes in order, decide, and write the record.

The bundle is on disk before any other node is looked at. A person's answer counts where the machine has none; against a
machine's ``yes`` a person's ``no`` counts where the machine sees a part only (`PARTLY_SEEN`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from weighmaster.capture.open_model import Opened
from weighmaster.capture.torch_model import TorchModel
from weighmaster.core.environment import Environment
from weighmaster.core.instant import instant_text
from weighmaster.core.triage import NODES, Answer, decide
from weighmaster.core.triage_record import TriageRecord
from weighmaster.durable import write_atomically
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.engines.port import DigestEngine, Progress
from weighmaster.errors import MalformedArtefact, UsageError, WeighmasterError
from weighmaster.flows.answers_files import RecordedAnswers
from weighmaster.flows.artefact import STATEMENT, Manifest, SealedManifest, bind, read_manifest
from weighmaster.flows.preserve import Preserved, preserve, require_new
from weighmaster.flows.selftest import require_self_test
from weighmaster.flows.triage_nodes import (
    KnownAnswers,
    answer_configuration,
    answer_file,
    answer_known,
    answer_live,
    answer_load,
    answer_parent,
    answer_pipeline,
    answer_preserved,
    answer_recorded,
    answer_reproducible,
    compared_files,
    reach_steady,
    unanswered,
)
from weighmaster.flows.trusted import open_trusted
from weighmaster.seal.trust_chain import VerifiedTrust

__all__ = ["EVIDENCE", "MARKDOWN", "PARTLY_SEEN", "RECORD", "Said", "Triaged", "triage"]

EVIDENCE: Final = "evidence"
RECORD: Final = "triage.json"
MARKDOWN: Final = "triage.md"

PARTLY_SEEN: Final = frozenset({"preserved", "pipeline", "reproducible"})
"""Nodes of which a machine sees a part: a restart before it came, parameters of a request, another replica."""

_NOT_BY_MACHINE: Final = {
    "authentic": "no receipt is read here: a person says whether the response is authentic",
    "envelope": "a person compares the deviation with the report of the validation",
    "intended": "a person says whether the input is within intended use",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A person's answer to a node.

    Attributes:
        yes: whether all is well.
        reason: why, and who says so.
    """

    yes: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Triaged:
    """What a triage came to, and where it lies.

    Attributes:
        directory: with `EVIDENCE`, `RECORD` and `MARKDOWN`.
        manifest: that everything was compared with.
        preserved: the evidence.
        record: answers and verdict.
    """

    directory: Path
    manifest: Manifest
    preserved: Preserved
    record: TriageRecord


def triage(  # noqa: PLR0913  # each keyword answers a node
    manifest: Path | SealedManifest,
    live: Any,
    directory: Path,
    *,
    now: datetime,
    trust: VerifiedTrust | None = None,
    expect: str | None = None,
    loaded: Opened | None = None,
    source: Path | None = None,
    environment: Environment | None = None,
    known_answers: KnownAnswers | None = None,
    recorded: RecordedAnswers | None = None,
    replay: Callable[[], Any] | None = None,
    parent: Callable[[], Any] | None = None,
    accept: Callable[[Any], bool] | None = None,
    said: Mapping[str, Said] | None = None,
    logs: Iterable[Path] = (),
    extra: Mapping[str, Any] | None = None,
    engine: DigestEngine | None = None,
    progress: Progress | None = None,
) -> Triaged:
    """Preserve, answer, decide, write.

    Args:
        manifest: of the release, or its directory.
        live: the `torch.nn.Module` that gave the output.
        directory: for evidence and record; must not exist.
        now: the moment of the clock.
        trust: under which the manifest's signatures are checked; without it none is, and the record says so.
        expect: the product that is expected; goes with `trust`.
        loaded: a load made anew as production loads, nothing having run, for node ``load``; the same model as `live`
            where that has just been loaded.
        source: model directory or file, for nodes ``file``, ``configuration`` and ``pipeline``.
        environment: of the process that served; by default the one collected here.
        known_answers: verdict of a run of known answers in the process that serves; it is kept with the evidence.
        recorded: known answers to run on `live`, once the evidence is preserved.
        replay: gives the output anew; it is run `RUNS` times.
        parent: gives the output of the unquantized parent on the same input.
        accept: tells whether an output is acceptable.
        said: persons' answers by name of the node.
        logs: files to keep with the evidence.
        extra: tensors that were given as ``extra`` when the model was weighed.
        engine: digest engine; by default hashlib on all CPUs.
        progress: called with a number of bytes as live tensors are digested.

    Raises:
        UsageError: `directory` exists, there is no such source, log or node, or `trust` is without `expect`.
        MalformedArtefact: the manifest does not follow its specification; the evidence is preserved all the same.
        NotAdmitted: its signatures do not hold; the evidence is preserved all the same.
        StorageError: the file system refused.
    """
    engine, said = engine or HashlibEngine(), said or {}
    _check(directory, source, said, trust, expect)
    require_self_test(engine)
    sealed = manifest if isinstance(manifest, SealedManifest) else read_manifest(manifest)
    model = _as_weighed(live, sealed, extra)
    verdict = None if known_answers is None else str(known_answers.verdict)
    kept = preserve(
        directory / EVIDENCE,
        model,
        sealed,
        now=now,
        logs=logs,
        known_answers=verdict,
        engine=engine,
        progress=progress,
    )
    signers, bound = _open(sealed, trust, expect, now)
    files = compared_files(bound, source)
    load = answer_load(bound, loaded, model, engine)  # before the probe set runs on what may be the same model
    steady = reach_steady(bound, model, engine)
    by_machine = (
        answer_preserved(kept),
        answer_file(files),
        load,
        answer_live(bound, kept, steady),
        answer_configuration(bound, environment or kept.environment, steady, files),
        answer_known(known_answers) if recorded is None else answer_recorded(recorded, bound, model),
        answer_pipeline(files),
        answer_reproducible(replay),
        answer_parent(parent, accept),
        *(unanswered(node, why) for node, why in _NOT_BY_MACHINE.items()),
    )
    answers = _with_persons(by_machine, said)
    record = TriageRecord(
        subject=_subject(bound, now), signers=signers, bundle=kept.sha256, answers=answers, decision=decide(answers)
    )
    write_atomically(directory / RECORD, record.to_bytes(), replace=False)
    write_atomically(directory / MARKDOWN, record.markdown().encode(), replace=False)
    return Triaged(directory=directory, manifest=bound, preserved=kept, record=record)


def _check(
    directory: Path,
    source: Path | None,
    said: Mapping[str, Said],
    trust: VerifiedTrust | None,
    expect: str | None,
) -> None:
    require_new(directory)
    names = [node.name for node in NODES]
    for name, answer in said.items():
        if name not in names:
            raise UsageError(f"said: expected a node of {', '.join(names)}, found {name!r}")
        if not answer.reason.strip():
            raise UsageError(f"said: {name}: expected a reason, found none")
    if source is not None and not Path(source).exists():
        raise UsageError(f"{source}: no such file or directory")
    if (trust is None) != (expect is None):
        raise UsageError("trust and expect: expected both or none, found one")


def _as_weighed(live: Any, sealed: SealedManifest, extra: Mapping[str, Any] | None) -> TorchModel:
    """Return the model read as the manifest says; a manifest that cannot be read keeps no evidence from its place."""
    try:
        statement = _bound(sealed).statement
    except WeighmasterError:
        return TorchModel(live, extra=extra)
    excluded = {e.name: e.reason for e in statement.coverage.excluded} if statement.coverage else {}
    return TorchModel(live, extra=extra, materialize=statement.method.materialized, excluded=excluded)


def _bound(sealed: SealedManifest) -> Manifest:
    if STATEMENT not in sealed.files:
        raise MalformedArtefact(f"{sealed.origin}/{STATEMENT}", "", expected="the statement", found="no such file")
    return bind(sealed.files[STATEMENT], sealed.files, sealed.origin)


def _open(
    sealed: SealedManifest, trust: VerifiedTrust | None, expect: str | None, now: datetime
) -> tuple[tuple[str, ...], Manifest]:
    """Return who signed, in words, and the manifest; nobody where no trust was given."""
    if trust is None or expect is None:
        return (), _bound(sealed)
    trusted = open_trusted(sealed, trust, expect, now=now, mark=None)
    return tuple(
        f"{s.person} ({' and '.join(s.roles)}), key {s.fingerprint}" for s in trusted.signers
    ), trusted.manifest


def _with_persons(by_machine: Iterable[Answer], said: Mapping[str, Said]) -> tuple[Answer, ...]:
    given = {answer.node: answer for answer in by_machine}
    return tuple(_with_person(given[node.name], said.get(node.name)) for node in NODES)


def _with_person(answer: Answer, said: Said | None) -> Answer:
    if said is None:
        return answer
    word = "yes" if said.yes else "no"
    if answer.answer == "not answered" or (answer.answer == "yes" and not said.yes and answer.node in PARTLY_SEEN):
        return Answer(
            node=answer.node,
            answer="yes" if said.yes else "no",
            by="person",
            evidence=answer.evidence,
            reason=said.reason,
        )
    return Answer(
        node=answer.node,
        answer=answer.answer,
        by=answer.by,
        evidence=answer.evidence,
        reason=f"{answer.reason}; a person said {word}, which does not count beside it: {said.reason}",
    )


def _subject(manifest: Manifest, now: datetime) -> tuple[tuple[str, str], ...]:
    statement = manifest.statement
    return (
        ("product", statement.product),
        ("version", statement.version),
        ("serial", str(statement.serial)),
        ("root", manifest.root),
        ("time", instant_text(now)),
    )
