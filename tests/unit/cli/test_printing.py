# SPDX-License-Identifier: Apache-2.0
"""Text for people and documents for programs, whatever names other people chose."""

from __future__ import annotations

import io

import pytest

from weighmaster.cli import printing
from weighmaster.cli.printing import columns, count, pairs, print_result, printable, share


@pytest.mark.requirement("REQ-CLI-05")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("layer.0.weight", "layer.0.weight"),
        ("poids été", "poids été"),
        ("\x1b[2J\x1b[1;1Hall is well", r"\x1b[2J\x1b[1;1Hall is well"),
        ("weight\u202etxt.exe", r"weight\u202etxt.exe"),
        ("a\rb", r"a\rb"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_is_not_printable_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.requirement("REQ-CLI-05")
def test_a_name_cannot_draw_on_the_terminal(capsys):
    print_result("name  \x1b[31mred\nnext")
    assert capsys.readouterr().out == "name  \\x1b[31mred\nnext\n"


@pytest.mark.requirement("REQ-CLI-02")
def test_documents_are_canonical_and_hold_text_only(capsys):
    print_result({"b": ("x\udcff", {"z": None, "a": [1]}), "a": True})
    assert capsys.readouterr().out == '{"a":true,"b":["x\\\\udcff",{"a":[1],"z":null}]}\n'


def test_a_float_in_a_document_is_a_defect_not_a_rounding():
    with pytest.raises(ValueError, match="float has no canonical form"):
        print_result({"seconds": 0.1})


def test_terminals_without_unicode(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(printing.sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_result("été")
    assert raw.getvalue() == b"\\xe9t\\xe9\n"


def test_shares_are_never_rounded_up():
    assert share(10**12 - 1, 10**12) == "99.99 %"
    assert share(10**12, 10**12) == "100 %"
    assert share(0, 7) == "0.00 %"
    assert share(0, 0) == "nothing to share"


def test_counts_and_tables():
    assert [count(n, "tensor") for n in (0, 1, 1204)] == ["0 tensors", "1 tensor", "1,204 tensors"]
    assert pairs([("a", "1\n2"), ("long", "")]) == "a     1\n      2\nlong"
    assert columns(("h", "k"), [("x\x1b", "y")]) == "h      k\nx\\x1b  y"
