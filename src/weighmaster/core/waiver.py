# SPDX-License-Identifier: Apache-2.0
"""waiver v1: a person's consent to named differences from a validated environment, until a day (spec/waiver.md).

A waiver is signed like a manifest, by others than its signers. Whether it holds is decided in `flows.waivers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeAlias, cast

from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.environment import Fact, Status
from weighmaster.core.fields import Fields
from weighmaster.core.instant import instant_text
from weighmaster.core.judgement import Difference
from weighmaster.core.statement import STATEMENT_TYPE
from weighmaster.errors import MalformedArtefact

__all__ = ["PREDICATE_TYPE", "Reading", "WaivedFact", "Waiver", "parse_waiver"]

PREDICATE_TYPE: Final = "https://weighmaster.dev/waiver/v1"

Reading: TypeAlias = tuple[Status, str | None]
"""Status and value of a fact on one side. What could not be read cannot be waived: nobody knows what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaivedFact:
    """One difference that is consented to: this fact, with exactly these two readings.

    Attributes:
        fact: name of the fact.
        validated: its reading in the validated environment, or None where that has no such fact.
        found: its reading where the model is to run, or None where there is no such fact.
    """

    fact: str
    validated: Reading | None
    found: Reading | None

    def __post_init__(self) -> None:
        """Refuse what is no difference.

        Raises:
            ValueError: both sides are the same, a reading is unreadable, or there can be no such fact.
        """
        if self.validated == self.found:
            raise ValueError(f"{self.fact}: both sides are the same")
        for status, value in filter(None, (self.validated, self.found)):
            if status == "unreadable":
                raise ValueError(f"{self.fact}: what could not be read cannot be waived")
            Fact(name=self.fact, status=status, value=value, scope="class")

    @classmethod
    def of(cls, difference: Difference) -> WaivedFact:
        """Return the consent to exactly this difference.

        Raises:
            ValueError: it cannot be waived.
        """
        return cls(fact=difference.fact, validated=_reading(difference.expected), found=_reading(difference.found))

    def covers(self, difference: Difference) -> bool:
        """Tell whether this is the very difference that was consented to."""
        sides = _reading(difference.expected), _reading(difference.found)
        return difference.fact == self.fact and sides == (self.validated, self.found)

    def document(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"fact": self.fact, "found": _side(self.found), "validated": _side(self.validated)}


def _reading(fact: Fact | None) -> Reading | None:
    return None if fact is None else (fact.status, fact.value)


def _side(reading: Reading | None) -> dict[str, object] | None:
    return None if reading is None else {"status": reading[0], "value": reading[1]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Consent to differences of one product's weights under one policy.

    Attributes:
        product: as the manifest names it.
        root: identity of the weights.
        policy_sha256: digest of the policy of the manifest.
        reason: why, for people; not empty.
        expires: the moment from which it counts no more.
        facts: strictly ascending by name, at least one.
    """

    product: str
    root: str
    policy_sha256: str
    reason: str
    expires: datetime
    facts: tuple[WaivedFact, ...]

    def __post_init__(self) -> None:
        """Refuse what is no waiver.

        Raises:
            ValueError: no fact, facts out of order, or an empty text.
        """
        for problem in self._problems():
            raise ValueError(problem)

    def _problems(self) -> Iterator[str]:
        if not self.product or not self.reason.strip():
            yield "product and reason must not be empty"
        if not self.facts:
            yield "no fact is waived"
        for before, after in pairwise(self.facts):
            if before.fact >= after.fact:
                yield f"facts are not strictly ascending: {after.fact!r} after {before.fact!r}"

    def to_bytes(self) -> bytes:
        """Return the in-toto Statement that is signed: RFC 8785, without a trailing newline."""
        predicate = {
            "expires": instant_text(self.expires),
            "facts": [fact.document() for fact in self.facts],
            "policySha256": self.policy_sha256,
            "product": self.product,
            "reason": self.reason,
        }
        return dumps(
            {
                "_type": STATEMENT_TYPE,
                "predicate": predicate,
                "predicateType": PREDICATE_TYPE,
                "subject": [{"digest": {"sha256": self.root}, "name": "weights"}],
            }
        )


def parse_waiver(data: bytes, file: str) -> Waiver:
    """Parse the payload of a waiver, strictly; call it after a signature over `data` holds.

    Raises:
        MalformedArtefact: not canonical, of another type, or a field is wrong or unknown.
    """
    top = Fields(loads_canonical(data, file), file=file)
    top.text("_type", choices=(STATEMENT_TYPE,))
    top.text("predicateType", choices=(PREDICATE_TYPE,))
    roots = top.objects("subject", _read_subject)
    predicate = top.nested("predicate")
    top.done()
    if len(roots) != 1:
        raise top.fault("subject", "exactly one subject, the weights", str(len(roots)))
    return _read_predicate(predicate, roots[0])


def _read_subject(fields: Fields) -> str:
    fields.text("name", choices=("weights",))
    digest = fields.nested("digest")
    root = digest.digest("sha256")
    digest.done()
    return root


def _read_predicate(fields: Fields, root: str) -> Waiver:
    try:
        waiver = Waiver(
            product=fields.text("product"),
            root=root,
            policy_sha256=fields.digest("policySha256"),
            reason=fields.text("reason"),
            expires=fields.instant("expires"),
            facts=fields.objects("facts", _read_fact),
        )
    except ValueError as error:
        raise MalformedArtefact(fields.file, fields.path, expected="a waiver", found=str(error)) from None
    fields.done()
    return waiver


def _read_fact(fields: Fields) -> WaivedFact:
    name, sides = fields.text("fact"), (_read_side(fields, "validated"), _read_side(fields, "found"))
    try:
        return WaivedFact(fact=name, validated=sides[0], found=sides[1])
    except ValueError as error:
        raise MalformedArtefact(fields.file, fields.path, expected="a difference", found=str(error)) from None


def _read_side(fields: Fields, key: str) -> Reading | None:
    value = fields.any(key)
    if value is None:
        return None
    side = Fields(value, file=fields.file, path=fields.at(key))
    status = cast("Status", side.text("status", choices=("absent", "value")))
    reading = (status, side.optional_text("value"))
    side.done()
    return reading
