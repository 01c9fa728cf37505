# SPDX-License-Identifier: Apache-2.0
"""Operational checks of digests, keys, seal, identity and formats (steps 1 to 3): good acts, and bad ones refused."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Final

from weighmaster.core.digest import TensorDigest, digest_bytes
from weighmaster.core.selftest import digest_faults
from weighmaster.durable import write_atomically
from weighmaster.flows.artefact import SealedManifest, read_manifest
from weighmaster.flows.exercise import (
    ACCEPTED,
    MOMENT,
    OTHER,
    PRODUCT,
    SERIAL,
    Case,
    Exercise,
    raise_faults,
    trust_for,
)
from weighmaster.flows.selftest import self_test
from weighmaster.flows.trusted import Trusted, open_trusted
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.keys import PrivateKey, load_private, write_private
from weighmaster.seal.trust_chain import VerifiedTrust, chain_to_bytes, parse_chain

__all__ = ["SEAL_CASES"]


def _opened(sealed: SealedManifest, trust: VerifiedTrust, expect: str = PRODUCT) -> Trusted:
    """Run steps 2 and 3: the one place where these checks meet the gate's own code."""
    return open_trusted(sealed, trust, expect, now=MOMENT, mark=None)


def _open(exercise: Exercise, *, trust: VerifiedTrust | None = None, expect: str = PRODUCT) -> Trusted:
    return _opened(exercise.sealed, trust or exercise.trust, expect)


def _open_with(exercise: Exercise, name: str, data: bytes | None) -> Trusted:
    """Open the manifest with one file put in place of another; None takes it away."""
    files = {n: d for n, d in exercise.sealed.files.items() if n != name} | ({} if data is None else {name: data})
    return _opened(replace(exercise.sealed, files=files), exercise.trust)


def _open_bundles(exercise: Exercise, *bundles: bytes) -> Trusted:
    """Open the manifest with these bundles alone."""
    named = tuple((f"signer-{n}.sigstore.json", data) for n, data in enumerate(bundles, start=1))
    return _opened(replace(exercise.sealed, bundles=named), exercise.trust)


def _known_answers(exercise: Exercise) -> None:
    _, faults = self_test(exercise.engine)
    raise_faults(*faults)


def _broken_digest(_exercise: Exercise) -> None:
    """A digest routine that flips one bit must be noticed by the known answers."""

    def broken(data: bytes) -> TensorDigest:
        right = digest_bytes(data)
        return replace(right, sha256=_flip_hex(right.sha256))

    raise_faults(*digest_faults(broken))


def _keys(exercise: Exercise) -> None:
    """Write a key with a passphrase, read it back, sign with it."""
    path = exercise.folder / "kept.key"
    write_private(path, exercise.ana, b"a passphrase")
    make_bundle(b"{}", load_private(path, b"a passphrase"))


def _bare_key(exercise: Exercise) -> None:
    path = exercise.folder / "bare.key"
    write_private(path, exercise.ana, None)
    path.chmod(0o644)
    load_private(path, None)


def _accepted(exercise: Exercise) -> None:
    trusted = _open(exercise)
    if trusted.manifest.root != exercise.manifest.root or [s.person for s in trusted.signers] != ["Ben", "Ana"]:
        raise ValueError(f"root {trusted.manifest.root} signed by {[s.person for s in trusted.signers]}")


def _good(exercise: Exercise) -> tuple[bytes, ...]:
    """Return the bundles that suffice: one more, that does not hold, is a fault all the same."""
    return tuple(data for _, data in exercise.sealed.bundles)


def _bundle(exercise: Exercise, number: int = 0) -> dict[str, object]:
    document: dict[str, object] = json.loads(exercise.sealed.bundles[number][1])
    return document


def _with_envelope(exercise: Exercise, **changes: object) -> bytes:
    document = _bundle(exercise)
    envelope = document["dsseEnvelope"]
    if not isinstance(envelope, dict):
        raise TypeError("dsseEnvelope")
    return json.dumps({**document, "dsseEnvelope": {**envelope, **changes}}).encode()


def _flipped_signature(exercise: Exercise) -> None:
    envelope = _bundle(exercise)["dsseEnvelope"]
    if not isinstance(envelope, dict):
        raise TypeError("dsseEnvelope")
    value = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    value[-1] ^= 1
    signatures = [{"keyid": "", "sig": base64.b64encode(value).decode()}]
    _open_bundles(exercise, *_good(exercise), _with_envelope(exercise, signatures=signatures))


def _flipped_statement(exercise: Exercise) -> None:
    payload = exercise.manifest.payload.replace(f'"serial":{SERIAL}'.encode(), f'"serial":{SERIAL + 1}'.encode())
    _open_bundles(exercise, _with_envelope(exercise, payload=base64.b64encode(payload).decode()))


def _signed_again(exercise: Exercise, before: bytes, after: bytes) -> None:
    """Have a changed statement signed by those who are trusted, and open it."""
    payload = exercise.manifest.payload.replace(before, after, 1)
    files = {name: data for name, data in exercise.sealed.files.items() if name != "statement.json"}
    sealed = replace(
        exercise.sealed,
        files=files,
        bundles=(
            ("approver-1.sigstore.json", make_bundle(payload, exercise.ben)),
            ("signer-1.sigstore.json", make_bundle(payload, exercise.ana)),
        ),
    )
    _opened(sealed, exercise.trust)


def _people(
    exercise: Exercise, *others: tuple[PrivateKey, str, str], ana: bool = True, approvers: int = 1
) -> VerifiedTrust:
    signers = [(exercise.ana, "Ana", "signer")] if ana else []
    return trust_for(exercise.rosa, [*signers, (exercise.ben, "Ben", "approver"), *others], approvers=approvers)


def _rule(exercise: Exercise, **rule: object) -> VerifiedTrust:
    signers = ((exercise.ana, "Ana", "signer"), (exercise.ben, "Ben", "approver"))
    return trust_for(exercise.rosa, signers, **rule)  # type: ignore[arg-type]


def _unknown_field_of_trust(exercise: Exercise) -> None:
    document = json.loads(chain_to_bytes(exercise.trust.chain))
    parse_chain(json.dumps({**document, "trustEverybody": True}).encode(), "trust.json")


def _trust_cut(exercise: Exercise) -> None:
    parse_chain(chain_to_bytes(exercise.trust.chain)[:-2], "trust.json")


_TABLE: Final = "tensors.S0.logical.jsonl"
_LEAVES: Final = "leaves.S0.logical.bin"


def _table(exercise: Exercise) -> bytes:
    return exercise.sealed.files[_TABLE]


def _unknown_file(exercise: Exercise) -> None:
    """A file that no manifest has, in a copy of the directory."""
    copy = exercise.manifest.write(exercise.folder / "copy")
    write_atomically(copy / "readme.txt", b"")
    read_manifest(copy)


def _flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def _edited_digest(table: bytes) -> bytes:
    """Return the table with the first digit of its last digest changed; every line keeps its form."""
    at = table.rindex(b'"sha256":"') + len(b'"sha256":"')
    return table[:at] + (b"1" if table[at : at + 1] == b"0" else b"0") + table[at + 1 :]


def _flip_hex(digest: str) -> str:
    return f"{int(digest[0], 16) ^ 1:x}{digest[1:]}"


SEAL_CASES: Final[tuple[Case, ...]] = (
    ("known answers through the reference and the engine", ACCEPTED, _known_answers),
    ("a digest routine that flips one bit", "SelfTestFault, exit code 16", _broken_digest),
    ("a key is written, read back, and signs", ACCEPTED, _keys),
    ("a private key that others can read", "KeyFault, exit code 13", _bare_key),
    ("the manifest as signed by Ana and Ben", ACCEPTED, _accepted),
    ("no signature", "SignatureFault, exit code 13", _open_bundles),
    ("one bit of one signature flipped, beside good ones", "SignatureFault, exit code 13", _flipped_signature),
    ("one digit of the signed statement changed", "SignatureFault, exit code 13", _flipped_statement),
    (
        "a signature by a key that is not trusted, beside good ones",
        "SignatureFault, exit code 13",
        lambda e: _open_bundles(e, *_good(e), make_bundle(e.manifest.payload, e.mallory)),
    ),
    (
        "a bundle cut in half",
        "MalformedArtefact, exit code 20",
        lambda e: _open_bundles(e, e.sealed.bundles[0][1][: len(e.sealed.bundles[0][1]) // 2]),
    ),
    (
        "the signer is not in the trust file",
        "SignatureFault, exit code 13",
        lambda e: _open(e, trust=_people(e, ana=False)),
    ),
    (
        "one person where two must approve",
        "SignatureFault, exit code 13",
        lambda e: _open(e, trust=_people(e, (e.mallory, "Cay", "approver"), approvers=2)),
    ),
    ("a genuine manifest of another product", "IdentityFault, exit code 14", lambda e: _open(e, expect=OTHER)),
    (
        "a serial below the least that is allowed",
        "IdentityFault, exit code 14",
        lambda e: _open(e, trust=_rule(e, minimum=SERIAL + 1)),
    ),
    (
        "weights that are revoked",
        "IdentityFault, exit code 14",
        lambda e: _open(e, trust=_rule(e, revoked=(e.manifest.root,))),
    ),
    (
        "weights that are not among the accepted ones",
        "IdentityFault, exit code 14",
        lambda e: _open(e, trust=_rule(e, accepted=("0" * 64,))),
    ),
    ("an unknown field in the trust file", "MalformedArtefact, exit code 20", _unknown_field_of_trust),
    ("a trust file cut short", "MalformedArtefact, exit code 20", _trust_cut),
    (
        "the table without its last line",
        "SignatureFault, exit code 13",
        lambda e: _open_with(e, _TABLE, _table(e).split(b"\n")[0] + b"\n"),
    ),
    (
        "one digit of a digest in the table changed",
        "SignatureFault, exit code 13",
        lambda e: _open_with(e, _TABLE, _edited_digest(_table(e))),
    ),
    ("the table is missing", "MalformedArtefact, exit code 20", lambda e: _open_with(e, _TABLE, None)),
    (
        "leaf digests cut short",
        "MalformedArtefact, exit code 20",
        lambda e: _open_with(e, _LEAVES, e.sealed.files[_LEAVES][:-32]),
    ),
    (
        "one bit of the leaf digests flipped",
        "SignatureFault, exit code 13",
        lambda e: _open_with(e, _LEAVES, _flip(e.sealed.files[_LEAVES])),
    ),
    ("a file that no manifest has", "MalformedArtefact, exit code 20", _unknown_file),
    (
        "a signed statement with a key twice",
        "MalformedArtefact, exit code 20",
        lambda e: _signed_again(e, b'"serial":7', b'"serial":7,"serial":7'),
    ),
    (
        "a signed statement that is not canonical",
        "MalformedArtefact, exit code 20",
        lambda e: _signed_again(e, b'"serial":7', b'"serial": 7'),
    ),
)
"""What is done, what must come of it, and how it is done, in the order of the numbers."""
