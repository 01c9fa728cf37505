# SPDX-License-Identifier: Apache-2.0
"""The outputs of one configuration as a worker wrote them, and two of them side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from weighmaster.core.canonical import loads_canonical
from weighmaster.core.environment import Environment, parse_environment
from weighmaster.core.number import decimal_text
from weighmaster.core.safetensors_header import parse_file
from weighmaster.core.sweep import RUN_SCHEME, CaseFigures, Divergence, FactChange, changed_facts
from weighmaster.errors import MalformedArtefact

__all__ = ["Run", "RunCase", "compare", "read_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCase:
    """Outputs of one case.

    Attributes:
        id: of the case.
        dtype: in which the model gave them.
        sha256: over their bytes in that dtype.
        values: float64 copy, one row.
        trace: per leaf module in order: path, dtype, shape, digest, what computes it.
    """

    id: str
    dtype: str
    sha256: str
    values: npt.NDArray[np.float64]
    trace: tuple[tuple[Any, ...], ...]

    @property
    def finite(self) -> bool:
        """Whether all values are finite."""
        return bool(np.isfinite(self.values).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a worker wrote: cases, environment, operators narrower than float64 in a float64 run, digest of the file."""

    cases: tuple[RunCase, ...]
    environment: Environment
    narrow: tuple[str, ...]
    file_sha256: str

    def facts_against(self, other: Run, unsteady: frozenset[str]) -> tuple[FactChange, ...]:
        """Return the class facts in which the other run differs."""
        return changed_facts(self.environment, other.environment, unsteady)


def read_run(data: bytes, file: str, configuration: str) -> Run:
    """Read the file that a worker wrote for this configuration.

    Raises:
        MalformedArtefact: it is cut off, of another scheme or configuration, or a case has no outputs.
    """
    entries, metadata = parse_file(data, file)
    values = {e.name: np.frombuffer(raw, "<f8") for e, raw in entries}
    try:
        document = loads_canonical(dict(metadata)["sweep"].encode("utf-8"), file)
        if (document["scheme"], document["configuration"]) != (RUN_SCHEME, configuration):
            raise MalformedArtefact(file, "configuration", expected=configuration, found=str(document["configuration"]))
        return Run(
            cases=tuple(_case(line, values) for line in document["cases"]),
            environment=parse_environment(document["environment"].encode("utf-8"), file),
            narrow=tuple(document["narrow"]),
            file_sha256=hashlib.sha256(data).hexdigest(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedArtefact(file, "sweep", expected="the document of a worker", found=repr(error)) from None


def _case(line: dict[str, Any], values: dict[str, npt.NDArray[np.float64]]) -> RunCase:
    return RunCase(
        id=line["id"],
        dtype=line["dtype"],
        sha256=line["sha256"],
        values=values[line["id"]],
        trace=tuple((m, dtype, tuple(shape), digest, part) for m, dtype, shape, digest, part in line["trace"]),
    )


def compare(before: Run, after: Run, oracle: Run | None) -> tuple[CaseFigures, ...]:
    """Return the figures of each case.

    Raises:
        ValueError: the two runs have other cases, or outputs of another size.
    """
    if [(c.id, c.values.size) for c in before.cases] != [(c.id, c.values.size) for c in after.cases]:
        raise ValueError("the outputs have another form than those that they are compared with")
    exact = {c.id: c.values for c in oracle.cases} if oracle is not None else {}
    return tuple(_figures(b, a, exact.get(b.id)) for b, a in zip(before.cases, after.cases, strict=True))


def _figures(before: RunCase, after: RunCase, exact: npt.NDArray[np.float64] | None) -> CaseFigures:
    old, new = before.values, after.values
    changed = int(np.count_nonzero(old.view(np.uint64) != new.view(np.uint64)))
    difference, largest = _largest(new, old), float(np.abs(old).max(initial=0.0))
    relative = None if difference is None else difference / largest if largest else difference
    return CaseFigures(
        id=before.id,
        elements=int(old.size),
        changed=changed,
        difference=_number(difference),
        relative=_number(relative),
        distance=_number(_largest(old, exact)) if exact is not None and exact.size == old.size else None,
        first=_first(before.trace, after.trace),
    )


def _largest(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float | None:
    """Return the largest absolute difference; None where one is not finite."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    return float(np.abs(one - other).max(initial=0.0))


def _number(value: float | None) -> Decimal | None:
    return None if value is None or not np.isfinite(value) else Decimal(decimal_text(value))


def _first(before: Sequence[tuple[Any, ...]], after: Sequence[tuple[Any, ...]]) -> Divergence | None:
    if not before or not after:
        return None
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        if one != other:
            return Divergence(index=index, of=len(before), module=one[0], subsystem=one[4])
    return None
