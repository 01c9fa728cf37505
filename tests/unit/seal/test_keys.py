# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from weighmaster.errors import KeyFault, MalformedArtefact, UsageError
from weighmaster.seal.keys import (
    KEY_KINDS,
    InvalidSignature,
    KeyKind,
    PrivateKey,
    PublicKey,
    generate,
    load_private,
    load_public,
    write_private,
    write_public,
)

KINDS = pytest.mark.parametrize("kind", KEY_KINDS)
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
PEM = serialization.Encoding.PEM


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _guarded(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


FOREIGN = [
    pytest.param(rsa.generate_private_key(public_exponent=65537, key_size=2048), "RSA", id="rsa"),
    pytest.param(ec.generate_private_key(ec.SECP384R1()), "secp384r1", id="p384"),
    pytest.param(ec.generate_private_key(ec.SECP256K1()), "secp256k1", id="k256"),
    pytest.param(x25519.X25519PrivateKey.generate(), "X25519", id="x25519"),
]


@KINDS
def test_signature_verifies_and_nothing_else_does(kind: KeyKind) -> None:
    key, other = generate(kind), generate(kind)
    signature = key.sign(b"message")
    key.public.verify(signature, b"message")
    flipped = signature[:-1] + bytes([signature[-1] ^ 1])
    for public, sig, message in [
        (other.public, signature, b"message"),
        (key.public, signature, b"messagf"),
        (key.public, signature, b""),
        (key.public, flipped, b"message"),
        (key.public, signature[:-1], b"message"),
        (key.public, signature + b"\0", b"message"),
        (key.public, b"", b"message"),
    ]:
        with pytest.raises(InvalidSignature):
            public.verify(sig, message)


@pytest.mark.requirement("REQ-SEA-03")
def test_a_signature_of_one_kind_is_none_of_the_other() -> None:
    p256, edwards = generate("ecdsa-p256-sha256"), generate("ed25519")
    with pytest.raises(InvalidSignature):
        p256.public.verify(edwards.sign(b"m"), b"m")
    with pytest.raises(InvalidSignature):
        edwards.public.verify(p256.sign(b"m"), b"m")


def test_verify_returns_nothing_that_could_be_taken_for_an_answer() -> None:
    key = generate("ed25519")
    assert key.public.verify(key.sign(b"m"), b"m") is None  # type: ignore[func-returns-value]


def test_unknown_kind_is_named() -> None:
    with pytest.raises(KeyFault, match=r"ecdsa-p256-sha256, ed25519, found 'rsa-2048'"):
        generate("rsa-2048")  # type: ignore[arg-type]


@KINDS
def test_fingerprint_is_sha256sum_of_the_public_file(kind: KeyKind, tmp_path: Path) -> None:
    key = generate(kind)
    write_public(tmp_path / "k.pub", key.public)
    data = (tmp_path / "k.pub").read_bytes()
    assert key.public.fingerprint == hashlib.sha256(data).hexdigest()
    assert load_public(tmp_path / "k.pub") == key.public == load_public(data)
    assert hash(load_public(data)) == hash(key.public)
    assert load_public(data).kind == kind


@KINDS
@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_private_key_round_trip(kind: KeyKind, passphrase: bytes | None, tmp_path: Path) -> None:
    key, path = generate(kind), tmp_path / "k.pem"
    write_private(path, key, passphrase)
    assert load_private(path, passphrase).public == key.public
    label = b"BEGIN PRIVATE KEY" if passphrase is None else b"BEGIN ENCRYPTED PRIVATE KEY"
    assert label in path.read_bytes()


@pytest.mark.requirement("REQ-SEA-07")
def test_private_key_is_0600_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "k.pem", generate("ed25519"), None)
    finally:
        os.umask(before)
    assert (tmp_path / "k.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.requirement("REQ-SEA-08")
def test_keys_are_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"k\.pem: exists already"):
        write_private(path, generate("ed25519"), None)
    with pytest.raises(UsageError, match=r"k\.pem: exists already"):
        write_public(path, generate("ed25519").public)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.requirement("REQ-SEA-07")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601, 0o644, 0o777])
def test_a_key_that_others_reach_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    write_private(path, generate("ed25519"), None)
    path.chmod(mode)
    with pytest.raises(KeyFault, match=rf"k\.pem: expected mode 0600 .*, found {mode:04o}"):
        load_private(path, None)


def test_the_mode_counts_of_the_file_behind_a_link(tmp_path: Path) -> None:
    write_private(tmp_path / "k.pem", generate("ed25519"), None)
    (tmp_path / "link.pem").symlink_to(tmp_path / "k.pem")
    load_private(tmp_path / "link.pem", None)
    (tmp_path / "k.pem").chmod(0o644)
    with pytest.raises(KeyFault, match="found 0644"):
        load_private(tmp_path / "link.pem", None)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_owner_only_modes_are_taken(mode: int, tmp_path: Path) -> None:
    write_private(tmp_path / "k.pem", generate("ed25519"), None)
    (tmp_path / "k.pem").chmod(mode)
    load_private(tmp_path / "k.pem", None)


def test_wrong_missing_and_superfluous_passphrase(tmp_path: Path) -> None:
    locked, bare = tmp_path / "locked.pem", tmp_path / "bare.pem"
    write_private(locked, generate("ed25519"), b"right")
    write_private(bare, generate("ed25519"), None)
    with pytest.raises(KeyFault, match=r"locked\.pem: wrong passphrase, or the file is damaged"):
        load_private(locked, b"wrong")
    with pytest.raises(KeyFault, match=r"locked\.pem: the key is encrypted: expected its passphrase, found none"):
        load_private(locked, None)
    with pytest.raises(KeyFault, match=r"bare\.pem: expected an encrypted key .*, found one in clear"):
        load_private(bare, b"right")


def test_empty_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyFault, match="the passphrase is empty"):
        write_private(tmp_path / "k.pem", generate("ed25519"), b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("REQ-SEA-04")
@pytest.mark.parametrize(("key", "name"), FOREIGN)
def test_foreign_private_key_is_named(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey, name: str, tmp_path: Path
) -> None:
    path = _guarded(tmp_path / "k.pem", _pem(key))
    with pytest.raises(KeyFault, match=rf"k\.pem: expected an ECDSA P-256 or Ed25519 key, found .*{name}"):
        load_private(path, None)


@pytest.mark.requirement("REQ-SEA-04")
@pytest.mark.parametrize(("key", "name"), FOREIGN)
def test_foreign_public_key_is_named(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey, name: str
) -> None:
    with pytest.raises(KeyFault, match=rf"public key: expected an ECDSA P-256 or Ed25519 key, found .*{name}"):
        load_public(key.public_key().public_bytes(PEM, SPKI))


@pytest.mark.parametrize("data", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_no_key_in_the_file(data: bytes, tmp_path: Path) -> None:
    path = _guarded(tmp_path / "k.pem", data)
    with pytest.raises(KeyFault, match=r"k\.pem: expected .* in PEM \(PKCS#8\), found something else"):
        load_private(path, None)


def test_damaged_encrypted_key(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    write_private(path, generate("ed25519"), b"right")
    _guarded(path, path.read_bytes()[:-60] + path.read_bytes()[-40:])
    with pytest.raises(KeyFault, match="wrong passphrase, or the file is damaged"):
        load_private(path, b"right")


def test_missing_special_and_oversized_files(tmp_path: Path) -> None:
    with pytest.raises(KeyFault, match=r"none\.pem: cannot be read: No such file"):
        load_private(tmp_path / "none.pem", None)
    with pytest.raises(KeyFault, match="cannot be read: Is a directory"):
        load_private(tmp_path, None)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFault, match="pipe: expected a regular file"):
        load_private(tmp_path / "pipe", None)
    with pytest.raises(KeyFault, match="at most 65536 bytes, found more"):
        load_private(_guarded(tmp_path / "big.pem", bytes(65537)), None)
    with pytest.raises(UsageError, match="No such file"):
        load_public(tmp_path / "none.pem")
    with pytest.raises(MalformedArtefact, match="at most 65536 bytes"):
        load_public(tmp_path / "big.pem")


def test_a_private_key_in_the_place_of_a_public_one() -> None:
    with pytest.raises(KeyFault, match="expected a public key, found a private one"):
        load_public(generate("ed25519").to_pem(None))


@pytest.mark.requirement("REQ-SEA-08")
def test_a_key_never_shows_or_pickles_its_secret(tmp_path: Path) -> None:
    key = generate("ed25519")
    assert repr(key) == f"PrivateKey(ed25519, {key.public.fingerprint})" == str(key)
    assert repr(key.public) == f"PublicKey(ed25519, {key.public.fingerprint})"
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(KeyFault, match="not pickled"):
            take(key)
    secret = key.to_pem(None)
    path = _guarded(tmp_path / "k.pem", secret.replace(b"BEGIN", b"BEGUN"))
    with pytest.raises(KeyFault) as caught:
        load_private(path, None)
    assert secret.splitlines()[1].decode() not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


SMALL_ORDER = [
    "00" * 32,
    "00" * 31 + "80",
    "01" + "00" * 31,
    "01" + "00" * 30 + "80",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ec" + "ff" * 30 + "7f",
    "ec" + "ff" * 31,
    "ed" + "ff" * 30 + "7f",
    "ed" + "ff" * 31,
    "ee" + "ff" * 30 + "7f",
    "ee" + "ff" * 31,
]


@pytest.mark.requirement("REQ-SEA-04")
@pytest.mark.parametrize("point", SMALL_ORDER)
def test_ed25519_points_of_small_order_are_refused(point: str) -> None:
    raw = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(point))
    with pytest.raises(KeyFault, match="small order"):
        PublicKey(raw)
    with pytest.raises(KeyFault, match=r"public key: .*small order"):
        load_public(raw.public_bytes(PEM, SPKI))


def test_under_a_small_order_point_a_signature_verifies_that_nobody_made() -> None:
    """The reason for the refusal above: without it, a listed 'person' would have signed whatever one likes."""
    raw = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex("01" + "00" * 31))
    raw.verify(bytes.fromhex("01" + "00" * 63), b"any message")


def test_openssl_reads_our_keys_and_we_read_its(tmp_path: Path) -> None:
    write_private(tmp_path / "k.pem", generate("ecdsa-p256-sha256"), b"pass")
    done = subprocess.run(
        ["openssl", "pkey", "-in", "k.pem", "-passin", "pass:pass", "-pubout"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert load_public(done.stdout) == load_private(tmp_path / "k.pem", b"pass").public
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "o.pem"], cwd=tmp_path, check=True)
    (tmp_path / "o.pem").chmod(0o600)
    assert load_private(tmp_path / "o.pem", None).public.kind == "ed25519"


def test_private_key_constructor_checks_the_kind() -> None:
    with pytest.raises(KeyFault, match="secp521r1"):
        PrivateKey(ec.generate_private_key(ec.SECP521R1()))


def test_a_signature_verifies_from_the_digest_of_its_message() -> None:
    key = generate("ecdsa-p256-sha256")
    signature, digest = key.sign(b"message"), hashlib.sha256(b"message").digest()
    key.public.verify_digest(signature, digest)
    others = [hashlib.sha256(b"other").digest(), bytes(32)]
    for wrong in others:
        with pytest.raises(InvalidSignature):
            key.public.verify_digest(signature, wrong)
    with pytest.raises(InvalidSignature):
        generate("ecdsa-p256-sha256").public.verify_digest(signature, digest)


def test_an_edwards_key_signs_no_digests() -> None:
    key = generate("ed25519")
    with pytest.raises(KeyFault, match="expected an ECDSA P-256 key to verify by digest alone, found an Ed25519 key"):
        key.public.verify_digest(key.sign(b"message"), hashlib.sha256(b"message").digest())
