# SPDX-License-Identifier: Apache-2.0
"""environment v1: the document and its digests."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core.environment import (
    MAX_VALUE,
    Environment,
    Fact,
    parse_environment,
)
from weighmaster.errors import MalformedArtefact

THREADS = Fact.of("env.OMP_NUM_THREADS", "2")
DRIVER = Fact.absent("gpu.driver")
MICROCODE = Fact.of("cpu.microcode", "0x1", scope="instance")
LIBM = Fact.of("lib.libm.so.6", "7f" * 32)
VALIDATED = Environment.of((THREADS, DRIVER, MICROCODE, LIBM))

EXAMPLE = (
    b'{"facts":['
    b'{"name":"cpu.microcode","scope":"instance","status":"value","value":"0x1"},'
    b'{"name":"env.OMP_NUM_THREADS","scope":"class","status":"value","value":"2"},'
    b'{"name":"gpu.driver","scope":"class","status":"absent","value":null}'
    b'],"scheme":"environment-v1"}'
)


def with_facts(*facts: Fact) -> Environment:
    """The validated environment with facts of the same names replaced, or added."""
    return Environment.of({fact.name: fact for fact in (*VALIDATED.facts, *facts)}.values())


def without(name: str) -> Environment:
    return Environment(facts=tuple(fact for fact in VALIDATED.facts if fact.name != name))


class TestDocument:
    def test_example_of_the_specification(self):
        environment = Environment.of((DRIVER, THREADS, MICROCODE))
        assert environment.to_bytes() == EXAMPLE
        assert parse_environment(EXAMPLE, "environment.json") == environment

    def test_digests_follow_the_specification(self):
        """Recomputed with another implementation of RFC 8785."""
        every = json.loads(VALIDATED.to_bytes())
        for scope, digest in (("class", VALIDATED.class_digest), ("instance", VALIDATED.instance_digest)):
            part = {**every, "facts": [fact for fact in every["facts"] if fact["scope"] == scope]}
            assert digest == hashlib.sha256(rfc8785.dumps(part)).hexdigest()

    def test_each_digest_sees_its_own_scope_only(self):
        other = with_facts(Fact.of("cpu.microcode", "0x2", scope="instance"))
        assert other.class_digest == VALIDATED.class_digest
        assert other.instance_digest != VALIDATED.instance_digest
        other = with_facts(Fact.of("env.OMP_NUM_THREADS", "3"))
        assert other.class_digest != VALIDATED.class_digest
        assert other.instance_digest == VALIDATED.instance_digest

    def test_status_is_part_of_the_digest(self):
        digests = {
            with_facts(fact).class_digest
            for fact in (Fact.absent("x.y"), Fact.unreadable("x.y"), Fact.of("x.y", ""), Fact.of("x.y", "absent"))
        }
        assert len(digests) == 4

    def test_order_is_that_of_utf8_not_of_utf16(self):
        names = ("x.\uffee", "x.\U00010000")  # UTF-16 would put the second first
        environment = Environment.of(Fact.absent(name) for name in reversed(names))
        assert tuple(fact.name for fact in environment.facts) == names
        assert parse_environment(environment.to_bytes(), "e") == environment


class TestConstruction:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"name": "nogroup"}, "is not group.key"),
            ({"name": "x."}, "is not group.key"),
            ({"name": "X.y"}, "is not group.key"),
            ({"name": "x.a b"}, "is not group.key"),
            ({"name": "x.a\nb"}, "is not group.key"),
            ({"name": "x." + "y" * 511}, "up to 512 bytes"),
            ({"status": "unknown"}, "no such status or scope: 'unknown'"),
            ({"scope": "global"}, "no such status or scope: 'value', 'global'"),
            ({"value": None}, "a value stands exactly where the status is 'value', not 'value'"),
            ({"status": "absent"}, "a value stands exactly where the status is 'value', not 'absent'"),
            ({"status": "unreadable"}, "a value stands exactly where the status is 'value', not 'unreadable'"),
            ({"value": "x" * (MAX_VALUE + 1)}, "x.y: the value is longer than 65536 bytes"),
            ({"value": "\u00e9" * (MAX_VALUE // 2 + 1)}, "x.y: the value is longer than 65536 bytes"),
            ({"value": "\udc80"}, "a lone surrogate is no text"),
        ],
    )
    def test_what_is_no_fact(self, arguments, said):
        with pytest.raises(ValueError, match=re.escape(said)):
            Fact(**{"name": "x.y", "status": "value", "value": "1", "scope": "class", **arguments})

    def test_longest_value(self):
        assert len(Fact.of("x.y", "x" * MAX_VALUE).value or "") == MAX_VALUE

    def test_name_twice(self):
        with pytest.raises(ValueError, match=r"not strictly ascending: 'gpu\.driver' after 'gpu\.driver'"):
            Environment.of((DRIVER, Fact.of("gpu.driver", "1")))


def _fact(**changes: object) -> str:
    return json.dumps(
        {"name": "x.y", "scope": "class", "status": "value", "value": "1", **changes}, separators=(",", ":")
    )


def _doc(*facts: str, scheme: str = '"environment-v1"', more: str = "") -> bytes:
    return f'{{"facts":[{",".join(facts)}],{more}"scheme":{scheme}}}'.encode()


class TestParsing:
    @pytest.mark.parametrize(
        ("data", "field", "expected", "found"),
        [
            (_doc(_fact(name="x.z"), _fact()), "facts", "ascending order", "'x.y' after 'x.z'"),
            (_doc(_fact(), _fact()), "facts", "each once", "'x.y' after 'x.y'"),
            (_doc(_fact(status="unknown")), "facts[0].status", "'absent' or 'unreadable' or 'value'", "'unknown'"),
            (_doc(_fact(scope="global")), "facts[0].scope", "'class' or 'instance'", "'global'"),
            (_doc(_fact(value=1.5)), "", "integers only", "number 1.5"),
            (_doc(_fact(value=1)), "facts[0].value", "a string or null", "a number"),
            (_doc(_fact(value=True)), "facts[0].value", "a string or null", "a boolean"),
            (_doc(_fact(value=None)), "facts[0]", "a fact", "a value stands exactly where the status is 'value'"),
            (_doc(_fact(status="absent")), "facts[0]", "a fact", "a value stands exactly"),
            (_doc(_fact(status="unreadable")), "facts[0]", "a fact", "a value stands exactly"),
            (_doc(_fact(name="x y")), "facts[0]", "a fact", "is not group.key"),
            (_doc(_fact(name="")), "facts[0].name", "a string that is not empty", "an empty one"),
            (_doc(_fact(value="x" * (MAX_VALUE + 1))), "facts[0]", "a fact", "longer than 65536 bytes"),
            (_doc(_fact(zzz="1")), "facts[0].zzz", "only the keys of the specification", "an unknown key"),
            (_doc('{"name":"x.y","scope":"class","status":"absent"}'), "facts[0].value", "a value", "no such key"),
            (_doc(_fact()).replace(b'"value":"1"', b'"value":"1","value":"1"'), "value", "each key once", "twice"),
            (_doc("1"), "facts[0]", "an object", "a number"),
            (_doc(_fact(), scheme='"environment-v2"'), "scheme", "'environment-v1'", "'environment-v2'"),
            (_doc(_fact(), more='"note":"",'), "note", "only the keys of the specification", "an unknown key"),
            (_doc(_fact()) + b"\n", "byte 97", "RFC 8785 canonical form", "another spelling"),
            (_doc(_fact()) + b"x", "byte 97", "one JSON value", "Extra data"),
            (_doc(_fact())[:-1], "byte 96", "one JSON value", "delimiter"),
            (b" " + _doc(_fact()), "byte 0", "RFC 8785 canonical form", "another spelling"),
            (_doc(_fact(value="\u00e9")), "byte 66", "RFC 8785 canonical form", "another spelling"),
            (_doc('{"scope":"class","name":"x.y","status":"absent","value":null}'), "byte", "canonical", "spelling"),
            (b"[]", "", "an object", "an array"),
            (b"", "byte 0", "one JSON value", "Expecting value"),
        ],
    )
    def test_malformed(self, data, field, expected, found):
        with pytest.raises(MalformedArtefact) as caught:
            parse_environment(data, "environment.json")
        fault = caught.value
        assert fault.file == "environment.json"
        assert fault.field == field or (field == "byte" and fault.field.startswith("byte "))
        assert expected in fault.expected
        assert found in fault.found


FACTS = st.builds(
    lambda key, value, scope: Fact.of(f"x.{key}", value, scope=scope) if value is not None else Fact.absent(f"x.{key}"),
    st.text("abcdef.#+", min_size=1, max_size=4),
    st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=8)),
    st.sampled_from(("class", "instance")),
)
ENVIRONMENTS = st.lists(FACTS, unique_by=lambda fact: fact.name, max_size=6).map(Environment.of)


@given(ENVIRONMENTS)
def test_every_environment_survives_the_document(environment):
    assert parse_environment(environment.to_bytes(), "e") == environment
