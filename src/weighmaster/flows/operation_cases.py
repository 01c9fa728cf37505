# SPDX-License-Identifier: Apache-2.0
"""The acts of the operational checks, in the order of their numbers: good ones, and bad ones with their refusal."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from weighmaster.capture.sources import source_files
from weighmaster.core.compare import compare
from weighmaster.core.digest import TensorDigest, digest_bytes
from weighmaster.core.environment import Environment, Fact, environment_faults
from weighmaster.core.selftest import digest_faults
from weighmaster.core.source import source_faults
from weighmaster.core.structure import Structure, StructureFact, structure_faults
from weighmaster.durable import write_atomically
from weighmaster.errors import Fault, NotAdmitted
from weighmaster.flows.artefact import SealedManifest, read_manifest
from weighmaster.flows.exercise import OTHER, PRODUCT, SERIAL, Exercise, checkpoint_bytes, files_table, trust_for
from weighmaster.flows.selftest import self_test
from weighmaster.flows.trusted import Trusted, open_trusted
from weighmaster.seal.bundle import make_bundle
from weighmaster.seal.keys import PrivateKey, load_private, write_private
from weighmaster.seal.trust import Trust, parse_trust, trust_to_bytes

__all__ = ["ACCEPTED", "CASES", "Act"]

Act: TypeAlias = Callable[[Exercise], object]
"""Returns where it is accepted, raises where it is refused."""

ACCEPTED: Final = "accepted"


# -- seal, identity, manifest (steps 1 to 3) ------------------------------------------------------------------------


def _opened(sealed: SealedManifest, trust: Trust, expect: str = PRODUCT) -> Trusted:
    """Run steps 2 and 3: the one place where these checks meet the gate's own code."""
    return open_trusted(sealed, trust, expect)


def _open(exercise: Exercise, *, trust: Trust | None = None, expect: str = PRODUCT) -> Trusted:
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
    _raise(*faults)


def _broken_digest(_exercise: Exercise) -> None:
    """A digest routine that flips one bit must be noticed by the known answers."""

    def broken(data: bytes) -> TensorDigest:
        right = digest_bytes(data)
        return replace(right, sha256=_flip_hex(right.sha256))

    _raise(*digest_faults(broken))


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


def _people(exercise: Exercise, *others: tuple[PrivateKey, str, str], ana: bool = True, approvers: int = 1) -> Trust:
    signers = [(exercise.ana, "Ana", "signer")] if ana else []
    return trust_for([*signers, (exercise.ben, "Ben", "approver"), *others], approvers=approvers)


def _rule(exercise: Exercise, **rule: object) -> Trust:
    signers = ((exercise.ana, "Ana", "signer"), (exercise.ben, "Ben", "approver"))
    return trust_for(signers, **rule)  # type: ignore[arg-type]


def _unknown_field_of_trust(exercise: Exercise) -> None:
    document = json.loads(trust_to_bytes(exercise.trust))
    parse_trust(json.dumps({**document, "trustEverybody": True}).encode(), "trust.json")


def _trust_cut(exercise: Exercise) -> None:
    parse_trust(trust_to_bytes(exercise.trust)[:-2], "trust.json")


_TABLE: Final = "tensors.S0.logical.jsonl"
_LEAVES: Final = "leaves.S0.logical.bin"


def _table(exercise: Exercise) -> bytes:
    return exercise.sealed.files[_TABLE]


def _unknown_file(exercise: Exercise) -> None:
    """A file that no manifest has, in a copy of the directory."""
    copy = exercise.manifest.write(exercise.folder / "copy")
    write_atomically(copy / "readme.txt", b"")
    read_manifest(copy)


# -- files, environment, structure (steps 4 to 9) -------------------------------------------------------------------


def _variant(exercise: Exercise, name: str, data: bytes) -> Path:
    """Write a copy of the model directory with another checkpoint."""
    model = exercise.folder / name
    model.mkdir()
    (model / "config.json").write_bytes((exercise.model / "config.json").read_bytes())
    (model / "model.safetensors").write_bytes(data)
    return model


def _tensors(exercise: Exercise, name: str, data: bytes) -> None:
    """Compare the tensors of a checkpoint with the signed table: names as sets, then bytes."""
    found, leaves = files_table(_variant(exercise, name, data), exercise.engine)
    diff = compare(exercise.manifest.gate, found)
    _raise(*diff.set_faults(), *diff.byte_faults(dict(exercise.manifest.leaves), leaves))


def _one_bit(exercise: Exercise) -> None:
    """The last bit of the last byte of a tensor of 80,128 bytes."""
    data = (exercise.model / "model.safetensors").read_bytes()
    start = data.index(bytes(range(256)))
    weight = bytearray(data[start : start + 80_128])
    weight[-1] ^= 1
    _tensors(exercise, "one bit", checkpoint_bytes(weight=bytes(weight)))


def _sources(exercise: Exercise, name: str, data: bytes) -> None:
    _raise(*source_faults(exercise.manifest.statement.sources, source_files(_variant(exercise, name, data))))


def _environment(threads: str | None) -> Callable[[Exercise], None]:
    def act(_exercise: Exercise) -> None:
        other = Fact.unreadable("torch.threads") if threads is None else Fact.of("torch.threads", threads)
        validated = Environment.of([Fact.of("torch.threads", "2")])
        _raise(*environment_faults(validated, Environment.of([other])))

    return act


def _structure(_exercise: Exercise) -> None:
    fact = StructureFact(path="", kind="class", value="exercise.Net")
    hook = StructureFact(path="#_forward_hooks[0]", kind="hook", value="exercise.hook")
    _raise(*structure_faults(Structure(facts=(fact,)), Structure(facts=(fact, hook))))


def _raise(*faults: Fault) -> None:
    if faults:
        raise NotAdmitted("exercise", faults)


def _flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def _edited_digest(table: bytes) -> bytes:
    """Return the table with the first digit of its last digest changed; every line keeps its form."""
    at = table.rindex(b'"sha256":"') + len(b'"sha256":"')
    return table[:at] + (b"1" if table[at : at + 1] == b"0" else b"0") + table[at + 1 :]


def _flip_hex(digest: str) -> str:
    return f"{int(digest[0], 16) ^ 1:x}{digest[1:]}"


def _twice(exercise: Exercise) -> None:
    exercise.manifest.write(exercise.directory)


CASES: Final[tuple[tuple[str, str, Act], ...]] = (
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
    ("the same tensors", ACCEPTED, lambda e: _tensors(e, "same", checkpoint_bytes())),
    ("one bit of one tensor flipped", "TensorFault, exit code 10", _one_bit),
    (
        "a tensor is missing",
        "TensorSetFault, exit code 11",
        lambda e: _tensors(e, "less", checkpoint_bytes(bias=False)),
    ),
    (
        "a tensor under another name",
        "TensorSetFault, exit code 11",
        lambda e: _tensors(e, "renamed", checkpoint_bytes(name="tail.weight")),
    ),
    (
        "a source file is not the signed one",
        "SourceFault, exit code 17",
        lambda e: _sources(e, "other file", checkpoint_bytes(name="tail.weight")),
    ),
    ("another value of an environment fact", "EnvironmentFault, exit code 12", _environment("1")),
    ("an environment fact that cannot be read", "EnvironmentFault, exit code 12", _environment(None)),
    ("a hook that the signed structure does not have", "StructureFault, exit code 17", _structure),
    ("a manifest written over one that is there", "UsageError, exit code 2", _twice),
)
"""What is done, what must come of it, and how it is done; the place in the tuple is the number of the check."""
