# SPDX-License-Identifier: Apache-2.0
"""A token that keeps its key to itself signs (SoftHSM through PKCS#11); OpenSSL and we verify."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from interop.bundles import envelope, flipped, ours
from interop.conftest import Release
from interop.test_openssl import verify
from interop.verdicts import BOTH, NEITHER, Verdicts, run

from weighmaster.errors import KeyFault
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.keys import PublicKey, write_public

pkcs11 = pytest.importorskip("pkcs11", reason="softhsm: python-pkcs11 is not installed")

PIN = "1234"
PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True, kw_only=True)
class TokenSigner:
    """A P-256 key in a token; satisfies `weighmaster.seal.bundle.Signer`."""

    private: Any
    public: PublicKey

    def sign(self, message: bytes) -> bytes:
        raw = self.private.sign(hashlib.sha256(message).digest(), mechanism=pkcs11.Mechanism.ECDSA)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


@pytest.fixture(scope="module")
def token(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A new token in a folder of its own."""
    program = tool("softhsm2-util")
    library = next((p for p in PLACES if Path(p).exists()), None)
    if library is None:
        pytest.skip("softhsm: libsofthsm2.so is not where it is looked for")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        run([program, "--init-token", "--free", "--label", "interop", "--pin", PIN, "--so-pin", PIN])
        yield pkcs11.lib(library).get_token(token_label="interop")


@pytest.fixture(scope="module")
def version(token: Any, tool: Callable[[str], str]) -> str:
    return run([tool("softhsm2-util"), "--version"]).strip()


def make_key(session: Any, label: str) -> TokenSigner:
    from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

    domain = session.create_domain_parameters(
        pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True
    )
    public, private = domain.generate_keypair(store=True, label=label)
    assert private[pkcs11.Attribute.SENSITIVE]
    assert not private[pkcs11.Attribute.EXTRACTABLE]
    return TokenSigner(private=private, public=PublicKey(load_der_public_key(encode_ec_public_key(public))))


def test_a_token_signs(
    token: Any, version: str, tool: Callable[[str], str], release: Release, verdicts: Verdicts, tmp_path: Path
) -> None:
    openssl, found = tool("openssl"), {}
    with token.open(rw=True, user_pin=PIN) as session:
        signer = make_key(session, "one")
        good = make_bundle(release.manifest.payload, signer)
    write_public(tmp_path / "token.pub", signer.public)
    payload = json.loads(good)["dsseEnvelope"]["payload"]
    cases = {
        "genuine": (good, signer.public, tmp_path / "token.pub"),
        "payload bit": (envelope(good, payload=flipped(payload)), signer.public, tmp_path / "token.pub"),
        "verified with another key": (good, release.other.public, release.stranger),
    }
    for case, (data, key, path) in cases.items():
        found[case] = verdicts.ask(
            "SoftHSM, verified by openssl",
            version,
            f"signed in the token: {case}",
            ours=lambda data=data, key=key: ours(data, key),
            theirs=lambda data=data, path=path: verify(openssl, data, path, tmp_path),
        )
    assert found == {"genuine": BOTH, "payload bit": NEITHER, "verified with another key": NEITHER}


def test_a_token_that_signs_with_another_key_makes_no_bundle(token: Any, version: str, release: Release) -> None:
    with token.open(rw=True, user_pin=PIN) as session:
        one, two = make_key(session, "a"), make_key(session, "b")
        with pytest.raises(KeyFault, match="does not verify under its own public key"):
            make_bundle(release.manifest.payload, TokenSigner(private=one.private, public=two.public))


def test_a_wrong_pin_opens_nothing(token: Any, version: str) -> None:
    with pytest.raises(pkcs11.PinIncorrect):
        token.open(user_pin="4321").__enter__()


def test_a_private_key_does_not_leave_the_token(token: Any, version: str) -> None:
    with token.open(rw=True, user_pin=PIN) as session:
        signer = make_key(session, "kept")
        with pytest.raises(pkcs11.AttributeSensitive):
            _ = signer.private[pkcs11.Attribute.VALUE]


def test_openssl_sees_the_key_that_the_token_shows(
    token: Any, version: str, tool: Callable[[str], str], tmp_path: Path
) -> None:
    with token.open(rw=True, user_pin=PIN) as session:
        write_public(tmp_path / "shown.pub", make_key(session, "shown").public)
    said = subprocess.run(
        [tool("openssl"), "pkey", "-pubin", "-in", tmp_path / "shown.pub", "-noout", "-text"],
        env={**os.environ, "LC_ALL": "C"}, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    assert "NIST CURVE: P-256" in said
