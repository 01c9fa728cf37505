# SPDX-License-Identifier: Apache-2.0
"""The high-water mark: what is older, another, or damaged; and that it never goes down."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from weighmaster.core.canonical import dumps
from weighmaster.errors import MalformedArtefact, NotAdmitted, StorageError
from weighmaster.flows import mark as mark_module
from weighmaster.flows.mark import Mark, MarkFile, mark_faults, mark_to_bytes, parse_mark
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import RootKey, Roots, Trust
from weighmaster.seal.trust_chain import VerifiedTrust, amend, chain_to_bytes, countersign, new_chain, open_trust

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROSA, SAM = generate("ed25519"), generate("ed25519")


def roots(person: str, key: PrivateKey) -> Roots:
    return Roots(keys=(RootKey(person=person, key=key.public),), threshold=1)


def document(kept_by: Roots, **fields: Any) -> Trust:
    return Trust(**{"expires": NOW + timedelta(days=99), "roots": kept_by, "file": "trust.json", **fields})


OLD, NEW = roots("Rosa", ROSA), roots("Sam", SAM)
FIRST = countersign(new_chain(document(OLD), "trust.json"), ROSA)
SECOND = countersign(amend(FIRST, document(OLD)), ROSA)
ROTATED = countersign(countersign(amend(SECOND, document(NEW)), ROSA), SAM)


def opened(chain: Any, pin: str = OLD.fingerprint) -> VerifiedTrust:
    return open_trust(chain_to_bytes(chain), "trust.json", roots=pin, now=NOW)


def mark_of(chain: Any, pin: str = OLD.fingerprint, *, serial: int = 5, time: datetime = NOW) -> Mark:
    return Mark.of(opened(chain, pin), product="reader", serial=serial, time=time)


def said(kept: Mark, chain: Any, pin: str = OLD.fingerprint, **found: Any) -> list[str]:
    trust = opened(chain, pin)
    now = replace(Mark.of(trust, product="reader", serial=5, time=NOW), **found)
    return [str(fault) for fault in mark_faults(kept, now, trust)]


# -- the file ---------------------------------------------------------------------------------------------------------


def test_there_and_back() -> None:
    mark = mark_of(SECOND)
    data = mark_to_bytes(mark)
    assert parse_mark(data, "mark") == mark
    line, digest, empty = data.split(b"\n")
    assert (digest, empty) == (hashlib.sha256(line + b"\n").hexdigest().encode(), b"")
    assert json.loads(line)["trustVersion"] == 2


@pytest.mark.requirement("REQ-MRK-06")
def test_every_flipped_bit_and_every_truncation_is_damage() -> None:
    data = mark_to_bytes(mark_of(FIRST))
    for at in range(len(data)):
        for bit in range(8):
            spoilt = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(MalformedArtefact, match=r"^mark: "):
                parse_mark(spoilt, "mark")
        with pytest.raises(MalformedArtefact, match=r"^mark: line 2: expected"):
            parse_mark(data[:at], "mark")


EDITS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda v: v.update(scheme="weighmaster-mark-v2"), "scheme: expected 'weighmaster-mark-v1'"),
    (lambda v: v.pop("product"), "product: expected a value, found no such key"),
    (lambda v: v.update(roots="x"), "roots: expected 64 lowercase hexadecimal digits"),
    (lambda v: v.update(serial=-1), "serial: expected an integer from 0"),
    (lambda v: v.update(serial=True), "serial: expected an integer, found a boolean"),
    (lambda v: v.update(time="2026-06-30T23:59:60Z"), "time: expected a moment"),
    (lambda v: v.update(trustSha256=None), "trustSha256: expected a string, found null"),
    (lambda v: v.update(trustVersion=0), "trustVersion: expected an integer from 1"),
    (lambda v: v.update(note=""), "note: expected only the keys"),
]


@pytest.mark.parametrize(("edit", "message"), EDITS)
def test_anything_else_than_the_format_is_refused(edit: Callable[[dict[str, Any]], object], message: str) -> None:
    value = json.loads(mark_to_bytes(mark_of(FIRST)).split(b"\n")[0])
    edit(value)
    line = dumps(value) + b"\n"
    with pytest.raises(MalformedArtefact) as caught:
        parse_mark(line + hashlib.sha256(line).hexdigest().encode() + b"\n", "mark")
    assert message in str(caught.value)


# -- the rules --------------------------------------------------------------------------------------------------------


def test_the_same_and_what_is_newer_pass() -> None:
    assert said(mark_of(FIRST), FIRST) == []
    assert said(mark_of(FIRST), SECOND, serial=6, time=NOW + timedelta(days=1)) == []
    assert said(mark_of(FIRST), ROTATED) == []
    assert said(mark_of(ROTATED), ROTATED) == []


@pytest.mark.requirement("REQ-MRK-01")
def test_an_older_trust_file() -> None:
    assert said(mark_of(SECOND), FIRST) == [
        "trust version: older than one seen before (rollback); expected >= 2, found 1"
    ]


@pytest.mark.requirement("REQ-MRK-02")
def test_two_trust_files_of_one_version() -> None:
    other = countersign(amend(FIRST, document(OLD, expires=NOW + timedelta(days=98))), ROSA)
    (text,) = said(mark_of(SECOND), other)
    assert text.startswith("trust document: another document than the one seen before as version 2; ")
    assert text.endswith(f"expected {SECOND.current.sha256}, found {other.current.sha256}")


@pytest.mark.requirement("REQ-MRK-05")
def test_former_keepers_cannot_go_on_where_the_pin_was_never_changed() -> None:
    """Whoever stole Rosa's key after the rotation signs a third version of their own; the pin is still Rosa's."""
    forged = new_chain(document(OLD, version=9), "trust.json")
    (text,) = said(mark_of(ROTATED), countersign(forged, ROSA))
    assert text.startswith("trust roots: are not followed from those seen before (rollback); expected ")
    assert NEW.fingerprint in text


def test_a_new_pin_without_the_bridge_is_refused_and_with_it_passes() -> None:
    bridged = countersign(amend(ROTATED, document(NEW)), SAM)
    cut = replace(bridged, envelopes=bridged.envelopes[-1:])
    assert said(mark_of(SECOND), bridged, NEW.fingerprint) == []
    assert said(mark_of(SECOND), cut, NEW.fingerprint)[0].startswith("trust roots: are not followed")


@pytest.mark.requirement("REQ-MRK-05")
def test_an_older_manifest_another_product_and_a_clock_set_back() -> None:
    kept = mark_of(FIRST)
    assert said(kept, FIRST, serial=4) == ["serial: older than one seen before (rollback); expected >= 5, found 4"]
    assert said(kept, FIRST, product="other") == ["mark: is about another product; expected other, found reader"]
    assert said(kept, FIRST, time=NOW - timedelta(seconds=300)) == []
    assert said(kept, FIRST, time=NOW - timedelta(seconds=301)) == [
        "clock: was set back; expected >= 2026-11-24T11:55:00Z, found 2026-11-24T11:54:59Z"
    ]


# -- on disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-MRK-09")
def test_it_only_rises(tmp_path: Path) -> None:
    file, trust = MarkFile(tmp_path / "mark"), opened(SECOND)
    assert file.read() is None
    file.raise_to(mark_of(SECOND), trust)
    file.raise_to(mark_of(SECOND, serial=8, time=NOW - timedelta(seconds=9)), trust)
    kept = file.read()
    assert kept is not None
    assert (kept.serial, kept.time) == (8, NOW)
    assert (tmp_path / "mark").stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotAdmitted, match="the mark stands higher") as caught:
        file.raise_to(mark_of(FIRST), opened(FIRST))
    assert [f.subject for f in caught.value.faults] == ["serial", "trust version"]
    assert file.read() == kept


def test_what_cannot_be_written_leaves_the_mark_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MarkFile(tmp_path / "mark")
    file.raise_to(mark_of(FIRST), opened(FIRST))
    before = (tmp_path / "mark").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise StorageError("mark: cannot be written: No space left on device")

    monkeypatch.setattr(mark_module, "write_atomically", full)
    with pytest.raises(StorageError, match="No space left"):
        file.raise_to(mark_of(FIRST, serial=9), opened(FIRST))
    assert (tmp_path / "mark").read_bytes() == before
    with pytest.raises(StorageError, match="cannot be locked"):
        MarkFile(tmp_path / "absent" / "mark").raise_to(mark_of(FIRST), opened(FIRST))


def test_a_damaged_mark_is_no_first_start(tmp_path: Path) -> None:
    (tmp_path / "mark").write_bytes(b"")
    with pytest.raises(MalformedArtefact, match=r"mark: line 2: expected [0-9a-f]{64}, SHA-256 of line 1, found none"):
        MarkFile(tmp_path / "mark").read()
    (tmp_path / "mark").unlink()
    (tmp_path / "mark").symlink_to("nowhere")
    with pytest.raises(StorageError, match="No such file"):
        MarkFile(tmp_path / "mark").read()
    (tmp_path / "mark").unlink()
    (tmp_path / "mark").mkdir()
    with pytest.raises(StorageError, match="is no regular file"):
        MarkFile(tmp_path / "mark").read()


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTDIR, errno.EIO, errno.ESTALE])
def test_a_mark_that_cannot_be_looked_for_is_no_first_start(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(StorageError, match=f"mark: cannot be read: {os.strerror(number)}"):
        MarkFile(tmp_path / "mark").read()


def test_a_link_to_the_mark_is_kept_and_the_mark_behind_it_raised(tmp_path: Path) -> None:
    """Two gates, one by the link: there is one mark, not two from the first write on."""
    (tmp_path / "volume").mkdir()
    real, link = MarkFile(tmp_path / "volume" / "mark"), MarkFile(tmp_path / "mark")
    real.raise_to(mark_of(FIRST), opened(FIRST))
    link.path.symlink_to(real.path)
    link.raise_to(mark_of(FIRST, serial=9), opened(FIRST))
    assert link.path.is_symlink()
    kept = real.read()
    assert kept is not None
    assert kept.serial == 9


@pytest.mark.requirement("REQ-MRK-09")
def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    """Two gates raise one mark: neither loses what the other wrote."""
    script = (
        "import fcntl, os, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(0.5)\n"
        "os.rename(sys.argv[1] + '/other', sys.argv[1] + '/mark')\n"
    )
    (tmp_path / "other").write_bytes(mark_to_bytes(mark_of(FIRST, serial=7)))
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(NotAdmitted) as caught:
            MarkFile(tmp_path / "mark").raise_to(mark_of(FIRST), opened(FIRST))
        assert str(caught.value.faults[0]).endswith("older than one seen before (rollback); expected >= 7, found 5")
        assert holder.wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mark"]
