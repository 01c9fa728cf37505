# SPDX-License-Identifier: Apache-2.0
"""Configurations, levels, and the policy that a sweep proposes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from weighmaster.core.environment import Environment, Fact
from weighmaster.core.judgement import judge
from weighmaster.core.policy import parse_policy
from weighmaster.core.sweep import (
    CONFIGURATIONS,
    MULTIPLE,
    ORACLE,
    CaseFigures,
    Divergence,
    FactChange,
    Result,
    changed_facts,
    choose,
    propose_policy,
)
from weighmaster.errors import UsageError

BEFORE = Environment.of(
    (
        Fact.of("cpu.isa", "avx2"),
        Fact.of("cpu.microcode", "0x1", scope="instance"),
        Fact.absent("env.MKL_CBWR"),
        Fact.of("torch.threads.intraop", "2"),
    )
)


def figures(
    changed: int = 0, difference: str | None = "0", distance: str | None = "0.001", index: int = 3
) -> CaseFigures:
    where = Divergence(index=index, of=9, module=f"m{index}", subsystem="GEMM") if changed else None
    relative = None if difference is None else Decimal(difference)
    return CaseFigures(
        id="call-0",
        elements=10,
        changed=changed,
        difference=relative,
        relative=relative,
        distance=None if distance is None else Decimal(distance),
        first=where,
    )


def result(name: str, *cases: CaseFigures, facts: tuple[str, ...] = (), after: Fact | None = None) -> Result:
    old = {fact.name: fact for fact in BEFORE.facts}
    changes = tuple(FactChange(name=n, before=old.get(n), after=after or Fact.of(n, "another")) for n in facts)
    status = "changed" if any(case.changed for case in cases) else "same"
    return Result(configuration=name, against="baseline", status=status, cases=cases, facts=changes)


def test_names_are_unique_and_the_float64_run_is_in_every_choice() -> None:
    names = [c.name for c in CONFIGURATIONS]
    assert len(names) == len(set(names))
    assert [c.name for c in choose(["threads=1"])] == [ORACLE, "threads=1"]
    assert [c.name for c in choose(["tf32=on"])] == [ORACLE, "device=cuda", "tf32=on"]  # with what it is held against
    assert choose([]) == CONFIGURATIONS


def test_each_name_is_one_of_the_list_and_what_it_is_compared_with_stands_before_it() -> None:
    names = ["baseline", *(c.name for c in CONFIGURATIONS)]
    assert all(names.index(c.against) < names.index(c.name) for c in CONFIGURATIONS)


def test_an_unknown_configuration_is_named() -> None:
    with pytest.raises(UsageError, match=r"no such configuration: threads=one; there are: .*threads=1"):
        choose(["threads=1", "threads=one"])


@pytest.mark.parametrize(
    ("case", "level"),
    [
        (figures(), "inform"),
        (figures(4, "0.01"), "change-control"),
        (figures(4, "0.0100001"), "halt"),
        (figures(4, "0.01", "0"), "halt"),
        (figures(4, "0.000001", None), "halt"),  # without a float64 run no flip is small
        (figures(4, None), "halt"),  # not finite
    ],
)
def test_the_level_follows_from_bits_and_from_the_distance_to_float64(case: CaseFigures, level: str) -> None:
    assert MULTIPLE == 10
    assert result("x", case).level == level
    assert result("x", figures(), case).level == level


def test_what_did_not_finish_has_no_level() -> None:
    for status in ("failed", "not-run"):
        assert Result(configuration="x", against="baseline", status=status, reason="why").level is None


def test_the_first_divergence_is_the_earliest_of_the_cases() -> None:
    found = result("x", figures(1, index=5), figures(1, index=2), figures())
    assert found.first is not None
    assert found.first.module == "m2"
    assert (found.changed, found.elements) == (2, 30)


def test_changed_facts_are_class_facts_without_the_unsteady_ones() -> None:
    after = Environment.of(
        (
            Fact.of("cpu.isa", "sse"),
            Fact.of("cpu.microcode", "0x2", scope="instance"),
            Fact.of("env.MKL_CBWR", "COMPATIBLE"),
            Fact.of("lib.new.so", "ab"),
        )
    )
    names = [c.name for c in changed_facts(BEFORE, after, frozenset({"cpu.isa"}))]
    assert names == ["env.MKL_CBWR", "lib.new.so", "torch.threads.intraop"]


def test_the_proposed_policy_is_one_that_a_manifest_takes_and_judges_by() -> None:
    policy = propose_policy(
        [
            result("small", figures(1, "0.002"), facts=("env.MKL_CBWR",)),
            result("large", figures(1, "5"), facts=("cpu.isa",)),
            result("none", figures(), facts=("torch.threads.intraop",)),
        ],
        "sweep 12",
    )
    assert parse_policy(policy.to_bytes(), "policy.json") == policy
    after = Environment.of(
        (
            Fact.of("cpu.isa", "sse"),
            Fact.of("env.MKL_CBWR", "COMPATIBLE"),
            Fact.of("torch.threads.intraop", "4"),
        )
    )
    levels = {d.fact: d.level for d in judge(BEFORE, after, policy)}
    assert levels == {"cpu.isa": "halt", "env.MKL_CBWR": "change-control", "torch.threads.intraop": "inform"}
    assert [rule.reference for rule in policy.rules] == ["sweep 12: large", "sweep 12: small", "sweep 12: none"]


def test_the_strictest_configuration_decides_about_a_fact() -> None:
    same = result("none", figures(), facts=("cpu.isa",))
    large = result("large", figures(1, "5"), facts=("cpu.isa",))
    for order in ([same, large], [large, same]):
        (rule,) = propose_policy(order, "sweep").rules
        assert rule.on_diff == "halt"


def test_nothing_is_loosened_that_was_not_tried() -> None:
    crashed = Result(
        configuration="x",
        against="baseline",
        status="failed",
        reason="killed by SIGSEGV",
        facts=(FactChange(name="cpu.isa", before=None, after=None),),
    )
    assert propose_policy([crashed, result("same", figures())], "sweep").rules == ()


def test_a_missing_fact_stays_a_halt_where_no_configuration_made_it_so() -> None:
    (tried,) = propose_policy([result("x", figures(), facts=("torch.threads.intraop",))], "sweep").rules
    assert (tried.on_diff, tried.on_missing) == ("inform", "halt")
    (gone,) = propose_policy([result("x", figures(), facts=("lib.new.so",))], "sweep").rules  # not there before
    assert (gone.on_diff, gone.on_missing) == ("halt", "inform")


def test_an_unreadable_fact_is_not_a_difference_that_was_tried() -> None:
    found = result("x", figures(), facts=("cpu.isa",), after=Fact.unreadable("cpu.isa"))
    (rule,) = propose_policy([found], "sweep").rules
    assert rule.on_diff == "halt"
