# SPDX-License-Identifier: Apache-2.0
"""How fine each row and column of a weight should be, so that a bit buys the same loss everywhere.

The loss of a rounded weight is step^2 / 12 times what its row costs (Fisher) times what its column costs once the
columns after it make up for it (square of the diagonal of the Cholesky factor, as in water-filling over a Gaussian
source: Cover and Thomas, Elements of Information Theory, 10.3.3). Equal slope means a step that goes with the inverse
square root of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.pack.feedback import inverse_root
from weighmaster.pack.scales import nearest_scale, on_grid
from weighmaster.pack.statistics import Moments

__all__ = ["Fineness", "fineness_of", "scales_of"]

_NOISE: Final = 0.1
"""Of the mean, added to the costs of rows: what a sample of tokens says of a rare row is little."""

_PER_OCTAVE: Final = 8
"""Grid of the steps of rows and columns."""

_NARROWEST: Final = 64.0
"""Least cost of a row, as a fraction of the mean, is one over this."""

Floats = npt.NDArray[np.float64]
Scales = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fineness:
    """Relative steps of one weight.

    Attributes:
        row: float64 [rows]. Row times column is the step at which all weights of the model cost the same per bit.
        col: float64 [cols].
        root: float64 [cols, cols], upper triangular: root.T @ root is the inverse of the moments of the inputs.
    """

    row: Floats
    col: Floats
    root: Floats


def fineness_of(moments: Moments, *, damping: float) -> Fineness:
    """Return the relative steps that the moments imply.

    The costs of rows enter by their square root: their estimates vary far more than the costs do. The mean stays.
    """
    costs = moments.outputs
    mean = float(costs.mean()) or 1.0
    softened = np.sqrt(costs + _NOISE * mean)
    softened = np.maximum(softened * (mean / float(softened.mean())), mean / _NARROWEST)
    root = inverse_root(moments.inputs, damping)
    return Fineness(row=softened**-0.5, col=np.diag(root).copy(), root=root)


def scales_of(fineness: Fineness, step: float, mean_square: Floats, cap: float) -> tuple[Scales, Scales]:
    """Return the scales of rows and columns at one step of the model, as bits of bfloat16.

    Args:
        fineness: relative steps.
        step: of the model.
        mean_square: float64 [cols], of the weights divided by the relative steps of their rows.
        cap: root mean square that the levels of a column may have.
    """
    row, col = _gridded(fineness.row * step), _gridded(fineness.col)
    over = np.sqrt(mean_square) / (cap * step * col)
    steps = np.ceil(np.log2(np.maximum(over, 1)) * _PER_OCTAVE) / _PER_OCTAVE
    return nearest_scale(row), nearest_scale(col * 2.0**steps)


def _gridded(values: Floats) -> Floats:
    """Return values on a grid that goes through their geometric mean: a step of the model may be anything."""
    middle = float(np.exp(np.log(values).mean()))
    return on_grid(values / middle, _PER_OCTAVE) * middle
