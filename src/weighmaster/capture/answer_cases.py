# SPDX-License-Identifier: Apache-2.0
"""Known-answer cases: which inputs are run, in which schedule. Generated from a seed, or made of the user's tokens.

Decode steps and short sequences are always among them: measured, a long prefill is blind to the kernels that change
with batch and row (a matrix library takes another path where a thread gets few rows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from weighmaster.capture.probe_auto import auto_probe
from weighmaster.capture.safetensors_files import open_file
from weighmaster.capture.torch_storage import tensor_of
from weighmaster.core.answers import Schedule
from weighmaster.errors import UsageError

__all__ = ["BATCHES", "CaseInput", "ModelKind", "cases_of", "kind_of_model", "own_cases", "read_cases"]

ModelKind = Literal["causal-lm", "encoder", "classifier", "callable"]

BATCHES: Final = (2, 4, 8, 44)
"""Co-resident sequences; 44 is where a batch-invariant mode of an engine was seen to fail."""

_SHORT: Final = (1, 2, 3, 4, 5)
_PREFILL: Final = (16, 48)
_CO_RESIDENT: Final = 16
_PROMPT, _STEPS = 4, 4
_CHUNKED, _CHUNK = 32, 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseInput:
    """One case before it is run.

    Attributes:
        id: unique text.
        schedule: how it is run.
        length: tokens of the observed row, or 0 where the inputs are no tokens.
        tensors: keyword to tensor; ``input_ids`` and ``attention_mask`` [batch, padded], int64, for token models.
    """

    id: str
    schedule: Schedule
    length: int
    tensors: Mapping[str, torch.Tensor]


def kind_of_model(model: torch.nn.Module) -> ModelKind:
    """Tell what a model gives: next-token logits, hidden states, class logits, or something else."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "vocab_size") or getattr(config, "is_encoder_decoder", False):
        return "callable"
    architectures = " ".join(getattr(config, "architectures", None) or (type(model).__name__,))
    generate = getattr(model, "can_generate", None)
    if "CausalLM" in type(model).__name__ or (callable(generate) and generate()):
        return "causal-lm"
    return "classifier" if "Classification" in f"{type(model).__name__} {architectures}" else "encoder"


def cases_of(model: torch.nn.Module, seed: int) -> tuple[CaseInput, ...]:
    """Return the generated cases of a model, the same for the same configuration and seed.

    Raises:
        UsageError: it cannot be told what the model takes.
    """
    kind = kind_of_model(model)
    if kind == "callable":
        return tuple(_calls(model))
    config: Any = model.config
    sequence = _tokens(int(config.vocab_size), max(*_PREFILL, _CHUNKED), seed)
    made = _Maker(_longest(model), int(config.vocab_size), seed)
    return tuple(_generated(made, sequence, causal=kind == "causal-lm"))


def own_cases(model: torch.nn.Module, sequences: Mapping[str, torch.Tensor], seed: int) -> tuple[CaseInput, ...]:
    """Return cases of the user's own token sequences: each alone, among eight, and step by step where that is possible.

    Raises:
        UsageError: a sequence is no vector of token ids of this model, exceeds its context length, or two cases would
            have one name.
    """
    kind = kind_of_model(model)
    if kind == "callable":
        raise UsageError("cases: this model does not take tokens; give no cases, its example inputs are run")
    config: Any = model.config
    made = _Maker(_longest(model), int(config.vocab_size), seed)
    out: list[CaseInput] = []
    for name, tokens in sorted(sequences.items()):
        _check_tokens(name, tokens, int(config.vocab_size))
        row = tokens.to(torch.int64)
        out += [made.prefill(f"{name}", row, 1, 0), made.prefill(f"{name}-of-8", row, 8, 7)]
        if kind == "causal-lm" and len(row) > 1:
            out.append(made.stepwise(f"{name}-decode", row, 1, 0, max(1, len(row) - _STEPS)))
    ids = [case.id for case in out]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise UsageError(f"cases: {twice[0]}: a sequence has the name that a case of another sequence gets")
    return tuple(out)


def _longest(model: torch.nn.Module) -> int | None:
    """Return the context length that the configuration states."""
    value = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return value if isinstance(value, int) and value > 0 else None


def _check_tokens(name: str, ids: torch.Tensor, vocabulary: int) -> None:
    if ids.dim() != 1 or ids.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8) or not len(ids):
        found = f"{ids.dtype} of shape {list(ids.shape)}"
        raise UsageError(f"cases: {name}: expected a vector of token ids, found {found}")
    if int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
        found = f"{int(ids.min())} to {int(ids.max())}"
        raise UsageError(f"cases: {name}: expected token ids from 0 to {vocabulary - 1}, found {found}")


def _tokens(vocabulary: int, count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(seed))


class _Maker:
    """Puts the observed sequence into a row of a batch; the other rows are other tokens from the seed."""

    def __init__(self, context: int | None, vocabulary: int, seed: int) -> None:
        self.context, self.vocabulary, self.seed = context, vocabulary, seed

    def fits(self, length: int) -> bool:
        return self.context is None or length <= self.context

    def prefill(
        self,
        name: str,
        row: torch.Tensor,
        batch: int,
        at: int,
        pad: Literal["none", "left", "right"] = "none",
        padding: int = 0,
    ) -> CaseInput:
        schedule = Schedule(
            mode="prefill", batch=batch, row=at, pad=pad, padded=len(row) + padding, cache="none", chunk=0
        )
        return self._case(name, row, schedule)

    def stepwise(self, name: str, row: torch.Tensor, batch: int, at: int, prompt: int) -> CaseInput:
        schedule = Schedule(mode="decode", batch=batch, row=at, pad="none", padded=len(row), cache="cold", chunk=prompt)
        return self._case(name, row, schedule)

    def chunked(self, name: str, row: torch.Tensor, chunk: int, cache: Literal["cold", "warm"]) -> CaseInput:
        schedule = Schedule(mode="chunked", batch=1, row=0, pad="none", padded=len(row), cache=cache, chunk=chunk)
        return self._case(name, row, schedule)

    def _case(self, name: str, row: torch.Tensor, schedule: Schedule) -> CaseInput:
        if not self.fits(schedule.padded):
            raise UsageError(
                f"cases: {name}: expected at most {self.context} tokens, the context length of the model, "
                f"found {schedule.padded}"
            )
        ids = torch.randint(
            0,
            self.vocabulary,
            (schedule.batch, schedule.padded),
            generator=torch.Generator().manual_seed(self.seed + 1 + schedule.batch),
        )
        mask = torch.ones_like(ids)
        start = schedule.padded - len(row) if schedule.pad == "left" else 0
        ids[schedule.row] = 0
        ids[schedule.row, start : start + len(row)] = row
        mask[schedule.row] = 0
        mask[schedule.row, start : start + len(row)] = 1
        return CaseInput(
            id=name, schedule=schedule, length=len(row), tensors={"attention_mask": mask, "input_ids": ids}
        )


def _generated(made: _Maker, sequence: torch.Tensor, *, causal: bool) -> Iterator[CaseInput]:
    for length in (*_SHORT, *_PREFILL):
        if made.fits(length):
            yield made.prefill(f"prefill-{length}", sequence[:length], 1, 0)
    for batch in BATCHES:
        for at in range(batch) if batch <= 8 else (0, batch - 1):  # noqa: PLR2004  # every row of the small batches
            for length in (3, _CO_RESIDENT):
                if made.fits(length):
                    yield made.prefill(f"prefill-{length}-row-{at}-of-{batch}", sequence[:length], batch, at)
    if made.fits(2 * _CO_RESIDENT):
        yield made.prefill("padded-right", sequence[:_CO_RESIDENT], 2, 1, "right", _CO_RESIDENT)
        if causal:  # absolute positions make left padding another question to an encoder
            yield made.prefill("padded-left", sequence[:_CO_RESIDENT], 2, 1, "left", _CO_RESIDENT)
    if causal and made.fits(_CHUNKED):
        yield from _cached(made, sequence)


def _cached(made: _Maker, sequence: torch.Tensor) -> Iterator[CaseInput]:
    for batch in (1, *BATCHES):
        for at in sorted({0, batch - 1}):
            row = sequence[: _PROMPT + _STEPS]
            yield made.stepwise(f"decode-row-{at}-of-{batch}", row, batch, at, _PROMPT)
    yield made.chunked("chunked-cold", sequence[:_CHUNKED], _CHUNK, "cold")
    yield made.chunked("chunked-warm", sequence[:_CHUNKED], _CHUNK, "warm")


def _calls(model: torch.nn.Module) -> Iterator[CaseInput]:
    """Return one case per call of the model's probe set; only plain tensors can be kept as inputs."""
    probe = auto_probe(model)
    tensors = dict(probe.tensors)
    for i, call in enumerate(probe.calls):
        plans = {**{f"args.{j}": plan for j, plan in enumerate(call["args"])}, **call["kwargs"]}
        if not all("tensor" in plan for plan in plans.values()):
            raise UsageError(f"call {i} of the probe set holds other inputs than tensors; known answers need tensors")
        schedule = Schedule(mode="call", batch=1, row=0, pad="none", padded=0, cache="none", chunk=0)
        inputs = {key: tensors[plan["tensor"]] for key, plan in plans.items()}
        yield CaseInput(id=f"call-{i}", schedule=schedule, length=0, tensors=inputs)


def read_cases(path: Path) -> dict[str, torch.Tensor]:
    """Read the user's token sequences: a safetensors file of vectors of integers, one per case.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: it breaks the format.
    """
    with open_file(path) as file:
        return {v.name: tensor_of(bytes(v.read(0, v.nbytes)), v.dtype, v.shape) for v in file.views()}
