# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/pack.md, "Seal": ``python vectors/pack-seal/generate.py [DIRECTORY]``.

A case is the index of a pack, the seals beside it, and what is trusted and asked (``request.json``). No tensor is read
to judge a seal, so the shards are left out. Every run writes the same bytes: keys follow from labels, and Ed25519
signatures from key and message. The keys are for tests alone.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ed25519

from weighmaster.core import merkle
from weighmaster.core.canonical import dumps
from weighmaster.core.digest import digest_bytes
from weighmaster.core.selftest import pattern
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.keys import PrivateKey

Json = dict[str, Any]
Files = dict[str, bytes]
Case = tuple[Files, Json]
Edit = Callable[[Json], object]

INDEX: Final = "pack.index"
S1: Final = "signer-1.sigstore.json"
A1: Final = "approver-1.sigstore.json"
PRODUCT: Final = "thorax-triage"
ANA, BEN, EVA, MALLORY = "Ana Diaz", "Ben Weiß", "Eva Ngo", "Mallory"


def sha256(data: bytes | str) -> str:
    """Return a digest; of a text, one that stands for something."""
    return hashlib.sha256(data if isinstance(data, bytes) else f"weighmaster test vector: {data}".encode()).hexdigest()


def key(person: str) -> PrivateKey:
    """Return the test key of a person."""
    seed = hashlib.sha256(f"weighmaster test key, trusted by nobody: {person}".encode()).digest()
    return PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(seed))


def trusted(person: str, *roles: str, revoked: bool = False) -> Json:
    """Return how a trust file lists a key."""
    pem = key(person).public.pem.decode()
    return {"person": person, "publicKey": pem, "revoked": revoked, "roles": list(roles)}


def tensor(name: str, data: bytes, shape: list[int], codec: str = "raw-v1") -> Json:
    """Return an entry of the index over bytes of a float32 tensor."""
    digest = digest_bytes(data)
    return {
        "blob": sha256(data),
        "codec": codec,
        "dtype": "float32",
        "fsverity64k": digest.fsverity64k,
        "name": name,
        "sha256": digest.sha256,
        "shape": shape,
        "shard": 0,
    }


TENSORS: Final = [tensor("norm.weight", pattern(24), [6]), tensor("w.weight", pattern(96), [2, 12])]


def index(**change: Any) -> bytes:
    """Return the index of a small pack."""
    config = {"path": "config.json", "sha256": sha256("config"), "size": 120}
    line = dumps(
        {
            "calibration": {"kind": "self", "sha256": sha256("tokens"), "tokens": 8192},
            "deviation": {"relativeSquaredError": "0.00012"},
            "encoder": {
                "bits": "4.5",
                "name": "weighmaster",
                "parameters": {},
                "profile": "calibrated",
                "version": "0.1.0",
            },
            "files": [
                config,
                {"path": "model.safetensors", "sha256": sha256("shard"), "size": 320},
                {**config, "path": "source/config.json", "size": 40},
            ],
            "format": "weighmaster-pack-v1",
            "shards": ["model.safetensors"],
            "source": [{"path": "model.safetensors", "sha256": sha256("parent"), "size": 900}],
            "tensors": TENSORS,
            **change,
        }
    )
    return line + b"\n" + hashlib.sha256(line + b"\n").hexdigest().encode() + b"\n"


def row(entry: Json) -> bytes:
    """Return the line that a tensor has in the table of the unpacked model at rest."""
    shape = entry["shape"]
    value = {
        "alias": None,
        "dtype": entry["dtype"],
        "fsverity64k": entry["fsverity64k"],
        "layout": "canonical",
        "name": entry["name"],
        "nbytes": 4 * (shape[0] * shape[1] if len(shape) > 1 else shape[0]),
        "role": "file",
        "sha256": entry["sha256"],
        "shape": shape,
        "stride": [shape[1], 1] if len(shape) > 1 else [1],
    }
    return dumps(value)


PACK: Final = index()
OTHER: Final = index(deviation={"relativeSquaredError": "0.00013"})
TABLE: Final = merkle.root([merkle.leaf_hash(row(entry)) for entry in TENSORS]).hex()
REPORT: Final[Json] = {
    "format": "weighmaster-pack-report-v1",
    "metrics": [{"name": "kl", "value": "0.00052"}, {"name": "perplexityRatio", "value": "1.0011"}],
    "sha256": sha256("report"),
}
REQUEST: Final[Json] = {
    "acceptedRoots": [],
    "expect": PRODUCT,
    "keys": [trusted(ANA, "signer"), trusted(BEN, "approver"), trusted(EVA, "approver", "signer")],
    "minimumSerial": 4,
    "now": "2026-12-01T08:00:00Z",
    "product": PRODUCT,
    "requiredRoles": [{"role": "signer", "threshold": 1}],
    "revokedRoots": [],
}


def statement(pack: bytes = PACK, **predicate: Any) -> Json:
    """Return the statement over a pack."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": {
            "calibration": sha256("tokens"),
            "encoder": {"bits": "4.5", "name": "weighmaster", "profile": "calibrated", "version": "0.1.0"},
            "format": "weighmaster-pack-v1",
            "product": PRODUCT,
            "reports": [REPORT],
            "serial": 4,
            "tensors": TABLE,
            "version": "2.1",
            **predicate,
        },
        "predicateType": "https://weighmaster.dev/pack/v1",
        "subject": [{"digest": {"sha256": sha256(pack)}, "name": "pack"}],
    }


def signed(value: Json | bytes, person: str = ANA) -> bytes:
    """Return a bundle over a statement."""
    return make_bundle(value if isinstance(value, bytes) else dumps(value), key(person))


GOOD: Final = signed(statement())
FOUR_EYES: Final = [{"role": "signer", "threshold": 1}, {"role": "approver", "threshold": 1}]


def case(files: Files, expect: Json, **request: Any) -> Case:
    """Return a case: index, seals, what is trusted and asked, and what comes of it."""
    return {INDEX: PACK, **files, "request.json": dumps({**REQUEST, **request}) + b"\n"}, expect


def good(files: Files, *signers: str, **request: Any) -> Case:
    """Return a case whose pack is trusted."""
    return case(
        files, {"error": None, "root": sha256({INDEX: PACK, **files}[INDEX]), "signers": list(signers)}, **request
    )


def bad(error: str, contains: list[str], files: Files | bytes, **request: Any) -> Case:
    """Return a case whose pack is not."""
    return case(files if isinstance(files, dict) else {S1: files}, {"contains": contains, "error": error}, **request)


def positive() -> dict[str, Case]:
    """Return the packs that are trusted."""
    exact = index(
        calibration=None,
        encoder={"bits": None, "name": "weighmaster", "parameters": {}, "profile": "exact", "version": "0.1.0"},
    )
    plain = {"bits": None, "name": "weighmaster", "profile": "exact", "version": "0.1.0"}
    lossless = signed(statement(exact, calibration=None, encoder=plain, reports=[]))
    return {
        "one_person": good({S1: GOOD}, ANA),
        "four_eyes": good({S1: GOOD, A1: signed(statement(), BEN)}, ANA, BEN, requiredRoles=FOUR_EYES),
        "accepted_root": good({S1: GOOD}, ANA, acceptedRoots=[sha256(PACK)]),
        "exact": good({INDEX: exact, S1: lossless}, ANA),
        "later_serial": good({S1: signed(statement(serial=2**53 - 1))}, ANA),
    }


def negative_seals() -> dict[str, Case]:
    """Return genuine or forged seals that do not make this pack trusted, one fault each."""
    root, other = sha256(PACK), sha256(OTHER)
    short = "too few persons signed; expected at least"
    flipped = bytearray(GOOD)
    at = GOOD.index(b'"sig":"') + 20
    flipped[at] = ord("A") if flipped[at] != ord("A") else ord("B")
    sig, identity = "SignatureFault", "IdentityFault"
    return {
        "unsigned_fail": bad(sig, ["is not signed; expected at least one bundle, found none"], {}),
        "seal_of_another_pack_fail": bad(
            sig,
            [f"is not the pack that was signed: pack root; expected {other}, found {root}"],
            signed(statement(OTHER)),
        ),
        "index_changed_after_sealing_fail": bad(
            sig, [f"pack root; expected {root}, found {other}"], {INDEX: OTHER, S1: GOOD}
        ),
        "another_product_fail": bad(
            identity,
            ["the pack is for another product; expected thorax-triage, found stroke-triage"],
            signed(statement(product="stroke-triage")),
        ),
        "product_without_rule_fail": bad(
            sig, ["does not say who must sign for thorax-triage"], GOOD, product="stroke-triage"
        ),
        "revoked_root_fail": bad(identity, [f"found revoked root {root}"], GOOD, revokedRoots=[root]),
        "root_not_accepted_fail": bad(
            identity, [f"not accepted for thorax-triage; expected {other}, found {root}"], GOOD, acceptedRoots=[other]
        ),
        "older_serial_fail": bad(identity, ["(rollback); expected >= 4, found 3"], signed(statement(serial=3))),
        "too_few_persons_fail": bad(
            sig, [f"role approver: {short} 1, found 0 (nobody)"], GOOD, requiredRoles=FOUR_EYES
        ),
        "one_person_twice_fail": bad(
            sig,
            [f"role signer: {short} 2, found 1 (Ana Diaz)"],
            {S1: GOOD, "signer-2.sigstore.json": GOOD},
            requiredRoles=[{"role": "signer", "threshold": 2}],
        ),
        "role_fail": bad(sig, [f"role signer: {short} 1, found 0 (nobody)"], signed(statement(), BEN)),
        "unknown_key_fail": bad(sig, ["a key that is not trusted"], signed(statement(), MALLORY)),
        "unknown_key_beside_a_good_one_fail": bad(
            sig, ["a key that is not trusted"], {S1: GOOD, A1: signed(statement(), MALLORY)}
        ),
        "revoked_key_fail": bad(
            sig, ["the key of Ana Diaz is revoked"], GOOD, keys=[trusted(ANA, "signer", revoked=True)]
        ),
        "signature_bit_fail": bad(sig, ["the signature does not verify under the key of Ana Diaz"], bytes(flipped)),
        "two_statements_fail": bad(
            sig,
            [f"its payload is not that of {A1}"],
            {S1: signed(statement(version="2.2")), A1: signed(statement(), BEN)},
        ),
        "encoder_fail": bad(
            sig,
            ["is not the pack that was signed: encoder", "profile datafree"],
            signed(
                statement(
                    calibration=None,
                    encoder={"bits": "4.5", "name": "weighmaster", "profile": "datafree", "version": "0.1.0"},
                )
            ),
        ),
        "calibration_fail": bad(
            sig,
            [f"calibration; expected {sha256('others')}, found {sha256('tokens')}"],
            signed(statement(calibration=sha256("others"))),
        ),
        "tensors_fail": bad(
            sig,
            [f"root of the tensors; expected {sha256('table')}, found {TABLE}"],
            signed(statement(tensors=sha256("table"))),
        ),
    }


def negative_statements() -> dict[str, Case]:
    """Return statements that are signed well and do not follow the format, one fault each."""

    def malformed(contains: list[str], data: bytes) -> Case:
        return bad("MalformedArtefact", [S1, *contains], data)

    def predicate(contains: list[str], **change: Any) -> Case:
        return malformed(contains, signed(statement(**change)))

    def edited(edit: Edit) -> bytes:
        value = statement()
        edit(value)
        return signed(value)

    def type_of(name: str) -> bytes:
        return edited(lambda v: v.update(predicateType=f"https://weighmaster.dev/{name}"))

    spelt = dumps(statement()).replace(b'"serial":4', b'"serial": 4')
    metrics = [{"name": "kl", "value": "5.2e-4"}]
    return {
        "manifest_as_pack_fail": malformed(["predicateType", "manifest/v1"], type_of("manifest/v1")),
        "waiver_as_pack_fail": malformed(["predicateType", "waiver/v1"], type_of("waiver/v1")),
        "type_fail": malformed(["predicateType", "pack/v2"], type_of("pack/v2")),
        "statement_type_fail": malformed(
            ["_type", "Statement/v0.1"], edited(lambda v: v.update(_type="https://in-toto.io/Statement/v0.1"))
        ),
        "not_canonical_fail": malformed(["RFC 8785"], signed(spelt)),
        "format_fail": predicate(["predicate.format", "weighmaster-pack-v2"], format="weighmaster-pack-v2"),
        "key_unknown_fail": predicate(["predicate.note", "an unknown key"], note=""),
        "key_missing_fail": malformed(
            ["predicate.reports", "no such key"], edited(lambda v: v["predicate"].pop("reports"))
        ),
        "subject_two_fail": malformed(["subject", "found 2"], edited(lambda v: v["subject"].append(v["subject"][0]))),
        "subject_none_fail": malformed(["subject", "found 0"], edited(lambda v: v["subject"].clear())),
        "subject_name_fail": malformed(
            ["subject[0].name", "'weights'"], edited(lambda v: v["subject"][0].update(name="weights"))
        ),
        "subject_digest_fail": malformed(
            ["subject[0].digest.sha512"],
            edited(lambda v: v["subject"][0]["digest"].update(sha512="0" * 128)),
        ),
        "serial_text_fail": predicate(["predicate.serial", "a string"], serial="4"),
        "version_empty_fail": predicate(["predicate.version", "an empty one"], version=""),
        "profile_fail": predicate(
            ["predicate.encoder.profile", "'trellis'"],
            encoder={"bits": "4.5", "name": "weighmaster", "profile": "trellis", "version": "0.1.0"},
        ),
        "calibration_gone_fail": predicate(
            ["predicate", "a calibration stands with the profile calibrated alone"], calibration=None
        ),
        "report_twice_fail": predicate(["predicate", "a report stands twice"], reports=[REPORT, REPORT]),
        "metric_fail": predicate(["predicate.reports[0]", "found '5.2e-4'"], reports=[{**REPORT, "metrics": metrics}]),
        "bundle_cut_fail": malformed(["JSON"], GOOD[:-1]),
    }


def write(directory: Path) -> None:
    """Write every case into a folder of its own."""
    for name, (files, expect) in (positive() | negative_seals() | negative_statements()).items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        for file, data in {**files, "expect.json": dumps(expect) + b"\n"}.items():
            (directory / name / file).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
