# SPDX-License-Identifier: Apache-2.0
"""Run known-answer cases on a live model: exact outputs of the observed row, trace of the modules."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.utils._pytree import tree_leaves

from weighmaster.capture.answer_cases import CaseInput
from weighmaster.capture.module_trace import ModuleOutput, ModuleTrace
from weighmaster.errors import AnswerFault, UsageError

__all__ = ["KEPT", "Ran", "require_evaluation", "run_case", "run_values"]

KEPT: Final = 1 << 20
"""Elements of an output that are kept: the last positions that fit. The trace digests all of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ran:
    """What one run of a case gave.

    Attributes:
        output: [positions, features] of the observed row, on the CPU, in the dtype of the model's output.
        trace: outputs of the leaf modules, in order; empty where it was not asked for.
    """

    output: torch.Tensor
    trace: tuple[ModuleOutput, ...]


def require_evaluation(model: torch.nn.Module) -> None:
    """Refuse a model in training mode: dropout would draw other numbers in every run.

    Raises:
        UsageError: names the first module in training mode.
    """
    for path, module in model.named_modules():
        if module.training:
            raise UsageError(
                f"known answers: {path or '(model)'} ({type(module).__name__}) is in training mode; "
                "expected evaluation mode (model.eval())"
            )


def run_case(model: torch.nn.Module, case: CaseInput, *, trace: bool = False) -> Ran:
    """Run one case without gradients.

    Raises:
        AnswerFault: the output is no floating tensor, or not finite.
    """
    tensors = _on_device(model, case)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if not trace:
            return Ran(output=_kept(_output(model, case, tensors), case), trace=())
        with ModuleTrace(model) as seen:
            output = _output(model, case, tensors)
        return Ran(output=_kept(output, case), trace=tuple(seen.outputs))


def run_values(model: torch.nn.Module, case: CaseInput) -> list[tuple[str, torch.Tensor]]:
    """Run one case and return the output of every leaf module, in order, as float64."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), ModuleTrace(model, keep=True) as seen:
        torch.manual_seed(0)
        _output(model, case, _on_device(model, case))
    return [(line.module, value) for line, value in zip(seen.outputs, seen.values, strict=True)]


def _on_device(model: torch.nn.Module, case: CaseInput) -> dict[str, torch.Tensor]:
    first = next(model.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    return {key: tensor.to(device) for key, tensor in case.tensors.items()}


def _output(model: torch.nn.Module, case: CaseInput, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    schedule = case.schedule
    if schedule.mode == "call":
        args = [tensors[key] for key in sorted(tensors) if key.startswith("args.")]
        kwargs = {key: tensor for key, tensor in tensors.items() if not key.startswith("args.")}
        return _first(model(*args, **kwargs), case)
    if schedule.mode == "prefill":
        return _observed(_first(model(**_padded(tensors, case)), case), case)
    return _observed(_pieces(model, case, tensors), case)


def _padded(tensors: dict[str, torch.Tensor], case: CaseInput) -> dict[str, torch.Tensor]:
    """Add positions where padding stands before the tokens."""
    if case.schedule.pad != "left":
        return tensors
    positions = (tensors["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    return {**tensors, "position_ids": positions}


def _pieces(model: torch.nn.Module, case: CaseInput, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Run the pieces of a sequence one after the other, each on the cache that those before it left."""
    schedule, ids, mask = case.schedule, tensors["input_ids"], tensors["attention_mask"]
    past: Any = None
    out: list[torch.Tensor] = []
    for begin, end in _bounds(schedule.mode, ids.shape[1], schedule.chunk):
        if past is not None and schedule.cache == "warm":
            past = copy.deepcopy(past)  # as a server that keeps the prefix for the next request
        given = model(input_ids=ids[:, begin:end], attention_mask=mask[:, :end], past_key_values=past, use_cache=True)
        past = given.past_key_values
        out.append(_first(given, case))
    return torch.cat(out, dim=1)


def _bounds(mode: str, total: int, chunk: int) -> Iterator[tuple[int, int]]:
    if mode == "chunked":
        yield from ((begin, min(begin + chunk, total)) for begin in range(0, total, chunk))
        return
    yield 0, chunk
    yield from ((at, at + 1) for at in range(chunk, total))


def _first(output: Any, case: CaseInput) -> torch.Tensor:
    """Return logits, hidden states, or the first floating tensor of an output."""
    for name in ("logits", "last_hidden_state"):
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, torch.Tensor):
            return value
    for leaf in tree_leaves(output):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            return leaf
    raise AnswerFault(case.id, "gives no floating tensor", expected="an output", found=type(output).__name__)


def _observed(output: torch.Tensor, case: CaseInput) -> torch.Tensor:
    """Return the observed row without the positions that are padding."""
    row = output[case.schedule.row]
    if row.dim() < 2 or row.shape[0] != case.schedule.padded:  # noqa: PLR2004  # logits of a class, not of positions
        return row
    start = case.schedule.padded - case.length if case.schedule.pad == "left" else 0
    return row[start : start + case.length]


def _kept(output: torch.Tensor, case: CaseInput) -> torch.Tensor:
    plain = output.detach().cpu()
    flat = plain.reshape(1, -1) if plain.dim() < 2 else plain.reshape(-1, plain.shape[-1])  # noqa: PLR2004
    if not flat.numel():
        raise AnswerFault(case.id, "gives an empty output", expected="numbers", found=f"shape {list(plain.shape)}")
    if not bool(torch.isfinite(flat).all()):
        count = int((~torch.isfinite(flat)).sum())
        raise AnswerFault(
            case.id, "gives an output that is not finite", expected="finite numbers", found=f"{count} not"
        )
    return flat[-max(1, KEPT // flat.shape[1]) :].contiguous()
