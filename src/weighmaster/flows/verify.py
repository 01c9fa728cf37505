# SPDX-License-Identifier: Apache-2.0
"""Verify from outside of a service: the seal, the files of a release, a load in this process. It never admits.

The numbers are those of ``spec/admission.md``. Only the gate inside the serving process sees what that process serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weighmaster.capture.sources import source_files
from weighmaster.core.compare import compare
from weighmaster.core.manifest import Table
from weighmaster.core.source import source_faults
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.engines.port import DigestEngine, Progress
from weighmaster.errors import Fault, Faults, MalformedArtefact, NotAdmitted, SourceFault, UsageError
from weighmaster.flows.artefact import Manifest, SealedManifest
from weighmaster.flows.mark import MarkFile
from weighmaster.flows.selftest import self_test
from weighmaster.flows.trusted import Trusted, open_trusted
from weighmaster.seal.check import SignerRecord
from weighmaster.seal.trust_chain import VerifiedTrust

if TYPE_CHECKING:
    from weighmaster.flows.admission import Verdict

__all__ = ["Verification", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What held. It is about this process and these files; nothing is admitted by it.

    Attributes:
        manifest: whose seal and identity hold.
        signers: who signed.
        files: source files that match, or None where none were compared.
        file_tensors: tensors in safetensors files that match, or None where none were compared.
        verdict: of a load in this process, or None where no model was loaded.
        not_covered: in words, for print.
    """

    manifest: Manifest
    signers: tuple[SignerRecord, ...]
    files: int | None
    file_tensors: int | None
    verdict: Verdict | None
    not_covered: tuple[str, ...]


def verify(  # noqa: PLR0913  # each keyword is a decision of the caller
    sealed: SealedManifest,
    trust: VerifiedTrust,
    *,
    expect: str,
    now: datetime,
    mark: MarkFile | None = None,
    source: Path | str | None = None,
    model: str | None = None,
    extra: Mapping[str, Any] | None = None,
    waivers: Iterable[Path | str] = (),
    engine: DigestEngine | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a seal and, where they are given, files and a model against the manifest under it.

    Args:
        sealed: the manifest as it was read.
        trust: what is trusted.
        expect: the product that is expected.
        now: the moment of the clock.
        mark: a gate's high-water mark to hold it against; it is read and not raised, for nothing is admitted here.
        source: model directory or file to compare with the statement's sources, and with its table of stage S0.
        model: what `capture.open_model.open_model` opens; its code runs in this process.
        extra: tensors that were given as ``extra`` when the model was weighed, by the same names.
        waivers: bundles of waivers, as `Gate` takes them.
        engine: digest engine; by default hashlib on all CPUs.
        progress: called with a number of bytes as they are digested.

    Raises:
        NotAdmitted: with every fault found; a fault in steps 1 to 3 ends the run before files or model are touched.
        MalformedArtefact: a file, or the mark, does not follow its specification.
    """
    engine = engine or HashlibEngine()
    # (1) Self-test.
    _, wrong = self_test(engine)
    if wrong:
        raise NotAdmitted("the self-test failed", wrong)
    # (2) Signature and trust, (3) identity.
    trusted = open_trusted(sealed, trust, expect, now=now, mark=mark)
    faults: list[Fault] = []
    files, tensors, verdict = None, None, None
    if source is not None:
        files, tensors, found = _files(trusted.manifest, source, engine, progress)
        faults += found
    if model is not None:
        verdict, live = _model(sealed, trusted, expect, source, model, extra, waivers, engine, progress)
        said = {(type(f), str(f)) for f in faults}
        faults += [f for f in live if (type(f), str(f)) not in said]
    if faults:
        raise NotAdmitted(f"{expect}: verification failed", faults)
    return Verification(
        manifest=trusted.manifest,
        signers=trusted.signers,
        files=files,
        file_tensors=tensors,
        verdict=verdict,
        not_covered=tuple(_not_covered(files, verdict, marked=trusted.mark is not None)),
    )


def _not_covered(files: int | None, verdict: Verdict | None, *, marked: bool) -> Iterator[str]:
    if files is None:
        yield "no files were compared with the manifest"
    if verdict is None:
        yield "no model was loaded: what a load makes of the files (repacking, quantization, adapters) was not seen"
    else:
        yield from (line for line in verdict.not_covered if not line.startswith("rollback:"))
    if not marked:
        yield "rollback: no high-water mark was read, so an older manifest or trust file would not be noticed"
    yield "another process than this one: only the gate inside the serving process admits what that process serves"


# -- files (5) ------------------------------------------------------------------------------------------------------


def _files(
    manifest: Manifest, source: Path | str, engine: DigestEngine, progress: Progress | None
) -> tuple[int, int | None, list[Fault]]:
    """Return how many files and how many tensors in them were compared, and what is wrong."""
    validated = manifest.statement.sources
    table = next((t for t in manifest.tables if (t.stage, t.view) == ("S0", "logical")), None)
    if not validated and table is None:
        fault = SourceFault(
            "sources", "the statement lists no file, so none can match", expected="at least one file", found="none"
        )
        return 0, None, [fault]
    faults: list[Fault] = [*source_faults(validated, source_files(source))]
    if table is None:
        return len(validated), None, faults
    if any(s.role == "weights" for s in validated) and not faults:
        # Equal files hold equal tensors, and no file is there that is not listed. Tensors are read where a file
        # differs, to name the ones in it.
        return len(validated), len(table.rows), faults
    try:
        faults += _file_tensors(table, source, engine, progress)
    except (UsageError, MalformedArtefact):
        if not faults:
            raise  # otherwise the changed or missing file is the finding, and named already
    return len(validated), len(table.rows), faults


def _file_tensors(table: Table, source: Path | str, engine: DigestEngine, progress: Progress | None) -> list[Fault]:
    """Weigh the files anew and compare tensor by tensor, so that a finding names the tensor and not the file alone."""
    from weighmaster.flows.weigh import weigh_files  # noqa: PLC0415  # imports torch, which a seal does not need

    found = weigh_files(source, product="-", version="-", serial=0, engine=engine, progress=progress).gate
    diff = compare(table, found)
    return [*diff.set_faults(), *diff.byte_faults()]


# -- model (4) to (12) ----------------------------------------------------------------------------------------------


def _model(  # noqa: PLR0913, PLR0917
    sealed: SealedManifest,
    trusted: Trusted,
    expect: str,
    source: Path | str | None,
    model: str,
    extra: Mapping[str, Any] | None,
    waivers: Iterable[Path | str],
    engine: DigestEngine,
    progress: Progress | None,
) -> tuple[Verdict | None, tuple[Fault, ...]]:
    """Load the model here and put it before a gate of this process."""
    from weighmaster.capture.open_model import open_model  # noqa: PLC0415  # imports torch, which a seal does not need
    from weighmaster.flows.admit import Gate  # noqa: PLC0415

    opened = open_model(model)
    gate = Gate(
        sealed,
        trusted.verified,
        expect=expect,
        mark=None,
        # The files that this very load was made from, where they are known; what `source` holds was compared apart.
        source=opened.source if opened.source is not None else source,
        extra=extra,
        waivers=waivers,
        engine=engine,
        wall=lambda: trusted.now,
    )
    try:
        return gate.admit(opened.model, loading_faults=opened.faults, progress=progress).verdict, ()
    except Faults as halt:
        return None, halt.faults
