# SPDX-License-Identifier: Apache-2.0
"""environment v1: facts about machine, libraries and switches, and their two digests.

A fact is a value, or *absent* (there is no such thing here), or *unreadable* (there may be one, and it could not be
read); it is never guessed. Class facts are what validation is bound to; instance facts go to the audit trail. What a
difference between two environments means is the policy's to say (`core.policy`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal, Self, TypeAlias, get_args

from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.fields import Fields
from weighmaster.errors import MalformedArtefact

__all__ = [
    "MAX_NAME",
    "MAX_VALUE",
    "SCHEME",
    "Environment",
    "Fact",
    "Scope",
    "Status",
    "parse_environment",
]

SCHEME: Final = "environment-v1"

MAX_VALUE: Final = 65_536
"""UTF-8 bytes: the longest value of a fact."""
MAX_NAME: Final = 512
"""UTF-8 bytes: the longest name of a fact."""

Status: TypeAlias = Literal["value", "absent", "unreadable"]
Scope: TypeAlias = Literal["class", "instance"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\.[^\s\x00-\x1f\x7f]+")
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One statement about where a model runs.

    Attributes:
        name: ``group.key``, such as ``env.OMP_NUM_THREADS``; no white space or control characters.
        status: ``value``, ``absent`` or ``unreadable``.
        value: the text, at most `MAX_VALUE` bytes; None unless the status is ``value``.
        scope: ``class`` (validation is bound to it) or ``instance`` (audit trail).
    """

    name: str
    status: Status
    value: str | None
    scope: Scope

    def __post_init__(self) -> None:
        """Refuse what is no fact.

        Raises:
            ValueError: a bad name, an unknown status or scope, or a value that does not fit the status.
        """
        if not _NAME.fullmatch(self.name) or len(_utf8(self.name, self.name)) > MAX_NAME:
            raise ValueError(
                f"fact name {self.name[:80]!r} is not group.key without white space, up to {MAX_NAME} bytes"
            )
        if self.status not in get_args(Status) or self.scope not in get_args(Scope):
            raise ValueError(f"{self.name}: no such status or scope: {self.status!r}, {self.scope!r}")
        if (self.value is not None) != (self.status == "value"):
            raise ValueError(f"{self.name}: a value stands exactly where the status is 'value', not {self.status!r}")
        if self.value is not None and len(_utf8(self.value, self.name)) > MAX_VALUE:
            raise ValueError(f"{self.name}: the value is longer than {MAX_VALUE} bytes")

    @classmethod
    def of(cls, name: str, value: str, *, scope: Scope = "class") -> Self:
        """Return a fact that was read."""
        return cls(name=name, status="value", value=value, scope=scope)

    @classmethod
    def absent(cls, name: str, *, scope: Scope = "class") -> Self:
        """Return the fact that there is no such thing here."""
        return cls(name=name, status="absent", value=None, scope=scope)

    @classmethod
    def unreadable(cls, name: str, *, scope: Scope = "class") -> Self:
        """Return the fact that there may be such a thing, and that it could not be read."""
        return cls(name=name, status="unreadable", value=None, scope=scope)

    def document(self) -> dict[str, object]:
        """Return the fact as its JSON object."""
        return {"name": self.name, "scope": self.scope, "status": self.status, "value": self.value}

    def shown(self) -> str:
        """Return the fact for a message: a long value is cut, and its digest added."""
        if self.value is None:
            return self.status
        if len(self.value) <= _SHOWN:
            return repr(self.value)
        digest = hashlib.sha256(self.value.encode("utf-8")).hexdigest()
        return f"{self.value[:_SHOWN]!r}... ({len(self.value)} characters, SHA-256 {digest})"


def _utf8(text: str, name: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name!r}: a lone surrogate is no text") from None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """All facts, sorted by the UTF-8 bytes of their names, each name once."""

    facts: tuple[Fact, ...]

    def __post_init__(self) -> None:
        """Refuse facts out of order.

        Raises:
            ValueError: not strictly ascending by name.
        """
        names = [fact.name for fact in self.facts]  # code point order is UTF-8 order
        for before, after in pairwise(names):
            if before >= after:
                raise ValueError(f"facts are not strictly ascending: {after!r} after {before!r}")

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Self:
        """Return the environment of facts in any order.

        Raises:
            ValueError: a name twice.
        """
        return cls(facts=tuple(sorted(facts, key=lambda fact: fact.name)))

    def scoped(self, scope: Scope) -> tuple[Fact, ...]:
        """Return the facts of one scope, in order."""
        return tuple(fact for fact in self.facts if fact.scope == scope)

    def to_bytes(self) -> bytes:
        """Return the document: RFC 8785, without a trailing newline."""
        return _document(self.facts)

    @cached_property
    def class_digest(self) -> str:
        """SHA-256 of the document that holds the class facts only: what validation is bound to."""
        return hashlib.sha256(_document(self.scoped("class"))).hexdigest()

    @cached_property
    def instance_digest(self) -> str:
        """SHA-256 of the document that holds the instance facts only: for the audit trail."""
        return hashlib.sha256(_document(self.scoped("instance"))).hexdigest()


def _document(facts: Iterable[Fact]) -> bytes:
    return dumps({"facts": [fact.document() for fact in facts], "scheme": SCHEME})


def parse_environment(data: bytes, file: str) -> Environment:
    """Parse an environment document, strictly; `file` names it in errors.

    Raises:
        MalformedArtefact: not canonical JSON, an unknown key, status, scope or scheme, or facts out of order.
    """
    fields = Fields(loads_canonical(data, file), file=file)
    fields.text("scheme", choices=(SCHEME,))
    facts = fields.objects("facts", _read_fact)
    fields.done()
    try:
        return Environment(facts=facts)
    except ValueError as error:
        expected = "names in ascending order, each once"
        raise MalformedArtefact(file, "facts", expected=expected, found=str(error)) from None


def _read_fact(fields: Fields) -> Fact:
    name = fields.text("name")
    scope: Scope = "class" if fields.text("scope", choices=get_args(Scope)) == "class" else "instance"
    text = fields.text("status", choices=get_args(Status))
    status: Status = "value" if text == "value" else "absent" if text == "absent" else "unreadable"
    value = fields.optional_text("value")
    try:
        return Fact(name=name, status=status, value=value, scope=scope)
    except ValueError as error:
        raise MalformedArtefact(fields.file, fields.path, expected="a fact", found=str(error)) from None
