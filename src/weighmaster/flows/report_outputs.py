# SPDX-License-Identifier: Apache-2.0
"""From what was measured token by token to the figures of a report, with their intervals."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.capture.deviation import MetricDeviation, TokenDeviation
from weighmaster.capture.deviation_inputs import Inputs as Sequences
from weighmaster.capture.deviation_intervals import Estimate as Measured
from weighmaster.capture.deviation_intervals import bootstrap, t_interval
from weighmaster.core.number import decimal_text
from weighmaster.core.pack_report import (
    STEPS,
    EncoderOutputs,
    Estimate,
    Histogram,
    Inputs,
    LanguageOutputs,
    MetricLine,
    Position,
    SequenceLine,
)

__all__ = ["encoder_outputs", "histogram", "language_outputs", "metric_line"]

_POSITIONS: Final = 32
"""Runs of positions that mean divergences are given for, at most."""

_SMALLEST: Final = -12 * STEPS
"""Steps of a decade: what is below 10^-12 is rounding of float64, not a divergence."""

Floats = npt.NDArray[np.float64]


def language_outputs(measured: TokenDeviation, inputs: Sequences) -> LanguageOutputs:
    """Return the figures of two causal language models on the same tokens."""
    sums = _by_sequence(measured)
    tokens = sums[:, 0]
    log_ratio = t_interval(sums[:, 3] - sums[:, 2], tokens)
    ratio = bootstrap(sums, lambda s: np.exp((s[..., 3] - s[..., 2]).sum(-1) / s[..., 0].sum(-1)))
    per_token = (1, 2, 3, 4)
    kl, reference, packed, _ = (float(sums[:, i].sum() / tokens.sum()) for i in per_token)
    return LanguageOutputs(
        inputs=_inputs(inputs),
        predicted=int(tokens.sum()),
        kl=_estimate(bootstrap(sums, lambda s: s[..., 1].sum(-1) / s[..., 0].sum(-1)), value=kl),
        kl_median=decimal_text(float(np.median(measured.kl))),
        kl_p99=decimal_text(float(np.quantile(measured.kl, 0.99))),
        kl_max=decimal_text(float(measured.kl.max())),
        perplexity_reference=decimal_text(math.exp(reference)),
        perplexity_packed=decimal_text(math.exp(packed)),
        ratio=_estimate(ratio, value=math.exp(log_ratio.value)),
        ratio_t=_exponential(log_ratio),
        agreement=_estimate(bootstrap(sums, lambda s: s[..., 4].sum(-1) / s[..., 0].sum(-1))),
        histogram=histogram(measured.kl),
        positions=_positions(measured),
        by_sequence=tuple(_sequence_line(row) for row in sums),
    )


def _by_sequence(measured: TokenDeviation) -> Floats:
    """Return float64 [sequences, 5]: predicted tokens, and sums of KL, both likelihoods, agreements."""
    starts = np.concatenate([[0], np.cumsum(measured.lengths)[:-1]])
    columns = (measured.kl, measured.reference, measured.packed, measured.agrees.astype(np.float64))
    return np.stack([measured.lengths.astype(np.float64), *(np.add.reduceat(c, starts) for c in columns)], axis=1)


def _sequence_line(row: Floats) -> SequenceLine:
    kl, reference, packed = (decimal_text(float(row[i] / row[0])) for i in (1, 2, 3))
    return SequenceLine(predicted=int(row[0]), kl=kl, reference=reference, packed=packed)


def _positions(measured: TokenDeviation) -> tuple[Position, ...]:
    """Return mean divergences by runs of positions, about as long as each other; position 0 is predicted by none."""
    position = np.concatenate([np.arange(1, length + 1) for length in measured.lengths])
    longest = int(position.max())
    width = -(-longest // _POSITIONS)
    out = []
    for first in range(1, longest + 1, width):
        last = min(first + width - 1, longest)
        values = measured.kl[(position >= first) & (position <= last)]
        out.append(Position(first=first, last=last, kl=decimal_text(float(values.mean()))))
    return tuple(out)


def histogram(values: Floats) -> Histogram:
    """Count values in steps of a decade, from 10^-12 on."""
    places = np.full(len(values), _SMALLEST - 1)
    seen = values > 0
    places[seen] = np.maximum(np.floor(np.log10(values[seen]) * STEPS).astype(np.int64), _SMALLEST - 1)
    inside = places[places >= _SMALLEST]
    first = int(inside.min()) if inside.size else 0
    counts = tuple(int(n) for n in np.bincount(inside - first)) if inside.size else ()
    return Histogram(first=first, below=len(values) - len(inside), counts=counts)


def encoder_outputs(distances: Floats, inputs: Sequences, *, pooling: str) -> EncoderOutputs:
    """Return the figures of two encoders of texts; `distances` are 1 - cosine, float64 [sequences]."""
    column = distances[:, None]

    def at(share: float) -> Estimate:
        return _estimate(bootstrap(column, lambda s: np.quantile(s[..., 0], share, axis=-1)))

    return EncoderOutputs(
        pooling=pooling,
        inputs=_inputs(inputs),
        mean=_estimate(bootstrap(column, lambda s: s[..., 0].mean(-1))),
        median=at(0.5),
        p95=at(0.95),
        p99=at(0.99),
        max=decimal_text(float(distances.max())),
        histogram=histogram(distances),
    )


def metric_line(name: str, measured: MetricDeviation) -> MetricLine:
    """Return means and paired difference of a user's metric."""
    difference = (measured.packed - measured.reference)[:, None]
    return MetricLine(
        name=name,
        items=len(difference),
        reference=decimal_text(float(measured.reference.mean())),
        packed=decimal_text(float(measured.packed.mean())),
        difference=_estimate(bootstrap(difference, lambda s: s[..., 0].mean(-1))),
        difference_t=_estimate(t_interval(difference[:, 0], np.ones(len(difference)))),
    )


def _inputs(inputs: Sequences) -> Inputs:
    return Inputs(
        kind=inputs.kind,
        seed=inputs.seed,
        sha256=inputs.sha256,
        sequences=len(inputs.sequences),
        available=inputs.available,
        tokens=inputs.tokens,
    )


def _estimate(measured: Measured, *, value: float | None = None) -> Estimate:
    low, high = (None if end is None else decimal_text(end) for end in (measured.low, measured.high))
    return Estimate(value=decimal_text(measured.value if value is None else value), low=low, high=high)


def _exponential(log: Measured) -> Estimate:
    low, high = (None if end is None else decimal_text(math.exp(end)) for end in (log.low, log.high))
    return Estimate(value=decimal_text(math.exp(log.value)), low=low, high=high)
