# SPDX-License-Identifier: Apache-2.0
"""Pictures of known answers: relative error by layer, and error by case beside what is allowed. SVG or PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from weighmaster.errors import UsageError
from weighmaster.flows.answers_explain import Explanation
from weighmaster.flows.answers_verify import AnswersVerdict

__all__ = ["FORMATS", "draw_answers"]

FORMATS: Final = (".png", ".svg")
_STYLE: Final[Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "grid.color": "#e4e4e4",
    "svg.fonttype": "path",
    "svg.hashsalt": "weighmaster-answers-v1",
}
_BLUE, _ORANGE, _RED, _GREY = "#0072b2", "#e69f00", "#d55e00", "#8c8c8c"
_COLOUR: Final = {"EXACT": _BLUE, "ENVELOPE": _ORANGE, "FAIL": _RED}
_FLOOR: Final = 1e-18
"""Where an error of exactly 0 is drawn on a logarithmic axis."""


def draw_answers(verdict: AnswersVerdict, explanation: Explanation | None, suffix: str) -> bytes:
    """Return the picture.

    Args:
        verdict: of known answers.
        explanation: of the first case that differs, or None where all are EXACT.
        suffix: ``.svg`` or ``.png``.

    Raises:
        UsageError: another suffix.
    """
    if suffix not in FORMATS:
        raise UsageError(f"picture: expected a name that ends in .svg or .png, found {Path(suffix).name!r}")
    with mpl.rc_context(_STYLE):
        layers = explanation.layers if explanation is not None else ()
        figure = Figure(figsize=(9, 7.5 if layers else 4))
        axes = figure.subplots(2 if layers else 1, 1, squeeze=False)
        _by_case(axes[0][0], verdict)
        if explanation is not None and layers:
            _by_layer(axes[1][0], explanation)
        out = io.BytesIO()
        if suffix == ".png":
            FigureCanvasAgg(figure)
            figure.savefig(out, format="png", dpi=110)
        else:
            FigureCanvasSVG(figure)
            figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _by_case(axes: Any, verdict: AnswersVerdict) -> None:
    places = range(len(verdict.cases))
    errors = [_FLOOR if c.error is None else max(c.error, _FLOOR) for c in verdict.cases]
    axes.scatter(places, errors, s=14, c=[_COLOUR[c.verdict] for c in verdict.cases], zorder=3)
    allowed = [(i, c.tolerance) for i, c in enumerate(verdict.cases) if c.tolerance]
    axes.scatter([i for i, _ in allowed], [t for _, t in allowed], marker="_", s=40, color=_GREY)
    axes.set_yscale("log")
    axes.set_xticks(list(places), [c.id for c in verdict.cases], rotation=90, fontsize=5)
    axes.set_ylabel("largest error against the float64 oracle")
    axes.set_title(f"{verdict}; dashes: allowed", loc="left", fontsize=9)


def _by_layer(axes: Any, explanation: Explanation) -> None:
    places = range(len(explanation.layers))
    axes.plot(places, [max(error, _FLOOR) for _, error in explanation.layers], marker=".", color=_BLUE, linewidth=0.8)
    if explanation.place >= 0:
        axes.axvline(explanation.place, color=_RED, linewidth=1)
    axes.set_yscale("log")
    step = max(1, len(explanation.layers) // 60)
    shown = list(places)[::step]
    axes.set_xticks(shown, [explanation.layers[i][0] for i in shown], rotation=90, fontsize=5)
    axes.set_ylabel("relative error against a float64 copy")
    axes.set_title(
        f"case {explanation.case}, by leaf module; red: the first that differs from the recorded run", loc="left"
    )
