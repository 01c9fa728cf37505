# SPDX-License-Identifier: Apache-2.0
"""``weighmaster show``: print what a manifest or a pack says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.pack_summary import is_pack
from weighmaster.cli.printing import columns, count, pairs
from weighmaster.cli.show_pack import show_pack
from weighmaster.cli.summary import (
    coverage_pairs,
    derivation_pairs,
    evidence_pairs,
    identity_pairs,
    policy_line,
    statement_document,
    table_pairs,
)
from weighmaster.cli.verb import Outcome
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.core.policy import Rule
    from weighmaster.core.statement import Statement
    from weighmaster.flows.artefact import Manifest

DESCRIPTION: Final = """\
Print what a manifest says. Its files are checked against its statement; its signatures are NOT checked: use
weighmaster verify for that.

A directory with a pack.index is a pack: its index, the set of its files and the headers of its shards are checked, its
tensors and its origin are not."""

EXAMPLES: Final = (
    ("weighmaster show manifest", "identity, tables, coverage, environment class, sources"),
    ("weighmaster show manifest --tensors", "the table that the gate compares, row by row"),
    ("weighmaster show manifest --environment --structure --json", "everything, as JSON"),
    ("weighmaster show model.pack", "a pack: bits per weight, how it was made, its files, the decoder in use"),
)

_RULE_HEADER: Final = ("rule", "comparison", "on difference", "on missing", "reference")
_UNSIGNED: Final = "signatures not checked: anybody can have written this (weighmaster verify checks them)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("manifest", metavar="DIR", type=Path, help="manifest directory, or a pack")
    tensors = "print the table that the gate compares, or the tensors of a pack"
    parser.add_argument("--tensors", action="store_true", help=tensors)
    parser.add_argument("--environment", action="store_true", help="print the facts of the environment, and the rules")
    parser.add_argument("--structure", action="store_true", help="print the facts of the structure")


def run(args: argparse.Namespace) -> Outcome:
    """Read the manifest or pack, and print the parts asked for."""
    if is_pack(args.manifest):
        if args.environment or args.structure:
            raise UsageError(f"{args.manifest}: is a pack, which has no environment and no structure")
        return show_pack(args.manifest, tensors=args.tensors)
    manifest = wm.read_unsigned(args.manifest)
    bundles = wm.read_manifest(args.manifest).bundles
    statement = manifest.statement
    document: dict[str, object] = {
        "result": "shown",
        **statement_document(statement),
        "signaturesChecked": False,
        "bundles": [name for name, _ in bundles],
        "sources": [
            {"path": s.path, "role": s.role, "bytes": str(s.nbytes), "sha256": s.sha256} for s in statement.sources
        ],
    }
    parts = [_head(manifest, [name for name, _ in bundles])]
    if args.tensors:
        document["tensors"] = [_row_document(manifest, i) for i in range(len(manifest.gate.rows))]
        parts.append(_tensors(manifest))
    if args.environment and manifest.environment is not None:
        document["environmentFacts"] = [fact.document() for fact in manifest.environment.facts]
        policy = manifest.policy
        document["policyRules"] = [rule.document() for rule in policy.rules] if policy is not None else None
        rows = [(f.name, f.scope, f.shown()) for f in manifest.environment.facts]
        parts.append(columns(("fact", "scope", "value"), rows))
        if policy is not None and policy.rules:
            parts.append(columns(_RULE_HEADER, map(_rule_row, policy.rules)))
    if args.structure and manifest.structure is not None:
        facts = manifest.structure.facts
        document["structureFacts"] = [{"path": f.path, "kind": f.kind, "value": f.value} for f in facts]
        parts.append(columns(("path", "kind", "value"), [(f.path or "(model)", f.kind, f.value) for f in facts]))
    return Outcome(document=document, text="\n\n".join(parts))


def _head(manifest: Manifest, bundles: list[str]) -> str:
    statement = manifest.statement
    method, environment = statement.method, statement.environment
    rows = [
        *identity_pairs(statement),
        ("signatures", f"{', '.join(bundles) or 'none'}\n{_UNSIGNED}"),
        *table_pairs(statement),
        *coverage_pairs(statement.coverage),
        ("method", f"loader {method.loader}, engine {method.engine}, trace: {method.trace}, mapped: {method.mapped}"),
        ("class digest", environment.class_digest if environment else "none"),
        ("policy", policy_line(manifest.policy)),
        ("structure", statement.structure or "none"),
        ("sources", "\n".join([count(len(statement.sources), "file"), *_sources(statement)])),
        *evidence_pairs(statement),
        *derivation_pairs(statement),
        ("reaction", statement.reaction),
    ]
    return pairs(rows)


def _rule_row(rule: Rule) -> tuple[str, ...]:
    return (rule.fact, rule.compare, rule.on_diff, rule.on_missing, rule.reference)


def _sources(statement: Statement) -> list[str]:
    return [f"{s.sha256}  {s.path} ({s.role}, {s.nbytes:,} bytes)" for s in statement.sources]


def _row_document(manifest: Manifest, number: int) -> dict[str, object]:
    row = manifest.gate.rows[number]
    return {
        "name": row.name,
        "dtype": row.dtype,
        "shape": row.shape,
        "stride": row.stride,
        "bytes": str(row.nbytes),
        "layout": row.layout,
        "role": row.role,
        "alias": row.alias,
        "sha256": row.sha256,
        "fsverity64k": row.fsverity64k,
    }


def _tensors(manifest: Manifest) -> str:
    header = ("name", "role", "dtype", "shape", "bytes", "sha256")
    rows = [
        (
            row.name,
            row.role,
            row.dtype,
            "x".join(map(str, row.shape)) or "scalar",
            f"{row.nbytes:,}",
            f"alias of {row.alias}" if row.alias else row.sha256,
        )
        for row in manifest.gate.rows
    ]
    return columns(header, rows)
