# SPDX-License-Identifier: Apache-2.0
"""File names of tensor dumps: safe everywhere, never shared by two tensors."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weighmaster.capture.dump_names import MAX_BYTES, escape, unescape
from weighmaster.errors import MalformedArtefact

NAMES = st.one_of(
    st.text(min_size=1, max_size=90),
    st.text(alphabet="aAbB.%/~2eE:-_ \0", min_size=1, max_size=250),
    st.lists(st.sampled_from(["model", "layers", "0", "Weight", "", "..", "q_proj"]), min_size=1).map(".".join),
).filter(bool)
SAFE = re.compile(r"(?:[a-z0-9_-]|%[0-9a-f]{2}|\.(?!\.|$))(?:[a-z0-9_.%~-])*")


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("lm-head", "lm-head"),
        ("W", "%57"),
        ("w", "w"),
        (".hidden", "%2ehidden"),
        ("..", "%2e%2e"),
        ("a..b", "a.%2eb"),
        ("a.", "a%2e"),
        ("a/b", "a%2fb"),
        ("../etc/passwd", "%2e%2e%2fetc%2fpasswd"),
        ("%2e", "%252e"),
        ("a:b\\c", "a%3ab%5cc"),
        ("\0", "%00"),
        ("ü", "%c3%bc"),
        ("u\u0308", "u%cc%88"),
        ("~", "%7e"),
        (" ", "%20"),
    ],
)
def test_writes_exactly_this(name: str, filename: str) -> None:
    assert escape(name) == filename
    assert unescape(filename) == name


@given(NAMES)
@example("a" * 200)
@example("a" * 201)
def test_is_safe_and_turns_back(name: str) -> None:
    filename = escape(name)
    assert 0 < len(filename.encode("utf-8")) <= MAX_BYTES
    assert SAFE.fullmatch(filename)
    assert ".." not in filename
    assert filename.casefold() == filename
    assert filename.upper().casefold() == filename
    if "~" in filename:
        with pytest.raises(MalformedArtefact, match="a shortened one"):
            unescape(filename)
    else:
        assert unescape(filename) == name


@given(st.lists(NAMES, min_size=2, max_size=20, unique=True))
@example(["a" * 300, "a" * 301])
@example(["Weight", "weight", "WEIGHT", "ﬀ", "ff", "ß", "ss", "K", "k", "\u212a"])
def test_two_names_never_share_a_file_even_if_case_is_ignored(names: list[str]) -> None:
    assert len({escape(name).casefold() for name in names}) == len(names)


def test_long_names_keep_a_readable_prefix_and_the_digest_of_the_whole() -> None:
    name = "encoder." * 40
    assert escape(name) == ("encoder." * 40)[:135] + "~" + hashlib.sha256(name.encode()).hexdigest()
    assert len(escape(name)) == MAX_BYTES
    assert "~" not in escape("x" * MAX_BYTES)
    assert "~" in escape("x" * (MAX_BYTES + 1))


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_refuses_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"not empty|surrogates"):
        escape(name)


@pytest.mark.parametrize(
    "filename",
    ["", "W", "%57%", "%5", "%4A", "%77", ".a", "a.", "a..b", "a/b", "%ff", "%ed%a0%80", "~", "a~b", "ü", "x" * 201],
)
def test_refuses_another_spelling(filename: str) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        unescape(filename)
    assert (caught.value.file, caught.value.expected) == (filename, "an escaped tensor name")
    assert caught.value.found == "another spelling"


@given(st.text(alphabet="ab.%2e~f/W", max_size=12))
def test_unescape_takes_only_what_escape_gives(filename: str) -> None:
    try:
        name = unescape(filename)
    except MalformedArtefact:
        return
    assert escape(name) == filename
