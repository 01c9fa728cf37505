# SPDX-License-Identifier: Apache-2.0
"""Heat map of a sweep: configurations by cases, colour by the logarithm of the relative error."""

from __future__ import annotations

import io
import math
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from weighmaster.core.sweep import CaseFigures, Result
from weighmaster.flows.sweep import Sweep

__all__ = ["heat_map"]

_STYLE: Final[Any] = {
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "weighmaster-sweep-v1",
}
_ROW, _HEAD = 0.26, 1.6
"""Inches per configuration, and for the names of the cases."""


def heat_map(swept: Sweep) -> bytes | None:
    """Return the SVG, the same bytes every time with one version of matplotlib; None where nothing was compared."""
    results = [result for result in swept.results if result.cases]
    if not results:
        return None
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        return _draw(results, swept.cases)


def _draw(results: list[Result], cases: tuple[str, ...]) -> bytes:
    figure = Figure(figsize=(9, _HEAD + _ROW * len(results)))
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    grid = np.array([[_logarithm(case) for case in result.cases] for result in results])
    colours = mpl.colormaps["cividis"].with_extremes(bad="#f0f0f0")
    image = axes.imshow(np.ma.masked_invalid(grid), cmap=colours, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(cases)), cases, rotation=45, ha="right")
    axes.set_yticks(range(len(results)), [result.configuration for result in results])
    for y, result in enumerate(results):
        for x, case in enumerate(result.cases):
            if case.relative is None:
                axes.text(x, y, "not finite", ha="center", va="center", fontsize=6)
    figure.colorbar(image, ax=axes, label="log10 of the largest relative error; grey: same bits")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _logarithm(case: CaseFigures) -> float:
    return math.log10(case.relative) if case.relative else math.nan
