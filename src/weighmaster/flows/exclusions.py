# SPDX-License-Identifier: Apache-2.0
"""What may be left out of the table, and how much of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from weighmaster.core.statement import Exclusion
from weighmaster.core.tensor import TensorView
from weighmaster.errors import CoverageFault

__all__ = ["exclusion_faults", "role_faults"]

STATE_REASONS: Final = frozenset({"kv-cache", "rng-state", "workspace"})
"""Reasons of tensors that are written while serving: no digest of them could hold."""


def exclusion_faults(excluded: Iterable[Exclusion], *, cap: int) -> tuple[CoverageFault, ...]:
    """Return a fault where more bytes that are not state are excluded than the trust file allows."""
    weights = [e for e in excluded if e.reason not in STATE_REASONS]
    total = sum(e.nbytes for e in weights)
    if total <= cap:
        return ()
    names = ", ".join(e.name for e in weights)
    return (
        CoverageFault(
            "exclusions",
            f"more bytes are excluded than the trust file allows ({names})",
            expected=f"at most {cap} bytes",
            found=f"{total} bytes",
        ),
    )


def role_faults(excluded: Iterable[TensorView], reasons: dict[str, str]) -> tuple[CoverageFault, ...]:
    """Return a fault per excluded tensor that cannot be what its reason says.

    A parameter, a constant, or a part of a composite tensor (such as the scales of a quantized weight) is no state.
    """
    return tuple(
        CoverageFault(
            view.name,
            f"a tensor of role {view.role} cannot be excluded as {reasons[view.name]}",
            expected="a buffer or plain state",
            found=view.role,
        )
        for view in excluded
        if reasons[view.name] in STATE_REASONS and view.role in ("parameter", "constant", "inner")
    )
