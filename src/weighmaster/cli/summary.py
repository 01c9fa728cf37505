# SPDX-License-Identifier: Apache-2.0
"""What a statement says, for print: identity, tables, coverage."""

from __future__ import annotations

from collections.abc import Iterable

from weighmaster.cli.printing import count, share
from weighmaster.core.pack_statement import PackStatement
from weighmaster.core.policy import Policy
from weighmaster.core.statement import Coverage, Statement

__all__ = [
    "coverage_pairs",
    "derivation_pairs",
    "evidence_pairs",
    "identity",
    "identity_pairs",
    "pack_identity",
    "pack_statement_pairs",
    "policy_line",
    "statement_document",
    "table_pairs",
]

Pairs = list[tuple[str, str]]


def identity(statement: Statement) -> dict[str, object]:
    """Return product, version, serial and root as JSON."""
    return {
        "product": statement.product,
        "version": statement.version,
        "serial": statement.serial,
        "root": statement.gate_table.root,
    }


def pack_identity(statement: PackStatement) -> dict[str, object]:
    """Return what the statement of a pack's seal says, as JSON."""
    return {
        "product": statement.product,
        "version": statement.version,
        "serial": statement.serial,
        "root": statement.root,
        "encoder": statement.encoder.to_json(),
        "calibration": statement.calibration,
        "tensorsRoot": statement.tensors,
        "reports": [report.to_json() for report in statement.reports],
    }


def pack_statement_pairs(statement: PackStatement) -> Pairs:
    """Return the lines that identify a signed pack."""
    return [
        ("product", f"{statement.product} {statement.version}, serial {statement.serial}"),
        ("pack root", statement.root),
        ("tensors", f"root {statement.tensors} (unpacked, at rest)"),
        ("encoder", str(statement.encoder)),
        *([("reports", "\n".join(map(str, statement.reports)))] if statement.reports else []),
    ]


def derivation_pairs(statement: Statement) -> Pairs:
    """Return lines about the pack that the weights were rebuilt from, and about reports, where there are any."""
    rows = []
    if statement.derivation is not None:
        made = statement.derivation
        rows.append(("rebuilt from", f"pack {made.pack}\n{made.encoder}"))
        rows.append(("packed from", "\n".join(f"{p.sha256}  {p.path} ({p.nbytes:,} bytes)" for p in made.parents)))
        rows += [("report", str(report)) for report in made.reports]
    if statement.validation:
        rows.append(("validation", "\n".join(f"{digest}  {name}" for name, digest in statement.validation)))
    return rows


def statement_document(statement: Statement) -> dict[str, object]:
    """Return the statement's main facts as JSON, spelled as in the statement itself."""
    environment = statement.environment
    return {
        **identity(statement),
        "gateTable": {"stage": statement.gate_stage, "view": statement.gate_view},
        "tables": [t.to_json() for t in statement.tables],
        "method": statement.method.to_json(),
        "coverage": _coverage_document(statement.coverage),
        "structure": statement.structure,
        "classDigest": environment.class_digest if environment else None,
        "policy": environment.policy if environment else None,
        "policySha256": environment.policy_sha256 if environment else None,
        "probeSet": statement.probe_set,
        "sources": len(statement.sources),
        "evidence": [e.to_json() for e in statement.evidence],
        "validation": [{"name": name, "sha256": digest} for name, digest in statement.validation],
        "derivation": statement.derivation.to_json() if statement.derivation else None,
        "reaction": statement.reaction,
    }


def _coverage_document(coverage: Coverage | None) -> dict[str, object] | None:
    if coverage is None:
        return None
    return {**coverage.to_json(), "notVerifiedBytes": str(coverage.excluded_bytes)}


def identity_pairs(statement: Statement) -> Pairs:
    """Return the lines that identify a manifest."""
    return [
        ("product", f"{statement.product} {statement.version}, serial {statement.serial}"),
        ("root", statement.gate_table.root),
    ]


def table_pairs(statement: Statement) -> Pairs:
    """Return a line per table; the one that the gate compares is marked."""
    gate = statement.gate_table
    return [
        (
            "table",
            f"{t.stage} {t.view}: {count(t.count, 'tensor')}, {t.nbytes:,} bytes"
            + (" (the gate compares this one)" if t == gate else f", root {t.root}"),
        )
        for t in statement.tables
    ]


def policy_line(policy: Policy | None) -> str:
    """Return a line about the environment policy of a manifest."""
    if policy is None:
        return "none: nothing was run"
    rules = f"{count(len(policy.rules), 'rule')}; what none fits" if policy.rules else "no rules: every class fact"
    return f"{rules} must be equal, SHA-256 {policy.sha256}"


def coverage_pairs(coverage: Coverage | None) -> Pairs:
    """Return the lines of the coverage; what is not verified is always among them."""
    if coverage is None:
        return [("coverage", "none: files were read, nothing was run")]
    c = coverage
    hashed, naive = share(c.consumed_hashed_bytes, c.consumed_bytes), share(c.naive_bytes, c.consumed_bytes)
    return [
        (
            "consumed",
            f"{count(c.consumed, 'tensor')}, {c.consumed_bytes:,} bytes, {hashed} of them in the table",
        ),
        (
            "named",
            f"{count(c.naive, 'tensor')}, {c.naive_bytes:,} bytes, {naive}: all that named_parameters/buffers show",
        ),
        ("unexercised", f"{count(c.unconsumed, 'tensor')}, {c.unconsumed_bytes:,} bytes, digested and not run"),
        ("NOT verified", "\n".join(_excluded(c))),
    ]


def _excluded(coverage: Coverage) -> Iterable[str]:
    yield f"{coverage.excluded_bytes:,} bytes"
    for e in coverage.excluded:
        yield f"{e.name}: {e.nbytes:,} bytes, {e.reason}"


def evidence_pairs(statement: Statement) -> Pairs:
    """Return a line for what others signed about the source files, where there is anything."""
    if not statement.evidence:
        return []
    lines = [
        f"{e.kind}: bundle {e.sha256}, {count(e.files, 'source file')}, signed by {e.key}" for e in statement.evidence
    ]
    return [("evidence", "\n".join(lines))]
