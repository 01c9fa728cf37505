# SPDX-License-Identifier: Apache-2.0
"""The tree drawn in the docstring of `errors` is the tree of classes, with their exit codes."""

from __future__ import annotations

import re

import pytest

from weighmaster import errors
from weighmaster.errors import WeighmasterError

LINE = re.compile(r"^ {4}(?P<bars>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<code>\d+)$", re.MULTILINE)


def drawn(text: str) -> list[tuple[str, str, int]]:
    """Return (parent, name, exit code) of each class in the drawing; the root's parent is empty."""
    out: list[tuple[str, str, int]] = []
    above: list[str] = []
    for match in LINE.finditer(text):
        depth = len(match["bars"]) // 4
        out.append((above[depth - 1] if depth else "", match["name"], int(match["code"])))
        above[depth:] = [match["name"]]
    return out


def classes(cls: type[WeighmasterError], parent: str = "") -> list[tuple[str, str, int]]:
    """Return the same of the classes, in the order of their definition."""
    out = [(parent, cls.__name__, cls.exit_code)]
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            out += classes(child, cls.__name__)
    return out


def test_drawing_equals_the_classes() -> None:
    assert drawn(errors.__doc__ or "") == classes(WeighmasterError)
    assert len(classes(WeighmasterError)) == 18


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("KeyFault                    13", "KeyFault                    14"),
        ("    ├── KeyFault                    13\n", ""),
        ("    │   ├── ", "    ├── "),
        ("├── StorageError                70", "├── StoreError                  70"),
    ],
)
def test_a_changed_drawing_is_noticed(before: str, after: str) -> None:
    text = errors.__doc__ or ""
    pattern = before if before in text else before.replace("│   ├── ", "    ├── ")
    assert pattern in text
    assert drawn(text.replace(pattern, after, 1)) != classes(WeighmasterError)
