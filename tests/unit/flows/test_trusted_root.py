# SPDX-License-Identifier: Apache-2.0
"""The trusted root for Sigstore tools; `interop/` puts the tools themselves to it."""

from __future__ import annotations

import base64
import json
import runpy
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from weighmaster.core.canonical import dumps
from weighmaster.errors import StorageError, UsageError
from weighmaster.flows.trusted_root import export_trusted_root, trusted_root
from weighmaster.seal.keys import PrivateKey
from weighmaster.seal.trust import Authority, Identity, RootKey, Roots, TimestampAuthority, Trust, TrustedKey
from weighmaster.seal.trust_chain import chain_to_bytes, countersign, new_chain, open_trust

PKI = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[3] / "vectors" / "seal" / "pki.py")))
ROSA = PrivateKey(PKI.p256("Rosa"))
HOUSE = PKI.authority("House root")
ISSUING = PKI.authority("House issuing", by=HOUSE)
STAMPING, OLD = (
    PKI.authority("Stamping root"),
    PKI.authority("Former stamping root", end=datetime(2030, 7, 1, tzinfo=UTC)),
)
STAMPER = PKI.stamper("Stamper", STAMPING)


def trust(**change: Any) -> Trust:
    values = {
        "authorities": (Authority(name="House", certificate=HOUSE.certificate, intermediates=(ISSUING.certificate,)),),
        "timestamp_authorities": (
            TimestampAuthority(
                name="TSA",
                certificates=(STAMPING.certificate, OLD.certificate),
                intermediates=(ISSUING.certificate, STAMPER.certificate),
            ),
        ),
        **change,
    }
    roots = Roots(keys=(RootKey(person="Rosa", key=ROSA.public),), threshold=1)
    return Trust(expires=datetime(2100, 1, 1, tzinfo=UTC), roots=roots, file="trust.json", **values)


def chain_of(entry: Any) -> list[bytes]:
    return [base64.b64decode(c["rawBytes"]) for c in entry["certChain"]["certificates"]]


def test_every_authority_is_in_it_once_per_root_and_no_log() -> None:
    data = trusted_root(trust())
    document = json.loads(data)
    assert data == dumps(document)
    assert document["mediaType"] == "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
    assert (document["tlogs"], document["ctlogs"]) == ([], [])
    assert [chain_of(a) for a in document["certificateAuthorities"]] == [[ISSUING.der, HOUSE.der]]
    # a certificate that is no authority stands first: @sigstore/verify takes the first for the stamper's own
    between = [STAMPER.der, ISSUING.der]
    stamping = document["timestampAuthorities"]
    assert [chain_of(a) for a in stamping] == [[*between, STAMPING.der], [*between, OLD.der]]
    assert [a["validFor"]["end"] for a in stamping] == ["2031-01-01T00:00:00Z", "2030-07-01T00:00:00Z"]
    assert stamping[0]["validFor"]["start"] == "2030-01-01T00:00:00Z"
    assert stamping[1]["subject"] == {"commonName": "Former stamping root", "organization": ""}


def test_names_are_those_of_the_root_certificate() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "House Ltd"), *HOUSE.certificate.subject])
    builder = x509.CertificateBuilder(name, name, HOUSE.key.public_key(), 1, PKI.BEGIN, PKI.END)
    root = builder.sign(HOUSE.key, PKI.hashes.SHA256())
    found = json.loads(trusted_root(trust(authorities=(Authority(name="Other", certificate=root),))))
    entry = found["certificateAuthorities"][0]
    assert entry["subject"] == {"commonName": "House root", "organization": "House Ltd"}
    assert chain_of(entry) == [root.public_bytes(Encoding.DER)]


def test_nothing_of_persons_keys_and_revocations_enters() -> None:
    identity = Identity(
        person="Carol", authority="House", subject="email:c@example.org", roles=("signer",), revoked=True
    )
    key = TrustedKey(person="Carol", key=PrivateKey(PKI.p256("Carol")).public, roles=("signer",), revoked=True)
    serial = f"{ISSUING.certificate.serial_number:x}"
    house = Authority(
        name="House",
        certificate=HOUSE.certificate,
        intermediates=(ISSUING.certificate,),
        revoked_serials=(serial,),
    )
    assert trusted_root(trust(identities=(identity,), keys=(key,), authorities=(house,))) == trusted_root(trust())


def verified(document: Trust) -> Any:
    data = chain_to_bytes(countersign(new_chain(document, "trust.json"), ROSA))
    return open_trust(data, "trust.json", roots=document.roots.fingerprint, now=datetime(2030, 6, 1, tzinfo=UTC))


def test_export_replaces_a_former_one(tmp_path: Path) -> None:
    path = tmp_path / "root.json"
    path.write_text("former")
    done = export_trusted_root(verified(trust()), path)
    assert path.read_bytes() == trusted_root(trust())
    assert (done.path, done.authorities, done.timestamp_authorities) == (path, ("House",), ("TSA",))


def test_nothing_is_written_where_no_authority_is_listed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"trust\.json: expected at least one certification authority, found none"):
        export_trusted_root(verified(trust(authorities=())), tmp_path / "root.json")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        export_trusted_root(verified(trust()), tmp_path / "none" / "root.json")
