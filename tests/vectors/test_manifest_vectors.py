# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/manifest.md: against this package, a second reading of the root, and their own generator."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weighmaster import errors
from weighmaster.core.compare import compare
from weighmaster.core.digest import digest_bytes
from weighmaster.core.manifest import LAYOUTS, ROLES, STAGES
from weighmaster.core.selftest import pattern
from weighmaster.core.source import ROLES as SOURCE_ROLES
from weighmaster.core.statement import EXCLUSION_REASONS, TRACES
from weighmaster.core.structure import Structure, StructureFact, structure_faults
from weighmaster.errors import Fault, NotAdmitted, SignatureFault, WeighmasterError
from weighmaster.flows.artefact import STATEMENT, Manifest, bind, read_manifest, write_manifest

ROOT = Path(__file__).parents[2] / "vectors" / "manifest"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def expectation(case: str) -> Any:
    return json.loads((ROOT / case / "expect.json").read_bytes())


def opened(case: str) -> Manifest:
    """Read the directory and bind it to the signed payload."""
    sealed = read_manifest(ROOT / case / "manifest")
    apart = ROOT / case / "payload.json"
    payload = apart.read_bytes() if apart.exists() else sealed.files[STATEMENT]
    return bind(payload, sealed.files, "manifest")


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 8
    assert len(NEGATIVE) == 72


@pytest.mark.parametrize("case", POSITIVE)
def test_good_manifests_are_bound(case: str) -> None:
    manifest, expect = opened(case), expectation(case)
    assert (manifest.root, len(manifest.gate.rows)) == (expect["root"], expect["count"])


@pytest.mark.requirement("REQ-ENV-10", "REQ-MAN-01", "REQ-MAN-04")
@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_manifests_are_refused(case: str) -> None:
    expect = expectation(case)
    with pytest.raises(WeighmasterError) as caught:
        opened(case)
    assert type(caught.value).__name__ == expect["error"]
    assert [text for text in expect["contains"] if text not in str(caught.value)] == []
    assert caught.value.exit_code == {"MalformedArtefact": 20, "SignatureFault": 13}[expect["error"]]


@pytest.mark.parametrize("case", POSITIVE)
def test_a_good_manifest_is_written_as_it_was_read(case: str, tmp_path: Path) -> None:
    manifest = opened(case)
    write_manifest(manifest, tmp_path / "again")
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert again.pop(STATEMENT) == manifest.payload
    read = {p.name: p.read_bytes() for p in (ROOT / case / "manifest").iterdir() if p.name != STATEMENT}
    assert again == read


def merkle_root(level: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, as a recursion."""
    if len(level) < 2:
        return level[0] if level else hashlib.sha256().digest()
    split = 1 << (len(level) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + merkle_root(level[:split]) + merkle_root(level[split:])).digest()


@pytest.mark.requirement("REQ-MAN-02")
@pytest.mark.parametrize("case", POSITIVE)
def test_a_second_reader_finds_the_same_root(case: str) -> None:
    apart = ROOT / case / "payload.json"
    statement = json.loads((apart if apart.exists() else ROOT / case / "manifest" / STATEMENT).read_bytes())
    weights, file = statement["subject"]
    data = (ROOT / case / "manifest" / file["name"]).read_bytes()
    lines = data.split(b"\n")
    assert lines.pop() == b""
    assert hashlib.sha256(data).hexdigest() == file["digest"]["sha256"]
    assert merkle_root([hashlib.sha256(b"\0" + line).digest() for line in lines]).hex() == weights["digest"]["sha256"]
    gate = statement["predicate"]["tables"][-1]
    assert (gate["root"], gate["count"]) == (weights["digest"]["sha256"], len(lines))
    primaries = [row for row in map(json.loads, lines) if row["alias"] is None]
    assert sum(row["nbytes"] for row in primaries) == int(gate["bytes"])


@pytest.mark.requirement("REQ-MAN-03")
@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "live" / "manifest").iterdir()))
def test_any_changed_file_is_noticed(name: str) -> None:
    """Each file of a good manifest, with each of some bytes flipped: never bound."""
    sealed = read_manifest(ROOT / "live" / "manifest")
    payload = sealed.files[STATEMENT]
    for at in range(0, len(sealed.files[name]), 97):
        data = bytearray(sealed.files[name])
        data[at] ^= 8
        with pytest.raises(SignatureFault):
            bind(payload, {**sealed.files, name: bytes(data)}, "manifest")


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "generate.py"))["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {p.relative_to(ROOT): p.read_bytes() for case in CASES for p in (ROOT / case).rglob("*") if p.is_file()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []


def spec(name: str) -> str:
    return (ROOT.parents[1] / "spec" / name).read_text(encoding="utf-8")


def test_examples_of_the_specification_are_real() -> None:
    rows = (ROOT / "live" / "manifest" / "tensors.S3.kernel.jsonl").read_text(encoding="utf-8").splitlines()
    assert f"```\n{rows[2]}\n{rows[3]}\n```" in spec("manifest.md")
    assert f"`{expectation('live')['root']}`" in spec("manifest.md")


def test_example_of_a_refusal_is_real() -> None:
    """The text in spec/admission.md is what the gate raises for these two faults."""
    validated = opened("live").gate
    flipped = bytearray(pattern(150_000))
    flipped[0] ^= 1
    digest = digest_bytes(bytes(flipped)).fsverity64k
    rows = tuple(replace(r, fsverity64k=digest) if r.name == "lm_head.weight" else r for r in validated.rows)
    diff = compare(validated, replace(validated, rows=rows))
    before, after = digest_bytes(pattern(150_000)).leaves, digest_bytes(bytes(flipped)).leaves
    hook = StructureFact(path="head#_forward_hooks[0]", kind="hook", value="evil.hook")
    faults = [
        *diff.byte_faults({"lm_head.weight": before}, {"lm_head.weight": after}),
        *structure_faults(Structure(facts=()), Structure(facts=(hook,))),
    ]
    raised = NotAdmitted("thorax-triage: the live model is not admitted", faults)
    assert f"```\n{raised}\n```" in spec("admission.md")
    assert f"the exit code is {raised.exit_code}:" in spec("admission.md")


def test_exit_codes_of_the_specification_are_those_of_the_classes() -> None:
    table = spec("admission.md").split("| code | meaning |")[1].split("\n\n")[0]
    rows = {int(line.split("|")[1]): line for line in table.splitlines() if line[2:3].isdigit()}
    for cls in (c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Fault) and c is not Fault):
        assert f"step {cls.step}, {cls.title}" in rows[cls.exit_code], cls
    assert {2, 20, 70} <= rows.keys()


def test_roles_layouts_and_reasons_of_the_specification_are_those_of_the_code() -> None:
    text = spec("manifest.md")
    for word in (*ROLES, *LAYOUTS, *STAGES, *EXCLUSION_REASONS, *TRACES, *SOURCE_ROLES):
        assert re.search(rf"[`| ]{re.escape(word)}[`| ,]", text), word
