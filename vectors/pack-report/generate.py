# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/pack-report.md: ``python vectors/pack-report/generate.py [DIRECTORY]``.

A case is a ``report.json`` and what a reader says of it (``expect.json``). Every run writes the same bytes.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from weighmaster.core.canonical import dumps

Json = dict[str, Any]
Edit = Callable[[Json], object]


def sha256(text: str) -> str:
    """Return a digest that stands for something."""
    return hashlib.sha256(f"weighmaster test vector: {text}".encode()).hexdigest()


def estimate(value: str, low: str | None, high: str | None) -> Json:
    """Return a number with its interval."""
    return {"high": high, "low": low, "value": value}


def tensor(name: str, shape: list[int], codec: str, nbytes: int, bits: str, error: str, rms: str | None) -> Json:
    """Return the line of a tensor."""
    return {
        "bits": bits,
        "bytes": nbytes,
        "codec": codec,
        "dtype": "bfloat16",
        "maxError": "0.5" if error != "0" else "0",
        "name": name,
        "relativeSquaredError": error,
        "rms": rms,
        "shape": shape,
    }


LANGUAGE: Final[Json] = {
    "agreement": estimate("0.9", "0.8", "1"),
    "bySequence": [
        {"kl": "0.001", "packed": "2.1", "predicted": 5, "reference": "2"},
        {"kl": "0.003", "packed": "2.50517019", "predicted": 5, "reference": "2.15888308"},
    ],
    "histogram": {"below": 1, "counts": [3, 0, 6], "first": -72},
    "inputs": {
        "available": 7,
        "kind": "tokens",
        "seed": None,
        "sequences": 2,
        "sha256": sha256("tokens"),
        "tokens": 12,
    },
    "kind": "causal-lm",
    "kl": estimate("0.002", "0.001", "0.003"),
    "klMax": "0.03",
    "klMedian": "0.0011",
    "klP99": "0.02",
    "perplexityPacked": "10",
    "perplexityReference": "8",
    "positions": [{"first": 1, "kl": "0.001", "last": 3}, {"first": 4, "kl": "0.002", "last": 5}],
    "predicted": 10,
    "ratio": estimate("1.25", "1.2", "1.3"),
    "ratioT": estimate("1.25", "1.1", "1.4"),
}

BASE: Final[Json] = {
    "format": "weighmaster-pack-report-v1",
    "machine": {"cpu": "a processor", "decoder": "numpy", "python": "3.11.2"},
    "metrics": [
        {
            "difference": estimate("-0.02", "-0.04", "0"),
            "differenceT": estimate("-0.02", "-0.041", "0.001"),
            "items": 50,
            "name": "checks:accuracy",
            "packed": "0.88",
            "reference": "0.9",
        }
    ],
    "outputs": LANGUAGE,
    "pack": {
        "calibration": {"kind": "self", "sha256": sha256("calibration"), "tokens": 4096},
        "encoder": {
            "bits": "5",
            "name": "weighmaster",
            "parameters": {"damping": "0.1"},
            "profile": "calibrated",
            "version": "1",
        },
        "root": sha256("pack"),
    },
    "relativeSquaredError": "0.0123",
    "size": {
        "beside": [{"path": "config.json", "sha256": sha256("config"), "size": 20}],
        "bitsPerWeight": "87",
        "elements": 80,
        "headers": 400,
        "index": 300,
        "payload": 120,
        "shardIndex": 50,
    },
    "source": [{"path": "model.safetensors", "sha256": sha256("source"), "size": 1000}],
    "tensors": [
        tensor("model.embed_tokens.weight", [16, 4], "five-v1", 60, "7.5", "0.0125", "1.5"),
        tensor("model.layers.0.self_attn.q_proj.weight", [4, 3], "exact-v1", 40, "26.6666667", "0", "0.25"),
        tensor("model.norm.weight", [4], "raw-v1", 20, "40", "0", None),
    ],
}

ENCODER: Final[Json] = {
    "histogram": {"below": 0, "counts": [1, 2], "first": -66},
    "inputs": {
        "available": 3,
        "kind": "random",
        "seed": 20240301,
        "sequences": 3,
        "sha256": sha256("random"),
        "tokens": 30,
    },
    "kind": "encoder",
    "max": "0.004",
    "mean": estimate("0.002", "0.001", "0.003"),
    "median": estimate("0.0019", "0.001", "0.003"),
    "p95": estimate("0.003", "0.002", "0.004"),
    "p99": estimate("0.0031", "0.002", "0.004"),
    "pooling": "mean",
}


def put(*path: str | int, value: Any) -> Edit:
    """Return an edit that sets the value at a path."""

    def edit(document: Json) -> None:
        at: Any = document
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return edit


def drop(*path: str | int) -> Edit:
    """Return an edit that takes a key away."""

    def edit(document: Json) -> None:
        at: Any = document
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]

    return edit


FAULTS: Final[dict[str, tuple[Edit, str]]] = {
    "format_of_tomorrow": (put("format", value="weighmaster-pack-report-v2"), "format: expected"),
    "key_missing": (drop("relativeSquaredError"), "relativeSquaredError: expected a value, found no such key"),
    "key_unknown": (put("verdict", value="good"), "verdict: expected only the keys of the specification"),
    "root_short": (put("pack", "root", value="ab"), "pack.root: expected 64 lowercase hexadecimal digits"),
    "profile_unknown": (put("pack", "encoder", "profile", value="best"), "pack.encoder.profile: expected"),
    "number_not_text": (put("relativeSquaredError", value=1), "relativeSquaredError: expected a string"),
    "number_with_exponent": (put("relativeSquaredError", value="1e-2"), "plain decimal notation"),
    "number_with_zeros": (put("outputs", "klMax", value="0.030"), "outputs.klMax: expected a number in plain"),
    "number_minus_zero": (put("outputs", "klMax", value="-0"), "outputs.klMax: expected a number in plain"),
    "error_negative": (put("tensors", 0, "relativeSquaredError", value="-1"), "expected a number at least 0"),
    "bits_understated": (put("size", "bitsPerWeight", value="5"), "size.bitsPerWeight: expected 87"),
    "bits_of_a_tensor": (put("tensors", 0, "bits", value="5"), "tensors[0].bits: expected 7.5"),
    "payload_of_other_tensors": (
        lambda d: d["size"].update(payload=40, bitsPerWeight="79"),
        "size.payload: 40, and the tensors have 120",
    ),
    "elements_of_other_tensors": (
        lambda d: d["size"].update(elements=160, bitsPerWeight="43.5"),
        "size.elements: 160, and the tensors have 80",
    ),
    "tensors_out_of_order": (lambda d: d["tensors"].reverse(), "tensors: expected each once, ascending"),
    "tensor_twice": (
        lambda d: (
            d["tensors"].append(d["tensors"][2]),
            d["size"].update(elements=84, payload=140, bitsPerWeight="84.7619048"),
        ),
        "tensors: expected each once, ascending",
    ),
    "source_outside": (put("source", 0, "path", value="../model.safetensors"), "source[0].path: expected a path"),
    "seed_of_a_users_tokens": (put("outputs", "inputs", "seed", value=1), "inputs of kind 'tokens' have no seed"),
    "made_up_without_seed": (put("outputs", "inputs", "kind", value="self"), "inputs of kind 'self' have seed"),
    "more_sequences_than_there_were": (put("outputs", "inputs", "available", value=1), "2 sequences of 1"),
    "predicted_too_many": (put("outputs", "predicted", value=12), "12 tokens predicted in 2 sequences"),
    "histogram_of_other_tokens": (put("outputs", "histogram", "below", value=0), "the histogram: 9 tokens"),
    "sequence_of_other_length": (put("outputs", "bySequence", 0, "predicted", value=6), "the sequences: 11 tokens"),
    "sequences_left_out": (lambda d: d["outputs"]["bySequence"].pop(), "1 lines for 2 sequences"),
    "ratio_of_other_perplexities": (put("outputs", "perplexityPacked", value="8"), "the perplexities give 1"),
    "two_ratios": (put("outputs", "ratioT", "value", value="1.1"), "two ratios of perplexity"),
    "interval_upside_down": (put("outputs", "kl", "low", value="0.004"), "interval from 0.004 down to 0.003"),
    "interval_half": (put("outputs", "kl", "low", value=None), "an interval has both ends or none"),
    "agreement_above_one": (put("outputs", "agreement", "value", value="1.1"), "expected a number from 0 to 1"),
    "outputs_of_another_kind": (put("outputs", "kind", value="encoder"), "outputs.pooling: expected a value"),
    "metric_without_items": (put("metrics", 0, "items", value=0), "metrics[0].items: expected an integer from 1"),
}


def files() -> dict[str, tuple[bytes, Json]]:
    """Return each case: its report, and what is expected."""
    encoder = {**BASE, "outputs": ENCODER, "metrics": []}
    none = {**BASE, "outputs": {"kind": "none", "reason": "there is no model to run"}, "metrics": []}
    cases = {
        name: (dumps(d), {"error": None, "root": sha256("pack")})
        for name, d in (("language_model", BASE), ("encoder", encoder), ("no_outputs", none))
    }
    for name, (edit, message) in FAULTS.items():
        document = copy.deepcopy(BASE)
        edit(document)
        cases[f"{name}_fail"] = (dumps(document), {"contains": [message], "error": "MalformedArtefact"})
    spaced = dumps(BASE).replace(b'":', b'": ', 1)
    cases["another_spelling_fail"] = (spaced, {"contains": ["canonical form"], "error": "MalformedArtefact"})
    return cases


def main() -> None:
    """Write every case."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, (report, expected) in files().items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "report.json").write_bytes(report)
        (folder / name / "expect.json").write_bytes(dumps(expected))


if __name__ == "__main__":
    main()
