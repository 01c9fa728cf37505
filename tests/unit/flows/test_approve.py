# SPDX-License-Identifier: Apache-2.0
"""What is signed is consistent, and all signatures are over the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from weighmaster.errors import MalformedArtefact, SignatureFault, UsageError
from weighmaster.flows.approve import read_unsigned, sign
from weighmaster.flows.artefact import read_manifest
from weighmaster.flows.weigh import weigh
from weighmaster.seal.keys import generate


@pytest.fixture
def written(small: Any, tmp_path: Path) -> Path:
    return weigh(small(), product="reader", version="1.0", serial=1).write(tmp_path / "m")


def test_each_signature_is_a_bundle_of_its_own_over_the_same_bytes(written: Path, signer: Any) -> None:
    first, second = sign(written, signer), sign(written, generate("ecdsa-p256-sha256"), role="approver")
    assert (first.name, second.name) == ("signer-1.sigstore.json", "approver-1.sigstore.json")
    assert sign(written, signer).name == "signer-2.sigstore.json"
    sealed = read_manifest(written).sealed()
    assert len(sealed.signatures) == 3
    assert sealed.payload == (written / "statement.json").read_bytes()


def test_an_unknown_role_is_refused_and_nothing_written(written: Path, signer: Any) -> None:
    before = sorted(written.iterdir())
    with pytest.raises(UsageError, match="role: expected one of approver, signer, found 'owner'"):
        sign(written, signer, role="owner")
    assert sorted(written.iterdir()) == before


@pytest.mark.requirement("REQ-SEA-10")
def test_an_inconsistent_manifest_is_not_signed(written: Path, signer: Any) -> None:
    path = written / "structure.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(SignatureFault, match=r"structure\.jsonl"):
        sign(written, signer)
    assert not list(written.glob("*.sigstore.json"))


@pytest.mark.requirement("REQ-SEA-06")
def test_a_bundle_over_another_statement_is_not_joined(written: Path, small: Any, signer: Any, tmp_path: Path) -> None:
    other = weigh(small(), product="reader", version="1.0", serial=2).write(tmp_path / "other")
    shutil.copy(sign(other, signer), written / "signer-1.sigstore.json")
    with pytest.raises(SignatureFault, match=r"over another statement than statement\.json"):
        sign(written, signer)


def test_without_a_statement_there_is_nothing_to_sign(written: Path, signer: Any) -> None:
    (written / "statement.json").unlink()
    with pytest.raises(MalformedArtefact) as caught:
        read_unsigned(written)
    assert (caught.value.expected, caught.value.found) == ("the statement", "no such file")


def test_an_unsigned_manifest_has_no_seal(written: Path) -> None:
    with pytest.raises(SignatureFault, match="is not signed"):
        read_manifest(written).sealed()
