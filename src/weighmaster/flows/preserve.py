# SPDX-License-Identifier: Apache-2.0
"""Preserve the evidence of an incident before anything is looked into or restarted: one directory, whole or not at all.

The live tensors are digested as they lie: nothing is run, moved or made private, so the process stays what it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from weighmaster.capture.dump_names import escape
from weighmaster.capture.torch_model import TorchModel
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.core.canonical import dumps
from weighmaster.core.environment import Environment
from weighmaster.core.instant import instant_text
from weighmaster.core.manifest import Table
from weighmaster.durable import new_directory, read_whole, write_atomically
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.engines.port import DigestEngine, Progress
from weighmaster.errors import Fault, UsageError
from weighmaster.flows.artefact import SealedManifest
from weighmaster.flows.snapshots import Digested, digest_snapshot
from weighmaster.probe.collect import collect
from weighmaster.probe.gpu import gpu_facts

__all__ = ["BUNDLE", "SUMS", "Preserved", "preserve", "require_new"]

SCHEME: Final = "triage-bundle-v1"
BUNDLE: Final = "bundle.json"
SUMS: Final = "SHA256SUMS"
STAGE: Final = "S4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preserved:
    """What was preserved.

    Attributes:
        directory: of the bundle.
        sha256: of its ``bundle.json``, which names every other file with its digest: keep it apart, or sign it.
        table: the live tensors, stage S4.
        leaves: leaf digests by name of the primary tensor.
        environment: collected here.
        faults: tensors that could not be read, and are not in the table.
        files: names in the bundle, `BUNDLE` and `SUMS` apart.
    """

    directory: Path
    sha256: str
    table: Table
    leaves: Mapping[str, bytes]
    environment: Environment
    faults: tuple[Fault, ...]
    files: tuple[str, ...]


def require_new(directory: Path) -> None:
    """Refuse a directory that exists: evidence is never written over.

    Raises:
        UsageError: it exists.
    """
    if directory.exists() or directory.is_symlink():
        raise UsageError(f"{directory}: exists already and is not overwritten; choose a new directory")


def preserve(  # each keyword is a piece of evidence
    directory: Path,
    live: TorchModel,
    sealed: SealedManifest,
    *,
    now: datetime,
    logs: Iterable[Path] = (),
    known_answers: str | None = None,
    engine: DigestEngine | None = None,
    progress: Progress | None = None,
) -> Preserved:
    """Write the bundle: live digests of all tensors, environment, health, the manifest's files, logs, sums.

    Args:
        directory: must not exist.
        live: the model, as it serves.
        sealed: files of the manifest, none of which needs to be believed.
        now: the moment of the clock.
        logs: files to keep with it.
        known_answers: verdict of a run of known answers, where there was one.
        engine: digest engine; by default hashlib on all CPUs.
        progress: called with a number of bytes as they are digested.

    Raises:
        UsageError: `directory` exists, or there is no such log.
        StorageError: the file system refused; nothing is left behind.
    """
    require_new(directory)
    snapshot = live.snapshot(structure=False)
    digested = digest_snapshot(snapshot, engine or HashlibEngine(), stage=STAGE, progress=progress)
    environment = collect(torch_facts())
    files = {
        digested.table.file_name: digested.table.data,
        f"leaves.{STAGE}.kernel.bin": _leaves(digested),
        "environment.json": environment.to_bytes(),
        "health.json": dumps({"gpu": [fact.document() for fact in gpu_facts()], "notRead": _NOT_READ}),
        "live.json": dumps(
            {
                "faults": [fault.to_json() for fault in snapshot.faults],
                "training": snapshot.training,
                "excluded": [view.name for view in snapshot.excluded],
            }
        ),
        **{f"manifest/{name}": data for name, data in (*sealed.files.items(), *sealed.bundles)},
        **{f"logs/{number}-{escape(path.name)}": read_whole(path) for number, path in enumerate(logs, 1)},
    }
    if known_answers is not None:
        files["known-answers.json"] = dumps({"verdict": known_answers})
    document = _document(files, digested.table, now)
    _write(directory, files, document)
    return Preserved(
        directory=directory,
        sha256=_sha256(document),
        table=digested.table,
        leaves=dict(digested.leaves),
        environment=environment,
        faults=snapshot.faults,
        files=tuple(sorted(files)),
    )


_NOT_READ: Final = ("counters of ECC errors", "Xid messages of the driver", "messages of the kernel: give them as logs")


def _leaves(digested: Digested) -> bytes:
    return b"".join(digested.leaves[row.name] for row in digested.table.primaries)


def _document(files: Mapping[str, bytes], table: Table, now: datetime) -> bytes:
    return dumps(
        {
            "scheme": SCHEME,
            "time": instant_text(now),
            "live": {"stage": table.stage, "view": table.view, "root": table.root, "tensors": len(table.rows)},
            "files": [
                {"name": name, "bytes": str(len(files[name])), "sha256": _sha256(files[name])} for name in sorted(files)
            ],
        }
    )


def _write(directory: Path, files: Mapping[str, bytes], document: bytes) -> None:
    named = {**files, BUNDLE: document}
    sums = "".join(f"{_sha256(named[name])}  {name}\n" for name in sorted(named)).encode()
    with new_directory(directory) as temporary:
        for name, data in {**named, SUMS: sums}.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            write_atomically(temporary / name, data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
