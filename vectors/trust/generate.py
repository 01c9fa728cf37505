# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/trust.md: ``python vectors/trust/generate.py [DIRECTORY]``.

Every run writes the same bytes: the keys follow from labels, and ECDSA signatures use the deterministic nonce of
RFC 6979. The keys are for tests alone; a trust file that they sign trusts everybody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from weighmaster.core.canonical import dumps
from weighmaster.flows.mark import Mark, mark_to_bytes
from weighmaster.seal.dsse import PAYLOAD_TYPE as STATEMENT_TYPE
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
from weighmaster.seal.trust_chain import Chain, amend, chain_to_bytes, countersign, new_chain
from weighmaster.seal.trust_document import trust_to_bytes

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER: Final = NOW + timedelta(days=365)
PRODUCT: Final = "thorax-triage"
SERIAL: Final = 7

Files = dict[str, bytes]
Json = dict[str, Any]


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


def certificate(label: str) -> x509.Certificate:
    """Return a self-signed certificate of the P-256 test key of this label."""
    key, name = p256(label).raw, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Test {label}")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 0x4D, NOW, LATER)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


ROSA, SAM, TESS, UMA, MALLORY = edwards("Rosa"), p256("Sam"), edwards("Tess"), p256("Uma"), edwards("Mallory")
ALICE = TrustedKey(person="Alice Ngo", key=p256("Alice").public, roles=("signer",))
BOB = TrustedKey(person="Bob Weiß", key=edwards("Bob").public, roles=("approver",), not_after=LATER)
SIGNER = (RoleThreshold(role="signer", threshold=1),)


def root_set(threshold: int, **keys: Any) -> Roots:
    """Return a set of roots by person."""
    return Roots(keys=tuple(RootKey(person=p, key=k.public) for p, k in keys.items()), threshold=threshold)


OLD, NEW = root_set(2, Rosa=ROSA, Sam=SAM, Tess=TESS), root_set(1, Uma=UMA)


def document(kept_by: Roots = OLD, **fields: Any) -> Trust:
    """Return a document with one product and two persons."""
    rule = ProductRule(product=PRODUCT, required_roles=SIGNER, minimum_serial=SERIAL)
    settings = {"expires": LATER, "roots": kept_by, "keys": (ALICE, BOB), "products": (rule,), "file": "trust.json"}
    return Trust(**{**settings, **fields})


def signed(chain: Chain, *keys: Any) -> Chain:
    """Return the chain, its current document signed by these keys."""
    for key in keys:
        chain = countersign(chain, key)
    return chain


ONE: Final = signed(new_chain(document(), "trust.json"), ROSA, SAM)
TWO: Final = signed(amend(ONE, document(keys=(ALICE,))), SAM, TESS)
ROTATED: Final = signed(amend(TWO, document(NEW)), ROSA, SAM, UMA)
AFTER: Final = signed(amend(ROTATED, document(NEW, keys=(ALICE,))), UMA)
EVERYTHING: Final = signed(
    new_chain(
        document(
            authorities=(
                Authority(
                    name="clinic",
                    certificate=certificate("CA"),
                    intermediates=(certificate("between"),),
                    revoked_serials=("4d2",),
                ),
            ),
            identities=(
                Identity(person="Carol", authority="clinic", subject="email:carol@example.org", roles=("signer",)),
            ),
            timestamp_authorities=(TimestampAuthority(name="stamps", certificates=(certificate("TSA"),)),),
            products=(ProductRule(product=PRODUCT, required_roles=SIGNER, waiver_roles=SIGNER),),
        ),
        "trust.json",
    ),
    TESS,
    ROSA,
)


def request(pin: str = OLD.fingerprint, now: str = "2026-11-24T12:00:00Z", serial: int = SERIAL) -> Json:
    """Return what the deployment says: pin, moment, and product and serial of the manifest."""
    return {"roots": pin, "now": now, "product": PRODUCT, "serial": serial}


def good(chain: Chain, version: int, keepers: list[str], *, mark: bytes | None = None, **asked: Any) -> Any:
    """Return a case that holds."""
    files = {"trust.json": chain_to_bytes(chain)} | ({"mark": mark} if mark else {})
    return files, request(**asked), {"error": None, "version": version, "keepers": keepers}


def bad(error: str, contains: list[str], data: bytes | Chain, *, mark: bytes | None = None, **asked: Any) -> Any:
    """Return a case that must be refused, with this kind of fault alone."""
    files = {"trust.json": data if isinstance(data, bytes) else chain_to_bytes(data)}
    return files | ({"mark": mark} if mark else {}), request(**asked), {"error": error, "contains": contains}


def edited(chain: Chain, edit: Callable[[Json], object]) -> bytes:
    """Return the file after `edit` changed it in place."""
    value: Json = json.loads(chain_to_bytes(chain))
    edit(value)
    return dumps(value)


def resigned(edit: Callable[[Json], object], chain: Chain = ONE) -> bytes:
    """Return a file whose document was changed by `edit` and signed by its keepers as it then was."""
    content: Json = json.loads(chain.current.payload)
    edit(content)
    payload = dumps(content)
    message = pae("application/vnd.weighmaster.trust.v1+json", payload)
    pairs = [{"keyid": k.public.fingerprint, "sig": base64.b64encode(k.sign(message)).decode()} for k in (ROSA, SAM)]
    encoded = base64.b64encode(payload).decode()
    return edited(chain, lambda v: v["envelopes"][-1].update(payload=encoded, signatures=pairs))


def mark(chain: Chain, **fields: Any) -> Mark:
    """Return the mark of a gate that saw the current document of `chain`."""
    current = chain.current
    settings: Json = {
        "product": PRODUCT,
        "roots": current.trust.roots.fingerprint,
        "serial": SERIAL,
        "time": NOW,
        "trust_sha256": current.sha256,
        "trust_version": current.trust.version,
    }
    return Mark(**{**settings, **fields})


def positive() -> dict[str, Any]:
    """Return the cases that hold."""
    spelt = json.dumps(json.loads(chain_to_bytes(ONE)), indent=2).encode() + b"\n"
    return {
        "one": good(ONE, 1, ["Rosa", "Sam"]),
        "next_version": good(TWO, 2, ["Sam", "Tess"]),
        "everything": good(EVERYTHING, 1, ["Rosa", "Tess"]),
        "rotated_from_the_old_pin": good(ROTATED, 3, ["Uma"]),
        "rotated_from_the_new_pin": good(ROTATED, 3, ["Uma"], pin=NEW.fingerprint),
        "after_rotation": good(AFTER, 4, ["Uma"]),
        "other_spelling": (
            {"trust.json": spelt},
            request(),
            {"error": None, "version": 1, "keepers": ["Rosa", "Sam"]},
        ),
        "last_second": good(ONE, 1, ["Rosa", "Sam"], now="2027-11-24T11:59:59Z"),
        "mark_same": good(TWO, 2, ["Sam", "Tess"], mark=mark_to_bytes(mark(TWO))),
        "mark_lower": good(AFTER, 4, ["Uma"], mark=mark_to_bytes(mark(ONE, serial=1))),
        "mark_clock_within_slack": good(
            ONE, 1, ["Rosa", "Sam"], mark=mark_to_bytes(mark(ONE)), now="2026-11-24T11:55:00Z"
        ),
    }


def negative_files() -> dict[str, Any]:
    """Return files that do not follow the format."""

    def broken(contains: str, edit: Callable[[Json], object]) -> Any:
        return bad("MalformedArtefact", ["trust.json", contains], edited(ONE, edit))

    first = "envelopes[0]"
    return {
        "scheme_fail": broken("scheme", lambda v: v.update(scheme="weighmaster-trust-v2")),
        "plain_scheme_fail": broken("scheme", lambda v: v.update(scheme="weighmaster-trust-plain-v1")),
        "unknown_key_fail": broken("note", lambda v: v.update(note=1)),
        "no_envelope_fail": broken("envelopes", lambda v: v.update(envelopes=[])),
        "payload_type_fail": broken(
            f"{first}.payloadType", lambda v: v["envelopes"][0].update(payloadType=STATEMENT_TYPE)
        ),
        "payload_line_end_fail": broken(
            f"{first}.payload", lambda v: v["envelopes"][0].update(payload=v["envelopes"][0]["payload"] + "\n")
        ),
        "keyid_empty_fail": broken(
            "signatures[0].keyid", lambda v: v["envelopes"][0]["signatures"][0].update(keyid="")
        ),
        "signature_twice_fail": broken(
            "each keyid once", lambda v: v["envelopes"][0]["signatures"].append(v["envelopes"][0]["signatures"][0])
        ),
        "versions_swapped_fail": bad(
            "MalformedArtefact",
            ["envelopes[1].version", "expected a version above 3, found 2"],
            edited(ROTATED, lambda v: v["envelopes"].reverse()),
        ),
        "duplicate_key_fail": bad(
            "MalformedArtefact",
            ["the key twice"],
            chain_to_bytes(ONE).replace(b'{"envelopes"', b'{"scheme":"x","envelopes"'),
        ),
        "truncated_fail": bad("MalformedArtefact", ["trust.json"], chain_to_bytes(ONE)[:-1]),
        "trailing_bytes_fail": bad("MalformedArtefact", ["Extra data"], chain_to_bytes(ONE) + b"{}"),
    }


def negative_documents() -> dict[str, Any]:
    """Return documents that do not follow the format, signed by their keepers all the same."""

    def broken(contains: str, edit: Callable[[Json], object], chain: Chain = ONE) -> Any:
        return bad("MalformedArtefact", ["trust.json", contains], resigned(edit, chain))

    def rule(**change: Any) -> Callable[[Json], object]:
        return lambda v: v["products"][0].update(change)

    def key(**change: Any) -> Callable[[Json], object]:
        return lambda v: v["keys"][0].update(change)

    small = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + bytes(32)).decode()
    pem = f"-----BEGIN PUBLIC KEY-----\n{small}\n-----END PUBLIC KEY-----\n"
    return {
        "document_version_zero_fail": broken("version", lambda v: v.update(version=0)),
        "document_expires_leap_second_fail": broken("expires", lambda v: v.update(expires="2026-06-30T23:59:60Z")),
        "document_expires_zone_fail": broken("expires", lambda v: v.update(expires="2027-01-01T00:00:00+00:00")),
        "document_no_roots_fail": broken("roots.threshold", lambda v: v["roots"].update(keys=[])),
        "document_roots_threshold_fail": broken("roots.threshold", lambda v: v["roots"].update(threshold=4)),
        "document_key_twice_fail": broken(
            "keys[1].publicKey", lambda v: v["keys"][1].update(publicKey=v["keys"][0]["publicKey"])
        ),
        "document_small_order_key_fail": broken("small order", key(publicKey=pem)),
        "document_person_not_nfc_fail": broken("keys[0].person", key(person="Jose\u0301")),
        "document_unknown_role_fail": broken("keys[0].roles[0]", key(roles=["owner"])),
        "document_revoked_is_number_fail": broken("keys[0].revoked", key(revoked=0)),
        "document_no_role_required_fail": broken("requiredRoles", rule(requiredRoles=[])),
        "document_threshold_zero_fail": broken(
            "requiredRoles[0].threshold", rule(requiredRoles=[{"role": "signer", "threshold": 0}])
        ),
        "document_bytes_as_number_fail": broken("maxExcludedBytes", rule(maxExcludedBytes=0)),
        "document_waiver_roles_missing_fail": broken("waiverRoles", lambda v: v["products"][0].pop("waiverRoles")),
        "document_product_twice_fail": broken("products[1].product", lambda v: v["products"].append(v["products"][0])),
        "document_unknown_key_fail": broken("logs", lambda v: v.update(logs=[])),
        "document_subject_kind_fail": broken(
            "identities[0].subject", lambda v: v["identities"][0].update(subject="carol"), EVERYTHING
        ),
        "document_authority_unknown_fail": broken(
            "identities[0].authority", lambda v: v["identities"][0].update(authority="x"), EVERYTHING
        ),
        "document_certificate_comment_fail": broken(
            "authorities[0].certificate",
            lambda v: v["authorities"][0].update(certificate="note\n" + v["authorities"][0]["certificate"]),
            EVERYTHING,
        ),
        "document_serial_capital_fail": broken(
            "revokedSerials[0]", lambda v: v["authorities"][0].update(revokedSerials=["4D"]), EVERYTHING
        ),
    }


def negative_signatures() -> dict[str, Any]:
    """Return well-formed files that do not hold."""

    def unsigned(contains: list[str], data: bytes | Chain, **asked: Any) -> Any:
        return bad("SignatureFault", contains, data, **asked)

    def cross(value: Json) -> None:
        a, b = value["envelopes"][0]["signatures"]
        a["sig"], b["sig"] = b["sig"], a["sig"]

    def stranger(value: Json) -> None:
        message = pae("application/vnd.weighmaster.trust.v1+json", ONE.current.payload)
        value["envelopes"][0]["signatures"].append(
            {"keyid": MALLORY.public.fingerprint, "sig": base64.b64encode(MALLORY.sign(message)).decode()}
        )

    def relabelled(value: Json) -> None:
        message = pae(STATEMENT_TYPE, ONE.current.payload)
        for entry, signer in zip(value["envelopes"][0]["signatures"], (ROSA, SAM), strict=True):
            entry["sig"] = base64.b64encode(signer.sign(message)).decode()

    def other_payload(value: Json) -> None:
        value["envelopes"][0]["payload"] = base64.b64encode(
            trust_to_bytes(document(expires=LATER + timedelta(seconds=1)))
        ).decode()

    twice = Roots(keys=(*root_set(2, Rosa=ROSA, Sam=SAM).keys, RootKey(person="Rosa", key=TESS.public)), threshold=2)
    few, old = "too few keepers of the roots signed", "expected at least 2, found 1 (Rosa)"
    forged = new_chain(document(OLD, version=9), "trust.json")
    return {
        "one_of_two_fail": unsigned([few, old], signed(new_chain(document(), "trust.json"), ROSA)),
        "one_person_two_keys_fail": unsigned(
            [few, old], signed(new_chain(document(twice), "trust.json"), ROSA, TESS), pin=twice.fingerprint
        ),
        "unsigned_fail": unsigned([few, "found 0 (nobody)"], new_chain(document(), "trust.json")),
        "payload_changed_fail": unsigned(["does not verify under the root key of Rosa"], edited(ONE, other_payload)),
        "signatures_crossed_fail": unsigned(["does not verify under the root key of Sam"], edited(ONE, cross)),
        "stranger_signed_too_fail": unsigned(
            ["signed with a key that is no root key", MALLORY.public.fingerprint], edited(ONE, stranger)
        ),
        "relabelled_payload_type_fail": unsigned(["does not verify"], edited(ONE, relabelled)),
        "other_pin_fail": unsigned(["does not begin at the roots", NEW.fingerprint], ONE, pin=NEW.fingerprint),
        "threshold_lowered_fail": unsigned(
            ["does not begin at the roots"],
            signed(new_chain(document(replace(OLD, threshold=1)), "trust.json"), ROSA),
        ),
        "person_renamed_fail": unsigned(
            ["does not begin at the roots"],
            signed(
                new_chain(document(replace(OLD, keys=(*OLD.keys[:2], replace(OLD.keys[2], person="Tes")))), "t"),
                ROSA,
                SAM,
            ),
        ),
        "rotation_old_keepers_missing_fail": unsigned(
            [few, "found 0 (nobody)"], signed(amend(TWO, document(NEW)), UMA)
        ),
        "rotation_new_keepers_missing_fail": unsigned(
            ["too few keepers of the new roots signed", "expected at least 1, found 0 (nobody)"],
            signed(amend(TWO, document(NEW)), ROSA, SAM),
        ),
        "bridge_missing_fail": unsigned(
            [few, "version 4"], replace(AFTER, envelopes=(AFTER.envelopes[0], AFTER.envelopes[-1]))
        ),
        "former_keepers_fail": unsigned(
            [few, "version 9"], replace(AFTER, envelopes=(*AFTER.envelopes, signed(forged, ROSA, SAM).current))
        ),
        "expired_fail": unsigned(["has expired", "found 2027-11-24T12:00:00Z"], ONE, now="2027-11-24T12:00:00Z"),
        "expired_long_ago_fail": unsigned(["has expired"], ONE, now="9999-12-31T23:59:59Z"),
    }


def negative_marks() -> dict[str, Any]:
    """Return trust files, manifests and clocks that are older than a mark, and marks that are damaged."""
    kept = mark_to_bytes(mark(TWO))

    def older(contains: list[str], chain: Chain, data: bytes = kept, **asked: Any) -> Any:
        return bad("IdentityFault", contains, chain, mark=data, **asked)

    def damaged(contains: str, data: bytes) -> Any:
        return bad("MalformedArtefact", ["mark", contains], TWO, mark=data)

    line = kept.split(b"\n")[0]
    other = line.replace(b'"serial":7', b'"serial":07') + b"\n"
    twin = signed(amend(ONE, document(keys=(BOB,))), SAM, TESS)
    forged = signed(new_chain(document(OLD, version=9), "trust.json"), ROSA, SAM)
    return {
        "mark_trust_version_fail": older(["trust version", "expected >= 2, found 1"], ONE),
        "mark_same_version_fail": older(["trust document", "version 2", twin.current.sha256], twin),
        "mark_former_roots_fail": older(["trust roots", "not followed"], forged, mark_to_bytes(mark(ROTATED))),
        "mark_serial_fail": older(["serial", "expected >= 7, found 6"], TWO, serial=6),
        "mark_product_fail": older(["about another product"], TWO, mark_to_bytes(mark(TWO, product="stroke"))),
        "mark_clock_set_back_fail": older(["clock", "found 2026-11-24T11:54:59Z"], TWO, now="2026-11-24T11:54:59Z"),
        "mark_bit_fail": damaged("line 2", kept.replace(b'"serial":7', b'"serial":6')),
        "mark_truncated_fail": damaged("line 2", kept[:-1]),
        "mark_empty_fail": damaged("line 2", b"\n"),
        "mark_digest_gone_fail": damaged("line 2", line + b"\n"),
        "mark_not_canonical_fail": damaged("mark", other + hashlib.sha256(other).hexdigest().encode() + b"\n"),
    }


def write(directory: Path) -> None:
    """Write every case into a folder of its own."""
    cases = positive() | negative_files() | negative_documents() | negative_signatures() | negative_marks()
    for name, (files, asked, expect) in cases.items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        documents = {"request.json": dumps(asked) + b"\n", "expect.json": dumps(expect) + b"\n"}
        for file, data in {**files, **documents}.items():
            (folder / file).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
