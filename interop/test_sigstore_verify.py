# SPDX-License-Identifier: Apache-2.0
"""@sigstore/verify (npm) on our bundles, offline, by bare keys and by certificates."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest
from interop import certificates as by
from interop.bundles import GENUINE, encode, ours, seal_cases
from interop.conftest import BUILD, ROOT, Release
from interop.verdicts import BOTH, LAXER, NEITHER, Refused, Verdicts, run

TOOL = "@sigstore/verify"
MODULES = BUILD / "node_modules"
# What it does not look at; each is refused by us.
LAX = {"keyid_missing", "keyid_not_empty", "base64_line_end", "base64_pad_bits", "unknown_key", "key_twice"}


@pytest.fixture(scope="module")
def node(tool: Callable[[str], str]) -> str:
    found = tool("node")
    if not (MODULES / "@sigstore/verify").is_dir():
        pytest.skip(f"{TOOL}: not installed in {MODULES.relative_to(ROOT)} (npm ci, by make interop)")
    return found


@pytest.fixture(scope="module")
def version(node: str) -> str:
    return str(json.loads((MODULES / "@sigstore/verify/package.json").read_bytes())["version"])


def ask(node: str, bundles: Mapping[str, bytes], key: bytes, hint: str) -> dict[str, str | None]:
    by_key = {"key": key.decode(), "hint": hint}
    return put_questions(node, {case: {"bundle": encode(data), **by_key} for case, data in bundles.items()})


def put_questions(node: str, questions: Mapping[str, object]) -> dict[str, str | None]:
    words = [node, ROOT / "interop/verify.cjs"]
    answer = run(words, environment={"NODE_PATH": str(MODULES)}, data=json.dumps(questions).encode())
    said: dict[str, str | None] = json.loads(answer)
    assert set(said) == set(questions)
    return said


def refuse(reason: str | None) -> None:
    if reason is not None:
        raise Refused(reason)


def test_seals(node: str, version: str, release: Release, verdicts: Verdicts) -> None:
    cases, key = seal_cases(release.manifest.payload, release.key, release.other), release.key.public
    said = ask(node, cases, key.pem, key.fingerprint)
    found = {
        case: verdicts.ask(
            TOOL,
            version,
            case,
            ours=lambda data=data: ours(data, key),
            theirs=lambda case=case: refuse(said[case]),
        )
        for case, data in cases.items()
    }
    assert found == {c: BOTH if c in GENUINE else LAXER if c in LAX else NEITHER for c in cases}


@pytest.mark.parametrize("named", [True, False], ids=["named by its own hint", "named by the hint in the bundle"])
def test_another_key(node: str, version: str, release: Release, verdicts: Verdicts, named: bool) -> None:
    good = seal_cases(release.manifest.payload, release.key, release.other)["genuine"]
    other = release.other.public
    hint = other.fingerprint if named else release.key.public.fingerprint
    said = ask(node, {"genuine": good}, other.pem, hint)["genuine"]
    case = f"verified with another key, {'its own' if named else 'the same'} hint"
    assert verdicts.ask(TOOL, version, case, ours=lambda: ours(good, other), theirs=lambda: refuse(said)) == NEITHER


def test_ed25519(node: str, version: str, release: Release, verdicts: Verdicts) -> None:
    cases, key = seal_cases(release.manifest.payload, release.edwards, release.other), release.edwards.public
    said = ask(node, cases, key.pem, key.fingerprint)
    found = {
        case: verdicts.ask(
            TOOL,
            version,
            f"{case}, Ed25519",
            ours=lambda data=data: ours(data, key),
            theirs=lambda case=case: refuse(said[case]),
        )
        for case, data in cases.items()
    }
    assert found == {c: BOTH if c in GENUINE else LAXER if c in LAX else NEITHER for c in cases}


def test_export(node: str, version: str, release: Release, verdicts: Verdicts) -> None:
    data, key = (release.folder / "model.sig").read_bytes(), release.key.public
    said = ask(node, {"export": data}, key.pem, key.fingerprint)["export"]
    found = verdicts.ask(TOOL, version, "OMS export", ours=lambda: ours(data, key), theirs=lambda: refuse(said))
    assert found == BOTH


# -- by certificates --------------------------------------------------------------------------------------------------

# It looks at no purposes, at nobody's revocations, and at no timestamp's status; what is trusted says who stamps.
CERTIFICATES_LAX = {
    "any purpose",
    "for servers",
    "intermediate revoked",
    "no purpose",
    "serial number revoked",
    "the key revoked",
    "the name revoked",
    "timestamp by a certificate for code as well",
    "timestamp by a certificate for it, not critical",
    "timestamp from tomorrow",
    "timestamp that was not granted",
    "timestamp without the certificate of its signer",
}


@pytest.mark.requirement("REQ-INT-06")
def test_certificates(
    node: str, version: str, release: Release, certificates: Mapping[str, by.Case], verdicts: Verdicts
) -> None:
    cases = {name: case for name, case in certificates.items() if name != by.ANOTHER_TABLE}  # it asks for no table
    said = put_questions(
        node,
        {
            name: {"bundle": encode(c.bundle), "trustedRoot": json.loads(c.trusted_root), "identity": c.subject}
            for name, c in cases.items()
        },
    )
    found = by.put(TOOL, version, cases, release.manifest, verdicts, lambda name, _: refuse(said[name]))
    assert found == {name: by.verdict_of(name, CERTIFICATES_LAX, {by.NO_TIMESTAMP, by.ROOT_ALONE}) for name in cases}
