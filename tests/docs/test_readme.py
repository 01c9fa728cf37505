# SPDX-License-Identifier: Apache-2.0
"""README shows what the demo really prints, and names files and verbs that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from weighmaster.cli.main import VERBS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown() -> str:
    return README.split("<!-- demo:begin -->")[1].split("<!-- demo:end -->")[0]


def test_the_two_commands_come_first():
    code = README[README.index("```sh") :]
    assert [line.split("#")[0].strip() for line in code.splitlines()[1:3]] == ["make demo", "make test"]


def test_every_title_of_the_demo_is_shown():
    source = (ROOT / "examples/demo.py").read_text(encoding="utf-8")
    texts = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    titles = sorted(t for t in texts if re.match(r"\d\. ", t))
    assert len(titles) == 6
    assert [t for t in titles if t not in shown()] == []


@pytest.mark.parametrize("code", [10, 12, 17])
def test_the_exit_codes_of_the_demo_are_shown(code):
    assert f"exit code {code} (as it must be)" in shown()


def test_every_local_link_leads_somewhere():
    links = re.findall(r"\]\(([\w./-]+)\)", README)
    assert len(links) > 8
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_verb_on_the_page_exists():
    used = set(re.findall(r"^weighmaster (\w+)", README, re.MULTILINE))
    assert len(used) > 4
    assert used <= set(VERBS)
