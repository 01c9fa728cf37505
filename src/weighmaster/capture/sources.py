# SPDX-License-Identifier: Apache-2.0
"""List and digest the files that a model directory is made of, and open them without being led elsewhere.

The closed table (``sources-v1``), applied to the last part of the path, in this order; the first match counts:

=============  =====================================================================================================
role           names
=============  =====================================================================================================
weights        ``*.safetensors *.bin *.pt *.pth *.ckpt *.gguf *.onnx *.onnx_data *.h5 *.msgpack *.npz *.npy``, and their
               indexes: ``*.index.json``
code           ``*.py *.pyc *.so *.cu *.cpp *.cubin *.ptx``
template       ``*.jinja``, ``chat_template.json``
tokenizer      ``tokenizer.json tokenizer_config.json vocab.txt vocab.json merges.txt special_tokens_map.json
               added_tokens.json``, ``*.model``, ``*.tiktoken``
preprocessor   ``preprocessor_config.json processor_config.json image_processor_config.json
               video_preprocessor_config.json``
config         ``config.json configuration.json generation_config.json quantize_config.json quantization_config.json
               hf_quant_config.json adapter_config.json modules.json model_index.json scheduler_config.json
               config_sentence_transformers.json sentence_bert_config.json params.json``
(ignored)      names with a leading ``.``, and ``.*`` folders whole; ``*.md``; ``README LICENSE LICENCE NOTICE
               COPYING``, alone or with ``.txt`` or ``.rst``
other          everything else
=============  =====================================================================================================

In a pack, which a directory with a ``pack.index`` is, that file is of role weights, and seals beside it
(``*.sigstore.json``) are ignored: they are over the pack root, and more of them may come.

Names are matched as they are spelt: loaders on Linux do so too.

Symbolic links: a link to a file is followed only if its target, fully resolved, lies within the model directory, or
directly in the ``blobs`` folder of the Hugging Face cache that the directory is a snapshot of
(``<repo>/snapshots/<revision>/name -> ../../blobs/<etag>``). Links to folders are refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from weighmaster.core.source import CODE_SUFFIXES, Source, path_problem, source_faults
from weighmaster.errors import MalformedArtefact, SourceFault, StorageError, UsageError
from weighmaster.pack.directory import is_seal
from weighmaster.pack.packed import INDEX
from weighmaster.safetensors_file import FileState, open_regular

__all__ = [
    "MAX_FOLDERS",
    "FileState",
    "Source",
    "is_source",
    "open_regular",
    "resolve_directory",
    "resolve_within",
    "role_of",
    "source_faults",
    "source_files",
]

MAX_FOLDERS: Final = 3
"""Folders below the model directory that are descended into; deeper ones are refused, not skipped."""

_PIECE: Final = 1 << 18
"""Bytes read at once, always into the same buffer: fresh memory for each piece costs a page fault per 4 KiB."""

_BY_NAME: Final[dict[str, str]] = {
    "chat_template.json": "template",
    **dict.fromkeys(
        (
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
            "vocab.json",
            "merges.txt",
            "special_tokens_map.json",
            "added_tokens.json",
        ),
        "tokenizer",
    ),
    **dict.fromkeys(
        (
            "preprocessor_config.json",
            "processor_config.json",
            "image_processor_config.json",
            "video_preprocessor_config.json",
        ),
        "preprocessor",
    ),
    **dict.fromkeys(
        (
            "config.json",
            "configuration.json",
            "generation_config.json",
            "quantize_config.json",
            "quantization_config.json",
            "hf_quant_config.json",
            "adapter_config.json",
            "modules.json",
            "model_index.json",
            "scheduler_config.json",
            "config_sentence_transformers.json",
            "sentence_bert_config.json",
            "params.json",
        ),
        "config",
    ),
}
_WEIGHTS: Final = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".onnx",
    ".onnx_data",
    ".h5",
    ".msgpack",
    ".npz",
    ".npy",
    ".index.json",
)
_BY_SUFFIX: Final[dict[str, str]] = {
    **dict.fromkeys(_WEIGHTS, "weights"),
    **dict.fromkeys(CODE_SUFFIXES, "code"),
    ".jinja": "template",
    ".model": "tokenizer",
    ".tiktoken": "tokenizer",
}
_PROSE: Final = frozenset(
    stem + suffix for stem in ("README", "LICENSE", "LICENCE", "NOTICE", "COPYING") for suffix in ("", ".txt", ".rst")
)


def role_of(name: str) -> str | None:
    """Return the role of a file by the last part of its path, or None where the table says that it is ignored."""
    for suffix, role in _BY_SUFFIX.items():
        if name.endswith(suffix):
            return role
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith(".") or name.endswith(".md") or name in _PROSE:
        return None
    return "other"


def is_source(path: str) -> bool:
    """Tell whether a file at this path of a model directory would be among its sources, by the table alone."""
    *folders, name = path.split("/")
    return role_of(name) is not None and not any(folder.startswith(".") for folder in folders)


def source_files(path: Path | str, *, progress: Callable[[int], None] | None = None) -> tuple[Source, ...]:
    """Return every file of a model directory with its role and digest, ordered by the UTF-8 bytes of its path.

    Each file is read once, in pieces of 1 MiB; nothing is cached. `path` may be a single file: then it is the only
    entry, whatever its name. `progress` is called with numbers of bytes as they are digested.

    Raises:
        UsageError: there is no such file or directory.
        MalformedArtefact: a link leads outside, a folder lies too deep, a name is not UTF-8, or something is not a
            regular file.
        SourceFault: a file changed while it was read.
        StorageError: a file cannot be read.
    """
    top = Path(path)
    if top.is_dir():
        root = resolve_directory(top)
        found = [_digest(root, relative, role, progress) for relative, role in _walk(root, "")]
    else:
        root = resolve_directory(top.parent)
        found = [_digest(root, top.name, role_of(top.name) or "other", progress)]
    return tuple(sorted(found, key=lambda source: source.path.encode("utf-8")))


def _walk(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    """Yield relative path and role of every file that the table does not ignore."""
    try:
        with os.scandir(root / folder) as entries:
            listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise StorageError(f"{root / folder}: cannot be listed: {error.strerror or error}") from error
    in_pack = (root / INDEX).is_file()
    for entry in listed:
        relative = f"{folder}/{entry.name}" if folder else entry.name
        if _is_folder(entry):
            yield from _descend(root, relative, entry)
        elif (role := role_of(entry.name)) is not None and not (in_pack and is_seal(relative)):
            yield relative, "weights" if in_pack and relative == INDEX else role


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links; `resolve_within` says so
        return False


def _descend(root: Path, relative: str, entry: os.DirEntry[str]) -> Iterator[tuple[str, str]]:
    if entry.name.startswith("."):
        return
    if entry.is_symlink():
        raise MalformedArtefact(
            str(root), relative, expected="files and folders", found=f"a link to a folder, {_target(Path(entry.path))}"
        )
    if len(PurePosixPath(relative).parts) > MAX_FOLDERS:
        raise MalformedArtefact(
            str(root), relative, expected=f"at most {MAX_FOLDERS} folders deep", found="a deeper folder"
        )
    yield from _walk(root, relative)


def _digest(root: Path, relative: str, role: str, progress: Callable[[int], None] | None) -> Source:
    problem = path_problem(relative)
    if problem is not None:
        raise MalformedArtefact(str(root), repr(relative), expected="a UTF-8 name without backslashes", found=problem)
    fd = open_regular(resolve_within(root, root / relative))
    try:
        before = FileState.of(fd)
        hasher, nbytes = hashlib.sha256(), 0
        buffer = bytearray(_PIECE)
        piece = memoryview(buffer)
        while count := os.readv(fd, [buffer]):
            hasher.update(piece[:count])
            nbytes += count
            if progress is not None:
                progress(count)
        before.require_same(FileState.of(fd), str(root / relative))
    except OSError as error:
        raise StorageError(f"{root / relative}: cannot be read: {error.strerror or error}") from error
    finally:
        os.close(fd)
    if nbytes != before.size:
        raise SourceFault(
            str(root / relative),
            "the file changed while it was read",
            expected=f"{before.size} bytes",
            found=f"{nbytes} bytes",
        )
    return Source(path=relative, role=role, nbytes=nbytes, sha256=hasher.hexdigest())


def resolve_within(root: Path, path: Path) -> Path:
    """Return where `path` really lies, after every symbolic link, if that is a permitted place.

    Args:
        root: the model directory, itself resolved.
        path: a file below it.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: it is a link that leads to nothing, in a circle, or outside of `root` and of the ``blobs``
            folder of the Hugging Face cache that `root` belongs to.
    """
    try:
        target = path.resolve(strict=True)
    except FileNotFoundError:
        if path.is_symlink():
            raise _link_error(path, "a link to nothing") from None
        raise UsageError(f"{path}: no such file") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, before Python 3.13
        if path.is_symlink():
            raise _link_error(path, "a link that cannot be followed") from None
        raise StorageError(f"{path}: cannot be found: {error}") from error
    if target.is_relative_to(root) or target.parent == _blobs(root):
        return target
    raise _link_error(path, "a link that leads outside")


def _link_error(path: Path, what: str) -> MalformedArtefact:
    expected = "a file, or a link to one within the model directory or the blobs folder of its Hugging Face cache"
    return MalformedArtefact(str(path), "", expected=expected, found=f"{what}, {_target(path)}")


def _target(path: Path) -> str:
    try:
        return f"-> {path.readlink()}"
    except OSError:
        return "through one of its folders"


def _blobs(root: Path) -> Path | None:
    """Return the blob folder of the cache that `root`, or a folder above it, is a snapshot in."""
    for revision in (root, *root.parents[:MAX_FOLDERS]):
        if revision.parent.name == "snapshots":
            return revision.parent.parent / "blobs"
    return None


def resolve_directory(directory: Path) -> Path:
    """Return the real path of a directory; the caller named it, so links on the way to it are followed.

    Raises:
        UsageError: there is no such directory.
    """
    try:
        return directory.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{directory}: {getattr(error, 'strerror', None) or error}") from None
