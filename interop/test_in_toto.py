# SPDX-License-Identifier: Apache-2.0
"""in-toto-attestation on our statements: that of a manifest, and that of the export."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Any

import pytest
from interop.bundles import edited, ours
from interop.conftest import Release
from interop.verdicts import BOTH, LAXER, NEITHER, Verdicts, refusing

from weighmaster.core.statement_reader import parse_statement
from weighmaster.seal.bundle import parse_bundle

json_format = pytest.importorskip("google.protobuf.json_format", reason="in-toto-attestation: not installed")
statements = pytest.importorskip("in_toto_attestation.v1.statement", reason="in-toto-attestation: not installed")
messages = pytest.importorskip("in_toto_attestation.v1.statement_pb2")

TOOL, VERSION = "in-toto-attestation", version_of("in-toto-attestation")
REFUSALS = (json_format.ParseError, ValueError)
Json = dict[str, Any]


def validate(data: bytes) -> Any:
    message = json_format.Parse(data, messages.Statement())
    statement = statements.Statement.copy_from_pb(message)
    statement.validate()
    return statement.pb


CASES: dict[str, tuple[Callable[[Json], object], str]] = {
    "statement type": (lambda s: s.update(_type="https://in-toto.io/Statement/v2"), NEITHER),
    "no subject": (lambda s: s.update(subject=[]), NEITHER),
    "subject without digest": (lambda s: s["subject"][0].update(digest={}), NEITHER),
    "subject that is no object": (lambda s: s["subject"].append("weights"), NEITHER),
    "no predicate type": (lambda s: s.update(predicateType=""), NEITHER),
    "no predicate": (lambda s: s.update(predicate={}), NEITHER),
    "predicate that is no object": (lambda s: s.update(predicate=[]), NEITHER),
    "unknown key": (lambda s: s.update(note=""), NEITHER),
    # It knows the frame and not what is in it.
    "another predicate type": (lambda s: s.update(predicateType="https://example.org/v1"), LAXER),
    "digest of another table": (lambda s: s["subject"][1]["digest"].update(sha256="0" * 64), LAXER),
    "digest that is none": (lambda s: s["subject"][0]["digest"].update(sha256="x"), LAXER),
    "third subject": (lambda s: s["subject"].append(s["subject"][0]), LAXER),
    "one subject": (lambda s: s["subject"].pop(), LAXER),
    "unknown key in the predicate": (lambda s: s["predicate"].update(note=""), LAXER),
    "missing key in the predicate": (lambda s: s["predicate"].pop("tables"), LAXER),
}


def verdict(verdicts: Verdicts, case: str, data: bytes) -> str:
    return verdicts.ask(
        TOOL,
        VERSION,
        case,
        ours=lambda: parse_statement(data, "statement"),
        theirs=refusing(REFUSALS, lambda: validate(data)),
    )


def test_edited_statements(release: Release, verdicts: Verdicts) -> None:
    payload = release.manifest.payload
    found = {case: verdict(verdicts, case, edited(payload, edit)) for case, (edit, _) in CASES.items()}
    assert found == {case: wanted for case, (_, wanted) in CASES.items()}


def test_spellings(release: Release, verdicts: Verdicts) -> None:
    data = release.manifest.payload
    spelt = {
        "genuine": data,
        "truncated": data[:-1],
        "trailing bytes": data + b"{}",
        "key twice": data.replace(b'{"_type":', b'{"_type":"x","_type":', 1),
        "not canonical": json.dumps(json.loads(data), indent=1).encode(),
    }
    found = {case: verdict(verdicts, case, each) for case, each in spelt.items()}
    assert found == {**dict.fromkeys(spelt, NEITHER), "genuine": BOTH, "not canonical": LAXER}


@pytest.mark.requirement("REQ-INT-02")
def test_they_read_what_we_wrote(release: Release) -> None:
    found, ours = validate(release.manifest.payload), release.manifest.statement
    assert [(s.name, dict(s.digest)) for s in found.subject] == [
        ("weights", {"sha256": ours.gate_table.root}),
        (ours.gate_table.file_name, {"sha256": ours.gate_table.sha256}),
    ]
    assert found.predicate["product"] == ours.product
    assert json_format.MessageToDict(found)["predicate"]["tables"][1]["root"] == ours.gate_table.root


def test_the_export_is_a_statement(release: Release, verdicts: Verdicts) -> None:
    data = (release.folder / "model.sig").read_bytes()
    payload = parse_bundle(data, "model.sig").payload
    found = verdicts.ask(
        TOOL,
        VERSION,
        "OMS export",
        ours=lambda: ours(data, release.key.public),
        theirs=refusing(REFUSALS, lambda: validate(payload)),
    )
    assert found == BOTH
