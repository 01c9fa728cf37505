# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report: SVG, drawn from the report alone, the same bytes every time with one version of matplotlib."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weighmaster.core.pack_report import STEPS, EncoderOutputs, Histogram, LanguageOutputs, Report, TensorLine
from weighmaster.flows.report_content import bits_text

__all__ = ["Picture", "draw", "kind_of", "place_of"]

_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#6a3d9a", "#8c8c8c")
"""Of M. Okabe and K. Ito, told apart by the colour-blind; the last one is for the rest."""

_INK: Final = "#333333"
_STYLE: Final[Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _INK,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.markerscale": 1.8,
    "svg.fonttype": "path",
    "svg.hashsalt": "weighmaster-pack-report-v1",
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_LAYER: Final = re.compile(r"(?P<stack>.*?)\.(?P<layer>\d+)\.(?P<rest>.+)")
_EMBEDDING: Final = re.compile(r"emb|\bwte\b|\bwpe\b", re.IGNORECASE)
_LABELS: Final = 24
"""Layers up to which each has its number below the axis."""

_MANY: Final = 1500
"""Points above which a scatter is drawn as pixels within the SVG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture: name of its file without ``.svg``, what it shows in words, its bytes."""

    name: str
    caption: str
    svg: bytes


def draw(report: Report) -> tuple[Picture, ...]:
    """Return the pictures that the report has figures for."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        return tuple(_pictures(report))


def _pictures(report: Report) -> Iterable[Picture]:
    outputs = report.outputs
    if isinstance(outputs, LanguageOutputs):
        yield _picture(
            "divergence", "KL divergence by token, and by position in the sequence", 3.2, _divergence, report
        )
        yield _picture("perplexity", "Perplexity of each sequence, source and pack", 3.2, _perplexity, report)
    if isinstance(outputs, EncoderOutputs):
        yield _picture("cosine", "1 - cosine between the sentence embeddings of source and pack", 3.0, _cosine, report)
    yield _picture("bits", "Size and bits of the tensors, by layer", 5.2, _bits, report)
    yield _picture("errors", "Relative squared error of the tensors, by layer", 3.0, _errors, report)


def _picture(
    name: str, caption: str, height: float, paint: Callable[[Figure, Report], None], report: Report
) -> Picture:
    figure = Figure(figsize=(9, height))
    FigureCanvasSVG(figure)
    paint(figure, report)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, dpi=120)
    return Picture(name=name, caption=caption, svg=buffer.getvalue())


def _bars(axes: Axes, histogram: Histogram, marks: Iterable[tuple[str, str]], what: str) -> None:
    """Draw a histogram on a logarithmic axis; `marks` are pairs of a label and a value, drawn as lines."""
    edges = 10 ** ((histogram.first + np.arange(len(histogram.counts) + 1)) / STEPS)
    axes.bar(edges[:-1], histogram.counts, width=np.diff(edges), align="edge", color=_COLOURS[0], linewidth=0)
    axes.set_xscale("log")
    for (label, value), style in zip(marks, ("-", "--", ":"), strict=False):
        if float(value) > 0:
            axes.axvline(
                float(value), color=_COLOURS[5], linestyle=style, linewidth=1.2, label=f"{label} {_short(value)}"
            )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left")
    axes.set_ylabel(what)
    if histogram.below:
        axes.set_title(f"{histogram.below:,} at zero (below 1e-12) not drawn", loc="right", color=_INK, fontsize=8)


def _short(value: str) -> str:
    return f"{Decimal(value):.2e}"


def _divergence(figure: Figure, report: Report) -> None:
    outputs = report.outputs
    assert isinstance(outputs, LanguageOutputs)  # noqa: S101  # for the type checker
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    marks = (("median", outputs.kl_median), ("mean", outputs.kl.value), ("99th percentile", outputs.kl_p99))
    _bars(left, outputs.histogram, marks, "tokens")
    left.set_xlabel("KL(source || pack) of a token, nats")
    centres = [(p.first + p.last) / 2 for p in outputs.positions]
    right.plot(centres, [float(p.kl) for p in outputs.positions], color=_COLOURS[0], marker="o", markersize=3)
    right.set_xlabel("position of the token in its sequence")
    right.set_ylabel("mean KL, nats")
    right.set_ylim(bottom=0)


def _perplexity(figure: Figure, report: Report) -> None:
    outputs = report.outputs
    assert isinstance(outputs, LanguageOutputs)  # noqa: S101
    reference, packed = (
        np.exp([float(getattr(s, which)) for s in outputs.by_sequence]) for which in ("reference", "packed")
    )
    left, right = figure.subplots(1, 2)
    both = np.concatenate([reference, packed])
    left.plot([both.min(), both.max()], [both.min(), both.max()], color=_COLOURS[8], linewidth=1, label="equal")
    _points(left, reference, packed, _COLOURS[0])
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_ylabel("perplexity, pack")
    left.legend(loc="upper left")
    _points(right, reference, 100 * (packed / reference - 1), _COLOURS[0])
    right.axhline(0, color=_COLOURS[8], linewidth=1)
    mean = 100 * (float(outputs.ratio.value) - 1)
    right.axhline(mean, color=_COLOURS[5], linewidth=1.2, label=f"over all tokens {mean:+.3f} %")
    right.set_xscale("log")
    right.set_ylabel("change of the perplexity, %")
    right.legend(loc="upper right")
    for axes in (left, right):
        axes.set_xlabel("perplexity, source")
        _plain_ticks(axes, both)


def _plain_ticks(axes: Axes, values: npt.NDArray[Any]) -> None:
    """Label a logarithmic axis of one or two decades with plain numbers."""
    low, high = float(values.min()), float(values.max())
    ticks = [m * 10**e for e in range(-2, 12) for m in (1, 2, 5) if low * 0.8 <= m * 10**e <= high * 1.25]
    if not 2 <= len(ticks) <= 8:  # noqa: PLR2004  # more would overlap; matplotlib's own powers of ten do then
        return
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_ticks([], minor=True)


def _points(axes: Axes, x: Any, y: Any, colour: str, *, label: str | None = None) -> None:
    axes.scatter(x, y, s=9, color=colour, alpha=0.65, linewidths=0, label=label, rasterized=len(x) > _MANY)


def _cosine(figure: Figure, report: Report) -> None:
    outputs = report.outputs
    assert isinstance(outputs, EncoderOutputs)  # noqa: S101
    axes = figure.subplots()
    marks = (("median", outputs.median.value), ("mean", outputs.mean.value), ("99th percentile", outputs.p99.value))
    _bars(axes, outputs.histogram, marks, "sequences")
    axes.set_xlabel("1 - cosine")


def place_of(name: str) -> tuple[int, str, int]:
    """Return where a tensor stands on the axis of layers: embeddings, layers by stack and number, all else."""
    match = _LAYER.match(name)
    if match is not None:
        return (1, match["stack"], int(match["layer"]))
    return (0, "", 0) if _EMBEDDING.search(name) else (2, "", 0)


def kind_of(name: str) -> str:
    """Return what a tensor is within its layer, without numbers: ``self_attn.q_proj``."""
    match = _LAYER.match(name)
    parts = [part for part in (match["rest"] if match else name).split(".") if not part.isdigit()]
    if len(parts) > 1 and parts[-1] in {"weight", "bias"}:
        parts.pop()
    # Other people's names: no font has every character, and dollars would begin a formula.
    return ascii(".".join(parts[-2:]))[1:-1].replace("$", r"\$")


@dataclass(frozen=True, slots=True)
class _Columns:
    """Tensors by place; kinds by bytes, the small ones together."""

    places: dict[tuple[int, str, int], int]
    kinds: tuple[str, ...]
    named: frozenset[str]

    @classmethod
    def of(cls, tensors: tuple[TensorLine, ...]) -> _Columns:
        places = {place: i for i, place in enumerate(sorted({place_of(t.name) for t in tensors}))}
        bytes_of: Counter[str] = Counter()
        for tensor in tensors:
            bytes_of[kind_of(tensor.name)] += tensor.nbytes
        ranked = sorted(bytes_of, key=lambda kind: (-bytes_of[kind], kind))
        named = ranked if len(ranked) < len(_COLOURS) else ranked[: len(_COLOURS) - 1]
        rest = ("others",) if len(named) < len(ranked) else ()
        return cls(places, (*named, *rest), frozenset(named))

    def kind(self, tensor: TensorLine) -> str:
        kind = kind_of(tensor.name)
        return kind if kind in self.named else "others"

    def label(self, axes: Axes) -> None:
        """Write the layers below the axis: every one of few, some of many, words at the ends."""
        stacks = sorted({stack for where, stack, _ in self.places if where == 1})
        layers = [(i, place) for place, i in self.places.items() if place[0] == 1]
        step = max(1, -(-len(layers) // _LABELS))
        # Where not all fit, the words at both ends take the place of their neighbours.
        room = range(len(self.places)) if step == 1 else range(2, len(self.places) - 2)
        shown = [(i, str(place[2])) for n, (i, place) in enumerate(layers) if n % step == 0 and i in room]
        words = {0: "emb.", 2: "rest"}
        shown += [(i, words[place[0]]) for place, i in self.places.items() if place[0] in words]
        axes.set_xticks([i for i, _ in shown], [text for _, text in shown])
        axes.set_xlim(-0.7, len(self.places) - 0.3)
        axes.set_xlabel("layer" if len(stacks) == 1 else f"layers of {', '.join(stacks)}"[:110] if stacks else "")
        axes.grid(visible=False, axis="x")


def _bits(figure: Figure, report: Report) -> None:
    columns = _Columns.of(report.tensors)
    upper, lower = figure.subplots(2, 1, sharex=True)
    height = np.zeros(len(columns.places))
    for kind, colour in _colours(columns):
        own = np.zeros(len(columns.places))
        for tensor in report.tensors:
            if columns.kind(tensor) == kind:
                own[columns.places[place_of(tensor.name)]] += tensor.nbytes / 1e6
        upper.bar(np.arange(len(own)), own, 0.8, bottom=height, color=colour, label=kind, linewidth=0)
        height += own
    upper.set_ylabel("payload, MB")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper")
    drawn = _lossy(report)
    for kind, colour in _colours(columns):
        mine = [t for t in drawn if columns.kind(t) == kind]
        _points(lower, [columns.places[place_of(t.name)] for t in mine], [float(t.bits) for t in mine], colour)
    lower.axhline(float(report.size.bits_per_weight), color=_INK, linewidth=1, linestyle="--")
    lower.set_ylabel("bits per weight")
    lower.yaxis.set_major_locator(MaxNLocator(nbins=6))
    lower.set_title(f"dashed: the whole pack, {_bits_text(report)}", loc="right", fontsize=8)
    if len(drawn) < len(report.tensors):
        lower.set_title(f"{len(report.tensors) - len(drawn):,} lossless tensors not drawn", loc="left", fontsize=8)
    columns.label(lower)


def _bits_text(report: Report) -> str:
    return f"{bits_text(report.size.bits_per_weight, 4)} bits"


def _colours(columns: _Columns) -> list[tuple[str, str]]:
    return [(kind, _COLOURS[8] if kind == "others" else _COLOURS[i]) for i, kind in enumerate(columns.kinds)]


def _lossy(report: Report) -> list[TensorLine]:
    """Return the tensors that a plot of bits is about: small lossless ones would set its scale."""
    lossy = [t for t in report.tensors if t.codec == "five-v1"]
    return lossy or [t for t in report.tensors if t.elements]


def _errors(figure: Figure, report: Report) -> None:
    columns = _Columns.of(report.tensors)
    axes = figure.subplots()
    lossy = [t for t in report.tensors if Decimal(t.relative_squared_error) > 0]
    for kind, colour in _colours(columns):
        mine = [t for t in lossy if columns.kind(t) == kind]
        if mine:
            x = [columns.places[place_of(t.name)] for t in mine]
            _points(axes, x, [float(t.relative_squared_error) for t in mine], colour, label=kind)
    if lossy:
        axes.set_yscale("log")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    axes.set_ylabel("relative squared error")
    axes.set_title(f"{len(report.tensors) - len(lossy):,} tensors without any error not drawn", loc="right", fontsize=8)
    columns.label(axes)
