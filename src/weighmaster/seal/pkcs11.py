# SPDX-License-Identifier: Apache-2.0
"""Sign with a key that a token keeps to itself: PKCS#11, through the extra ``hsm`` (python-pkcs11).

ECDSA P-256, and Ed25519 where the token has it. The token sees the digest (ECDSA) or the message (Ed25519), this
process never the key. A session is opened for each signature and closed after it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from weighmaster.errors import KeyFault
from weighmaster.seal.keys import PublicKey

__all__ = ["TokenKey", "open_token_key"]

_HALF: Final = 32
"""Bytes of r and of s in a raw ECDSA P-256 signature; of an Ed25519 public key too."""

_P256: Final = bytes.fromhex("06082a8648ce3d030107")
"""DER of the object identifier of the curve, as tokens name it (RFC 5480, 2.1.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """A private key on a token, as a `Signer`. Made by `open_token_key`.

    Attributes:
        module: the PKCS#11 library of the token's maker.
        token: label of the token.
        label: label of the key pair.
        pin: of the user; never shown.
        public: the key that verifies.
    """

    module: Path
    token: str
    label: str
    pin: bytes = field(repr=False)
    public: PublicKey

    def sign(self, message: bytes) -> bytes:
        """Return the signature: DER of r and s for ECDSA, 64 bytes for Ed25519.

        Raises:
            KeyFault: the token refuses, or what it returns is no signature of this kind.
        """
        import pkcs11  # noqa: PLC0415  # an extra

        with _session(self.module, self.token, self.pin) as session:
            key = _one(session, pkcs11.ObjectClass.PRIVATE_KEY, self.label)
            if self.public.kind == "ed25519":
                return bytes(key.sign(message, mechanism=pkcs11.Mechanism.EDDSA))
            # The digest is made here: every token signs one, and not every token makes it.
            raw = bytes(key.sign(hashlib.sha256(message).digest(), mechanism=pkcs11.Mechanism.ECDSA))
        if len(raw) != 2 * _HALF:
            raise KeyFault(f"{self.token}: expected a signature of {2 * _HALF} bytes from the token, found {len(raw)}")
        return encode_dss_signature(int.from_bytes(raw[:_HALF]), int.from_bytes(raw[_HALF:]))


def open_token_key(module: Path, *, token: str, label: str, pin: bytes) -> TokenKey:
    """Find a key pair on a token.

    Args:
        module: the PKCS#11 library of the token's maker. It runs inside this process: use no other.
        token: label of the token.
        label: label of both halves of the pair.
        pin: of the user.

    Raises:
        KeyFault: no such library, token or key, more than one, a wrong PIN, or a key of another kind.
        ModuleNotFoundError: the extra ``hsm`` is not installed.
    """
    import pkcs11  # noqa: PLC0415  # an extra

    with _session(module, token, pin) as session:
        _one(session, pkcs11.ObjectClass.PRIVATE_KEY, label)
        public = _public(_one(session, pkcs11.ObjectClass.PUBLIC_KEY, label), f"{token}, key {label!r}")
    return TokenKey(module=module, token=token, label=label, pin=pin, public=public)


@contextlib.contextmanager
def _session(module: Path, token: str, pin: bytes) -> Iterator[Any]:
    """Open a session of the user; whatever the token refuses in it becomes a `KeyFault`."""
    import pkcs11  # noqa: PLC0415  # an extra

    library = _library(module)
    try:
        with library.get_token(token_label=token).open(user_pin=pin.decode("utf-8")) as session:
            yield session
    except pkcs11.NoSuchToken:
        found = sorted(slot.get_token().label for slot in library.get_slots(token_present=True))
        listed = ", ".join(repr(label) for label in found if label) or "none"
        raise KeyFault(f"{module}: expected a token labelled {token!r}, found {listed}") from None
    except pkcs11.MultipleTokensReturned:
        raise KeyFault(f"{module}: expected one token labelled {token!r}, found several") from None
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, UnicodeDecodeError):
        raise KeyFault(f"{token}: wrong PIN; the token locks itself after a few of them") from None
    except pkcs11.PinLocked:
        raise KeyFault(f"{token}: the PIN is locked; its security officer unlocks it") from None
    except pkcs11.PKCS11Error as error:
        raise KeyFault(f"{token}: the token refuses: {type(error).__name__} {error}".rstrip()) from None


def _library(module: Path) -> Any:
    import pkcs11  # noqa: PLC0415  # an extra

    if not module.is_file():  # the loader would search for a bare name elsewhere
        raise KeyFault(f"{module}: expected the PKCS#11 library of the token, found no such file")
    try:
        return pkcs11.lib(str(module.resolve()))
    except (RuntimeError, OSError) as error:
        raise KeyFault(f"{module}: cannot be loaded as a PKCS#11 library: {error}") from None


def _one(session: Any, kind: Any, label: str) -> Any:
    """Return the one object of this kind with this label."""
    import pkcs11  # noqa: PLC0415  # an extra

    attributes = {pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.LABEL: label}
    found = list(session.get_objects(attributes))
    if len(found) != 1:
        what = kind.name.lower().replace("_", " ")
        number = "none" if not found else str(len(found))
        raise KeyFault(f"{session.token.label}: expected one {what} labelled {label!r}, found {number}")
    return found[0]


def _public(key: Any, name: str) -> PublicKey:
    """Return the public key that a token describes.

    Raises:
        KeyFault: it is of another kind.
    """
    import pkcs11  # noqa: PLC0415  # an extra

    kind = key.key_type
    try:
        if kind == pkcs11.KeyType.EC and bytes(key[pkcs11.Attribute.EC_PARAMS]) == _P256:
            point = _unwrapped(bytes(key[pkcs11.Attribute.EC_POINT]))
            return PublicKey(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
        if kind == pkcs11.KeyType.EC_EDWARDS:
            point = _unwrapped(bytes(key[pkcs11.Attribute.EC_POINT]))
            return PublicKey(ed25519.Ed25519PublicKey.from_public_bytes(point))
    except ValueError as error:
        raise KeyFault(f"{name}: expected a point of its curve, found {error}") from None
    raise KeyFault(f"{name}: expected an ECDSA P-256 or Ed25519 key, found {getattr(kind, 'name', kind)}")


def _unwrapped(point: bytes) -> bytes:
    """Return the content of the DER octet string in which tokens hold a point (PKCS#11 3.0, 2.3.3)."""
    if point[:1] == b"\x04" and len(point) > 1 and point[1] == len(point) - 2:
        return point[2:]
    return point
