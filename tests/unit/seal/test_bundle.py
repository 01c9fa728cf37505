# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from weighmaster.core.canonical import loads_canonical
from weighmaster.errors import KeyFault, MalformedArtefact, SignatureFault
from weighmaster.seal import bundle as module
from weighmaster.seal.bundle import MEDIA_TYPE, Sealed, make_bundle, open_sealed, parse_bundle
from weighmaster.seal.dsse import PAYLOAD_TYPE, pae
from weighmaster.seal.keys import PrivateKey, PublicKey

PAYLOAD = b'{"a":1}'


def _edited(data: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(data)
    edit(value)
    return json.dumps(value).encode()


def test_layout_is_that_of_the_specification(alice: PrivateKey) -> None:
    value = loads_canonical(make_bundle(PAYLOAD, alice), "b")
    signature = value["dsseEnvelope"]["signatures"][0]["sig"]
    assert value == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": alice.public.fingerprint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(PAYLOAD).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": signature, "keyid": ""}],
        },
    }
    alice.public.verify(base64.b64decode(signature), pae(PAYLOAD_TYPE, PAYLOAD))


def test_reads_what_it_writes(alice: PrivateKey) -> None:
    bundle = parse_bundle(make_bundle(PAYLOAD, alice), "a.json")
    assert bundle.payload == PAYLOAD
    assert (bundle.signature.file, bundle.signature.hint) == ("a.json", alice.public.fingerprint)
    alice.public.verify(bundle.signature.value, pae(PAYLOAD_TYPE, PAYLOAD))


@pytest.mark.requirement("REQ-SEA-01")
def test_payload_is_opaque_and_kept_to_the_byte(bob: PrivateKey) -> None:
    payload = b'\xff\x00 {"b": 1, "a": 2.50}\r\n'
    assert parse_bundle(make_bundle(payload, bob), "b").payload == payload


def test_empty_payload_is_not_signed(bob: PrivateKey) -> None:
    with pytest.raises(KeyFault, match="expected a payload of at least one byte, found an empty one"):
        make_bundle(b"", bob)


class _Faulty:
    """A token that returns a damaged signature, as after a bit flip in its memory."""

    def __init__(self, key: PrivateKey) -> None:
        self.key = key

    @property
    def public(self) -> PublicKey:
        return self.key.public

    def sign(self, message: bytes) -> bytes:
        signature = self.key.sign(message)
        return bytes([signature[0] ^ 1]) + signature[1:]


@pytest.mark.requirement("REQ-SEA-09")
def test_a_damaged_signature_is_not_published(alice: PrivateKey, bob: PrivateKey) -> None:
    for key in (alice, bob):
        with pytest.raises(KeyFault, match=f"does not verify under its own public key {key.public.fingerprint}"):
            make_bundle(PAYLOAD, _Faulty(key))


def _set(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def edit(document: Any) -> None:
        *outer, last = path.split(".")
        for key in outer:
            document = document[int(key) if key.isdigit() else key]
        if value is KeyError:
            del document[last]
        else:
            document[last] = value

    return edit


SIG = "dsseEnvelope.signatures.0"

REFUSED = [
    ("mediaType", KeyError, "b.json: mediaType: expected a value, found no such key"),
    ("mediaType", 3, "mediaType: expected a string, found a number"),
    ("mediaType", MEDIA_TYPE.upper(), f"mediaType: expected '{MEDIA_TYPE}'"),
    ("verificationMaterial", KeyError, "verificationMaterial: expected a value, found no such key"),
    ("verificationMaterial", [], "verificationMaterial: expected an object, found an array"),
    ("verificationMaterial.publicKey", KeyError, "verificationMaterial.publicKey: expected a value"),
    ("verificationMaterial.publicKey.hint", "A" * 64, "publicKey.hint: expected 64 lowercase hexadecimal digits"),
    ("verificationMaterial.publicKey.hint", "", "publicKey.hint: expected a string that is not empty"),
    ("verificationMaterial.publicKey.rawBytes", "AA==", "publicKey.rawBytes: expected only the keys"),
    ("verificationMaterial.tlogEntries", KeyError, "verificationMaterial.tlogEntries: expected a value"),
    ("verificationMaterial.tlogEntries", None, "tlogEntries: expected an empty array"),
    ("verificationMaterial.tlogEntries", {}, "tlogEntries: expected an empty array"),
    ("verificationMaterial.tlogEntries", [{}], "log entries, which are not supported by this version"),
    ("verificationMaterial.certificate", {}, "found certificate, which is not supported by this version"),
    ("verificationMaterial.x509CertificateChain", {}, "found x509CertificateChain, which is not supported"),
    ("verificationMaterial.timestampVerificationData", {}, "found timestampVerificationData, which is not supported"),
    ("verificationMaterial.extra", 1, "verificationMaterial.extra: expected only the keys of the specification"),
    ("messageSignature", {}, "messageSignature: expected a dsseEnvelope"),
    ("dsseEnvelope", KeyError, "dsseEnvelope: expected a value, found no such key"),
    ("dsseEnvelope.payloadType", "application/vnd.in-toto+JSON", "dsseEnvelope.payloadType: expected"),
    ("dsseEnvelope.payload", "", "dsseEnvelope.payload: expected a string that is not empty"),
    ("dsseEnvelope.payload", "eyJhIjoxfQ", "dsseEnvelope.payload: expected canonical base64"),
    ("dsseEnvelope.payload", "eyJhIjoxfQ==\n", "dsseEnvelope.payload: expected canonical base64"),
    ("dsseEnvelope.payload", "-_8=", "dsseEnvelope.payload: expected canonical base64"),
    ("dsseEnvelope.payload", "é===", "dsseEnvelope.payload: expected canonical base64"),
    ("dsseEnvelope.payload", "=", "dsseEnvelope.payload: expected canonical base64"),
    ("dsseEnvelope.payload", "AB==", "dsseEnvelope.payload: expected canonical base64"),
    ("dsseEnvelope.signatures", {}, "dsseEnvelope.signatures: expected an array, found an object"),
    ("dsseEnvelope.signatures", [], "dsseEnvelope.signatures: expected exactly one signature, found 0"),
    ("dsseEnvelope.extra", 1, "dsseEnvelope.extra: expected only the keys"),
    (f"{SIG}.keyid", KeyError, "dsseEnvelope.signatures[0].keyid: expected a value, found no such key"),
    (f"{SIG}.keyid", None, "dsseEnvelope.signatures[0].keyid: expected a string, found null"),
    (f"{SIG}.keyid", "k", "dsseEnvelope.signatures[0].keyid: expected an empty string, found 'k'"),
    (f"{SIG}.sig", "", "dsseEnvelope.signatures[0].sig: expected a string that is not empty"),
    (f"{SIG}.sig", "AB==", "dsseEnvelope.signatures[0].sig: expected canonical base64"),
    (f"{SIG}.extra", 1, "dsseEnvelope.signatures[0].extra: expected only the keys"),
    ("extra", 1, "b.json: extra: expected only the keys of the specification, found an unknown key"),
]


@pytest.mark.requirement("REQ-SEA-05", "REQ-SEA-20")
@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_anything_else_than_the_specification_is_refused(
    path: str, value: object, message: str, bob: PrivateKey
) -> None:
    data = _edited(make_bundle(PAYLOAD, bob), _set(path, value))
    with pytest.raises(MalformedArtefact) as caught:
        parse_bundle(data, "b.json")
    assert str(caught.value).startswith("b.json: ")
    assert message in str(caught.value)


@pytest.mark.requirement("REQ-SEA-05")
def test_two_signatures_are_refused(alice: PrivateKey) -> None:
    data = _edited(
        make_bundle(PAYLOAD, alice), lambda v: v["dsseEnvelope"]["signatures"].append({"sig": "AA==", "keyid": ""})
    )
    with pytest.raises(MalformedArtefact, match=r"dsseEnvelope\.signatures: expected exactly one signature, found 2"):
        parse_bundle(data, "b.json")


def test_a_bundle_beyond_the_limit_is_refused_unparsed(bob: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_bundle(PAYLOAD, bob)
    monkeypatch.setattr(module, "MAX_BUNDLE", len(data))
    parse_bundle(data, "b.json")
    with pytest.raises(MalformedArtefact, match=rf"b\.json: expected at most {len(data)} bytes, found {len(data) + 1}"):
        parse_bundle(data + b" ", "b.json")


@pytest.mark.requirement("REQ-SEA-05")
def test_every_truncation_is_refused(bob: PrivateKey) -> None:
    data = make_bundle(PAYLOAD, bob)
    for length in range(len(data)):
        with pytest.raises(MalformedArtefact, match=r"^b\.json: "):
            parse_bundle(data[:length], "b.json")


def test_open_keeps_every_signature_in_order(alice: PrivateKey, bob: PrivateKey) -> None:
    sealed = open_sealed((("a", make_bundle(PAYLOAD, alice)), ("b", make_bundle(PAYLOAD, bob))))
    assert sealed.payload == PAYLOAD
    assert [(s.file, s.hint) for s in sealed.signatures] == [
        ("a", alice.public.fingerprint),
        ("b", bob.public.fingerprint),
    ]


@pytest.mark.requirement("REQ-SEA-06")
def test_different_payloads_are_refused_though_they_mean_the_same(alice: PrivateKey, bob: PrivateKey) -> None:
    bundles = (("a", make_bundle(PAYLOAD, alice)), ("b", make_bundle(b'{"a": 1}', bob)))
    with pytest.raises(SignatureFault) as caught:
        open_sealed(bundles)
    first, second = (hashlib.sha256(p).hexdigest() for p in (PAYLOAD, b'{"a": 1}'))
    assert str(caught.value) == f"b: its payload is not that of a; expected sha256 {first}, found sha256 {second}"


def test_no_bundle_is_no_seal() -> None:
    with pytest.raises(SignatureFault, match="nothing was signed; expected at least one bundle, found none"):
        open_sealed(())
    with pytest.raises(SignatureFault, match="at least one bundle"):
        Sealed(payload=PAYLOAD, signatures=())


def test_the_malformed_bundle_is_named_among_good_ones(alice: PrivateKey) -> None:
    good = make_bundle(PAYLOAD, alice)
    with pytest.raises(MalformedArtefact, match=r"^second\.json: "):
        open_sealed((("first.json", good), ("second.json", good[:-1])))
