# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/waiver.md: ``python vectors/waiver/generate.py [DIRECTORY]``.

A case is what is trusted and asked (``request.json``) and the bundles of a waiver. Every run writes the same bytes:
keys follow from labels, and Ed25519 signatures from key and message. The keys are for tests alone.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ed25519

from weighmaster.core.canonical import dumps
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.keys import PrivateKey

Json = dict[str, Any]
Files = dict[str, bytes]
Case = tuple[Files, Json]
Edit = Callable[[Json], object]

W: Final = "driver.waiver.sigstore.json"
W2: Final = "driver-2.waiver.sigstore.json"


def sha256(text: str) -> str:
    """Return a digest that stands for something."""
    return hashlib.sha256(f"weighmaster test vector: {text}".encode()).hexdigest()


def key(person: str) -> PrivateKey:
    """Return the test key of a person."""
    seed = hashlib.sha256(f"weighmaster test key, trusted by nobody: {person}".encode()).digest()
    return PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(seed))


def trusted(person: str, *roles: str, revoked: bool = False) -> Json:
    """Return how a trust file lists a key."""
    return {
        "person": person,
        "publicKey": key(person).public.pem.decode(),
        "revoked": revoked,
        "roles": list(roles),
    }


ANA, BEN, EVA, MALLORY = "Ana Diaz", "Ben Weiß", "Eva Ngo", "Mallory"
ROOT, POLICY = sha256("gate table"), sha256("policy")
BEFORE, AFTER = {"status": "value", "value": "550.54.14"}, {"status": "value", "value": "550.90.07"}
DIFFERENCE: Final[Json] = {"fact": "gpu.driver", "found": AFTER, "validated": BEFORE}
REQUEST: Final[Json] = {
    "difference": DIFFERENCE,
    "keys": [trusted(ANA, "approver", "signer"), trusted(BEN, "approver"), trusted(EVA, "approver")],
    "manifestSigners": [ANA],
    "now": "2026-12-01T08:00:00Z",
    "policySha256": POLICY,
    "product": "thorax-triage",
    "root": ROOT,
    "waiverRoles": [{"role": "approver", "threshold": 1}],
}


def statement(**predicate: Any) -> Json:
    """Return a waiver for the difference, until the end of January."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": {
            "expires": "2027-01-31T00:00:00Z",
            "facts": [DIFFERENCE],
            "policySha256": POLICY,
            "product": "thorax-triage",
            "reason": "CR 118: security update of the driver",
            **predicate,
        },
        "predicateType": "https://weighmaster.dev/waiver/v1",
        "subject": [{"digest": {"sha256": ROOT}, "name": "weights"}],
    }


def signed(value: Json | bytes, person: str = BEN) -> bytes:
    """Return a bundle over a waiver."""
    return make_bundle(value if isinstance(value, bytes) else dumps(value), key(person))


GOOD: Final = signed(statement())


def case(files: Files, expect: Json, **request: Any) -> Case:
    """Return a case: bundles, what is trusted and asked, and what comes of it."""
    return {**files, "request.json": dumps({**REQUEST, **request}) + b"\n"}, expect


def good(files: Files, *signers: str, **request: Any) -> Case:
    """Return a case whose waiver holds and covers the difference."""
    return case(files, {"error": None, "signers": list(signers)}, **request)


def bad(contains: list[str], files: Files | bytes, **request: Any) -> Case:
    """Return a case whose waiver does not hold, or does not cover the difference."""
    made = files if isinstance(files, dict) else {W: files}
    return case(made, {"contains": contains, "error": "EnvironmentFault"}, **request)


def malformed(contains: list[str], data: bytes) -> Case:
    """Return a case whose bundle or payload does not follow the format."""
    return case({W: data}, {"contains": [W, *contains], "error": "MalformedArtefact"})


def positive() -> dict[str, Case]:
    """Return the cases that hold."""
    absent = {"status": "absent", "value": None}
    gone, new = {**DIFFERENCE, "found": absent}, {"fact": "lib.libnew.so", "found": AFTER, "validated": None}
    two = [{"role": "approver", "threshold": 2}]
    return {
        "one_person": good({W: GOOD}, BEN),
        "two_persons": good({W: GOOD, W2: signed(statement(), EVA)}, BEN, EVA, waiverRoles=two),
        "last_second": good({W: GOOD}, BEN, now="2027-01-30T23:59:59Z"),
        "to_absent": good({W: signed(statement(facts=[gone]))}, BEN, difference=gone),
        "new_fact": good({W: signed(statement(facts=[new]))}, BEN, difference=new),
        "several_facts": good({W: signed(statement(facts=[DIFFERENCE, new]))}, BEN, difference=new),
    }


def negative_waivers() -> dict[str, Case]:
    """Return well-formed waivers that do not hold, or are about something else, one fault each."""
    short, covers = "too few persons signed; expected at least", "no waiver given covers this fact with these values"
    two = [{"role": "approver", "threshold": 2}]
    other, later = sha256("other"), {"status": "value", "value": "550.127.05"}
    ben_as_signer = [REQUEST["keys"][0], trusted(BEN, "signer")]
    flipped = bytearray(GOOD)
    at = GOOD.index(b'"sig":"') + 20
    flipped[at] = ord("A") if flipped[at] != ord("A") else ord("B")
    return {
        "signed_by_the_manifests_signer_fail": bad(["Ana Diaz signed the manifest too"], signed(statement(), ANA)),
        "countersigned_by_the_manifests_signer_fail": bad(
            ["Ana Diaz signed the manifest too"], {W: GOOD, W2: signed(statement(), ANA)}
        ),
        "role_fail": bad(["role approver", f"{short} 1, found 0 (nobody)"], GOOD, keys=ben_as_signer),
        "threshold_fail": bad([f"{short} 2, found 1 (Ben Weiß)"], GOOD, waiverRoles=two),
        "one_person_twice_fail": bad([f"{short} 2, found 1 (Ben Weiß)"], {W: GOOD, W2: GOOD}, waiverRoles=two),
        "two_waivers_make_no_threshold_fail": bad(
            [f"{short} 2, found 1 (Ben Weiß)", f"{short} 2, found 1 (Eva Ngo)"],
            {W: GOOD, W2: signed(statement(reason="CR 119"), EVA)},
            waiverRoles=two,
        ),
        "nobody_may_waive_fail": bad(["accepts no waiver for thorax-triage"], GOOD, waiverRoles=[]),
        "unknown_key_fail": bad(
            ["signed with a key that is not trusted", key(MALLORY).public.fingerprint],
            {W: GOOD, W2: signed(statement(), MALLORY)},
        ),
        "revoked_key_fail": bad(
            ["the key of Eva Ngo is revoked"],
            {W: GOOD, W2: signed(statement(), EVA)},
            keys=[*REQUEST["keys"][:2], trusted(EVA, "approver", revoked=True)],
        ),
        "signature_bit_fail": bad(
            ["the signature does not verify under the key of Ben Weiß"],
            {W: bytes(flipped), W2: signed(statement(), EVA)},
        ),
        "product_fail": bad(
            ["another product: expected thorax-triage, found stroke-triage"], signed(statement(product="stroke-triage"))
        ),
        "root_fail": bad(
            [f"another root: expected {ROOT}, found {other}"],
            signed({**statement(), "subject": [{"digest": {"sha256": other}, "name": "weights"}]}),
        ),
        "policy_fail": bad(
            [f"another policy: expected {POLICY}, found {other}"], signed(statement(policySha256=other))
        ),
        "expired_fail": bad(
            ["it expired at 2026-11-30T00:00:00Z, and it is 2026-12-01T08:00:00Z"],
            signed(statement(expires="2026-11-30T00:00:00Z")),
        ),
        "expires_now_fail": bad(["it expired at 2027-01-31T00:00:00Z"], GOOD, now="2027-01-31T00:00:00Z"),
        "other_fact_fail": bad([covers], signed(statement(facts=[{**DIFFERENCE, "fact": "gpu.cuda_driver"}]))),
        "other_validated_value_fail": bad([covers], signed(statement(facts=[{**DIFFERENCE, "validated": later}]))),
        "other_found_value_fail": bad([covers], signed(statement(facts=[{**DIFFERENCE, "found": later}]))),
        "sides_swapped_fail": bad(
            [covers], signed(statement(facts=[{**DIFFERENCE, "found": BEFORE, "validated": AFTER}]))
        ),
        "no_waiver_fail": bad(["no waiver was given"], {}),
    }


def negative_documents() -> dict[str, Case]:
    """Return waivers that are signed well and do not follow the format, one fault each."""

    def predicate(contains: list[str], **change: Any) -> Case:
        return malformed(contains, signed(statement(**change)))

    def fact(contains: list[str], **change: Any) -> Case:
        return predicate(contains, facts=[{**DIFFERENCE, **change}])

    def edited(edit: Edit) -> bytes:
        value = statement()
        edit(value)
        return signed(value)

    unread, spelt = {"status": "unreadable", "value": None}, dumps(statement()).replace(b'"reason":', b'"reason": ')
    return {
        "manifest_as_waiver_fail": malformed(
            ["predicateType", "manifest/v1"],
            edited(lambda v: v.update(predicateType="https://weighmaster.dev/manifest/v1")),
        ),
        "statement_type_fail": malformed(
            ["_type", "Statement/v0.1"], edited(lambda v: v.update(_type="https://in-toto.io/Statement/v0.1"))
        ),
        "not_canonical_fail": malformed(["RFC 8785"], signed(spelt)),
        "key_unknown_fail": predicate(["predicate.scope", "an unknown key"], scope="fleet"),
        "key_missing_fail": malformed(
            ["predicate.reason", "no such key"], edited(lambda v: v["predicate"].pop("reason"))
        ),
        "subject_two_fail": malformed(["subject", "found 2"], edited(lambda v: v["subject"].append(v["subject"][0]))),
        "subject_name_fail": malformed(["subject[0].name"], edited(lambda v: v["subject"][0].update(name="model"))),
        "reason_empty_fail": predicate(["predicate.reason", "an empty one"], reason=""),
        "expires_date_fail": predicate(["predicate.expires", "2027-01-31"], expires="2027-01-31"),
        "expires_offset_fail": predicate(["predicate.expires"], expires="2027-01-31T00:00:00+01:00"),
        "expires_never_fail": predicate(["predicate.expires", "null"], expires=None),
        "no_fact_fail": predicate(["predicate", "no fact is waived"], facts=[]),
        "fact_twice_fail": predicate(["predicate", "strictly ascending"], facts=[DIFFERENCE, DIFFERENCE]),
        "fact_name_fail": fact(["facts[0]", "is not group.key"], fact="gpu"),
        "same_values_fail": fact(["facts[0]", "both sides are the same"], found=BEFORE),
        "unreadable_fail": fact(["facts[0].found.status", "'unreadable'"], found=unread),
        "value_for_absent_fail": fact(
            ["facts[0]", "a value stands exactly where"], found={"status": "absent", "value": "1"}
        ),
        "number_fail": fact(["facts[0].found.value", "a number"], found={"status": "value", "value": 550}),
        "fact_key_unknown_fail": fact(["facts[0].level", "an unknown key"], level="halt"),
        "policy_digest_fail": predicate(["predicate.policySha256", "64 lowercase"], policySha256="policy"),
        "bundle_cut_fail": malformed(["JSON"], GOOD[:-1]),
    }


def write(directory: Path) -> None:
    """Write every case into a folder of its own."""
    for name, (files, expect) in (positive() | negative_waivers() | negative_documents()).items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        for file, data in {**files, "expect.json": dumps(expect) + b"\n"}.items():
            (directory / name / file).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
