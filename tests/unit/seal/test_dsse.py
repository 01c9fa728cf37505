# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from weighmaster.seal.dsse import PAYLOAD_TYPE, pae


def test_example_of_the_dsse_specification() -> None:
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected


def test_lengths_are_bytes_not_characters() -> None:
    assert pae("ü", "é".encode()) == b"DSSEv1 2 \xc3\xbc 2 \xc3\xa9"


def test_a_space_cannot_move_between_type_and_payload() -> None:
    assert pae("a", b"b 1 c") != pae("a 1 b", b"c")


def test_empty_payload_has_an_encoding() -> None:
    assert pae(PAYLOAD_TYPE, b"") == b"DSSEv1 28 application/vnd.in-toto+json 0 "
