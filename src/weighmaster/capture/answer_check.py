# SPDX-License-Identifier: Apache-2.0
"""Run a recorded case again and measure how far its output lies from the recorded one and from the oracle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from weighmaster.capture.answer_cases import CaseInput
from weighmaster.capture.answer_oracle import oracle_values
from weighmaster.capture.answer_record import Entry
from weighmaster.capture.answer_runs import require_evaluation, run_case, run_values
from weighmaster.capture.module_trace import ModuleOutput
from weighmaster.capture.torch_storage import dtype_name, tensor_of
from weighmaster.capture.torch_trace import value_digest
from weighmaster.core.answers import FACTOR, Case
from weighmaster.errors import AnswerFault

__all__ = ["Figures", "check_case", "layer_errors", "rebuild", "replay_trace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one case came to; all distances are largest absolute differences over the output.

    Attributes:
        same: the output has the recorded bits.
        changed: share of elements with other values, 0 to 1.
        distance: from the recorded output, relative to its largest magnitude.
        error: from the oracle; None without one.
        tolerance: what the error may be; None without an oracle.
        decided: positions where the oracle's first choice leads by more than twice the tolerance.
        overturned: those of them where the output's first choice is another.
        near_ties: the other positions.
        repeatable: a further run gave the same bits as this one.
    """

    same: bool
    changed: float
    distance: float
    error: float | None
    tolerance: float | None
    decided: int
    overturned: int
    near_ties: int
    repeatable: bool


def rebuild(case: Case, entries: Mapping[str, Entry]) -> CaseInput:
    """Return a recorded case as it was run."""
    tensors = {key: _tensor(entries[name]) for key, name in case.inputs}
    return CaseInput(id=case.id, schedule=case.schedule, length=case.length, tensors=tensors)


def check_case(model: torch.nn.Module, case: Case, entries: Mapping[str, Entry]) -> Figures:
    """Run `case` on `model`; a second time where its bits differ, to tell another kernel from a nondeterministic one.

    Raises:
        AnswerFault: the output is not finite, or of another form than the recorded one; or the recorded output or the
            oracle is not finite, so that no distance from it decides anything.
        UsageError: the model is in training mode.
    """
    require_evaluation(model)
    given = rebuild(case, entries)
    output = run_case(model, given).output
    form = (dtype_name(output), tuple(output.shape))
    if form != (case.dtype, case.shape):
        raise AnswerFault(case.id, "output of another form", expected=f"{case.dtype} {case.shape}", found=str(form))
    same = value_digest(output) == case.sha256
    again = output if same else run_case(model, given).output
    recorded = _tensor(entries[case.output])
    wide, before = output.double(), recorded.double()
    scale = float(before.abs().max()) or 1.0
    oracle = _tensor(entries[case.oracle]) if case.oracle is not None else None
    _require_finite(case, before, oracle)
    tolerance = None if oracle is None else _tolerance(recorded, oracle)
    decided, overturned, ties = (0, 0, 0) if oracle is None else _choices(wide, oracle, tolerance or 0.0)
    return Figures(
        same=same,
        changed=float((wide != before).double().mean()),
        distance=float((wide - before).abs().max()) / scale,
        error=None if oracle is None else float((wide - oracle).abs().max()),
        tolerance=tolerance,
        decided=decided,
        overturned=overturned,
        near_ties=ties,
        repeatable=value_digest(again) == value_digest(output),
    )


def replay_trace(model: torch.nn.Module, case: Case, entries: Mapping[str, Entry]) -> tuple[ModuleOutput, ...]:
    """Run a recorded case with hooks on every leaf module."""
    require_evaluation(model)
    return run_case(model, rebuild(case, entries), trace=True).trace


def _tensor(entry: Entry) -> torch.Tensor:
    _, dtype, shape, data = entry
    return tensor_of(data, dtype, shape)


def _require_finite(case: Case, *tensors: torch.Tensor | None) -> None:
    """Refuse recorded tensors with which every comparison would come out false, or every distance be allowed."""
    for tensor in tensors:
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise AnswerFault(
                case.id, "recorded numbers that are not finite", expected="finite numbers", found=f"{count} not"
            )


def _tolerance(recorded: torch.Tensor, oracle: torch.Tensor) -> float:
    """Return what spec/answers.md derives: the validated environment's own error, or half a unit in the last place."""
    error = float((recorded.double() - oracle).abs().max())
    magnitude = float(oracle.abs().max()) or torch.finfo(recorded.dtype).tiny
    ulp = math.ldexp(torch.finfo(recorded.dtype).eps, math.frexp(magnitude)[1] - 1)
    return FACTOR * max(error, ulp / 2)


def _choices(output: torch.Tensor, oracle: torch.Tensor, tolerance: float) -> tuple[int, int, int]:
    if oracle.shape[1] < 2:  # noqa: PLR2004  # one number is no choice
        return 0, 0, 0
    two = oracle.topk(2, dim=1)
    clear = (two.values[:, 0] - two.values[:, 1]) > 2 * tolerance
    other = output.argmax(dim=1) != two.indices[:, 0]
    return int(clear.sum()), int((clear & other).sum()), int((~clear).sum())


def layer_errors(model: torch.nn.Module, case: Case, entries: Mapping[str, Entry]) -> tuple[tuple[str, float], ...]:
    """Return, per leaf module in order, how far its output lies from that of a float64 copy made here.

    Returns:
        Pairs of path and largest absolute difference over the copy's largest magnitude; empty where there is no copy.
    """
    given = rebuild(case, entries)
    here, wide = run_values(model, given), oracle_values(model, given)
    if [path for path, _ in here] != [path for path, _ in wide]:
        return ()
    return tuple(
        (path, float((mine - its).abs().max()) / (float(its.abs().max()) or 1.0))
        for (path, mine), (_, its) in zip(here, wide, strict=True)
        if mine.numel()
    )
