# SPDX-License-Identifier: Apache-2.0
"""``weighmaster answers``: record what a model computes here, verify it elsewhere, explain what differs, and sweep."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import weighmaster as wm
from weighmaster.cli import answers_sweep
from weighmaster.cli.verb import Outcome, common
from weighmaster.core.number import decimal_text
from weighmaster.durable import write_atomically
from weighmaster.errors import NotAdmitted, UsageError

if TYPE_CHECKING:
    from weighmaster.flows.answers_explain import Explanation
    from weighmaster.flows.answers_files import RecordedAnswers
    from weighmaster.flows.answers_verify import AnswersVerdict

DESCRIPTION: Final = """\
Equal weights give other outputs under another kernel, thread count, attention backend or CPU. Known answers are the
exact outputs of a validated configuration, for a matrix of cases: prefill, decode step by step, chunks, co-resident
batches and row positions, padding, short sequences, a warm cache.

Verdicts: EXACT, the recorded bits, which is required where the environment has the recorded class digest. ENVELOPE,
other bits, as near to a float64 oracle as twice the error of the validated environment itself, and no first choice
overturned that the oracle makes clearly. FAIL.

Known answers do not show that weights are whole: most single flipped bits change none of them. The gate does."""

EXAMPLES: Final = (
    ("weighmaster answers record ./model -o answers", "run the matrix twice and in float64; write what was answered"),
    ("weighmaster answers verify answers ./model", "run it again here; exit code 15 on FAIL"),
    ("weighmaster answers explain answers ./model --picture why.svg", "name the first module that differs"),
    *answers_sweep.EXAMPLES,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs below this one, and their arguments."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    record = verbs.add_parser("record", help="run the case matrix and write the answers", allow_abbrev=False)
    record.add_argument("model", metavar="MODEL", help="as for weigh: a directory, a file or module:callable")
    record.add_argument("-o", "--out", metavar="DIR", type=Path, required=True, help="new directory for the answers")
    cases = "auto (generated from the seed; the default), or a safetensors file of vectors of token ids, one per case"
    record.add_argument("--cases", metavar="CASES", default="auto", help=cases)
    record.add_argument("--seed", metavar="N", type=int, default=20_480, help="of generated tokens (default: 20480)")
    common(record)
    verify = verbs.add_parser("verify", help="run recorded cases on a model and judge each", allow_abbrev=False)
    explain = verbs.add_parser("explain", help="say where and why answers differ", allow_abbrev=False)
    for below in (verify, explain):
        below.add_argument("answers", metavar="ANSWERS", type=Path, help="directory that record wrote")
        below.add_argument("model", metavar="MODEL", help="as for record")
        below.add_argument("--case", metavar="ID", action="append", help="only this case; repeatable")
        common(below)
    sweep = verbs.add_parser(
        "sweep",
        help="say which configurations change output bits",
        description=answers_sweep.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    answers_sweep.add_arguments(sweep)
    common(sweep)
    picture = "new picture, .svg or .png: error by case, and by layer of the first case that differs"
    explain.add_argument("--picture", metavar="FILE", type=Path, help=picture)


def run(args: argparse.Namespace) -> Outcome:
    """Do what the action says."""
    actions = {"record": _record, "verify": _verify, "explain": _explain, "sweep": answers_sweep.run}
    return actions[args.action](args)


def _record(args: argparse.Namespace) -> Outcome:
    if args.out.exists():
        raise UsageError(f"{args.out}: exists already and is not overwritten; choose a new directory")
    opened = wm.open_model(args.model)
    _require_loaded(opened)
    recorded = wm.record_answers(
        opened.model, cases=_cases(args.cases), seed=args.seed, example=opened.probe, source=opened.source
    )
    wm.write_answers(recorded, args.out)
    answers = recorded.answers
    document = {
        "result": "recorded",
        "directory": str(args.out),
        "root": answers.root,
        "classDigest": answers.class_digest,
        "kind": answers.kind,
        "cases": len(answers.cases),
        "oracle": answers.oracle,
        "oracleNote": answers.oracle_note,
        "sideBytes": str(answers.side_bytes),
    }
    text = (
        f"{len(answers.cases)} known answers of a model of kind {answers.kind}, each run twice with the same bits\n"
        f"root          {answers.root}\nclass digest  {answers.class_digest}\n"
        f"oracle        {answers.oracle}: {answers.oracle_note}\nwritten       {args.out}/"
    )
    return Outcome(document=document, text=text)


def _cases(text: str) -> Mapping[str, Any] | None:
    if text == "auto":
        return None
    from weighmaster.capture.answer_cases import read_cases  # noqa: PLC0415  # imports torch

    return read_cases(Path(text))


def _require_loaded(opened: wm.Opened) -> None:
    if opened.faults:
        raise NotAdmitted("the model did not load cleanly", opened.faults)


def _judged(args: argparse.Namespace) -> tuple[RecordedAnswers, wm.Opened, AnswersVerdict, Any]:
    recorded = wm.read_answers(args.answers)
    opened = wm.open_model(args.model)
    _require_loaded(opened)
    verdict, environment = wm.check_answers(recorded, opened, only=args.case)
    return recorded, opened, verdict, environment


def _verify(args: argparse.Namespace) -> Outcome:
    _, _, verdict, _ = _judged(args)
    if verdict.faults:
        raise NotAdmitted(f"known answers are not reproduced: {verdict}", verdict.faults)
    return Outcome(document=_document(verdict), text=_text(verdict))


def _document(verdict: AnswersVerdict) -> dict[str, object]:
    return {
        "verdict": verdict.verdict,
        "sameClass": verdict.same_class,
        "cases": [
            {
                "id": c.id,
                "verdict": c.verdict,
                "detail": c.detail,
                "error": None if c.error is None else decimal_text(c.error),
                "tolerance": None if c.tolerance is None else decimal_text(c.tolerance),
                "nearTies": c.near_ties,
            }
            for c in verdict.cases
        ],
    }


def _text(verdict: AnswersVerdict) -> str:
    klass = "is the recorded one: the same bits are required" if verdict.same_class else "is another than the recorded"
    shown = [f"  {c.verdict:8}  {c.id}: {c.detail}" for c in verdict.cases if c.verdict != "EXACT"]
    return "\n".join([str(verdict), f"environment class {klass}", *shown])


def _explain(args: argparse.Namespace) -> Outcome:
    if args.picture is not None and args.picture.exists():
        raise UsageError(f"{args.picture}: exists already and is not overwritten")
    recorded, opened, verdict, environment = _judged(args)
    explanation = wm.explain_answers(recorded, opened.model, verdict, environment)
    if args.picture is not None:
        write_atomically(args.picture, _picture(verdict, explanation, args.picture.suffix))
    document = {**_document(verdict), "explanation": None if explanation is None else _explained(explanation)}
    return Outcome(document=document, text="\n".join([_text(verdict), *_lines(explanation)]))


def _picture(verdict: AnswersVerdict, explanation: Explanation | None, suffix: str) -> bytes:
    try:
        from weighmaster.flows.answers_pictures import draw_answers  # noqa: PLC0415  # imports matplotlib
    except ImportError as error:
        raise UsageError("--picture: matplotlib is not installed (pip install 'weighmaster[report]')") from error
    return draw_answers(verdict, explanation, suffix)


def _explained(explanation: Explanation) -> dict[str, object]:
    return {
        "case": explanation.case,
        "module": explanation.module,
        "kind": explanation.kind,
        "place": explanation.place,
        "modules": explanation.modules,
        "pointsTo": explanation.points_to,
        "renamed": list(explanation.renamed),
        "facts": list(explanation.facts),
        "layers": [{"module": name, "error": decimal_text(error)} for name, error in explanation.layers],
    }


def _lines(explanation: Explanation | None) -> list[str]:
    if explanation is None:
        return ["nothing to explain: every answer has the recorded bits"]
    where = "no leaf module differs"
    if explanation.module is not None:
        name = explanation.module or "(model)"
        where = (
            f"first module that differs: {name} ({explanation.kind}), {explanation.place + 1} of {explanation.modules}"
        )
    facts = [f"  {fact}" for fact in explanation.facts] or [
        "  none: something that is no fact of the environment differs"
    ]
    return [
        f"case {explanation.case}, replayed with hooks",
        where,
        f"points to: {explanation.points_to}",
        *explanation.renamed,
        "facts of the environment that differ:",
        *facts,
    ]
