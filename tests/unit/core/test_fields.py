# SPDX-License-Identifier: Apache-2.0
"""Typed getters of a parsed object: what each takes, and how exactly it points at what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from weighmaster.core.fields import Fields
from weighmaster.errors import MalformedArtefact

HEX = "0123456789abcdef" * 4
GOOD = {"text": "t", "n": 5, "hex": HEX, "big": "90071992547409930", "list": [1, 2], "names": ["a", ""], "yes": True}


def fields(**values: object) -> Fields:
    return Fields(values, file="doc.json", path="top")


def read_name(inner: Fields) -> str:
    return inner.text("name")


def test_good_values_are_read_and_nothing_is_left() -> None:
    top = fields(**GOOD, none=None, nothing=None, sub={"name": "x"}, subs=[{"name": "y"}], map={"b": {"name": "z"}})
    assert (top.text("text"), top.integer("n"), top.digest("hex"), top.decimal("big")) == ("t", 5, HEX, 2**53 * 10 + 10)
    assert (top.integers("list"), top.texts("names"), top.boolean("yes")) == ((1, 2), ("a", ""), True)
    assert (top.optional_text("none"), top.optional_digest("nothing")) == (None, None)
    assert top.nested("sub").text("name") == "x"
    assert top.objects("subs", read_name) == ("y",)
    assert top.mapping("map", lambda key, inner: (key, read_name(inner))) == (("b", ("b", "z")),)
    top.done()


def test_an_optional_key_may_be_asked_for() -> None:
    top = fields(a=1)
    assert top.has("a")
    assert top.any("a") == 1
    assert not top.has("a")


Refusal = tuple[dict[str, object], Callable[[Fields], object], str, str, str]
REFUSED: dict[str, Refusal] = {
    "no key": ({}, lambda f: f.text("a"), "a", "a value", "no such key"),
    "no key for a digest or null": ({}, lambda f: f.optional_digest("a"), "a", "a value", "no such key"),
    "no key for a text or null": ({}, lambda f: f.optional_text("a"), "a", "a value", "no such key"),
    "null for a string": ({"a": None}, lambda f: f.text("a"), "a", "a string", "null"),
    "number for a string": ({"a": 1}, lambda f: f.text("a"), "a", "a string", "a number"),
    "empty string": ({"a": ""}, lambda f: f.text("a"), "a", "a string that is not empty", "an empty one"),
    "no choice": ({"a": "c"}, lambda f: f.text("a", choices=("b", "a")), "a", "'a' or 'b'", "'c'"),
    "list for text or null": ({"a": []}, lambda f: f.optional_text("a"), "a", "a string or null", "an array"),
    "short digest": (
        {"a": HEX[1:]}, lambda f: f.digest("a"), "a", "64 lowercase hexadecimal digits", repr(HEX[1:]),
    ),
    "capital digest": (
        {"a": HEX.upper()}, lambda f: f.digest("a"), "a", "64 lowercase hexadecimal digits", repr(HEX.upper()),
    ),
    "digest with a line end": (
        {"a": HEX + "\n"}, lambda f: f.optional_digest("a"), "a", "64 lowercase hexadecimal digits", repr(HEX + "\n"),
    ),
    "boolean for an integer": ({"a": True}, lambda f: f.integer("a"), "a", "an integer", "a boolean"),
    "string for an integer": ({"a": "1"}, lambda f: f.integer("a"), "a", "an integer", "a string"),
    "negative integer": ({"a": -1}, lambda f: f.integer("a"), "a", "an integer from 0 to 9007199254740991", "-1"),
    "integer above": ({"a": 4}, lambda f: f.integer("a", maximum=3), "a", "an integer from 0 to 3", "4"),
    "leading zero": (
        {"a": "01"}, lambda f: f.decimal("a"), "a", "a decimal number in a string, without leading zeros", "'01'",
    ),
    "signed decimal": (
        {"a": "+1"}, lambda f: f.decimal("a"), "a", "a decimal number in a string, without leading zeros", "'+1'",
    ),
    "other digits": (
        {"a": "٣"}, lambda f: f.decimal("a"), "a", "a decimal number in a string, without leading zeros", "'٣'",
    ),
    "number for a decimal": ({"a": 1}, lambda f: f.decimal("a"), "a", "a string", "a number"),
    "integer for a boolean": ({"a": 1}, lambda f: f.boolean("a"), "a", "true or false", "a number"),
    "object for an array": ({"a": {}}, lambda f: f.integers("a"), "a", "an array", "an object"),
    "string in integers": ({"a": [1, "2"]}, lambda f: f.integers("a"), "a[1]", "an integer", "a string"),
    "number in texts": ({"a": ["x", 2]}, lambda f: f.texts("a"), "a[1]", "a string", "a number"),
    "array for an object": ({"a": []}, lambda f: f.nested("a"), "a", "an object", "an array"),
    "null among objects": ({"a": [None]}, lambda f: f.objects("a", read_name), "a[0]", "an object", "null"),
    "unknown key in an object": (
        {"a": [{"name": "n"}, {"name": "n", "z": 0}]},
        lambda f: f.objects("a", read_name), "a[1].z", "only the keys of the specification", "an unknown key",
    ),
    "text for a mapping": (
        {"a": "x"}, lambda f: f.mapping("a", lambda _k, i: read_name(i)), "a", "an object", "a string",
    ),
    "unknown key in a mapping": (
        {"a": {"k": {"name": "n", "z": 0}}},
        lambda f: f.mapping("a", lambda _k, i: read_name(i)),
        "a.k.z", "only the keys of the specification", "an unknown key",
    ),
    "key left": ({"b": 0, "a": 0}, lambda f: f.done(), "a", "only the keys of the specification", "an unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_file_field_expected_and_found(case: str) -> None:
    values, read, field, expected, found = REFUSED[case]
    with pytest.raises(MalformedArtefact) as caught:
        read(fields(**values))
    error = caught.value
    assert (error.file, error.field, error.expected, error.found) == ("doc.json", f"top.{field}", expected, found)
    assert str(error) == f"doc.json: top.{field}: expected {expected}, found {found}"
    assert error.exit_code == 20


@pytest.mark.parametrize(("value", "kind"), [(None, "null"), (3, "a number"), ("{}", "a string"), ([], "an array")])
def test_only_an_object_has_fields(value: object, kind: str) -> None:
    with pytest.raises(MalformedArtefact, match=rf"^f: expected an object, found {kind}$"):
        Fields(value, file="f")


def test_a_key_is_read_once() -> None:
    top = Fields({"a": "x"}, file="f")
    top.text("a")
    with pytest.raises(MalformedArtefact, match=r"^f: a: expected a value, found no such key$"):
        top.text("a")
