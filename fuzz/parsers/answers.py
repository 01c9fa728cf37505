# SPDX-License-Identifier: Apache-2.0
"""core.answers_reader.parse_answers."""

from __future__ import annotations

from fuzz.harness import ROOT, round_trip
from weighmaster.core.answers import Answers
from weighmaster.core.answers_reader import parse_answers

JSON = True
SEEDS = ()
INPUTS = tuple(path.read_bytes() for path in sorted(ROOT.glob("vectors/answers/*/answers.json")))


def one(data: bytes) -> None:
    """What is accepted is what would be written."""
    round_trip(data, read=lambda d: parse_answers(d, "answers.json"), write=Answers.to_bytes)
