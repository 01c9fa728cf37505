# SPDX-License-Identifier: Apache-2.0
"""Verify known answers on a live model. The numbers are those of ``spec/answers.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from weighmaster.capture.answer_check import Figures, check_case
from weighmaster.capture.answer_runs import require_evaluation
from weighmaster.capture.open_model import Opened
from weighmaster.capture.sources import source_files
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.core.answers import Case
from weighmaster.core.environment import Environment
from weighmaster.errors import AnswerFault, NotAdmitted, UsageError
from weighmaster.flows.answers_files import RecordedAnswers
from weighmaster.flows.answers_record import identify, tokenizer_digest
from weighmaster.probe.collect import collect

__all__ = ["AnswersVerdict", "CaseVerdict", "Word", "check_answers", "identity_faults", "verify_answers", "verify_here"]

Word = Literal["EXACT", "ENVELOPE", "FAIL"]

_ORDER: Final[tuple[Word, ...]] = ("EXACT", "ENVELOPE", "FAIL")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseVerdict:
    """What one case came to.

    Attributes:
        id: of the case.
        verdict: ``EXACT``: the recorded bits. ``ENVELOPE``: other bits, within the derived tolerance. ``FAIL``.
        detail: in words, with figures.
        error: from the oracle, or None.
        tolerance: what that error may be, or None.
        near_ties: positions whose first choice the oracle leaves open.
    """

    id: str
    verdict: Word
    detail: str
    error: float | None
    tolerance: float | None
    near_ties: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersVerdict:
    """What known answers came to: the worst of the cases.

    Attributes:
        verdict: one of the three words.
        same_class: whether bits were required, because the class digest is the recorded one.
        cases: in the order of the document.
        faults: one per case that fails.
    """

    verdict: Word
    same_class: bool
    cases: tuple[CaseVerdict, ...]
    faults: tuple[AnswerFault, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{sum(c.verdict == word for c in self.cases)} {word}" for word in _ORDER)
        return f"{self.verdict} ({len(self.cases)} known answers: {counts})"


def verify_answers(
    recorded: RecordedAnswers, model: Any, *, class_digest: str, only: Sequence[str] | None = None
) -> AnswersVerdict:
    """Run recorded cases on `model` and judge each. Data: the caller raises the faults.

    Whose weights these are is not asked: `check_answers` does, and so does whoever digested them before.

    Args:
        recorded: known answers, bound.
        model: the live module, in evaluation mode.
        class_digest: of the environment here; where it is the recorded one, nothing but the recorded bits passes.
        only: ids of the cases to run; by default all.

    Raises:
        UsageError: the model is in training mode, `only` names no case, or the inputs are private.
    """
    return _verdict(_run(recorded, model, only), same_class=class_digest == recorded.answers.class_digest)


def verify_here(
    recorded: RecordedAnswers, model: Any, *, only: Sequence[str] | None = None
) -> tuple[AnswersVerdict, Environment]:
    """Run recorded cases, collect the environment of this process after them, and judge by it (`verify_answers`)."""
    ran = _run(recorded, model, only)
    environment = collect(torch_facts())  # after the runs, as when they were recorded: libraries load lazily
    return _verdict(ran, same_class=environment.class_digest == recorded.answers.class_digest), environment


def check_answers(
    recorded: RecordedAnswers, opened: Opened, *, only: Sequence[str] | None = None
) -> tuple[AnswersVerdict, Environment]:
    """Verify known answers on a model that was opened in this process: its identity first, then the cases.

    Returns:
        The verdict, and the environment of this process.

    Raises:
        NotAdmitted: the answers are those of other weights, of another structure or of another tokenizer.
        NotWeighed: the model cannot be weighed.
        UsageError: as `verify_answers`.
    """
    identity = identify(opened.model, opened.probe)
    tokenizer = None if opened.source is None else tokenizer_digest(source_files(opened.source))
    faults = identity_faults(recorded, root=identity.root, structure=identity.structure, tokenizer=tokenizer)
    if faults:
        raise NotAdmitted("known answers of another model", faults)
    return verify_here(recorded, opened.model, only=only)


def _run(recorded: RecordedAnswers, model: Any, only: Sequence[str] | None) -> tuple[tuple[Case, Figures | str], ...]:
    """Run the cases; what cannot be measured is said in words in the place of its figures."""
    if recorded.answers.private:
        raise UsageError("known answers: their inputs are private, and this version runs none that are not in the file")
    require_evaluation(model)
    return tuple((case, _measured(recorded, case, model)) for case in _chosen(recorded, only))


def _measured(recorded: RecordedAnswers, case: Case, model: Any) -> Figures | str:
    try:
        return check_case(model, case, recorded.entries)
    except AnswerFault as fault:
        return str(fault).removeprefix(f"{case.id}: ")
    except Exception as error:  # noqa: BLE001  # kernels and code of models raise anything; the other cases are run
        return f"the model raises {type(error).__name__}: {error}"


def _verdict(ran: tuple[tuple[Case, Figures | str], ...], *, same_class: bool) -> AnswersVerdict:
    cases = tuple(_judged(case.id, figures, same_class=same_class) for case, figures in ran)
    worst = max((c.verdict for c in cases), key=_ORDER.index)
    faults = tuple(AnswerFault(c.id, c.detail) for c in cases if c.verdict == "FAIL")
    return AnswersVerdict(verdict=worst, same_class=same_class, cases=cases, faults=faults)


def _chosen(recorded: RecordedAnswers, only: Sequence[str] | None) -> Iterable[Case]:
    if only is None:
        return recorded.answers.cases
    chosen = [case for case in recorded.answers.cases if case.id in set(only)]
    unknown = sorted(set(only) - {case.id for case in chosen})
    if unknown or not chosen:
        raise UsageError(f"known answers: no such case: {', '.join(unknown) or 'none was named'}")
    return chosen


def _judged(name: str, figures: Figures | str, *, same_class: bool) -> CaseVerdict:
    if isinstance(figures, str):
        return CaseVerdict(id=name, verdict="FAIL", detail=figures, error=None, tolerance=None, near_ties=0)
    verdict, detail = _word(figures, same_class=same_class)
    return CaseVerdict(
        id=name,
        verdict=verdict,
        detail=detail,
        error=figures.error,
        tolerance=figures.tolerance,
        near_ties=figures.near_ties,
    )


def _word(figures: Figures, *, same_class: bool) -> tuple[Word, str]:
    if figures.same:
        return "EXACT", "the recorded bits"
    differs = f"{figures.changed:.1%} of the output differ, by {figures.distance:.2g} of its largest value"
    if not figures.repeatable:
        return "FAIL", f"{differs}; a second run gives other bits again: nondeterministic, or a computing fault"
    if same_class:
        return "FAIL", f"{differs}, in the very environment class in which it was recorded; a second run gives the same"
    if figures.error is None or figures.tolerance is None:
        return "FAIL", f"{differs}; no float64 oracle was recorded, so only the recorded bits pass"
    said = f"{differs}; error {figures.error:.3g} of {figures.tolerance:.3g} allowed, {figures.near_ties} near ties"
    if not figures.error <= figures.tolerance:
        return "FAIL", f"{said}: outside the envelope"
    if figures.overturned:
        return "FAIL", f"{said}; the first choice differs at {figures.overturned} of {figures.decided} clear positions"
    return "ENVELOPE", said


def identity_faults(
    recorded: RecordedAnswers, *, root: str, structure: str, tokenizer: str | None
) -> tuple[AnswerFault, ...]:
    """Return a fault per identity that is not the one whose answers were recorded."""
    answers = recorded.answers
    out = []
    if answers.root != root:
        text = "answers of other weights"
        out.append(AnswerFault("root", text, expected=answers.root, found=root))
    if answers.structure is not None and answers.structure != structure:
        text = "answers of another structure (classes, code, hooks, scalars)"
        out.append(AnswerFault("structure", text, expected=answers.structure, found=structure))
    if tokenizer is not None and answers.tokenizer is not None and answers.tokenizer != tokenizer:
        text = "answers to tokens of another tokenizer or template"
        out.append(AnswerFault("tokenizer", text, expected=answers.tokenizer, found=tokenizer))
    return tuple(out)
