# SPDX-License-Identifier: Apache-2.0
"""Digests of files, remembered by what the kernel says about them."""

from __future__ import annotations

import hashlib
import os

from weighmaster.probe import file_digests
from weighmaster.probe.file_digests import file_sha256


def test_changed_content_of_equal_size_and_restored_mtime_is_seen(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    stat = path.stat()
    assert file_sha256(str(path)) == hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"abd")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    while path.stat().st_ctime_ns == stat.st_ctime_ns:  # the clock of the file system ticks every few milliseconds
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_sha256(str(path)) == hashlib.sha256(b"abd").hexdigest()


def test_second_reading_is_remembered(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    first = file_sha256(str(path))
    monkeypatch.setattr(file_digests.hashlib, "file_digest", None)
    assert file_sha256(str(path)) == first


def test_what_is_no_readable_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert file_sha256(str(tmp_path / "missing")) is None
    assert file_sha256(str(tmp_path)) is None
    assert file_sha256(str(tmp_path / "pipe")) is None
    assert file_sha256("/tmp/a\0b") is None


def test_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    real = hashlib.file_digest

    def meanwhile(file, name):
        digest = real(file, name)
        path.write_bytes(b"abcd")
        return digest

    monkeypatch.setattr(file_digests.hashlib, "file_digest", meanwhile)
    assert file_sha256(str(path)) is None


def test_another_file_than_asked_about(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_sha256(str(path), same=lambda fd: os.fstat(fd).st_size == 4) is None
