# SPDX-License-Identifier: Apache-2.0
"""Read ``report.json`` strictly, field by field (pack-report v1, "Verification")."""

from __future__ import annotations

from decimal import Decimal

from weighmaster.core.canonical import loads_canonical
from weighmaster.core.dtype import DTYPES
from weighmaster.core.fields import Fields
from weighmaster.core.number import is_decimal_text
from weighmaster.core.pack_report import (
    CODECS,
    FORMAT,
    INPUT_KINDS,
    PROFILES,
    Calibration,
    EncoderOutputs,
    EncoderRef,
    Estimate,
    File,
    Histogram,
    Inputs,
    LanguageOutputs,
    MetricLine,
    NoOutputs,
    Outputs,
    PackRef,
    Position,
    Report,
    SequenceLine,
    Size,
    TensorLine,
)
from weighmaster.core.source import path_problem
from weighmaster.errors import MalformedArtefact

__all__ = ["parse_report"]


def parse_report(data: bytes, file: str) -> Report:
    """Parse the bytes of a report.

    Raises:
        MalformedArtefact: not canonical, a field missing, wrong or unknown, or parts that do not fit together.
    """
    top = Fields(loads_canonical(data, file), file=file)
    top.text("format", choices=(FORMAT,))
    try:
        report = _read(top)
    except ValueError as error:
        raise MalformedArtefact(file, "", expected="a report whose parts fit together", found=str(error)) from None
    top.done()
    return report


def _read(top: Fields) -> Report:
    return Report(
        pack=_read_pack(top.nested("pack")),
        source=top.objects("source", _read_file),
        size=_read_size(top.nested("size")),
        relative_squared_error=_number(top, "relativeSquaredError", low=0),
        tensors=top.objects("tensors", _read_tensor),
        outputs=_read_outputs(top.nested("outputs")),
        metrics=top.objects("metrics", _read_metric),
        machine=_texts(top, "machine"),
    )


def _number(fields: Fields, key: str, *, low: int | None = None, high: int | None = None) -> str:
    text = fields.text(key)
    if not is_decimal_text(text):
        raise fields.fault(key, "a number in plain decimal notation, without zeros at its end", repr(text[:80]))
    if (low is not None and Decimal(text) < low) or (high is not None and Decimal(text) > high):
        within = f"at least {low}" if high is None else f"from {low} to {high}"
        raise fields.fault(key, f"a number {within}", text)
    return text


def _optional_number(fields: Fields, key: str) -> str | None:
    text = fields.optional_text(key)
    if text is not None and not is_decimal_text(text):
        raise fields.fault(key, "a number in plain decimal notation, or null", repr(text[:80]))
    return text


def _estimate(fields: Fields, key: str, *, low: int | None = None, high: int | None = None) -> Estimate:
    inner = fields.nested(key)
    out = Estimate(
        value=_number(inner, "value", low=low, high=high),
        low=_optional_number(inner, "low"),
        high=_optional_number(inner, "high"),
    )
    inner.done()
    return out


def _texts(fields: Fields, key: str) -> tuple[tuple[str, str], ...]:
    value = fields.any(key)
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise fields.fault(key, "an object of strings", "something else")
    return tuple(sorted(value.items()))


def _read_pack(fields: Fields) -> PackRef:
    encoder = fields.nested("encoder")
    out = PackRef(
        root=fields.digest("root"),
        encoder=EncoderRef(
            name=encoder.text("name"),
            version=encoder.text("version"),
            profile=encoder.text("profile", choices=PROFILES),
            bits=_optional_number(encoder, "bits"),
            parameters=_texts(encoder, "parameters"),
        ),
        calibration=_read_calibration(fields),
    )
    encoder.done()
    fields.done()
    return out


def _read_calibration(fields: Fields) -> Calibration | None:
    value = fields.any("calibration")
    if value is None:
        return None
    inner = Fields(value, file=fields.file, path=fields.at("calibration"))
    out = Calibration(
        kind=inner.text("kind", choices=("file", "self")), sha256=inner.digest("sha256"), tokens=inner.integer("tokens")
    )
    inner.done()
    return out


def _read_file(fields: Fields) -> File:
    path = fields.text("path")
    problem = path_problem(path)
    if problem is not None:
        raise fields.fault("path", "a path within the directory", problem)
    return File(path=path, size=fields.integer("size"), sha256=fields.digest("sha256"))


def _read_size(fields: Fields) -> Size:
    out = Size(
        elements=fields.integer("elements", minimum=1),
        payload=fields.integer("payload"),
        headers=fields.integer("headers", minimum=1),
        index=fields.integer("index", minimum=1),
        shard_index=fields.integer("shardIndex"),
        beside=fields.objects("beside", _read_file),
    )
    _require(fields, "bitsPerWeight", out.bits_per_weight)
    fields.done()
    return out


def _require(fields: Fields, key: str, expected: str) -> None:
    found = fields.text(key)
    if found != expected:
        raise fields.fault(key, f"{expected}, which the bytes give", found[:80])


def _read_tensor(fields: Fields) -> TensorLine:
    out = TensorLine(
        name=fields.text("name"),
        dtype=fields.text("dtype", choices=frozenset(DTYPES)),
        shape=fields.integers("shape"),
        codec=fields.text("codec", choices=CODECS),
        nbytes=fields.integer("bytes"),
        relative_squared_error=_number(fields, "relativeSquaredError", low=0),
        max_error=_number(fields, "maxError", low=0),
        rms=_optional_number(fields, "rms"),
    )
    _require(fields, "bits", out.bits)
    return out


def _read_outputs(fields: Fields) -> Outputs:
    kind = fields.text("kind", choices=("causal-lm", "encoder", "none"))
    out: Outputs
    if kind == "none":
        out = NoOutputs(reason=fields.text("reason"))
    else:
        out = _read_language(fields) if kind == "causal-lm" else _read_encoder(fields)
    fields.done()
    return out


def _read_language(fields: Fields) -> LanguageOutputs:
    return LanguageOutputs(
        inputs=_read_inputs(fields.nested("inputs")),
        predicted=fields.integer("predicted", minimum=1),
        kl=_estimate(fields, "kl"),
        kl_median=_number(fields, "klMedian"),
        kl_p99=_number(fields, "klP99"),
        kl_max=_number(fields, "klMax"),
        perplexity_reference=_number(fields, "perplexityReference", low=1),
        perplexity_packed=_number(fields, "perplexityPacked", low=1),
        ratio=_estimate(fields, "ratio", low=0),
        ratio_t=_estimate(fields, "ratioT", low=0),
        agreement=_estimate(fields, "agreement", low=0, high=1),
        histogram=_read_histogram(fields.nested("histogram")),
        positions=fields.objects("positions", _read_position),
        by_sequence=fields.objects("bySequence", _read_sequence),
    )


def _read_inputs(fields: Fields) -> Inputs:
    out = Inputs(
        kind=fields.text("kind", choices=INPUT_KINDS),
        seed=_optional_integer(fields, "seed"),
        sha256=fields.digest("sha256"),
        sequences=fields.integer("sequences", minimum=1),
        available=fields.integer("available", minimum=1),
        tokens=fields.integer("tokens", minimum=1),
    )
    fields.done()
    return out


def _optional_integer(fields: Fields, key: str) -> int | None:
    value = fields.any(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise fields.fault(key, "a number of at least 0, or null", repr(value))
    return value


def _read_histogram(fields: Fields) -> Histogram:
    first = fields.any("first")
    if isinstance(first, bool) or not isinstance(first, int) or not -1000 <= first <= 1000:  # noqa: PLR2004  # 10^125
        raise fields.fault("first", "an integer from -1000 to 1000", repr(first))
    out = Histogram(first=first, below=fields.integer("below"), counts=fields.integers("counts"))
    fields.done()
    return out


def _read_position(fields: Fields) -> Position:
    first = fields.integer("first")
    return Position(first=first, last=fields.integer("last", minimum=first), kl=_number(fields, "kl"))


def _read_sequence(fields: Fields) -> SequenceLine:
    return SequenceLine(
        predicted=fields.integer("predicted", minimum=1),
        kl=_number(fields, "kl"),
        reference=_number(fields, "reference", low=0),
        packed=_number(fields, "packed", low=0),
    )


def _read_encoder(fields: Fields) -> EncoderOutputs:
    return EncoderOutputs(
        pooling=fields.text("pooling", choices=("cls", "mean")),
        inputs=_read_inputs(fields.nested("inputs")),
        mean=_estimate(fields, "mean"),
        median=_estimate(fields, "median"),
        p95=_estimate(fields, "p95"),
        p99=_estimate(fields, "p99"),
        max=_number(fields, "max"),
        histogram=_read_histogram(fields.nested("histogram")),
    )


def _read_metric(fields: Fields) -> MetricLine:
    return MetricLine(
        name=fields.text("name"),
        items=fields.integer("items", minimum=1),
        reference=_number(fields, "reference"),
        packed=_number(fields, "packed"),
        difference=_estimate(fields, "difference"),
        difference_t=_estimate(fields, "differenceT"),
    )
