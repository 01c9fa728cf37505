# SPDX-License-Identifier: Apache-2.0
"""Run the vectors of spec/seal.md: against this package, against OpenSSL, and against their own generator."""

from __future__ import annotations

import base64
import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from weighmaster.core.instant import instant_text, parse_instant
from weighmaster.errors import Fault, MalformedArtefact
from weighmaster.seal.bundle import open_sealed
from weighmaster.seal.check import identity_faults, signature_faults
from weighmaster.seal.trust import Trust
from weighmaster.seal.trust_document import parse_document, trust_to_bytes

ROOT = Path(__file__).parents[2] / "vectors" / "seal"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def _json(case: str, file: str) -> Any:
    return json.loads((ROOT / case / file).read_bytes())


def _bundles(case: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((path.name, path.read_bytes()) for path in sorted((ROOT / case).glob("*.sigstore.json")))


def _trust(case: str) -> Trust:
    return parse_document((ROOT / case / "trust-document.json").read_bytes(), "trust-document.json")


def _run(case: str) -> tuple[list[dict[str, str]], list[Exception]]:
    """Follow the numbered verification; return who signed, and the faults."""
    request = _json(case, "request.json")
    try:
        trust = _trust(case)
        sealed = open_sealed(_bundles(case))
    except (MalformedArtefact, Fault) as error:
        return [], [error]
    records, faults = signature_faults(sealed, trust, request["expect"], now=parse_instant(request.pop("now")))
    signers = [
        {
            "file": r.file,
            "person": r.person,
            "fingerprint": r.fingerprint,
            "by": r.by,
            "time": None if r.time is None else instant_text(r.time),
        }
        for r in records
    ]
    return signers, [*faults] if faults else [*identity_faults(trust, **request)]


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 13
    assert len(NEGATIVE) == 63


@pytest.mark.parametrize("case", POSITIVE)
def test_good_seals_hold(case: str) -> None:
    signers, faults = _run(case)
    assert faults == []
    assert signers == _json(case, "expect.json")["signers"]


@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_seals_do_not(case: str) -> None:
    expect = _json(case, "expect.json")
    _, faults = _run(case)
    assert [type(f).__name__ for f in faults] == [expect["error"]] * expect["count"]
    text = "\n".join(map(str, faults))
    assert [fact for fact in expect["contains"] if fact not in text] == []


@pytest.mark.parametrize("case", NEGATIVE)
def test_a_bad_case_has_one_fault_only(case: str) -> None:
    """The count of faults is more than one only where the bad signature was needed for the threshold as well."""
    _, faults = _run(case)
    others = [f for f in faults if "too few persons" not in str(f)]
    assert len(others) <= 1
    assert len(faults) - len(others) <= 1


def test_trust_documents_are_canonical() -> None:
    for case in POSITIVE:
        assert trust_to_bytes(_trust(case)) == (ROOT / case / "trust-document.json").read_bytes()


def test_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "generate.py"))["write"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(ROOT): path.read_bytes() for case in CASES for path in (ROOT / case).iterdir()}
    assert made.keys() == kept.keys()
    assert [str(path) for path in made if made[path] != kept[path]] == []


def _openssl(case: str, tmp_path: Path, *, spoil: bool) -> subprocess.CompletedProcess[str]:
    """Verify the first bundle with OpenSSL alone; the encoding is put together by hand from the document."""
    document = json.loads(_bundles(case)[0][1])
    envelope = document["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    pae = b"DSSEv1 " + str(len(kind)).encode() + b" " + kind + b" " + str(len(payload)).encode() + b" " + payload
    if spoil:
        pae = pae[:-1] + bytes([pae[-1] ^ 1])
    fingerprint = document["verificationMaterial"]["publicKey"]["hint"]
    key = _trust(case).key(fingerprint)
    assert key is not None
    names = {"key.pem": key.key.pem, "sig": base64.b64decode(envelope["signatures"][0]["sig"]), "pae": pae}
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    command = {
        "ecdsa-p256-sha256": ["dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "pae"],
        "ed25519": ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "pae", "-sigfile", "sig"],
    }[key.key.kind]
    return subprocess.run(["openssl", *command], cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", ["p256", "ed25519"])
def test_openssl_verifies_our_signature(case: str, tmp_path: Path) -> None:
    done = _openssl(case, tmp_path, spoil=False)
    assert done.returncode == 0, done.stderr
    assert "Verified" in done.stdout


@pytest.mark.parametrize("case", ["p256", "ed25519"])
def test_openssl_refuses_one_flipped_bit(case: str, tmp_path: Path) -> None:
    done = _openssl(case, tmp_path, spoil=True)
    assert done.returncode != 0
    assert "verification failure" in (done.stdout + done.stderr).lower()


def _material(case: str) -> Any:
    return json.loads(_bundles(case)[0][1])["verificationMaterial"]


def _openssl_ts(case: str, root: str, tmp_path: Path, *options: str, spoil: bool = False) -> str:
    """Verify the timestamp of the first bundle with OpenSSL alone."""
    document = json.loads(_bundles(case)[0][1])
    stamps = document["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    signature = base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"])
    (tmp_path / "sig").write_bytes(signature + b"\0" if spoil else signature)
    (tmp_path / "response.tsr").write_bytes(base64.b64decode(stamps[0]["signedTimestamp"]))
    (tmp_path / "root.pem").write_text(root)
    command = ["openssl", "ts", "-verify", "-in", "response.tsr", "-data", "sig", "-CAfile", "root.pem", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("case", [c for c in POSITIVE if "timestampVerificationData" in _material(c)])
def test_openssl_verifies_our_timestamps(case: str, tmp_path: Path) -> None:
    document = json.loads((ROOT / case / "trust-document.json").read_bytes())
    root = document["timestampAuthorities"][0]["certificates"][0]
    moment = str(int(parse_instant(_json(case, "expect.json")["signers"][0]["time"]).timestamp()))
    assert "Verification: OK" in _openssl_ts(case, root, tmp_path, "-attime", moment)
    assert "message imprint mismatch" in _openssl_ts(case, root, tmp_path, "-attime", moment, spoil=True)


@pytest.mark.parametrize("case", [c for c in POSITIVE if "certificate" in _material(c)])
def test_openssl_verifies_our_certificates(case: str, tmp_path: Path) -> None:
    (authority,) = json.loads((ROOT / case / "trust-document.json").read_bytes())["authorities"]
    leaf = base64.b64decode(_material(case)["certificate"]["rawBytes"])
    (tmp_path / "leaf.der").write_bytes(leaf)
    (tmp_path / "root.pem").write_text(authority["certificate"])
    (tmp_path / "between.pem").write_text("".join(authority["intermediates"]))
    command = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "between.pem", "-x509_strict"]
    moment = str(int(parse_instant("2030-06-01T12:00:00Z").timestamp()))
    done = subprocess.run(
        [*command, "-attime", moment, "leaf.der"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "leaf.der: OK\n", done.stderr
