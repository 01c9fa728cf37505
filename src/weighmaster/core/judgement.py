# SPDX-License-Identifier: Apache-2.0
"""Judge how a found environment differs from the validated one, under a policy (spec/environment.md, "Judgement")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from weighmaster.core.environment import Environment, Fact
from weighmaster.core.policy import DEFAULT_POLICY, Comparison, Level, Policy, Rule
from weighmaster.errors import EnvironmentFault

__all__ = ["NOTHING", "Difference", "environment_faults", "judge"]

NOTHING: Final = "environment"
"""Subject of the difference between nothing validated and anything; no fact has such a name."""

_DOTTED: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18}){0,15}")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact that is not as validated, and what the policy makes of it. Data: a flow decides.

    Attributes:
        fact: its name; `NOTHING` where the validated environment holds no class fact at all.
        detail: what is wrong, in words.
        expected: the validated fact, or None where that side has none.
        found: the fact found here, or None where this side has none.
        level: what follows.
        rule: the rule that decided, or None for the default.
    """

    fact: str
    detail: str
    expected: Fact | None
    found: Fact | None
    level: Level
    rule: Rule | None

    @property
    def decided(self) -> str:
        """What decided, and to which level."""
        return f"{self.rule if self.rule is not None else 'default'}: {self.level}"

    def fault(self, addition: str = "") -> EnvironmentFault:
        """Return the difference as a finding; its text names the rule, unless it is the default."""
        decided = f" ({self.decided})" if self.rule is not None else ""
        expected, found = (None if f is None else f.shown() for f in (self.expected, self.found))
        if self.fact == NOTHING:
            expected, found = "class facts", "none"
        return EnvironmentFault(self.fact, f"{self.detail}{decided}{addition}", expected=expected, found=found)

    def document(self) -> dict[str, object]:
        """Return the difference as a JSON object; `rule` is null for the default."""
        return {
            "fact": self.fact,
            "detail": self.detail,
            "expected": None if self.expected is None else self.expected.document(),
            "found": None if self.found is None else self.found.document(),
            "level": self.level,
            "rule": None if self.rule is None else self.rule.document(),
        }


def judge(validated: Environment, found: Environment, policy: Policy) -> tuple[Difference, ...]:
    """Compare under `policy`; the numbers are those of spec/environment.md, "Judgement".

    Returns:
        One difference per fact that is not as the policy asks, of every level, in order of the names.
    """
    if not validated.scoped("class"):  # (1) nothing was validated, so nothing can be equal to it
        detail = "the validated environment holds no class fact"
        return (Difference(fact=NOTHING, detail=detail, expected=None, found=None, level="halt", rule=None),)
    named = policy.named
    before, after = (  # (2) class facts, and the instance facts that a rule names
        {f.name: f for f in e.facts if f.scope == "class" or f.name in named} for e in (validated, found)
    )
    names = sorted(before.keys() | after.keys())
    judged = (_judge(name, before.get(name), after.get(name), policy.rule(name)) for name in names)
    return tuple(difference for difference in judged if difference is not None)


def _judge(name: str, expected: Fact | None, found: Fact | None, rule: Rule | None) -> Difference | None:
    level: Level = rule.on_missing if rule is not None else "halt"  # (3)
    if "unreadable" in {fact.status for fact in (expected, found) if fact is not None}:
        detail = "cannot be read, and what is not read is not equal"  # (4) also when both are unreadable
    elif expected is None:
        scope = found.scope if found is not None else "class"
        detail = f"{scope} fact that the validated environment does not have"  # (5)
    elif found is None:
        detail = f"{expected.scope} fact of the validated environment is gone"  # (5)
    else:
        level = rule.on_diff if rule is not None else "halt"
        detail = _compare(rule, expected, found)  # (6)
    if not detail:
        return None
    return Difference(fact=name, detail=detail, expected=expected, found=found, level=level, rule=rule)


def _compare(rule: Rule | None, expected: Fact, found: Fact) -> str:
    """Return how two readable facts differ, or nothing."""
    if rule is not None and rule.compare == "in":  # whatever was validated
        return "" if found.value in rule.values else "is not among the values of the rule"
    if (expected.status, expected.value) == (found.status, found.value):
        return ""
    if rule is None or rule.compare == "equal":
        return "differs"
    return "" if rule.compare == "known" else _compare_numbers(rule.compare, expected, found)


def _compare_numbers(compare: Comparison, expected: Fact, found: Fact) -> str:
    before, after = _number(expected.value), _number(found.value)
    if before is None or after is None or before.hexadecimal != after.hexadecimal:
        return "differs: not two numbers of one form, which the rule compares"
    if compare == "ge":
        return "" if after.trimmed >= before.trimmed else "is lower than the validated one"
    same = not after.hexadecimal and after.components[0] == before.components[0]
    return "" if same else "differs in its first number"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Number:
    hexadecimal: bool
    components: tuple[int, ...]

    @property
    def trimmed(self) -> tuple[int, ...]:
        """The components without zeros at the end: 13 and 13.0 are the same version."""
        kept = list(self.components)
        while kept and kept[-1] == 0:
            kept.pop()
        return tuple(kept)


def _number(text: str | None) -> _Number | None:
    """Return the components of a dotted or hexadecimal number; None for what is neither."""
    if text is None:
        return None
    if _HEX.fullmatch(text):
        return _Number(hexadecimal=True, components=(int(text, 16),))
    if _DOTTED.fullmatch(text):
        return _Number(hexadecimal=False, components=tuple(int(part) for part in text.split(".")))
    return None


def environment_faults(
    validated: Environment, found: Environment, policy: Policy = DEFAULT_POLICY
) -> tuple[EnvironmentFault, ...]:
    """Return the differences that halt without more ado, as findings, in order of the names.

    Under the default policy, empty means: the class digests are equal and every class fact was readable.
    """
    return tuple(d.fault() for d in judge(validated, found, policy) if d.level == "halt")
