# SPDX-License-Identifier: Apache-2.0
"""How far a model with rebuilt weights is from the model it was made from: per token, paired, with intervals.

Everything is measured on the same token sequences: the KL divergence of the next-token distributions from those of
the reference, the ratio of perplexities, and how often both name the same most probable token. Sequences are the
unit that is resampled (``intervals.py``), and the same resamples serve all models, so that intervals of ratios
between two models are paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

__all__ = ["Deviation", "Reference", "cosines", "digest", "drawn", "logits_of", "measured", "windows"]

Logits = Callable[[torch.Tensor], torch.Tensor]
"""From tokens, (batch, length), to the logits of the token after each, (batch, length, vocabulary)."""
SEED: Final = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """What was measured, one number per sequence, each the mean over the predicted tokens of that sequence.

    Attributes:
        kl: KL divergence of the model's distribution from the reference's, in nats.
        nll: negative log-likelihood of the token that came, less the reference's.
        top1: share of tokens where both models hold the same token for the most probable.
    """

    kl: tuple[float, ...]
    nll: tuple[float, ...]
    top1: tuple[float, ...]

    def for_json(self) -> dict[str, list[float]]:
        """Return the numbers at four to five digits, for a result file."""
        return {
            "kl": [float(f"{x:.4e}") for x in self.kl],
            "nll": [float(f"{x:.4e}") for x in self.nll],
            "top1": [float(f"{x:.5f}") for x in self.top1],
        }


def drawn(tokens: np.ndarray, half: str, count: int, length: int) -> torch.Tensor:
    """Draw sequences that do not overlap from one half of the held-out tokens, by a fixed seed.

    Args:
        tokens: all held-out tokens, 1-D.
        half: ``choose``, the first, on which variants are chosen; ``report``, the second.
        count: sequences.
        length: tokens of each, the first of which is only context.

    Returns:
        Tokens, int64, (count, length).

    Raises:
        ValueError: the half does not hold that many.
    """
    middle = len(tokens) // 2
    part = {"choose": tokens[:middle], "report": tokens[middle:]}[half]
    blocks = len(part) // length
    if blocks < count:
        raise ValueError(f"{half} half: holds {blocks} sequences of {length} tokens, {count} are asked for")
    chosen = np.sort(np.random.default_rng(SEED).permutation(blocks)[:count])
    return torch.from_numpy(part[: blocks * length].reshape(blocks, length)[chosen].astype(np.int64))


def windows(tokens: Sequence[int], length: int, limit: int | None = None) -> torch.Tensor:
    """Cut tokens into windows that follow each other, the last incomplete one dropped; (count, length), int64."""
    count = min(len(tokens) // length, limit if limit is not None else len(tokens))
    return torch.tensor(tokens[: count * length], dtype=torch.int64).reshape(count, length)


def digest(sequences: torch.Tensor) -> str:
    """Return the SHA-256 of the tokens (int64, little-endian): only measurements on the same ones are compared."""
    return hashlib.sha256(sequences.numpy().astype("<i8").tobytes()).hexdigest()


def logits_of(model: Any) -> Logits:
    """Return what computes the logits of a Hugging Face causal language model."""

    def run(tokens: torch.Tensor) -> torch.Tensor:
        return model(input_ids=tokens.to(model.device), use_cache=False).logits

    return run


class Reference:
    """The reference model's answers on the sequences, computed once and kept where memory allows, else each time."""

    def __init__(self, logits: Logits, sequences: torch.Tensor, *, batch: int, keep: bool) -> None:
        """Take the model; with `keep` its answers are computed now (4 bytes per token and vocabulary entry)."""
        self._logits, self.sequences, self._batch = logits, sequences, batch
        self._kept = list(self._answers()) if keep else None

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield tokens and the log-probabilities of the reference, batch by batch."""
        return iter(self._kept) if self._kept is not None else self._answers()

    def nll(self) -> tuple[float, ...]:
        """Return the reference's own negative log-likelihood, mean per sequence."""
        return tuple(x for tokens, answer in self.batches() for x in _nll(answer, tokens).tolist())

    def _answers(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for tokens in self.sequences.split(self._batch):
            yield tokens, _log_probabilities(self._logits, tokens)


@torch.inference_mode()
def _log_probabilities(logits: Logits, tokens: torch.Tensor) -> torch.Tensor:
    return functional.log_softmax(logits(tokens[:, :-1]).float(), dim=-1)


def _nll(answer: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    came = tokens[:, 1:, None].to(answer.device)
    return -answer.gather(-1, came)[..., 0].double().mean(1)


@torch.inference_mode()
def measured(reference: Reference, logits: Logits) -> Deviation:
    """Measure a model against the reference on the reference's sequences."""
    kl: list[float] = []
    nll: list[float] = []
    top1: list[float] = []
    for tokens, theirs in reference.batches():
        ours = _log_probabilities(logits, tokens)
        same = theirs.argmax(-1) == ours.argmax(-1)
        top1 += same.double().mean(1).tolist()
        nll += (_nll(ours, tokens) - _nll(theirs, tokens)).tolist()
        kl += (theirs.exp() * (theirs - ours)).sum(-1).double().mean(1).tolist()
    return Deviation(kl=tuple(kl), nll=tuple(nll), top1=tuple(top1))


def cosines(theirs: torch.Tensor, ours: torch.Tensor) -> tuple[float, ...]:
    """Return 1 - cosine of each pair of embeddings, (count, width), computed in float64."""
    return tuple((1 - functional.cosine_similarity(theirs.double(), ours.double(), dim=1)).tolist())
