# SPDX-License-Identifier: Apache-2.0
"""Explain a known answer that is not reproduced: first module that differs, what it points to, facts that changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weighmaster.capture.answer_check import layer_errors, replay_trace
from weighmaster.capture.module_trace import ModuleOutput, first_divergence, subsystem
from weighmaster.core.answers import Case
from weighmaster.core.environment import Environment
from weighmaster.core.judgement import judge
from weighmaster.core.policy import DEFAULT_POLICY
from weighmaster.errors import UsageError
from weighmaster.flows.answers_files import RecordedAnswers
from weighmaster.flows.answers_verify import AnswersVerdict

__all__ = ["Explanation", "environment_changes", "explain_answers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why known answers are not reproduced here.

    Attributes:
        case: the case that was replayed: the first that differs.
        module: path of the first leaf module with another output; None where every traced module gives the recorded
            bits.
        kind: its class.
        place: its place in the order of execution, from 0; -1 without one.
        modules: leaf module outputs that were compared.
        points_to: the subsystem, in words.
        renamed: modules of the recorded trace that are not here, and modules here that it has not.
        facts: differences of the environment, in words.
        layers: per leaf module, relative error against a float64 copy made here; empty without one.
    """

    case: str
    module: str | None
    kind: str
    place: int
    modules: int
    points_to: str
    renamed: tuple[str, ...]
    facts: tuple[str, ...]
    layers: tuple[tuple[str, float], ...]


def explain_answers(
    recorded: RecordedAnswers, model: Any, verdict: AnswersVerdict, environment: Environment
) -> Explanation | None:
    """Replay the first case that differs, with hooks; None where every case is ``EXACT``.

    Raises:
        UsageError: the verdict is about other answers.
    """
    differing = [c.id for c in verdict.cases if c.verdict != "EXACT"]
    if not differing:
        return None
    case = next((c for c in recorded.answers.cases if c.id == differing[0]), None)
    if case is None:
        raise UsageError(f"explain: the answers have no case {differing[0]}")
    live = replay_trace(model, case, recorded.entries)
    place = first_divergence(case.trace, live)
    return Explanation(
        case=case.id,
        place=-1 if place is None else place,
        modules=len(case.trace),
        renamed=_renamed(case, live),
        facts=environment_changes(recorded.environment, environment),
        layers=layer_errors(model, case, recorded.entries),
        **_first(case, live, place),
    )


def environment_changes(before: Environment, after: Environment) -> tuple[str, ...]:
    """Return each class fact that differs, in words."""
    return tuple(str(difference.fault()) for difference in judge(before, after, DEFAULT_POLICY))


def _first(case: Case, live: tuple[ModuleOutput, ...], place: int | None) -> dict[str, Any]:
    if place is None:
        said = "no leaf module: the difference arises in the code of a module with children, or after the last one"
        return {"module": None, "kind": "", "points_to": said}
    line = case.trace[place] if place < len(case.trace) else None
    here = live[place] if place < len(live) else None
    if line is None or here is None or line.module != here.module:
        name = line.module if line is not None else here.module if here is not None else ""
        kind = line.kind if line is not None else here.kind if here is not None else ""
        return {"module": name, "kind": kind, "points_to": "another order or set of modules"}
    return {
        "module": line.module,
        "kind": line.kind,
        "points_to": subsystem(line.kind, line.module),
    }


def _renamed(case: Case, live: tuple[ModuleOutput, ...]) -> tuple[str, ...]:
    before, after = {line.module for line in case.trace}, {line.module for line in live}
    gone = [f"recorded module {name} is not here" for name in sorted(before - after)]
    return (*gone, *(f"module {name} was not recorded" for name in sorted(after - before)))
