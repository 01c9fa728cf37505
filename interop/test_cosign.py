# SPDX-License-Identifier: Apache-2.0
"""cosign on our bundles, by bare keys and by certificates, and our reader on what cosign signs. Offline."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from interop import certificates as by
from interop.bundles import GENUINE, edited, ours, seal_cases
from interop.conftest import BUILD, Release
from interop.test_model_signing import sources
from interop.verdicts import BOTH, LAXER, NEITHER, STRICTER, Verdicts, run

from weighmaster.core.statement import PREDICATE_TYPE
from weighmaster.core.statement_reader import parse_statement
from weighmaster.errors import SignatureFault
from weighmaster.flows.artefact import bind
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.evidence import OMS_TYPE, verify_evidence
from weighmaster.seal.keys import PublicKey

TOOL = "cosign"
PROGRAM = BUILD / "cosign" / "root" / "usr" / "bin" / "cosign"
OFFLINE = ("--yes", "--tlog-upload=false", "--use-signing-config=false")
# What it does not look at.
LAX = {"base64_line_end", "base64_pad_bits", "hint_of_another_key", "keyid_missing"}


@dataclass(frozen=True, kw_only=True)
class Cosign:
    """The command, in a home of its own."""

    work: Path
    version: str

    def __call__(self, *words: object) -> None:
        run([PROGRAM, *words], cwd=self.work, environment={"HOME": str(self.work), "COSIGN_PASSWORD": ""})

    def verify(self, bundle: Path, key: Path, *what: object, kind: str = PREDICATE_TYPE) -> None:
        """Verify an attestation; without a log, which bundles with a bare key do not have."""
        options = ("--bundle", bundle, "--key", key, "--type", kind, "--insecure-ignore-tlog")
        self("verify-blob-attestation", *options, *what)

    def verify_blob(self, bundle: Path, key: Path, blob: Path) -> None:
        self("verify-blob", "--bundle", bundle, "--key", key, "--insecure-ignore-tlog", blob)


@pytest.fixture(scope="module")
def cosign(tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    if not PROGRAM.exists():
        pytest.skip("cosign: is fetched by make interop-full alone")
    version = (BUILD / "cosign" / "version").read_text().strip()
    return Cosign(work=tmp_path_factory.mktemp("cosign"), version=version)


@pytest.fixture
def table(release: Release) -> Path:
    return release.folder / "manifest" / release.manifest.gate.file_name


def by_digest(root: str) -> tuple[str, ...]:
    return "--digest", root, "--digestAlg", "sha256"


@pytest.mark.requirement("REQ-INT-01")
@pytest.mark.parametrize("kind", ["ecdsa-p256-sha256", "ed25519"])
def test_seals(kind: str, cosign: Cosign, release: Release, table: Path, verdicts: Verdicts, tmp_path: Path) -> None:
    name, key = ("signer", release.key) if kind != "ed25519" else ("edwards", release.edwards)
    cases, path, found = seal_cases(release.manifest.payload, key, release.other), tmp_path / "bundle.json", {}
    for case, data in cases.items():
        path.write_bytes(data)
        found[case] = verdicts.ask(
            TOOL,
            cosign.version,
            f"{case}, {kind}",
            ours=lambda data=data: ours(data, key.public),
            theirs=lambda: cosign.verify(path, release.folder / f"{name}.pub", table),
        )
    assert found == {c: BOTH if c in GENUINE else LAXER if c in LAX else NEITHER for c in cases}


def hold(data: bytes, key: PublicKey, release: Release, table: bytes) -> None:
    """Verify as the gate does, in short: signature, statement, files bound to it."""
    payload = ours(data, key)
    parse_statement(payload, "statement")
    bind(payload, release.manifest.files() | {release.manifest.gate.file_name: table}, "manifest")


def test_what_the_seal_is_over(
    cosign: Cosign, release: Release, table: Path, verdicts: Verdicts, tmp_path: Path
) -> None:
    path, changed, cut = tmp_path / "bundle.json", tmp_path / "changed.jsonl", tmp_path / "cut.jsonl"
    good = make_bundle(release.manifest.payload, release.key)
    retyped = edited(release.manifest.payload, lambda s: s.update(predicateType=f"{PREDICATE_TYPE}x"))
    lines = table.read_bytes()
    changed.write_bytes(lines.replace(b'"float32"', b'"float16"', 1))
    cut.write_bytes(b"".join(lines.splitlines(keepends=True)[1:]))
    root = release.manifest.root
    ana = (release.key.public, release.public)
    cases: dict[str, tuple[bytes, tuple[PublicKey, Path], bytes, tuple[object, ...], str]] = {
        "table": (good, ana, lines, (table,), BOTH),
        "root by --digest": (good, ana, lines, by_digest(root), BOTH),
        "table with another dtype": (good, ana, changed.read_bytes(), (changed,), NEITHER),
        "table without a row": (good, ana, cut.read_bytes(), (cut,), NEITHER),
        "another key": (good, (release.other.public, release.stranger), lines, (table,), NEITHER),
        "another predicate type": (make_bundle(retyped, release.key), ana, lines, (table,), NEITHER),
    }
    found = {}
    for case, (data, (key, public), content, what, _) in cases.items():
        path.write_bytes(data)
        found[case] = verdicts.ask(
            TOOL,
            cosign.version,
            f"seal over {case}",
            ours=lambda data=data, key=key, content=content: hold(data, key, release, content),
            theirs=lambda public=public, what=what: cosign.verify(path, public, *what),
        )
    assert found == {case: wanted for case, (*_, wanted) in cases.items()}


def test_another_root(cosign: Cosign, release: Release, verdicts: Verdicts, tmp_path: Path) -> None:
    path, other = tmp_path / "bundle.json", hashlib.sha256(b"other").hexdigest()
    path.write_bytes(make_bundle(release.manifest.payload, release.key))

    def expect_root() -> None:
        found = parse_statement(ours(path.read_bytes(), release.key.public), "statement").gate_table.root
        if found != other:
            raise SignatureFault("root", "is another", expected=other, found=found)

    found = verdicts.ask(
        TOOL,
        cosign.version,
        "seal over another root by --digest",
        ours=expect_root,
        theirs=lambda: cosign.verify(path, release.public, *by_digest(other)),
    )
    assert found == NEITHER


def test_export(cosign: Cosign, release: Release, verdicts: Verdicts) -> None:
    path = release.folder / "model.sig"
    payload = json.loads(ours(path.read_bytes(), release.key.public))
    root = payload["subject"][0]["digest"]["sha256"]
    found = verdicts.ask(
        TOOL,
        cosign.version,
        "OMS export by --digest",
        ours=lambda: ours(path.read_bytes(), release.key.public),
        theirs=lambda: cosign.verify(path, release.public, *by_digest(root), kind=OMS_TYPE),
    )
    assert found == BOTH


# -- by certificates --------------------------------------------------------------------------------------------------

NO_LOGS = ("--insecure-ignore-tlog", "--insecure-ignore-sct", "--certificate-oidc-issuer-regexp", ".*")
CERTIFICATES_LAX = {
    "any purpose",
    "intermediate revoked",
    "no purpose",
    "serial number revoked",
    "the key revoked",
    "the name revoked",
    "timestamp from tomorrow",
    "timestamp without the certificate of its signer",
    "two timestamps",
}


def ask_by_certificate(cosign: Cosign, case: by.Case, *options: str) -> None:
    """Verify with the trusted root that we export. `options`: whether timestamps count."""
    for name, data in (("bundle.json", case.bundle), ("root.json", case.trusted_root), ("table", case.table)):
        (cosign.work / name).write_bytes(data)
    what = ("--certificate-identity", case.subject, "--type", PREDICATE_TYPE, "table")
    words = ("--bundle", "bundle.json", "--trusted-root", "root.json", *options, *NO_LOGS, *what)
    cosign("verify-blob-attestation", *words)


@pytest.mark.requirement("REQ-INT-06")
def test_certificates(
    cosign: Cosign, release: Release, certificates: Mapping[str, by.Case], verdicts: Verdicts
) -> None:
    found = by.put(
        TOOL, cosign.version, certificates, release.manifest, verdicts,
        lambda _, case: ask_by_certificate(cosign, case, "--use-signed-timestamps"),
    )  # fmt: skip
    assert found == {name: by.verdict_of(name, CERTIFICATES_LAX, {by.NO_TIMESTAMP}) for name in certificates}


# By the clock alone: neither can an expired certificate be shown to have been good, nor is any timestamp looked at.
BY_THE_CLOCK = {
    "timestamp within the validity": BOTH,
    "no timestamp": BOTH,
    "expired, no timestamp": NEITHER,
    "expired since, timestamp within": STRICTER,
    "not yet valid at the timestamp": LAXER,
    "timestamp of another signature": LAXER,
    "no timestamp authority listed": LAXER,
}


def test_certificates_where_timestamps_do_not_count(
    cosign: Cosign, release: Release, certificates: Mapping[str, by.Case], verdicts: Verdicts
) -> None:
    cases = {name: certificates[name] for name in BY_THE_CLOCK}
    found = by.put(
        TOOL, cosign.version, cases, release.manifest, verdicts,
        lambda _, case: ask_by_certificate(cosign, case), label="certificate, without --use-signed-timestamps",
    )  # fmt: skip
    assert found == BY_THE_CLOCK


# -- the other direction: evidence about sources, signed by cosign ----------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(os.urandom(1000))
    (folder / "config.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def signing_key(cosign: Cosign, release: Release) -> Path:
    if not (cosign.work / "own.key").exists():
        cosign("import-key-pair", "--key", release.folder / "signer", "-o", "own", "--yes")
    return cosign.work / "own.key"


CHANGES: dict[str, Callable[[Path], object]] = {
    "genuine": lambda _: None,
    "file changed": lambda m: (m / "model.safetensors").write_bytes(b"changed"),
    "file missing": lambda m: (m / "model.safetensors").unlink(),
    "another file in its place": lambda m: (m / "config.json").rename(m / "model.safetensors"),
}


def evidence(bundle: Path, key: PublicKey, model: Path) -> object:
    return verify_evidence(bundle.read_bytes(), "bundle", key, sources(model), is_source=lambda _: True)


@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("verb", ["sign-blob", "attest-blob"])
def test_evidence_by_cosign(
    verb: str, case: str, cosign: Cosign, signing_key: Path, release: Release, model: Path, verdicts: Verdicts,
    tmp_path: Path,
) -> None:  # fmt: skip
    bundle, blob, kind = tmp_path / "bundle.json", model / "model.safetensors", "https://example.org/v1"
    (tmp_path / "predicate.json").write_text('{"score":0.5}')
    more = ("--predicate", tmp_path / "predicate.json", "--type", kind) if verb == "attest-blob" else ()
    cosign(verb, "--key", signing_key, "--bundle", bundle, *OFFLINE, *more, blob)
    CHANGES[case](model)
    found = verdicts.ask(
        TOOL,
        cosign.version,
        f"evidence by {verb}: {case}",
        ours=lambda: evidence(bundle, release.key.public, model),
        theirs=lambda: (
            cosign.verify_blob(bundle, release.public, blob)
            if verb == "sign-blob"
            else cosign.verify(bundle, release.public, blob, kind=kind)
        ),
    )
    assert found == (BOTH if case == "genuine" else NEITHER)


def test_evidence_by_another_key(
    cosign: Cosign, signing_key: Path, release: Release, model: Path, verdicts: Verdicts, tmp_path: Path
) -> None:
    bundle, blob = tmp_path / "bundle.json", model / "model.safetensors"
    cosign("sign-blob", "--key", signing_key, "--bundle", bundle, *OFFLINE, blob)
    found = verdicts.ask(
        TOOL,
        cosign.version,
        "evidence by sign-blob: verified with another key",
        ours=lambda: evidence(bundle, release.other.public, model),
        theirs=lambda: cosign.verify_blob(bundle, release.stranger, blob),
    )
    assert found == NEITHER


def test_evidence_with_a_statement_of_our_own(
    cosign: Cosign, signing_key: Path, release: Release, model: Path, verdicts: Verdicts, tmp_path: Path
) -> None:
    bundle, kind = tmp_path / "bundle.json", "https://example.org/v1"
    subjects = [{"name": s.path, "digest": {"sha256": s.sha256}} for s in sources(model)]
    statement = {
        "_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": kind, "predicate": {"a": 1}
    }  # fmt: skip
    (tmp_path / "statement.json").write_text(json.dumps(statement))
    cosign(
        "attest-blob", "--key", signing_key, "--bundle", bundle, *OFFLINE, "--statement", tmp_path / "statement.json"
    )
    found = verdicts.ask(
        TOOL,
        cosign.version,
        "evidence by attest-blob: two subjects",
        ours=lambda: evidence(bundle, release.key.public, model),
        theirs=lambda: cosign.verify(bundle, release.public, model / "config.json", kind=kind),
    )
    assert found == BOTH


def test_one_subject_satisfies_cosign(
    cosign: Cosign, signing_key: Path, release: Release, model: Path, verdicts: Verdicts, tmp_path: Path
) -> None:
    """A statement that also speaks of a file that is not here: cosign looks at the file given to it, we at all."""
    test_evidence_with_a_statement_of_our_own(cosign, signing_key, release, model, Verdicts(), tmp_path)
    (model / "model.safetensors").write_bytes(b"changed")
    found = verdicts.ask(
        TOOL,
        cosign.version,
        "evidence by attest-blob: one of two files changed",
        ours=lambda: evidence(tmp_path / "bundle.json", release.key.public, model),
        theirs=lambda: cosign.verify(
            tmp_path / "bundle.json", release.public, model / "config.json", kind="https://example.org/v1"
        ),
    )
    assert found == LAXER
