# SPDX-License-Identifier: Apache-2.0
"""The known answers catch wrong routines, and notice when some of them are gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from weighmaster.core import selftest
from weighmaster.core.digest import TensorDigest, digest_bytes
from weighmaster.core.selftest import COUNT, digest_faults, pattern
from weighmaster.errors import SelfTestFault


def test_the_reference_gives_all_known_answers() -> None:
    assert digest_faults() == ()
    assert COUNT == 13


@pytest.mark.requirement("REQ-ADM-01")
def test_a_wrong_flat_digest_is_found() -> None:
    def wrong(data: bytes) -> TensorDigest:
        return replace(digest_bytes(data), sha256="0" * 64)

    faults = digest_faults(wrong)
    assert [f.subject for f in faults] == ["SHA-256 of 3 bytes", "SHA-256 of 56 bytes", "SHA-256 of 0 bytes"]
    assert all(type(f) is SelfTestFault and (f.step, f.exit_code) == (1, 16) for f in faults)
    assert (faults[0].expected, faults[0].found) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "0" * 64,
    )


def test_a_tree_that_is_wrong_in_its_last_leaf_only_is_found() -> None:
    """A routine that forgets the padding is right for whole leaves, and wrong otherwise."""

    def wrong(data: bytes) -> TensorDigest:
        unpadded = digest_bytes(data + bytes(-len(data) % 65_536))
        return replace(unpadded, sha256=digest_bytes(data).sha256)

    assert [f.subject for f in digest_faults(wrong)] == [
        "fs-verity of 1 bytes",
        "fs-verity of 65537 bytes",
        "fs-verity of 1000000 bytes",
    ]


@pytest.mark.requirement("REQ-ADM-01")
def test_a_wrong_merkle_tree_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "root", lambda leaves: leaves[0])
    assert [f.subject for f in digest_faults()] == [f"Merkle root of {n} leaves" for n in (2, 3, 7, 8)]


@pytest.mark.requirement("REQ-ADM-01")
@pytest.mark.parametrize("table", ["_FLAT", "_TREE", "_RFC6962_ROOTS"])
def test_a_removed_test_is_noticed(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, table, getattr(selftest, table)[1:])
    (fault,) = digest_faults()
    assert (fault.subject, fault.detail, fault.expected, fault.found) == ("self-test", "tests are missing", "13", "12")


def test_a_lowered_count_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "COUNT", 12)
    (fault,) = digest_faults()
    assert (fault.expected, fault.found) == ("12", "13")


def test_pattern_is_as_described() -> None:
    assert pattern(600) == bytes((7 * i + 3) % 256 for i in range(600))
    assert pattern(0) == b""
