# SPDX-License-Identifier: Apache-2.0
"""The judgement of environments: the default rule, each comparison, levels, and what no rule may hide."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighmaster.core.environment import Environment, Fact, parse_environment
from weighmaster.core.judgement import Difference, environment_faults, judge
from weighmaster.core.policy import DEFAULT_POLICY, Policy, Rule
from weighmaster.errors import EnvironmentFault

THREADS = Fact.of("env.OMP_NUM_THREADS", "2")
DRIVER = Fact.absent("gpu.driver")
MICROCODE = Fact.of("cpu.microcode", "0x1", scope="instance")
LIBM = Fact.of("lib.libm.so.6", "7f" * 32)
VALIDATED = Environment.of((THREADS, DRIVER, MICROCODE, LIBM))


def with_facts(*facts: Fact) -> Environment:
    """The validated environment with facts of the same names replaced, or added."""
    return Environment.of({fact.name: fact for fact in (*VALIDATED.facts, *facts)}.values())


def without(name: str) -> Environment:
    return Environment(facts=tuple(fact for fact in VALIDATED.facts if fact.name != name))


class TestDefault:
    def one(self, found: Environment, validated: Environment = VALIDATED) -> EnvironmentFault:
        faults = environment_faults(validated, found)
        assert len(faults) == 1
        assert validated.class_digest != found.class_digest or "unreadable" in str(faults[0])
        return faults[0]

    def test_equal(self):
        assert environment_faults(VALIDATED, parse_environment(VALIDATED.to_bytes(), "e")) == ()

    def test_instance_facts_are_not_compared(self):
        other = with_facts(
            Fact.unreadable("cpu.microcode", scope="instance"), Fact.of("gpu.uuids", "GPU-1", scope="instance")
        )
        assert environment_faults(VALIDATED, other) == ()
        assert environment_faults(VALIDATED, without("cpu.microcode")) == ()

    @pytest.mark.requirement("REQ-ENV-01")
    def test_other_value(self):
        fault = self.one(with_facts(Fact.of("env.OMP_NUM_THREADS", "1")))
        assert (fault.subject, fault.expected, fault.found) == ("env.OMP_NUM_THREADS", "'2'", "'1'")
        assert str(fault) == "env.OMP_NUM_THREADS: differs; expected '2', found '1'"
        assert (fault.step, fault.exit_code) == (4, 12)

    def test_value_for_absent_and_absent_for_value(self):
        fault = self.one(with_facts(Fact.of("gpu.driver", "absent")))
        assert (fault.subject, fault.expected, fault.found) == ("gpu.driver", "absent", "'absent'")
        fault = self.one(with_facts(Fact.absent("env.OMP_NUM_THREADS")))
        assert (fault.subject, fault.expected, fault.found) == ("env.OMP_NUM_THREADS", "'2'", "absent")

    @pytest.mark.requirement("REQ-ENV-01")
    def test_missing(self):
        fault = self.one(without("lib.libm.so.6"))
        assert str(fault) == (
            f"lib.libm.so.6: class fact of the validated environment is gone; expected '{'7f' * 32}', found nothing"
        )

    @pytest.mark.requirement("REQ-ENV-01")
    def test_extra(self):
        fault = self.one(with_facts(Fact.of("lib.evil.so", "00" * 32)))
        assert str(fault) == (
            "lib.evil.so: class fact that the validated environment does not have; "
            f"expected nothing, found '{'00' * 32}'"
        )

    def test_extra_though_absent(self):
        assert self.one(with_facts(Fact.absent("gpu.names"))).found == "absent"

    def test_moved_to_the_instance_facts(self):
        fault = self.one(with_facts(Fact.of("env.OMP_NUM_THREADS", "2", scope="instance")))
        assert (fault.subject, fault.expected, fault.found) == ("env.OMP_NUM_THREADS", "'2'", None)

    @pytest.mark.requirement("REQ-ENV-02")
    @pytest.mark.parametrize("sides", [(True, False), (False, True), (True, True)])
    def test_unreadable_is_a_fault_on_either_side_and_on_both(self, sides):
        unreadable = with_facts(Fact.unreadable("lib.libm.so.6"))
        validated, found = (unreadable if side else VALIDATED for side in sides)
        fault = self.one(found, validated)
        assert fault.subject == "lib.libm.so.6"
        assert "what is not read is not equal" in fault.detail
        assert (fault.expected == "unreadable", fault.found == "unreadable") == sides

    def test_unreadable_and_extra(self):
        fault = self.one(with_facts(Fact.unreadable("lib.memfd")))
        assert (fault.subject, fault.expected, fault.found) == ("lib.memfd", None, "unreadable")

    @pytest.mark.parametrize("found", [VALIDATED, Environment(facts=()), Environment(facts=(MICROCODE,))])
    def test_nothing_validated_is_equal_to_nothing(self, found):
        (fault,) = environment_faults(Environment(facts=(MICROCODE,)), found)
        assert str(fault) == (
            "environment: the validated environment holds no class fact; expected class facts, found none"
        )

    def test_all_faults_are_returned_in_order_of_the_names(self):
        other = Environment.of(
            (Fact.of("env.OMP_NUM_THREADS", "1"), Fact.of("a.b", "new"), Fact.unreadable("gpu.driver"))
        )
        subjects = [fault.subject for fault in environment_faults(VALIDATED, other)]
        assert subjects == ["a.b", "env.OMP_NUM_THREADS", "gpu.driver", "lib.libm.so.6"]

    def test_long_values_are_cut_and_named_by_their_digest(self):
        text = "x" * 500
        fault = self.one(with_facts(Fact.of("env.OMP_NUM_THREADS", text)))
        assert hashlib.sha256(text.encode()).hexdigest() in str(fault)
        assert "500 characters" in str(fault)
        assert text not in str(fault)


def rule(fact, compare="equal", on_diff="inform", on_missing="change-control", **more):
    return Rule(fact=fact, compare=compare, on_diff=on_diff, on_missing=on_missing, **more)


def of(policy_rule, validated, found):
    """Judge two environments of which `x.y` differs as given: text, or a fact."""
    sides = [Fact.of("x.y", f) if isinstance(f, str) else f for f in (validated, found)]
    before, after = (Environment.of((THREADS, *([f] if f is not None else []))) for f in sides)
    return judge(before, after, Policy(rules=(policy_rule,)))


class TestComparisons:
    @pytest.mark.requirement("REQ-ENV-07")
    @pytest.mark.parametrize(
        ("compare", "validated", "found"),
        [
            ("equal", "1", "1"),
            ("equal", Fact.absent("x.y"), Fact.absent("x.y")),
            ("major", "13.0", "13.1.2"),
            ("major", "13", "13.9"),
            ("major", "0.5", "0.9"),
            ("major", "2.13.0+cpu", "2.13.0+cpu"),
            ("major", Fact.absent("x.y"), Fact.absent("x.y")),
            ("ge", Fact.absent("x.y"), Fact.absent("x.y")),
            ("major", "013.2", "13"),
            ("ge", "550.54.14", "550.54.14"),
            ("ge", "550.54.14", "550.90.07"),
            ("ge", "9.2", "10.1"),
            ("ge", "13", "13.0"),
            ("ge", "13.0", "13"),
            ("ge", "0x1f", "0x20"),
            ("ge", "0xFF", "0xff"),
            ("known", "1", "2"),
            ("known", Fact.absent("x.y"), "2"),
            ("known", "2", Fact.absent("x.y")),
        ],
    )
    def test_holds(self, compare, validated, found):
        assert of(rule("x.y", compare), validated, found) == ()

    @pytest.mark.requirement("REQ-ENV-07")
    @pytest.mark.parametrize(
        ("compare", "validated", "found", "said"),
        [
            ("equal", "1", "1.0", "differs"),
            ("equal", "1", Fact.absent("x.y"), "differs"),
            ("major", "13.0", "14.0", "differs in its first number"),
            ("major", "1.0", "10", "differs in its first number"),
            ("major", "0", "1", "differs in its first number"),
            ("major", "0x10", "0x11", "differs in its first number"),
            ("major", "0x1F", "0x1f", "differs in its first number"),
            ("major", "2.13.0+cpu", "2.13.1+cpu", "not two numbers of one form"),
            ("major", "13", Fact.absent("x.y"), "not two numbers of one form"),
            ("major", "13", "13.", "not two numbers"),
            ("major", "13", "", "not two numbers"),
            ("ge", "10.1", "9.2", "is lower than the validated one"),
            ("ge", "1.0.1", "1", "is lower than the validated one"),
            ("ge", "0x20", "0x1f", "is lower than the validated one"),
            ("ge", "1", "0x2", "not two numbers of one form"),
            ("ge", "1", "-2", "not two numbers"),
            ("ge", "1", " 2", "not two numbers"),
            ("ge", "1", "2\n", "not two numbers"),
            ("ge", "1", "\u0662", "not two numbers"),
            ("ge", "1", "9" * 60_000, "not two numbers"),
            ("ge", "0x1", "0x" + "f" * 33, "not two numbers"),
        ],
    )
    def test_differs(self, compare, validated, found, said):
        (difference,) = of(rule("x.y", compare), validated, found)
        assert said in difference.detail
        assert (difference.fact, difference.level) == ("x.y", "inform")

    def test_in_asks_for_the_found_value_alone(self):
        allowed = rule("x.y", "in", values=("b", "c"))
        assert of(allowed, "a", "b") == ()
        assert of(allowed, Fact.absent("x.y"), "c") == ()
        for found in ("a", "", "B", Fact.absent("x.y")):
            (difference,) = of(allowed, "a", found)  # also where it is the validated value
            assert difference.detail == "is not among the values of the rule"

    @pytest.mark.parametrize("compare", ["equal", "major", "ge", "known"])
    @pytest.mark.parametrize(
        ("validated", "found", "said"),
        [
            (Fact.unreadable("x.y"), "1", "cannot be read"),
            ("1", Fact.unreadable("x.y"), "cannot be read"),
            (Fact.unreadable("x.y"), Fact.unreadable("x.y"), "cannot be read"),
            (None, "1", "class fact that the validated environment does not have"),
            ("1", None, "class fact of the validated environment is gone"),
            (None, Fact.unreadable("x.y"), "cannot be read"),
        ],
    )
    def test_missing_and_unreadable_are_another_level(self, compare, validated, found, said):
        (difference,) = of(rule("x.y", compare), validated, found)
        assert said in difference.detail
        assert difference.level == "change-control"


class TestRules:
    @pytest.mark.requirement("REQ-ENV-06")
    def test_the_first_rule_that_fits_decides(self):
        policy = Policy(rules=(rule("env.OMP_NUM_THREADS"), rule("env.*", on_diff="halt"), rule("lib.lib*")))
        found = with_facts(Fact.of("env.OMP_NUM_THREADS", "1"), Fact.of("lib.libm.so.6", "0"), Fact.of("env.X", "1"))
        levels = {d.fact: (d.level, d.rule.fact) for d in judge(VALIDATED, found, policy)}
        assert levels == {
            "env.OMP_NUM_THREADS": ("inform", "env.OMP_NUM_THREADS"),
            "env.X": ("change-control", "env.*"),
            "lib.libm.so.6": ("inform", "lib.lib*"),
        }

    @pytest.mark.requirement("REQ-ENV-06")
    def test_what_no_rule_fits_halts(self):
        policy = Policy(rules=(rule("env.OMP_*"), rule("gpu.driver.*")))
        found = with_facts(Fact.of("gpu.driver", "1"), Fact.of("env.OMP", "1"))
        assert [(d.fact, d.level, d.rule) for d in judge(VALIDATED, found, policy)] == [
            ("env.OMP", "halt", None),
            ("gpu.driver", "halt", None),
        ]

    def test_an_instance_fact_is_judged_where_a_rule_names_it(self):
        found = with_facts(Fact.of("cpu.microcode", "0x0", scope="instance"))
        for group in ("cpu.*", "cpu.micro*"):
            assert judge(VALIDATED, found, Policy(rules=(rule(group),))) == ()
        (difference,) = judge(VALIDATED, found, Policy(rules=(rule("cpu.microcode", "ge"),)))
        assert (difference.level, difference.found.value) == ("inform", "0x0")
        (difference,) = judge(VALIDATED, without("cpu.microcode"), Policy(rules=(rule("cpu.microcode", "ge"),)))
        assert (difference.level, difference.detail) == (
            "change-control",
            "instance fact of the validated environment is gone",
        )

    def test_a_fact_that_left_the_class_is_missing_unless_a_rule_names_it(self):
        found = with_facts(Fact.of("env.OMP_NUM_THREADS", "2", scope="instance"))
        (difference,) = judge(VALIDATED, found, Policy(rules=(rule("env.*"),)))
        assert difference.level == "change-control"
        assert judge(VALIDATED, found, Policy(rules=(rule("env.OMP_NUM_THREADS"),))) == ()

    def test_no_rule_makes_nothing_validated_hold(self):
        nothing = Environment(facts=(MICROCODE,))
        policy = Policy(rules=(rule("cpu.microcode", on_missing="inform"), rule("env.*", "known", on_missing="inform")))
        (difference,) = judge(nothing, VALIDATED, policy)
        assert (difference.level, difference.rule) == ("halt", None)

    def test_faults_are_those_that_halt(self):
        policy = Policy(rules=(rule("env.*"), rule("lib.*", on_diff="change-control")))
        found = with_facts(
            Fact.of("env.OMP_NUM_THREADS", "1"), Fact.of("lib.libm.so.6", "0"), Fact.of("gpu.driver", "1")
        )
        assert [f.subject for f in environment_faults(VALIDATED, found, policy)] == ["gpu.driver"]

    def test_the_finding_names_the_rule_its_reference_and_its_level(self):
        rules = (rule("env.OMP_NUM_THREADS", "ge", on_diff="halt", reference="PCCP-MP-3"),)
        (fault,) = environment_faults(VALIDATED, with_facts(Fact.of("env.OMP_NUM_THREADS", "1")), Policy(rules=rules))
        assert str(fault) == (
            "env.OMP_NUM_THREADS: is lower than the validated one (rule env.OMP_NUM_THREADS (ge, PCCP-MP-3): halt); "
            "expected '2', found '1'"
        )

    def test_the_document_of_a_difference(self):
        (difference,) = judge(VALIDATED, with_facts(Fact.of("env.OMP_NUM_THREADS", "1")), DEFAULT_POLICY)
        assert isinstance(difference, Difference)
        assert difference.document() == {
            "fact": "env.OMP_NUM_THREADS",
            "detail": "differs",
            "expected": {"name": "env.OMP_NUM_THREADS", "scope": "class", "status": "value", "value": "2"},
            "found": {"name": "env.OMP_NUM_THREADS", "scope": "class", "status": "value", "value": "1"},
            "level": "halt",
            "rule": None,
        }


FACTS = st.builds(
    lambda key, value, scope: Fact.of(f"x.{key}", value, scope=scope) if value is not None else Fact.absent(f"x.{key}"),
    st.text("abcdef.#+", min_size=1, max_size=4),
    st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=8)),
    st.sampled_from(("class", "instance")),
)
ENVIRONMENTS = st.lists(FACTS, unique_by=lambda fact: fact.name, max_size=6).map(Environment.of)


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_no_faults_exactly_where_the_class_digests_are_equal(validated, found):
    faults = environment_faults(validated, found)
    if validated.scoped("class"):
        assert (faults == ()) == (validated.class_digest == found.class_digest)
    else:
        assert len(faults) == 1
