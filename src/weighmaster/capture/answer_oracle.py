# SPDX-License-Identifier: Apache-2.0
"""The float64 oracle of known answers: a copy of the model in float64, run on the same cases and watched."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from weighmaster.capture.answer_cases import CaseInput
from weighmaster.capture.answer_runs import run_case, run_values
from weighmaster.capture.float64_run import Watch, Widen

__all__ = ["oracle_outputs", "oracle_values"]


def oracle_outputs(model: torch.nn.Module, cases: Sequence[CaseInput]) -> tuple[tuple[torch.Tensor, ...] | None, str]:
    """Run `cases` on a float64 copy of `model`.

    Returns:
        Its output per case, float64 [positions, features], and how they were made; or None, and why there are none: no
        copy can be made or run, or an operator of any case gives a narrower type all the same.
    """
    wide = _copy(model)
    if isinstance(wide, str):
        return None, wide
    widen, watch = Widen(), Watch()
    try:
        with widen, watch:
            outputs = tuple(run_case(wide, _widened(case)).output for case in cases)
    except Exception as error:  # noqa: BLE001  # packed weights of other libraries raise anything
        return None, f"none: the float64 copy does not run ({type(error).__name__})"
    if watch.narrow:
        return None, f"none: not float64: {', '.join(sorted(watch.narrow))}"
    said = f"; {widen.widened} requests for a narrower type in the model's code were widened" if widen.widened else ""
    return outputs, f"every operator computed in float64{said}"


def oracle_values(model: torch.nn.Module, case: CaseInput) -> list[tuple[str, torch.Tensor]]:
    """Return path and float64 output of every leaf module of a float64 copy; nothing where there is none."""
    wide = _copy(model)
    if isinstance(wide, str):
        return []
    try:
        with Widen():
            return run_values(wide, _widened(case))
    except Exception:  # noqa: BLE001  # as above
        return []


def _copy(model: torch.nn.Module) -> torch.nn.Module | str:
    """Return a float64 copy, or why there is none."""
    try:
        wide = copy.deepcopy(model).double().eval()
    except Exception as error:  # noqa: BLE001  # as above
        return f"none: the model has no float64 copy ({type(error).__name__})"
    narrow = [name for name, parameter in wide.named_parameters() if parameter.dtype != torch.float64]
    return f"none: {narrow[0]} does not become float64 ({len(narrow)} parameters)" if narrow else wide


def _widened(case: CaseInput) -> CaseInput:
    """Return the case with float64 in the place of narrower floating inputs: the same values."""
    tensors = {key: t.double() if t.is_floating_point() else t for key, t in case.tensors.items()}
    return replace(case, tensors=tensors)
