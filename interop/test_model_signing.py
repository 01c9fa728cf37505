# SPDX-License-Identifier: Apache-2.0
"""The OpenSSF tool on our export, and our reader on what the tool signs. The tool is run as its users run it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path

import pytest
from interop.bundles import GENUINE, Json, edited, seal_cases
from interop.conftest import Release
from interop.test_dump import ATTACKS as DUMPS
from interop.verdicts import BOTH, LAXER, NEITHER, STRICTER, Refused, Verdicts, run

from weighmaster.core.source import Evidence, Source
from weighmaster.seal.bundle import make_bundle, parse_bundle
from weighmaster.seal.evidence import verify_evidence
from weighmaster.seal.keys import PublicKey, load_public

command = pytest.importorskip("model_signing._cli", reason="model-signing: not installed")
testing = pytest.importorskip("click.testing")

TOOL, VERSION = "model_signing", version_of("model-signing")
PROGRAM = Path(sys.executable).with_name("model_signing")
# What it does not look at: it takes the first signature, the last of equal keys, and any spelling of base64.
LAX = {"two_signatures", "base64_line_end", "base64_pad_bits", "key_twice"}


def tool(*words: object) -> None:
    """Run the command in this process: its own parser and code, without seconds of imports for each run."""
    done = testing.CliRunner().invoke(command.main, [str(word) for word in words])
    if done.exit_code != 0:
        raise Refused(done.output)


def verify(dump: Path, bundle: Path, key: Path, *options: str) -> None:
    tool("verify", "key", dump, "--signature", bundle, "--public_key", key, *options)


def sources(folder: Path) -> tuple[Source, ...]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return tuple(
        Source(
            path=str(p.relative_to(folder)),
            role="other",
            nbytes=p.stat().st_size,
            sha256=hashlib.sha256(p.read_bytes()).hexdigest(),
        )
        for p in files
    )


def ours(folder: Path, bundle: Path, key: PublicKey) -> Evidence:
    """Read the bundle as evidence about exactly the files of the folder."""
    return verify_evidence(bundle.read_bytes(), "bundle", key, sources(folder), is_source=lambda _: True)


@pytest.fixture
def dump(release: Release, tmp_path: Path) -> Path:
    """A copy to attack."""
    return Path(shutil.copytree(release.dump, tmp_path / "dump"))


def extra(dump: Path) -> None:
    (dump / "extra.bin").write_bytes(b"extra")


@pytest.mark.requirement("REQ-INT-03")
@pytest.mark.parametrize("case", [*DUMPS, "extra file"])
def test_export_over_a_dump(case: str, release: Release, dump: Path, verdicts: Verdicts) -> None:
    (DUMPS | {"extra file": extra})[case](dump)
    bundle = release.folder / "model.sig"
    found = verdicts.ask(
        TOOL,
        VERSION,
        f"export: {case}",
        ours=lambda: ours(dump, bundle, release.key.public),
        theirs=lambda: verify(dump, bundle, release.public),
    )
    assert found == (BOTH if case == "genuine" else NEITHER)


@pytest.mark.parametrize("attack", [False, True])
def test_the_command_as_a_process_of_its_own(attack: bool, release: Release, dump: Path, verdicts: Verdicts) -> None:
    if attack:
        DUMPS["bit of a small tensor"](dump)
    bundle, key = release.folder / "model.sig", release.public
    found = verdicts.ask(
        TOOL,
        VERSION,
        f"export: {'bit of a small tensor' if attack else 'genuine'}, own process",
        ours=lambda: ours(dump, bundle, release.key.public),
        theirs=lambda: run([PROGRAM, "verify", "key", dump, "--signature", bundle, "--public_key", key]),
    )
    assert found == (NEITHER if attack else BOTH)


@pytest.mark.parametrize("option", ["--ignore_unsigned_files", "--ignore-paths"])
def test_options_that_pass_over_an_extra_file(option: str, release: Release, dump: Path, verdicts: Verdicts) -> None:
    extra(dump)
    options = (option,) if option == "--ignore_unsigned_files" else (option, str(dump / "extra.bin"))
    bundle = release.folder / "model.sig"
    found = verdicts.ask(
        TOOL,
        VERSION,
        f"export: extra file, {option}",
        ours=lambda: ours(dump, bundle, release.key.public),
        theirs=lambda: verify(dump, bundle, release.public, *options),
    )
    assert found == LAXER


def test_another_key(release: Release, verdicts: Verdicts) -> None:
    bundle = release.folder / "model.sig"
    found = verdicts.ask(
        TOOL,
        VERSION,
        "export: verified with another key",
        ours=lambda: ours(release.dump, bundle, release.other.public),
        theirs=lambda: verify(release.dump, bundle, release.stranger),
    )
    assert found == NEITHER


def test_bundles_with_one_fault(release: Release, verdicts: Verdicts, tmp_path: Path) -> None:
    payload = parse_bundle((release.folder / "model.sig").read_bytes(), "model.sig").payload
    cases = seal_cases(payload, release.key, release.other)
    path = tmp_path / "bundle.sig"
    found = {}
    for case, data in cases.items():
        path.write_bytes(data)
        found[case] = verdicts.ask(
            TOOL,
            VERSION,
            f"export: {case}",
            ours=lambda: ours(release.dump, path, release.key.public),
            theirs=lambda: verify(release.dump, path, release.public),
        )
    # As evidence, key ids and log entries are not read (spec/evidence.md); it chokes on an entry that is none.
    tolerated = {"keyid_missing": BOTH, "keyid_not_empty": BOTH, "log_entry": STRICTER}
    expected = {c: BOTH if c in GENUINE else LAXER if c in LAX else NEITHER for c in cases}
    assert found == expected | tolerated


STATEMENTS: dict[str, tuple[Callable[[Json], object], str]] = {
    "another predicate type": (lambda s: s.update(predicateType="https://example.org/v1"), NEITHER),
    "another statement type": (lambda s: s.update(_type="https://in-toto.io/Statement/v2"), NEITHER),
    "two subjects": (lambda s: s["subject"].append(s["subject"][0]), NEITHER),
    "root of other digests": (lambda s: s["subject"][0]["digest"].update(sha256="0" * 64), NEITHER),
    "a digest of other bytes": (lambda s: s["predicate"]["resources"][0].update(digest="0" * 64), NEITHER),
    "a resource less": (lambda s: s["predicate"]["resources"].pop(), NEITHER),
    # The command hashes with SHA-256 whatever the statement says, and compares with what it says of each resource.
    "another hash": (lambda s: s["predicate"]["serialization"].update(hash_type="blake3"), LAXER),
    "shards": (lambda s: s["predicate"]["serialization"].update(method="shards", shard_size=100), NEITHER),
    "an extra field in the predicate": (lambda s: s["predicate"].update(note=""), BOTH),
}


def test_statements_signed_by_the_right_key(release: Release, verdicts: Verdicts, tmp_path: Path) -> None:
    payload = parse_bundle((release.folder / "model.sig").read_bytes(), "model.sig").payload
    path, found = tmp_path / "bundle.sig", {}
    for case, (edit, _) in STATEMENTS.items():
        path.write_bytes(make_bundle(edited(payload, edit), release.key))
        found[case] = verdicts.ask(
            TOOL,
            VERSION,
            f"export: {case}",
            ours=lambda: ours(release.dump, path, release.key.public),
            theirs=lambda: verify(release.dump, path, release.public),
        )
    assert found == {case: wanted for case, (_, wanted) in STATEMENTS.items()}


def test_renames_that_keep_the_order_keep_the_root(release: Release, dump: Path, verdicts: Verdicts) -> None:
    """The subject's digest does not bind names (spec/export-oms.md); the signature does, and both see the rename."""
    payload = json.loads(parse_bundle((release.folder / "model.sig").read_bytes(), "model.sig").payload)
    digests = b"".join(bytes.fromhex(r["digest"]) for r in payload["predicate"]["resources"])
    assert payload["subject"][0]["digest"]["sha256"] == hashlib.sha256(digests).hexdigest()
    (dump / "up.weight.bin").rename(dump / "up.weighu.bin")
    bundle = release.folder / "model.sig"
    found = verdicts.ask(
        TOOL,
        VERSION,
        "export: renamed in order",
        ours=lambda: ours(dump, bundle, release.key.public),
        theirs=lambda: verify(dump, bundle, release.public),
    )
    assert found == NEITHER


# -- the other direction: evidence about sources, signed by the tool ---------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "sub/a.bin"):
        (folder / name).write_bytes(os.urandom(100))
    return folder


def sign(release: Release, model: Path, bundle: Path, *options: str) -> Path:
    tool("sign", "key", model, "--signature", bundle, "--private_key", release.folder / "signer", *options)
    return bundle


CHANGES: dict[str, Callable[[Path], object]] = {
    "genuine": lambda _: None,
    "file changed": lambda m: (m / "config.json").write_bytes(b"{}"),
    "file missing": lambda m: (m / "config.json").unlink(),
    "file renamed": lambda m: (m / "config.json").rename(m / "configs.json"),
    "file moved": lambda m: (m / "sub/a.bin").rename(m / "a.bin"),
    "extra file": lambda m: (m / "modeling.py").write_bytes(b""),
}


@pytest.mark.parametrize("case", CHANGES)
def test_evidence_by_the_tool(case: str, release: Release, model: Path, verdicts: Verdicts, tmp_path: Path) -> None:
    bundle = sign(release, model, tmp_path / "model.sig")
    CHANGES[case](model)
    found = verdicts.ask(
        TOOL,
        VERSION,
        f"evidence: {case}",
        ours=lambda: ours(model, bundle, release.key.public),
        theirs=lambda: verify(model, bundle, release.public),
    )
    assert found == (BOTH if case == "genuine" else NEITHER)


def test_evidence_by_another_key(release: Release, model: Path, verdicts: Verdicts, tmp_path: Path) -> None:
    bundle = sign(release, model, tmp_path / "model.sig")
    found = verdicts.ask(
        TOOL,
        VERSION,
        "evidence: verified with another key",
        ours=lambda: ours(model, bundle, load_public(release.stranger)),
        theirs=lambda: verify(model, bundle, release.stranger),
    )
    assert found == NEITHER


def test_evidence_that_ignored_a_file(release: Release, model: Path, verdicts: Verdicts, tmp_path: Path) -> None:
    bundle = sign(release, model, tmp_path / "model.sig", "--ignore-paths", str(model / "config.json"))
    found = verdicts.ask(
        TOOL,
        VERSION,
        "evidence: a file was ignored in signing",
        ours=lambda: ours(model, bundle, release.key.public),
        theirs=lambda: verify(model, bundle, release.public),
    )
    assert found == LAXER
