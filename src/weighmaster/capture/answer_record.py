# SPDX-License-Identifier: Apache-2.0
"""Run known-answer cases twice and in float64, and turn what they gave into the parts of an answers document."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from weighmaster.capture.answer_cases import CaseInput
from weighmaster.capture.answer_oracle import oracle_outputs
from weighmaster.capture.answer_runs import Ran, require_evaluation, run_case
from weighmaster.capture.module_trace import ModuleOutput, first_divergence
from weighmaster.capture.torch_storage import dtype_name, raw_bytes
from weighmaster.capture.torch_trace import value_digest
from weighmaster.core.answers import Case, ModuleLine, TopK
from weighmaster.core.number import decimal_text
from weighmaster.errors import AnswerFault, UsageError

__all__ = ["Entry", "Recording", "record_cases"]

Entry = tuple[str, str, tuple[int, ...], bytes]
"""Name, dtype, shape and row-major bytes of a tensor of the side file."""

_TOP = 5
_LAST = 4
"""Positions of which the highest values are listed: the last ones. All values are in the side file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a model answered.

    Attributes:
        cases: as they stand in the document.
        entries: tensors of the side file.
        dtype: of the outputs.
        oracle: ``float64`` or ``none``.
        oracle_note: how it was made, or why there is none.
    """

    cases: tuple[Case, ...]
    entries: tuple[Entry, ...]
    dtype: str
    oracle: str
    oracle_note: str


def record_cases(model: torch.nn.Module, cases: Iterable[CaseInput]) -> Recording:
    """Run each case twice, the second time traced, and once in float64.

    Raises:
        UsageError: the model is in training mode, or there are no cases.
        AnswerFault: two runs of a case differ (names the first module that does), or an output, the model's or a leaf
            module's, is not finite.
    """
    require_evaluation(model)
    listed = tuple(cases)
    if not listed:
        raise UsageError("known answers: expected at least one case, found none")
    outputs, note = oracle_outputs(model, listed)
    wides: Iterable[torch.Tensor | None] = outputs if outputs is not None else [None] * len(listed)
    done = [_record(model, case, wide) for case, wide in zip(listed, wides, strict=True)]
    return Recording(
        cases=tuple(case for case, _ in done),
        entries=tuple(entry for _, entries in done for entry in entries),
        dtype=done[0][0].dtype,
        oracle="float64" if outputs is not None else "none",
        oracle_note=note,
    )


def _record(model: torch.nn.Module, case: CaseInput, wide: torch.Tensor | None) -> tuple[Case, list[Entry]]:
    first, traced = run_case(model, case), run_case(model, case, trace=True)
    _require_repeatable(model, case, first, traced)
    output = first.output
    entries = [_entry(f"in.{case.id}.{key}", tensor) for key, tensor in sorted(case.tensors.items())]
    entries.append(_entry(f"out.{case.id}", output))
    if wide is not None:
        entries.append(_entry(f"oracle.{case.id}", wide))
    recorded = Case(
        id=case.id,
        schedule=case.schedule,
        length=case.length,
        inputs=tuple((key, f"in.{case.id}.{key}") for key in sorted(case.tensors)),
        commitment=None,
        output=f"out.{case.id}",
        dtype=dtype_name(output),
        shape=tuple(output.shape),
        sha256=value_digest(output),
        top=_top(output),
        absmax=decimal_text(float(output.abs().max())),
        oracle=None if wide is None else f"oracle.{case.id}",
        error=None if wide is None else decimal_text(float((output.double() - wide).abs().max())),
        trace=tuple(_line(case.id, seen) for seen in traced.trace),
    )
    return recorded, entries


def _entry(name: str, tensor: torch.Tensor) -> Entry:
    return name, dtype_name(tensor), tuple(tensor.shape), raw_bytes(tensor)


def _line(case: str, seen: ModuleOutput) -> ModuleLine:
    if not math.isfinite(seen.l2):
        where = f"{seen.module or '(model)'} ({seen.kind}) gives numbers that are not finite"
        raise AnswerFault(case, where, expected="finite numbers", found=str(seen.l2))
    return ModuleLine(
        module=seen.module,
        kind=seen.kind,
        dtype=seen.dtype,
        shape=seen.shape,
        sha256=seen.sha256,
        absmax=decimal_text(seen.absmax),
        l2=decimal_text(seen.l2),
    )


def _top(output: torch.Tensor) -> tuple[TopK, ...]:
    count, positions = min(_TOP, output.shape[1]), output.shape[0]
    out = []
    for position in range(max(0, positions - _LAST), positions):
        values, ids = output[position].double().sort(descending=True, stable=True)
        out.append(
            TopK(
                position=position,
                ids=tuple(int(i) for i in ids[:count]),
                values=tuple(decimal_text(float(v)) for v in values[:count]),
            )
        )
    return tuple(out)


def _require_repeatable(model: torch.nn.Module, case: CaseInput, first: Ran, second: Ran) -> None:
    if value_digest(first.output) == value_digest(second.output):
        return
    once, again = run_case(model, case, trace=True), run_case(model, case, trace=True)
    at = first_divergence(once.trace, again.trace)
    where = "no module shows it" if at is None else f"first in {once.trace[at].module} ({once.trace[at].kind})"
    raise AnswerFault(
        case.id,
        f"is not deterministic: two runs in this process give other bits; {where}",
        expected=value_digest(first.output),
        found=value_digest(second.output),
    )
