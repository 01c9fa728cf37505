# SPDX-License-Identifier: Apache-2.0
"""Operational checks: each is an act on a throw-away release that must be accepted, or refused with its exit code."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from weighmaster.core.qualification import Check
from weighmaster.engines.port import DigestEngine
from weighmaster.errors import Faults, WeighmasterError
from weighmaster.flows.exercise import ACCEPTED, Act, Case, Exercise, make_exercise
from weighmaster.flows.operation_comparison import COMPARISON_CASES
from weighmaster.flows.operation_seal import SEAL_CASES
from weighmaster.flows.operation_trust import TRUST_CASES

__all__ = ["OPERATION_NUMBERS", "operation_checks"]

CASES: Final[tuple[Case, ...]] = (*SEAL_CASES, *COMPARISON_CASES, *TRUST_CASES)
"""The place in the tuple is the number of the check."""

COUNT: Final = 44
OPERATION_NUMBERS: Final = tuple(f"OQ-{n:02}" for n in range(1, COUNT + 1))
"""The checks of `operation_checks`: their number cannot shrink in silence."""


def operation_checks(folder: Path, engine: DigestEngine) -> tuple[Check, ...]:
    """Make a release in `folder` and run every check on it; return them in order, passed or not.

    Args:
        folder: an empty folder, of which nothing is needed afterwards.
        engine: digest engine under test.
    """
    try:
        exercise = make_exercise(folder, engine)
    except Exception as error:  # noqa: BLE001  # there is a report all the same, and it says that nothing passed
        return tuple(_not_run(number, f"{type(error).__name__}: {error}") for number in OPERATION_NUMBERS)
    return tuple(_run(f"OQ-{n:02}", *case, exercise) for n, case in enumerate(CASES, start=1))


def _not_run(number: str, why: str) -> Check:
    return Check(number=number, what="the exercise is made", expected=ACCEPTED, found=why, passed=False)


def _run(number: str, what: str, expected: str, act: Act, exercise: Exercise) -> Check:
    began = time.monotonic_ns()
    kind, words = _outcome(act, exercise)
    return Check(
        number=number,
        what=what,
        expected=expected,
        found=f"{kind}: {words}" if words else kind,
        passed=kind == expected,
        milliseconds=(time.monotonic_ns() - began) // 1_000_000,
    )


def _outcome(act: Act, exercise: Exercise) -> tuple[str, str]:
    """Return ``accepted``, or the kind of the refusal with its exit code, and its words."""
    try:
        act(exercise)
    except Faults as group:
        kind = f"{type(group.faults[0]).__name__}, exit code {group.exit_code}"
        return kind, " / ".join(_words(fault, exercise) for fault in group.faults)
    except WeighmasterError as error:
        return f"{type(error).__name__}, exit code {error.exit_code}", _words(error, exercise)
    except Exception as error:  # noqa: BLE001  # whatever else it is, this check did not pass, and the others still run
        return f"defect ({type(error).__name__})", _words(error, exercise)
    return ACCEPTED, ""


def _words(error: Exception, exercise: Exercise) -> str:
    return " ".join(str(error).replace(str(exercise.folder), "EXERCISE").split())
