# SPDX-License-Identifier: Apache-2.0
"""What a pack costs and what it does to a model's outputs, as data (pack-report v1, "Format").

Numbers that were measured are decimal strings (`core.number`); constructors refuse parts that do not fit together.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from weighmaster.core.canonical import dumps
from weighmaster.core.number import decimal_text

__all__ = [
    "CODECS",
    "FORMAT",
    "INPUT_KINDS",
    "MADE_UP",
    "PROFILES",
    "STEPS",
    "Calibration",
    "EncoderOutputs",
    "EncoderRef",
    "Estimate",
    "File",
    "Histogram",
    "Inputs",
    "LanguageOutputs",
    "MetricLine",
    "NoOutputs",
    "Outputs",
    "PackRef",
    "Position",
    "Report",
    "SequenceLine",
    "Size",
    "TensorLine",
]

FORMAT: Final = "weighmaster-pack-report-v1"
PROFILES: Final = ("calibrated", "datafree", "exact")
CODECS: Final = ("exact-v1", "five-v1", "raw-v1")
INPUT_KINDS: Final = ("random", "self", "texts", "tokens")
MADE_UP: Final = ("random", "self")
"""Kinds of inputs that are no user's own data: they have a seed."""

STEPS: Final = 24
"""Of a histogram, for each decade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval, or without one where too little was measured."""

    value: str
    low: str | None
    high: str | None

    def __post_init__(self) -> None:
        """Refuse half an interval, or one that is upside down."""
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has both ends or none")
        if self.low is not None and self.high is not None and Decimal(self.low) > Decimal(self.high):
            raise ValueError(f"interval from {self.low} down to {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRef:
    """What made the pack, as its index says; `bits` were asked for, None for lossless."""

    name: str
    version: str
    profile: str
    bits: str | None
    parameters: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Tokens that the encoder was fitted to: ``self`` or ``file``, digest, number."""

    kind: str
    sha256: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRef:
    """The pack: root of its index, its encoder and calibration."""

    root: str
    encoder: EncoderRef
    calibration: Calibration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file: path, length in bytes, SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Bytes of the pack.

    Attributes:
        elements: of all tensors, embeddings among them: the parameters of the model, buffers of its files included.
        payload: bytes of the blobs, with their tables, scales and checksums.
        headers: of the shards.
        index: the pack's index.
        shard_index: ``model.safetensors.index.json``; 0 where there is one shard.
        beside: files that rebuild no tensor: tokenizer, configuration, code. They are not counted in the bits.
    """

    elements: int
    payload: int
    headers: int
    index: int
    shard_index: int
    beside: tuple[File, ...]

    @property
    def counted(self) -> int:
        """Every byte that is needed to rebuild and check the tensors."""
        return self.payload + self.headers + self.index + self.shard_index

    @property
    def bits_per_weight(self) -> str:
        """8 x `counted` / `elements`."""
        return _ratio(8 * self.counted, self.elements)


def _ratio(part: int, whole: int) -> str:
    return decimal_text(Decimal(part) / Decimal(whole)) if whole else "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLine:
    """One tensor.

    Attributes:
        name: as in the checkpoint.
        dtype: of its elements.
        shape: of it.
        codec: one of `CODECS`.
        nbytes: of its blob.
        relative_squared_error: sum of squared differences / sum of squares, both over all elements.
        max_error: largest difference of an element.
        rms: root mean square of the source's elements, against which `max_error` is to be seen; None where they are no
            finite floating-point numbers (such a tensor is kept as it is).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    codec: str
    nbytes: int
    relative_squared_error: str
    max_error: str
    rms: str | None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bits(self) -> str:
        """Bits per element of the blob."""
        return _ratio(8 * self.nbytes, self.elements)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What both models were run on.

    Attributes:
        kind: one of `INPUT_KINDS`.
        seed: where it was made up, else None.
        sha256: of the tokens, one sequence after another, as little-endian 32-bit integers.
        sequences: number measured.
        available: number there was, of which an even spread was measured.
        tokens: of all sequences measured.
    """

    kind: str
    seed: int | None
    sha256: str
    sequences: int
    available: int
    tokens: int

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be, and a seed of what was not made up."""
        if (self.seed is None) == (self.kind in MADE_UP):
            raise ValueError(f"inputs of kind {self.kind!r} {'have' if self.kind in MADE_UP else 'have no'} seed")
        if not 1 <= self.sequences <= min(self.available, self.tokens):
            raise ValueError(f"{self.sequences} sequences of {self.available}, {self.tokens} tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of values in steps of a decade: `counts[i]` of those from 10^((first+i)/STEPS) on; `below` of the rest."""

    first: int
    below: int
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Number of values."""
        return self.below + sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Mean divergence of the tokens that stand at positions `first` to `last` of their sequence (the first is 0)."""

    first: int
    last: int
    kl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceLine:
    """One sequence: predicted tokens, mean divergence, and mean negative log-likelihood under both models, in nats."""

    predicted: int
    kl: str
    reference: str
    packed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageOutputs:
    """Next-token distributions of the packed model against those of the source, in nats; all arithmetic in float32.

    Attributes:
        inputs: what was run.
        predicted: tokens that were predicted: all but the first of each sequence.
        kl: mean divergence KL(source || packed) of a token; interval by bootstrap over sequences.
        kl_median: of a token.
        kl_p99: of a token.
        kl_max: of a token.
        perplexity_reference: of the source.
        perplexity_packed: of the pack.
        ratio: packed / source; interval by bootstrap over sequences.
        ratio_t: the same; interval of the paired t test on its logarithm.
        agreement: share of tokens at which both find the same token likeliest; interval by bootstrap over sequences.
        histogram: of the divergence by token.
        positions: mean divergence by position.
        by_sequence: each sequence.
    """

    kind: Literal["causal-lm"] = "causal-lm"
    inputs: Inputs
    predicted: int
    kl: Estimate
    kl_median: str
    kl_p99: str
    kl_max: str
    perplexity_reference: str
    perplexity_packed: str
    ratio: Estimate
    ratio_t: Estimate
    agreement: Estimate
    histogram: Histogram
    positions: tuple[Position, ...]
    by_sequence: tuple[SequenceLine, ...]

    def __post_init__(self) -> None:
        """Refuse numbers of tokens that do not add up, and a ratio that is not that of the perplexities."""
        if self.predicted != self.inputs.tokens - self.inputs.sequences:
            raise ValueError(f"{self.predicted} tokens predicted in {self.inputs.sequences} sequences")
        if len(self.by_sequence) != self.inputs.sequences:
            raise ValueError(f"{len(self.by_sequence)} lines for {self.inputs.sequences} sequences")
        for what, total in (
            ("the sequences", sum(s.predicted for s in self.by_sequence)),
            ("the histogram", self.histogram.total),
        ):
            if total != self.predicted:
                raise ValueError(f"{what}: {total} tokens, of {self.predicted} predicted")
        if self.ratio.value != self.ratio_t.value:
            raise ValueError(f"two ratios of perplexity, {self.ratio.value} and {self.ratio_t.value}")
        _require_near(self.ratio.value, Decimal(self.perplexity_packed) / Decimal(self.perplexity_reference))


_NEAR: Final = Decimal("1e-7")
"""Numbers with nine digits each can differ by this, relative to one."""


def _require_near(found: str, expected: Decimal) -> None:
    if abs(Decimal(found) - expected) > _NEAR * (1 + expected):
        raise ValueError(f"ratio {found}: the perplexities give {decimal_text(expected)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOutputs:
    """1 - cosine between the sentence embeddings of both models; intervals by bootstrap over sequences."""

    kind: Literal["encoder"] = "encoder"
    pooling: str
    inputs: Inputs
    mean: Estimate
    median: Estimate
    p95: Estimate
    p99: Estimate
    max: str
    histogram: Histogram

    def __post_init__(self) -> None:
        """Refuse a histogram of other sequences."""
        if self.histogram.total != self.inputs.sequences:
            raise ValueError(f"the histogram: {self.histogram.total} sequences, of {self.inputs.sequences}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOutputs:
    """Outputs were not compared, and why."""

    kind: Literal["none"] = "none"
    reason: str


Outputs: TypeAlias = LanguageOutputs | EncoderOutputs | NoOutputs


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLine:
    """A user's metric: means over its items for both models, and their difference, packed - source, with intervals."""

    name: str
    items: int
    reference: str
    packed: str
    difference: Estimate
    difference_t: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole report. Each tensor of the pack was rebuilt and compared with its digest in the index.

    Attributes:
        pack: what is reported on.
        source: weight files that it was compared with, each with the digest that the index has for it.
        size: bytes and bits.
        relative_squared_error: over all tensors.
        tensors: ascending by name.
        outputs: functional deviation.
        metrics: of the user, ascending by name.
        machine: names and versions, as pairs ascending by name.
    """

    pack: PackRef
    source: tuple[File, ...]
    size: Size
    relative_squared_error: str
    tensors: tuple[TensorLine, ...]
    outputs: Outputs
    metrics: tuple[MetricLine, ...]
    machine: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        """Refuse tensors out of order, and sums that are not those of the tensors."""
        for what, names in (
            ("tensors", [t.name for t in self.tensors]),
            ("metrics", [m.name for m in self.metrics]),
            ("source", [f.path for f in self.source]),
            ("size.beside", [f.path for f in self.size.beside]),
        ):
            keys = [name.encode("utf-8") for name in names]
            if any(a >= b for a, b in itertools.pairwise(keys)):
                raise ValueError(f"{what}: expected each once, ascending by the UTF-8 bytes of its name")
        for what, said, summed in (
            ("elements", self.size.elements, sum(t.elements for t in self.tensors)),
            ("payload", self.size.payload, sum(t.nbytes for t in self.tensors)),
        ):
            if said != summed:
                raise ValueError(f"size.{what}: {said}, and the tensors have {summed}")

    def to_bytes(self) -> bytes:
        """Return ``report.json``: RFC 8785."""
        document = {"format": FORMAT, **_plain(self)}
        document["size"]["bitsPerWeight"] = self.size.bits_per_weight
        for line, tensor in zip(document["tensors"], self.tensors, strict=True):
            line["bits"] = tensor.bits
        return dumps(document)


_OBJECTS: Final = ("machine", "parameters")
"""Fields that hold pairs and are objects in JSON."""


def _plain(value: Any) -> Any:
    """Return dataclasses as objects with camelCase keys, tuples as arrays."""
    if dataclasses.is_dataclass(value):
        return {
            _camel(f.name): dict(getattr(value, f.name)) if f.name in _OBJECTS else _plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
        }
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return {"nbytes": "bytes"}.get(name, first + "".join(part.capitalize() for part in rest))
