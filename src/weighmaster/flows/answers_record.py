# SPDX-License-Identifier: Apache-2.0
"""Record known answers: what the live model computes here, bound to its weights, structure and environment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighmaster.capture.answer_cases import cases_of, kind_of_model, own_cases
from weighmaster.capture.answer_record import record_cases
from weighmaster.capture.probe_set import SEED
from weighmaster.capture.sources import source_files
from weighmaster.capture.torch_model import TorchModel
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.core.answers import Answers
from weighmaster.core.canonical import dumps
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.core.source import Source
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.errors import NotWeighed
from weighmaster.flows.answers_files import RecordedAnswers, bind_answers
from weighmaster.flows.snapshots import take_steady
from weighmaster.flows.weigh import as_probe_set
from weighmaster.probe.collect import collect

__all__ = ["LiveIdentity", "identify", "record_answers", "tokenizer_digest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveIdentity:
    """Which model stands in this process.

    Attributes:
        root: Merkle root of the tensors in steady state, as a manifest made here would have it.
        structure: structure digest.
    """

    root: str
    structure: str


def identify(model: Any, example: Any = "auto") -> LiveIdentity:
    """Bring `model` to its steady state and digest it, as `weigh` does.

    Raises:
        NotWeighed: with every fault found.
        UsageError: it is no model, or its inputs are not known.
    """
    live = TorchModel(model)
    _, faults = live.privatize("private")
    steady = take_steady(live, as_probe_set(example, live), HashlibEngine(), wanted="both")
    if faults or steady.faults or steady.digested is None:
        raise NotWeighed("the model cannot be weighed", (*faults, *steady.faults))
    return LiveIdentity(root=steady.digested.table.root, structure=steady.structure.digest)


def record_answers(
    model: Any,
    *,
    cases: Mapping[str, Any] | None = None,
    seed: int = SEED,
    example: Any = "auto",
    source: Path | str | None = None,
) -> RecordedAnswers:
    """Run the case matrix on a live model, and return what it answered.

    Args:
        model: a `torch.nn.Module` in evaluation mode.
        cases: vectors of token ids by name, int64 [tokens]; by default generated from `seed`.
        seed: of generated tokens; fillers of batches are generated in either case.
        example: inputs of the probe set with which the weights are brought to their steady state (`weigh`).
        source: directory of the model, whose tokenizer is bound.

    Raises:
        NotWeighed: the model cannot be weighed.
        AnswerFault: the model is not deterministic, or gives numbers that are not finite.
        UsageError: a case does not fit the model, or the model is in training mode.
    """
    identity = identify(model, example)
    given = cases_of(model, seed) if cases is None else own_cases(model, cases, seed)
    recording = record_cases(model, given)
    environment = collect(torch_facts())  # after the runs: libraries load lazily
    side = safetensors_bytes(recording.entries, {})
    answers = Answers(
        kind=kind_of_model(model),
        seed=seed,
        private=False,
        root=identity.root,
        structure=identity.structure,
        class_digest=environment.class_digest,
        environment=hashlib.sha256(environment.to_bytes()).hexdigest(),
        tokenizer=None if source is None else tokenizer_digest(source_files(source)),
        dtype=recording.dtype,
        oracle=recording.oracle,
        oracle_note=recording.oracle_note,
        side_sha256=hashlib.sha256(side).hexdigest(),
        side_bytes=len(side),
        cases=recording.cases,
    )
    return bind_answers(answers.to_bytes(), side, environment, "answers")


def tokenizer_digest(sources: tuple[Source, ...]) -> str | None:
    """Return SHA-256 over path and digest of each tokenizer and template file; None where there is none."""
    listed = sorted((s.path, s.sha256) for s in sources if s.role in ("tokenizer", "template"))
    return hashlib.sha256(dumps([list(pair) for pair in listed])).hexdigest() if listed else None
