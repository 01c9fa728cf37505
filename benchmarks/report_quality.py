# SPDX-License-Identifier: Apache-2.0
"""The part of the page about quality: packs and the quantizers of others on the same tokens, and what was aimed at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from intervals import interval

__all__ = ["Target", "equal_bits", "quality_section", "targets"]

Row = Mapping[str, Any]
MODELS: Final = {
    "small-lm": "causal language model, 4.46 M parameters, bfloat16, every row a multiple of 256",
    "tiny-lm": "causal language model, 2.56 M parameters, float32, rows of 192 and 512",
}
ENCODER: Final = "minilm"
FACTORS: Final = {"small-lm": (0.28, 0.18), "tiny-lm": (0.45, 0.18)}
RATIOS: Final = ((5.0, 1.002, 1.001), (4.5, 1.004, 1.0015), (4.0, 1.008, 1.003))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One figure beside the bound that must hold and the one that was hoped for; both are upper bounds.

    Attributes:
        what: the figure.
        measured: value, lower and upper end of its 95 % interval; one value where there is no interval.
        must: bound that must hold, if any.
        goal: bound that was hoped for, if any.
        strict: whether the bound itself misses.
        digits: for print.
    """

    what: str
    measured: tuple[float, ...]
    must: float | None = None
    goal: float | None = None
    strict: bool = False
    digits: int = 2

    def meets(self, bound: float) -> bool:
        """Whether the value as measured, not as rounded for print, keeps the bound."""
        return self.measured[0] < bound or (self.measured[0] == bound and not self.strict)

    def row(self) -> tuple[str, ...]:
        """Return the cells: figure, measured, must, met, goal, met."""
        value, *ends = (f"{x:.{self.digits}f}" for x in self.measured)
        shown = f"{value} ({' to '.join(ends)})" if ends else value
        return (self.what, shown, *self._judged(self.must), *self._judged(self.goal))

    def _judged(self, bound: float | None) -> tuple[str, str]:
        if bound is None:
            return "", ""
        return f"{'under' if self.strict else 'at most'} {bound:g}", "met" if self.meets(bound) else "**not met**"


# -- figures ------------------------------------------------------------------------------------------------------


def methods(result: Mapping[str, Any], model: str) -> dict[str, Row]:
    """Return the rows of a model by name."""
    kind = "encoder" if model == ENCODER else "causal"
    return {row["name"]: row for row in result[kind].get(model, {"methods": ()})["methods"]}


def mean(row: Row, key: str) -> tuple[float, float, float]:
    """Return the mean over sequences, and its interval."""
    return interval(lambda means: means[0], row[key])


def ppl_ratio(row: Row) -> tuple[float, float, float]:
    """Return the ratio of perplexities, and its interval."""
    return interval(lambda means: np.exp(means[0]), row["nll"])


def over(ours: Row, theirs: Row, key: str = "kl") -> tuple[float, float, float]:
    """Return the ratio of two means over the same sequences, and its paired interval."""
    return interval(lambda means: means[0] / means[1], ours[key], theirs[key])


def q5_k(peers: Mapping[str, Row]) -> Row:
    """Return llama.cpp's Q5_K at its 5.5 bits, reshaped where the rows do not fit."""
    return peers.get("Q5_K") or peers["Q5_K (reshaped)"]


def equal_bits(peers: Mapping[str, Row], packs: Mapping[str, Row], profile: str) -> Iterator[tuple[Row, Row]]:
    """Yield each peer and the pack of a profile that comes nearest to its real bits without passing them."""
    mine = [row for name, row in packs.items() if name.startswith(f"{profile} ")]
    for row in peers.values():
        if fitting := [pack for pack in mine if pack["bits"] <= row["bits"]]:
            yield row, max(fitting, key=lambda pack: pack["bits"])


def comparable(peers: Mapping[str, Any], packs: Mapping[str, Any]) -> None:
    """Refuse two results that were not measured on the same tokens.

    Raises:
        ValueError: they were not.
    """
    for model in set(peers["causal"]) & set(packs["causal"]):
        theirs, ours = peers["causal"][model], packs["causal"][model]
        if theirs["sequences"] != ours["sequences"]:
            raise ValueError(f"{model}: peers and packs were measured on different sequences")
        if not np.allclose(theirs["reference_nll"], ours["reference_nll"], rtol=1e-4):
            raise ValueError(f"{model}: peers and packs were measured against different models")


def targets(peers: Mapping[str, Any], packs: Mapping[str, Any]) -> Iterator[Target]:
    """Yield every figure that something was aimed at."""
    for model in MODELS:
        theirs, ours = methods(peers, model), methods(packs, model)
        if theirs and ours:
            yield from causal_targets(model, theirs, ours)
    theirs, ours = methods(peers, ENCODER), methods(packs, ENCODER)
    if (row := ours.get("calibrated 5.0")) is not None:
        thousandths = tuple(1000 * x for x in mean(row, "cosine"))
        yield Target(what=f"{ENCODER}: 1 - cosine at 5.0, thousandths", measured=thousandths, must=2.0, goal=1.5)
    yield from worst_target(ENCODER, theirs, ours, "cosine", must=None)


def causal_targets(model: str, theirs: Mapping[str, Row], ours: Mapping[str, Row]) -> Iterator[Target]:
    reference = q5_k(theirs)
    if (row := ours.get("calibrated 5.0")) is not None:
        must, goal = FACTORS[model]
        yield Target(what=f"{model}: KL at 5.0, of Q5_K's", measured=over(row, reference), must=must, goal=goal)
        yield Target(what=f"{model}: real bits of that file", measured=(row["bits"],), must=5.12, goal=5.0)
    if model == "small-lm" and (row := ours.get("calibrated 4.0")) is not None:
        yield Target(what=f"{model}: KL at 4.0, of Q5_K's", measured=over(row, reference), must=0.85, goal=0.65)
    for asked, must, goal in RATIOS:
        if (row := ours.get(f"calibrated {asked}")) is not None:
            what = f"{model}: PPL ratio at {asked}, calibrated"
            yield Target(what=what, measured=ppl_ratio(row), must=must, goal=goal, digits=5)
    if (row := ours.get("datafree 5.0")) is not None:
        yield Target(what=f"{model}: KL at 5.0 without data, of Q5_K's", measured=over(row, reference), must=1.15)
        what = f"{model}: PPL ratio at 5.0 without data"
        yield Target(what=what, measured=ppl_ratio(row), goal=1.0045, digits=5)
    yield from worst_target(model, theirs, ours, "kl", must=1.0)


def worst_target(
    model: str, theirs: Mapping[str, Row], ours: Mapping[str, Row], key: str, *, must: float | None
) -> Iterator[Target]:
    """Yield the comparison that comes out worst for the pack, where there is a pack of no more bits for every peer."""
    pairs = list(equal_bits(theirs, ours, "calibrated"))
    if pairs and len(pairs) == len(theirs):
        peer, pack = max(pairs, key=lambda pair: over(pair[1], pair[0], key)[0])
        what = f"{model}: at no more bits, of the nearest of {len(pairs)} peers ({peer['name']})"
        yield Target(what=what, measured=over(pack, peer, key), must=must, goal=None, strict=True)


# -- the page -----------------------------------------------------------------------------------------------------


def quality_section(
    peers: Mapping[str, Any], source: str, packs: Mapping[str, Any] | None = None, packs_source: str = ""
) -> Iterator[str]:
    """Yield the paragraphs of the section."""
    yield "## 8. Quality: packs beside the quantizers of others"
    yield method_words(peers, source, packs, packs_source)
    if packs is None:
        yield "Packs: **NOT RUN** yet."
    else:
        comparable(peers, packs)
        if packs.get("note"):
            yield packs["note"]
    for model in peers["causal"]:
        yield f"`{model}`: {MODELS[model]}; {peers['causal'][model]['parameters']:,} in all."
        yield causal_table(methods(peers, model), methods(packs or EMPTY, model))
    for model, found in peers["encoder"].items():
        words = "sentence encoder (all-MiniLM-L6-v2), float32"
        yield f"`{model}`: {words}, {found['parameters']:,} parameters; {found['texts']} texts of the held-out tokens."
        yield encoder_table(methods(peers, model), methods(packs or EMPTY, model))
    if packs is not None:
        yield from packs_part(peers, packs)
    yield from what_was_run(peers)


EMPTY: Final[dict[str, Any]] = {"causal": {}, "encoder": {}}


def method_words(peers: Mapping[str, Any], source: str, packs: Mapping[str, Any] | None, packs_source: str) -> str:
    size = peers["parameters"]
    of_packs = f", packs from {packs_source} of {packs['date']}" if packs is not None else ""
    return (
        f"`benchmarks/quality.py`; peers from {source} of {peers['date']}{of_packs}. Each model's weights are replaced "
        "by what a method rebuilds and run in float32 by torch, one thread; the reference is the model itself in "
        f"float32. {size['sequences']} sequences of {size['length']} held-out tokens that do not overlap, by a fixed "
        "seed, of the second half (variants were chosen on the first). All matrices are quantized, embeddings and "
        "heads included; norms and biases stay. Real bits are 8 x bytes / all parameters: of packs every byte needed "
        "to rebuild and check the tensors (headers, index, digests), of peers the tensors' bytes alone. KL is per "
        "token, in nats. Brackets hold 95 % bootstrap intervals over sequences; those of ratios are paired. Rank by "
        "KL: PPL ratios differ by less than their noise. Methods marked * saw calibration text."
    )


def causal_table(peers: Mapping[str, Row], packs: Mapping[str, Row]) -> str:
    rows = sorted((*peers.values(), *packs.values()), key=lambda row: (-row["bits"], mean(row, "kl")[0]))
    cells = (
        (
            title(row, packs),
            f"{row['bits']:.3f}",
            spread(mean(row, "kl"), 1000, 2),
            spread(ppl_ratio(row), 1, 4),
            f"{100 * mean(row, 'top1')[0]:.2f}",
        )
        for row in rows
    )
    return table(("", "real bits", "KL, thousandths", "PPL ratio", "same top-1, %"), cells)


def encoder_table(peers: Mapping[str, Row], packs: Mapping[str, Row]) -> str:
    rows = sorted((*peers.values(), *packs.values()), key=lambda row: (-row["bits"], mean(row, "cosine")[0]))
    cells = (
        (
            title(row, packs),
            f"{row['bits']:.3f}",
            spread(mean(row, "cosine"), 1000, 2),
            *(f"{1000 * float(np.quantile(row['cosine'], q)):.2f}" for q in (0.5, 0.95, 1.0)),
        )
        for row in rows
    )
    return table(("1 - cosine, thousandths", "real bits", "mean", "median", "95 %", "largest"), cells)


def title(row: Row, packs: Mapping[str, Row]) -> str:
    name = f"{row['name']}{' *' * row['calibrated']}"
    return f"**pack, {name}**" if packs.get(row["name"]) is row else name


def spread(found: tuple[float, float, float], factor: float, digits: int) -> str:
    value, low, high = (f"{factor * x:.{digits}f}" for x in found)
    return f"{value} ({low} to {high})"


def packs_part(peers: Mapping[str, Any], packs: Mapping[str, Any]) -> Iterator[str]:
    """Yield the comparison at equal bits and the table of targets."""
    yield (
        "At no more real bits than the peer's: beside each peer the pack that comes nearest to its bits without "
        "passing them; ratio of KL (`minilm`: of 1 - cosine)."
    )
    rows = [cells for model in (*MODELS, ENCODER) for cells in equal_rows(model, peers, packs)]
    yield table(
        ("model", "peer", "its bits", "pack's bits", "calibrated pack / peer", "data-free pack / peer"), rows, 2
    )
    yield "What was aimed at:"
    found = (target.row() for target in targets(peers, packs))
    yield table(("figure", "measured", "must", "", "goal", ""), found)


def equal_rows(model: str, peers: Mapping[str, Any], packs: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    theirs, ours = methods(peers, model), methods(packs, model)
    key = "cosine" if model == ENCODER else "kl"
    beside = {
        profile: {peer["name"]: pack for peer, pack in equal_bits(theirs, ours, profile)}
        for profile in ("calibrated", "datafree")
    }
    for name, peer in theirs.items():
        cells = [model, f"{name}{' *' * peer['calibrated']}", f"{peer['bits']:.3f}"]
        for packs_of in beside.values():
            pack = packs_of.get(name)
            cells += ["", ""] if pack is None else [f"{pack['bits']:.3f}", spread(over(pack, peer, key), 1, 2)]
        yield tuple(cells)


def what_was_run(peers: Mapping[str, Any]) -> Iterator[str]:
    """Say once what each name stands for."""
    lines: dict[str, str] = {}
    for model in (*MODELS, ENCODER):
        for name, row in methods(peers, model).items():
            lines.setdefault(name, f"- {name}: {row['what']}.")
    yield "What was run:"
    yield "\n".join(lines.values())


def table(head: tuple[str, ...], rows: Any, words: int = 1) -> str:
    """Return a Markdown table; the first `words` columns are text."""
    rule = ["---"] * words + ["--:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))
