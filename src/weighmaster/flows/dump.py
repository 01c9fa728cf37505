# SPDX-License-Identifier: Apache-2.0
"""Dump: write the live tensors of a model as files that tools of others can check, each compared with the table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weighmaster.capture.open_model import Opened
from weighmaster.capture.probe_set import ProbeSet, parse_probe_set
from weighmaster.capture.torch_model import TorchModel
from weighmaster.core.digest import leaf_digest, root_of_leaves
from weighmaster.core.manifest import Row, alias_map
from weighmaster.core.tensor import LEAF, TensorView
from weighmaster.durable import new_directory, write_atomically
from weighmaster.engines.port import Progress
from weighmaster.errors import Fault, NotAdmitted, StageFault, TensorFault, TensorSetFault, UsageError
from weighmaster.flows.artefact import PROBE_SET, Manifest
from weighmaster.flows.dump_files import INDEX, SUMS, index_bytes, sums_bytes, tensor_files
from weighmaster.flows.selftest import require_self_test
from weighmaster.flows.snapshots import training_faults

__all__ = ["INDEX", "SUMS", "Dumped", "dump"]

_PIECE: Final = 16 * LEAF


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumped:
    """What was written: the directory, files of tensors, and their bytes."""

    directory: Path
    files: int
    nbytes: int


def dump(opened: Opened, manifest: Manifest, directory: Path, *, progress: Progress | None = None) -> Dumped:
    """Write the bytes B(t) of every primary row of the gate table, as they lie in memory in steady state.

    Beside the files stand ``index.jsonl`` (a canonical line per row: name, file, dtype, shape, stride, digests) and
    ``SHA256SUMS``. The directory appears whole or not at all, and not if one tensor differs from the table.

    Args:
        opened: the live model.
        manifest: its manifest; whether it is to be trusted is the caller's to ask.
        directory: must not exist.
        progress: called with a number of bytes as they are written.

    Raises:
        NotAdmitted: with a fault per tensor that is missing, extra, of another form, or of other bytes.
        UsageError: `directory` exists, or the manifest is not that of a live model.
        StorageError: the file system refused; nothing is left behind.
    """
    require_self_test()
    if directory.exists():
        raise UsageError(f"{directory}: exists already and is not overwritten; choose a new directory")
    views = _steady_views(opened, manifest)
    with new_directory(directory) as temporary:
        dumped = _write(manifest, views, temporary, progress)
    return Dumped(directory=directory, files=dumped, nbytes=manifest.gate.nbytes)


def _steady_views(opened: Opened, manifest: Manifest) -> dict[str, TensorView]:
    """Return the live tensors by name after the signed probe set ran, their set and forms being those of the table."""
    statement = manifest.statement
    if manifest.probe_set is None or (statement.gate_stage, statement.gate_view) != ("S3", "kernel"):
        raise UsageError("the manifest is one of files: expected one of a live model (stage S3, view kernel)")
    live = TorchModel(
        opened.model,
        materialize=statement.method.materialized,
        excluded={e.name: e.reason for e in statement.coverage.excluded} if statement.coverage else {},
    )
    probe = parse_probe_set(manifest.probe_set, PROBE_SET)
    _require_clean(opened.faults)
    _require_clean(live.privatize("private")[1])
    loaded = live.snapshot(structure=False)
    _require_clean((*loaded.faults, *training_faults(loaded)))
    _run(live, probe)
    snapshot = live.snapshot(structure=False)
    _require_clean(snapshot.faults)
    _require_clean(tuple(_set_faults(manifest, snapshot.views)))
    return {view.name: view for view in snapshot.views}


def _run(live: TorchModel, probe: ProbeSet) -> None:
    try:
        for _ in range(live.warm_ups):
            live.run(probe)
    except Exception as error:  # noqa: BLE001  # whatever the model raises is a finding about the model
        _require_clean((StageFault("probe set", f"the model does not run it: {type(error).__name__}: {error}"),))


def _require_clean(faults: tuple[Fault, ...]) -> None:
    if faults:
        raise NotAdmitted("the live model is not the one of the manifest; nothing was written", faults)


def _set_faults(manifest: Manifest, views: tuple[TensorView, ...]) -> Iterator[TensorSetFault]:
    rows, live, aliases = {r.name: r for r in manifest.gate.rows}, {v.name: v for v in views}, alias_map(views)
    for name in sorted(rows.keys() | live.keys()):
        if name not in live:
            yield TensorSetFault(name, "is missing")
        elif name not in rows:
            yield TensorSetFault(name, "is not in the validated table")
        else:
            v = live[name]
            form = (v.dtype, v.shape, v.stride, v.nbytes, v.layout, v.role, aliases.get(name))
            if form != rows[name].form:
                yield TensorSetFault(name, "its form differs", expected=str(rows[name].form), found=str(form))


def _write(manifest: Manifest, views: dict[str, TensorView], folder: Path, progress: Progress | None) -> int:
    faults: list[Fault] = []
    files = tensor_files(manifest.gate)
    for row in manifest.gate.primaries:
        pieces = _Pieces(views[row.name], progress)
        write_atomically(folder / files[row.name], pieces)
        faults += pieces.faults(row)
    _require_clean(tuple(faults))
    write_atomically(folder / INDEX, index_bytes(manifest.gate))
    write_atomically(folder / SUMS, sums_bytes(manifest.gate))
    return len(files)


class _Pieces:
    """The bytes of a tensor, 1 MiB at a time; both digests are taken of exactly what was handed out."""

    def __init__(self, view: TensorView, progress: Progress | None) -> None:
        self._view, self._progress = view, progress
        self._flat, self._leaves = hashlib.sha256(), bytearray()

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self._view.nbytes, _PIECE):
            piece = bytes(self._view.read(start, min(start + _PIECE, self._view.nbytes)))
            self._flat.update(piece)
            for at in range(0, len(piece), LEAF):
                self._leaves += leaf_digest(piece[at : at + LEAF])
            if self._progress is not None:
                self._progress(len(piece))
            yield piece

    def faults(self, row: Row) -> list[TensorFault]:
        """Compare both digests with those of the row."""
        found = {
            "SHA-256": (row.sha256, self._flat.hexdigest()),
            "fs-verity digest": (row.fsverity64k, root_of_leaves(bytes(self._leaves), row.nbytes).hex()),
        }
        return [
            TensorFault(row.name, f"bytes differ ({what})", expected=expected, found=actual)
            for what, (expected, actual) in found.items()
            if expected != actual
        ][:1]
