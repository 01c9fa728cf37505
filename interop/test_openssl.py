# SPDX-License-Identifier: Apache-2.0
"""OpenSSL verifies our signatures over an encoding that this file builds by itself, and we verify OpenSSL's."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from interop import certificates as by
from interop.bundles import GENUINE, encode, material, ours, seal_cases, signed
from interop.conftest import Release
from interop.verdicts import BOTH, LAXER, NEITHER, Refused, Verdicts, run

from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.keys import load_private, load_public

# OpenSSL is given a message and a signature: it sees neither what stands around them nor how they were spelt.
UNSEEN = {
    "hint_of_another_key",
    "two_signatures",
    "keyid_missing",
    "keyid_not_empty",
    "base64_line_end",
    "base64_pad_bits",
    "log_entry",
    "media_type",
    "unknown_key",
    "key_twice",  # readers of JSON take the last one, which here is the right one
}


@pytest.fixture(scope="module")
def openssl(tool: Callable[[str], str]) -> str:
    return tool("openssl")


@pytest.fixture(scope="module")
def version(openssl: str) -> str:
    return run([openssl, "version"]).split()[1]


def by_hand(data: bytes) -> tuple[bytes, bytes]:
    """Return what is signed and the signature, from a bundle, by the standard library alone."""
    try:
        envelope = json.loads(data)["dsseEnvelope"]
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
    except (ValueError, IndexError) as error:
        raise Refused(str(error)) from error
    return b"DSSEv1 " + b" ".join([b"%d" % len(kind), kind, b"%d" % len(payload), payload]), signature


def verify(openssl: str, data: bytes, key: Path, work: Path) -> None:
    message, signature = by_hand(data)
    (work / "message").write_bytes(message)
    (work / "signature").write_bytes(signature)
    run([openssl, "dgst", "-sha256", "-verify", key, "-signature", work / "signature", work / "message"])


def verify_edwards(openssl: str, data: bytes, key: Path, work: Path) -> None:
    message, signature = by_hand(data)
    (work / "message").write_bytes(message)
    (work / "signature").write_bytes(signature)
    words = ("pkeyutl", "-verify", "-pubin", "-rawin", "-inkey", key, "-sigfile", work / "signature")
    run([openssl, *words, "-in", work / "message"])


def expected(cases: Iterable[str]) -> dict[str, str]:
    return {c: BOTH if c in GENUINE else LAXER if c in UNSEEN else NEITHER for c in cases}


def test_seal_by_p256(openssl: str, version: str, release: Release, verdicts: Verdicts, tmp_path: Path) -> None:
    cases, key = seal_cases(release.manifest.payload, release.key, release.other), release.key.public
    found = {
        case: verdicts.ask(
            "openssl dgst",
            version,
            case,
            ours=lambda data=data: ours(data, key),
            theirs=lambda data=data: verify(openssl, data, release.public, tmp_path),
        )
        for case, data in cases.items()
    }
    assert found == expected(cases)


def test_seal_by_ed25519(openssl: str, version: str, release: Release, verdicts: Verdicts, tmp_path: Path) -> None:
    cases, key = seal_cases(release.manifest.payload, release.edwards, release.other), release.edwards.public
    found = {
        case: verdicts.ask(
            "openssl pkeyutl",
            version,
            case,
            ours=lambda data=data: ours(data, key),
            theirs=lambda data=data: verify_edwards(openssl, data, release.folder / "edwards.pub", tmp_path),
        )
        for case, data in cases.items()
    }
    assert found == expected(cases)


def test_another_key(openssl: str, version: str, release: Release, verdicts: Verdicts, tmp_path: Path) -> None:
    data = make_bundle(release.manifest.payload, release.key)
    found = verdicts.ask(
        "openssl dgst",
        version,
        "verified with another key",
        ours=lambda: ours(data, release.other.public),
        theirs=lambda: verify(openssl, data, release.stranger, tmp_path),
    )
    assert found == NEITHER


@pytest.mark.parametrize("encrypted", [False, True], ids=["bare", "scrypt"])
def test_we_read_keys_and_signatures_of_openssl(
    openssl: str, version: str, release: Release, verdicts: Verdicts, tmp_path: Path, encrypted: bool
) -> None:
    raw, key, public = tmp_path / "raw", tmp_path / "key", tmp_path / "key.pub"
    run([openssl, "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", raw])
    protection = ["-passout", "pass:secret", "-scrypt"] if encrypted else ["-nocrypt"]
    run([openssl, "pkcs8", "-topk8", "-in", raw, "-out", key, *protection])
    run([openssl, "pkey", "-in", raw, "-pubout", "-out", public])
    key.chmod(0o600)
    assert load_private(key, b"secret" if encrypted else None).public == load_public(public)
    message, _ = by_hand(make_bundle(release.manifest.payload, release.key))
    (tmp_path / "m").write_bytes(message)
    run([openssl, "dgst", "-sha256", "-sign", raw, "-out", tmp_path / "s", tmp_path / "m"])
    hint = {"hint": load_public(public).fingerprint}
    bundle = make_bundle(release.manifest.payload, release.key)
    data = material(signed(bundle, sig=encode((tmp_path / "s").read_bytes())), publicKey=hint)
    found = verdicts.ask(
        "openssl dgst",
        version,
        f"signed by openssl ({'scrypt' if encrypted else 'bare'} key)",
        ours=lambda: ours(data, load_public(public)),
        theirs=lambda: verify(openssl, data, public, tmp_path),
    )
    assert found == BOTH


# -- by certificates: the lines of spec/seal.md, "By hand" ------------------------------------------------------------

# It is not asked for names and revocations, 3.0 knows no purpose of signing code, and it sees no bundle.
CERTIFICATES_UNSEEN = {
    "a key beside the certificate",
    "a part of the name expected",
    "another name expected",
    "any purpose",
    "for servers",
    "intermediate revoked",
    "log entry",
    "no purpose",
    "serial number revoked",
    "the key revoked",
    "the name in capitals expected",
    "the name in the subject alone",
    "the name revoked",
    "timestamp from tomorrow",
    "timestamp over SHA-1",
    "two timestamps",
}


@pytest.mark.requirement("REQ-INT-06")
def test_certificates(
    openssl: str,
    version: str,
    release: Release,
    certificates: Mapping[str, by.Case],
    verdicts: Verdicts,
    tmp_path: Path,
) -> None:
    cases = {name: case for name, case in certificates.items() if name != by.ANOTHER_TABLE}  # it is handed no table
    found = by.put(
        "openssl verify, ts", version, cases, release.manifest, verdicts,
        lambda _, case: verify_by_hand(openssl, case, tmp_path),
    )  # fmt: skip
    assert found == {name: by.verdict_of(name, CERTIFICATES_UNSEEN) for name in cases}


def verify_by_hand(openssl: str, case: by.Case, work: Path) -> None:
    """Verify timestamp, path and signature with the files of a bundle, as an auditor would by hand."""
    message, signature = by_hand(case.bundle)
    leaf, response = material_by_hand(case.bundle)
    write(work, {"pae": message, "sig": signature, "leaf.der": leaf})
    seconds = str(int(time.time())) if response is None else stamped_at(openssl, response, case, work)
    authority = case.trust.authorities[0]
    write(work, {"root.pem": pem(authority.certificate), "intermediates.pem": pem(*authority.intermediates)})
    between = ("-untrusted", "intermediates.pem") if authority.intermediates else ()
    words = ("verify", "-x509_strict", "-CAfile", "root.pem", *between, "-attime", seconds, "leaf.der")
    run([openssl, *words], cwd=work)
    key = run([openssl, "x509", "-inform", "DER", "-in", "leaf.der", "-pubkey", "-noout"], cwd=work)
    write(work, {"key.pem": key.encode()})
    if "ED25519" in run([openssl, "pkey", "-pubin", "-in", "key.pem", "-noout", "-text"], cwd=work):
        words = ("pkeyutl", "-verify", "-pubin", "-rawin", "-inkey", "key.pem", "-sigfile", "sig", "-in", "pae")
    else:
        words = ("dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "pae")
    run([openssl, *words], cwd=work)


def stamped_at(openssl: str, response: bytes, case: by.Case, work: Path) -> str:
    """Return the seconds of a timestamp over the file `sig`, after OpenSSL verified it."""
    roots = [c for stamper in case.trust.timestamp_authorities for c in stamper.certificates]
    write(work, {"r.tsr": response, "tsa-root.pem": pem(*roots)})
    seconds = moment_of(run([openssl, "ts", "-reply", "-in", "r.tsr", "-text"], cwd=work))
    words = ("ts", "-verify", "-in", "r.tsr", "-data", "sig", "-CAfile", "tsa-root.pem", "-attime", seconds)
    run([openssl, *words], cwd=work)
    return seconds


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


def material_by_hand(data: bytes) -> tuple[bytes, bytes | None]:
    """Return certificate and timestamp of a bundle, by the standard library alone."""
    found = json.loads(data)["verificationMaterial"]
    if "certificate" not in found:
        raise Refused("no certificate")
    stamps = found.get("timestampVerificationData", {"rfc3161Timestamps": []})["rfc3161Timestamps"]
    response = base64.b64decode(stamps[0]["signedTimestamp"]) if stamps else None
    return base64.b64decode(found["certificate"]["rawBytes"]), response


def moment_of(text: str) -> str:
    """Return the seconds of `Time stamp: Jun  1 12:00:00 2021 GMT`, as `openssl ts -reply -text` prints it."""
    found = re.search(r"^Time stamp: (\w{3} +\d+ [\d:]{8}(?:\.\d+)? \d{4}) GMT$", text, re.MULTILINE)
    if found is None:
        raise Refused(f"no moment in {text[-300:]}")
    return str(int(datetime.strptime(f"{found[1]} +0000", "%b %d %H:%M:%S %Y %z").timestamp()))
