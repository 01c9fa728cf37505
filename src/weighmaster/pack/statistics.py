# SPDX-License-Identifier: Apache-2.0
"""What calibration knows of a weight: how much it costs to change it (collected by `capture.calibration`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Moments", "Statistics", "digest_of"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Second moments around one weight matrix ``y = W x``, each a mean over the tokens of the calibration.

    For a small change E of W the loss grows by about ``0.5 * sum_r outputs[r] * E[r] @ inputs @ E[r]``.

    Attributes:
        inputs: float32 [cols, cols], of x; for an embedding, whose columns are what it hands on, of the gradient there.
        outputs: float64 [rows], squared gradient at y; for an embedding the share of the tokens that are this row's.
    """

    inputs: npt.NDArray[np.float32]
    outputs: npt.NDArray[np.float64]


Statistics: TypeAlias = Mapping[str, Moments]
"""Moments by the name that the weight has in the checkpoint. What is not in it was not seen by the calibration."""


def digest_of(statistics: Statistics) -> str:
    """Return a SHA-256 over all moments, 64 hexadecimal digits: two equal statistics make the same plan."""
    state = hashlib.sha256()
    for name in sorted(statistics):
        moments = statistics[name]
        state.update(f"{name}\n{moments.inputs.shape} {moments.outputs.shape}\n".encode())
        state.update(np.ascontiguousarray(moments.inputs, "<f4").tobytes())
        state.update(np.ascontiguousarray(moments.outputs, "<f8").tobytes())
    return state.hexdigest()
