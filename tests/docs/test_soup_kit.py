# SPDX-License-Identifier: Apache-2.0
"""The pages of the SOUP kit name requirements, attacks, anomalies and files that exist, and leave no attack open."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from weighmaster.flows.qualification import NUMBERS

ROOT = Path(__file__).parents[2]
PAGES = (
    "docs/soup-datasheet.md",
    "docs/known-anomalies.md",
    "docs/threat-model.md",
    "docs/how-to/iq-oq.md",
    "SECURITY.md",
)
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
TREE = TEXT["docs/threat-model.md"].split("```")[1]
REQUIREMENTS = {
    r["id"] for r in tomllib.loads((ROOT / "docs/requirements.toml").read_text(encoding="utf-8"))["requirement"]
}
ANOMALIES = re.findall(r"^## (ANO-\d{3}) ", TEXT["docs/known-anomalies.md"], re.MULTILINE)


def attacks():
    return {
        int(n)
        for p in (ROOT / "tests/attacks").glob("test_*.py")
        for n in re.findall(r"def test_(\d\d)_", p.read_text(encoding="utf-8"))
    }


def nodes(tree):
    """Return (number, lines below it up to the next number) of each node."""
    parts = re.split(r"^ *(\d+(?:\.\d+)*) (?=\S)", tree, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def leaves(tree):
    numbers = [n for n, _ in nodes(tree)]
    return [(n, text) for n, text in nodes(tree) if n != "0" and not any(m.startswith(f"{n}.") for m in numbers)]


def open_leaves(tree):
    """Return the leaves that neither a test nor a stated rest answers, and defences that nothing shows."""
    return [n for n, text in leaves(tree) if not re.search(r"\[[SR]\]", text) or ("[D]" in text and "[S]" not in text)]


def test_no_leaf_of_the_attack_tree_is_open():
    assert len(leaves(TREE)) > 50
    assert open_leaves(TREE) == []


@pytest.mark.parametrize(
    "line", ["[S] REQ-MAN-01, REQ-MAN-07, REQ-SEA-05, attacks 35 36 37 43", "[R] out of scope: hardware attestation"]
)
def test_an_answer_that_is_gone_would_be_seen(line):
    assert line in TREE
    assert len(open_leaves(TREE.replace(line, ""))) == 1


def test_numbers_of_the_tree_are_in_order():
    numbers = [[int(p) for p in n.split(".")] for n, _ in nodes(TREE)]
    assert numbers == sorted(numbers)
    assert len({tuple(n) for n in numbers}) == len(numbers)


def test_the_trust_layer_is_in_the_tree():
    for word in (
        "stolen signer key",
        "stolen root key",
        "older trust file",
        "older manifest",
        "clock back",
        "delete the mark",
        "authority is compromised",
        "waiver",
        "look-alike",
        "evidence",
    ):
        assert word in TREE, word


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page):
    text = TEXT[page]
    assert set(re.findall(r"REQ-[A-Z]{3}-\d{2}", text)) - REQUIREMENTS == set()
    assert set(re.findall(r"ANO-\d{3}", text)) - set(ANOMALIES) == set()
    assert set(re.findall(r"\b(?:IQ|OQ)-\d{2}", text)) - set(NUMBERS) == set()
    named = {int(n) for group in re.findall(r"attacks? ((?:\d+[ ,]*)+)", text) for n in re.findall(r"\d+", group)}
    assert named - attacks() == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_local_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
        assert not anchor or anchor in anchors, target


def test_every_anomaly_is_once_in_the_table_and_has_a_workaround():
    page = TEXT["docs/known-anomalies.md"]
    assert sorted(set(ANOMALIES)) == ANOMALIES
    assert re.findall(r"^\| \[(ANO-\d{3})\]", page, re.MULTILINE) == ANOMALIES
    entries = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert [e.splitlines()[0] for e in entries if "**Do:**" not in e] == []


def test_attempts_that_succeed_are_anomalies():
    """Those that the list of attacks prints as not found or not blocked."""
    page = (ROOT / "tests/attacks/README.md").read_text(encoding="utf-8")
    bounds = re.findall(r"^\| (\d+) \|.*\*\*not (?:found|blocked)\*\*", page, re.MULTILINE)
    assert len(bounds) >= 3
    assert [n for n in bounds if f"attack {n}" not in TEXT["docs/known-anomalies.md"]] == []


def test_the_how_to_names_every_check_of_a_report():
    text = TEXT["docs/how-to/iq-oq.md"]
    covered = set()
    for part, first, last in re.findall(r"(IQ|OQ)-(\d\d)(?: to \1-(\d\d)|, \1-\d\d)? \|", text):
        covered |= {f"{part}-{n:02}" for n in range(int(first), int(last or first) + 1)}
    assert set(NUMBERS) - covered <= {"OQ-01", "OQ-02"}
    assert "OQ-01, OQ-02 |" in text
    assert f"IQ-01 to IQ-08 and OQ-01 to {NUMBERS[-1]}" in text


def test_the_digest_of_a_report_is_checked_by_the_printed_command(tmp_path):
    import json
    import subprocess
    import sys
    from datetime import UTC, datetime

    from weighmaster.core.canonical import dumps
    from weighmaster.flows.qualification import qualify

    (command,) = re.findall(r"python3 -c '([^']+)'", TEXT["docs/how-to/iq-oq.md"])
    document = qualify("0.1.0", lambda: datetime.now(UTC)).document()
    for found, code in ((document, 0), ({**document, "result": "pass!"}, 1)):
        (tmp_path / "iq-oq.json").write_bytes(dumps(json.loads(dumps(found))))
        assert subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=False).returncode == code
