# SPDX-License-Identifier: Apache-2.0
"""Packs as transformers meets them: which path lies in one, and which of its files may be handed out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final, TypeAlias

from weighmaster.errors import MalformedArtefact, NotAdmitted, SignatureFault, SourceFault
from weighmaster.pack.index_rules import SOURCE, is_code
from weighmaster.pack.packed import INDEX, PackedFile
from weighmaster.pack.reader import Pack, open_pack, read_listed

__all__ = [
    "Judge",
    "check_files",
    "judged",
    "open_judged",
    "pack_of",
    "read_beside",
    "require_no_judge",
    "trusted_code",
]

Judge: TypeAlias = Callable[[Pack], str]
"""Decides whether an open pack is trusted: returns who vouches for it, in words, or raises."""

_JUDGE: Final[ContextVar[Judge | None]] = ContextVar("weighmaster_judge", default=None)
_HIGHEST: Final = 16


@contextmanager
def judged(judge: Judge) -> Iterator[None]:
    """Have `judge` decide about every pack that is loaded in this context."""
    token = _JUDGE.set(judge)
    try:
        yield
    finally:
        _JUDGE.reset(token)


def pack_of(path: object) -> Path | None:
    """Return the pack that a folder lies in, or is; None for anything else, names of repositories among them."""
    start = Path(str(path))
    if not start.is_dir():
        return None
    resolved = start.resolve()
    folders = (resolved, *resolved.parents)[: _HIGHEST + 1]
    return next((folder for folder in folders if (folder / INDEX).is_file()), None)


def open_judged(root: Path) -> tuple[Pack, str | None]:
    """Open a pack, and have it judged where a judge was named; return it with who vouches for it, or None.

    Raises:
        MalformedArtefact: it breaks spec/pack.md.
        NotAdmitted: it is not trusted.
    """
    pack = open_pack(root)
    judge = _JUDGE.get()
    try:
        return pack, None if judge is None else judge(pack)
    except BaseException:
        pack.close()
        raise


def check_files(root: Path, paths: list[str]) -> None:
    """Compare files of a pack with its index, before transformers opens them. Shards are left to `Pack.read`.

    Raises:
        MalformedArtefact: the pack breaks spec/pack.md, or a file is not in its index.
        SourceFault: a file is not that of the index, or is code, which is read by `trusted_code` alone.
        NotAdmitted: the pack is not trusted.
    """
    status = (root / INDEX).stat()
    state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    listed = _listed(root, state, _JUDGE.get())
    for path in paths:
        relative = Path(path).resolve().relative_to(root).as_posix()
        if relative not in listed:
            raise MalformedArtefact(f"{root}/{relative}", "", expected="a file that the index lists", found="another")
        if (entry := listed[relative]) is not None:
            _check_file(root, entry)


@functools.lru_cache(maxsize=4)  # transformers locates a dozen files, and an index may be large
def _listed(root: Path, _state: tuple[int, ...], _judge: Judge | None) -> Mapping[str, PackedFile | None]:
    """Return the files that may be handed out: None for shards, which are not compared here."""
    pack, _ = open_judged(root)
    with pack:
        shards = frozenset(pack.index.shards)
        return {file.path: None if file.path in shards else file for file in pack.index.files}


def _check_file(root: Path, entry: PackedFile) -> None:
    where = f"{root}/{entry.path}"
    if is_code(entry.path):
        detail = "is code of a pack, which is not read as a file"
        raise SourceFault(where, detail, expected="trusting(...)", found=entry.path)
    read_listed(root, entry)


def read_beside(pack: Pack) -> None:
    """Compare every file beside the shards with the index.

    Raises:
        SourceFault: one is not that of the index.
        StorageError: one cannot be read.
    """
    for file in pack.index.files:
        if file.path not in pack.index.shards and not file.path.startswith(SOURCE):
            pack.read_file(file.path)


@contextmanager
def trusted_code(root: Path, reference: str, folder: Path) -> Iterator[Path]:
    """Copy the code of a trusted pack to a folder, from the bytes that were compared with its index.

    Args:
        root: of the pack.
        reference: the entry of ``auto_map`` that asks for it, for messages.
        folder: an empty one, private to this process.

    Raises:
        NotAdmitted: no judge was named, or the pack is not trusted.
        SourceFault: the reference leads to another repository, or a file is not that of the index.
    """
    if "--" in reference:
        where, detail = f"{root}/config.json", "asks for code of another repository"
        raise SourceFault(where, detail, expected="code in the pack", found=reference)
    if _JUDGE.get() is None:
        raise _untrusted(str(root), reference)
    pack, _ = open_judged(root)
    with pack:
        # transformers joins the name to a folder: an absolute one, or one with dots, would lead outside of it.
        module, _, name = reference.partition(".")
        if not name.isidentifier() or f"{SOURCE}{module}.py" not in {file.path for file in pack.index.files}:
            where, expected = f"{root}/config.json", "MODULE.CLASS, and MODULE.py among the files of the pack"
            raise SourceFault(where, "asks for code that the pack does not have", expected=expected, found=reference)
        target = folder / f"pack_{pack.root}"
        for file in pack.index.files:
            if file.path.startswith(SOURCE) and is_code(file.path):
                copy = target / file.path.removeprefix(SOURCE)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(pack.read_file(file.path))
    token = _JUDGE.set(None)  # transformers reads the copy by the same ways, and it is no pack
    try:
        yield target
    finally:
        _JUDGE.reset(token)


def _untrusted(where: str, reference: str) -> NotAdmitted:
    fault = SignatureFault(
        where,
        f"its code ({reference}) is run only where its seal was checked: weighmaster.hf.trusting(...)",
        expected="a pack that was found trusted",
        found="one whose origin was not checked",
    )
    return NotAdmitted(f"{where}: its code is not run", [fault])


def require_no_judge(where: str, what: str) -> None:
    """Raise `NotAdmitted` for anything else than a pack, where only trusted packs are to be loaded.

    Args:
        where: the folder or repository.
        what: it was asked for, in words.
    """
    if _JUDGE.get() is not None:
        fault = SignatureFault(
            where, f"{what}, where only packs are loaded", expected="a trusted pack", found="no pack"
        )
        raise NotAdmitted(f"{where}: is not loaded", [fault])
