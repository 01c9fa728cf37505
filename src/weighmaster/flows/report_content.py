# SPDX-License-Identifier: Apache-2.0
"""What a report says to people: sections of paragraphs, tables and pictures. It claims no more than was run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from weighmaster.core.number import decimal_text
from weighmaster.core.pack_report import (
    EncoderOutputs,
    Estimate,
    Inputs,
    LanguageOutputs,
    NoOutputs,
    Report,
    TensorLine,
)

__all__ = ["Section", "bits_text", "sections"]

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section.

    Attributes:
        title: its heading.
        rows: a table of two columns, above the paragraphs.
        paragraphs: of text.
        header: of the long table; empty where there is none.
        lines: of the long table.
        pictures: names of pictures.
    """

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    paragraphs: tuple[str, ...] = ()
    header: Row = ()
    lines: tuple[Row, ...] = ()
    pictures: tuple[str, ...] = ()


def sections(report: Report) -> tuple[Section, ...]:
    """Return the report in words."""
    return (
        Section(title="In short", rows=tuple(_short(report))),
        _outputs(report),
        *_metrics(report),
        _size(report),
        _tensors(report),
        _origin(report),
        Section(title="Machine", rows=report.machine),
        Section(title="What this report does not say", paragraphs=tuple(_limits(report))),
    )


def _short(report: Report) -> Iterator[tuple[str, str]]:
    outputs = report.outputs
    yield "Real bits per weight", f"{bits_text(report.size.bits_per_weight, 4)} (asked for: {_asked(report)})"
    if isinstance(outputs, LanguageOutputs):
        yield "KL(source || pack)", f"{_interval(outputs.kl, _power)} nats per token"
        yield "Perplexity, pack / source", _interval(outputs.ratio, _ratio)
        yield "Same likeliest token", _interval(outputs.agreement, _percent)
        yield "Measured on", f"{outputs.predicted:,} predicted tokens ({_kind(outputs.inputs)})"
    elif isinstance(outputs, EncoderOutputs):
        yield "1 - cosine of embeddings, mean", _interval(outputs.mean, _power)
        yield "99th percentile", _interval(outputs.p99, _power)
        yield "Measured on", f"{outputs.inputs.sequences:,} sequences ({_kind(outputs.inputs)})"
    else:
        yield "Outputs", f"not compared: {outputs.reason}"
    for metric in report.metrics:
        yield metric.name, f"{_plain(metric.reference)} → {_plain(metric.packed)}"
    yield "Pack root", report.pack.root


def _asked(report: Report) -> str:
    return report.pack.encoder.bits or "lossless"


_KINDS: Final = {
    "tokens": "tokens of the user",
    "texts": "texts of the user",
    "self": "made up by the source model",
    "random": "random tokens",
}


def _kind(inputs: Inputs) -> str:
    return _KINDS[inputs.kind]


def _outputs(report: Report) -> Section:
    title, outputs = "What the pack does to outputs", report.outputs
    if isinstance(outputs, NoOutputs):
        return Section(title=title, paragraphs=(f"Outputs were not compared: {outputs.reason}",))
    weaker = _weaker(report, outputs.inputs)
    if isinstance(outputs, LanguageOutputs):
        return Section(
            title=title,
            rows=(*_language_rows(outputs), *_input_rows(outputs.inputs)),
            paragraphs=(_HOW_LANGUAGE, *weaker),
            pictures=("divergence", "perplexity"),
        )
    return Section(
        title=title,
        rows=(*_encoder_rows(outputs), *_input_rows(outputs.inputs)),
        paragraphs=(_HOW_ENCODER.format(pooling=_POOLING[outputs.pooling]), *weaker),
        pictures=("cosine",),
    )


_INTERVALS: Final = (
    "Intervals hold 95 %: percentile bootstrap, 10,000 resamples of whole sequences with a fixed seed. They say how "
    "far other sequences of the same kind would move the figure, and nothing about other kinds of text."
)
_HOW: Final = (
    "Both models ran on the same tokens, with the same code and in float32: the source with the tensors of its files, "
    "the pack with the tensors rebuilt from it."
)
_HOW_LANGUAGE: Final = f"{_HOW} Log-softmax and sums are in float64. {_INTERVALS}"
_HOW_ENCODER: Final = f"{_HOW} The embedding is {{pooling}}, normalised. {_INTERVALS}"
_POOLING: Final = {"mean": "the mean of the last hidden states", "cls": "the last hidden state of the first token"}


def _weaker(report: Report, inputs: Inputs) -> Iterator[str]:
    if inputs.kind == "self":
        yield (
            "The tokens were sampled from the source model itself, as none were given. This is weaker evidence than "
            "text of one's own: a model is judged on what it finds likely. Give --tokens or --texts."
        )
    if inputs.kind == "random":
        yield (
            "The tokens are random, as no text was given. This is weak evidence: it shows how the weights respond to "
            "input that is no text. Give --texts or --tokens."
        )
    calibration = report.pack.calibration
    if calibration is not None and calibration.sha256 == inputs.sha256:
        yield "These are the very tokens that the encoder was fitted to: on other text the deviation will be larger."


def _language_rows(outputs: LanguageOutputs) -> Iterator[tuple[str, str]]:
    yield "KL(source || pack), mean", f"{_interval(outputs.kl, _power)} nats per token"
    yield (
        "median / 99th percentile / largest",
        " / ".join(_power(n) for n in (outputs.kl_median, outputs.kl_p99, outputs.kl_max)),
    )
    yield (
        "Perplexity, source / pack",
        f"{_fixed(outputs.perplexity_reference, 4)} / {_fixed(outputs.perplexity_packed, 4)}",
    )
    yield "Ratio, by bootstrap", _interval(outputs.ratio, _ratio)
    yield "Ratio, by paired t test of its logarithm", _interval(outputs.ratio_t, _ratio)
    yield "Same likeliest token", _interval(outputs.agreement, _percent)
    yield "Predicted tokens", f"{outputs.predicted:,}"


def _encoder_rows(outputs: EncoderOutputs) -> Iterator[tuple[str, str]]:
    named = (("mean", outputs.mean), ("median", outputs.median), ("95th percentile", outputs.p95))
    for name, estimate in (*named, ("99th percentile", outputs.p99)):
        yield f"1 - cosine, {name}", _interval(estimate, _power)
    yield "1 - cosine, largest", _power(outputs.max)


def _input_rows(inputs: Inputs) -> Iterator[tuple[str, str]]:
    which = "all" if inputs.sequences == inputs.available else f"evenly spread over {inputs.available:,}"
    yield "Sequences", f"{inputs.sequences:,} ({which}), {inputs.tokens:,} tokens"
    yield "Tokens from", _kind(inputs) + ("" if inputs.seed is None else f", seed {inputs.seed}")
    yield "SHA-256 of the tokens", inputs.sha256


def _metrics(report: Report) -> Iterator[Section]:
    if report.metrics:
        lines = tuple(
            (m.name, f"{m.items:,}", _plain(m.reference), _plain(m.packed), _interval(m.difference, _plain))
            for m in report.metrics
        )
        yield Section(
            title="Metrics of the user",
            header=("metric", "items", "source", "pack", "difference (95 %)"),
            lines=lines,
        )


def _size(report: Report) -> Section:
    size = report.size
    rows = (
        ("Parameters", f"{size.elements:,}: elements of all tensors, embeddings among them"),
        ("Payload: levels, tables, scales, checksums", _bytes(size.payload, size.elements)),
        ("Headers of the shards", _bytes(size.headers, size.elements)),
        ("Index with all digests", _bytes(size.index, size.elements)),
        ("Index of the shards", _bytes(size.shard_index, size.elements)),
        ("Together", _bytes(size.counted, size.elements)),
        ("Beside it, not counted", f"{sum(f.size for f in size.beside):,} bytes in {len(size.beside)} files"),
    )
    note = (
        "Real bits per weight: 8 x every byte that is needed to rebuild and check the tensors / all parameters. "
        "Tokenizer, configuration and code lie beside it."
    )
    return Section(title="Size", rows=rows, paragraphs=(note,), pictures=("bits",))


def _bytes(count: int, elements: int) -> str:
    return f"{count:,} bytes, {bits_text(decimal_text(Decimal(8 * count) / elements), 4)} bits per weight"


def _tensors(report: Report) -> Section:
    paragraphs = [
        (
            f"Each of the {len(report.tensors):,} tensors was rebuilt and compared with its digest in the index. "
            f"Over all of them the relative squared error is {_power(report.relative_squared_error)}."
        ),
    ]
    if report.pack.encoder.profile == "calibrated":
        paragraphs.append(
            "A calibrated pack moves single weights further than rounding would, on purpose: it places the errors "
            "where the outputs feel them least. Errors of weights therefore do not rank packs; the deviation of the "
            "outputs does."
        )
    return Section(
        title="Tensors",
        paragraphs=tuple(paragraphs),
        header=("tensor", "shape", "type", "codec", "bits", "relative squared error", "largest error / rms"),
        lines=tuple(_line(tensor) for tensor in report.tensors),
        pictures=("errors",),
    )


def _line(tensor: TensorLine) -> Row:
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    error = _power(tensor.relative_squared_error)
    return (tensor.name, shape, tensor.dtype, tensor.codec, bits_text(tensor.bits, 3), error, _largest(tensor))


def _largest(tensor: TensorLine) -> str:
    if tensor.rms is None or not Decimal(tensor.rms):
        return _power(tensor.max_error) if Decimal(tensor.max_error) else "0"
    return _power(decimal_text(Decimal(tensor.max_error) / Decimal(tensor.rms)))


def _origin(report: Report) -> Section:
    encoder, calibration = report.pack.encoder, report.pack.calibration
    rows = [
        ("Encoder", f"{encoder.name} {encoder.version}"),
        ("Profile", encoder.profile),
        *((f"Parameter {name}", value) for name, value in encoder.parameters),
        ("Calibration", "none" if calibration is None else f"{calibration.tokens:,} tokens ({calibration.kind})"),
    ]
    if calibration is not None:
        rows.append(("SHA-256 of its tokens", calibration.sha256))
    return Section(
        title="Encoder and source",
        rows=tuple(rows),
        paragraphs=("The source files have the digests that the pack's index names:",),
        header=("file", "bytes", "SHA-256"),
        lines=tuple((f.path, f"{f.size:,}", f.sha256) for f in report.source),
    )


def _limits(report: Report) -> Iterator[str]:
    yield (
        "Who made the pack was not checked for this report: its tensors are consistent with its index, and a seal over "
        "the pack root says whose index it is."
    )
    yield (
        "Figures are of float32 arithmetic on the machine above. A runtime that computes in a narrower type adds its "
        "own rounding, to source and pack alike."
    )
    if not report.metrics and not isinstance(report.outputs, NoOutputs):
        yield (
            "Nearness of outputs is no proof of fitness: whether the pack does its task as well as the source is shown "
            "by a metric of that task (--metric)."
        )


def _interval(estimate: Estimate, form: Callable[[str], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{form(estimate.value)} (no interval: one item)"
    return f"{form(estimate.value)} ({form(estimate.low)} to {form(estimate.high)})"


def _power(text: str) -> str:
    value = Decimal(text)
    return "0" if not value else f"{value:.2e}"


def bits_text(text: str, places: int) -> str:
    """Return bits rounded up: a size is never understated."""
    return f"{Decimal(text).quantize(Decimal(1).scaleb(-places), ROUND_CEILING):,}"


def _fixed(text: str, places: int) -> str:
    return f"{Decimal(text):,.{places}f}"


def _ratio(text: str) -> str:
    return f"{Decimal(text):.5f}"


def _percent(text: str) -> str:
    return f"{Decimal(text) * 100:.2f} %"


def _plain(text: str) -> str:
    return f"{Decimal(text):.6g}"
