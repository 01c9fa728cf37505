# SPDX-License-Identifier: Apache-2.0
"""Plans for a whole model: made once, kept in the journal, and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from weighmaster.core.canonical import loads_canonical
from weighmaster.core.fields import Fields
from weighmaster.core.tensor import TensorView
from weighmaster.pack import datafree
from weighmaster.pack.exact import Coded, Encoder, ExactEncoder, matrix_of, squares

__all__ = [
    "Coded",
    "Encoder",
    "ExactEncoder",
    "matrix_of",
    "plan_datafree",
    "plan_exact",
    "resume",
    "squares",
]

_STATE: Final = "encoder state"


def plan_exact() -> Encoder:
    """Return the encoder that loses nothing."""
    return ExactEncoder()


def plan_datafree(views: Sequence[TensorView], *, bits: Decimal, fixed_bytes: int) -> Encoder:
    """Return an encoder that needs the weights alone, with which the whole file takes the bits asked for.

    Raises:
        UsageError: no step gives so few bits.
    """
    return datafree.plan(views, bits=bits, fixed_bytes=fixed_bytes)


def resume(state: bytes) -> Encoder:
    """Return the encoder whose `state` this is.

    Raises:
        MalformedArtefact: it is no state of an encoder.
    """
    fields = Fields(loads_canonical(state, _STATE), file=_STATE)
    profile = fields.text("profile", choices=("exact", "datafree"))
    if profile == "datafree":
        return datafree.from_state(fields)
    fields.done()
    return plan_exact()
