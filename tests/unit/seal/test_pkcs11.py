# SPDX-License-Identifier: Apache-2.0
"""Keys on a token: SoftHSM stands for the hardware."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from weighmaster.errors import KeyFault
from weighmaster.seal.bundle import make_bundle, open_sealed, parse_bundle
from weighmaster.seal.check import require_signed
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.pkcs11 import TokenKey, _unwrapped, open_token_key
from weighmaster.seal.trust import Trust

pkcs11 = pytest.importorskip("pkcs11", reason="NOT RUN: python-pkcs11 (the extra hsm) is not installed")

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
MODULE = next((Path(m) for m in MODULES if Path(m).exists()), None)
PIN, PAYLOAD = b"1234", b'{"a":1}'

pytestmark = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None,
    reason="NOT RUN: SoftHSM (package softhsm2) is not installed",
)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two tokens; on `weighing` a P-256 pair `ana`, two pairs `twice`, a P-384 pair, an RSA pair, and half a pair."""
    home = tmp_path_factory.mktemp("softhsm")
    (home / "tokens").mkdir()
    (home / "conf").write_text(f"directories.tokendir = {home / 'tokens'}\nobjectstore.backend = file\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(home / "conf")
    for label in ("weighing", "other"):
        command = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label,
            "--pin",
            PIN.decode(),
            "--so-pin",
            "0000",
        ]
        subprocess.run(command, check=True, capture_output=True)
    assert MODULE is not None
    library = pkcs11.lib(str(MODULE.resolve()))
    library.reinitialize()
    with library.get_token(token_label="weighing").open(rw=True, user_pin=PIN.decode()) as session:
        for label, curve in (
            ("ana", "secp256r1"),
            ("twice", "secp256r1"),
            ("twice", "secp256r1"),
            ("p384", "secp384r1"),
        ):
            oid = pkcs11.util.ec.encode_named_curve_parameters(curve)
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: oid}, local=True
            )
            public, _ = parameters.generate_keypair(store=True, label=label)
            assert public is not None
        session.generate_keypair(pkcs11.KeyType.RSA, 2048, store=True, label="rsa")
        public, _ = session.generate_keypair(pkcs11.KeyType.RSA, 2048, store=True, label="half")
        public.destroy()
    yield MODULE
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def _open(module: Path, *, token: str = "weighing", label: str = "ana", pin: bytes = PIN) -> TokenKey:
    return open_token_key(module, token=token, label=label, pin=pin)


@pytest.mark.requirement("REQ-SEA-19")
def test_a_token_signs(module: Path, tmp_path: Path) -> None:
    key = _open(module)
    bundle = parse_bundle(make_bundle(PAYLOAD, key), "b")
    assert bundle.signature.hint == key.public.fingerprint
    key.public.verify(bundle.signature.value, pae(PAYLOAD_TYPE, PAYLOAD))
    files = {"key.pem": key.public.pem, "sig": bundle.signature.value, "pae": pae(PAYLOAD_TYPE, PAYLOAD)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "pae"]
    assert "Verified OK" in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


def test_a_certificate_for_a_key_on_a_token(
    module: Path, world: SimpleNamespace, pki: SimpleNamespace, trust: Trust
) -> None:
    key = _open(module)
    public = serialization.load_pem_public_key(key.public.pem)
    holder = SimpleNamespace(public_key=lambda: public)
    carol = pki.leaf("Carol", world.issuing, x509.RFC822Name("carol@example.org"), key=holder)
    sealed = open_sealed((("c.json", make_bundle(PAYLOAD, key, certificate=carol.der)),))
    records = require_signed(sealed, world.trusting(trust), "p", now=datetime(2030, 6, 1, tzinfo=UTC))
    assert [(r.person, r.by) for r in records] == [("Carol", "certificate of House CA")]


def test_many_signatures_have_the_right_form(module: Path) -> None:
    """One r or s in 256 begins with a zero byte, and one in two with a high bit: DER writes both in its own way."""
    key = _open(module)
    for i in range(64):
        key.public.verify(key.sign(bytes([i])), bytes([i]))


def test_no_library(module: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none.so"
    with pytest.raises(KeyFault) as caught:
        _open(missing)
    assert str(caught.value) == f"{missing}: expected the PKCS#11 library of the token, found no such file"
    with pytest.raises(KeyFault, match="found no such file"):
        _open(Path(module.name))  # a bare name is not searched for


def test_another_file_than_a_library(module: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises(KeyFault) as caught:
        _open(text)
    assert str(caught.value).startswith(f"{text}: cannot be loaded as a PKCS#11 library: ")


def test_no_token(module: Path) -> None:
    with pytest.raises(KeyFault) as caught:
        _open(module, token="absent")
    assert str(caught.value) == f"{module}: expected a token labelled 'absent', found 'other', 'weighing'"


def test_two_tokens_of_one_label(module: Path) -> None:
    command = ["softhsm2-util", "--init-token", "--free", "--label", "other", "--pin", "1234", "--so-pin", "0000"]
    subprocess.run(command, check=True, capture_output=True)
    pkcs11.lib(str(module.resolve())).reinitialize()
    with pytest.raises(KeyFault, match="expected one token labelled 'other', found several"):
        _open(module, token="other")


@pytest.mark.parametrize("pin", [b"9999", b"", b"1" * 300, b"\xff\xfe12"])
def test_a_wrong_pin(pin: bytes, module: Path) -> None:
    with pytest.raises(KeyFault, match="weighing: ") as caught:
        _open(module, pin=pin)
    assert "wrong PIN; the token locks itself after a few of them" in str(caught.value)


def test_no_key(module: Path) -> None:
    with pytest.raises(KeyFault) as caught:
        _open(module, label="absent")
    assert str(caught.value) == "weighing: expected one private key labelled 'absent', found none"
    with pytest.raises(KeyFault) as caught:
        _open(module, label="half")
    assert str(caught.value) == "weighing: expected one public key labelled 'half', found none"


def test_two_keys(module: Path) -> None:
    with pytest.raises(KeyFault) as caught:
        _open(module, label="twice")
    assert str(caught.value) == "weighing: expected one private key labelled 'twice', found 2"


@pytest.mark.parametrize(("label", "kind"), [("rsa", "RSA"), ("p384", "EC")])
def test_another_kind_of_key(label: str, kind: str, module: Path) -> None:
    with pytest.raises(KeyFault) as caught:
        _open(module, label=label)
    assert str(caught.value) == f"weighing, key {label!r}: expected an ECDSA P-256 or Ed25519 key, found {kind}"


def test_a_token_that_went_away(module: Path, tmp_path: Path) -> None:
    key = _open(module)
    gone = TokenKey(module=tmp_path / "gone.so", token=key.token, label=key.label, pin=key.pin, public=key.public)
    with pytest.raises(KeyFault, match="found no such file"):
        make_bundle(PAYLOAD, gone)


def test_the_pin_is_not_shown(module: Path) -> None:
    assert "1234" not in repr(_open(module))


def test_ed25519_on_a_token(module: Path) -> None:
    library = pkcs11.lib(str(module.resolve()))
    token = library.get_token(token_label="weighing")
    if pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN not in token.slot.get_mechanisms():
        pytest.skip("NOT RUN: this build of SoftHSM has no Ed25519")
    with token.open(rw=True, user_pin=PIN.decode()) as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC_EDWARDS,
            {pkcs11.Attribute.EC_PARAMS: b"\x13\x0cedwards25519"},
            local=True,
        )
        parameters.generate_keypair(mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, label="edwards")
    key = _open(module, label="edwards")
    assert key.public.kind == "ed25519"
    key.public.verify(key.sign(PAYLOAD), PAYLOAD)


@pytest.mark.parametrize(
    ("point", "content"),
    [(b"\x04\x02ab", b"ab"), (b"ab", b"ab"), (b"\x04\x03ab", b"\x04\x03ab"), (b"\x04", b"\x04"), (b"", b"")],
)
def test_points_with_and_without_their_wrapping(point: bytes, content: bytes) -> None:
    assert _unwrapped(point) == content
