# SPDX-License-Identifier: Apache-2.0
"""Plans for a whole model: made once, kept in the journal, and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from weighmaster.core.canonical import loads
from weighmaster.core.tensor import TensorView
from weighmaster.pack import datafree
from weighmaster.pack.coded import Coded, Encoder
from weighmaster.pack.coder import Backend, NumpyBackend
from weighmaster.pack.exact import Exact

__all__ = ["Coded", "Encoder", "plan_datafree", "plan_exact"]


def plan_exact(*, backend: Backend | None = None) -> Encoder:
    """Return the lossless encoder."""
    return Exact(backend=backend or NumpyBackend())


def plan_datafree(
    views: Sequence[TensorView], *, bits: Decimal, fixed_bytes: int, backend: Backend | None = None
) -> Encoder:
    """Return an encoder that needs the weights alone."""
    return datafree.plan(views, bits=bits, fixed_bytes=fixed_bytes, backend=backend or NumpyBackend())
