# SPDX-License-Identifier: Apache-2.0
"""The gate and its mark, its trust file and its clock: first start, restart, rollback, and what cannot be kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from weighmaster.errors import MalformedArtefact, NotAdmitted, StorageError, UsageError
from weighmaster.flows import mark as mark_module
from weighmaster.flows.keep import write_trust
from weighmaster.flows.mark import MarkFile
from weighmaster.flows.trusted import read_trust
from weighmaster.flows.verify import verify

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def at(moment: datetime) -> Any:
    return lambda: moment


def said(refusal: NotAdmitted) -> list[str]:
    return [str(fault) for fault in refusal.faults]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "mark"


@pytest.mark.requirement("REQ-MRK-08")
def test_a_first_start_says_so_and_a_restart_does_not(small: Any, sealed: Any, mark: Path) -> None:
    done = sealed(small())
    first = done.admit(small(), mark=mark, wall=at(NOW))
    assert [t for t in first.verdict.not_covered if t.startswith("rollback")] == [
        f"rollback: there was no mark in {mark} (a first start, or it was deleted); one is kept from now"
    ]
    kept = MarkFile(mark).read()
    assert kept is not None
    assert (kept.product, kept.serial, kept.trust_version, kept.time) == ("reader", 1, 1, NOW)
    again = done.admit(small(), mark=mark, wall=at(NOW + timedelta(hours=1)))
    assert not [t for t in again.verdict.not_covered if t.startswith("rollback")]


@pytest.mark.requirement("REQ-MRK-08")
def test_without_a_mark_every_verdict_says_so(small: Any, sealed: Any) -> None:
    verdict = sealed(small()).admit(small(), mark=None).verdict
    assert "rollback: no high-water mark is kept here; the trust file's minimum serial is the protection" in (
        verdict.not_covered
    )


@pytest.mark.requirement("REQ-MRK-03")
def test_an_older_manifest_is_not_admitted_again(small: Any, sealed: Any, mark: Path) -> None:
    old, new = sealed(small(), serial=1), sealed(small(), serial=2)
    new.admit(small(), mark=mark)
    refusal = old.refuse(small(), mark=mark)
    assert refusal.exit_code == 14
    assert said(refusal) == ["serial: older than one seen before (rollback); expected >= 2, found 1"]
    mark.unlink()
    assert "(a first start, or it was deleted)" in str(old.admit(small(), mark=mark).verdict.not_covered)


def test_a_mark_is_raised_by_what_was_admitted_alone(small: Any, sealed: Any, mark: Path, flip_bit: Any) -> None:
    other = small()
    flip_bit(other.conv.weight)
    assert sealed(small(), serial=7).refuse(other, mark=mark).exit_code == 10
    assert not mark.exists()


@pytest.mark.requirement("REQ-MRK-04", "REQ-TRU-13")
def test_a_clock_set_back_and_an_expired_trust_file(small: Any, sealed: Any, mark: Path, nobody: Any) -> None:
    done = sealed(small())
    done.admit(small(), mark=mark, wall=at(NOW))
    assert said(done.refuse(small(), mark=mark, wall=at(NOW - timedelta(seconds=301)))) == [
        "clock: was set back; expected >= 2026-11-24T11:55:00Z, found 2026-11-24T11:54:59Z"
    ]
    done.admit(small(), mark=mark, wall=at(NOW - timedelta(seconds=300)))
    late = done.refuse(small(), mark=mark, wall=at(nobody.expires))
    assert late.exit_code == 13
    assert said(late)[0].startswith("trust, version 1: has expired; expected a moment before 2100-01-01T00:00:00Z")


@pytest.mark.requirement("REQ-MRK-04")
def test_a_clock_within_the_slack_does_not_bring_an_expired_file_back(
    small: Any, sealed: Any, mark: Path, nobody: Any
) -> None:
    done = sealed(small())
    done.admit(small(), mark=mark, wall=at(nobody.expires - timedelta(seconds=1)))
    kept = MarkFile(mark).read()
    assert kept is not None
    mark.write_bytes(mark_module.mark_to_bytes(mark_module.replace(kept, time=nobody.expires)))
    assert said(done.refuse(small(), mark=mark, wall=at(nobody.expires - timedelta(seconds=9))))[0].startswith(
        "trust, version 1: has expired"
    )


@pytest.mark.requirement("REQ-MRK-06")
@pytest.mark.parametrize("data", [b"", b"{}\n", b"\x00" * 99])
def test_a_damaged_mark_halts(small: Any, sealed: Any, mark: Path, data: bytes) -> None:
    mark.write_bytes(data)
    with pytest.raises(MalformedArtefact, match="SHA-256 of line 1"):
        sealed(small()).admit(small(), mark=mark)


@pytest.mark.requirement("REQ-MRK-07")
def test_a_mark_that_cannot_be_written_halts_before_the_first_pass(
    small: Any, sealed: Any, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("mark: cannot be written: Read-only file system")

    monkeypatch.setattr(mark_module, "write_atomically", full)
    model, done = small(), sealed(small())
    gate = done.gate(mark=mark)
    gate.guard(model)
    with pytest.raises(StorageError, match="Read-only"):
        gate.admit(model)
    with pytest.raises(NotAdmitted) as caught:
        model(model.conv.weight.new_ones(1, 3, 8, 8))
    assert "has not been admitted" in said(caught.value)[0]


def test_a_completed_cycle_raises_the_mark(small: Any, sealed: Any, mark: Path) -> None:
    moment = [NOW]
    admission = sealed(small()).admit(small(), mark=mark, wall=lambda: moment[0])
    moment[0] += timedelta(hours=2)
    assert admission.recheck().cycle_complete
    kept = MarkFile(mark).read()
    assert kept is not None
    assert kept.time == NOW + timedelta(hours=2)


def test_a_mark_raised_by_a_newer_gate_ends_the_older_admission(small: Any, sealed: Any, mark: Path) -> None:
    old, new = sealed(small(), serial=1), sealed(small(), serial=2)
    admission = old.admit(small(), mark=mark)
    new.admit(small(), mark=mark)
    with pytest.raises(NotAdmitted, match=r"the mark stands higher"):
        admission.recheck()
    assert admission.remaining == 0


def test_verify_reads_the_mark_and_does_not_raise_it(small: Any, sealed: Any, mark: Path, signed_trust: Any) -> None:
    old, new = sealed(small(), serial=1), sealed(small(), serial=2)
    new.admit(small(), mark=mark, wall=at(NOW))
    before = mark.read_bytes()
    trust = signed_trust(old.trust)
    with pytest.raises(NotAdmitted) as caught:
        verify(old.gate().sealed, trust, expect="reader", now=NOW, mark=MarkFile(mark))
    assert said(caught.value) == ["serial: older than one seen before (rollback); expected >= 2, found 1"]
    assert verify(new.gate().sealed, trust, expect="reader", now=NOW, mark=MarkFile(mark)).files is None
    assert mark.read_bytes() == before
    mark.unlink()
    done = verify(old.gate().sealed, trust, expect="reader", now=NOW, mark=MarkFile(mark))
    assert [t for t in done.not_covered if t.startswith("rollback")] == [
        "rollback: no high-water mark was read, so an older manifest or trust file would not be noticed"
    ]
    assert not mark.exists()


# -- the trust file ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-TRU-09")
def test_a_trust_file_from_its_path(small: Any, sealed: Any, keeper: Any, tmp_path: Path) -> None:
    done = sealed(small())
    pin = write_trust(tmp_path / "trust.json", done.trust, keeper)
    assert done.admit(small(), trust=tmp_path / "trust.json", roots=pin).verdict.product == "reader"
    with pytest.raises(UsageError, match="roots: expected the fingerprint of the roots"):
        done.gate(trust=tmp_path / "trust.json")
    with pytest.raises(UsageError, match="expected 64 lowercase hexadecimal digits, found 'ABC'"):
        done.gate(trust=tmp_path / "trust.json", roots="ABC")
    with pytest.raises(UsageError, match="expected none, for this trust was verified already"):
        done.gate(roots=pin)
    with pytest.raises(NotAdmitted) as caught:
        done.gate(trust=tmp_path / "trust.json", roots="0" * 64)
    assert "does not begin at the roots that are pinned here; expected roots 000" in said(caught.value)[0]


def test_writing_without_the_keepers_writes_nothing(nobody: Any, signer: Any, keeper: Any, tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    with pytest.raises(UsageError, match="too few keepers of the roots signed"):
        write_trust(path, nobody)
    with pytest.raises(UsageError, match="expected a root key"):
        write_trust(path, nobody, signer)
    assert not path.exists()
    pin = write_trust(path, nobody, keeper)
    assert write_trust(path, nobody, keeper) == pin
    assert read_trust(path, pin, NOW).trust.version == 2
