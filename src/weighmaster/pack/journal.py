# SPDX-License-Identifier: Apache-2.0
"""What a packer has finished, so that a killed run goes on where it was: a line for its plan, and one per shard.

A line counts once it is whole and followed by its LF; what a crash left after the last one is cut off.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.fields import Fields
from weighmaster.durable import read_whole, write_atomically
from weighmaster.errors import MalformedArtefact, StorageError
from weighmaster.pack.index import read_calibration, read_encoder, read_file_entry, read_tensor_entry
from weighmaster.pack.packed import Calibration, EncoderRecord, PackedFile, PackedTensor

__all__ = ["JOURNAL", "Finished", "Journal", "Plan", "append", "read_journal", "start_journal"]

JOURNAL: Final = ".pack.journal"
_FORMAT: Final = "weighmaster-pack-journal-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run set out to do; two runs with the same plan write the same pack.

    Attributes:
        source: the weight files.
        others: the other files of the model.
        encoder: what codes, with its parameters.
        calibration: on which tokens, or None.
        shard_bytes: bytes of the source per shard.
        state: the encoder's, as it was planned.
    """

    source: tuple[PackedFile, ...]
    others: tuple[PackedFile, ...]
    encoder: EncoderRecord
    calibration: Calibration | None
    shard_bytes: int
    state: bytes

    def to_json(self) -> dict[str, object]:
        """Return it as it stands in the journal."""
        return {
            "format": _FORMAT,
            "source": [file.to_json() for file in self.source],
            "others": [file.to_json() for file in self.others],
            "encoder": self.encoder.to_json(),
            "calibration": self.calibration and self.calibration.to_json(),
            "shardBytes": self.shard_bytes,
            "state": base64.b64encode(self.state).decode("ascii"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A shard that lies under its final name.

    Attributes:
        file: its entry in the index.
        stored: bytes of all blobs.
        tensors: their entries in the index.
        squared_error: sum over its elements of (rebuilt - source)^2.
        squared: sum of the squares of the source's elements.
    """

    file: PackedFile
    stored: int
    tensors: tuple[PackedTensor, ...]
    squared_error: float
    squared: float

    def to_json(self) -> dict[str, object]:
        """Return it as it stands in the journal."""
        return {
            "file": self.file.to_json(),
            "stored": self.stored,
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "squaredError": self.squared_error.hex(),
            "squared": self.squared.hex(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What a journal says: the plan, and the shards that were finished, in their order."""

    plan: Plan
    finished: tuple[Finished, ...]


def start_journal(directory: Path, plan: Plan) -> Journal:
    """Begin a journal with a plan.

    Raises:
        StorageError: the file system refused.
    """
    write_atomically(directory / JOURNAL, dumps(plan.to_json()) + b"\n")
    return Journal(plan=plan, finished=())


def read_journal(directory: Path) -> Journal | None:
    """Return what the journal of a directory says, or None where there is none; cut off a line that is not whole.

    Raises:
        MalformedArtefact: a whole line is no line of a journal.
        StorageError: it cannot be read, or cut.
    """
    path = directory / JOURNAL
    if not path.exists():
        return None
    data = read_whole(path)
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.split(b"\n")[:-1]
    if not lines:
        raise MalformedArtefact(str(path), "", expected="a plan in the first line", found="no whole line")
    plan = _read_plan(Fields(loads_canonical(lines[0], str(path)), file=str(path)))
    finished = tuple(_read_finished(line, f"{path}: line {i}") for i, line in enumerate(lines[1:], 2))
    if len(whole) != len(data):
        _cut(path, len(whole))
    return Journal(plan=plan, finished=finished)


def append(directory: Path, finished: Finished) -> None:
    """Add a shard that lies under its final name, and let the line reach the disk.

    Raises:
        StorageError: the file system refused.
    """
    path = directory / JOURNAL
    line = memoryview(dumps(finished.to_json()) + b"\n")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            while line:
                line = line[os.write(fd, line) :]
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _cut(path: Path, length: int) -> None:
    try:
        os.truncate(path, length)
    except OSError as error:
        raise StorageError(f"{path}: cannot be cut: {error.strerror or error}") from error


def _read_plan(fields: Fields) -> Plan:
    fields.text("format", choices=(_FORMAT,))
    plan = Plan(
        source=fields.objects("source", read_file_entry),
        others=fields.objects("others", read_file_entry),
        encoder=read_encoder(fields.nested("encoder")),
        calibration=read_calibration(fields),
        shard_bytes=fields.integer("shardBytes", minimum=1),
        state=fields.base64("state"),
    )
    fields.done()
    return plan


def _read_finished(line: bytes, file: str) -> Finished:
    fields = Fields(loads_canonical(line, file), file=file)
    finished = Finished(
        file=read_file_entry(inner := fields.nested("file")),
        stored=fields.integer("stored"),
        tensors=fields.objects("tensors", read_tensor_entry),
        squared_error=_read_float(fields, "squaredError"),
        squared=_read_float(fields, "squared"),
    )
    inner.done()
    fields.done()
    return finished


def _read_float(fields: Fields, key: str) -> float:
    text = fields.text(key)
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError):
        raise fields.fault(key, "a hexadecimal floating-point number", repr(text[:80])) from None
