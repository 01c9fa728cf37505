# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/seal.md: ``python vectors/seal/generate.py [DIRECTORY]``.

Every run writes the same bytes: the keys follow from labels, and ECDSA signatures use the deterministic nonce of
RFC 6979. The keys are for tests alone; a trust file that lists one of them trusts everybody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from weighmaster.core.canonical import dumps
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.dsse import pae
from weighmaster.seal.keys import PrivateKey, PublicKey
from weighmaster.seal.trust import ProductRule, RoleThreshold, Trust, TrustedKey, trust_to_bytes

PRODUCT: Final = "thorax-triage"
ROOT: Final = hashlib.sha256(b"weighmaster test vector: gate table").hexdigest()
OTHER_ROOT: Final = hashlib.sha256(b"weighmaster test vector: another gate table").hexdigest()
REQUEST: Final = {"expect": PRODUCT, "product": PRODUCT, "serial": 7, "root": ROOT}
A, B = "signer-1.sigstore.json", "approver-1.sigstore.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deterministic:
    """A signer for P-256 whose nonce follows from key and message (RFC 6979)."""

    raw: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.raw.public_key())

    def sign(self, message: bytes) -> bytes:
        return self.raw.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def _seed(label: str) -> bytes:
    return hashlib.sha256(f"weighmaster test key, trusted by nobody: {label}".encode()).digest()


def p256(label: str) -> Deterministic:
    """Return the P-256 test key of this label."""
    return Deterministic(raw=ec.derive_private_key(int.from_bytes(_seed(label)), ec.SECP256R1()))


def edwards(label: str) -> PrivateKey:
    """Return the Ed25519 test key of this label."""
    return PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(_seed(label)))


def statement(serial: int = 7) -> bytes:
    """Return bytes that look like a statement; the seal does not read them."""
    return dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "weights", "digest": {"sha256": ROOT}}],
            "predicateType": "https://example.org/weighed/v1",
            "predicate": {"product": PRODUCT, "serial": serial},
        }
    )


ALICE, BOB, MALLORY = p256("Alice"), edwards("Bob"), p256("Mallory")
ALICE_KEY = TrustedKey(person="Alice Ngo", key=ALICE.public, roles=("signer",))
BOB_KEY = TrustedKey(person="Bob Weiß", key=BOB.public, roles=("signer", "approver"))
ONE = (RoleThreshold(role="signer", threshold=1),)
BOTH = (*ONE, RoleThreshold(role="approver", threshold=1))

Files = dict[str, bytes]
Json = dict[str, Any]


def trust(required: tuple[RoleThreshold, ...] = ONE, *keys: TrustedKey, **rule: Any) -> bytes:
    """Return a trust file with one product."""
    product = ProductRule(product=PRODUCT, required_roles=required, **rule)
    return trust_to_bytes(Trust(keys=keys or (ALICE_KEY, BOB_KEY), products=(product,)))


def edited(data: bytes, edit: Callable[[Json], object]) -> bytes:
    """Return the JSON document after `edit` changed it in place."""
    value: Json = json.loads(data)
    edit(value)
    return dumps(value)


def flipped(text: str) -> str:
    """Return base64 text with the lowest bit of the middle byte of its content flipped."""
    content = bytearray(base64.b64decode(text))
    content[len(content) // 2] ^= 1
    return base64.b64encode(content).decode()


def envelope(field: str, change: Callable[[Any], Any]) -> bytes:
    """Return Alice's bundle with one field of its envelope changed."""

    def edit(value: Json) -> None:
        value["dsseEnvelope"][field] = change(value["dsseEnvelope"][field])

    return edited(GOOD, edit)


def signature(**change: Any) -> bytes:
    """Return Alice's bundle with fields of its one signature set, or left out if None."""

    def change_one(values: list[Json]) -> list[Json]:
        merged = {**values[0], **change}
        return [{k: v for k, v in merged.items() if v is not None}]

    return envelope("signatures", change_one)


def material(**change: Any) -> bytes:
    """Return Alice's bundle with fields of its verification material set."""
    return edited(GOOD, lambda value: value["verificationMaterial"].update(change))


GOOD = make_bundle(statement(), ALICE)
GOOD_BOB = make_bundle(statement(), BOB)
SIG = json.loads(GOOD)["dsseEnvelope"]["signatures"][0]["sig"]


def other_type() -> bytes:
    """Return a bundle whose signature was made over another payload type, relabelled as ours."""
    return signature(sig=base64.b64encode(ALICE.sign(pae("text/plain", statement()))).decode())


def spaced_base64() -> bytes:
    """Return a bundle whose payload decodes to the same bytes but is spelt with a line end in it."""
    return envelope("payload", lambda text: f"{text[:4]}\n{text[4:]}")


def loose_bits() -> bytes:
    """Return a bundle whose signature decodes to the same bytes but has a pad bit set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = SIG.rstrip("=")
    if body == SIG:
        raise AssertionError("the signature has no pad bits: choose another payload")
    return signature(sig=body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + SIG[len(body) :])


def good(files: Files, *signers: tuple[str, str, PublicKey], request: Json = REQUEST) -> tuple[Files, Json, Json]:
    """Return a case that holds: files, request and expectation."""
    records = [{"file": f, "person": p, "fingerprint": k.fingerprint} for f, p, k in signers]
    return files, request, {"error": None, "signers": sorted(records, key=lambda r: r["file"])}


def bad(error: str, contains: list[str], files: Files, *, count: int = 1, request: Json = REQUEST) -> Any:
    """Return a case that must be refused, with `count` faults of this type."""
    return files, request, {"error": error, "count": count, "contains": contains}


def positive() -> dict[str, tuple[Files, Json, Json]]:
    """Return the cases that hold."""
    alice, bob = (A, "Alice Ngo", ALICE.public), (A, "Bob Weiß", BOB.public)
    spelt = json.dumps(json.loads(GOOD), indent=2).encode() + b"\n"
    accepted = trust(accepted_roots=(OTHER_ROOT, ROOT), minimum_serial=7, max_excluded_bytes=1 << 60)
    return {
        "p256": good({"trust.json": trust(), A: GOOD}, alice),
        "ed25519": good({"trust.json": trust(), A: GOOD_BOB}, bob),
        "two_persons": good({"trust.json": trust(BOTH), A: GOOD, B: GOOD_BOB}, alice, (B, "Bob Weiß", BOB.public)),
        "other_spelling": good({"trust.json": trust(), A: spelt}, alice),
        "accepted_root": good({"trust.json": accepted, A: GOOD}, alice),
    }


def malformed(where: str, found: str, bundle: bytes) -> Any:
    """Return a case whose one bundle is refused before anything is verified."""
    return bad("MalformedArtefact", [A, where, found], {"trust.json": trust(), A: bundle})


def negative_bundles() -> dict[str, Any]:
    """Return bundles that do not follow the format, one fault each."""
    sig, signed = "dsseEnvelope.signatures", "dsseEnvelope.signatures[0]"
    return {
        "two_signatures_fail": malformed(sig, "found 2", envelope("signatures", lambda s: s * 2)),
        "no_signature_fail": malformed(sig, "found 0", envelope("signatures", lambda _: [])),
        "keyid_missing_fail": malformed(f"{signed}.keyid", "no such key", signature(keyid=None)),
        "keyid_not_empty_fail": malformed(
            f"{signed}.keyid", ALICE.public.fingerprint, signature(keyid=ALICE.public.fingerprint)
        ),
        "media_type_fail": malformed(
            "mediaType", "v0.2", edited(GOOD, lambda v: v.update(mediaType=v["mediaType"].replace("0.3", "0.2")))
        ),
        "payload_type_fail": malformed(
            "dsseEnvelope.payloadType", "text/plain", envelope("payloadType", lambda _: "text/plain")
        ),
        "base64_line_end_fail": malformed("dsseEnvelope.payload", "another spelling", spaced_base64()),
        "base64_pad_bits_fail": malformed(f"{signed}.sig", "another spelling", loose_bits()),
        "duplicate_key_fail": malformed(
            "payloadType", "the key twice", GOOD.replace(b'{"payload":', b'{"payloadType":"text/plain","payload":')
        ),
        "unknown_key_fail": malformed("note", "an unknown key", edited(GOOD, lambda v: v.update(note="x"))),
        "trailing_bytes_fail": malformed(f"byte {len(GOOD)}", "Extra data", GOOD + b"{}"),
        "truncated_fail": malformed("byte", "JSON", GOOD[:-1]),
        "log_entry_fail": malformed(
            "verificationMaterial.tlogEntries", "not supported", material(tlogEntries=[{"logIndex": "1"}])
        ),
        "certificate_fail": malformed(
            "verificationMaterial.certificate", "not supported", material(certificate={"rawBytes": "AA=="})
        ),
        "timestamp_fail": malformed(
            "verificationMaterial.timestampVerificationData", "not supported", material(timestampVerificationData={})
        ),
    }


def unsigned(contains: list[str], files: Files, *, count: int = 1) -> Any:
    """Return a case whose signatures do not hold."""
    return bad("SignatureFault", contains, files, count=count)


def negative_signatures() -> dict[str, Any]:
    """Return well-formed seals that do not hold."""
    mallory, revoked = MALLORY.public.fingerprint, replace(BOB_KEY, revoked=True)
    alice_twice = TrustedKey(person="Alice Ngo", key=MALLORY.public, roles=("signer",))
    two = (RoleThreshold(role="signer", threshold=2),)
    void, short = "does not verify under the key of Alice Ngo", "too few persons signed; expected at least"
    return {
        "unknown_key_signed_fail": unsigned(
            [B, "not trusted", mallory], {"trust.json": trust(), A: GOOD, B: make_bundle(statement(), MALLORY)}
        ),
        "wrong_key_fail": unsigned(
            [A, void, ALICE.public.fingerprint, f"{BOB.public.fingerprint} of Bob Weiß", short],
            {"trust.json": trust(), A: edited(GOOD_BOB, lambda v: v.update(verificationMaterial=_material(GOOD)))},
            count=2,
        ),
        "payload_bit_fail": unsigned(
            [A, void, short], {"trust.json": trust(), A: envelope("payload", flipped)}, count=2
        ),
        "signature_bit_fail": unsigned(
            [A, void, short], {"trust.json": trust(), A: signature(sig=flipped(SIG))}, count=2
        ),
        "relabelled_payload_type_fail": unsigned([A, void, short], {"trust.json": trust(), A: other_type()}, count=2),
        "revoked_key_fail": unsigned(
            [B, "the key of Bob Weiß is revoked", BOB.public.fingerprint],
            {"trust.json": trust(ONE, ALICE_KEY, revoked), A: GOOD, B: GOOD_BOB},
        ),
        "role_threshold_fail": unsigned(
            ["role approver", "expected at least 1, found 0 (nobody)"], {"trust.json": trust(BOTH), A: GOOD}
        ),
        "one_person_two_keys_fail": unsigned(
            ["role signer", "expected at least 2, found 1 (Alice Ngo)"],
            {
                "trust.json": trust(two, ALICE_KEY, alice_twice),
                A: GOOD,
                "signer-2.sigstore.json": make_bundle(statement(), MALLORY),
            },
        ),
        "two_payloads_fail": unsigned(
            [A, B, hashlib.sha256(statement()).hexdigest(), hashlib.sha256(statement(8)).hexdigest()],
            {"trust.json": trust(), A: GOOD, B: make_bundle(statement(8), BOB)},
        ),
        "no_bundle_fail": unsigned(["at least one bundle", "none"], {"trust.json": trust()}),
    }


def _material(bundle: bytes) -> Json:
    value: Json = json.loads(bundle)["verificationMaterial"]
    return value


def negative_trust() -> dict[str, Any]:
    """Return trust files that do not follow the format, one fault each."""

    def broken(contains: list[str], edit: Callable[[Json], object]) -> Any:
        files = {"trust.json": edited(trust(), edit), A: GOOD}
        return bad("MalformedArtefact", ["trust.json", *contains], files)

    def rule(**change: Any) -> Callable[[Json], object]:
        return lambda value: value["products"][0].update(change)

    def again(value: Json) -> None:
        value["keys"][1] = {**value["keys"][0], "person": "Bob Weiß"}

    return {
        "trust_same_key_twice_fail": broken(["keys[1].publicKey", ALICE.public.fingerprint, "keys[0]"], again),
        "trust_scheme_fail": broken(
            ["scheme", "weighmaster-trust-plain-v2"], lambda v: v.update(scheme="weighmaster-trust-plain-v2")
        ),
        "trust_no_role_required_fail": broken(["products[0].requiredRoles", "none"], rule(requiredRoles=[])),
        "trust_threshold_zero_fail": broken(
            ["products[0].requiredRoles[0].threshold", "0"], rule(requiredRoles=[{"role": "signer", "threshold": 0}])
        ),
        "trust_unknown_role_fail": broken(
            ["keys[0].roles[0]", "'owner'"], lambda v: v["keys"][0].update(roles=["owner"])
        ),
        "trust_number_fail": broken(["products[0].maxExcludedBytes", "a number"], rule(maxExcludedBytes=0)),
        "trust_small_order_key_fail": broken(
            ["keys[0].publicKey", "small order"], lambda v: v["keys"][0].update(publicKey=_small_order())
        ),
    }


def _small_order() -> str:
    spki = bytes.fromhex("302a300506032b6570032100") + bytes(32)
    return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(spki).decode()}\n-----END PUBLIC KEY-----\n"


def negative_identity() -> dict[str, Any]:
    """Return genuine seals of which the content is not this deployment's."""

    def other(contains: list[str], trusted: bytes, **request: Any) -> Any:
        return bad("IdentityFault", contains, {"trust.json": trusted, A: GOOD}, request={**REQUEST, **request})

    listed = json.loads(trust())
    listed["products"].append({**listed["products"][0], "product": "stroke-triage"})
    return {
        "identity_other_product_fail": other(
            ["expected thorax-triage, found stroke-triage"], dumps(listed), product="stroke-triage"
        ),
        "identity_rollback_fail": other(["rollback", "expected >= 8, found 7"], trust(minimum_serial=8)),
        "identity_revoked_root_fail": other(
            ["revoked", f"revoked root {ROOT}"], trust(accepted_roots=(ROOT,), revoked_roots=(ROOT,))
        ),
        "identity_root_not_accepted_fail": other(
            [f"expected {OTHER_ROOT}, found {ROOT}"], trust(accepted_roots=(OTHER_ROOT,))
        ),
    }


def write(directory: Path) -> None:
    """Write every case into a folder of its own."""
    cases = positive() | negative_bundles() | negative_signatures() | negative_trust() | negative_identity()
    for name, (files, request, expect) in cases.items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        documents = {"request.json": dumps(request) + b"\n", "expect.json": dumps(expect) + b"\n"}
        for file, data in {**files, **documents}.items():
            (folder / file).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
