# SPDX-License-Identifier: Apache-2.0
"""Seals over packs: sign one, and decide whether one is trusted. The numbers are those of spec/pack.md, "Seal"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from weighmaster.core.derivation import Derivation, Encoder, Parent, Report
from weighmaster.core.manifest import Row, Table
from weighmaster.core.pack_statement import PackStatement, parse_pack_statement
from weighmaster.core.tensor import row_major
from weighmaster.durable import read_whole, write_atomically
from weighmaster.errors import Fault, NotAdmitted, SignatureFault, UsageError
from weighmaster.flows.artefact import next_bundle_name
from weighmaster.flows.mark import Mark, MarkFile, mark_faults
from weighmaster.flows.pack_verification import PackVerification, require_whole, summary_of
from weighmaster.flows.trusted import judged_at, require_in_force
from weighmaster.pack.directory import seals
from weighmaster.pack.packed import Index, PackedTensor
from weighmaster.pack.reader import Pack, open_pack
from weighmaster.seal.bundle import MAX_BUNDLE, Signer, make_bundle, open_sealed
from weighmaster.seal.check import SignerRecord, identity_faults, require_signed
from weighmaster.seal.trust import ROLES, Trust
from weighmaster.seal.trust_chain import VerifiedTrust

__all__ = [
    "PackClaim",
    "TrustedPack",
    "derivation_of",
    "open_trusted_pack",
    "read_seals",
    "sign_pack",
    "signed_statement",
    "table_of",
    "verify_trusted_pack",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackClaim:
    """What the first signer says of a pack; those after sign the same bytes.

    Attributes:
        product: that the pack is for.
        version: of the product.
        serial: larger than that of any earlier manifest or pack of the product.
        reports: that the signers refer to.
    """

    product: str
    version: str
    serial: int
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedPack:
    """A pack whose seal and identity hold.

    Attributes:
        statement: as it was signed.
        signers: who signed it.
        verified: the trust document, and the chain that leads to it.
        now: the moment at which all that was judged: the clock's, but never before the mark's.
        mark: the mark that was kept, or None.
    """

    statement: PackStatement
    signers: tuple[SignerRecord, ...]
    verified: VerifiedTrust
    now: datetime
    mark: Mark | None

    @property
    def trust(self) -> Trust:
        """What is trusted."""
        return self.verified.trust


# -- what a pack is, in the words of statements ---------------------------------------------------------------------


def derivation_of(pack: Pack, reports: tuple[Report, ...] = ()) -> Derivation:
    """Return what a manifest says of a model that was loaded from this pack."""
    parents = tuple(Parent(path=f.path, sha256=f.sha256, nbytes=f.size) for f in pack.index.source)
    return Derivation(
        pack=pack.root,
        encoder=_encoder(pack.index),
        calibration=_calibration(pack.index),
        parents=parents,
        reports=reports,
    )


def _encoder(index: Index) -> Encoder:
    record = index.encoder
    return Encoder(name=record.name, version=record.version, profile=record.profile, bits=record.bits)


def _calibration(index: Index) -> str | None:
    return None if index.calibration is None else index.calibration.sha256


def table_of(index: Index) -> Table:
    """Return the table of the rebuilt tensors at rest: that of the unpacked model (stage S0, view ``logical``)."""
    return Table(stage="S0", view="logical", rows=tuple(map(_row, index.tensors)))


def _row(tensor: PackedTensor) -> Row:
    return Row(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        stride=row_major(tensor.shape),
        nbytes=tensor.nbytes,
        layout="canonical",
        role="file",
        alias=None,
        sha256=tensor.sha256,
        fsverity64k=tensor.fsverity64k,
    )


def _statement(pack: Pack, claim: PackClaim) -> PackStatement:
    try:
        return PackStatement(
            product=claim.product,
            version=claim.version,
            serial=claim.serial,
            root=pack.root,
            encoder=_encoder(pack.index),
            calibration=_calibration(pack.index),
            tensors=table_of(pack.index).root,
            reports=claim.reports,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


# -- signing --------------------------------------------------------------------------------------------------------


def read_seals(directory: Path) -> tuple[tuple[str, bytes], ...]:
    """Return name and bytes of each seal beside a pack, without believing any.

    Raises:
        MalformedArtefact: one is too large for a bundle.
        StorageError: one cannot be read.
    """
    return tuple((name, read_whole(directory / name, limit=MAX_BUNDLE)) for name in seals(directory))


def sign_pack(
    directory: Path | str,
    key: Signer,
    *,
    claim: PackClaim | None = None,
    role: str = "signer",
    certificate: bytes | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Sign the root of the pack in `directory`; return the path of the new bundle.

    All of the pack is read, rebuilt and compared with its index first: what is signed is consistent.

    Args:
        directory: of the pack.
        key: private key, or a token that signs.
        claim: product, version and serial; from the first signer alone, for those after sign the same statement.
        role: role of the signature, part of the bundle's name; the trust file decides what the key may do.
        certificate: X.509 certificate of the key, DER: the bundle carries it in place of the key's fingerprint.
        progress: called with numbers of rebuilt bytes.

    Raises:
        UsageError: no such role, no claim from the first signer, or one from another.
        KeyFault: the certificate is not that of the key.
        MalformedArtefact: the pack, or a seal that is there, does not follow its specification.
        NotAdmitted: with a fault per tensor and file that is not what the index says.
        SignatureFault: the seals that are there are over another pack.
    """
    if role not in ROLES:
        raise UsageError(f"role: expected one of {', '.join(ROLES)}, found {role!r}")
    root = Path(directory)
    with open_pack(root) as pack:
        payload = _payload(pack, claim)
        require_whole(pack, progress=progress)
    path = root / next_bundle_name(root, role)
    write_atomically(path, make_bundle(payload, key, certificate=certificate), replace=False)
    return path


def _payload(pack: Pack, claim: PackClaim | None) -> bytes:
    bundles = read_seals(pack.path)
    if not bundles:
        if claim is None:
            raise UsageError(f"{pack.path}: is not signed yet: say of which product, version and serial it is")
        return _statement(pack, claim).to_bytes()
    if claim is not None:
        raise UsageError(f"{pack.path}: is signed already, and its statement says of which product it is")
    payload = open_sealed(bundles).payload
    _bind(pack.index, pack.root, parse_pack_statement(payload, f"{pack.path}/{bundles[0][0]}"), str(pack.path))
    return payload


# -- trusting -------------------------------------------------------------------------------------------------------


def open_trusted_pack(
    pack: Pack, verified: VerifiedTrust, expect: str, *, now: datetime, mark: MarkFile | None
) -> TrustedPack:
    """Decide whether an open pack is signed by whom it must be, and in force for a product. No tensor is read.

    Args:
        pack: as it was opened.
        verified: what is trusted.
        expect: the product that is deployed here.
        now: the moment of the clock.
        mark: the high-water mark of a gate, or None; it is read and not raised.

    Raises:
        NotAdmitted: with the faults of the first of the two steps, signature and identity, that has any.
        MalformedArtefact: a seal does not follow its specification, or is one over something else than a pack.
        StorageError: the mark cannot be read.
    """
    seen, moment = judged_at(mark, now)
    require_in_force(verified.trust, moment)
    bundles = read_seals(pack.path)
    statement, signers = signed_statement(
        pack.index, pack.root, bundles, verified.trust, expect, now=moment, where=str(pack.path)
    )
    faults = identity_faults(  # (4)
        verified.trust,
        product=statement.product,
        expect=expect,
        serial=statement.serial,
        root=statement.root,
        what="pack",
    )
    if seen is not None:  # (5)
        found = Mark.of(verified, product=statement.product, serial=statement.serial, time=moment)
        faults = (*faults, *mark_faults(seen, found, verified))
    if faults:
        raise NotAdmitted(f"the pack in {pack.path} is not in force for {expect}", faults)
    return TrustedPack(statement=statement, signers=signers, verified=verified, now=moment, mark=seen)


def signed_statement(
    index: Index,
    root: str,
    bundles: tuple[tuple[str, bytes], ...],
    trust: Trust,
    expect: str,
    *,
    now: datetime,
    where: str,
) -> tuple[PackStatement, tuple[SignerRecord, ...]]:
    """Return what the required persons signed of a pack, and who they are.

    Args:
        index: of the pack.
        root: of the pack.
        bundles: file name and bytes of each seal.
        trust: what is trusted.
        expect: the product that is deployed here.
        now: the moment of the decision.
        where: the pack, for messages.

    Raises:
        NotAdmitted: with every `SignatureFault` found.
        MalformedArtefact: a seal does not follow its specification, or is one over something else than a pack.
    """
    try:
        if not bundles:
            raise SignatureFault(where, "is not signed", expected="at least one bundle", found="none")
        envelope = open_sealed(bundles)
        signers = require_signed(envelope, trust, expect, now=now)  # (1)
        statement = parse_pack_statement(envelope.payload, f"{where}/{bundles[0][0]}")  # (2)
        _bind(index, root, statement, where)  # (3)
    except Fault as fault:
        raise NotAdmitted(f"{where} is not a pack signed for {expect}", [fault]) from None
    return statement, signers


def verify_trusted_pack(  # each keyword is a decision of the caller
    path: Path | str,
    verified: VerifiedTrust,
    *,
    expect: str,
    now: datetime,
    mark: MarkFile | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[PackVerification, TrustedPack]:
    """Decide whether a pack is trusted; then read every byte of it and compare it with its index.

    Raises:
        NotAdmitted: it is not trusted, or a tensor or file is not what the index says.
        MalformedArtefact: something does not follow its specification.
        UsageError: there is no pack.
        StorageError: a file cannot be read.
    """
    with open_pack(path) as pack:
        trusted = open_trusted_pack(pack, verified, expect, now=now, mark=mark)
        require_whole(pack, progress=progress)
        return summary_of(pack), trusted


def _bind(index: Index, root: str, statement: PackStatement, where: str) -> None:
    """Hold the statement against the index: the root, and what it repeats of the index."""
    for what, expected, found in (
        ("pack root", statement.root, root),
        ("encoder", str(statement.encoder), str(_encoder(index))),
        ("calibration", statement.calibration or "none", _calibration(index) or "none"),
        ("root of the tensors", statement.tensors, table_of(index).root),
    ):
        if expected != found:
            raise SignatureFault(where, f"is not the pack that was signed: {what}", expected=expected, found=found)
