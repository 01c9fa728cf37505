# SPDX-License-Identifier: Apache-2.0
"""Rounding with feedback: what rounding a column spoils, the columns after it make up for.

E. Frantar et al., GPTQ, arXiv:2210.17323, which is optimal brain surgery (B. Hassibi and D. Stork, 1993) in a fixed
order. Rows do not depend on each other. NumPy; blocks of columns, so that most of the work is matrix products.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.pack.tables import MAX_LEVEL

__all__ = ["inverse_root", "rounded"]

_BLOCK: Final = 32
_ROWS_AT_ONCE: Final = 1 << 21
"""Elements."""

Floats = npt.NDArray[np.float64]


def inverse_root(moments: npt.NDArray[np.floating], damping: float) -> Floats:
    """Return U, upper triangular, with ``U.T @ U`` the inverse of the damped moments.

    Args:
        moments: [n, n], symmetric, positive semidefinite.
        damping: of the mean of the diagonal, added to it.
    """
    size = len(moments)
    diagonal = np.diag(moments).astype(np.float64)
    whole = moments.astype(np.float64)
    whole[np.diag_indices(size)] += damping * (float(diagonal.mean()) or 1.0)
    # With the order reversed, the Cholesky factor of the matrix gives that of its inverse without an inversion.
    lower = np.linalg.cholesky(whole[::-1, ::-1])
    root: Floats = np.linalg.inv(lower)[::-1, ::-1]
    return root


def rounded(weights: npt.NDArray[np.float32], root: Floats, row: Floats, col: Floats) -> npt.NDArray[np.int16]:
    """Return levels int16 [rows, cols], whose error is small where the root says that it matters.

    Args:
        weights: [rows, cols].
        root: of `inverse_root` [cols, cols].
        row: steps of rows [rows].
        col: steps of columns [cols].

    Returns:
        Levels within +-255. Where a weight itself is beyond 255 steps the level is 0 and the rounding went on as if the
        weight were kept: it wants a patch.
    """
    levels = np.empty(weights.shape, np.int16)
    step = max(1, _ROWS_AT_ONCE // weights.shape[1])
    for first in range(0, len(weights), step):
        here = slice(first, first + step)
        levels[here] = _rounded_rows(weights[here], root, row[here], col)
    return levels


def _rounded_rows(weights: npt.NDArray[np.float32], root: Floats, row: Floats, col: Floats) -> npt.NDArray[np.int16]:
    source = np.ascontiguousarray(weights.T, np.float64)
    work, levels = source.copy(), np.empty(source.shape, np.int16)
    errors = np.empty((_BLOCK, source.shape[1]))
    outliers = bool((np.abs(source).max(axis=0) > (MAX_LEVEL + 0.5) * row * col.min()).any())
    for begin in range(0, len(source), _BLOCK):
        end = min(begin + _BLOCK, len(source))
        for c in range(begin, end):
            if c > begin:
                work[c] -= root[begin:c, c] @ errors[: c - begin]
            steps = row * col[c]
            k = np.rint(work[c] / steps)
            np.clip(k, -MAX_LEVEL, MAX_LEVEL, out=k)
            kept = k * steps
            if outliers:
                beyond = np.abs(source[c]) > (MAX_LEVEL + 0.5) * steps
                k[beyond], kept[beyond] = 0, source[c][beyond]
            levels[c] = k
            np.divide(work[c] - kept, root[c, c], out=errors[c - begin])
        if end < len(source):
            work[end:] -= root[begin:end, end:].T @ errors[: end - begin]
    return levels.T
