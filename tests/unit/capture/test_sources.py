# SPDX-License-Identifier: Apache-2.0
"""The files of a model directory: which, in which role, with which digest, and which are refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from weighmaster.capture import sources
from weighmaster.capture.sources import is_source, role_of, source_faults, source_files
from weighmaster.errors import MalformedArtefact, SourceFault, StorageError, UsageError

ROLES = {
    "weights": "model.safetensors pytorch_model.bin a.pt a.pth a.ckpt m.gguf m.onnx m.onnx_data tf_model.h5 a.npz "
    "a.npy flax_model.msgpack model.safetensors.index.json pytorch_model.bin.index.json adapter_model.safetensors",
    "config": "config.json generation_config.json modules.json config_sentence_transformers.json model_index.json "
    "sentence_bert_config.json quantize_config.json quantization_config.json hf_quant_config.json adapter_config.json "
    "params.json configuration.json scheduler_config.json",
    "tokenizer": "tokenizer.json tokenizer_config.json vocab.txt vocab.json merges.txt special_tokens_map.json "
    "added_tokens.json tokenizer.model spiece.model qwen.tiktoken",
    "template": "chat_template.jinja chat_template.json tool_use.jinja",
    "preprocessor": "preprocessor_config.json processor_config.json image_processor_config.json "
    "video_preprocessor_config.json",
    "code": "modeling_x.py modeling_x.pyc kernel.so kernel.cu kernel.cpp k.cubin k.ptx README.py .hidden.py LICENSE.py",
    "other": "notes.txt results.json Config.json model.SAFETENSORS LICENSE.json READMEs image.png x",
    "": "README.md README README.txt LICENSE LICENSE.txt LICENCE NOTICE COPYING.rst CARD.md .gitattributes .DS_Store",
}


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in ROLES.items() for name in names.split()])
def test_role_of(role: str, name: str) -> None:
    assert role_of(name) == (role or None)


@pytest.mark.parametrize("path", ["config.json", "a/b/model.safetensors", "a.b/tokenizer.json", "odd"])
def test_a_path_that_would_be_listed(path: str) -> None:
    assert is_source(path)


@pytest.mark.parametrize(
    "path", ["README.md", "a/LICENSE", ".gitattributes", ".git/config.json", "a/.b/model.safetensors"]
)
def test_a_path_that_would_not_be_listed(path: str) -> None:
    assert not is_source(path)


def put(root: Path, path: str, data: bytes = b"x") -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target


def model(root: Path) -> Path:
    put(root, "model.safetensors", b"weights" * 300_000)  # more than one piece
    put(root, "config.json", b"{}")
    put(root, "1_Pooling/config.json", b"{ }")
    put(root, "a/b/c/deep.json", b"[]")
    put(root, "empty.json", b"")
    put(root, "README.md")
    put(root, ".gitattributes")
    put(root, ".git/config")
    put(root, ".cache/a/b/c/d/e/f")
    return root


def test_lists_every_file_with_its_digest(tmp_path: Path) -> None:
    found = source_files(model(tmp_path))
    assert [(s.path, s.role) for s in found] == [
        ("1_Pooling/config.json", "config"),
        ("a/b/c/deep.json", "other"),
        ("config.json", "config"),
        ("empty.json", "other"),
        ("model.safetensors", "weights"),
    ]
    for source in found:
        data = (tmp_path / source.path).read_bytes()
        assert (source.nbytes, source.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert source_files(str(tmp_path)) == found


def test_order_is_that_of_utf8_bytes(tmp_path: Path) -> None:
    for name in ("z", "a-b", "a/c", "é", "\U0001f600", "\uff5e"):
        put(tmp_path, name)
    assert [s.path for s in source_files(tmp_path)] == ["a-b", "a/c", "z", "é", "\uff5e", "\U0001f600"]


def test_a_single_file_is_its_own_source(tmp_path: Path) -> None:
    for name, role in (("config.json", "config"), ("README.md", "other")):
        (source,) = source_files(put(tmp_path, name, b"abc"))
        assert (source.path, source.role, source.nbytes) == (name, role, 3)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.requirement("REQ-ADM-05")
@pytest.mark.parametrize(
    ("attack", "subject", "words"),
    [
        (lambda root: flip(root / "model.safetensors"), "model.safetensors", "not the validated one (weights"),
        (lambda root: os.truncate(root / "config.json", 1), "config.json", "2 bytes validated, 1 here"),
        (lambda root: (root / "1_Pooling/config.json").unlink(), "1_Pooling/config.json", "is missing (config"),
        (lambda root: put(root, "modeling.py"), "modeling.py", "was not validated is here (code"),
        (lambda root: put(root, "a/tokenizer.json"), "a/tokenizer.json", "was not validated is here (tokenizer"),
        (lambda root: put(root, "chat_template.jinja"), "chat_template.jinja", "was not validated is here (template"),
        (lambda root: put(root, "x.dat"), "x.dat", "was not validated is here (other"),
    ],
)
def test_a_changed_directory_is_one_fault(
    tmp_path: Path, attack: Callable[[Path], object], subject: str, words: str
) -> None:
    validated = source_files(model(tmp_path))
    assert source_faults(validated, source_files(tmp_path)) == ()
    attack(tmp_path)
    (fault,) = source_faults(validated, source_files(tmp_path))
    assert fault.subject == subject
    assert words in fault.detail
    put(tmp_path, "README.md", b"another text")
    assert len(source_faults(validated, source_files(tmp_path))) == 1


def test_nothing_is_cached(tmp_path: Path) -> None:
    path = put(tmp_path, "config.json", b"aa")
    before = path.stat()
    (first,) = source_files(tmp_path)
    path.write_bytes(b"bb")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (second,) = source_files(tmp_path)
    assert first.sha256 != second.sha256


@pytest.mark.requirement("REQ-FIL-06")
def test_a_file_that_changes_while_it_is_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "config.json", b"aa")
    real = os.readv

    def read(fd: int, buffers: list[bytearray]) -> int:
        count = real(fd, buffers)
        if not count:
            path.write_bytes(b"bbb")
        return count

    monkeypatch.setattr(os, "readv", read)
    with pytest.raises(SourceFault, match=r"changed while it was read; expected size 2, .*found size 3") as caught:
        source_files(tmp_path)
    assert caught.value.subject == str(path)


def test_a_short_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "config.json", b"aa")
    monkeypatch.setattr(os, "readv", lambda _fd, _buffers: 0)
    with pytest.raises(SourceFault, match="expected 2 bytes, found 0 bytes"):
        source_files(tmp_path)


def test_a_failing_disk_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "config.json", b"aa")

    def broken(_fd: int, _buffers: list[bytearray]) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", broken)
    with pytest.raises(StorageError, match=r"config\.json: cannot be read: Input/output error"):
        source_files(tmp_path)


def test_reads_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "m.bin", bytes(5 << 20))
    asked: list[int] = []
    real = os.readv
    monkeypatch.setattr(os, "readv", lambda fd, buffers: (asked.append(len(buffers[0])), real(fd, buffers))[1])
    (source,) = source_files(tmp_path)
    assert set(asked) == {1 << 18}
    assert source.sha256 == hashlib.sha256(bytes(5 << 20)).hexdigest()


def refused(root: Path) -> MalformedArtefact:
    with pytest.raises(MalformedArtefact) as caught:
        source_files(root)
    return caught.value


def test_too_deep_is_refused_and_not_skipped(tmp_path: Path) -> None:
    put(tmp_path, "a/b/c/d/config.json")
    error = refused(tmp_path)
    assert (error.file, error.field) == (str(tmp_path), "a/b/c/d")
    assert (error.expected, error.found) == ("at most 3 folders deep", "a deeper folder")


@pytest.mark.requirement("REQ-FIL-04")
def test_a_link_outside_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "model/config.json")
    target = put(tmp_path, "secret.json")
    (tmp_path / "model" / "tokenizer.json").symlink_to("../secret.json")
    error = refused(tmp_path / "model")
    assert error.file == str(tmp_path / "model" / "tokenizer.json")
    assert error.found == "a link that leads outside, -> ../secret.json"
    (tmp_path / "model" / "tokenizer.json").unlink()
    (tmp_path / "model" / "tokenizer.json").symlink_to(target)
    assert refused(tmp_path / "model").found == f"a link that leads outside, -> {target}"


def test_a_neighbour_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    put(tmp_path, "model-evil/config.json")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to("../model-evil/config.json")
    assert refused(tmp_path / "model").found.startswith("a link that leads outside")


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "model/a/config.json")
    (tmp_path / "model" / "b").symlink_to("a")
    error = refused(tmp_path / "model")
    assert (error.field, error.found) == ("b", "a link to a folder, -> a")


@pytest.mark.parametrize(
    ("target", "found"), [("absent", "a link to nothing, -> absent"), ("x.json", "a link that cannot be followed")]
)
def test_broken_and_circular_links_are_refused(tmp_path: Path, target: str, found: str) -> None:
    (tmp_path / "x.json").symlink_to(target)
    assert refused(tmp_path).found.startswith(found)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    error = refused(tmp_path)
    assert (error.expected, error.found) == ("a regular file", "a pipe")


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))).write_bytes(b"x")
    error = refused(tmp_path)
    assert error.field == r"'\udcff.json'"
    assert "not Unicode text" in error.found


def test_a_link_within_and_a_hugging_face_cache_are_read(tmp_path: Path) -> None:
    repo = tmp_path / "models--org--name"
    snapshot = repo / "snapshots" / "0123"
    put(repo, "blobs/etag1", b"{}")
    put(repo, "blobs/etag2", b"{ }")
    (snapshot / "1_Pooling").mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/etag1")
    (snapshot / "1_Pooling" / "config.json").symlink_to("../../../blobs/etag2")
    (snapshot / "again.json").symlink_to("config.json")
    (snapshot / "README.md").symlink_to("/etc/hostname")  # ignored, so never opened
    found = {s.path: (s.role, s.nbytes) for s in source_files(snapshot)}
    assert found == {"config.json": ("config", 2), "1_Pooling/config.json": ("config", 3), "again.json": ("other", 2)}
    (part,) = source_files(snapshot / "1_Pooling")
    assert part.path == "config.json"


def test_blobs_count_for_a_snapshot_only(tmp_path: Path) -> None:
    put(tmp_path, "repo/blobs/etag", b"{}")
    (tmp_path / "repo/other/0123").mkdir(parents=True)
    (tmp_path / "repo/other/0123/config.json").symlink_to("../../blobs/etag")
    assert refused(tmp_path / "repo/other/0123").found.startswith("a link that leads outside")


def test_says_when_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent: no such file"):
        source_files(tmp_path / "absent")
    with pytest.raises(UsageError, match="No such file"):
        source_files(tmp_path / "absent" / "below")
    assert source_files(tmp_path) == ()


def test_a_link_put_in_place_after_the_check_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = put(tmp_path, "secret")
    path = put(tmp_path, "model/config.json")
    real = sources.resolve_within

    def swap(root: Path, name: Path) -> Path:
        resolved = real(root, name)
        path.unlink()
        path.symlink_to(secret)
        return resolved

    monkeypatch.setattr(sources, "resolve_within", swap)
    error = refused(tmp_path / "model")
    assert (error.file, error.expected, error.found) == (str(path), "a regular file", "a link")


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"x" * 7)
    (tmp_path / "m.bin").write_bytes(bytes(600_000))
    counted: list[int] = []
    source_files(tmp_path, progress=counted.append)
    assert sum(counted) == 600_007
    assert len(counted) > 2
