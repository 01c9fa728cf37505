# SPDX-License-Identifier: Apache-2.0
"""Links between pages lead somewhere, and what code, pages and requirements cite of the specifications is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHERS = {".git", ".venv", "node_modules", "build", "demo-out"}
PAGES = sorted(p for p in ROOT.rglob("*.md") if not OTHERS & set(p.relative_to(ROOT).parts))
CODE = sorted(p for top in ("src", "tests", "tools", "interop", "benchmarks") for p in (ROOT / top).rglob("*.py"))


def text_of(page: Path) -> str:
    """Return the page without its blocks of code, in which brackets mean something else."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def titles(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles(page)}


def dead(page: Path) -> list[str]:
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.md").write_text("# A title: `x`, y\n[1](#a-title-x-y) [2](#no) [3](b.md) [4](https://example.org)\n")
    assert dead(tmp_path / "a.md") == ["#no", "b.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert dead(page) == []


@pytest.mark.parametrize("top", ["pages", "code"])
def test_files_that_are_named_are_there(top):
    named = re.compile(r"(?<![\w./-])((?:spec|docs|tools|examples)/[\w/-]+\.(?:md|py|json|toml))")
    found = {(m, p.name) for p in (PAGES if top == "pages" else CODE) for m in named.findall(p.read_text("utf-8"))}
    assert len(found) > 20
    assert sorted(pair for pair in found if not (ROOT / pair[0]).exists()) == []


def test_sources_of_requirements_are_sections():
    """A source reads ``FILE, SECTION``, with a number after it where one of several is meant."""
    requirements = tomllib.loads((ROOT / "docs/requirements.toml").read_text(encoding="utf-8"))["requirement"]
    wrong = []
    for r in requirements:
        file, comma, section = r["source"].partition(", ")
        plain = re.sub(r" \d+( and \d+)?$", "", section)
        if not comma or not file.startswith("spec/") or plain == "step":
            assert (ROOT / file).exists(), r["id"]
        elif not any(title.startswith(plain) for title in titles(ROOT / file)):
            wrong.append((r["id"], r["source"]))
    assert len(requirements) > 100
    assert wrong == []
