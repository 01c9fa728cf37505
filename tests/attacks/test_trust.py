# SPDX-License-Identifier: Apache-2.0
"""Attempts 50 to 63: a genuine model, and another trust file, mark, clock, policy or waiver (see README.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from weighmaster.errors import MalformedArtefact, StorageError
from weighmaster.flows import mark as mark_module
from weighmaster.flows.keep import write_trust
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import RootKey, Roots, Trust
from weighmaster.seal.trust_chain import amend, chain_to_bytes, countersign, new_chain, parse_chain
from weighmaster.seal.trust_edit import with_revoked_key

X = torch.arange(8.0).reshape(2, 4)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BEN = generate("ed25519")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "mark"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trust.json"


def two_keepers(trust: Trust, keeper: PrivateKey) -> Trust:
    keys = (RootKey(person="Rosa", key=keeper.public), RootKey(person="Ben", key=BEN.public))
    return replace(trust, roots=Roots(keys=keys, threshold=2))


def test_50_one_stolen_root_key_of_two(weighed: Any, target: Any, stopped: Any, keeper: Any, file: Path) -> None:
    trust = two_keepers(weighed.trust, keeper)
    pin = write_trust(file, trust, keeper, BEN)
    file.write_bytes(chain_to_bytes(countersign(amend(parse_chain(file.read_bytes(), "t"), trust), keeper)))
    assert stopped(lambda: weighed.admit(target(), trust=file, roots=pin), 13) == [f"{file}, version 2"]


def test_51_one_stolen_root_key_that_lowers_the_threshold(
    weighed: Any, target: Any, stopped: Any, keeper: Any, file: Path
) -> None:
    trust = two_keepers(weighed.trust, keeper)
    lowered = replace(trust, roots=replace(trust.roots, threshold=1))
    write_trust(file, lowered, keeper)
    assert stopped(lambda: weighed.admit(target(), trust=file, roots=trust.roots.fingerprint), 13) == [str(file)]


def test_52_an_older_trust_file(weighed: Any, target: Any, stopped: Any, keeper: Any, file: Path, mark: Path) -> None:
    pin = write_trust(file, weighed.trust, keeper)
    older = file.read_bytes()
    write_trust(file, weighed.trust, keeper)
    weighed.admit(target(), trust=file, roots=pin, mark=mark)
    file.write_bytes(older)
    assert stopped(lambda: weighed.admit(target(), trust=file, roots=pin, mark=mark), 14) == ["trust version"]


def test_53_two_trust_files_of_one_version(
    weighed: Any, target: Any, stopped: Any, keeper: Any, file: Path, mark: Path
) -> None:
    pin = write_trust(file, weighed.trust, keeper)
    weighed.admit(target(), trust=file, roots=pin, mark=mark)
    file.unlink()
    write_trust(file, replace(weighed.trust, expires=weighed.trust.expires - timedelta(days=1)), keeper)
    assert stopped(lambda: weighed.admit(target(), trust=file, roots=pin, mark=mark), 14) == ["trust document"]


def test_54_a_former_keeper_where_the_pin_was_never_changed(
    weighed: Any, target: Any, stopped: Any, keeper: Any, file: Path, mark: Path
) -> None:
    pin = write_trust(file, weighed.trust, keeper)
    handed_over = replace(weighed.trust, roots=Roots(keys=(RootKey(person="Ben", key=BEN.public),), threshold=1))
    write_trust(file, handed_over, keeper, BEN)
    weighed.admit(target(), trust=file, roots=pin, mark=mark)
    forged = countersign(new_chain(replace(weighed.trust, version=9), "t"), keeper)
    file.write_bytes(chain_to_bytes(forged))
    assert stopped(lambda: weighed.admit(target(), trust=file, roots=pin, mark=mark), 14) == ["trust roots"]


def test_55_the_same_where_no_mark_is_kept(weighed: Any, target: Any, keeper: Any, file: Path) -> None:
    """A bound: who holds a former set of roots is followed by a gate that is pinned to it and remembers nothing."""
    pin = write_trust(file, weighed.trust, keeper)
    file.write_bytes(chain_to_bytes(countersign(new_chain(replace(weighed.trust, version=9), "t"), keeper)))
    admission = weighed.admit(target(), trust=file, roots=pin)
    assert any("no high-water mark is kept" in line for line in admission.verdict.not_covered)


def test_56_an_older_manifest(sealed: Any, target: Any, stopped: Any, mark: Path) -> None:
    old = sealed(target(), example_inputs=X, serial=1)
    sealed(target(), example_inputs=X, serial=2).admit(target(), mark=mark)
    assert stopped(lambda: old.admit(target(), mark=mark), 14) == ["serial"]


def test_57_the_same_after_the_mark_was_deleted(sealed: Any, target: Any, mark: Path) -> None:
    """A bound: a deleted mark is a first start, and the verdict says that there was none."""
    old = sealed(target(), example_inputs=X, serial=1)
    sealed(target(), example_inputs=X, serial=2).admit(target(), mark=mark)
    mark.unlink()
    verdict = old.admit(target(), mark=mark).verdict
    assert any("there was no mark" in line for line in verdict.not_covered)


def test_58_a_damaged_mark(weighed: Any, target: Any, mark: Path) -> None:
    weighed.admit(target(), mark=mark)
    mark.write_bytes(mark.read_bytes().replace(b'"serial":1', b'"serial":0'))
    with pytest.raises(MalformedArtefact, match="SHA-256 of line 1") as caught:
        weighed.admit(target(), mark=mark)
    assert caught.value.exit_code == 20


def test_59_a_mark_that_cannot_be_written(
    weighed: Any, target: Any, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(path: Path, *_: object, **__: object) -> None:
        raise StorageError(f"{path}: cannot be written: Read-only file system")

    monkeypatch.setattr(mark_module, "write_atomically", refuses)
    with pytest.raises(StorageError, match="Read-only") as caught:
        weighed.admit(target(), mark=mark)
    assert caught.value.exit_code == 70


def test_60_the_clock_set_back_to_before_an_expiry(weighed: Any, target: Any, stopped: Any, mark: Path) -> None:
    end = weighed.trust.expires
    weighed.admit(target(), mark=mark, wall=lambda: end - timedelta(seconds=1))
    assert stopped(lambda: weighed.admit(target(), mark=mark, wall=lambda: end), 13) == ["trust, version 1"]
    assert stopped(lambda: weighed.admit(target(), mark=mark, wall=lambda: NOW), 14) == ["clock"]


def test_61_a_weaker_policy_in_place_of_the_signed_one(weighed: Any, target: Any, stopped: Any) -> None:
    path = weighed.directory / "policy.json"
    document = json.loads(path.read_bytes())
    rule = {
        "compare": "known",
        "fact": "env.*",
        "onDiff": "inform",
        "onMissing": "inform",
        "reference": "",
        "values": [],
    }
    document["rules"] = [rule]
    path.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
    (subject,) = stopped(lambda: weighed.admit(target()), 13)
    assert subject.endswith("policy.json")


def test_62_a_signature_from_before_the_revocation(weighed: Any, target: Any, stopped: Any, signer: Any) -> None:
    revoked = with_revoked_key(weighed.trust, signer.public.fingerprint)
    assert stopped(lambda: weighed.admit(target(), trust=revoked), 13) == [
        "reader, role signer",
        "signer-1.sigstore.json",
    ]


def test_63_a_key_after_its_last_day(weighed: Any, target: Any, stopped: Any) -> None:
    (key,) = weighed.trust.keys
    ended = replace(weighed.trust, keys=(replace(key, not_after=NOW),))
    weighed.admit(target(), trust=ended, wall=lambda: NOW)
    late = stopped(lambda: weighed.admit(target(), trust=ended, wall=lambda: NOW + timedelta(seconds=1)), 13)
    assert "signer-1.sigstore.json" in late
