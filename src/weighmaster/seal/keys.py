# SPDX-License-Identifier: Apache-2.0
"""Make, keep and use the two kinds of keys that a seal may carry: ECDSA P-256 with SHA-256, and Ed25519.

The algorithm follows from the key, never from the document that is verified. Any other key is a `KeyFault`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeAlias, TypeVar, cast, get_args

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from weighmaster.durable import read_whole, write_atomically
from weighmaster.errors import KeyFault

__all__ = [
    "KEY_KINDS",
    "InvalidSignature",
    "KeyKind",
    "PrivateKey",
    "PublicKey",
    "generate",
    "load_private",
    "load_public",
    "write_private",
    "write_public",
]

KeyKind: TypeAlias = Literal["ecdsa-p256-sha256", "ed25519"]
KEY_KINDS: Final[tuple[KeyKind, ...]] = get_args(KeyKind)

_RawPublic: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_RawPrivate: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

T = TypeVar("T")

_ALLOWED: Final = "an ECDSA P-256 or Ed25519 key"
_MAX_KEY_FILE: Final = 1 << 16
_OTHERS: Final = 0o077

_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,  # order 4
        "01" + "00" * 31,  # order 1, the neutral element
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",  # order 8
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",  # order 8
        "ec" + "ff" * 30 + "7f",  # order 2
        "ed" + "ff" * 30 + "7f",  # order 4, y = p
        "ee" + "ff" * 30 + "7f",  # order 1, y = p + 1
    )
)
"""Encodings (sign bit cleared) of the Ed25519 points of small order: under them signatures verify that nobody made."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PublicKey:
    """A public key of one of the two kinds; equal to any other with the same SPKI PEM.

    Args:
        _key: a key of `cryptography`.

    Raises:
        KeyFault: another kind of key, or an Ed25519 point of small order.
    """

    _key: _RawPublic

    def __post_init__(self) -> None:
        if _kind(self._key) == "ed25519" and _is_small_order(self._key):
            raise KeyFault(f"expected {_ALLOWED}, found an Ed25519 point of small order (anyone can sign for it)")

    @property
    def kind(self) -> KeyKind:
        """Algorithm with all its parameters."""
        return _kind(self._key)

    @property
    def pem(self) -> bytes:
        """The key as SubjectPublicKeyInfo in PEM (RFC 7468), the one spelling that OpenSSL writes."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `pem` in hexadecimal, as ``sha256sum`` prints it and as the OpenSSF Model Signing tool has it."""
        return hashlib.sha256(self.pem).hexdigest()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if `signature` is this key's signature over `message`; raise otherwise.

        Raises:
            InvalidSignature: it is not, whatever the reason.
        """
        if isinstance(self._key, ed25519.Ed25519PublicKey):
            self._key.verify(signature, message)
        else:
            self._key.verify(signature, message, ec.ECDSA(hashes.SHA256()))

    def verify_digest(self, signature: bytes, sha256: bytes) -> None:
        """Return if `signature` is this key's signature over a message with this SHA-256; raise otherwise.

        It proves something only where the digest is that of bytes which the caller has: to digests that nobody has a
        message for, anyone can make ECDSA signatures.

        Raises:
            InvalidSignature: it is not, whatever the reason.
            KeyFault: an Ed25519 key, which signs messages and not their digests (RFC 8032).
        """
        if isinstance(self._key, ed25519.Ed25519PublicKey):
            raise KeyFault("expected an ECDSA P-256 key to verify by digest alone, found an Ed25519 key")
        self._key.verify(signature, sha256, ec.ECDSA(Prehashed(hashes.SHA256())))

    def __eq__(self, other: object) -> bool:
        return self.pem == other.pem if isinstance(other, PublicKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.pem)

    def __repr__(self) -> str:
        return f"PublicKey({self.kind}, {self.fingerprint})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PrivateKey:
    """A private key of one of the two kinds. It never shows its secret and cannot be pickled.

    Args:
        _key: a key of `cryptography`.

    Raises:
        KeyFault: another kind of key.
    """

    _key: _RawPrivate

    def __post_init__(self) -> None:
        _kind(self._key)

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return PublicKey(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return the signature: DER of r and s for ECDSA, 64 bytes for Ed25519. ECDSA signatures differ every time."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def to_pem(self, passphrase: bytes | None) -> bytes:
        """Return the key as PKCS#8 in PEM, encrypted if a passphrase is given.

        Raises:
            KeyFault: the passphrase is empty.
        """
        if passphrase is not None and not passphrase:
            raise KeyFault("the passphrase is empty: expected at least one byte, or none at all for a bare key")
        encryption = (
            serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
        )
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    def __reduce__(self) -> NoReturn:
        raise KeyFault("a private key is not pickled: write it with write_private")

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.kind}, {self.public.fingerprint})"


def _kind(key: object) -> KeyKind:
    if isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
        if isinstance(key.curve, ec.SECP256R1):
            return "ecdsa-p256-sha256"
        raise KeyFault(f"expected {_ALLOWED}, found an elliptic curve key on {key.curve.name}")
    if isinstance(key, (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey)):
        return "ed25519"
    raise KeyFault(f"expected {_ALLOWED}, found {type(key).__name__}")


def _is_small_order(key: _RawPublic) -> bool:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return raw[:31] + bytes([raw[31] & 0x7F]) in _SMALL_ORDER


def generate(kind: KeyKind) -> PrivateKey:
    """Return a new private key from the operating system's random source.

    Raises:
        KeyFault: no such kind.
    """
    if kind == "ecdsa-p256-sha256":
        return PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    if kind == "ed25519":
        return PrivateKey(ed25519.Ed25519PrivateKey.generate())
    raise KeyFault(f"expected a kind of key from {', '.join(KEY_KINDS)}, found {kind!r}")


def write_private(path: Path, key: PrivateKey, passphrase: bytes | None) -> None:
    """Write a private key as PKCS#8 PEM, readable by its owner alone from the first moment; never over another file.

    Raises:
        KeyFault: the passphrase is empty.
        UsageError: `path` exists.
        StorageError: it cannot be written.
    """
    write_atomically(path, key.to_pem(passphrase), mode=0o600, replace=False)


def write_public(path: Path, key: PublicKey) -> None:
    """Write a public key as SPKI PEM; never over another file.

    Raises:
        UsageError: `path` exists.
        StorageError: it cannot be written.
    """
    write_atomically(path, key.pem, replace=False)


def load_private(path: Path, passphrase: bytes | None) -> PrivateKey:
    """Read a private key in PEM.

    Raises:
        KeyFault: no such file, readable by group or others, wrong or missing passphrase, no key, or another kind.
    """
    data = _read_guarded(path)
    try:
        raw = serialization.load_pem_private_key(data, passphrase)
    except TypeError:  # the library's way of saying that passphrase and encryption do not go together
        if passphrase is None:
            raise KeyFault(f"{path}: the key is encrypted: expected its passphrase, found none") from None
        raise KeyFault(f"{path}: expected an encrypted key for the passphrase given, found one in clear") from None
    except (ValueError, UnsupportedAlgorithm):  # not chained: nothing of the file's content reaches a log
        if b"ENCRYPTED" in data and passphrase is not None:
            raise KeyFault(f"{path}: wrong passphrase, or the file is damaged") from None
        raise KeyFault(f"{path}: expected {_ALLOWED} in PEM (PKCS#8), found something else") from None
    return _named(str(path), lambda: PrivateKey(cast("_RawPrivate", raw)))  # the constructor checks what it is


def _named(name: str, make: Callable[[], T]) -> T:
    """Return what `make` returns; put the name of the file before its `KeyFault`."""
    try:
        return make()
    except KeyFault as fault:
        raise KeyFault(f"{name}: {fault}") from None


def _read_guarded(path: Path) -> bytes:
    """Read a small regular file that nobody but its owner may read; the mode is that of the file opened."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:  # Path.open has no opener
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise KeyFault(f"{path}: expected a regular file, found another kind of file")
            if mode & _OTHERS:
                found = f"{stat.S_IMODE(mode):04o}"
                raise KeyFault(f"{path}: expected mode 0600 (readable by its owner alone), found {found}")
            data = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise KeyFault(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > _MAX_KEY_FILE:
        raise KeyFault(f"{path}: expected a key of at most {_MAX_KEY_FILE} bytes, found more")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe laid in the file's place does not hang the signer


def load_public(source: Path | bytes) -> PublicKey:
    """Read a public key in PEM from a file or from bytes.

    Raises:
        KeyFault: a private key, no key, or a key of another kind.
        UsageError: there is no such file.
        MalformedArtefact: the file is larger than any key.
        StorageError: it cannot be read.
    """
    name = "public key" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else read_whole(source, limit=_MAX_KEY_FILE)
    if b"PRIVATE KEY" in data:
        raise KeyFault(f"{name}: expected a public key, found a private one: treat it as disclosed if it was sent")
    try:
        raw = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFault(f"{name}: expected {_ALLOWED} in PEM (SPKI), found something else") from None
    return _named(name, lambda: PublicKey(cast("_RawPublic", raw)))  # the constructor checks what it is
