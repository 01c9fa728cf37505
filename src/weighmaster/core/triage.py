# SPDX-License-Identifier: Apache-2.0
"""Decide what an unacceptable output comes from: a closed list of nodes, an answer to each, and one verdict.

The order is that of the tree: evidence first, then weights, configuration, known answers, pipeline, reproducibility,
the parent, the input. A verdict is given where its own node was answered and so was each node that it rests on;
otherwise it is `UNDETERMINED`, which says whose answer is missing. Nothing here is a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

__all__ = [
    "NODES",
    "RULES",
    "UNDETERMINED",
    "Answer",
    "Code",
    "Decision",
    "Node",
    "Reply",
    "Rule",
    "decide",
]

Reply: TypeAlias = Literal["yes", "no", "not answered"]
By: TypeAlias = Literal["machine", "person", "nobody"]
Confidence: TypeAlias = Literal["high", "moderate", "none"]
Code: TypeAlias = Literal[
    "U-undetermined",
    "X-provenance",
    "W-file",
    "W-load",
    "W-live",
    "K-config",
    "K-kernel",
    "P-pipeline",
    "N-nondeterminism",
    "Q-quantization-inside",
    "Q-quantization-outside",
    "D-drift",
    "M-model",
]

UNDETERMINED: Final = "U-undetermined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One question of the tree.

    Attributes:
        name: by which answers refer to it.
        number: its place in the tree.
        question: answered ``yes`` where all is well.
    """

    name: str
    number: str
    question: str


NODES: Final = (
    Node(name="preserved", number="0", question="Is the evidence preserved, before anything was restarted?"),
    Node(name="authentic", number="1", question="Is the response authentic and ours?"),
    Node(name="file", number="2a", question="Are the weight files those of the release?"),
    Node(name="load", number="2b", question="Are the weights right after a load?"),
    Node(name="live", number="2c", question="Are the live weights right?"),
    Node(name="configuration", number="3", question="Is the configuration the validated one?"),
    Node(name="answers", number="4", question="Are the known answers given?"),
    Node(name="pipeline", number="5", question="Are preprocessing, tokenizer, template and decoding as validated?"),
    Node(name="reproducible", number="6", question="Is the output reproducible on a reference replica?"),
    Node(name="parent", number="7", question="Does the unquantized parent give the acceptable answer on this input?"),
    Node(name="envelope", number="7a", question="Is the deviation from the parent inside the validated one?"),
    Node(name="intended", number="8", question="Is the input within intended use?"),
)
"""The closed list, in the order of the tree."""

NAMES: Final = tuple(node.name for node in NODES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known about one node.

    Attributes:
        node: name of one of `NODES`.
        answer: ``yes`` where all is well, ``no``, or ``not answered``.
        by: ``machine``, ``person``, or ``nobody`` where it was not answered.
        evidence: what was looked at; empty where nothing was.
        reason: why the answer is what it is, in words.
    """

    node: str
    answer: Reply
    by: By
    evidence: str = ""
    reason: str

    def __post_init__(self) -> None:
        """Refuse what is no answer.

        Raises:
            ValueError: a field is outside of its description above.
        """
        if self.node not in NAMES:
            raise ValueError(f"node: expected one of {', '.join(NAMES)}, found {self.node!r}")
        if self.answer not in get_args(Reply):
            raise ValueError(f"answer: expected one of {', '.join(get_args(Reply))}, found {self.answer!r}")
        if self.by not in get_args(By) or (self.by == "nobody") != (self.answer == "not answered"):
            raise ValueError(f"by: {self.by!r} does not go with {self.answer!r}")
        if not self.reason.strip():
            raise ValueError(f"{self.node}: expected a reason, found none")

    def to_json(self) -> dict[str, object]:
        """Return the answer as a JSON object, with the number and the question of its node."""
        node = NODES[NAMES.index(self.node)]
        return {
            "node": self.node,
            "number": node.number,
            "question": node.question,
            "answer": self.answer,
            "by": self.by,
            "evidence": self.evidence,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One verdict and what it takes.

    Attributes:
        code: the verdict.
        when: what brings it up: pairs (node, answer), all of which must be there.
        rests_on: nodes that must be answered ``yes`` as well, or nothing is known.
        unless: pairs (node, answer), one of which explains the output otherwise: the rule does not come up.
        text: what it means, and what follows.
    """

    code: Code
    when: tuple[tuple[str, Reply], ...]
    rests_on: tuple[str, ...]
    unless: tuple[tuple[str, Reply], ...] = ()
    text: str

    def comes_up(self, replies: Mapping[str, Reply]) -> bool:
        """Tell whether these answers bring the rule up; whether it can be given is another question."""
        return all(replies[n] == a for n, a in self.when) and not any(replies[n] == a for n, a in self.unless)


_SAME: Final = ("live", "configuration")
_SAME_PATH: Final = ("authentic", *_SAME, "answers", "pipeline", "reproducible")

RULES: Final = (
    Rule(
        code="X-provenance",
        when=(("authentic", "no"),),
        rests_on=(),
        text="The response is not an authentic one of this service: it was not given here, or was altered or replayed.",
    ),
    Rule(
        code="W-file",
        when=(("file", "no"),),
        rests_on=(),
        unless=(("load", "yes"), ("live", "yes")),
        text="A weight file is not that of the release: a fault of supply or deployment.",
    ),
    Rule(
        code="W-load",
        when=(("load", "no"),),
        rests_on=("file",),
        unless=(("live", "yes"),),
        text="The files are right and what was loaded is not: a fault of loader, repacking, codec or dtype.",
    ),
    Rule(
        code="W-live",
        when=(("live", "no"),),
        rests_on=("load",),
        text="The load was right and the live weights are not: memory fault, overwriting, or an adapter merged.",
    ),
    Rule(
        code="K-config",
        when=(("configuration", "no"),),
        rests_on=("live",),
        text="The weights are right and the configuration is not the validated one: an unvalidated change.",
    ),
    Rule(
        code="K-kernel",
        when=(("answers", "no"),),
        rests_on=_SAME,
        unless=(("reproducible", "no"),),
        text="Weights and configuration are right and known answers are not given: a kernel or the hardware computes "
        "otherwise. Run them on a second device of the same kind.",
    ),
    Rule(
        code="P-pipeline",
        when=(("pipeline", "no"),),
        rests_on=_SAME,
        text="Preprocessing, tokenizer, template or decoding parameters are not the validated ones.",
    ),
    Rule(
        code="N-nondeterminism",
        when=(("reproducible", "no"),),
        rests_on=(*_SAME, "pipeline"),
        text="The same input does not give the same output twice: ask whether the spread is inside the validated one.",
    ),
    Rule(
        code="Q-quantization-inside",
        when=(("parent", "yes"), ("envelope", "yes")),
        rests_on=_SAME_PATH,
        text="The parent gives the acceptable answer, and the deviation from it is inside the validated one: an "
        "accepted residual risk of quantization.",
    ),
    Rule(
        code="Q-quantization-outside",
        when=(("parent", "yes"), ("envelope", "no")),
        rests_on=_SAME_PATH,
        text="The parent gives the acceptable answer, and the deviation from it is outside of the validated one: a gap "
        "of validation.",
    ),
    Rule(
        code="D-drift",
        when=(("parent", "no"), ("intended", "no")),
        rests_on=_SAME_PATH,
        text="The parent fails as well, on an input outside of intended use: drift or use error.",
    ),
    Rule(
        code="M-model",
        when=(("parent", "no"), ("intended", "yes")),
        rests_on=_SAME_PATH,
        text="Everything is as validated, the parent fails as well, and the input is within intended use: a fault of "
        "the model.",
    ),
)
"""In the order of the tree: the first that comes up counts. Known answers that fail and an output that varies from run
to run are one finding, nondeterminism: a kernel that computes otherwise does so every time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict.

    Attributes:
        code: one of `Code`.
        confidence: ``high`` where each node up to the verdict's was answered ``yes``, by machine; ``moderate`` where
            some were not, or persons answered; ``none`` for undetermined.
        text: the verdict in words, with what else was found wrong.
        unanswered: names of the nodes that nobody answered, in order.
    """

    code: Code
    confidence: Confidence
    text: str
    unanswered: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the verdict as a JSON object."""
        return {
            "code": self.code,
            "confidence": self.confidence,
            "text": self.text,
            "unanswered": self.unanswered,
        }


def decide(answers: Iterable[Answer]) -> Decision:
    """Return the verdict of one answer per node.

    Raises:
        ValueError: a node has no answer object, or has two.
    """
    given = _by_node(answers)
    replies: dict[str, Reply] = {name: answer.answer for name, answer in given.items()}
    unanswered = tuple(name for name in NAMES if replies[name] == "not answered")
    if replies["preserved"] != "yes":
        return _undetermined(f"the evidence is lost or incomplete: {given['preserved'].reason}", unanswered)
    rule = next((rule for rule in RULES if rule.comes_up(replies)), None)
    if rule is None:
        missing = ", ".join(_needed(replies)) or "none"
        return _undetermined(f"no node explains the output; nobody answered: {missing}", unanswered)
    if lacking := tuple(f"{name} ({replies[name]})" for name in rule.rests_on if replies[name] != "yes"):
        return _undetermined(f"{rule.code} comes up, and rests on what is not so: {', '.join(lacking)}", unanswered)
    text = rule.text + _also(given, rule)
    return Decision(code=rule.code, confidence=_confidence(given, rule), text=text, unanswered=unanswered)


def _by_node(answers: Iterable[Answer]) -> dict[str, Answer]:
    given: dict[str, Answer] = {}
    for answer in answers:
        if answer.node in given:
            raise ValueError(f"{answer.node}: expected one answer, found two")
        given[answer.node] = answer
    if missing := [name for name in NAMES if name not in given]:
        raise ValueError(f"expected an answer to every node, found none to {', '.join(missing)}")
    return {name: given[name] for name in NAMES}


def _needed(replies: Mapping[str, Reply]) -> Iterator[str]:
    """Return the unanswered nodes that could have explained the output."""
    irrelevant = {"yes": "intended", "no": "envelope"}.get(replies["parent"])
    return (name for name in NAMES if replies[name] == "not answered" and name != irrelevant)


def _undetermined(why: str, unanswered: tuple[str, ...]) -> Decision:
    return Decision(code="U-undetermined", confidence="none", text=f"Undetermined: {why}.", unanswered=unanswered)


def _also(given: Mapping[str, Answer], rule: Rule) -> str:
    deciding = {name for name, _ in rule.when}
    others = [f"{name} ({a.reason})" for name, a in given.items() if a.answer == "no" and name not in deciding]
    return f" Also answered no: {'; '.join(others)}." if others else ""


def _confidence(given: Mapping[str, Answer], rule: Rule) -> Confidence:
    deciding = [name for name, _ in rule.when]
    last = max(NAMES.index(name) for name in deciding)
    asked = {*NAMES[: last + 1], *rule.rests_on} - ({"envelope"} if rule.code in {"D-drift", "M-model"} else set())
    clean = all(given[name].answer == "yes" for name in asked if name not in deciding)
    return "high" if clean and all(given[name].by == "machine" for name in asked) else "moderate"
