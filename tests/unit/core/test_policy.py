# SPDX-License-Identifier: Apache-2.0
"""environment-policy v1: the document, its one spelling, and the rules that it refuses."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core.policy import DEFAULT_POLICY, Policy, Rule, parse_policy, read_policy
from weighmaster.errors import MalformedArtefact

ROOT = Path(__file__).parents[3]
RULE = {"compare": "ge", "fact": "x.y", "onDiff": "inform", "onMissing": "halt", "reference": "R-1", "values": []}


def document(*rules: dict[str, object], **more: object) -> bytes:
    return rfc8785.dumps({"default": "halt", "rules": list(rules), "scheme": "environment-policy-v1", **more})


def edited(**changes: object) -> bytes:
    return document({k: v for k, v in {**RULE, **changes}.items() if v is not ...})


def test_default_policy():
    data = b'{"default":"halt","rules":[],"scheme":"environment-policy-v1"}'
    assert DEFAULT_POLICY.to_bytes() == data
    assert DEFAULT_POLICY.sha256 == hashlib.sha256(data).hexdigest()
    assert parse_policy(data, "policy.json") == DEFAULT_POLICY
    assert DEFAULT_POLICY.rule("torch.threads.intraop") is None


def test_reads_back():
    policy = parse_policy(document(RULE, {**RULE, "compare": "in", "fact": "gpu.*", "values": ["a", "b"]}), "p")
    assert policy.rules == (
        Rule(fact="x.y", compare="ge", on_diff="inform", on_missing="halt", reference="R-1"),
        Rule(fact="gpu.*", compare="in", on_diff="inform", on_missing="halt", reference="R-1", values=("a", "b")),
    )
    assert parse_policy(policy.to_bytes(), "p") == policy
    assert policy.named == {"x.y"}


def test_people_may_spell_it_otherwise():
    spelt = json.dumps(json.loads(edited()), indent=2).encode()
    assert read_policy(spelt, "policy.json").to_bytes() == edited()
    with pytest.raises(MalformedArtefact, match="RFC 8785"):
        parse_policy(spelt, "policy.json")


def test_example_policy_is_one():
    policy = read_policy((ROOT / "examples/environment-policy.json").read_bytes(), "examples/environment-policy.json")
    levels = {r.fact: r.on_diff for r in policy.rules}
    assert levels["cpu.microcode"] == levels["torch.deterministic.*"] == "inform"
    assert levels["torch.threads.*"] == levels["torch.preferred.*"] == "halt"
    assert {r.compare for r in policy.rules} == {"equal", "major", "ge", "in", "known"}


@pytest.mark.parametrize(
    ("data", "field", "expected", "found"),
    [
        (edited(compare="minor"), "rules[0].compare", "'known'", "'minor'"),
        (edited(compare=None), "rules[0].compare", "a string", "null"),
        (edited(onDiff="warn"), "rules[0].onDiff", "'change-control' or 'halt' or 'inform'", "'warn'"),
        (edited(onMissing="ignore"), "rules[0].onMissing", "'inform'", "'ignore'"),
        (edited(onMissing=...), "rules[0].onMissing", "a value", "no such key"),
        (edited(fact="*"), "rules[0].fact", "group", "'*'"),
        (edited(fact="gpu*"), "rules[0].fact", "group", "'gpu*'"),
        (edited(fact="*.driver"), "rules[0].fact", "one * at its end", "'*.driver'"),
        (edited(fact="gpu.*.x"), "rules[0].fact", "one * at its end", "'gpu.*.x'"),
        (edited(fact="gpu.**"), "rules[0].fact", "one * at its end", "'gpu.**'"),
        (edited(fact="GPU.x"), "rules[0].fact", "group", "'GPU.x'"),
        (edited(fact="gpu."), "rules[0].fact", "group", "'gpu.'"),
        (edited(fact="gpu.a b"), "rules[0].fact", "group", "'gpu.a b'"),
        (edited(fact="gpu." + "x" * 509), "rules[0].fact", "group", "gpu.xxx"),
        (edited(fact=""), "rules[0].fact", "not empty", "an empty one"),
        (edited(values=["a"]), "rules[0].values", "exactly where the comparison is 'in'", "1 with 'ge'"),
        (edited(compare="in"), "rules[0].values", "exactly where the comparison is 'in'", "0 with 'in'"),
        (edited(compare="in", values=["b", "a"]), "rules[0].values", "ascending", "'a' after 'b'"),
        (edited(compare="in", values=["a", "a"]), "rules[0].values", "each once", "'a' after 'a'"),
        (edited(compare="in", values=["a" * 65_537]), "rules[0].values", "65536 bytes", "a longer one"),
        (edited(compare="in", values=[1]), "rules[0].values[0]", "a string", "a number"),
        (edited(reference=None), "rules[0].reference", "a string", "null"),
        (edited(note="x"), "rules[0].note", "only the keys", "an unknown key"),
        (document(RULE, RULE), "rules", "can decide", "rules[1], 'x.y', can never decide: 'x.y' stands before it"),
        (document({**RULE, "fact": "x.*"}, RULE), "rules", "can decide", "'x.*' stands before it"),
        (document({**RULE, "fact": "x.*"}, {**RULE, "fact": "x.y*"}), "rules", "can decide", "'x.*' stands before it"),
        (document(default="inform"), "default", "'halt'", "'inform'"),
        (document(scheme="environment-policy-v2"), "scheme", "'environment-policy-v1'", "policy-v2"),
        (document(waivers=[]), "waivers", "only the keys", "an unknown key"),
        (document() + b"\n", "byte 62", "RFC 8785", "another spelling"),
        (document()[:-1], "byte 61", "one JSON value", "delimiter"),
        (b"[]", "", "an object", "an array"),
    ],
)
def test_malformed(data, field, expected, found):
    with pytest.raises(MalformedArtefact) as caught:
        parse_policy(data, "policy.json")
    assert (caught.value.file, caught.value.field) == ("policy.json", field)
    assert expected in caught.value.expected
    assert found in caught.value.found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"on_diff": "warn"}, "no such level: 'warn'"),
        ({"on_missing": ""}, "no such level: ''"),
        ({"compare": "lt"}, "compare: expected 'equal' or 'major' or 'ge' or 'in' or 'known', found 'lt'"),
        ({"fact": "*"}, "rule '*': fact: expected"),
        ({"values": ("a",)}, "values: expected values exactly where"),
    ],
)
def test_what_is_no_rule(changes, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Rule(**{"fact": "x.y", "compare": "equal", "on_diff": "halt", "on_missing": "halt", **changes})


def test_a_narrow_rule_may_stand_before_a_wide_one():
    rules = [Rule(fact=f, compare="equal", on_diff="halt", on_missing="halt") for f in ("x.y", "x.y*", "x.*")]
    policy = Policy(rules=tuple(rules))
    assert [policy.rule(name).fact for name in ("x.y", "x.yz", "x.z")] == ["x.y", "x.y*", "x.*"]


RULES = st.builds(
    Rule,
    fact=st.from_regex(r"[ab]\.[ab]{1,2}\*?", fullmatch=True),
    compare=st.sampled_from(("equal", "major", "ge", "known")),
    on_diff=st.sampled_from(("halt", "change-control", "inform")),
    on_missing=st.sampled_from(("halt", "change-control", "inform")),
    reference=st.text(st.characters(codec="utf-8"), max_size=8),
)


def decide(rules: list[Rule]) -> bool:
    return not any(earlier.covers(rule) for i, rule in enumerate(rules) for earlier in rules[:i])


@given(st.lists(RULES, max_size=5))
def test_a_policy_is_one_exactly_where_each_rule_can_decide(rules):
    if decide(rules):
        assert Policy(rules=tuple(rules)).rules == tuple(rules)
    else:
        with pytest.raises(ValueError, match="can never decide"):
            Policy(rules=tuple(rules))


@given(st.lists(RULES, max_size=5).filter(decide))
def test_every_policy_survives_the_document(rules):
    policy = Policy(rules=tuple(rules))
    data = policy.to_bytes()
    assert data == rfc8785.dumps(json.loads(data))
    assert parse_policy(data, "p") == policy
