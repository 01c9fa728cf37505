# SPDX-License-Identifier: Apache-2.0
"""structure v1: the file, strictly, and one finding per differing fact."""

from __future__ import annotations

import hashlib

import pytest
import rfc8785

from weighmaster.core.structure import KINDS, Structure, StructureFact, parse_structure, structure_faults
from weighmaster.errors import MalformedArtefact, StructureFault


def fact(path: str, kind: str, value: str) -> StructureFact:
    return StructureFact(path=path, kind=kind, value=value)


FACTS = (
    fact("", "class", "models.Encoder"),
    fact("", "training", "false"),
    fact("#eps", "scalar", "0x1.0p-20"),
    fact("layer.0", "class", "torch.nn.modules.linear.Linear"),
)
STRUCTURE = Structure(facts=FACTS)


def test_file_is_canonical_lines() -> None:
    lines = [rfc8785.dumps({"kind": f.kind, "path": f.path, "value": f.value}) + b"\n" for f in FACTS]
    assert STRUCTURE.data == b"".join(lines)
    assert hashlib.sha256(STRUCTURE.data).hexdigest() == STRUCTURE.digest


def test_round_trip() -> None:
    assert parse_structure(STRUCTURE.data, "s") == STRUCTURE
    assert parse_structure(b"", "s") == Structure(facts=())


@pytest.mark.parametrize(
    "facts", [FACTS[::-1], (FACTS[0], FACTS[0]), (fact("a", "scalar", "1"), fact("a", "class", "2"))]
)
def test_order_is_part_of_the_value(facts: tuple[StructureFact, ...]) -> None:
    with pytest.raises(ValueError, match="structure facts are not strictly ascending at"):
        Structure(facts=facts)


def test_order_is_that_of_utf8_bytes_not_of_utf16() -> None:
    facts = (fact("\uffff", "class", "a"), fact("\U00010000", "class", "b"))
    assert parse_structure(Structure(facts=facts).data, "s").facts == facts


GOOD = b'{"kind":"class","path":"a","value":"A"}\n'
REFUSED = {
    "no final line feed": (GOOD[:-1], "s", "", "a line feed after the last fact", "none"),
    "carriage return": (GOOD[:-1] + b"\r\n", "s:1", "byte 39", "RFC 8785 canonical form", "another spelling"),
    "empty line": (GOOD + b"\n", "s:2", "byte 0", "one JSON value", "Expecting value"),
    "key order": (
        b'{"path":"a","kind":"class","value":"A"}\n', "s:1", "byte 2", "RFC 8785 canonical form", "another spelling",
    ),
    "space": (
        b'{"kind": "class","path":"a","value":"A"}\n', "s:1", "byte 8", "RFC 8785 canonical form", "another spelling",
    ),
    "unknown kind": (
        b'{"kind":"note","path":"a","value":"A"}\n', "s:1", "kind",
        " or ".join(repr(k) for k in sorted(KINDS)), "'note'",
    ),
    "unknown key": (
        b'{"kind":"class","path":"a","value":"A","z":1}\n', "s:1", "z",
        "only the keys of the specification", "an unknown key",
    ),
    "missing key": (b'{"kind":"class","path":"a"}\n', "s:1", "value", "a value", "no such key"),
    "number as value": (b'{"kind":"class","path":"a","value":1}\n', "s:1", "value", "a string", "a number"),
    "not an object": (b'["class","a","A"]\n', "s:1", "", "an object", "an array"),
    "fact twice": (
        GOOD + GOOD, "s", "", "facts in ascending order", "structure facts are not strictly ascending at 'a' class",
    ),
    "out of order": (
        GOOD.replace(b'"a"', b'"b"') + GOOD, "s", "", "facts in ascending order",
        "structure facts are not strictly ascending at 'a' class",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_reading_is_strict(case: str) -> None:
    data, file, field, expected, found = REFUSED[case]
    with pytest.raises(MalformedArtefact) as caught:
        parse_structure(data, "s")
    error = caught.value
    assert (error.file, error.field, error.expected, error.found) == (file, field, expected, found)


def test_same_facts_have_no_fault() -> None:
    assert structure_faults(STRUCTURE, STRUCTURE) == ()


def test_one_fault_per_missing_extra_and_changed_fact() -> None:
    found = Structure(
        facts=(
            fact("", "class", "models.Evil"),
            fact("", "training", "false"),
            fact("#_forward_hooks[0]", "hook", "evil.hook"),
            fact("layer.0", "class", "torch.nn.modules.linear.Linear"),
        )
    )
    faults = structure_faults(STRUCTURE, found)
    assert [(f.subject, f.detail, f.expected, f.found) for f in faults] == [
        ("(model)", "class differs", "models.Encoder", "models.Evil"),
        ("#_forward_hooks[0]", "hook that the signed structure does not have", None, "evil.hook"),
        ("#eps", "scalar of the signed structure is gone", "0x1.0p-20", None),
    ]
    assert all(type(f) is StructureFault and (f.step, f.exit_code) == (7, 17) for f in faults)


@pytest.mark.parametrize("side", ["gone", "came"])
def test_what_lies_below_a_wholly_new_or_gone_path_is_counted_there(side: str) -> None:
    below = (
        fact("layer.1", "class", "evil.Layer"),
        fact("layer.1#rank", "scalar", "8"),
        fact("layer.1.down", "class", "torch.nn.Linear"),
        fact("layer.10", "class", "torch.nn.Linear"),
    )
    more = Structure(facts=(*FACTS, *sorted(below, key=lambda f: f.path)))
    faults = structure_faults(*((more, STRUCTURE) if side == "gone" else (STRUCTURE, more)))
    words = (
        "class of the signed structure is gone" if side == "gone" else "class that the signed structure does not have"
    )
    assert [(f.subject, f.detail) for f in faults] == [
        ("layer.1", f"{words} (and 2 facts below it)"),
        ("layer.10", words),
    ]


def test_a_new_fact_below_a_path_that_stays_is_shown_itself() -> None:
    found = Structure(facts=(*FACTS, fact("layer.0#_forward_hooks[0]", "hook", "evil.hook")))
    (fault,) = structure_faults(STRUCTURE, found)
    assert (fault.subject, fault.found) == ("layer.0#_forward_hooks[0]", "evil.hook")
