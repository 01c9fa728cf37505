# SPDX-License-Identifier: Apache-2.0
"""``weighmaster diff``: say how two manifests differ, tensor by tensor and fact by fact."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.failure import fault_documents, fault_lines
from weighmaster.cli.policy_file import read_policy_file
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.summary import identity
from weighmaster.cli.verb import Outcome
from weighmaster.core.environment import Environment, parse_environment
from weighmaster.core.judgement import Difference, judge
from weighmaster.core.policy import DEFAULT_POLICY, Policy
from weighmaster.core.source import source_faults
from weighmaster.core.statement import Statement
from weighmaster.core.structure import Structure, structure_faults
from weighmaster.durable import read_whole
from weighmaster.errors import CoverageFault, EnvironmentFault, Fault, Faults, StageFault, StructureFault

if TYPE_CHECKING:
    from weighmaster.core.manifest import Table
    from weighmaster.flows.artefact import Manifest

DESCRIPTION: Final = """\
Compare two manifests as the gate would compare a manifest with a live model: environment (4), sources (5), method (6),
structure (7), tensor set (8), tensor digests (9), exclusions (10). Product, version, serial and the pack that weights
were rebuilt from are printed and not compared. Signatures are not checked. Exit code 0 where nothing differs, else that
of the lowest step that does.

Environments are judged under the policy of A, or the one given: each finding names the rule that it falls under, or the
default, and its level. What the policy lets pass (inform) is listed and changes no exit code. With --environment, A and
B are environment documents (weighmaster environment -o FILE) and nothing else is compared."""

EXAMPLES: Final = (
    ("weighmaster diff manifest-1.0 manifest-1.1", "the first findings of each step"),
    ("weighmaster diff manifest-1.0 manifest-1.1 --show all", "every finding"),
    (
        "weighmaster diff --environment old.json new.json --policy policy.json",
        "two environments, fact by fact, with the rule that each difference falls under",
    ),
)

_SHOWN: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("a", metavar="A", type=Path, help="manifest directory: the validated one")
    parser.add_argument("b", metavar="B", type=Path, help="manifest directory: the other one")
    parser.add_argument("--environment", action="store_true", help="A and B are environment documents")
    policy = "judge environments under this policy (default: that of A; of a document, that all facts be equal)"
    parser.add_argument("--policy", metavar="FILE", type=Path, help=policy)
    shown = "findings per step, or all (default: 20)"
    parser.add_argument("--show", metavar="N", type=_number, default=_SHOWN, help=shown)


def _number(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, or all, found {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> Outcome:
    """Compare; a difference is a result, not an error, and has the exit code of its step."""
    policy = read_policy_file(args.policy) if args.policy is not None else None
    return _documents(args, policy) if args.environment else _manifests(args, policy)


def _manifests(args: argparse.Namespace, policy: Policy | None) -> Outcome:
    a, b = wm.read_unsigned(args.a), wm.read_unsigned(args.b)
    used = policy or a.policy or DEFAULT_POLICY
    judged = _judged(a.environment, b.environment, used)
    found = [*_environment(a, b), *_explained(judged), *_differences(a, b)]
    document = {
        side: {**identity(m.statement), "derivation": d.to_json() if (d := m.statement.derivation) else None}
        for side, m in (("a", a), ("b", b))
    }
    rows = [("a", _line(a.statement)), ("b", _line(b.statement)), ("signatures", "not checked")]
    head = {**document, "signaturesChecked": False}
    return _outcome(head, [*rows, _policy_row(args, used)], found, judged, args.show)


def _documents(args: argparse.Namespace, policy: Policy | None) -> Outcome:
    a, b = (parse_environment(read_whole(path), str(path)) for path in (args.a, args.b))
    used = policy or DEFAULT_POLICY
    judged = _judged(a, b, used)
    rows = [(side, f"{path}, class digest {e.class_digest}") for side, path, e in (("a", args.a, a), ("b", args.b, b))]
    document = {
        side: {"classDigest": e.class_digest, "instanceDigest": e.instance_digest}
        for side, e in zip("ab", (a, b), strict=True)
    }
    return _outcome(document, [*rows, _policy_row(args, used)], _explained(judged), judged, args.show)


def _policy_row(args: argparse.Namespace, policy: Policy) -> tuple[str, str]:
    origin = str(args.policy) if args.policy is not None else "default" if args.environment else "of a"
    return "policy", f"{origin}, {count(len(policy.rules), 'rule')}, SHA-256 {policy.sha256}"


def _outcome(
    head: Mapping[str, object],
    rows: list[tuple[str, str]],
    found: list[Fault],
    judged: tuple[Difference, ...],
    shown: int | None,
) -> Outcome:
    faults = Faults("they differ", found).faults if found else ()
    informed = [d for d in judged if d.level == "inform"]
    code = faults[0].exit_code if faults else 0
    document = {
        "result": "different" if faults else "informed" if informed else "same",
        "exitCode": code,
        **head,
        "faults": fault_documents(faults),
        "environment": [d.document() for d in judged],
    }
    parts = [pairs(rows), _findings(faults, shown) if faults or not informed else "nothing that differs halts"]
    if informed:
        lines = [f"  {fault}" for fault in map(_explanation, informed)]
        parts.append("\n".join([f"informed: {count(len(informed), 'difference')} that the policy lets pass", *lines]))
    return Outcome(document=document, text="\n\n".join(parts), exit_code=code)


def _line(statement: Statement) -> str:
    made = "" if statement.derivation is None else f"\nrebuilt from pack {statement.derivation.pack}"
    return f"{statement.product} {statement.version}, serial {statement.serial}, root {statement.gate_table.root}{made}"


def _findings(faults: tuple[Fault, ...], shown: int | None) -> str:
    if not faults:
        return "same: nothing that the gate compares differs"
    lines = [f"different: {count(len(faults), 'finding')}"]
    for _, group in groupby(faults, key=lambda f: f.step):
        listed = fault_lines(group)
        lines += listed[:shown]
        if shown is not None and len(listed) > shown:
            lines.append(f"      and {len(listed) - shown} more of this step (--show all)")
    return "\n".join(lines)


def _differences(a: Manifest, b: Manifest) -> Iterator[Fault]:
    """Yield findings of steps 5 to 10; expected is what stands in `a`, found what stands in `b`."""
    yield from source_faults(a.statement.sources, b.statement.sources)  # (5)
    yield from _method(a.statement, b.statement)  # (6)
    yield from _structure(a.structure, b.structure)  # (7)
    tables = {(t.stage, t.view): t for t in b.tables}
    for table in a.tables:  # (8) and (9); a table that only one of them has is a finding of step 6
        other = tables.get((table.stage, table.view))
        if other is not None:
            yield from _tensors(a, b, table, other)
    before, after = (m.statement.coverage.excluded if m.statement.coverage else () for m in (a, b))
    if before != after:  # (10)
        words = (", ".join(f"{e.name} ({e.nbytes} bytes, {e.reason})" for e in x) or "none" for x in (before, after))
        yield CoverageFault("exclusions", "differ", expected=next(words), found=next(words))


def _environment(a: Manifest, b: Manifest) -> Iterator[EnvironmentFault]:
    """Yield what differs beside the facts: an environment or a policy that only one has, or another policy."""
    if (a.environment is None) != (b.environment is None):
        found = _there(b.environment)
        yield EnvironmentFault("environment", "only one has it", expected=_there(a.environment), found=found)
    before, after = (m.policy.sha256 if m.policy is not None else "none" for m in (a, b))
    if before != after:
        yield EnvironmentFault("policy", "differs", expected=before, found=after)


def _judged(a: Environment | None, b: Environment | None, policy: Policy) -> tuple[Difference, ...]:
    """Judge; a fact that is unreadable in both is a halt to the gate, and no difference between two documents."""
    if a is None or b is None:
        return ()
    return tuple(d for d in judge(a, b, policy) if d.expected is None or d.expected != d.found)


def _explained(judged: tuple[Difference, ...]) -> list[Fault]:
    return [_explanation(d) for d in judged if d.level != "inform"]


def _explanation(difference: Difference) -> EnvironmentFault:
    return difference.fault() if difference.rule is not None else difference.fault(f" ({difference.decided})")


def _structure(a: Structure | None, b: Structure | None) -> Iterator[StructureFault]:
    if a is not None and b is not None:
        yield from structure_faults(a, b)
    elif a is not b:
        yield StructureFault("structure", "only one has it", expected=_there(a), found=_there(b))


def _there(value: object) -> str:
    return "none" if value is None else "one"


def _method(a: Statement, b: Statement) -> Iterator[StageFault]:
    rows = (
        ("gate table", *(f"{s.gate_stage} {s.gate_view}" for s in (a, b))),
        ("tables", *(", ".join(f"{t.stage} {t.view}" for t in s.tables) for s in (a, b))),
        ("loader", a.method.loader, b.method.loader),
        ("trace", a.method.trace, b.method.trace),
        ("mapped", a.method.mapped, b.method.mapped),
        ("materialized", ", ".join(a.method.materialized), ", ".join(b.method.materialized)),
        ("extra", ", ".join(a.method.extra), ", ".join(b.method.extra)),
        ("probe set", a.probe_set or "", b.probe_set or ""),
    )
    for what, before, after in rows:
        if before != after:
            yield StageFault(what, "differs", expected=before or "none", found=after or "none")


def _tensors(a: Manifest, b: Manifest, before: Table, after: Table) -> Iterator[Fault]:
    if before.root == after.root:
        return
    difference = wm.compare(before, after)
    gates = before is a.gate and after is b.gate
    found: list[Fault] = [*difference.set_faults()]
    found += difference.byte_faults(dict(a.leaves), dict(b.leaves)) if gates else difference.byte_faults()
    for fault in found:
        prefix = "" if gates else f"{before.stage} {before.view}: "
        yield type(fault)(f"{prefix}{fault.subject}", fault.detail, expected=fault.expected, found=fault.found)
