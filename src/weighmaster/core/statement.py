# SPDX-License-Identifier: Apache-2.0
"""The statement: what is signed about one model, as an in-toto Statement v1 with our own predicate (manifest v1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from weighmaster.core.canonical import dumps
from weighmaster.core.derivation import Derivation
from weighmaster.core.manifest import Table
from weighmaster.core.source import Evidence, Source
from weighmaster.core.tensor import ViewKind

__all__ = [
    "EXCLUSION_REASONS",
    "MAPPED",
    "PREDICATE_TYPE",
    "SCHEMES",
    "STATEMENT_TYPE",
    "TRACES",
    "Coverage",
    "EnvironmentRef",
    "Exclusion",
    "Method",
    "Statement",
    "TableEntry",
]

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://weighmaster.dev/manifest/v1"
EXCLUSION_REASONS: Final = ("kv-cache", "opaque-handle", "rng-state", "workspace")
TRACES: Final = ("none", "not traceable", "other path", "same path")
MAPPED: Final = ("first", "none", "private")
_REACTION: Final = re.compile(r"halt|drain|fallback:[0-9a-f]{64}")
SCHEMES: Final = (
    ("environment", "environment-v1"),
    ("names", "torch-names-v1"),
    ("probeSet", "probe-set-v1"),
    ("structure", "structure-v1"),
    ("table", "manifest-v1"),
    ("tensorDigest", "tensor-digest-v1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """A table as the statement names it: stage, view, Merkle root, digest of the file, rows, bytes of the primaries."""

    stage: str
    view: ViewKind
    root: str
    sha256: str
    count: int
    nbytes: int

    @classmethod
    def of(cls, table: Table) -> TableEntry:
        """Describe `table`."""
        return cls(
            stage=table.stage,
            view=table.view,
            root=table.root,
            sha256=table.sha256,
            count=len(table.rows),
            nbytes=table.nbytes,
        )

    @property
    def file_name(self) -> str:
        """Name of the table file in a manifest directory."""
        return f"tensors.{self.stage}.{self.view}.jsonl"

    def to_json(self) -> dict[str, object]:
        """Return the entry as it stands in the statement."""
        return {
            "stage": self.stage,
            "view": self.view,
            "root": self.root,
            "sha256": self.sha256,
            "count": self.count,
            "bytes": str(self.nbytes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """One tensor that is consumed and not digested, with its reason from `EXCLUSION_REASONS`. Never a pattern."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the traced probe run consumed, beside what the table holds. Bytes are of distinct memory.

    Attributes:
        consumed: tensors (distinct extents) that operators read and none of them made, inputs and literals apart.
        consumed_bytes: their bytes.
        consumed_hashed_bytes: the part that rows of the table hold.
        hashed: primary rows of the table.
        hashed_bytes: their bytes.
        unconsumed: primary rows that no operator of the probe run read (unexercised, though digested).
        unconsumed_bytes: their bytes.
        naive: consumed tensors that ``named_parameters`` and ``named_buffers`` show, wholly or in part.
        naive_bytes: their part of the consumed bytes.
        empty: rows of zero elements; they are recorded and count as nothing.
        literals: tensors written as literals in code; their values are in the structure.
        excluded: exclusions; their bytes are NOT verified.
    """

    consumed: int
    consumed_bytes: int
    consumed_hashed_bytes: int
    hashed: int
    hashed_bytes: int
    unconsumed: int
    unconsumed_bytes: int
    naive: int
    naive_bytes: int
    empty: int
    literals: int
    excluded: tuple[Exclusion, ...]

    @property
    def excluded_bytes(self) -> int:
        """Bytes that are NOT verified."""
        return sum(e.nbytes for e in self.excluded)

    def to_json(self) -> dict[str, object]:
        """Return the coverage as it stands in the statement."""
        return {
            "consumed": self.consumed,
            "consumedBytes": str(self.consumed_bytes),
            "consumedHashedBytes": str(self.consumed_hashed_bytes),
            "hashed": self.hashed,
            "hashedBytes": str(self.hashed_bytes),
            "unconsumed": self.unconsumed,
            "unconsumedBytes": str(self.unconsumed_bytes),
            "naive": self.naive,
            "naiveBytes": str(self.naive_bytes),
            "empty": self.empty,
            "literals": self.literals,
            "excluded": [
                {"name": e.name, "dtype": e.dtype, "shape": e.shape, "bytes": str(e.nbytes), "reason": e.reason}
                for e in self.excluded
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How the snapshot was taken.

    Attributes:
        engine: digest engine, such as ``hashlib-v1``.
        loader: which adapter opened the model, such as ``torch-module``.
        trace: one of `TRACES`.
        mapped: what was done about storages mapped to files: ``none`` there, copied ``private``, or verified ``first``.
        materialized: names of tensors that were copied to be digested, at the caller's request.
        extra: names given by the caller to tensors that no walk reaches.
    """

    engine: str
    loader: str
    trace: str
    mapped: str
    materialized: tuple[str, ...]
    extra: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the method as it stands in the statement."""
        return {
            "engine": self.engine,
            "loader": self.loader,
            "trace": self.trace,
            "mapped": self.mapped,
            "materialized": self.materialized,
            "extra": self.extra,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRef:
    """The environment document by digest, its class digest, and the policy by scheme and digest (`core.policy`)."""

    sha256: str
    class_digest: str
    policy: str
    policy_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is signed. See ``spec/manifest.md`` for each field.

    Attributes:
        product: name of the product that the model is deployed as.
        version: the product's own version text.
        serial: integer, rising with each manifest of the product.
        gate_stage: stage of the gate table.
        gate_view: view of the gate table.
        tables: all tables, the gate table among them.
        method: how they were taken.
        probe_set: digest of the probe-set file, or None where nothing was run.
        coverage: or None where nothing was run.
        structure: structure digest, or None for files.
        environment: or None for files.
        sources: weight, configuration, tokenizer, template and code files.
        evidence: what others signed about these files, verified when the model was weighed.
        validation: pairs (name, SHA-256) of reports that the signer refers to.
        reaction: what a running service does on a fault: ``halt``, ``drain`` or ``fallback:<root>``.
        derivation: the pack that the weights were rebuilt from, or None.
    """

    product: str
    version: str
    serial: int
    gate_stage: str
    gate_view: ViewKind
    tables: tuple[TableEntry, ...]
    method: Method
    probe_set: str | None
    coverage: Coverage | None
    structure: str | None
    environment: EnvironmentRef | None
    sources: tuple[Source, ...]
    validation: tuple[tuple[str, str], ...] = ()
    reaction: str = "halt"
    evidence: tuple[Evidence, ...] = ()
    derivation: Derivation | None = None

    def __post_init__(self) -> None:
        """Refuse what is no statement.

        Raises:
            ValueError: the gate table is not among the tables, a table or evidence stands twice, evidence has more
                files than there are sources, a text is wrong, the gate table of a live model stands without what its
                admission compares, or the derivation has a report that is not among `validation`.
        """
        kinds = [(t.stage, t.view) for t in self.tables]
        if len(set(kinds)) != len(kinds):
            raise ValueError("a table stands twice")
        if (self.gate_stage, self.gate_view) not in kinds:
            raise ValueError(f"the gate table {self.gate_stage}.{self.gate_view} is not among the tables")
        if len({e.sha256 for e in self.evidence}) != len(self.evidence):
            raise ValueError("evidence stands twice")
        if any(e.files > len(self.sources) for e in self.evidence):
            raise ValueError("evidence speaks of more files than there are sources")
        if not _REACTION.fullmatch(self.reaction):
            raise ValueError(f"reaction: expected halt, drain or fallback:<root>, found {self.reaction!r}")
        if not self.product or not self.version or self.serial < 0:
            found = f"found {self.product!r}, {self.version!r} and {self.serial}"
            raise ValueError(f"product and version must not be empty, and serial not negative; {found}")
        if self.gate_stage != "S0" and None in (self.probe_set, self.coverage, self.structure, self.environment):
            raise ValueError("a live gate table stands with probeSet, coverage, structure and environment")
        named = {digest for _, digest in self.validation}
        for report in self.derivation.reports if self.derivation else ():
            if report.sha256 not in named:
                raise ValueError(f"validation does not name the report {report.sha256} of the derivation")

    @property
    def gate_table(self) -> TableEntry:
        """The table that the gate compares; its root is the identity of the weights."""
        return next(t for t in self.tables if (t.stage, t.view) == (self.gate_stage, self.gate_view))

    def to_bytes(self) -> bytes:
        """Return the RFC 8785 bytes that are signed."""
        gate = self.gate_table
        return dumps(
            {
                "_type": STATEMENT_TYPE,
                "subject": [
                    {"name": "weights", "digest": {"sha256": gate.root}},
                    {"name": gate.file_name, "digest": {"sha256": gate.sha256}},
                ],
                "predicateType": PREDICATE_TYPE,
                "predicate": self._predicate(),
            }
        )

    def _predicate(self) -> dict[str, object]:
        return {
            "product": self.product,
            "version": self.version,
            "serial": self.serial,
            "schemes": dict(SCHEMES),
            "gateTable": {"stage": self.gate_stage, "view": self.gate_view},
            "tables": [t.to_json() for t in self.tables],
            "method": self.method.to_json(),
            "probeSet": self.probe_set,
            "coverage": self.coverage.to_json() if self.coverage else None,
            "structure": self.structure,
            "environment": _environment_json(self.environment),
            "sources": [
                {"path": s.path, "role": s.role, "bytes": str(s.nbytes), "sha256": s.sha256} for s in self.sources
            ],
            "evidence": [e.to_json() for e in self.evidence],
            "validation": [{"name": name, "sha256": digest} for name, digest in self.validation],
            "derivation": self.derivation.to_json() if self.derivation else None,
            # Reserved: the known answers fill it in; until then it is null in every statement.
            "answers": None,
            "reaction": self.reaction,
        }


def _environment_json(ref: EnvironmentRef | None) -> dict[str, object] | None:
    if ref is None:
        return None
    return {
        "sha256": ref.sha256,
        "classDigest": ref.class_digest,
        "policy": ref.policy,
        "policySha256": ref.policy_sha256,
    }
