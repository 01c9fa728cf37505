# SPDX-License-Identifier: Apache-2.0
"""How far apart the outputs of two models are: next-token distributions, sentence embeddings, a metric of one's own.

Both models are held side by side and run batch by batch: logits of a whole data set would not fit, and running one
model after the other would compute those of the first twice. What is kept is a few numbers for each token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from weighmaster.errors import UsageError

__all__ = ["Metric", "MetricDeviation", "TokenDeviation", "measure_embeddings", "measure_metric", "measure_tokens"]

_BATCH: Final = 16
_LOGITS: Final = 1 << 26
"""Logits of one model held at a time, at least those of one sequence."""

_ROWS: Final = 1 << 22
"""Logits widened to float64 at a time."""

Floats = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int64]
Metric = Callable[[torch.nn.Module], object]
"""Given a model, a number, or a number for each of its items, always in the same order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenDeviation:
    """Figures of each predicted token, sequence after sequence. The first token of a sequence is not predicted.

    Attributes:
        lengths: int64 [sequences], predicted tokens of each.
        kl: float64 [tokens], Kullback-Leibler divergence of the packed distribution from the reference, in nats.
        reference: float64 [tokens], negative log-likelihood of the token under the reference, in nats.
        packed: the same under the packed model.
        agrees: bool [tokens], both hold the same token for the likeliest.
    """

    lengths: npt.NDArray[np.int64]
    kl: Floats
    reference: Floats
    packed: Floats
    agrees: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricDeviation:
    """What a metric says of both models: float64 [items], one item where it gives one number."""

    reference: Floats
    packed: Floats


def measure_tokens(reference: torch.nn.Module, packed: torch.nn.Module, sequences: Sequence[Tokens]) -> TokenDeviation:
    """Return KL, likelihoods and agreement of two causal language models on the same tokens.

    The logits are those of the models; log-softmax and sums are computed from them in float64, so that equal logits
    give a divergence of exactly 0. Sequences of equal length share a batch; nothing is padded.

    Args:
        reference: in evaluation mode; called with ``input_ids``, it returns logits [batch, length, vocabulary].
        packed: the same, other weights.
        sequences: each int64 [length], at least two tokens.

    Raises:
        UsageError: a sequence is too short, logits are no numbers, or the divergence is infinite.
    """
    if not sequences or min(map(len, sequences)) < 2:  # noqa: PLR2004  # a token and the one it predicts
        raise UsageError("nothing to measure: expected sequences of at least two tokens")
    figures: dict[int, Floats] = {}
    with torch.inference_mode():
        for positions, ids in _batches(reference, sequences):
            logits = [_logits(model, ids, which) for model, which in ((reference, "source"), (packed, "packed"))]
            for row, position in enumerate(positions):
                figures[position] = _compare(logits[0][row, :-1], logits[1][row, :-1], ids[row, 1:])
    table = np.concatenate([figures[position] for position in range(len(sequences))], axis=1)
    if not np.isfinite(table).all():
        raise UsageError("one model excludes a token that the other holds possible: the divergence is infinite")
    return TokenDeviation(
        lengths=np.array([len(s) - 1 for s in sequences], np.int64),
        kl=table[0],
        reference=table[1],
        packed=table[2],
        agrees=table[3] == 1,
    )


def _batches(model: torch.nn.Module, sequences: Sequence[Tokens]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield positions of sequences of one length, and their tokens [batch, length] where the model is."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    width = int(getattr(getattr(model, "config", None), "vocab_size", 1) or 1)
    by_length: dict[int, list[int]] = {}
    for position, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(position)
    for length in sorted(by_length):
        batch = min(_BATCH, max(1, _LOGITS // (length * width)))
        for first in range(0, len(by_length[length]), batch):
            positions = by_length[length][first : first + batch]
            yield positions, torch.from_numpy(np.stack([sequences[p] for p in positions])).to(device)


def _logits(model: torch.nn.Module, ids: torch.Tensor, which: str) -> torch.Tensor:
    output: Any = model(input_ids=ids)
    logits: torch.Tensor = getattr(output, "logits", output)
    if torch.isnan(logits).any() or torch.isposinf(logits).any():
        raise UsageError(f"the {which} model gives logits that are no numbers: nothing can be measured on it")
    return logits


def _compare(reference: torch.Tensor, packed: torch.Tensor, target: torch.Tensor) -> Floats:
    """Return float64 [4, tokens]: KL, both likelihoods, agreement; of logits [tokens, vocabulary]."""
    step = max(1, _ROWS // reference.shape[-1])
    pieces = []
    for first in range(0, len(target), step):
        p, q = (torch.log_softmax(x[first : first + step].double(), -1) for x in (reference, packed))
        # A token that the reference excludes (logit -inf) adds nothing, whatever the other says.
        kl = torch.where(torch.isneginf(p), 0.0, p.exp() * (p - q)).sum(-1)
        wanted = target[first : first + step, None]
        agrees = (p.argmax(-1) == q.argmax(-1)).double()
        pieces.append(torch.stack([kl, -p.gather(-1, wanted)[:, 0], -q.gather(-1, wanted)[:, 0], agrees]))
    return torch.cat(pieces, 1).cpu().numpy()


def measure_embeddings(
    reference: torch.nn.Module, packed: torch.nn.Module, sequences: Sequence[Tokens], *, pooling: str
) -> Floats:
    """Return float64 [sequences], 1 - cosine between the sentence embeddings of two encoders.

    Computed as half the squared distance of the normalised embeddings, in float64: 1 - a.b would lose what is small.

    Args:
        reference: in evaluation mode; its body is called with ``input_ids`` and ``attention_mask``.
        packed: the same, other weights.
        sequences: each int64 [length], at least one token.
        pooling: ``mean`` over the tokens, or ``cls``, the first.

    Raises:
        UsageError: there is no sequence, or a model gives embeddings that are not finite.
    """
    if not sequences or min(map(len, sequences)) < 1:
        raise UsageError("nothing to measure: expected sequences of at least one token")
    out = np.empty(len(sequences))
    with torch.inference_mode():
        for positions, ids in _batches(reference, sequences):
            a, b = (_embed(m, ids, pooling, w) for m, w in ((reference, "source"), (packed, "packed")))
            out[positions] = ((a - b).square().sum(-1) / 2).cpu().numpy()
    return out


def _embed(model: torch.nn.Module, ids: torch.Tensor, pooling: str, which: str) -> torch.Tensor:
    body: Any = getattr(model, "base_model", model)
    hidden = body(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.double()
    pooled = hidden[:, 0] if pooling == "cls" else hidden.mean(1)
    unit: torch.Tensor = pooled / pooled.norm(dim=-1, keepdim=True)
    if not torch.isfinite(unit).all():
        raise UsageError(f"the {which} model gives embeddings that are no numbers: nothing can be measured on it")
    return unit


def measure_metric(metric: Metric, reference: torch.nn.Module, packed: torch.nn.Module) -> MetricDeviation:
    """Call a metric of the user's own on both models, first on the reference.

    Raises:
        UsageError: it returns something else than finite numbers, or other numbers of items for the two models.
    """
    first, second = (_numbers(metric(model)) for model in (reference, packed))
    if len(first) != len(second):
        raise UsageError(f"the metric gives {len(first)} items for the source and {len(second)} for the packed model")
    return MetricDeviation(reference=first, packed=second)


def _numbers(value: object) -> Floats:
    held = value.detach().cpu() if isinstance(value, torch.Tensor) else value
    try:
        numbers = np.atleast_1d(np.asarray(held, np.float64))
    except (TypeError, ValueError):
        raise UsageError(f"the metric gives {type(value).__name__}: expected a number or an array of them") from None
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise UsageError("the metric gives no finite numbers in one dimension")
    return numbers
