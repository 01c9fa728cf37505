# SPDX-License-Identifier: Apache-2.0
"""A seal and what can be wrong with it: one fault per case, by the names of `vectors/seal`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Final

from weighmaster.core.canonical import dumps
from weighmaster.seal.bundle import make_bundle, parse_bundle
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.keys import InvalidSignature, PrivateKey, PublicKey

Json = dict[str, Any]
GENUINE: Final = ("genuine", "spelt_otherwise")
"""Cases that everybody accepts."""


def ours(data: bytes, key: PublicKey) -> bytes:
    """Return the payload of a bundle that holds under `key`, read and verified by Weighmaster.

    Raises:
        WeighmasterError: it does not follow the specification.
        InvalidSignature: it names another key, or the signature does not verify.
    """
    bundle = parse_bundle(data, "bundle")
    if bundle.signature.hint != key.fingerprint:
        raise InvalidSignature
    key.verify(bundle.signature.value, pae(PAYLOAD_TYPE, bundle.payload))
    return bundle.payload


def seal_cases(payload: bytes, key: PrivateKey, other: PrivateKey) -> dict[str, bytes]:
    """Return bundles over `payload` by case; all but the `GENUINE` ones have one fault.

    Args:
        payload: a statement.
        key: whose public half the verifiers are given.
        other: a key that nobody trusts.
    """
    good = make_bundle(payload, key)
    while not (signature := _signature_of(good)).endswith("="):  # a case below needs pad bits
        good = make_bundle(payload, key)
    return {
        "genuine": good,
        "spelt_otherwise": json.dumps(json.loads(good), indent=2).encode() + b"\n",
        **_broken_signatures(good, signature, payload, key, other),
        **_broken_envelopes(good, signature),
        **_broken_documents(good),
    }


def _broken_signatures(
    good: bytes, signature: str, payload: bytes, key: PrivateKey, other: PrivateKey
) -> dict[str, bytes]:
    by_other = encode(other.sign(pae(PAYLOAD_TYPE, payload)))
    as_text = encode(key.sign(pae("text/plain", payload)))
    bare = encode(key.sign(payload))
    return {
        "payload_bit": envelope(good, payload=flipped(json.loads(good)["dsseEnvelope"]["payload"])),
        "payload_cut": envelope(good, payload=encode(payload[:-3])),
        "signature_bit": signed(good, sig=flipped(signature)),
        "signature_cut": signed(good, sig=encode(base64.b64decode(signature)[:-2])),
        "wrong_key": signed(good, sig=by_other),
        "relabelled_payload_type": signed(good, sig=as_text),
        "signature_over_the_bare_payload": signed(good, sig=bare),
        "payload_type": envelope(good, payloadType="text/plain"),
        "hint_of_another_key": material(good, publicKey={"hint": other.public.fingerprint}),
    }


def _broken_envelopes(good: bytes, signature: str) -> dict[str, bytes]:
    payload = json.loads(good)["dsseEnvelope"]["payload"]
    one = {"sig": signature, "keyid": ""}
    return {
        "no_signature": envelope(good, signatures=[]),
        "two_signatures": envelope(good, signatures=[one, one]),
        "keyid_missing": envelope(good, signatures=[{"sig": signature}]),
        "keyid_not_empty": signed(good, keyid="a" * 64),
        "base64_line_end": envelope(good, payload=f"{payload[:4]}\n{payload[4:]}"),
        "base64_pad_bits": signed(good, sig=_loose(signature)),
        "log_entry": material(good, tlogEntries=[{"logIndex": "1"}]),
    }


def _broken_documents(good: bytes) -> dict[str, bytes]:
    return {
        "media_type": edited(good, lambda v: v.update(mediaType="application/json")),
        "unknown_key": edited(good, lambda v: v.update(note="x")),
        "key_twice": good.replace(b'{"payload":', b'{"payloadType":"text/plain","payload":'),
        "trailing_bytes": good + b"{}",
        "truncated": good[:-1],
    }


def edited(data: bytes, edit: Callable[[Json], object]) -> bytes:
    """Return a document after `edit` changed it in place."""
    value: Json = json.loads(data)
    edit(value)
    return dumps(value)


def envelope(data: bytes, **change: Any) -> bytes:
    """Return a bundle with fields of its envelope set."""
    return edited(data, lambda v: v["dsseEnvelope"].update(change))


def signed(data: bytes, **change: Any) -> bytes:
    """Return a bundle with fields of its one signature set."""
    return edited(data, lambda v: v["dsseEnvelope"]["signatures"][0].update(change))


def material(data: bytes, **change: Any) -> bytes:
    """Return a bundle with fields of its verification material set."""
    return edited(data, lambda v: v["verificationMaterial"].update(change))


def encode(data: bytes) -> str:
    """Return canonical base64."""
    return base64.b64encode(data).decode("ascii")


def flipped(text: str) -> str:
    """Return base64 text with the lowest bit of the middle byte of its content flipped."""
    content = bytearray(base64.b64decode(text))
    content[len(content) // 2] ^= 1
    return encode(bytes(content))


def _signature_of(bundle: bytes) -> str:
    return str(json.loads(bundle)["dsseEnvelope"]["signatures"][0]["sig"])


def _loose(text: str) -> str:
    """Return the same bytes in base64 with a pad bit set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    return body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + text[len(body) :]
