# SPDX-License-Identifier: Apache-2.0
"""Report on a pack: what it costs, how far its tensors are from the source's, and what that does to outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weighmaster.capture.safetensors_files import open_checkpoint
from weighmaster.core.dtype import itemsize
from weighmaster.core.pack_report import FORMAT, EncoderOutputs, File, LanguageOutputs, NoOutputs, Report
from weighmaster.core.pack_report_reader import parse_report
from weighmaster.core.tensor import TensorView
from weighmaster.durable import new_directory, read_whole, write_atomically
from weighmaster.engines.port import Progress
from weighmaster.errors import UsageError
from weighmaster.flows.report_facts import (
    machine,
    pack_ref,
    relative,
    require_names,
    require_source,
    size_of,
    tensor_line,
)
from weighmaster.flows.report_run import Ran, ReportRun, Tensors, run_models
from weighmaster.flows.report_text import PictureOf, markdown, page
from weighmaster.pack.reader import Pack, open_pack

__all__ = [
    "HTML",
    "JSON",
    "MARKDOWN",
    "ReportSummary",
    "WrittenReport",
    "read_report",
    "render",
    "summary",
    "write_report",
]

JSON: Final = "report.json"
MARKDOWN: Final = "report.md"
HTML: Final = "report.html"

_EXACT: Final = "exact"
_SAME: Final = "nothing is lost: every tensor was compared with the source, byte by byte, and is the same"
_NO_PICTURES: Final = "no pictures: matplotlib is not installed (pip install 'weighmaster[report]')"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """A report on disk.

    Attributes:
        directory: where it is.
        report: what it says.
        sha256: of ``report.json``.
        note: what is not in it, and why; empty where nothing is missing.
    """

    directory: Path
    report: Report
    sha256: str
    note: str


def write_report(
    pack: Path, source: Path, out: Path, *, run: ReportRun | None = None, progress: Progress | None = None
) -> WrittenReport:
    """Rebuild every tensor of a pack, compare it with its digest and with the source, run both models, write it up.

    ``report.json``, ``report.md``, ``report.html`` and pictures appear together in a new directory, or not at all. Who
    made the pack is not asked.

    Args:
        pack: directory of the pack.
        source: what it was made from: a model directory, or a safetensors file.
        out: directory to write; must not exist.
        run: what to run both models on; by default tokens made up from a fixed seed, if the models can be run here.
        progress: called with numbers of bytes of the source as they are compared.

    Raises:
        UsageError: `out` exists, there is no pack or no source, or what `run` asks for cannot be run.
        MalformedArtefact: the pack, the source or a file of the user breaks its format.
        SourceFault: the source is another one than was packed.
        TensorFault: a tensor is not that of the index, or not the source's though its codec loses nothing.
        TensorSetFault: pack and source do not hold the same tensors.
        StorageError: the file system refused; nothing is left behind.
    """
    if out.exists():
        raise UsageError(f"{out}: exists already and is not overwritten; choose a new directory")
    with open_pack(pack) as opened, open_checkpoint(source) as checkpoint:
        files = require_source(opened, source)
        views = {view.name: view for view in checkpoint.views()}
        require_names(opened, views)
        report = _measure(opened, source, files, views, run=run or ReportRun(), progress=progress)
        checkpoint.check_unchanged()
    return _write(report, out)


def _measure(
    pack: Pack,
    source: Path,
    files: tuple[File, ...],
    views: Mapping[str, TensorView],
    *,
    run: ReportRun,
    progress: Progress | None,
) -> Report:
    widest = max((itemsize(view.dtype) for view in views.values()), default=1)
    reason = run.require_possible(source, elements=pack.index.elements, itemsize=widest)
    if pack.index.encoder.profile == _EXACT and not run.asked:
        reason = _SAME
    kept: Tensors = {}
    lines, errors = [], []
    for name in pack.names():
        rebuilt = pack.read(name)
        line, error = tensor_line(pack, name, rebuilt, views[name])
        lines.append(line)
        errors.append(error)
        if reason is None:
            kept[name] = (rebuilt.data, rebuilt.dtype, rebuilt.shape)
        if progress is not None:
            progress(views[name].nbytes)
    ran = Ran(outputs=NoOutputs(reason=reason)) if reason else run_models(source, views, kept, run)
    return Report(
        pack=pack_ref(pack),
        source=files,
        size=size_of(pack),
        relative_squared_error=relative(errors),
        tensors=tuple(lines),
        outputs=ran.outputs,
        metrics=ran.metrics,
        machine=tuple(sorted({**machine(pack), **dict(ran.versions)}.items())),
    )


def _write(report: Report, out: Path) -> WrittenReport:
    data, (pictures, note) = report.to_bytes(), _pictures(report)
    files = {JSON: data, **render(report, pictures)}
    files |= {f"{name}.svg": svg for name, (_, svg) in pictures.items()}
    with new_directory(out) as temporary:
        for name, content in files.items():
            write_atomically(temporary / name, content)
    return WrittenReport(directory=out, report=report, sha256=hashlib.sha256(data).hexdigest(), note=note)


def _pictures(report: Report) -> tuple[PictureOf, str]:
    """Return the pictures, or none and why."""
    try:
        from weighmaster.flows.report_pictures import draw  # noqa: PLC0415  # imports matplotlib
    except ImportError:
        return {}, _NO_PICTURES
    return {picture.name: (picture.caption, picture.svg) for picture in draw(report)}, ""


def render(report: Report, pictures: PictureOf) -> dict[str, bytes]:
    """Return the files for people, by name; they follow from the report alone."""
    return {MARKDOWN: markdown(report, pictures), HTML: page(report, pictures)}


def read_report(path: Path) -> tuple[Report, str]:
    """Read ``report.json``, or the one in a directory, strictly; return what it says, and its SHA-256.

    Raises:
        UsageError: there is none.
        MalformedArtefact: it breaks its format.
        StorageError: it cannot be read.
    """
    file = path / JSON if path.is_dir() else path
    data = read_whole(file)
    return parse_report(data, str(file)), hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary:
    """What a statement says of a report.

    Attributes:
        format: id of its format.
        sha256: of ``report.json``.
        root: of the pack that it reports on.
        metrics: pairs of a name and a number in plain decimal notation, ascending by name.
    """

    format: str
    sha256: str
    root: str
    metrics: tuple[tuple[str, str], ...]


def summary(path: Path) -> ReportSummary:
    """Return what a statement says of the report at `path`, a ``report.json`` or its directory.

    Raises:
        UsageError: there is none.
        MalformedArtefact: it breaks its format.
        StorageError: it cannot be read.
    """
    report, digest = read_report(path)
    metrics = tuple(sorted(_figures(report)))
    return ReportSummary(format=FORMAT, sha256=digest, root=report.pack.root, metrics=metrics)


def _figures(report: Report) -> Iterator[tuple[str, str]]:
    outputs = report.outputs
    yield "bitsPerWeight", report.size.bits_per_weight
    if isinstance(outputs, LanguageOutputs):
        yield "kl", outputs.kl.value
        yield "perplexityRatio", outputs.ratio.value
        yield "top1Agreement", outputs.agreement.value
        yield "predictedTokens", str(outputs.predicted)
    if isinstance(outputs, EncoderOutputs):
        yield "cosineDistanceMean", outputs.mean.value
        yield "cosineDistanceP99", outputs.p99.value
        yield "sequences", str(outputs.inputs.sequences)
    for metric in report.metrics:
        yield f"metric:{metric.name}:source", metric.reference
        yield f"metric:{metric.name}:pack", metric.packed
