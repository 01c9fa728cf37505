# SPDX-License-Identifier: Apache-2.0
"""Read the bytes of a statement, strictly, field by field (manifest v1, "Statement")."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, get_args

from weighmaster.core.canonical import loads_canonical
from weighmaster.core.derivation import read_derivation
from weighmaster.core.dtype import DTYPES
from weighmaster.core.fields import Fields
from weighmaster.core.manifest import STAGES
from weighmaster.core.policy import SCHEME as POLICY_SCHEME
from weighmaster.core.source import EVIDENCE_KINDS, Evidence, Source, path_problem
from weighmaster.core.source import ROLES as SOURCE_ROLES
from weighmaster.core.statement import (
    EXCLUSION_REASONS,
    MAPPED,
    PREDICATE_TYPE,
    SCHEMES,
    STATEMENT_TYPE,
    TRACES,
    Coverage,
    EnvironmentRef,
    Exclusion,
    Method,
    Statement,
    TableEntry,
)
from weighmaster.core.tensor import ViewKind
from weighmaster.errors import MalformedArtefact

__all__ = ["parse_statement"]

T = TypeVar("T")


def parse_statement(data: bytes, file: str) -> Statement:
    """Parse the bytes of a statement, strictly; call it after the signature over `data` holds.

    Raises:
        MalformedArtefact: not canonical, of another type, a field wrong or unknown, or subjects that do not follow from
            the gate table.
    """
    top = Fields(loads_canonical(data, file), file=file)
    top.text("_type", choices=(STATEMENT_TYPE,))
    top.text("predicateType", choices=(PREDICATE_TYPE,))
    subjects = top.objects("subject", _read_subject)
    predicate = top.nested("predicate")
    top.done()
    try:
        statement = _read_predicate(predicate)
    except ValueError as error:
        raise MalformedArtefact(file, "predicate", expected="a consistent statement", found=str(error)) from None
    gate = statement.gate_table
    expected = (("weights", gate.root), (gate.file_name, gate.sha256))
    if subjects != expected:
        raise MalformedArtefact(file, "subject", expected=f"{expected}, from the gate table", found=str(subjects))
    return statement


def _read_subject(fields: Fields) -> tuple[str, str]:
    name, digest = fields.text("name"), fields.nested("digest")
    value = digest.digest("sha256")
    digest.done()
    return name, value


def _read_predicate(fields: Fields) -> Statement:
    _read_schemes(fields)
    gate = fields.nested("gateTable")
    out = Statement(
        product=fields.text("product"),
        version=fields.text("version"),
        serial=fields.integer("serial"),
        gate_stage=gate.text("stage", choices=STAGES),
        gate_view=_view(gate),
        tables=fields.objects("tables", _read_table),
        method=_read_method(fields.nested("method")),
        probe_set=fields.optional_digest("probeSet"),
        coverage=_optional(fields, "coverage", _read_coverage),
        structure=fields.optional_digest("structure"),
        environment=_optional(fields, "environment", _read_environment),
        sources=fields.objects("sources", _read_source),
        evidence=fields.objects("evidence", _read_evidence),
        validation=fields.objects("validation", lambda f: (f.text("name"), f.digest("sha256"))),
        reaction=fields.text("reaction"),
        derivation=_optional(fields, "derivation", read_derivation),
    )
    gate.done()
    if fields.any("answers") is not None:
        raise fields.fault("answers", "null, in this version", "a value")
    fields.done()
    return out


def _optional(fields: Fields, key: str, read: Callable[[Fields], T]) -> T | None:
    value = fields.any(key)
    if value is None:
        return None
    nested = Fields(value, file=fields.file, path=fields.at(key))
    out = read(nested)
    nested.done()
    return out


def _read_schemes(fields: Fields) -> None:
    schemes = fields.nested("schemes")
    for key, value in SCHEMES:
        schemes.text(key, choices=(value,))
    schemes.done()


def _view(fields: Fields) -> ViewKind:
    return "kernel" if fields.text("view", choices=get_args(ViewKind)) == "kernel" else "logical"


def _read_table(fields: Fields) -> TableEntry:
    return TableEntry(
        stage=fields.text("stage", choices=STAGES),
        view=_view(fields),
        root=fields.digest("root"),
        sha256=fields.digest("sha256"),
        count=fields.integer("count"),
        nbytes=fields.decimal("bytes"),
    )


def _read_method(fields: Fields) -> Method:
    out = Method(
        engine=fields.text("engine"),
        loader=fields.text("loader"),
        trace=fields.text("trace", choices=TRACES),
        mapped=fields.text("mapped", choices=MAPPED),
        materialized=fields.texts("materialized"),
        extra=fields.texts("extra"),
    )
    fields.done()
    return out


def _read_coverage(fields: Fields) -> Coverage:
    return Coverage(
        consumed=fields.integer("consumed"),
        consumed_bytes=fields.decimal("consumedBytes"),
        consumed_hashed_bytes=fields.decimal("consumedHashedBytes"),
        hashed=fields.integer("hashed"),
        hashed_bytes=fields.decimal("hashedBytes"),
        unconsumed=fields.integer("unconsumed"),
        unconsumed_bytes=fields.decimal("unconsumedBytes"),
        naive=fields.integer("naive"),
        naive_bytes=fields.decimal("naiveBytes"),
        empty=fields.integer("empty"),
        literals=fields.integer("literals"),
        excluded=fields.objects("excluded", _read_exclusion),
    )


def _read_exclusion(fields: Fields) -> Exclusion:
    return Exclusion(
        name=fields.text("name"),
        dtype=fields.text("dtype", choices=frozenset(DTYPES)),
        shape=fields.integers("shape"),
        nbytes=fields.decimal("bytes"),
        reason=fields.text("reason", choices=EXCLUSION_REASONS),
    )


def _read_environment(fields: Fields) -> EnvironmentRef:
    return EnvironmentRef(
        sha256=fields.digest("sha256"),
        class_digest=fields.digest("classDigest"),
        policy=fields.text("policy", choices=(POLICY_SCHEME,)),
        policy_sha256=fields.digest("policySha256"),
    )


def _read_source(fields: Fields) -> Source:
    path = fields.text("path")
    if problem := path_problem(path):
        raise fields.fault("path", "a relative path", problem)
    return Source(
        path=path,
        role=fields.text("role", choices=SOURCE_ROLES),
        nbytes=fields.decimal("bytes"),
        sha256=fields.digest("sha256"),
    )


def _read_evidence(fields: Fields) -> Evidence:
    return Evidence(
        kind=fields.text("kind", choices=EVIDENCE_KINDS),
        sha256=fields.digest("sha256"),
        key=fields.digest("key"),
        files=fields.integer("files", minimum=1),
    )
