# SPDX-License-Identifier: Apache-2.0
"""Numbered checks of an installation and of its operation, and the report of them: qualification-v1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from weighmaster.core.canonical import dumps
from weighmaster.errors import SelfTestFault

__all__ = ["NOT_SHOWN", "SCHEME", "Check", "Qualification", "missing_faults"]

SCHEME: Final = "qualification-v1"

NOT_SHOWN: Final = (
    "anything about a model of yours: whether it is the validated one is for the gate in the process that serves it",
    "capture of live models, the structure, the trace and the guard: they need a runtime; admit a model of yours",
    "devices other than the CPU",
    "performance qualification: that the gate halts your service as your procedures ask for is yours to show",
    "that this is the published code: files are compared with the RECORD beside them; compare the wheel beforehand",
)
"""What no report shows, in words for print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One numbered check and its outcome.

    Attributes:
        number: such as ``IQ-01``; it keeps its meaning from version to version.
        what: what is checked, in words.
        expected: what must be found.
        found: what was found.
        passed: whether that is as expected.
        milliseconds: how long it took.
    """

    number: str
    what: str
    expected: str
    found: str
    passed: bool
    milliseconds: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the check as it stands in the report."""
        return {
            "number": self.number,
            "what": self.what,
            "expected": self.expected,
            "found": self.found,
            "result": "pass" if self.passed else "fail",
            "milliseconds": self.milliseconds,
        }

    def fault(self) -> SelfTestFault:
        """Return the check as a finding, for one that did not pass."""
        return SelfTestFault(f"{self.number} {self.what}", "did not pass", expected=self.expected, found=self.found)


def missing_faults(checks: tuple[Check, ...], numbers: tuple[str, ...]) -> tuple[SelfTestFault, ...]:
    """Return a fault where the checks that ran are not exactly `numbers`, in order: none can be left out in silence."""
    found = tuple(check.number for check in checks)
    if found == numbers:
        return ()
    return (SelfTestFault("checks", "are missing", expected=", ".join(numbers), found=", ".join(found)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qualification:
    """All checks of one run, with where and when it was.

    Attributes:
        started: instant as text, UTC.
        ended: instant as text, UTC.
        host: facts about machine and interpreter, for identification.
        packages: versions of the distributions, by name.
        checks: in the order of their numbers.
        faults: everything that did not pass or did not run.
    """

    started: str
    ended: str
    host: Mapping[str, str]
    packages: Mapping[str, str]
    checks: tuple[Check, ...]
    faults: tuple[SelfTestFault, ...]

    def document(self) -> dict[str, object]:
        """Return the report as a JSON document; ``sha256`` is the digest of its RFC 8785 bytes without that key."""
        content: dict[str, object] = {
            "scheme": SCHEME,
            "result": "fail" if self.faults else "pass",
            "started": self.started,
            "ended": self.ended,
            "host": dict(self.host),
            "packages": dict(self.packages),
            "checks": [check.to_json() for check in self.checks],
            "faults": [fault.to_json() for fault in self.faults],
            "notShown": NOT_SHOWN,
        }
        return {**content, "sha256": hashlib.sha256(dumps(content)).hexdigest()}

    def markdown(self) -> str:
        """Return the report for people, with room for signatures. The JSON form is the record."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        document = self.document()
        passed = sum(check.passed for check in self.checks)
        yield "# Installation and operational qualification of Weighmaster"
        yield ""
        yield f"Result: **{document['result']}**, {passed} of {len(self.checks)} checks passed."
        yield f"From {self.started} to {self.ended}. SHA-256 of the report: `{document['sha256']}`"
        yield from _table(("host", "value"), sorted(self.host.items()))
        yield from _table(("distribution", "version"), sorted(self.packages.items()))
        rows = [(c.number, c.what, c.expected, c.found, "pass" if c.passed else "**FAIL**") for c in self.checks]
        yield from _table(("no.", "check", "expected", "found", "result"), rows)
        yield from ("", "Not shown by this report:", "")
        yield from (f"- {line}" for line in NOT_SHOWN)
        yield from _table(("", "name", "signature", "date"), [(who, "", "", "") for who in _SIGN])


_SIGN: Final = ("executed by", "reviewed by", "approved by")


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
