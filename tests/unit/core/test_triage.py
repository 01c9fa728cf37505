# SPDX-License-Identifier: Apache-2.0
"""The decision tree: every path, and never a verdict that rests on a node that nobody answered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core.triage import NODES, RULES, UNDETERMINED, Answer, decide
from weighmaster.core.triage_record import TriageRecord

NAMES = tuple(node.name for node in NODES)
WELL = dict.fromkeys(NAMES, "yes")


def answers(by="machine", **replies):
    """All is well, save what is named; ``None`` for a node that nobody answered."""
    out = []
    for name, reply in {**WELL, **replies}.items():
        if reply is None:
            out.append(Answer(node=name, answer="not answered", by="nobody", reason="nobody looked"))
        else:
            out.append(Answer(node=name, answer=reply, by=by, evidence="e", reason=f"{name} {reply}"))
    return out


PATHS = [
    ({"authentic": "no"}, "X-provenance"),
    ({"file": "no", "load": "no", "live": "no"}, "W-file"),
    ({"file": "no", "load": None, "live": None}, "W-file"),
    ({"load": "no", "live": "no"}, "W-load"),
    ({"live": "no"}, "W-live"),
    ({"file": "no", "live": "no"}, "W-live"),  # the load was right in spite of the file
    ({"configuration": "no"}, "K-config"),
    ({"configuration": "no", "answers": "no"}, "K-config"),
    ({"file": "no", "configuration": "no"}, "K-config"),  # the file was not what was loaded
    ({"answers": "no"}, "K-kernel"),
    ({"answers": "no", "reproducible": None}, "K-kernel"),
    ({"answers": "no", "pipeline": "no"}, "K-kernel"),
    ({"pipeline": "no"}, "P-pipeline"),
    ({"pipeline": "no", "answers": None, "parent": None}, "P-pipeline"),
    ({"reproducible": "no"}, "N-nondeterminism"),
    ({"reproducible": "no", "answers": "no"}, "N-nondeterminism"),
    ({}, "Q-quantization-inside"),
    ({"intended": None}, "Q-quantization-inside"),
    ({"envelope": "no"}, "Q-quantization-outside"),
    ({"parent": "no", "intended": "no"}, "D-drift"),
    ({"parent": "no", "intended": "no", "envelope": None}, "D-drift"),
    ({"parent": "no"}, "M-model"),
    ({"parent": "no", "envelope": None}, "M-model"),
]

UNDECIDED = [
    ({"preserved": "no"}, "the evidence is lost or incomplete: preserved no"),
    ({"preserved": None, "live": "no"}, "the evidence is lost or incomplete: nobody looked"),
    ({"load": "no", "live": "no", "file": None}, "W-load comes up, and rests on what is not so: file (not answered)"),
    ({"live": "no", "load": None}, "W-live comes up, and rests on what is not so: load (not answered)"),
    ({"configuration": "no", "live": None}, "K-config comes up, and rests on what is not so: live (not answered)"),
    ({"answers": "no", "configuration": None}, "K-kernel comes up, and rests on what is not so: configuration"),
    ({"pipeline": "no", "live": None}, "P-pipeline comes up, and rests on what is not so: live (not answered)"),
    ({"reproducible": "no", "pipeline": None}, "N-nondeterminism comes up, and rests on what is not so: pipeline"),
    ({"envelope": None}, "no node explains the output; nobody answered: envelope"),
    ({"parent": None}, "no node explains the output; nobody answered: parent"),
    ({"parent": "no", "intended": None}, "no node explains the output; nobody answered: intended"),
    ({"parent": "no", "authentic": None}, "M-model comes up, and rests on what is not so: authentic (not answered)"),
    ({"parent": "no", "answers": None}, "M-model comes up, and rests on what is not so: answers (not answered)"),
    ({"reproducible": None}, "Q-quantization-inside comes up, and rests on what is not so: reproducible"),
    ({"reproducible": None, "parent": None}, "nobody answered: reproducible, parent"),
]


class TestPaths:
    @pytest.mark.parametrize(("replies", "code"), PATHS)
    def test_each_verdict(self, replies, code):
        decision = decide(answers(**replies))
        assert decision.code == code
        assert decision.unanswered == tuple(n for n in NAMES if replies.get(n, "yes") is None)

    def test_each_code_is_reached(self):
        assert {code for _, code in PATHS} == {rule.code for rule in RULES}

    @pytest.mark.parametrize(("replies", "text"), UNDECIDED)
    def test_undetermined_says_what_is_missing(self, replies, text):
        decision = decide(answers(**replies))
        assert (decision.code, decision.confidence) == (UNDETERMINED, "none")
        assert text in decision.text

    def test_what_else_is_wrong_is_said(self):
        decision = decide(answers(configuration="no", pipeline="no"))
        assert decision.text.endswith("Also answered no: pipeline (pipeline no).")

    def test_the_order_of_the_answers_does_not_matter(self):
        given_answers = answers(live="no", pipeline="no")
        assert decide(reversed(given_answers)) == decide(given_answers)


class TestConfidence:
    def test_high_where_all_up_to_the_verdict_is_answered_by_machine(self):
        assert decide(answers(live="no", parent=None)).confidence == "high"
        assert decide(answers(parent="no", envelope=None)).confidence == "high"

    @pytest.mark.parametrize("missing", ["authentic", "file"])
    def test_moderate_where_something_before_it_is_not_answered(self, missing):
        assert decide(answers(live="no", **{missing: None})).confidence == "moderate"

    def test_moderate_where_a_person_answered(self):
        assert decide(answers(by="person", live="no")).confidence == "moderate"


REPLIES = st.fixed_dictionaries({name: st.sampled_from(("yes", "no", None)) for name in NAMES})


class TestProperties:
    @given(REPLIES)
    def test_a_verdict_rests_on_answers(self, replies):
        decision = decide(answers(**replies))
        if decision.code == UNDETERMINED:
            return
        rule = next(rule for rule in RULES if rule.code == decision.code)
        assert all(replies[name] == reply for name, reply in rule.when)
        assert all(replies[name] == "yes" for name in (*rule.rests_on, "preserved"))

    @given(REPLIES, st.sampled_from(RULES))
    def test_no_verdict_where_its_node_is_not_answered(self, replies, rule):
        for missing in (*(name for name, _ in rule.when), *rule.rests_on, "preserved"):
            assert decide(answers(**{**replies, missing: None})).code != rule.code

    @given(REPLIES)
    def test_the_model_is_blamed_only_where_all_else_is_well(self, replies):
        if decide(answers(**replies)).code in {"M-model", "D-drift"}:
            wrong = {name for name in NAMES if replies[name] != "yes"}
            assert wrong <= {"file", "load", "parent", "envelope", "intended"}


class TestAnswers:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"node": "moon"}, "node: expected one of preserved, authentic"),
            ({"answer": "maybe"}, "answer: expected one of yes, no, not answered, found 'maybe'"),
            ({"by": "nobody"}, "by: 'nobody' does not go with 'yes'"),
            ({"answer": "not answered"}, "by: 'machine' does not go with 'not answered'"),
            ({"reason": " "}, "file: expected a reason, found none"),
        ],
    )
    def test_what_is_no_answer_is_refused(self, changed, message):
        with pytest.raises(ValueError, match=message):
            Answer(**{"node": "file", "answer": "yes", "by": "machine", "reason": "r", **changed})

    def test_every_node_is_answered_once(self):
        with pytest.raises(ValueError, match="live: expected one answer, found two"):
            decide([*answers(), answers()[4]])
        with pytest.raises(ValueError, match="found none to intended"):
            decide(answers()[:-1])


class TestRecord:
    def record(self, **keywords):
        given_answers = tuple(answers(live="no", parent=None))
        signers = keywords.get("signers", ())
        return TriageRecord(
            subject=(("product", "a|b"),),
            signers=signers,
            bundle="00" * 32,
            answers=given_answers,
            decision=decide(given_answers),
        )

    def test_the_document_holds_each_node_and_the_verdict(self):
        document = json.loads(self.record().to_bytes())
        assert [(n["node"], n["number"]) for n in document["nodes"]] == [(n.name, n.number) for n in NODES]
        assert document["decision"]["code"] == "W-live"
        assert document["decision"]["unanswered"] == ["parent"]
        assert document["signaturesChecked"] is False

    def test_unchecked_signatures_are_said(self):
        assert "| manifest signed by | no signature was checked |" in self.record().markdown()
        assert "| manifest signed by | Ana |" in self.record(signers=("Ana",)).markdown()

    def test_markdown_has_a_row_per_node_and_escapes(self):
        text = self.record().markdown()
        assert "| verdict | W-live |" in text
        assert "| 2c | Are the live weights right? | no | machine | e | live no |" in text
        assert "a\\|b" in text
