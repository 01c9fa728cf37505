# SPDX-License-Identifier: Apache-2.0
"""A throw-away release for the operational checks: two tensors, three persons, a signed manifest, a trust file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from weighmaster.capture.safetensors_files import open_checkpoint
from weighmaster.capture.sources import source_files
from weighmaster.core.manifest import Row, Table
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.core.statement import Method, Statement, TableEntry
from weighmaster.engines.port import DigestEngine
from weighmaster.errors import Fault, NotAdmitted
from weighmaster.flows.approve import sign
from weighmaster.flows.artefact import Manifest, SealedManifest, read_manifest
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey
from weighmaster.seal.trust_chain import VerifiedTrust, chain_to_bytes, countersign, new_chain, open_trust

__all__ = [
    "ACCEPTED",
    "MOMENT",
    "OTHER",
    "PRODUCT",
    "SERIAL",
    "Act",
    "Case",
    "Exercise",
    "checkpoint_bytes",
    "files_table",
    "make_exercise",
    "raise_faults",
    "trust_for",
]

PRODUCT: Final = "exercise"
OTHER: Final = "another-exercise"
SERIAL: Final = 7
MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""At which all of it is judged, so that the checks are the same on any day."""

_WEIGHT: Final = bytes(range(256)) * 313  # 80,128 bytes: two leaves
_BIAS: Final = bytes(160)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """What the checks work on.

    Attributes:
        folder: temporary; each check may write to folders of its own below it.
        engine: digest engine under test.
        ana: signer, ECDSA P-256.
        ben: approver, Ed25519.
        mallory: trusted by nobody.
        rosa: keeper of the trust file.
        model: directory of the source files.
        directory: manifest directory, signed by Ana and Ben.
        manifest: as it was made.
        sealed: as it was read back.
        trust: under which it holds.
    """

    folder: Path
    engine: DigestEngine
    ana: PrivateKey
    ben: PrivateKey
    mallory: PrivateKey
    rosa: PrivateKey
    model: Path
    directory: Path
    manifest: Manifest
    sealed: SealedManifest
    trust: VerifiedTrust


Act: TypeAlias = Callable[[Exercise], object]
"""Returns where it is accepted, raises where it is refused."""

Case: TypeAlias = tuple[str, str, Act]
"""What is done, what must come of it (`ACCEPTED`, or kind and exit code of the refusal), and how it is done."""

ACCEPTED: Final = "accepted"


def raise_faults(*faults: Fault) -> None:
    """Raise what was found, if anything was."""
    if faults:
        raise NotAdmitted("exercise", faults)


def make_exercise(folder: Path, engine: DigestEngine) -> Exercise:
    """Make keys, model files and a signed manifest in `folder`, through the functions that real releases use."""
    ana, ben, mallory = generate("ecdsa-p256-sha256"), generate("ed25519"), generate("ed25519")
    rosa = generate("ed25519")
    model = folder / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(checkpoint_bytes())
    (model / "config.json").write_bytes(b'{"model_type":"exercise"}\n')
    manifest = _manifest(model, engine)
    directory = manifest.write(folder / "manifest")
    sign(directory, ana, role="signer")
    sign(directory, ben, role="approver")
    return Exercise(
        folder=folder,
        engine=engine,
        ana=ana,
        ben=ben,
        mallory=mallory,
        rosa=rosa,
        model=model,
        directory=directory,
        manifest=manifest,
        sealed=read_manifest(directory),
        trust=trust_for(rosa, ((ana, "Ana", "signer"), (ben, "Ben", "approver"))),
    )


def checkpoint_bytes(*, weight: bytes = _WEIGHT, name: str = "head.weight", bias: bool = True) -> bytes:
    """Return the exercise's checkpoint, or a variant of it."""
    tensors: list[tuple[str, str, tuple[int, ...], bytes]] = [(name, "float32", (313, 64), weight)]
    if bias:
        tensors.append(("head.bias", "float32", (40,), _BIAS))
    return safetensors_bytes(tensors, {})


def files_table(model: Path, engine: DigestEngine) -> tuple[Table, dict[str, bytes]]:
    """Return the table of stage S0 of the checkpoint in `model`, and its leaf digests by name."""
    with open_checkpoint(model) as checkpoint:
        views = tuple(sorted(checkpoint.views(), key=lambda v: v.name.encode("utf-8")))
        digests = engine.digest(views)
        checkpoint.check_unchanged()
    rows = tuple(
        Row(
            name=v.name,
            dtype=v.dtype,
            shape=v.shape,
            stride=v.stride,
            nbytes=v.nbytes,
            layout=v.layout,
            role=v.role,
            alias=None,
            sha256=d.sha256,
            fsverity64k=d.fsverity64k,
        )
        for v, d in zip(views, digests, strict=True)
    )
    leaves = {v.name: d.leaves for v, d in zip(views, digests, strict=True)}
    return Table(stage="S0", view="logical", rows=rows), leaves


def _manifest(model: Path, engine: DigestEngine) -> Manifest:
    """Weigh files as `flows.weigh.weigh_files` does, which needs a runtime for its other kinds of files."""
    table, leaves = files_table(model, engine)
    statement = Statement(
        product=PRODUCT,
        version="1.0",
        serial=SERIAL,
        gate_stage="S0",
        gate_view="logical",
        tables=(TableEntry.of(table),),
        method=Method(
            engine=engine.name, loader="safetensors-files", trace="none", mapped="none", materialized=(), extra=()
        ),
        probe_set=None,
        coverage=None,
        structure=None,
        environment=None,
        sources=source_files(model),
    )
    return Manifest(
        statement=statement,
        payload=statement.to_bytes(),
        tables=(table,),
        leaves=leaves,
        structure=None,
        environment=None,
        policy=None,
        probe_set=None,
    )


def trust_for(
    rosa: PrivateKey,
    signers: Iterable[tuple[PrivateKey, str, str]],
    *,
    revoked: tuple[str, ...] = (),
    accepted: tuple[str, ...] = (),
    minimum: int = 0,
    approvers: int = 1,
) -> VerifiedTrust:
    """Return what is trusted: keys with person and role, and the same rule for `PRODUCT` and `OTHER`.

    Args:
        rosa: who keeps and signs it.
        signers: key, person and role.
        revoked: roots that are revoked.
        accepted: roots that are accepted, or none for any.
        minimum: least serial.
        approvers: persons that must have signed as approvers.
    """
    roles = (RoleThreshold(role="signer", threshold=1), RoleThreshold(role="approver", threshold=approvers))
    rules = tuple(
        ProductRule(
            product=product,
            required_roles=roles,
            accepted_roots=accepted,
            minimum_serial=minimum,
            revoked_roots=revoked,
        )
        for product in (PRODUCT, OTHER)
    )
    trust = Trust(
        expires=MOMENT.replace(year=MOMENT.year + 1),
        roots=Roots(keys=(RootKey(person="Rosa", key=rosa.public),), threshold=1),
        keys=tuple(TrustedKey(person=person, key=key.public, roles=(role,)) for key, person, role in signers),
        products=rules,
    )
    data = chain_to_bytes(countersign(new_chain(trust, trust.file), rosa))
    return open_trust(data, trust.file, roots=trust.roots.fingerprint, now=MOMENT)
