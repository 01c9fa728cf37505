# SPDX-License-Identifier: Apache-2.0
"""Find out how much each weight matters: what it is fed, and how far the model's answer moves with what it gives.

For a causal language model the answer is its next-token distribution, and the loss the likelihood of tokens drawn from
it (the true Fisher information; S. Amari 1998). For an encoder it is the direction of its sentence embedding, the mean
over the tokens, and the loss one less the cosine (Gauss-Newton, by random probes). The model is in memory, with one
float32 matrix [cols, cols] for every weight; the matrices lie in files of a work directory if one is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from weighmaster.errors import UsageError
from weighmaster.pack.statistics import Moments, Statistics

__all__ = ["BATCH", "collect", "is_causal", "named_as", "token_digest"]

BATCH: Final = 8
"""Sequences that go through the model together."""

Sequences = Sequence[npt.NDArray[np.integer[Any]]]


def token_digest(sequences: Sequences) -> str:
    """Return the SHA-256 of all tokens, one sequence after another, as little-endian 32-bit integers."""
    return hashlib.sha256(b"".join(np.asarray(s).astype("<i4").tobytes() for s in sequences)).hexdigest()


def is_causal(model: torch.nn.Module) -> bool:
    """Return whether a model says of itself that it writes text token by token."""
    can_generate = getattr(model, "can_generate", None)
    return bool(can_generate and can_generate())


def collect(model: torch.nn.Module, sequences: Sequences, *, seed: int, work: Path | None = None) -> Statistics:
    """Return the moments of the weights of linear, convolution and embedding layers, by their names in the model.

    Args:
        model: in evaluation mode, in float32. Its parameters are left as they are.
        sequences: tokens; sequences of one length go through the model together.
        seed: of the labels or probes. The same model, tokens and seed give the same moments on one machine.
        work: an existing directory for the matrices; in memory without.

    Raises:
        UsageError: no sequence of at least two tokens, or a model that is neither kind.
    """
    batches = list(_batches(sequences))
    if not batches:
        raise UsageError("calibration: expected sequences of at least two tokens, found none")
    generator = torch.Generator().manual_seed(seed)
    causal = is_causal(model)
    frozen = [p for p in model.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)  # noqa: FBT003  # torch's own signature
    meters = _meters(model, _Store(work=work), per_token=causal)
    try:
        for batch in batches:
            answer = model(input_ids=batch)
            (_likelihood if causal else _direction)(answer, generator).backward()  # type: ignore[no-untyped-call]
            for meter in meters.values():
                meter.end_batch(len(batch))
    finally:
        for meter in meters.values():
            meter.remove()
        for parameter in frozen:
            parameter.requires_grad_(True)  # noqa: FBT003
    return {name: meter.moments() for name, meter in meters.items() if meter.count}


def named_as(statistics: Statistics, names: Sequence[str]) -> Statistics:
    """Return statistics by the names of a checkpoint, which may leave a prefix out or have one more.

    What fits no name, or several, is left out: such a weight is then packed without calibration.
    """
    wanted = set(names)
    out: dict[str, Moments] = {}
    for name, moments in statistics.items():
        fits = [name] if name in wanted else [n for n in names if n.endswith(f".{name}") or name.endswith(f".{n}")]
        if len(fits) == 1:
            out[fits[0]] = moments
    return out


def _batches(sequences: Sequences) -> Iterator[torch.Tensor]:
    lengths = sorted({len(s) for s in sequences if len(s) > 1})
    for length in lengths:
        same = [torch.from_numpy(np.asarray(s).astype(np.int64)) for s in sequences if len(s) == length]
        for first in range(0, len(same), BATCH):
            yield torch.stack(same[first : first + BATCH])


def _likelihood(answer: Any, generator: torch.Generator) -> torch.Tensor:
    """Return the negative logarithm of the likelihood of labels drawn from the model's own distribution."""
    logits = answer.logits.float()
    flat = torch.log_softmax(logits, -1).reshape(-1, logits.shape[-1])
    labels = torch.multinomial(flat.detach().exp(), 1, generator=generator)
    return -flat.gather(1, labels).sum()


def _direction(answer: Any, generator: torch.Generator) -> torch.Tensor:
    """Return the sum of random projections of the sentence embeddings, of length 1."""
    hidden = getattr(answer, "last_hidden_state", None)
    if hidden is None:
        raise UsageError("calibration: the model is no causal language model and gives no last_hidden_state")
    directions = torch.nn.functional.normalize(hidden.float().mean(1), dim=-1)
    probes = torch.randn(directions.shape, generator=generator)
    return (directions * probes).sum()


@dataclass(slots=True, kw_only=True)
class _Store:
    """Where accumulators lie."""

    work: Path | None
    made: int = 0

    def matrix(self, size: int) -> torch.Tensor:
        """Return zeros [size, size], float32."""
        if self.work is None:
            return torch.zeros(size, size)
        self.made += 1
        path = self.work / f"moments-{self.made:06d}"
        return torch.from_numpy(np.memmap(path, np.float32, "w+", shape=(size, size)))


@dataclass(slots=True, kw_only=True)
class _Meter:
    """Adds up the moments of one layer while the model runs forwards and backwards.

    Attributes:
        inputs: float32 [cols, cols].
        outputs: float64 [rows].
        read: input of the layer to [sequences, tokens, cols], or token numbers.
        write: output, or its gradient, to [sequences, tokens, rows].
        kind: ``linear``, ``swapped`` (the matrix is stored as [in, out]), or ``embedding``.
        per_token: tokens are taken to be independent of each other; else what they add up to in a sequence counts.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    read: Callable[[torch.Tensor], torch.Tensor]
    write: Callable[[torch.Tensor], torch.Tensor]
    kind: str
    per_token: bool
    count: int = 0
    _handle: Any = None
    _calls: list[tuple[torch.Tensor, list[torch.Tensor]]] = field(default_factory=list)

    def attach(self, layer: torch.nn.Module) -> None:
        self._handle = layer.register_forward_hook(self._forward)

    def remove(self) -> None:
        self._handle.remove()

    def _forward(self, _layer: torch.nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        gradient: list[torch.Tensor] = []
        self._calls.append((self.read(given[0].detach()), gradient))
        if not out.requires_grad:
            out.requires_grad_(True)  # noqa: FBT003  # torch's own signature
        hook: Any = out.register_hook
        hook(lambda g: gradient.append(self.write(g.detach().float())))
        return out

    def end_batch(self, size: int) -> None:
        """Take what the batch left; a layer that was not reached backwards is not counted."""
        for x, gradient in self._calls:
            for g in gradient:
                self._embedding(x, g, size) if self.kind == "embedding" else self._linear(x.float(), g)
        self._calls.clear()

    def _embedding(self, ids: torch.Tensor, g: torch.Tensor, size: int) -> None:
        ids = ids.expand(g.shape[:-1])
        shared = size // len(ids)  # positions are looked up once for all sequences of a batch
        if self.per_token:
            self.inputs += _gram(g)
            self.outputs += shared * torch.bincount(ids.reshape(-1), minlength=len(self.outputs)).double()
            self.count += shared * ids.numel()
            return
        for sequence, gradient in zip(ids, g, strict=True):
            rows, place = torch.unique(sequence, return_inverse=True)
            total = torch.zeros(len(rows), g.shape[-1]).index_add_(0, place, gradient)
            self.inputs += total.T @ total
            self.outputs.index_add_(0, rows, total.square().sum(1).double())
            self.count += shared

    def _linear(self, x: torch.Tensor, g: torch.Tensor) -> None:
        if self.kind == "swapped":
            x, g = g, x
        if self.per_token:
            self.inputs += _gram(x)
            self.outputs += g.reshape(-1, g.shape[-1]).square().sum(0).double()
            self.count += x.shape[:-1].numel()
            return
        for total in g.transpose(1, 2) @ x:
            self.inputs += total.T @ total
            self.outputs += total.square().sum(1).double()
            self.count += 1

    def moments(self) -> Moments:
        """Return the means."""
        inputs, outputs = self.inputs.numpy(), self.outputs.numpy() / self.count
        if self.per_token:
            inputs /= self.count
        else:
            inputs /= max(float(np.trace(inputs)), np.finfo(np.float32).tiny)  # the outputs have the size of both
        return Moments(inputs=inputs, outputs=outputs)


def _gram(x: torch.Tensor) -> torch.Tensor:
    flat = x.reshape(-1, x.shape[-1])
    return flat.T @ flat


def _meters(model: torch.nn.Module, store: _Store, *, per_token: bool) -> dict[str, _Meter]:
    meters: dict[str, _Meter] = {}
    for name, layer in model.named_modules():
        found = _layer_kind(layer)
        if found is None:
            continue
        kind, rows, cols, read, write = found
        meter = _Meter(
            inputs=store.matrix(cols),
            outputs=torch.zeros(rows, dtype=torch.float64),
            read=read,
            write=write,
            kind=kind,
            per_token=per_token,
        )
        meter.attach(layer)
        meters[f"{name}.weight"] = meter
    return meters


_Kind = tuple[str, int, int, Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]


def _layer_kind(layer: torch.nn.Module) -> _Kind | None:
    """Return kind, rows and columns of a layer's matrix, and how its input and output are laid out; None for others."""
    weight = getattr(layer, "weight", None)
    if isinstance(layer, torch.nn.Linear):
        return "linear", *layer.weight.shape, _as_tokens, _as_tokens
    if isinstance(layer, torch.nn.Embedding):
        return "embedding", *layer.weight.shape, torch.Tensor.long, _as_tokens
    if isinstance(layer, torch.nn.Conv2d) and layer.groups == 1 and isinstance(layer.padding, tuple):
        unfold = torch.nn.Unfold(layer.kernel_size, dilation=layer.dilation, padding=layer.padding, stride=layer.stride)
        rows = layer.weight.shape[0]
        return (
            "linear",
            rows,
            layer.weight[0].numel(),
            lambda x: unfold(x.float()).transpose(1, 2),
            lambda g: g.flatten(2).transpose(1, 2),
        )
    if type(layer).__name__ == "Conv1D" and weight is not None and weight.ndim == 2:  # noqa: PLR2004  # of GPT-2
        return "swapped", *weight.shape, _as_tokens, _as_tokens
    return None


def _as_tokens(x: torch.Tensor) -> torch.Tensor:
    """Return [sequences, tokens, features], whatever lies before the features."""
    if x.ndim == 2:  # noqa: PLR2004
        return x[:, None] if x.shape[0] > 1 else x[None]
    return x.reshape(x.shape[0], -1, x.shape[-1])
