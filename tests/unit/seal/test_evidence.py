# SPDX-License-Identifier: Apache-2.0
"""Bundles that model_signing 1.1.1 and cosign 3.1.1 made (interop/make_evidence.py), as they are and attacked."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from weighmaster.capture.sources import is_source, source_files
from weighmaster.core.canonical import dumps
from weighmaster.core.source import Evidence, Source
from weighmaster.errors import MalformedArtefact, NotWeighed, SignatureFault, SourceFault
from weighmaster.seal.bundle import MAX_BUNDLE
from weighmaster.seal.dsse import pae
from weighmaster.seal.evidence import OMS_TYPE, verify_evidence
from weighmaster.seal.keys import PrivateKey, PublicKey, load_public

MADE = Path(__file__).with_name("evidence")
MODEL = MADE / "model"
SOURCES = source_files(MODEL)
CONFIG, WEIGHTS = SOURCES
ONE_FILE = source_files(MODEL / "model.safetensors")
TOOLS, OTHER, EDWARDS = (load_public(MADE / f"{name}.pub") for name in ("tools", "other", "edwards"))
Json = dict[str, Any]

GOOD = {
    "oms.json": ("oms-v1", SOURCES, 2),
    "oms-one-file.json": ("oms-v1", ONE_FILE, 1),
    "cosign-blob.json": ("cosign-blob", SOURCES, 1),
    "cosign-predicate.json": ("in-toto", SOURCES, 1),
    "cosign-statement.json": ("in-toto", SOURCES, 2),
}


def check(data: bytes, sources: tuple[Source, ...] = SOURCES, key: PublicKey = TOOLS) -> Evidence:
    return verify_evidence(data, "bundle.json", key, sources, is_source=is_source)


def refused(data: bytes, sources: tuple[Source, ...] = SOURCES, key: PublicKey = TOOLS) -> NotWeighed:
    with pytest.raises(NotWeighed, match=r"^bundle\.json is no evidence about these source files") as caught:
        check(data, sources, key)
    return caught.value


def malformed(data: bytes, sources: tuple[Source, ...] = SOURCES, key: PublicKey = TOOLS) -> MalformedArtefact:
    with pytest.raises(MalformedArtefact) as caught:
        check(data, sources, key)
    assert caught.value.file.startswith("bundle.json")
    return caught.value


def bundle(name: str) -> bytes:
    return (MADE / name).read_bytes()


def changed(source: Source) -> Source:
    return replace(source, sha256=hashlib.sha256(b"changed").hexdigest())


@pytest.mark.requirement("REQ-INT-04")
@pytest.mark.parametrize("name", GOOD)
def test_bundles_of_others_hold(name: str) -> None:
    kind, sources, files = GOOD[name]
    found = check(bundle(name), sources)
    digest = hashlib.sha256(bundle(name)).hexdigest()
    assert found == Evidence(kind=kind, sha256=digest, key=TOOLS.fingerprint, files=files)


def test_the_example_of_the_specification() -> None:
    page = (Path(__file__).parents[3] / "spec" / "evidence.md").read_text(encoding="utf-8")
    assert f'"evidence":[{dumps(check(bundle("oms.json")).to_json()).decode()}]' in page


@pytest.mark.requirement("REQ-INT-04")
@pytest.mark.parametrize("name", GOOD)
def test_any_other_key_is_refused(name: str) -> None:
    (fault,) = refused(bundle(name), GOOD[name][1], OTHER).faults
    assert isinstance(fault, SignatureFault)
    assert fault.expected == f"a signature by {OTHER.fingerprint}"


@pytest.mark.requirement("REQ-INT-04")
@pytest.mark.parametrize("name", GOOD)
def test_a_changed_file_is_refused(name: str) -> None:
    sources = tuple(changed(s) if s.path == "model.safetensors" else s for s in GOOD[name][1])
    (fault,) = refused(bundle(name), sources).faults
    assert isinstance(fault, SourceFault)
    assert WEIGHTS.sha256 == fault.expected


@pytest.mark.requirement("REQ-INT-04")
@pytest.mark.parametrize("name", GOOD)
def test_a_bundle_replayed_from_another_model_is_refused(name: str) -> None:
    others = tuple(changed(s) for s in GOOD[name][1])
    faults = refused(bundle(name), others).faults
    assert len(faults) == GOOD[name][2]
    assert all(isinstance(f, SourceFault) for f in faults)


def test_a_source_that_a_signed_model_does_not_cover_is_refused() -> None:
    extra = Source(path="modeling.py", role="code", nbytes=1, sha256="a" * 64)
    (fault,) = refused(bundle("oms.json"), (*SOURCES, extra)).faults
    assert (fault.subject, fault.found) == ("modeling.py", "a" * 64)
    assert fault.detail == "a source file that bundle.json does not cover"


def test_a_source_that_was_ignored_in_signing_is_refused() -> None:
    (fault,) = refused(bundle("oms-without-config.json")).faults
    assert (fault.subject, fault.found) == ("config.json", CONFIG.sha256)


def test_a_signed_file_that_is_gone_is_refused() -> None:
    (fault,) = refused(bundle("oms.json"), (WEIGHTS,)).faults
    assert (fault.subject, fault.expected, fault.found) == ("config.json", CONFIG.sha256, None)
    assert fault.detail == "bundle.json was signed over a file that is not here"


def test_swapped_names_are_refused() -> None:
    swapped = (replace(CONFIG, sha256=WEIGHTS.sha256), replace(WEIGHTS, sha256=CONFIG.sha256))
    assert [f.subject for f in refused(bundle("oms.json"), swapped).faults] == ["config.json", "model.safetensors"]


def test_renamed_file_is_refused() -> None:
    faults = refused(bundle("oms.json"), (CONFIG, replace(WEIGHTS, path="renamed.safetensors"))).faults
    assert [f.subject for f in faults] == ["model.safetensors", "renamed.safetensors"]


def test_prose_in_a_signed_model_is_not_a_source() -> None:
    """README.md is among the signed files and never among the sources: that it is not compared is in the spec."""
    resources = payload_of(bundle("oms.json"))["predicate"]["resources"]
    assert "README.md" in {r["name"] for r in resources}
    with pytest.raises(NotWeighed) as caught:
        verify_evidence(bundle("oms.json"), "b", TOOLS, SOURCES, is_source=lambda _: True)
    assert [f.subject for f in caught.value.faults] == ["README.md"]


def test_one_file_and_a_directory_are_not_the_same_claim() -> None:
    faults = refused(bundle("oms-one-file.json"), SOURCES).faults
    assert [(f.subject, f.found) for f in faults] == [(s.path, s.sha256) for s in SOURCES]
    assert [f.subject for f in refused(bundle("oms.json"), ONE_FILE).faults] == ["config.json"]


@pytest.mark.parametrize("name", [n for n in GOOD if n.startswith("cosign")])
def test_files_with_equal_content_are_counted_each(name: str) -> None:
    twin = replace(WEIGHTS, path="twin.safetensors")
    assert check(bundle(name), (*SOURCES, twin)).files == GOOD[name][2] + 1


# -- forms that are not supported -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field", "found"),
    [("oms-shards.json", "predicate.serialization.method", "'shards'"),
     ("oms-blake3.json", "predicate.serialization.hash_type", "'blake3'")],
)  # fmt: skip
def test_other_serializations_and_hashes_are_named(name: str, field: str, found: str) -> None:
    error = malformed(bundle(name))
    assert (error.file, error.field, error.found) == ("bundle.json: payload", field, found)


def test_a_file_signed_with_ed25519_cannot_be_checked_from_its_digest() -> None:
    error = malformed(bundle("cosign-blob-ed25519.json"), key=EDWARDS)
    assert (error.field, error.found) == (
        "messageSignature.signature",
        "one by Ed25519, which needs the file's bytes",
    )


@pytest.mark.parametrize("name", ["oms.json", "cosign-blob.json"])
def test_a_bundle_that_names_another_key_is_refused(name: str) -> None:
    other = edited(name, lambda v: v["verificationMaterial"]["publicKey"].update(hint=OTHER.fingerprint))
    assert refused(other).faults[0].found == f"a bundle that names the key {OTHER.fingerprint}"


@pytest.mark.parametrize("name", ["oms.json", "cosign-blob.json"])
def test_a_bundle_need_not_name_its_key(name: str) -> None:
    unnamed = edited(name, lambda v: v["verificationMaterial"]["publicKey"].pop("hint"))
    check(unnamed)
    assert "by another key" in str(refused(unnamed, key=OTHER).faults[0].found)


def test_further_fields_of_a_signed_model_are_passed_over(bob: PrivateKey) -> None:
    payload = oms(lambda p: (p["predicate"].update(note=1), p["predicate"]["serialization"].update(note=1)))
    assert check(sealed(payload, bob), key=bob.public).files == 2


def test_a_statement_signed_with_ed25519_is_taken(bob: PrivateKey) -> None:
    assert check(sealed(payload_of(bundle("oms.json")), bob), key=bob.public).files == 2


# -- one edit of each part, signed anew where the payload is edited ---------------------------------------------------


def payload_of(data: bytes) -> Json:
    value: Json = json.loads(base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"]))
    return value


def sealed(payload: Json | bytes, key: PrivateKey) -> bytes:
    """Return the OMS bundle with another payload, signed by `key`."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    value = json.loads(bundle("oms.json"))
    signature = key.sign(pae("application/vnd.in-toto+json", data))
    value["verificationMaterial"]["publicKey"]["hint"] = key.public.fingerprint
    value["dsseEnvelope"]["payload"] = base64.b64encode(data).decode()
    value["dsseEnvelope"]["signatures"] = [{"sig": base64.b64encode(signature).decode()}]
    return json.dumps(value).encode()


def edited(name: str, edit: Callable[[Json], object]) -> bytes:
    value: Json = json.loads(bundle(name))
    edit(value)
    return dumps(value)


def flipped(text: str) -> str:
    content = bytearray(base64.b64decode(text))
    content[len(content) // 2] ^= 1
    return base64.b64encode(content).decode()


def in_envelope(**change: Any) -> Callable[[Json], object]:
    return lambda v: v["dsseEnvelope"].update(change)


@pytest.mark.parametrize(
    "data",
    [
        edited("oms.json", lambda v: in_envelope(payload=flipped(v["dsseEnvelope"]["payload"]))(v)),
        edited("oms.json", lambda v: v["dsseEnvelope"]["signatures"][0].update(sig="AAAA")),
        edited("cosign-blob.json", lambda v: v["messageSignature"].update(signature="AAAA")),
        edited("cosign-blob.json", lambda v: v["messageSignature"]["messageDigest"].update(digest="AAAA")),
        edited(
            "cosign-blob.json",
            lambda v: v["messageSignature"]["messageDigest"].update(
                digest=base64.b64encode(bytes.fromhex(CONFIG.sha256)).decode()
            ),
        ),
    ],
    ids=["payload bit", "signature", "signature of a file", "short digest", "digest of another file"],
)
def test_damage_is_a_signature_fault(data: bytes) -> None:
    (fault,) = refused(data).faults
    assert isinstance(fault, SignatureFault)


def test_signature_over_another_payload_type(alice: PrivateKey) -> None:
    payload = json.dumps(payload_of(bundle("oms.json"))).encode()
    value = json.loads(sealed(payload, alice))
    relabelled = base64.b64encode(alice.sign(pae("text/plain", payload))).decode()
    value["dsseEnvelope"]["signatures"][0]["sig"] = relabelled
    assert isinstance(refused(dumps(value), key=alice.public).faults[0], SignatureFault)


@pytest.mark.parametrize(
    ("name", "edit", "field"),
    [
        ("oms.json", lambda v: v.update(mediaType="application/json"), "mediaType"),
        ("oms.json", lambda v: v.update(note=1), "note"),
        ("oms.json", lambda v: v.pop("dsseEnvelope"), "dsseEnvelope"),
        ("oms.json", lambda v: v.update(messageSignature={}), "dsseEnvelope"),
        ("oms.json", lambda v: v["verificationMaterial"].pop("publicKey"), "verificationMaterial.publicKey"),
        ("oms.json", lambda v: v["verificationMaterial"].update(certificate={}), "verificationMaterial.certificate"),
        ("oms.json", lambda v: v["verificationMaterial"].update(x509CertificateChain={}),
         "verificationMaterial.x509CertificateChain"),
        ("oms.json", in_envelope(payloadType="text/plain"), "dsseEnvelope.payloadType"),
        ("oms.json", in_envelope(signatures=[]), "dsseEnvelope.signatures"),
        ("oms.json", lambda v: v["dsseEnvelope"]["signatures"].append(v["dsseEnvelope"]["signatures"][0]),
         "dsseEnvelope.signatures"),
        ("oms.json", in_envelope(payload="e30"), "dsseEnvelope.payload"),
        ("oms.json", lambda v: v["dsseEnvelope"]["signatures"][0].update(cert=""), "dsseEnvelope.signatures[0].cert"),
        ("cosign-blob.json", lambda v: v["messageSignature"]["messageDigest"].update(algorithm="SHA2_512"),
         "messageSignature.messageDigest.algorithm"),
        ("cosign-blob.json", lambda v: v["messageSignature"].update(messageDigest={}),
         "messageSignature.messageDigest.algorithm"),
        ("cosign-blob.json", lambda v: v["messageSignature"].update(note=1), "messageSignature.note"),
        ("cosign-blob.json", lambda v: v["messageSignature"].pop("messageDigest"), "messageSignature.messageDigest"),
        ("cosign-blob.json", lambda v: v.update(dsseEnvelope=v.pop("messageSignature")), "dsseEnvelope.payloadType"),
        ("oms.json", lambda v: v.update(messageSignature=v.pop("dsseEnvelope")), "messageSignature.messageDigest"),
    ],
)  # fmt: skip
def test_bundles_of_another_form_are_malformed(name: str, edit: Callable[[Json], object], field: str) -> None:
    assert malformed(edited(name, edit)).field == field


@pytest.mark.parametrize("data", [b"", b"{}{}", b"[]", b"\xff", b'{"mediaType":1e3}', bundle("oms.json")[:-1]])
def test_what_is_no_document(data: bytes) -> None:
    malformed(data)


def test_size_is_bounded() -> None:
    assert malformed(bytes(MAX_BUNDLE + 1)).expected == f"at most {MAX_BUNDLE} bytes"


def test_log_entries_and_timestamps_are_passed_over() -> None:
    """They are not checked and prove nothing here: with them, or with nonsense in their place, the outcome is one."""
    unchecked = {"tlogEntries": [{"logIndex": "1"}], "timestampVerificationData": {"rfc3161Timestamps": []}}
    data = edited("cosign-blob.json", lambda v: v["verificationMaterial"].update(unchecked))
    assert check(data).kind == "cosign-blob"


def oms(edit: Callable[[Json], object]) -> Json:
    payload = payload_of(bundle("oms.json"))
    edit(payload)
    return payload


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda p: p.update(_type="https://in-toto.io/Statement/v2"), "_type"),
        (lambda p: p.update(subject=[]), "subject"),
        (lambda p: p["subject"][0]["digest"].update(sha256="0" * 64), "predicate.resources"),
        (lambda p: p["subject"].append(p["subject"][0]), "predicate.resources"),
        (lambda p: p["subject"][0]["digest"].pop("sha256"), "subject[0].digest.sha256"),
        (lambda p: p["subject"][0].update(note=1), "subject[0].note"),
        (lambda p: p.pop("predicateType"), "predicateType"),
        (lambda p: p["predicate"]["resources"].pop(), "predicate.resources"),
        (lambda p: p["predicate"]["resources"].append(p["predicate"]["resources"][0]), "predicate.resources"),
        (lambda p: p["predicate"]["resources"].reverse(), "predicate.resources"),
        (lambda p: p["predicate"]["resources"][0].update(algorithm="sha512"), "predicate.resources[0].algorithm"),
        (lambda p: p["predicate"]["resources"][0].update(name="../config.json"), "predicate.resources[0].name"),
        (lambda p: p["predicate"]["resources"][0].update(digest="00"), "predicate.resources[0].digest"),
        (lambda p: p["predicate"]["resources"][0].update(size=1), "predicate.resources[0].size"),
        (lambda p: p["predicate"].pop("serialization"), "predicate.serialization"),
    ],
)
def test_signed_models_of_another_form_are_malformed(
    edit: Callable[[Json], object], field: str, alice: PrivateKey
) -> None:
    assert malformed(sealed(oms(edit), alice), key=alice.public).field == field


def test_a_signed_model_under_another_predicate_type_speaks_of_its_root_alone(alice: PrivateKey) -> None:
    """The root of a signed model is no digest of a file, so that relabelling a statement makes no evidence of it."""
    payload = oms(lambda p: p.update(predicateType=f"{OMS_TYPE}x"))
    (fault,) = refused(sealed(payload, alice), key=alice.public).faults
    assert fault.expected == payload["subject"][0]["digest"]["sha256"]


def test_a_statement_that_also_names_another_file_is_refused(alice: PrivateKey) -> None:
    payload = payload_of(bundle("cosign-statement.json"))
    payload["subject"].append({"name": "another", "digest": {"sha256": "a" * 64}})
    (fault,) = refused(sealed(payload, alice), key=alice.public).faults
    assert (fault.detail, fault.expected) == ("speaks of a file that is not among the sources", "a" * 64)


def test_duplicate_keys_in_the_payload_are_malformed(alice: PrivateKey) -> None:
    payload = json.dumps(payload_of(bundle("oms.json"))).encode().replace(b'{"_type"', b'{"_type":"x","_type"')
    assert malformed(sealed(payload, alice), key=alice.public).field == "_type"


# -- a signature that nobody made -----------------------------------------------------------------------------------

Point = tuple[int, int] | None
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(k: int, point: Point) -> Point:
    out: Point = None
    for bit in f"{k:b}":
        out = add(out, out)
        out = add(out, point) if bit == "1" else out
    return out


def test_a_signature_over_a_digest_that_is_of_no_file_is_no_evidence() -> None:
    """Anyone can make an ECDSA signature over some digest; it verifies, and no source file has that digest."""
    numbers = load_pem_public_key(TOOLS.pem).public_numbers()  # type: ignore[union-attr]
    sum_ = add(times(5, G), times(7, (numbers.x, numbers.y)))
    assert sum_ is not None
    r = sum_[0] % N
    s = r * pow(7, -1, N) % N
    digest = (5 * s % N).to_bytes(32)
    signature = encode_dss_signature(r, s)
    TOOLS.verify_digest(signature, digest)
    forged = {
        "messageDigest": {"algorithm": "SHA2_256", "digest": base64.b64encode(digest).decode()},
        "signature": base64.b64encode(signature).decode(),
    }
    (fault,) = refused(edited("cosign-blob.json", lambda v: v.update(messageSignature=forged))).faults
    assert isinstance(fault, SourceFault)
    assert fault.expected == digest.hex()
