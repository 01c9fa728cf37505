# SPDX-License-Identifier: Apache-2.0
"""Keys of three persons, made once: Alice (P-256) and Bob (Ed25519) are trusted, Mallory is not."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from weighmaster.seal.bundle import make_bundle, parse_bundle, with_timestamp
from weighmaster.seal.keys import PrivateKey, generate
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

PAYLOAD = b'{"a":1}'


@pytest.fixture(scope="session")
def alice() -> PrivateKey:
    return generate("ecdsa-p256-sha256")


@pytest.fixture(scope="session")
def bob() -> PrivateKey:
    return generate("ed25519")


@pytest.fixture(scope="session")
def mallory() -> PrivateKey:
    return generate("ecdsa-p256-sha256")


@pytest.fixture
def trust(alice: PrivateKey, bob: PrivateKey, keeper: PrivateKey) -> Trust:
    return Trust(
        expires=datetime(2100, 1, 1, tzinfo=UTC),
        roots=Roots(keys=(RootKey(person="Rosa", key=keeper.public),), threshold=1),
        keys=(
            TrustedKey(person="Alice", key=alice.public, roles=("signer",)),
            TrustedKey(person="Bob", key=bob.public, roles=("signer", "approver")),
        ),
        products=(
            ProductRule(
                product="p",
                required_roles=(RoleThreshold(role="signer", threshold=1), RoleThreshold(role="approver", threshold=1)),
                minimum_serial=5,
            ),
        ),
        file="trust.json",
    )


@pytest.fixture(scope="session")
def pki() -> SimpleNamespace:
    """Makers of certificates and timestamps, those of the vectors."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[3] / "vectors" / "seal" / "pki.py")))


@pytest.fixture(scope="session")
def world(pki: SimpleNamespace) -> SimpleNamespace:
    """A root, an authority below it, the certificate of Carol, and a timestamp authority; the last outlives the others.

    `trusting` returns a trust document that lists them; `bundle` one by a certificate, with a timestamp if asked for.
    """
    root = pki.authority("Root CA", path_length=1)
    issuing = pki.authority("Issuing CA", by=root, path_length=0)
    carol = pki.leaf("Carol", issuing, x509.RFC822Name("carol@example.org"))
    years = {"begin": datetime(2020, 1, 1, tzinfo=UTC), "end": datetime(2040, 1, 1, tzinfo=UTC)}
    stamping_root = pki.authority("Stamping root", **years)
    stamper = pki.stamper("Stamper", stamping_root, **years)

    def trusting(trust: Trust, **change: Any) -> Trust:
        """Return `trust` with the authorities, Carol's name, and one signer asked for."""
        authority = Authority(name="House CA", certificate=root.certificate, intermediates=(issuing.certificate,))
        carols = Identity(person="Carol", authority="House CA", subject="email:carol@example.org", roles=("signer",))
        rule = ProductRule(product="p", required_roles=(RoleThreshold(role="signer", threshold=1),))
        stampers = (TimestampAuthority(name="House TSA", certificates=(stamping_root.certificate,)),)
        return replace(
            trust,
            **{
                "authorities": (authority,),
                "identities": (carols,),
                "timestamp_authorities": stampers,
                "products": (rule,),
                **change,
            },
        )

    def bundle(holder: Any = carol, stamp: Callable[[bytes], bytes] | None = None) -> bytes:
        """Return a bundle by the key of a certificate; `stamp` makes the timestamp over its signature."""
        made = make_bundle(PAYLOAD, PrivateKey(holder.key), certificate=holder.der)
        if stamp is None:
            return made
        return with_timestamp(made, stamp(parse_bundle(made, "b").signature.value), "b")

    return SimpleNamespace(
        root=root,
        issuing=issuing,
        carol=carol,
        stamping_root=stamping_root,
        stamper=stamper,
        trusting=trusting,
        bundle=bundle,
        stamp=lambda moment, **options: (
            lambda value: pki.timestamp(value, options.pop("by", stamper), moment, **options)
        ),
    )
