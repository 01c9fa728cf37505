# SPDX-License-Identifier: Apache-2.0
"""Plans for a whole model: made once, kept in the journal, and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from weighmaster.core.canonical import loads_canonical
from weighmaster.core.fields import Fields
from weighmaster.core.tensor import TensorView
from weighmaster.pack import calibrated, datafree
from weighmaster.pack.exact import Coded, Encoder, ExactEncoder, matrix_of, squares
from weighmaster.pack.statistics import Statistics

__all__ = [
    "Coded",
    "Encoder",
    "ExactEncoder",
    "matrix_of",
    "plan_calibrated",
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


def plan_calibrated(views: Sequence[TensorView], statistics: Statistics, *, bits: Decimal, fixed_bytes: int) -> Encoder:
    """Return an encoder that keeps the error where a calibration says that it matters least.

    Args:
        views: all tensors of the model.
        statistics: of `capture.calibration`, by the names of the tensors.
        bits: per weight of the whole file.
        fixed_bytes: what the file takes beside the blobs.

    Raises:
        UsageError: no step gives so few bits, or the statistics do not fit the model.
    """
    return calibrated.plan(views, statistics, bits=bits, fixed_bytes=fixed_bytes)


def resume(state: bytes, statistics: Statistics | None = None) -> Encoder:
    """Return the encoder whose `state` this is.

    Args:
        state: of an encoder.
        statistics: of the calibration, which a calibrated plan needs again: the same, which is checked.

    Raises:
        MalformedArtefact: it is no state of an encoder, or of one with other statistics.
    """
    fields = Fields(loads_canonical(state, _STATE), file=_STATE)
    profile = fields.text("profile", choices=("calibrated", "datafree", "exact"))
    if profile == "datafree":
        return datafree.from_state(fields)
    if profile == "calibrated":
        return calibrated.from_state(fields, {} if statistics is None else statistics)
    fields.done()
    return plan_exact()
