# SPDX-License-Identifier: Apache-2.0
"""Diagnose a weights mismatch: one finding per tensor that differs from the validated table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from weighmaster.core.digest import TensorDigest, digest_bytes
from weighmaster.core.manifest import Row, Table
from weighmaster.core.tensor import TensorView, row_major
from weighmaster.errors import TensorFault
from weighmaster.flows.diagnosis_bits import CASTS, explain, round_to, values_of

__all__ = ["KINDS", "Finding", "diagnose"]

KINDS: Final = (
    "flipped-bits",
    "replaced",
    "truncated-tail",
    "shifted",
    "recast",
    "adapter-merged",
    "requantized",
    "missing",
    "extra",
    "form",
    "undetermined",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with one tensor.

    Attributes:
        tensor: its name.
        kind: one of `KINDS`.
        text: one line.
        figures: numbers behind the word, fit for JSON.
    """

    tensor: str
    kind: str
    text: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a kind off the list.

        Raises:
            ValueError: there is no such kind.
        """
        if self.kind not in KINDS:
            raise ValueError(f"no such kind of finding: {self.kind!r}")

    def document(self) -> dict[str, Any]:
        """Return the finding as a JSON object."""
        return {"figures": dict(self.figures), "kind": self.kind, "tensor": self.tensor, "text": self.text}


def diagnose(
    validated: Table,
    live: Sequence[TensorView],
    references: Sequence[TensorView] = (),
    *,
    leaves: Mapping[str, bytes] | None = None,
) -> tuple[Finding, ...]:
    """Return one finding per differing tensor, in order of names; digests alone give ``undetermined``.

    This explains and verifies nothing: layout, role and aliases are not compared (`core.compare` does). Whole tensors
    are held in memory; where that is too much, call it with one tensor at a time.

    Args:
        validated: the validated table.
        live: tensors as they are in memory.
        references: validated bytes, or what claims to be; checked against their rows before any use.
        leaves: leaf digests per tensor (`core.manifest.split_leaves`), bound by the caller.

    Raises:
        TensorFault: the bytes of a reference are not those of its row.
    """
    rows, found = {row.name: row for row in validated.rows}, {view.name: view for view in live}
    known = {view.name: _checked(rows, view) for view in references}
    out = []
    for name in sorted(rows.keys() | found.keys(), key=lambda n: n.encode()):
        if name not in found:
            out.append(Finding(tensor=name, kind="missing", text="is missing"))
        elif name not in rows:
            out.append(Finding(tensor=name, kind="extra", text="is not in the validated table"))
        else:
            finding = _judge(rows[name], found[name], known.get(name), (leaves or {}).get(name))
            out += [finding] if finding else []
    return tuple(out)


def _checked(rows: Mapping[str, Row], view: TensorView) -> bytes:
    row = rows.get(view.name)
    if row is None:
        raise TensorFault(view.name, "reference for a tensor that the validated table does not hold")
    data = bytes(view.read(0, view.nbytes))
    digest = digest_bytes(data)
    if (digest.sha256, digest.fsverity64k, view.dtype, view.shape) != (
        row.sha256,
        row.fsverity64k,
        row.dtype,
        row.shape,
    ):
        raise TensorFault(view.name, "reference is not the validated tensor", expected=row.sha256, found=digest.sha256)
    return data


def _judge(row: Row, view: TensorView, reference: bytes | None, leaves: bytes | None) -> Finding | None:
    if (row.dtype, row.shape, row.stride) != (view.dtype, view.shape, view.stride):
        return _form(row, view, reference)
    data = bytes(view.read(0, view.nbytes))
    digest = digest_bytes(data)
    if (digest.sha256, digest.fsverity64k) == (row.sha256, row.fsverity64k):
        return None
    if reference is None:
        return _from_digests(row, digest, leaves)
    # Rows and columns have a meaning only where the bytes lie in their order.
    shape = row.shape if row.stride == row_major(row.shape) else (math.prod(row.shape),)
    kind, text, figures = explain(reference, data, row.dtype, shape)
    return Finding(tensor=row.name, kind=kind, text=text, figures=figures)


def _form(row: Row, view: TensorView, reference: bytes | None) -> Finding:
    text = f"{row.dtype} {list(row.shape)} became {view.dtype} {list(view.shape)}"
    if reference is not None and row.shape == view.shape and row.stride == view.stride:
        data = bytes(view.read(0, view.nbytes))
        before, after = values_of(reference, row.dtype), values_of(data, view.dtype)
        if before is not None and after is not None and _is_cast(before, after, view.dtype):
            return Finding(tensor=row.name, kind="recast", text=text, figures={"through": view.dtype})
    return Finding(tensor=row.name, kind="form", text=text)


def _is_cast(before: Any, after: Any, dtype: str) -> bool:
    want = round_to(before, *CASTS[dtype]) if dtype in CASTS else before
    return bool((want == after).all())


def _from_digests(row: Row, digest: TensorDigest, leaves: bytes | None) -> Finding:
    if leaves is None or len(leaves) != len(digest.leaves):
        return Finding(tensor=row.name, kind="undetermined", text="bytes differ; no reference is at hand")
    differ = [i // 32 for i in range(0, len(leaves), 32) if leaves[i : i + 32] != digest.leaves[i : i + 32]]
    text = f"bytes differ in {len(differ)} of {len(leaves) // 32} leaves; no reference is at hand"
    return Finding(tensor=row.name, kind="undetermined", text=text, figures={"leaves": differ})
