# SPDX-License-Identifier: Apache-2.0
"""docs/cli.md is what the parsers say, and the README's command lines are ones that they take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from weighmaster import errors
from weighmaster.cli.main import VERBS, load_verb
from weighmaster.cli.reference import full_parser, markdown
from weighmaster.cli.verb import build_parser

ROOT = Path(__file__).parents[2]


def test_reference_is_up_to_date():
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m weighmaster.cli.reference > docs/cli.md"


def test_reference_names_every_verb_exit_code_and_error():
    page = markdown()
    assert [name for name in VERBS if f"## weighmaster {name}\n" not in page] == []
    codes = {
        k.exit_code for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.WeighmasterError)
    }
    assert [code for code in codes if f"\n| {code} | " not in page] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_has_help(verb):
    for action in build_parser(verb, load_verb(verb))._actions:
        assert action.help or action.choices, action.dest


def command_lines(page: str) -> list[str]:
    blocks = "\n".join(re.findall(r"^```(?:sh|console)?\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:\$ )?(weighmaster [a-z].*?)(?:\s+#.*)?$", blocks, re.MULTILINE)
    return [line for line in lines if line.split()[1] in VERBS]


def test_command_lines_of_the_pages_are_taken():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = [line for page in pages for line in command_lines(page.read_text(encoding="utf-8"))]
    assert len(found) > len(VERBS)
    for line in found:
        full_parser().parse_args(shlex.split(line.split(" > ")[0])[1:])
