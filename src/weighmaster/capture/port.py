# SPDX-License-Identifier: Apache-2.0
"""What the capture of any runtime hands upwards: snapshots and traces, still undigested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from weighmaster.core.statement import Coverage
from weighmaster.core.structure import StructureFact
from weighmaster.core.tensor import TensorView
from weighmaster.errors import Fault

__all__ = ["MappedPolicy", "Snapshot", "Traced"]

MappedPolicy: TypeAlias = Literal["private", "refuse", "first"]
"""What to do about storages that are mapped to a file: copy them to private memory, refuse, or verify them first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One walk of a live model.

    Attributes:
        views: named tensors, sorted by name; those excluded by the statement are not among them.
        excluded: views of the excluded tensors that were found.
        facts: structure facts, sorted.
        faults: what could not be named or read.
        training: paths of modules in training mode.
    """

    views: tuple[TensorView, ...]
    excluded: tuple[TensorView, ...]
    facts: tuple[StructureFact, ...]
    faults: tuple[Fault, ...]
    training: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What two traced probe runs and one untraced one showed.

    Attributes:
        method: one of `core.statement.TRACES`.
        coverage: consumed beside held.
        facts: literals and the operator program, as structure facts.
        faults: consumed memory without a name, opaque operands, vacuous operands, literals that do not agree.
    """

    method: str
    coverage: Coverage
    facts: tuple[StructureFact, ...]
    faults: tuple[Fault, ...]
