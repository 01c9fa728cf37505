# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/seal.md: ``python vectors/seal/generate.py [DIRECTORY]``.

Every run writes the same bytes: the keys follow from labels, and ECDSA signatures use the deterministic nonce of
RFC 6979. Certificates and timestamps are those of ``pki.py``; one timestamp was made by OpenSSL, which makes another
each time, and lies in ``tsa/``. The keys are for tests alone; a trust document that lists one of them trusts everybody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from weighmaster.core.canonical import dumps
from weighmaster.seal.bundle import make_bundle, parse_bundle, with_timestamp
from weighmaster.seal.dsse import pae
from weighmaster.seal.keys import PrivateKey, PublicKey
from weighmaster.seal.trust import (
    Authority,
    Identity,
    ProductRule,
    RoleThreshold,
    RootKey,
    Roots,
    TimestampAuthority,
    Trust,
    TrustedKey,
)
from weighmaster.seal.trust_document import trust_to_bytes

HERE: Final = Path(__file__).parent
PKI: Final = SimpleNamespace(**runpy.run_path(str(HERE / "pki.py")))

PRODUCT: Final = "thorax-triage"
ROOT: Final = hashlib.sha256(b"weighmaster test vector: gate table").hexdigest()
OTHER_ROOT: Final = hashlib.sha256(b"weighmaster test vector: another gate table").hexdigest()
NOW: Final = "2030-06-01T12:00:00Z"
REQUEST: Final = {"expect": PRODUCT, "product": PRODUCT, "serial": 7, "root": ROOT, "now": NOW}
DOCUMENT: Final = "trust-document.json"
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


def p256(label: str) -> Deterministic:
    """Return the P-256 test key of this label."""
    return Deterministic(raw=PKI.p256(label))


def edwards(label: str) -> PrivateKey:
    """Return the Ed25519 test key of this label."""
    return PrivateKey(PKI.edwards(label))


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
    """Return a trust document with one product, and no authorities."""
    product = ProductRule(product=PRODUCT, required_roles=required, **rule)
    return trust_to_bytes(_trust(keys=keys or (ALICE_KEY, BOB_KEY), products=(product,)))


def _trust(**values: Any) -> Trust:
    roots = Roots(keys=(RootKey(person="Rosa Keeper", key=p256("Rosa").public),), threshold=1)
    return Trust(**{"expires": datetime(2100, 1, 1, tzinfo=UTC), "roots": roots, **values})


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


def good(files: Files, *signers: tuple[Any, ...], request: Json = REQUEST) -> tuple[Files, Json, Json]:
    """Return a case that holds: files, request and expectation.

    Args:
        files: by name.
        signers: for each file its name, person and key; then how the key is known, and the timestamp's moment.
        request: what is asked.
    """
    filled = [(*signer, *("key", None)[len(signer) - 3 :]) for signer in signers]
    records = [{"file": f, "person": p, "fingerprint": k.fingerprint, "by": b, "time": t} for f, p, k, b, t in filled]
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
        "p256": good({DOCUMENT: trust(), A: GOOD}, alice),
        "ed25519": good({DOCUMENT: trust(), A: GOOD_BOB}, bob),
        "two_persons": good({DOCUMENT: trust(BOTH), A: GOOD, B: GOOD_BOB}, alice, (B, "Bob Weiß", BOB.public)),
        "other_spelling": good({DOCUMENT: trust(), A: spelt}, alice),
        "accepted_root": good({DOCUMENT: accepted, A: GOOD}, alice),
    }


def malformed(where: str, found: str, bundle: bytes) -> Any:
    """Return a case whose one bundle is refused before anything is verified."""
    return bad("MalformedArtefact", [A, where, found], {DOCUMENT: trust(), A: bundle})


def damaged_certificate() -> bytes:
    """Return Carol's bundle with a byte after her certificate."""

    def edit(value: Json) -> None:
        longer = base64.b64encode(CAROL.der + b"\0").decode()
        value["verificationMaterial"]["certificate"]["rawBytes"] = longer

    return edited(certified(), edit)


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
        "certificate_and_key_fail": malformed(
            "verificationMaterial.certificate", "both", material(certificate={"rawBytes": "AA=="})
        ),
        "certificate_chain_fail": malformed(
            "verificationMaterial.x509CertificateChain", "a chain", material(x509CertificateChain={"certificates": []})
        ),
        "certificate_damaged_fail": malformed(
            "verificationMaterial.certificate.rawBytes", "one X.509 certificate in DER", damaged_certificate()
        ),
        "timestamp_none_fail": malformed(
            "timestampVerificationData.rfc3161Timestamps",
            "exactly one timestamp, found 0",
            material(timestampVerificationData={"rfc3161Timestamps": []}),
        ),
        "timestamp_two_fail": malformed(
            "timestampVerificationData.rfc3161Timestamps",
            "exactly one timestamp, found 2",
            material(timestampVerificationData={"rfc3161Timestamps": [{"signedTimestamp": "AA=="}] * 2}),
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
            [B, "not trusted", mallory], {DOCUMENT: trust(), A: GOOD, B: make_bundle(statement(), MALLORY)}
        ),
        "wrong_key_fail": unsigned(
            [A, void, ALICE.public.fingerprint, f"{BOB.public.fingerprint} of Bob Weiß", short],
            {DOCUMENT: trust(), A: edited(GOOD_BOB, lambda v: v.update(verificationMaterial=_material(GOOD)))},
            count=2,
        ),
        "payload_bit_fail": unsigned([A, void, short], {DOCUMENT: trust(), A: envelope("payload", flipped)}, count=2),
        "signature_bit_fail": unsigned([A, void, short], {DOCUMENT: trust(), A: signature(sig=flipped(SIG))}, count=2),
        "relabelled_payload_type_fail": unsigned([A, void, short], {DOCUMENT: trust(), A: other_type()}, count=2),
        "revoked_key_fail": unsigned(
            [B, "the key of Bob Weiß is revoked", BOB.public.fingerprint],
            {DOCUMENT: trust(ONE, ALICE_KEY, revoked), A: GOOD, B: GOOD_BOB},
        ),
        "role_threshold_fail": unsigned(
            ["role approver", "expected at least 1, found 0 (nobody)"], {DOCUMENT: trust(BOTH), A: GOOD}
        ),
        "one_person_two_keys_fail": unsigned(
            ["role signer", "expected at least 2, found 1 (Alice Ngo)"],
            {
                DOCUMENT: trust(two, ALICE_KEY, alice_twice),
                A: GOOD,
                "signer-2.sigstore.json": make_bundle(statement(), MALLORY),
            },
        ),
        "two_payloads_fail": unsigned(
            [A, B, hashlib.sha256(statement()).hexdigest(), hashlib.sha256(statement(8)).hexdigest()],
            {DOCUMENT: trust(), A: GOOD, B: make_bundle(statement(8), BOB)},
        ),
        "no_bundle_fail": unsigned(["at least one bundle", "none"], {DOCUMENT: trust()}),
    }


def _material(bundle: bytes) -> Json:
    value: Json = json.loads(bundle)["verificationMaterial"]
    return value


# -- certificates and time: valid in 2030, the timestamp authority from 2020 to 2039 ----------------------------------

YEARS: Final = {"begin": datetime(2020, 1, 1, tzinfo=UTC), "end": datetime(2040, 1, 1, tzinfo=UTC)}
CAROL_NAME: Final = x509.RFC822Name("carol@example.org")
INSIDE, LATER = datetime(2030, 6, 1, tzinfo=UTC), "2031-06-01T12:00:00Z"

ROOT_CA = PKI.authority("Example root", path_length=1)
ISSUING = PKI.authority("Example issuing", by=ROOT_CA, path_length=0)
CAROL = PKI.leaf("Carol", ISSUING, CAROL_NAME)
STAMPING = PKI.authority("Example stamping root", **YEARS)
STAMPER = PKI.stamper("Example stamper", STAMPING, **YEARS)
AUTHORITY = Authority(name="Example", certificate=ROOT_CA.certificate, intermediates=(ISSUING.certificate,))
CAROL_IDENTITY = Identity(person="Carol Ito", authority="Example", subject="email:carol@example.org", roles=("signer",))
STAMPS = TimestampAuthority(name="Example stamps", certificates=(STAMPING.certificate,))
RETIRED_ALICE = replace(ALICE_KEY, not_after=datetime(2030, 12, 31, tzinfo=UTC))


def certifying(required: tuple[RoleThreshold, ...] = ONE, **change: Any) -> bytes:
    """Return a trust document that lists the authorities and Carol."""
    product = ProductRule(product=PRODUCT, required_roles=required)
    listed = {"keys": (ALICE_KEY,), "authorities": (AUTHORITY,), "identities": (CAROL_IDENTITY,)}
    return trust_to_bytes(_trust(**{**listed, "timestamp_authorities": (STAMPS,), "products": (product,), **change}))


def certified(holder: Any = CAROL) -> bytes:
    """Return a bundle by the key of a certificate."""
    key = holder.key
    signer = Deterministic(raw=key) if isinstance(key, ec.EllipticCurvePrivateKey) else PrivateKey(key)
    return make_bundle(statement(), signer, certificate=holder.der)


def stamped(bundle: bytes, moment: datetime | str = INSIDE, *, over: bytes | None = None, **options: Any) -> bytes:
    """Return the bundle with a timestamp, over its own signature or over other bytes."""
    value = parse_bundle(bundle, "b").signature.value if over is None else over
    return with_timestamp(bundle, PKI.timestamp(value, options.pop("by", STAMPER), moment, **options), "b")


def openssl_document() -> bytes:
    """Return a trust document that lists the authority of ``tsa/`` alone."""
    root = x509.load_pem_x509_certificate((HERE / "tsa" / "root.pem").read_bytes())
    return certifying(timestamp_authorities=(TimestampAuthority(name="OpenSSL", certificates=(root,)),))


def positive_time() -> dict[str, Any]:
    """Return seals by certificates and with timestamps that hold."""
    late, carol = {**REQUEST, "now": LATER}, PrivateKey(CAROL.key).public
    edwards_carol = PKI.leaf("Carol", ISSUING, CAROL_NAME, key=PKI.edwards("Carol"))
    two = (RoleThreshold(role="signer", threshold=2),)
    response = (HERE / "tsa" / "response.tsr").read_bytes()
    moment = f"{INSIDE:%Y-%m-%dT%H:%M:%SZ}"
    by = "certificate of Example"
    return {
        "certificate": good({DOCUMENT: certifying(), A: certified()}, (A, "Carol Ito", carol, by)),
        "certificate_ed25519": good(
            {DOCUMENT: certifying(), A: certified(edwards_carol)},
            (A, "Carol Ito", PrivateKey(edwards_carol.key).public, by),
        ),
        "certificate_expired_timestamp": good(
            {DOCUMENT: certifying(), A: stamped(certified())}, (A, "Carol Ito", carol, by, moment), request=late
        ),
        "certificate_last_second": good(
            {DOCUMENT: certifying(), A: certified()},
            (A, "Carol Ito", carol, by),
            request={**REQUEST, "now": "2031-01-01T00:00:00Z"},
        ),
        "key_and_certificate": good(
            {DOCUMENT: certifying(two), A: certified(), B: GOOD},
            (A, "Carol Ito", carol, by),
            (B, "Alice Ngo", ALICE.public),
        ),
        "key_retired_timestamp": good(
            {DOCUMENT: certifying(keys=(RETIRED_ALICE,)), A: stamped(GOOD)},
            (A, "Alice Ngo", ALICE.public, "key", moment),
            request=late,
        ),
        "timestamp_fraction": good(
            {DOCUMENT: certifying(), A: stamped(GOOD, "20300601000000.999Z")},
            (A, "Alice Ngo", ALICE.public, "key", moment),
        ),
        "timestamp_openssl": good(
            {DOCUMENT: openssl_document(), A: with_timestamp(GOOD, response, "b")},
            (A, "Alice Ngo", ALICE.public, "key", (HERE / "tsa" / "moment").read_text().strip()),
        ),
    }


def negative_certificates() -> dict[str, Any]:
    """Return seals by certificates that do not hold, one fault each."""

    def other(
        contains: list[str], holder: Any = CAROL, *, now: str = NOW, bundle: bytes | None = None, **change: Any
    ) -> Any:
        files = {DOCUMENT: certifying(**change), A: certified(holder) if bundle is None else bundle}
        text = ["the certificate of CN=", *contains]
        return bad("SignatureFault", text, files, count=2, request={**REQUEST, "now": now})

    forged = PKI.authority("Example issuing", key=PKI.p256("Mallory's authority"))
    short = PKI.authority("Example issuing", by=ROOT_CA, end=datetime(2030, 3, 1, tzinfo=UTC))
    serial = f"{CAROL.certificate.serial_number:x}"
    path, invalid = "expected a path to an authority listed in", "expected one that is valid at"
    return {
        "certificate_expired_fail": other([f"{invalid} {LATER}", "to 2031-01-01T00:00:00Z"], now=LATER),
        "certificate_not_yet_valid_fail": other(
            [f"{invalid} 2029-12-31T23:59:59Z", "from 2030-01-01"], now="2029-12-31T23:59:59Z"
        ),
        "certificate_timestamp_after_fail": other(
            [f"{invalid} 2031-03-01T00:00:00Z"],
            now=LATER,
            bundle=stamped(certified(), datetime(2031, 3, 1, tzinfo=UTC)),
        ),
        "certificate_timestamp_before_fail": other(
            [f"{invalid} 2029-06-01T00:00:00Z"], bundle=stamped(certified(), datetime(2029, 6, 1, tzinfo=UTC))
        ),
        "certificate_other_authority_fail": other([path, "Example: "], PKI.leaf("Carol", forged, CAROL_NAME)),
        "certificate_unlisted_intermediate_fail": other(
            [path, "Example: "], authorities=(replace(AUTHORITY, intermediates=()),)
        ),
        "certificate_expired_intermediate_fail": other(
            [path, "CN=Example issuing is one valid from", "to 2030-03-01T00:00:00Z"],
            PKI.leaf("Carol", short, CAROL_NAME),
            authorities=(replace(AUTHORITY, intermediates=(short.certificate,)),),
        ),
        "certificate_of_authority_fail": other(["expected the certificate of a signer", "(CA)"], ISSUING),
        "certificate_no_purpose_fail": other(
            ["1.3.6.1.5.5.7.3.3", "no extended key usage"], PKI.leaf("Carol", ISSUING, CAROL_NAME, purposes=())
        ),
        "certificate_other_purpose_fail": other(
            ["1.3.6.1.5.5.7.3.3", "found 1.3.6.1.5.5.7.3.8"],
            PKI.leaf("Carol", ISSUING, CAROL_NAME, purposes=(PKI.TIME_STAMPING,)),
        ),
        "certificate_name_case_fail": other(
            ["found email:Carol@example.org"], PKI.leaf("Carol", ISSUING, x509.RFC822Name("Carol@example.org"))
        ),
        "certificate_common_name_only_fail": other(["no such name"], PKI.leaf("carol@example.org", ISSUING)),
        "certificate_revoked_serial_fail": other(
            [f"serial {serial}, revoked"], authorities=(replace(AUTHORITY, revoked_serials=(serial,)),)
        ),
        "certificate_revoked_identity_fail": other(
            ["email:carol@example.org of Carol Ito, revoked"], identities=(replace(CAROL_IDENTITY, revoked=True),)
        ),
    }


def negative_persons() -> dict[str, Any]:
    """Return seals in which one person or one key would count twice."""
    two = (RoleThreshold(role="signer", threshold=2),)
    same = replace(CAROL_IDENTITY, person="Alice Ngo")
    dave = Identity(person="Dave Orr", authority="Example", subject="dns:dave.example.org", roles=("signer",))
    shared = PKI.leaf("Dave", ISSUING, x509.DNSName("dave.example.org"), key=CAROL.key)
    return {
        "one_person_key_and_certificate_fail": unsigned(
            ["role signer", "expected at least 2, found 1 (Alice Ngo)"],
            {DOCUMENT: certifying(two, identities=(same,)), A: certified(), B: GOOD},
        ),
        "one_key_two_persons_fail": unsigned(
            [A, f"signed with the key of {B}, for another person", "Carol Ito", "Dave Orr"],
            {DOCUMENT: certifying(two, identities=(CAROL_IDENTITY, dave)), A: certified(), B: certified(shared)},
        ),
        "key_retired_fail": bad(
            "SignatureFault",
            ["the key of Alice Ngo counts no more", "2030-12-31T00:00:00Z", LATER],
            {DOCUMENT: certifying(keys=(RETIRED_ALICE,)), A: GOOD},
            count=2,
            request={**REQUEST, "now": LATER},
        ),
        "key_retired_timestamp_after_fail": bad(
            "SignatureFault",
            ["the key of Alice Ngo counts no more", "2030-12-31T00:00:00Z", "2031-03-01T00:00:00Z", "its timestamp"],
            {DOCUMENT: certifying(keys=(RETIRED_ALICE,)), A: stamped(GOOD, datetime(2031, 3, 1, tzinfo=UTC))},
            count=2,
            request={**REQUEST, "now": LATER},
        ),
    }


def negative_timestamps() -> dict[str, Any]:
    """Return seals whose timestamp does not hold, though none is needed."""

    def other(contains: list[str], bundle: bytes, **change: Any) -> Any:
        return bad("SignatureFault", [A, *contains], {DOCUMENT: certifying(**change), A: bundle}, count=2)

    forged = PKI.stamper("Example stamper", PKI.authority("Example stamping root", key=PKI.p256("Mallory's stamps")))
    both = PKI.stamper("Example stamper", STAMPING, purposes=(PKI.TIME_STAMPING, PKI.CODE_SIGNING), **YEARS)
    short = PKI.stamper("Example stamper", STAMPING, begin=YEARS["begin"], end=datetime(2029, 1, 1, tzinfo=UTC))
    unread = "its timestamp cannot be read"
    return {
        "timestamp_of_another_signature_fail": other(["over other bytes"], stamped(GOOD, over=b"another signature")),
        "timestamp_of_the_payload_fail": other(["over other bytes"], stamped(GOOD, over=statement())),
        "timestamp_unlisted_authority_fail": other(["does not hold", "Example stamps: "], stamped(GOOD, by=forged)),
        "timestamp_no_authority_fail": other(
            ["does not hold", "no timestamp authority is listed"], stamped(GOOD), timestamp_authorities=()
        ),
        "timestamp_other_purpose_fail": other(["for other purposes too"], stamped(GOOD, by=both)),
        "timestamp_expired_authority_fail": other(["to 2029-01-01T00:00:00Z"], stamped(GOOD, by=short)),
        "timestamp_future_fail": other(
            ["from the future", "at most 300 s after 2030-06-01T12:00:00Z", "2030-06-01T12:05:01Z"],
            stamped(GOOD, datetime(2030, 6, 1, 12, 5, 1, tzinfo=UTC)),
        ),
        "timestamp_leap_second_fail": other([unread], stamped(GOOD, "20291231235960Z")),
        "timestamp_trailing_zero_fail": other([unread], stamped(GOOD, "20300601000000.50Z")),
        "timestamp_sha1_fail": other(["another hash", "1.3.14.3.2.26"], stamped(GOOD, digest="sha1")),
        "timestamp_not_granted_fail": other(["granted with changes"], stamped(GOOD, status="granted_with_mods")),
        "timestamp_without_certificate_fail": other(["0 certificates of its signer"], stamped(GOOD, carrying=())),
        "timestamp_garbage_fail": other([unread], with_timestamp(GOOD, b"garbage", "b")),
    }


def negative_identity() -> dict[str, Any]:
    """Return genuine seals of which the content is not this deployment's."""

    def other(contains: list[str], trusted: bytes, **request: Any) -> Any:
        return bad("IdentityFault", contains, {DOCUMENT: trusted, A: GOOD}, request={**REQUEST, **request})

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
    cases = positive() | positive_time() | negative_bundles() | negative_signatures() | negative_identity()
    cases |= negative_certificates() | negative_persons() | negative_timestamps()
    for name, (files, request, expect) in cases.items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        documents = {"request.json": dumps(request) + b"\n", "expect.json": dumps(expect) + b"\n"}
        for file, data in {**files, **documents}.items():
            (folder / file).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
