# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

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


def test_a_damaged_signature_is_not_published(alice: PrivateKey, bob: PrivateKey) -> None:
    for key in (alice, bob):
        with pytest.raises(KeyFault, match=f"does not verify under its own public key {key.public.fingerprint}"):
            make_bundle(PAYLOAD, _Faulty(key))


def _set(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def edit(document: Any) -> None:
        *outer, last = path.split(".")
        for key in outer:
            document = document[int(key)] if key.isdigit() else document.setdefault(key, {})
        if value is KeyError:
            document.pop(last, None)
        else:
            document[last] = value

    return edit


STAMPS = "verificationMaterial.timestampVerificationData.rfc3161Timestamps"
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
    ("verificationMaterial.certificate", {}, "certificate: expected a publicKey or a certificate, found both"),
    ("verificationMaterial.x509CertificateChain", {}, "expected a single certificate, or a publicKey, found a chain"),
    (STAMPS, KeyError, "timestampVerificationData.rfc3161Timestamps: expected a value, found no such key"),
    (STAMPS, {}, "rfc3161Timestamps: expected an array, found an object"),
    (STAMPS, [], "rfc3161Timestamps: expected exactly one timestamp, found 0"),
    (STAMPS, [{"signedTimestamp": "AA=="}] * 2, "rfc3161Timestamps: expected exactly one timestamp, found 2"),
    (STAMPS, [{}], "rfc3161Timestamps[0].signedTimestamp: expected a value, found no such key"),
    (STAMPS, [{"signedTimestamp": "AA"}], "rfc3161Timestamps[0].signedTimestamp: expected canonical base64"),
    (STAMPS, [{"signedTimestamp": "AA==", "x": 1}], "rfc3161Timestamps[0].x: expected only the keys"),
    (STAMPS, [{"signedTimestamp": "A" * 87384}], "signedTimestamp: expected at most 65536 bytes, found 65538"),
    ("verificationMaterial.timestampVerificationData", [], "timestampVerificationData: expected an object"),
    ("verificationMaterial.timestampVerificationData.tsaUrl", "x", "rfc3161Timestamps: expected a value"),
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


@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_anything_else_than_the_specification_is_refused(
    path: str, value: object, message: str, bob: PrivateKey
) -> None:
    data = _edited(make_bundle(PAYLOAD, bob), _set(path, value))
    with pytest.raises(MalformedArtefact) as caught:
        parse_bundle(data, "b.json")
    assert str(caught.value).startswith("b.json: ")
    assert message in str(caught.value)


def _certified(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """Return an edit of a bundle that carries a certificate."""
    return _set(f"verificationMaterial.certificate{path}", value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("", KeyError, "verificationMaterial.publicKey: expected a value, found no such key"),
        ("", [], "verificationMaterial.certificate: expected an object, found an array"),
        (".rawBytes", KeyError, "certificate.rawBytes: expected a value, found no such key"),
        (".rawBytes", "AA==\n", "certificate.rawBytes: expected canonical base64"),
        (".rawBytes", "AA==", "certificate.rawBytes: expected one X.509 certificate in DER, found "),
        (".extra", 1, "certificate.extra: expected only the keys of the specification"),
    ],
)
def test_a_certificate_is_read_strictly(path: str, value: object, message: str, world: SimpleNamespace) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        parse_bundle(_edited(world.bundle(), _certified(path, value)), "b.json")
    assert str(caught.value).startswith("b.json: ")
    assert message in str(caught.value)


def test_a_damaged_or_second_certificate_is_refused(world: SimpleNamespace) -> None:
    der = world.carol.der
    serial = der.index(b"\x02\x09") - 1
    other_version = der[:serial] + b"\x03" + der[serial + 1 :]
    for data in (b"", der[:-1], der + b"\0", der + der, other_version, der.replace(b"\x0c\x05Carol", b"\x0d\x05Carol")):
        edit = _certified(".rawBytes", base64.b64encode(data).decode() or "AA==")
        with pytest.raises(MalformedArtefact, match=r"rawBytes: expected one X\.509 certificate in DER"):
            parse_bundle(_edited(world.bundle(), edit), "b.json")


def test_layout_with_a_certificate_and_a_timestamp(world: SimpleNamespace) -> None:
    data = world.bundle(stamp=lambda _: b"a timestamp")
    assert loads_canonical(data, "b")["verificationMaterial"] == {
        "certificate": {"rawBytes": base64.b64encode(world.carol.der).decode()},
        "timestampVerificationData": {
            "rfc3161Timestamps": [{"signedTimestamp": base64.b64encode(b"a timestamp").decode()}]
        },
        "tlogEntries": [],
    }
    signature = parse_bundle(data, "b").signature
    assert (signature.hint, signature.certificate, signature.timestamp) == (None, world.carol.der, b"a timestamp")


def test_a_timestamp_can_be_given_at_once(alice: PrivateKey) -> None:
    assert parse_bundle(make_bundle(PAYLOAD, alice, timestamp=b"t"), "b").signature.timestamp == b"t"


def test_the_certificate_must_be_that_of_the_key(
    world: SimpleNamespace, pki: SimpleNamespace, alice: PrivateKey
) -> None:
    theirs = PrivateKey(world.carol.key).public.fingerprint
    with pytest.raises(KeyFault) as caught:
        make_bundle(PAYLOAD, alice, certificate=world.carol.der)
    expected = f"the certificate: expected one of the key {alice.public.fingerprint}, found one of {theirs}"
    assert str(caught.value) == expected
    with pytest.raises(KeyFault, match=r"the certificate: expected one X\.509 certificate in DER, found "):
        make_bundle(PAYLOAD, alice, certificate=b"garbage")
    other = pki.leaf("Other", world.issuing, key=rsa.generate_private_key(65537, 2048))
    with pytest.raises(KeyFault, match="expected an ECDSA P-256 or Ed25519 key, found RSAPublicKey"):
        make_bundle(PAYLOAD, alice, certificate=other.der)


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
