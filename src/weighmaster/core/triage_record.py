# SPDX-License-Identifier: Apache-2.0
"""The record of a triage: one document for machines, and the same in plain sections for print and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from weighmaster.core.canonical import dumps
from weighmaster.core.triage import Answer, Decision

__all__ = ["SCHEME", "Section", "TriageRecord"]

SCHEME: Final = "triage-v1"

NOT_SHOWN: Final = (
    "that this process is the one that gave the output: preserve and triage inside of the process that serves",
    "whether an event is reportable, and by when: that is for the people who are responsible",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled table of text, ready for any printer.

    Attributes:
        title: of the section.
        header: names of the columns.
        rows: one cell per column.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, object]:
        """Return the section as a JSON object."""
        return {"title": self.title, "header": self.header, "rows": self.rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageRecord:
    """What was asked, answered and decided.

    Attributes:
        subject: pairs (name, value) that identify the manifest and the moment.
        signers: who signed the manifest, in words; empty where no signature was checked.
        bundle: SHA-256 of the ``bundle.json`` of the preserved evidence.
        answers: one per node, in order.
        decision: the verdict.
    """

    subject: tuple[tuple[str, str], ...]
    signers: tuple[str, ...]
    bundle: str
    answers: tuple[Answer, ...]
    decision: Decision

    @property
    def seal(self) -> str:
        """Who signed the manifest, or plainly that nobody was asked."""
        return "; ".join(self.signers) if self.signers else "no signature was checked"

    def sections(self) -> tuple[Section, ...]:
        """Return the record as sections."""
        verdict = (
            ("verdict", self.decision.code),
            ("confidence", self.decision.confidence),
            ("meaning", self.decision.text),
            ("not answered", ", ".join(self.decision.unanswered) or "none"),
        )
        subject = (*self.subject, ("manifest signed by", self.seal), ("evidence bundle", self.bundle))
        nodes = tuple((str(d["number"]), str(d["question"]), *_said(a)) for a in self.answers for d in (a.to_json(),))
        return (
            Section(title="Verdict", header=("", ""), rows=verdict),
            Section(title="Subject", header=("", ""), rows=subject),
            Section(title="Nodes", header=("no.", "question", "answer", "by", "evidence", "reason"), rows=nodes),
            Section(title="Not shown", header=("",), rows=tuple((line,) for line in NOT_SHOWN)),
            Section(title="Signed off by", header=("name", "signature", "date"), rows=(("", "", ""),)),
        )

    def document(self) -> dict[str, object]:
        """Return the record as a JSON document."""
        return {
            "scheme": SCHEME,
            "subject": dict(self.subject),
            "signaturesChecked": bool(self.signers),
            "signers": self.signers,
            "bundle": self.bundle,
            "nodes": [answer.to_json() for answer in self.answers],
            "decision": self.decision.to_json(),
            "sections": [section.to_json() for section in self.sections()],
        }

    def to_bytes(self) -> bytes:
        """Return the document in its RFC 8785 form."""
        return dumps(self.document())

    def markdown(self) -> str:
        """Return the record for people. The JSON form is the record."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "# Triage"
        for section in self.sections():
            yield from ("", f"## {section.title}", "")
            yield _line(section.header)
            yield "|" + "---|" * len(section.header)
            yield from map(_line, section.rows)


def _said(answer: Answer) -> tuple[str, ...]:
    return (answer.answer, answer.by, answer.evidence, answer.reason)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
