# SPDX-License-Identifier: Apache-2.0
"""``module:callable`` for example inputs."""

from __future__ import annotations

import sys

import pytest

from weighmaster.cli.named_objects import call_named, is_named
from weighmaster.errors import UsageError


@pytest.mark.parametrize(
    ("text", "named"),
    [("a:b", True), ("pkg.mod:Class.method", True), ("_x1:y", True), ("a", False), ("./a:b", False), ("a:", False),
     (":b", False), ("1a:b", False), ("a:b:c", False), ("a:b()", False)],
)  # fmt: skip
def test_spelling(text, named):
    assert is_named(text) is named


def test_found_in_the_current_directory_which_does_not_stay_on_the_path(here):
    before = list(sys.path)
    assert call_named("tinynet:inputs", "--example").shape == (2, 8)
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere_at_all:f", "--example: nowhere_at_all:f: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("tinynet:absent", "AttributeError: module 'tinynet' has no attribute 'absent'"),
        ("tinynet:number", "TypeError: 'int' object is not callable"),
        ("tinynet:broken", "ValueError: no such checkpoint"),
    ],
)
def test_what_fails_is_a_usage_error_with_its_cause(here, text, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")) as caught:
        call_named(text, "--example")
    assert caught.value.__cause__ is not None
