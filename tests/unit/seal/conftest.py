# SPDX-License-Identifier: Apache-2.0
"""Keys of three persons, made once: Alice (P-256) and Bob (Ed25519) are trusted, Mallory is not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey


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
