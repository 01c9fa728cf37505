# SPDX-License-Identifier: Apache-2.0
"""OpenSSL verifies our signatures over an encoding that this file builds by itself, and we verify OpenSSL's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
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
