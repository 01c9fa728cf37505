# SPDX-License-Identifier: Apache-2.0
"""ARCHITECTURE.md says what the tree and the import contracts say."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def layers() -> list[str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return [line.strip() for line in parser["importlinter:contract:floors"]["layers"].strip().splitlines()]


def test_every_path_in_the_table_exists():
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert len(rows) > 15
    missing = [path for path in rows if not (ROOT / path).exists()]
    assert missing == []


def test_every_file_named_elsewhere_on_the_page_exists():
    named = re.findall(r"`((?:src|docs|spec|tests|examples|capture|flows)/[\w./-]+\.(?:py|md))`", PAGE)
    missing = [p for p in named if not (ROOT / p).exists() and not (ROOT / "src/weighmaster" / p).exists()]
    assert missing == []


def test_the_drawing_has_the_floors_of_the_import_contract():
    drawing = PAGE.split("```")[1]
    floors = [re.split(r"\s{2,}", line.strip(" └─"))[0].strip() for line in drawing.strip().splitlines()]
    assert floors == layers()


def test_every_package_is_on_a_floor():
    tops = {
        p.name if p.is_dir() else p.stem for p in (ROOT / "src/weighmaster").iterdir() if not p.name.startswith("__")
    }
    tops -= {"py"}  # py.typed
    named = {name.strip() for layer in layers() for name in layer.split("|")}
    assert {t for t in tops if not t.endswith(".typed")} == named


def test_the_page_is_one_page():
    assert len(PAGE.splitlines()) < 80
