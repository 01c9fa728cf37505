# SPDX-License-Identifier: Apache-2.0
"""A manifest directory appears whole, is read without belief, and every file is bound to the statement."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from weighmaster.errors import MalformedArtefact, SignatureFault, StorageError, UsageError
from weighmaster.flows import artefact
from weighmaster.flows.approve import read_unsigned
from weighmaster.flows.artefact import bind, next_bundle_name, read_manifest
from weighmaster.flows.weigh import weigh

FILES = {
    "statement.json",
    "tensors.S1.kernel.jsonl",
    "tensors.S3.kernel.jsonl",
    "leaves.S3.kernel.bin",
    "structure.jsonl",
    "environment.json",
    "policy.json",
    "probe-set.safetensors",
}


@pytest.fixture
def manifest(small: Any) -> Any:
    return weigh(small(), product="reader", version="1.0", serial=1)


@pytest.fixture
def written(manifest: Any, tmp_path: Path) -> Path:
    return manifest.write(tmp_path / "m")


def test_a_directory_holds_exactly_its_files_and_reads_back(written: Path, manifest: Any) -> None:
    assert {p.name for p in written.iterdir()} == FILES
    again = read_unsigned(written)
    assert again.payload == manifest.payload
    assert (again.root, again.tables, again.leaves) == (manifest.root, manifest.tables, manifest.leaves)
    assert again.structure == manifest.structure
    assert again.probe_set == manifest.probe_set


def test_the_leaves_may_be_left_out(written: Path) -> None:
    (written / "leaves.S3.kernel.bin").unlink()
    assert read_unsigned(written).leaves == {}


@pytest.mark.requirement("REQ-DUR-04")
def test_nothing_is_overwritten(written: Path, manifest: Any) -> None:
    with pytest.raises(UsageError, match="exists already and is not overwritten"):
        manifest.write(written)


@pytest.mark.requirement("REQ-DUR-04")
@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_full_disk_leaves_nothing_behind(
    number: int, manifest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = [], artefact.write_atomically

    def full(path: Path, data: bytes, **keywords: Any) -> None:
        calls.append(path)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, data, **keywords)

    monkeypatch.setattr(artefact, "write_atomically", full)
    with pytest.raises(StorageError, match="No space left on device"):
        manifest.write(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such manifest directory"):
        read_manifest(tmp_path / "none")


@pytest.mark.requirement("REQ-MAN-04")
@pytest.mark.parametrize(
    "name", ["notes.txt", "tensors.S5.kernel.jsonl", "signer-0.sigstore.json", "signer-1.sigstore.json~"]
)
def test_an_unknown_file_is_refused(name: str, written: Path) -> None:
    (written / name).write_bytes(b"")
    with pytest.raises(MalformedArtefact) as caught:
        read_manifest(written)
    assert caught.value.file == str(written / name)


@pytest.mark.requirement("REQ-MAN-03")
@pytest.mark.parametrize("name", sorted(FILES - {"statement.json"}))
def test_one_changed_byte_in_any_file_is_found(name: str, written: Path) -> None:
    path = written / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises((SignatureFault, MalformedArtefact)) as caught:
        read_unsigned(written)
    assert name in str(caught.value)
    if name != "leaves.S3.kernel.bin":
        assert "is not what the statement names: SHA-256" in str(caught.value)


@pytest.mark.requirement("REQ-MAN-04")
@pytest.mark.parametrize("name", sorted(FILES - {"statement.json", "leaves.S3.kernel.bin"}))
def test_a_missing_file_is_found(name: str, written: Path) -> None:
    (written / name).unlink()
    with pytest.raises(MalformedArtefact) as caught:
        read_unsigned(written)
    assert caught.value.file.endswith(name)
    assert caught.value.expected == "the file that the statement names"


@pytest.mark.requirement("REQ-MAN-08")
def test_leaves_of_another_length_are_malformed(written: Path) -> None:
    path = written / "leaves.S3.kernel.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MalformedArtefact, match="32 per leaf"):
        read_unsigned(written)


@pytest.mark.requirement("REQ-MAN-04")
def test_a_file_that_the_statement_does_not_name_is_refused(written: Path) -> None:
    shutil.copy(written / "tensors.S1.kernel.jsonl", written / "tensors.S2.kernel.jsonl")
    with pytest.raises(MalformedArtefact) as caught:
        read_unsigned(written)
    assert caught.value.file.endswith("tensors.S2.kernel.jsonl")


def test_the_unsigned_copy_must_be_the_signed_statement(manifest: Any) -> None:
    files = manifest.files()
    files["statement.json"] = manifest.payload + b" "
    with pytest.raises(SignatureFault, match="is not the statement that was signed"):
        bind(manifest.payload, files, "m")


def test_the_next_bundle_takes_the_first_free_number(tmp_path: Path) -> None:
    assert next_bundle_name(tmp_path, "signer") == "signer-1.sigstore.json"
    (tmp_path / "signer-1.sigstore.json").touch()
    (tmp_path / "signer-3.sigstore.json").touch()
    assert next_bundle_name(tmp_path, "signer") == "signer-2.sigstore.json"
    assert next_bundle_name(tmp_path, "approver") == "approver-1.sigstore.json"
