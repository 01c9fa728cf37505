# SPDX-License-Identifier: Apache-2.0
"""The one form of JSON: written as RFC 8785 says, read strictly, refused with the place and the reason."""

from __future__ import annotations

import enum
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, dumps, loads, loads_canonical
from weighmaster.errors import MalformedArtefact

INTEGERS = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_form_is_that_of_another_implementation(value: object) -> None:
    assert dumps(value) == rfc8785.dumps(value)


@given(VALUES)
def test_what_is_written_is_read(value: object) -> None:
    assert loads_canonical(dumps(value), "f") == value


@given(VALUES)
def test_other_spellings_are_read_and_not_canonical(value: object) -> None:
    spelt = json.dumps(value, indent=1, ensure_ascii=True).encode() + b" \n"
    assert loads(spelt, "f") == value
    with pytest.raises(MalformedArtefact, match=r"^f: byte \d+: expected RFC 8785 canonical form, found another spel"):
        loads_canonical(spelt, "f")


def test_keys_are_ordered_by_utf16_code_units() -> None:
    """The example of RFC 8785, 3.2.3: the emoji (a surrogate pair) stands before U+FB33."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    assert list(json.loads(dumps(dict.fromkeys(keys, 0)))) == [
        "\r",
        "1",
        "\u0080",
        "\u00f6",
        "\u20ac",
        "\U0001f600",
        "\ufb33",
    ]


def test_escapes_are_those_of_the_standard() -> None:
    assert dumps('\u20ac$\u000f\u000aA\'B"\\\\"/\x7f\u2028') == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f\u2028"'.encode()


def test_tuples_and_subclasses_are_their_kind() -> None:
    class Level(enum.IntEnum):
        HIGH = 3

    assert dumps(({"b": (1, True), "a": Level.HIGH},)) == b'[{"a":3,"b":[1,true]}]'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, r"\$: float has no canonical form"),
        ({"a": [0, float("nan")]}, r"\$\.a\[1\]: float has no canonical form"),
        (2**53, r"\$: integer 9007199254740992 is beyond 2\^53 - 1"),
        ({"n": -(2**53)}, r"\$\.n: integer -9007199254740992 is beyond"),
        ({1: 2}, r"\$: object keys must be strings"),
        ({"a": {2}}, r"\$\.a: set has no canonical form"),
        (b"x", r"\$: bytes has no canonical form"),
        ("\ud800", "surrogates not allowed"),
        ({"\udfff": 1}, "surrogates not allowed"),
    ],
)
def test_what_has_no_form_is_not_written(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dumps(value)


REFUSED = {
    "not UTF-8": (b'{"a":"\xff"}', "byte 6", "UTF-8", "an invalid sequence"),
    "overlong UTF-8": (b'"\xc0\x80"', "byte 1", "UTF-8", "an invalid sequence"),
    "UTF-8 surrogate": (b'"\xed\xa0\x80"', "byte 1", "UTF-8", "an invalid sequence"),
    "UTF-16": ('{"a":1}'.encode("utf-16-le") + b"\xff", "byte 14", "UTF-8", "an invalid sequence"),
    "byte-order mark": (b"\xef\xbb\xbf1", "byte 0", "JSON", "a byte-order mark"),
    "nothing": (b"", "byte 0", "one JSON value", "Expecting value"),
    "trailing bytes": ('"ü"1'.encode(), "byte 4", "one JSON value", "Extra data"),
    "cut short": (b'{"a":1', "byte 6", "one JSON value", "Expecting ',' delimiter"),
    "control character": (b'"a\nb"', "byte 2", "one JSON value", "Invalid control character at"),
    "float": (b"[1.0]", "", "integers only (RFC 8785, restricted)", "number 1.0"),
    "exponent": (b"1e3", "", "integers only (RFC 8785, restricted)", "number 1e3"),
    "NaN": (b"[NaN]", "", "integers only (RFC 8785, restricted)", "number NaN"),
    "Infinity": (b"-Infinity", "", "integers only (RFC 8785, restricted)", "number -Infinity"),
    "minus zero": (b"-0", "", "an integer within 2^53 - 1, no -0", "-0"),
    "2^53": (b"9007199254740992", "", "an integer within 2^53 - 1, no -0", "9007199254740992"),
    "-2^53": (b"-9007199254740992", "", "an integer within 2^53 - 1, no -0", "-9007199254740992"),
    "long integer": (b"1" * 9000, "", "an integer within 2^53 - 1, no -0", "1" * 32 + "..."),
    "key twice": (b'{"x":{"a":1,"b":2,"a":1}}', "a", "each key once", "the key twice"),
    "key twice, escaped": (b'{"a":1,"\\u0061":1}', "a", "each key once", "the key twice"),
    "lone surrogate": (b'["\\ud800"]', "", "Unicode text", "a lone surrogate"),
    "lone surrogate in a key": (b'{"\\udc00":1}', "", "Unicode text", "a lone surrogate"),
    "lone surrogate in a key twice": (b'{"\\udc00":1,"\\udc00":1}', "", "Unicode text", "a lone surrogate"),
    "deep nesting": (b"[" * 66 + b"]" * 66, "", "nesting up to 64", "deeper nesting"),
    "very deep nesting": (b"[" * 100_000, "", "nesting up to 64", "deeper nesting"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_strict_reading_refuses(case: str) -> None:
    data, field, expected, found = REFUSED[case]
    with pytest.raises(MalformedArtefact) as caught:
        loads(data, "doc.json")
    assert (caught.value.file, caught.value.field) == ("doc.json", field)
    assert (caught.value.expected, caught.value.found) == (expected, found)


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b'{"b":1,"a":2}', 2),
        (b'{"a": 1}', 5),
        (b"[1]\n", 3),
        (b'"\\u0061"', 1),
        (b'"\\/"', 1),
        (b'"\\u000A"', 2),
        (b'"\\u00e4"', 1),
    ],
)
def test_another_spelling_is_pointed_at(data: bytes, at: int) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        loads_canonical(data, "doc.json")
    assert str(caught.value) == f"doc.json: byte {at}: expected RFC 8785 canonical form, found another spelling"


def test_bounds_are_inclusive() -> None:
    assert loads(b"9007199254740991", "f") == MAX_SAFE_INTEGER
    assert loads(b"-9007199254740991", "f") == -MAX_SAFE_INTEGER
    deepest: object = 1
    for _ in range(MAX_DEPTH):
        deepest = [deepest]
    assert loads(dumps(deepest), "f") == deepest
    with pytest.raises(ValueError, match="nesting deeper than 64"):
        dumps([deepest])


def test_documents_of_others_may_hold_other_numbers() -> None:
    data = b'{"a":0.5,"b":18446744073709551616,"c":7,"d":-0,"e":' + b"9" * 5000 + b"}"
    assert loads(data, "f", foreign=True) == {"a": 0.5, "b": 2.0**64, "c": 7, "d": 0, "e": float("inf")}
    with pytest.raises(MalformedArtefact, match=r"expected integers only"):
        loads(data, "f")


@pytest.mark.parametrize("data", [b'{"a":NaN}', b'{"a":1,"a":2}', b'{"a":1}x', b'"\\ud800"', b"[" * 70 + b"]" * 70])
def test_documents_of_others_are_read_as_strictly_otherwise(data: bytes) -> None:
    with pytest.raises(MalformedArtefact):
        loads(data, "f", foreign=True)
