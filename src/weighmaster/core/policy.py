# SPDX-License-Identifier: Apache-2.0
"""environment-policy v1: which differences between two environments halt (spec/environment.md, "Policy").

The first rule that fits a fact decides; without one, the fact must be there, readable and equal, and anything else is
a halt. The document is part of a manifest and signed with it: a gate takes no policy from elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias, cast, get_args

from weighmaster.core.canonical import dumps, loads, loads_canonical
from weighmaster.core.environment import MAX_NAME, MAX_VALUE
from weighmaster.core.fields import Fields
from weighmaster.errors import MalformedArtefact

__all__ = [
    "DEFAULT_POLICY",
    "SCHEME",
    "Comparison",
    "Level",
    "Policy",
    "Rule",
    "parse_policy",
    "read_policy",
]

SCHEME: Final = "environment-policy-v1"

Level: TypeAlias = Literal["halt", "change-control", "inform"]
"""``halt``: not served. ``change-control``: only under a waiver and known answers. ``inform``: served, and printed."""
Comparison: TypeAlias = Literal["equal", "major", "ge", "in", "known"]

_FACT: Final = re.compile(r"[a-z][a-z0-9_]*\.(?:[^\s\x00-\x1f\x7f*]+|[^\s\x00-\x1f\x7f*]*\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one fact, or all facts with one beginning, are compared.

    Attributes:
        fact: name of a fact, or a beginning of names followed by ``*``; the group is always written out.
        compare: how a value found is held against the validated one.
        on_diff: level of a difference.
        on_missing: level where a side has no such fact, or it cannot be read.
        values: what `in` allows, in ascending order; empty for every other comparison.
        reference: text for people, such as the clause that asks for the rule.
    """

    fact: str
    compare: Comparison
    on_diff: Level
    on_missing: Level
    values: tuple[str, ...] = ()
    reference: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no rule.

        Raises:
            ValueError: what is wrong, and what was expected.
        """
        for key, expected, found in _problems(self.fact, self.compare, self.values):
            raise ValueError(f"rule {self.fact[:80]!r}: {key}: expected {expected}, found {found}")
        for level in (self.on_diff, self.on_missing):
            if level not in get_args(Level):
                raise ValueError(f"rule {self.fact!r}: no such level: {level!r}")

    def fits(self, name: str) -> bool:
        """Tell whether this rule is about the fact of this name."""
        return name.startswith(self.fact[:-1]) if self.fact.endswith("*") else name == self.fact

    def covers(self, other: Rule) -> bool:
        """Tell whether every fact that `other` fits is one that this rule fits."""
        return self.fact == other.fact or (self.fact.endswith("*") and other.fact.startswith(self.fact[:-1]))

    def document(self) -> dict[str, object]:
        """Return the rule as its JSON object."""
        return {
            "compare": self.compare,
            "fact": self.fact,
            "onDiff": self.on_diff,
            "onMissing": self.on_missing,
            "reference": self.reference,
            "values": self.values,
        }

    def __str__(self) -> str:
        reference = f", {self.reference}" if self.reference else ""
        return f"rule {self.fact} ({self.compare}{reference})"


def _problems(fact: str, compare: str, values: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong, as key, expected and found."""
    if not _FACT.fullmatch(fact) or len(_utf8(fact)) > MAX_NAME:
        yield "fact", "the name of a fact, or a group, a dot and a beginning with one * at its end", repr(fact[:80])
    if compare not in get_args(Comparison):
        yield "compare", " or ".join(map(repr, get_args(Comparison))), repr(compare)
    if bool(values) != (compare == "in"):
        yield "values", "values exactly where the comparison is 'in'", f"{len(values)} with {compare!r}"
    for before, after in pairwise(values):
        if before >= after:
            yield "values", "values in ascending order, each once", f"{after[:80]!r} after {before[:80]!r}"
    if any(len(_utf8(value)) > MAX_VALUE for value in values):
        yield "values", f"values of at most {MAX_VALUE} bytes", "a longer one"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules in their order: the first that fits a fact decides. What none fits must be equal, or it is a halt.

    Attributes:
        rules: none that can never decide because an earlier one fits every fact that it fits.
    """

    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        """Refuse rules that can never decide: whoever wrote one believed that it does.

        Raises:
            ValueError: with both rules.
        """
        for i, rule in enumerate(self.rules):
            earlier = next((e for e in self.rules[:i] if e.covers(rule)), None)
            if earlier is not None:
                raise ValueError(f"rules[{i}], {rule.fact!r}, can never decide: {earlier.fact!r} stands before it")

    def rule(self, name: str) -> Rule | None:
        """Return the rule that decides about the fact of this name; None for the default."""
        return next((rule for rule in self.rules if rule.fits(name)), None)

    @property
    def named(self) -> frozenset[str]:
        """Facts that a rule names, not only by a beginning: they are judged also where they are instance facts."""
        return frozenset(rule.fact for rule in self.rules if not rule.fact.endswith("*"))

    def to_bytes(self) -> bytes:
        """Return the document: RFC 8785, without a trailing newline."""
        return dumps({"default": "halt", "rules": [rule.document() for rule in self.rules], "scheme": SCHEME})

    @property
    def sha256(self) -> str:
        """Digest of the document, which stands in the signed statement."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


DEFAULT_POLICY: Final = Policy()
"""No rules: every class fact must be there, readable and equal; anything else is a halt."""


def parse_policy(data: bytes, file: str) -> Policy:
    """Parse the policy of a manifest, strictly and in its one spelling; `file` names it in errors.

    Raises:
        MalformedArtefact: not canonical JSON, an unknown key, level, comparison or scheme, or a rule that cannot be.
    """
    return _read(loads_canonical(data, file), file)


def read_policy(data: bytes, file: str) -> Policy:
    """Parse a policy that a person wrote: any spelling of the JSON, otherwise as strict as `parse_policy`.

    Raises:
        MalformedArtefact: as `parse_policy`, the spelling apart.
    """
    return _read(loads(data, file), file)


def _read(value: object, file: str) -> Policy:
    fields = Fields(value, file=file)
    fields.text("scheme", choices=(SCHEME,))
    fields.text("default", choices=("halt",))
    rules = fields.objects("rules", _read_rule)
    fields.done()
    try:
        return Policy(rules=rules)
    except ValueError as error:
        raise MalformedArtefact(file, "rules", expected="rules that can decide", found=str(error)) from None


def _read_rule(fields: Fields) -> Rule:
    fact, compare, values = fields.text("fact"), fields.text("compare"), fields.texts("values")
    for key, expected, found in _problems(fact, compare, values):
        raise fields.fault(key, expected, found)
    return Rule(
        fact=fact,
        compare=cast("Comparison", compare),
        on_diff=_read_level(fields, "onDiff"),
        on_missing=_read_level(fields, "onMissing"),
        values=values,
        reference=fields.text("reference", empty=True),
    )


def _read_level(fields: Fields, key: str) -> Level:
    return cast("Level", fields.text(key, choices=get_args(Level)))
