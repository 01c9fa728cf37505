# SPDX-License-Identifier: Apache-2.0
"""structure v1: what makes identical bytes another model - classes, code, scalars, hooks - as sorted facts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.fields import Fields
from weighmaster.errors import MalformedArtefact, StructureFault

__all__ = ["KINDS", "SCHEME", "Structure", "StructureFact", "parse_structure", "structure_faults"]

SCHEME: Final = "structure-v1"

KINDS: Final = ("class", "code", "context", "graph", "hook", "kernel", "literal", "scalar", "trace", "training")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class StructureFact:
    """One statement about the model that is not a tensor.

    Attributes:
        path: module path, with ``#attribute`` for state of a module; see ``torch-names-v1``.
        kind: one of `KINDS`.
        value: the fact, or ``sha256:`` and a digest where it is long.
    """

    path: str
    kind: str
    value: str

    def line(self) -> bytes:
        """Return the RFC 8785 line, without LF."""
        return dumps({"kind": self.kind, "path": self.path, "value": self.value})


@dataclass(frozen=True, kw_only=True)
class Structure:
    """All facts, sorted by path and kind, each (path, kind) once."""

    facts: tuple[StructureFact, ...]

    def __post_init__(self) -> None:
        """Refuse facts out of order.

        Raises:
            ValueError: not strictly ascending by (path, kind).
        """
        keys = [(f.path.encode("utf-8"), f.kind) for f in self.facts]
        for before, after in pairwise(keys):
            if before >= after:
                raise ValueError(f"structure facts are not strictly ascending at {after[0].decode()!r} {after[1]}")

    @cached_property
    def data(self) -> bytes:
        """The bytes of the structure file: one line per fact."""
        return b"".join(fact.line() + b"\n" for fact in self.facts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file: the structure digest."""
        return hashlib.sha256(self.data).hexdigest()


def parse_structure(data: bytes, file: str) -> Structure:
    """Parse a structure file, strictly.

    Raises:
        MalformedArtefact: a line is not canonical, of an unknown kind, or out of order.
    """
    if data and not data.endswith(b"\n"):
        raise MalformedArtefact(file, "", expected="a line feed after the last fact", found="none")
    facts = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        where = f"{file}:{number}"
        fields = Fields(loads_canonical(line, where), file=where)
        facts.append(
            StructureFact(
                path=fields.text("path", empty=True),
                kind=fields.text("kind", choices=KINDS),
                value=fields.text("value", empty=True),
            )
        )
        fields.done()
    try:
        return Structure(facts=tuple(facts))
    except ValueError as error:
        raise MalformedArtefact(file, "", expected="facts in ascending order", found=str(error)) from None


def structure_faults(validated: Structure, found: Structure) -> tuple[StructureFault, ...]:
    """Return one fault per fact that is missing, extra or different (step 7).

    Facts below a path that is wholly new or wholly gone are counted in the fault of that path.
    """
    before = {(f.path, f.kind): f.value for f in validated.facts}
    after = {(f.path, f.kind): f.value for f in found.facts}
    differing = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    old, new = {path for path, _ in before}, {path for path, _ in after}
    gone, came = old - new, new - old
    below: dict[str, int] = {}
    shown = []
    for path, kind in differing:
        top = _topmost(path, gone if path in gone else came if path in came else set())
        if top is None or top == path:
            shown.append((path, kind))
        else:
            below[top] = below.get(top, 0) + 1
    return tuple(_fault(path, kind, before.get((path, kind)), after.get((path, kind)), below) for path, kind in shown)


def _topmost(path: str, paths: set[str]) -> str | None:
    """Return the shortest of `paths` that `path` lies at or below."""
    for at, character in enumerate(path):
        if character in ".#@[<:" and path[:at] in paths:
            return path[:at]
    return path if path in paths else None


def _fault(path: str, kind: str, expected: str | None, found: str | None, below: dict[str, int]) -> StructureFault:
    if expected is None:
        detail = f"{kind} that the signed structure does not have"
    elif found is None:
        detail = f"{kind} of the signed structure is gone"
    else:
        detail = f"{kind} differs"
    if below.get(path):
        detail += f" (and {below[path]} fact{'s' if below[path] > 1 else ''} below it)"
    return StructureFault(path or "(model)", detail, expected=expected, found=found)
