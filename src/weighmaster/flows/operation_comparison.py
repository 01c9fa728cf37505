# SPDX-License-Identifier: Apache-2.0
"""Operational checks of tensors, files, environment and structure (steps 4 to 9), and of writing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from weighmaster.capture.sources import source_files
from weighmaster.core.compare import compare
from weighmaster.core.environment import Environment, Fact
from weighmaster.core.judgement import environment_faults
from weighmaster.core.source import source_faults
from weighmaster.core.structure import Structure, StructureFact, structure_faults
from weighmaster.flows.exercise import ACCEPTED, Case, Exercise, checkpoint_bytes, files_table, raise_faults

__all__ = ["COMPARISON_CASES"]


def _variant(exercise: Exercise, name: str, data: bytes) -> Path:
    """Write a copy of the model directory with another checkpoint."""
    model = exercise.folder / name
    model.mkdir()
    (model / "config.json").write_bytes((exercise.model / "config.json").read_bytes())
    (model / "model.safetensors").write_bytes(data)
    return model


def _tensors(exercise: Exercise, name: str, data: bytes) -> None:
    """Compare the tensors of a checkpoint with the signed table: names as sets, then bytes."""
    found, leaves = files_table(_variant(exercise, name, data), exercise.engine)
    diff = compare(exercise.manifest.gate, found)
    raise_faults(*diff.set_faults(), *diff.byte_faults(dict(exercise.manifest.leaves), leaves))


def _one_bit(exercise: Exercise) -> None:
    """The last bit of the last byte of a tensor of 80,128 bytes."""
    data = (exercise.model / "model.safetensors").read_bytes()
    start = data.index(bytes(range(256)))
    weight = bytearray(data[start : start + 80_128])
    weight[-1] ^= 1
    _tensors(exercise, "one bit", checkpoint_bytes(weight=bytes(weight)))


def _sources(exercise: Exercise, name: str, data: bytes) -> None:
    raise_faults(*source_faults(exercise.manifest.statement.sources, source_files(_variant(exercise, name, data))))


def _environment(threads: str | None) -> Callable[[Exercise], None]:
    def act(_exercise: Exercise) -> None:
        other = Fact.unreadable("torch.threads") if threads is None else Fact.of("torch.threads", threads)
        validated = Environment.of([Fact.of("torch.threads", "2")])
        raise_faults(*environment_faults(validated, Environment.of([other])))

    return act


def _structure(_exercise: Exercise) -> None:
    fact = StructureFact(path="", kind="class", value="exercise.Net")
    hook = StructureFact(path="#_forward_hooks[0]", kind="hook", value="exercise.hook")
    raise_faults(*structure_faults(Structure(facts=(fact,)), Structure(facts=(fact, hook))))


def _twice(exercise: Exercise) -> None:
    exercise.manifest.write(exercise.directory)


COMPARISON_CASES: Final[tuple[Case, ...]] = (
    ("the same tensors", ACCEPTED, lambda e: _tensors(e, "same", checkpoint_bytes())),
    ("one bit of one tensor flipped", "TensorFault, exit code 10", _one_bit),
    (
        "a tensor is missing",
        "TensorSetFault, exit code 11",
        lambda e: _tensors(e, "less", checkpoint_bytes(bias=False)),
    ),
    (
        "a tensor under another name",
        "TensorSetFault, exit code 11",
        lambda e: _tensors(e, "renamed", checkpoint_bytes(name="tail.weight")),
    ),
    (
        "a source file is not the signed one",
        "SourceFault, exit code 17",
        lambda e: _sources(e, "other file", checkpoint_bytes(name="tail.weight")),
    ),
    ("another value of an environment fact", "EnvironmentFault, exit code 12", _environment("1")),
    ("an environment fact that cannot be read", "EnvironmentFault, exit code 12", _environment(None)),
    ("a hook that the signed structure does not have", "StructureFault, exit code 17", _structure),
    ("a manifest written over one that is there", "UsageError, exit code 2", _twice),
)
"""What is done, what must come of it, and how it is done, in the order of the numbers."""
