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

from weighmaster.errors import Fault, MalformedArtefact
from weighmaster.seal.bundle import open_sealed
from weighmaster.seal.check import identity_faults, signature_faults
from weighmaster.seal.trust import parse_trust, trust_to_bytes

ROOT = Path(__file__).parents[2] / "vectors" / "seal"
CASES = sorted(path.name for path in ROOT.iterdir() if (path / "expect.json").exists())
NEGATIVE = [name for name in CASES if name.endswith("_fail")]
POSITIVE = [name for name in CASES if not name.endswith("_fail")]


def _json(case: str, file: str) -> Any:
    return json.loads((ROOT / case / file).read_bytes())


def _bundles(case: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((path.name, path.read_bytes()) for path in sorted((ROOT / case).glob("*.sigstore.json")))


def _run(case: str) -> tuple[list[dict[str, str]], list[Exception]]:
    """Follow the numbered verification; return who signed, and the faults."""
    request = _json(case, "request.json")
    try:
        trust = parse_trust((ROOT / case / "trust.json").read_bytes(), "trust.json")
        sealed = open_sealed(_bundles(case))
    except (MalformedArtefact, Fault) as error:
        return [], [error]
    records, faults = signature_faults(sealed, trust, request["expect"])
    signers = [{"file": r.file, "person": r.person, "fingerprint": r.fingerprint} for r in records]
    return signers, [*faults] if faults else [*identity_faults(trust, **request)]


def test_vectors_are_all_there() -> None:
    assert len(POSITIVE) == 5
    assert len(NEGATIVE) == 36


@pytest.mark.parametrize("case", POSITIVE)
def test_good_seals_hold(case: str) -> None:
    signers, faults = _run(case)
    assert faults == []
    assert signers == _json(case, "expect.json")["signers"]


@pytest.mark.requirement("REQ-SEA-05", "REQ-TRU-06")
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


def test_trust_files_are_canonical() -> None:
    for case in POSITIVE:
        data = (ROOT / case / "trust.json").read_bytes()
        assert trust_to_bytes(parse_trust(data, "trust.json")) == data


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
    key = parse_trust((ROOT / case / "trust.json").read_bytes(), "trust.json").key(fingerprint)
    assert key is not None
    names = {"key.pem": key.key.pem, "sig": base64.b64decode(envelope["signatures"][0]["sig"]), "pae": pae}
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    command = {
        "ecdsa-p256-sha256": ["dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "pae"],
        "ed25519": ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "pae", "-sigfile", "sig"],
    }[key.key.kind]
    return subprocess.run(["openssl", *command], cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.requirement("REQ-SEA-11")
@pytest.mark.parametrize("case", ["p256", "ed25519"])
def test_openssl_verifies_our_signature(case: str, tmp_path: Path) -> None:
    done = _openssl(case, tmp_path, spoil=False)
    assert done.returncode == 0, done.stderr
    assert "Verified" in done.stdout


@pytest.mark.requirement("REQ-SEA-11")
@pytest.mark.parametrize("case", ["p256", "ed25519"])
def test_openssl_refuses_one_flipped_bit(case: str, tmp_path: Path) -> None:
    done = _openssl(case, tmp_path, spoil=True)
    assert done.returncode != 0
    assert "verification failure" in (done.stdout + done.stderr).lower()
