# SPDX-License-Identifier: Apache-2.0
"""Seals by certificates: the genuine ones, and one fault per case. Who is asked gets bundle, table and trust alike."""

from __future__ import annotations

import functools
import runpy
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from interop.bundles import edited, encode, envelope, flipped, material, signed
from interop.verdicts import BOTH, LAXER, NEITHER, STRICTER, Verdicts

from weighmaster.core.statement_reader import parse_statement
from weighmaster.flows.artefact import Manifest, bind
from weighmaster.flows.trusted_root import trusted_root
from weighmaster.seal.bundle import make_bundle, open_sealed, parse_bundle, with_timestamp
from weighmaster.seal.check import require_signed
from weighmaster.seal.keys import PrivateKey
from weighmaster.seal.timestamps import query
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

PKI: Final = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "vectors" / "seal" / "pki.py")))
PRODUCT: Final = "interop"
CAROL: Final = "carol@example.org"
GENUINE: Final = frozenset({
    "timestamp within the validity", "expired since, timestamp within", "timestamp by openssl", "Ed25519",
    "issued by the root itself", "other spelling",
})  # fmt: skip
"""Cases that everybody accepts."""

ROOT_ALONE: Final = "timestamp authority listed by its root alone"
NO_TIMESTAMP: Final = "no timestamp"
"""Good seals to us, though not to everybody."""

ANOTHER_TABLE: Final = "another table"
"""A case for those who are handed the table."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A seal over a table, and who is believed. The one identity that is listed is the one that is expected."""

    bundle: bytes
    trust: Trust
    table: bytes

    @property
    def subject(self) -> str:
        """The subject alternative name that is expected."""
        return self.trust.identities[0].subject.partition(":")[2]

    @property
    def trusted_root(self) -> bytes:
        """What we export to the tools of others."""
        return trusted_root(self.trust)


def hold(case: Case, manifest: Manifest) -> None:
    """Verify as the gate does, in short: signatures and trust, statement, files bound to it."""
    sealed = open_sealed((("signer-1.sigstore.json", case.bundle),))
    require_signed(sealed, case.trust, PRODUCT, now=datetime.now(UTC))
    parse_statement(sealed.payload, "statement")
    bind(sealed.payload, manifest.files() | {manifest.gate.file_name: case.table}, "manifest")


def verdict_of(name: str, lax: AbstractSet[str], strict: AbstractSet[str] = frozenset()) -> str:
    """Return the verdict that is expected of a tool, by what it is known to be laxer and stricter about."""
    if name in strict:
        return STRICTER
    return BOTH if name in GENUINE | {ROOT_ALONE, NO_TIMESTAMP} else LAXER if name in lax else NEITHER


def put(
    tool: str,
    version: str,
    cases: Mapping[str, Case],
    manifest: Manifest,
    verdicts: Verdicts,
    theirs: Callable[[str, Case], object],
    *,
    label: str = "certificate",
) -> dict[str, str]:
    """Put all cases to a tool and to the gate's rules; return the verdicts by case."""
    return {
        name: verdicts.ask(
            tool,
            version,
            f"{label}: {name}",
            ours=lambda case=case: hold(case, manifest),
            theirs=lambda name=name, case=case: theirs(name, case),
        )
        for name, case in cases.items()
    }


# -- persons and authorities ------------------------------------------------------------------------------------------


def years(begin: int, end: int) -> dict[str, datetime]:
    return {"begin": datetime(begin, 1, 1, tzinfo=UTC), "end": datetime(end, 1, 1, tzinfo=UTC)}


LONG: Final = years(2020, 2120)
SHORT: Final = years(2021, 2022)
"""Validity of a leaf that has expired."""

THEN: Final = datetime(2021, 6, 1, 12, tzinfo=UTC)
"""When all was valid."""


def mail(text: str) -> x509.RFC822Name:
    return x509.RFC822Name(text)


HOUSE: Final = PKI.authority("House root", **LONG)
ISSUING: Final = PKI.authority("House issuing", by=HOUSE, **LONG)
STAMPING: Final = PKI.authority("Stamping root", **LONG)
STAMPER: Final = PKI.stamper("Stamper", STAMPING, **LONG)
LEAF: Final = PKI.leaf("Carol", ISSUING, mail(CAROL), **LONG)
EXPIRED: Final = PKI.leaf("Carol, expired", ISSUING, mail(CAROL), **SHORT)


def trust(
    root: Any = HOUSE, *, subject: str = f"email:{CAROL}", stamping: Any = STAMPING, stamper: Any = STAMPER,
    between: tuple[Any, ...] = (ISSUING,), revoked_serials: tuple[str, ...] = (), revoked: bool = False,
    keys: tuple[TrustedKey, ...] = (), stamped: bool = True,
) -> Trust:  # fmt: skip
    """Return a trust document that lists one authority, one identity and, if `stamped`, one timestamp authority.

    The certificate of the timestamp authority itself is listed beside its root, where `stamper` is given: we find it in
    the token and do not need it, @sigstore/verify does.
    """
    intermediates = () if stamper is None else (stamper.certificate,)
    stampers = TimestampAuthority(name="House TSA", certificates=(stamping.certificate,), intermediates=intermediates)
    authority = Authority(
        name="House",
        certificate=root.certificate,
        intermediates=tuple(b.certificate for b in between),
        revoked_serials=revoked_serials,
    )
    identity = Identity(person="Carol", authority="House", subject=subject, roles=("signer",), revoked=revoked)
    one = (RoleThreshold(role="signer", threshold=1),)
    return Trust(
        expires=datetime(2120, 1, 1, tzinfo=UTC),
        roots=Roots(keys=(RootKey(person="Rosa", key=PrivateKey(PKI.p256("Rosa")).public),), threshold=1),
        keys=keys,
        authorities=(authority,),
        identities=(identity,),
        timestamp_authorities=(stampers,) if stamped else (),
        products=(ProductRule(product=PRODUCT, required_roles=one),),
    )


def sealed(payload: bytes, leaf: Any = LEAF) -> bytes:
    """Return a bundle by the key of a certificate, without a timestamp."""
    return make_bundle(payload, PrivateKey(leaf.key), certificate=leaf.der)


def value(bundle: bytes) -> bytes:
    """Return the signature in a bundle."""
    return parse_bundle(bundle, "bundle").signature.value


def stamped(payload: bytes, leaf: Any = LEAF, *, by: Any = STAMPER, at: datetime | str = THEN, **how: Any) -> bytes:
    """Return a bundle by the key of a certificate, with a timestamp over its signature."""
    bundle = sealed(payload, leaf)
    return with_timestamp(bundle, PKI.timestamp(value(bundle), by, at, **how), "bundle")


# -- cases ------------------------------------------------------------------------------------------------------------


def certificate_cases(payload: bytes, table: bytes, folder: Path) -> dict[str, Case]:
    """Return every case by its name; all but the `GENUINE` ones and the two below them have one fault.

    Args:
        payload: a statement.
        table: the table that it names.
        folder: where OpenSSL makes a timestamp.
    """
    case = functools.partial(Case, table=table, trust=trust())
    return {
        **_genuine(payload, case),
        **_moments(payload, case),
        **_stampers(payload, case),
        **_leaves(payload, case),
        **_holders(payload, case),
        **_signatures(payload, case),
        "timestamp by openssl": case(**_by_openssl(payload, folder)),
        ANOTHER_TABLE: case(bundle=stamped(payload), table=table.replace(b'"float32"', b'"float16"', 1)),
    }


def _by_openssl(payload: bytes, folder: Path) -> dict[str, Any]:
    """Return a bundle with a timestamp by OpenSSL, of now, and a trust document that believes it."""
    reply, bundle = PKI.openssl_authority(folder / "openssl"), sealed(payload)
    done = with_timestamp(bundle, reply(query(value(bundle))), "bundle")
    root, stamper = (
        x509.load_pem_x509_certificate((folder / "openssl" / n).read_bytes()) for n in ("root.pem", "tsa.pem")
    )
    believed = TimestampAuthority(name="OpenSSL", certificates=(root,), intermediates=(stamper,))
    return {"bundle": done, "trust": replace(trust(), timestamp_authorities=(believed,))}


def _genuine(payload: bytes, case: Callable[..., Case]) -> dict[str, Case]:
    good = stamped(payload)
    spelt = edited(good, lambda v: v.update(dict(reversed(v.items())))).replace(b",", b" ,\n")
    edwards = PKI.leaf("Carol, Ed25519", ISSUING, mail(CAROL), key=PKI.edwards("Carol"), **LONG)
    direct = PKI.leaf("Carol, by the root", HOUSE, mail(CAROL), **LONG)
    return {
        "timestamp within the validity": case(bundle=good),
        "expired since, timestamp within": case(bundle=stamped(payload, EXPIRED)),
        "Ed25519": case(bundle=stamped(payload, edwards)),
        "issued by the root itself": case(bundle=stamped(payload, direct), trust=trust(between=())),
        "other spelling": case(bundle=spelt),
        ROOT_ALONE: case(bundle=good, trust=trust(stamper=None)),
    }


def _moments(payload: bytes, case: Callable[..., Case]) -> dict[str, Case]:
    early = PKI.leaf("Carol, not yet", ISSUING, mail(CAROL), **years(2022, 2120))
    young = PKI.authority("Young root", **years(2022, 2120))
    by_young = PKI.leaf("Carol, by Young", young, mail(CAROL), **LONG)
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    return {
        NO_TIMESTAMP: case(bundle=sealed(payload)),
        "expired, no timestamp": case(bundle=sealed(payload, EXPIRED)),
        "expired, timestamp after that": case(bundle=stamped(payload, EXPIRED, at=datetime(2023, 1, 1, tzinfo=UTC))),
        "not yet valid at the timestamp": case(bundle=stamped(payload, early)),
        "authority not yet valid at the timestamp": case(
            bundle=stamped(payload, by_young), trust=trust(young, between=())
        ),
        "timestamp from tomorrow": case(bundle=stamped(payload, at=tomorrow)),
    }


def _stampers(payload: bytes, case: Callable[..., Case]) -> dict[str, Case]:
    one, another = sealed(payload), sealed(payload)
    other_root = PKI.authority("Stamping root", key=PKI.p256("another stamping root"), **LONG)
    other = PKI.stamper("Stamper", other_root, key=PKI.p256("another stamper"), **LONG)
    loose = PKI.stamper("Loose stamper", STAMPING, critical=False, **LONG)
    signing = PKI.stamper("Signing stamper", STAMPING, purposes=(PKI.TIME_STAMPING, PKI.CODE_SIGNING), **LONG)
    expired = PKI.stamper("Expired stamper", STAMPING, **years(2020, 2021))
    foreign = with_timestamp(one, PKI.timestamp(value(another), STAMPER, THEN), "bundle")
    over_payload = with_timestamp(one, PKI.timestamp(payload, STAMPER, THEN), "bundle")
    token = bytearray(PKI.timestamp(value(one), STAMPER, THEN))
    token[-1] ^= 1
    return {
        "timestamp of another signature": case(bundle=foreign),
        "timestamp over the payload": case(bundle=over_payload),
        "timestamp with a flipped bit": case(bundle=with_timestamp(one, bytes(token), "bundle")),
        "timestamp that was not granted": case(bundle=stamped(payload, status="rejection")),
        "timestamp over SHA-1": case(bundle=stamped(payload, digest="sha1")),
        "no timestamp authority listed": case(bundle=stamped(payload), trust=trust(stamped=False)),
        "another timestamp authority of the same names": case(bundle=stamped(payload, by=other)),
        "another timestamp authority listed": case(
            bundle=stamped(payload), trust=trust(stamping=other_root, stamper=other)
        ),
        "timestamp by a certificate for it, not critical": case(
            bundle=stamped(payload, by=loose), trust=trust(stamper=loose)
        ),
        "timestamp by a certificate for code as well": case(
            bundle=stamped(payload, by=signing), trust=trust(stamper=signing)
        ),
        "timestamp by the code signer": case(bundle=stamped(payload, by=LEAF), trust=trust(HOUSE, stamper=LEAF,
            stamping=ISSUING)),
        "timestamp by an expired authority": case(bundle=stamped(payload, by=expired), trust=trust(stamper=expired)),
        "timestamp without the certificate of its signer": case(bundle=stamped(payload, carrying=())),
    }  # fmt: skip


def _leaves(payload: bytes, case: Callable[..., Case]) -> dict[str, Case]:
    other = PKI.authority("House root", key=PKI.p256("another root"), **LONG)
    by_other = PKI.leaf("Carol", other, mail(CAROL), **LONG)
    web = PKI.leaf("Carol, web", ISSUING, mail(CAROL), purposes=(ExtendedKeyUsageOID.SERVER_AUTH,), **LONG)
    bare = PKI.leaf("Carol, no purpose", ISSUING, mail(CAROL), purposes=(), **LONG)
    anything = (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)
    every = PKI.leaf("Carol, any purpose", ISSUING, mail(CAROL), purposes=anything, **LONG)
    own = PKI.leaf("Carol, by herself", LEAF, mail(CAROL), **LONG)
    serial = f"{LEAF.certificate.serial_number:x}"
    return {
        "another authority listed, of the same name": case(bundle=stamped(payload), trust=trust(other)),
        "issued by another authority of the same name": case(
            bundle=stamped(payload, by_other), trust=trust(between=())
        ),
        "intermediate not listed": case(bundle=stamped(payload), trust=trust(between=())),
        "issued by a leaf": case(bundle=stamped(payload, own), trust=trust(between=(ISSUING, LEAF))),
        "for servers": case(bundle=stamped(payload, web)),
        "no purpose": case(bundle=stamped(payload, bare)),
        "any purpose": case(bundle=stamped(payload, every)),
        "serial number revoked": case(bundle=stamped(payload), trust=trust(revoked_serials=(serial,))),
        "intermediate revoked": case(
            bundle=stamped(payload), trust=trust(revoked_serials=(f"{ISSUING.certificate.serial_number:x}",))
        ),
        "certificate with a flipped bit": case(bundle=with_leaf(stamped(payload), _bit_flipped(LEAF.der))),
    }  # fmt: skip


def with_leaf(bundle: bytes, der: bytes) -> bytes:
    """Return a bundle with another certificate in it, or what is to be one."""
    return material(bundle, certificate={"rawBytes": encode(der)})


def _bit_flipped(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


def _holders(payload: bytes, case: Callable[..., Case]) -> dict[str, Case]:
    subject_only = PKI.leaf(CAROL, ISSUING, **LONG)
    revoked = TrustedKey(
        person="Carol", key=PrivateKey(LEAF.key).public, roles=("signer",), revoked=True
    )  # fmt: skip
    good = stamped(payload)
    return {
        "another name expected": case(bundle=good, trust=trust(subject="email:dave@example.org")),
        "the name in capitals expected": case(bundle=good, trust=trust(subject="email:Carol@example.org")),
        "a part of the name expected": case(bundle=good, trust=trust(subject="email:carol@example.or")),
        "the name in the subject alone": case(bundle=stamped(payload, subject_only)),
        "the name revoked": case(bundle=good, trust=trust(revoked=True)),
        "the key revoked": case(bundle=good, trust=trust(keys=(revoked,))),
    }


def _signatures(payload: bytes, case: Callable[..., Case]) -> dict[str, Case]:
    good = stamped(payload)
    two = {"rfc3161Timestamps": [{"signedTimestamp": encode(PKI.timestamp(value(good), STAMPER, THEN))}] * 2}
    by_expired = with_leaf(good, EXPIRED.der)
    chain = edited(good, lambda v: v["verificationMaterial"].update(x509CertificateChain={"certificates": [
        v["verificationMaterial"].pop("certificate"), {"rawBytes": encode(ISSUING.der)}]}))  # fmt: skip
    return {
        "payload bit": case(bundle=envelope(good, payload=flipped(encode(payload)))),
        "signature bit": case(bundle=signed(good, sig=flipped(encode(value(good))))),
        "certificate of another key": case(bundle=by_expired),
        "two timestamps": case(bundle=material(good, timestampVerificationData=two)),
        "a chain in the bundle": case(bundle=chain),
        "a key beside the certificate": case(bundle=material(good, publicKey={"hint": "a" * 64})),
        "log entry": case(bundle=material(good, tlogEntries=[{"logIndex": "1"}])),
    }
