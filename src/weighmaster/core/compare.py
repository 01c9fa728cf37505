# SPDX-License-Identifier: Apache-2.0
"""Compare two tables: names as sets first, then forms, then digests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from weighmaster.core.manifest import Row, Table
from weighmaster.core.tensor import LEAF
from weighmaster.errors import Fault, TensorFault, TensorSetFault

__all__ = ["Change", "Diff", "compare", "first_differing_leaf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row of the validated table and the row of the same name found here."""

    validated: Row
    found: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """How a found table differs from a validated one. It is data: it does not raise, and has no truth value.

    Attributes:
        missing: validated rows without a found row of that name.
        extra: found rows that the validated table does not have.
        reshaped: same name; dtype, shape, stride, size, layout, role or alias differ.
        changed: same name and form; the bytes differ.
        moved: pairs (validated name, found name) of missing and extra rows whose bytes and types are the same.
    """

    missing: tuple[Row, ...]
    extra: tuple[Row, ...]
    reshaped: tuple[Change, ...]
    changed: tuple[Change, ...]
    moved: tuple[tuple[str, str], ...]

    def __bool__(self) -> NoReturn:
        """Refuse: ``if compare(a, b):`` would read either way. Ask `same`, or call `require_same`."""
        raise TypeError("a Diff has no truth value; use .same or .require_same()")

    @property
    def same(self) -> bool:
        """True where nothing differs."""
        return not (self.missing or self.extra or self.reshaped or self.changed)

    def set_faults(self) -> tuple[TensorSetFault, ...]:
        """Return the findings of step 8: one per missing, extra or reshaped tensor."""
        gone, came = dict(self.moved), {b: a for a, b in self.moved}
        out = []
        for row in self.missing:
            moved = f"; its bytes stand under {gone[row.name]!r}" if row.name in gone else ""
            out.append(TensorSetFault(row.name, f"is missing{moved}", expected=_form(row), found=None))
        for row in self.extra:
            moved = f"; its bytes are those of {came[row.name]!r}" if row.name in came else ""
            out.append(TensorSetFault(row.name, f"is not in the validated table{moved}", found=_form(row)))
        out += [
            TensorSetFault(c.validated.name, _changed_keys(c), expected=_form(c.validated), found=_form(c.found))
            for c in self.reshaped
        ]
        return tuple(out)

    def byte_faults(
        self, validated_leaves: dict[str, bytes] | None = None, found_leaves: dict[str, bytes] | None = None
    ) -> tuple[TensorFault, ...]:
        """Return the findings of step 9: one per tensor, with the first differing leaf where leaves are at hand."""
        out = []
        for change in self.changed:
            name = change.validated.name
            where = first_differing_leaf(
                change.validated.nbytes, (validated_leaves or {}).get(name), (found_leaves or {}).get(name)
            )
            out.append(
                TensorFault(
                    name,
                    f"bytes differ{where}",
                    expected=change.validated.gate_digest,
                    found=change.found.gate_digest,
                )
            )
        return tuple(out)

    def require_same(self) -> None:
        """Raise all differences as one exception group if there is any.

        Raises:
            ExceptionGroup: of `TensorSetFault` and `TensorFault`, one per tensor.
        """
        faults: list[Fault] = [*self.set_faults(), *self.byte_faults()]
        if faults:
            raise ExceptionGroup("the tables differ", faults)


def compare(validated: Table, found: Table) -> Diff:
    """Return how `found` differs from `validated`; aliases included, bytes by the gate digest."""
    before = {row.name: row for row in validated.rows}
    after = {row.name: row for row in found.rows}
    missing = tuple(row for row in validated.rows if row.name not in after)
    extra = tuple(row for row in found.rows if row.name not in before)
    both = [Change(validated=row, found=after[row.name]) for row in validated.rows if row.name in after]
    reshaped = tuple(c for c in both if c.validated.form != c.found.form)
    changed = tuple(
        c for c in both if c.validated.form == c.found.form and c.validated.gate_digest != c.found.gate_digest
    )
    return Diff(missing=missing, extra=extra, reshaped=reshaped, changed=changed, moved=_moved(missing, extra))


def _moved(missing: tuple[Row, ...], extra: tuple[Row, ...]) -> tuple[tuple[str, str], ...]:
    by_bytes: dict[tuple[object, ...], list[str]] = {}
    for row in extra:
        by_bytes.setdefault((row.dtype, row.nbytes, row.gate_digest), []).append(row.name)
    out = []
    for row in missing:
        names = by_bytes.get((row.dtype, row.nbytes, row.gate_digest))
        if names:
            out.append((row.name, names.pop(0)))
    return tuple(out)


def first_differing_leaf(nbytes: int, validated: bytes | None, found: bytes | None) -> str:
    """Return words that name the first 64 KiB leaf that differs, or an empty string where leaves are not at hand."""
    if not validated or not found or len(validated) != len(found):
        return ""
    for at in range(0, len(validated), 32):
        if validated[at : at + 32] != found[at : at + 32]:
            number, count = at // 32, len(validated) // 32
            start, stop = number * LEAF, min((number + 1) * LEAF, nbytes)
            return f", first in leaf {number} of {count} (bytes {start} to {stop - 1})"
    return ""


def _form(row: Row) -> str:
    alias = f" alias of {row.alias}" if row.alias else ""
    shape = "x".join(str(n) for n in row.shape) or "scalar"
    return f"{row.role} {row.dtype} {shape} stride {list(row.stride)} {row.layout}{alias}"


def _changed_keys(change: Change) -> str:
    keys = ("dtype", "shape", "stride", "nbytes", "layout", "role", "alias")
    differing = [k for k in keys if getattr(change.validated, k) != getattr(change.found, k)]
    return " and ".join(differing) + " differ" + ("s" if len(differing) == 1 else "")
