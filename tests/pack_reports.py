# SPDX-License-Identifier: Apache-2.0
"""Reports that hold every kind of part, small enough to be added up by eye."""

from __future__ import annotations

import dataclasses

from weighmaster.core.pack_report import (
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
    PackRef,
    Position,
    Report,
    SequenceLine,
    Size,
    TensorLine,
)


def estimate(value: str, low: str | None = None, high: str | None = None) -> Estimate:
    return Estimate(value=value, low=low, high=high)


def tensor(name: str, shape: tuple[int, ...], codec: str, nbytes: int, error: str, rms: str | None) -> TensorLine:
    return TensorLine(
        name=name,
        dtype="bfloat16",
        shape=shape,
        codec=codec,
        nbytes=nbytes,
        relative_squared_error=error,
        max_error="0.5" if error != "0" else "0",
        rms=rms,
    )


OUTPUTS = LanguageOutputs(
    inputs=Inputs(kind="tokens", seed=None, sha256="1a" * 32, sequences=2, available=7, tokens=12),
    predicted=10,
    kl=estimate("0.002", "0.001", "0.003"),
    kl_median="0.0011",
    kl_p99="0.02",
    kl_max="0.03",
    perplexity_reference="8",
    perplexity_packed="10",
    ratio=estimate("1.25", "1.2", "1.3"),
    ratio_t=estimate("1.25", "1.1", "1.4"),
    agreement=estimate("0.9", "0.8", "1"),
    histogram=Histogram(first=-72, below=1, counts=(3, 0, 6)),
    positions=(Position(first=1, last=3, kl="0.001"), Position(first=4, last=5, kl="-0.000000000000001")),
    by_sequence=(
        SequenceLine(predicted=5, kl="0.001", reference="2", packed="2.1"),
        SequenceLine(predicted=5, kl="0.003", reference="2.15888308", packed="2.50517019"),
    ),
)

LANGUAGE = Report(
    pack=PackRef(
        root="c0" * 32,
        encoder=EncoderRef(
            name="weighmaster", version="1", profile="calibrated", bits="5", parameters=(("damping", "0.1"),)
        ),
        calibration=Calibration(kind="self", sha256="ab" * 32, tokens=4096),
    ),
    source=(File(path="model.safetensors", size=1000, sha256="50" * 32),),
    size=Size(
        elements=80,
        payload=120,
        headers=400,
        index=300,
        shard_index=50,
        beside=(
            File(path="config.json", size=20, sha256="cf" * 32),
            File(path="tokenizer.json", size=30, sha256="70" * 32),
        ),
    ),
    relative_squared_error="0.0123",
    tensors=(
        tensor("model.embed_tokens.weight", (16, 4), "five-v1", 60, "0.0125", "1.5"),
        tensor("model.layers.0.self_attn.q_proj.weight", (4, 3), "exact-v1", 40, "0", "0.25"),
        tensor("model.norm.weight", (4,), "raw-v1", 20, "0", None),
    ),
    outputs=OUTPUTS,
    metrics=(
        MetricLine(
            name="checks:accuracy",
            items=50,
            reference="0.9",
            packed="0.88",
            difference=estimate("-0.02", "-0.04", "0"),
            difference_t=estimate("-0.02", "-0.041", "0.001"),
        ),
    ),
    machine=(("cpu", "a processor"), ("decoder", "numpy"), ("python", "3.11.2")),
)

EMBEDDINGS = dataclasses.replace(
    LANGUAGE,
    outputs=EncoderOutputs(
        pooling="mean",
        inputs=Inputs(kind="random", seed=7, sha256="2b" * 32, sequences=3, available=3, tokens=30),
        mean=estimate("0.002", "0.001", "0.003"),
        median=estimate("0.0019", "0.001", "0.003"),
        p95=estimate("0.003", "0.002", "0.004"),
        p99=estimate("0.0031", "0.002", "0.004"),
        max="0.004",
        histogram=Histogram(first=-66, below=0, counts=(1, 2)),
    ),
    metrics=(),
)

PLAIN = dataclasses.replace(
    LANGUAGE,
    pack=dataclasses.replace(
        LANGUAGE.pack,
        encoder=EncoderRef(name="weighmaster", version="1", profile="exact", bits=None, parameters=()),
        calibration=None,
    ),
    outputs=NoOutputs(reason="model.safetensors has no config.json, so there is no model to run"),
    metrics=(),
)

REPORTS = {"language": LANGUAGE, "embeddings": EMBEDDINGS, "plain": PLAIN}
