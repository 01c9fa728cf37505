# SPDX-License-Identifier: Apache-2.0
"""What runs before the program: lines of ``.pth`` files, ``sitecustomize`` and ``usercustomize``."""

from __future__ import annotations

import codecs
import hashlib
import site
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from weighmaster.core.environment import MAX_VALUE, Fact
from weighmaster.probe.file_digests import file_sha256
from weighmaster.probe.modules import LoadedModule

__all__ = ["customization_facts", "pth_facts", "site_folders"]

_EXECUTED: Final = ("import ", "import\t")
"""Beginnings of the lines that the interpreter executes (module `site`); all others are paths or comments."""


def customization_facts(modules: Iterable[LoadedModule]) -> tuple[Fact, ...]:
    """Return the digests of the two modules that the interpreter imports into every process, where they are."""
    paths = {module.name: module.path for module in modules}
    return tuple(_customization(name, paths.get(name)) for name in ("sitecustomize", "usercustomize"))


def _customization(name: str, path: str | None) -> Fact:
    fact = f"python.{name}"
    if path is None:
        return Fact.absent(fact)
    digest = file_sha256(path)
    return Fact.unreadable(fact) if digest is None else Fact.of(fact, digest)


def site_folders() -> tuple[str, ...]:
    """Return the folders whose ``.pth`` files this interpreter reads at its start."""
    if sys.flags.no_site:
        return ()
    return (*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []))


def pth_facts(folders: Iterable[str] | None = None) -> tuple[Fact, ...]:
    """Return ``python.pth`` (class: lines that are executed) and ``python.pth_paths`` (instance: lines that are paths).

    Args:
        folders: by default those of this interpreter.
    """
    try:
        lines = [line for folder in _different(folders) for path in _files(folder) for line in _lines(path)]
    except OSError:
        return (Fact.unreadable("python.pth"), Fact.unreadable("python.pth_paths", scope="instance"))
    return _executed([line for line in lines if _runs(line)]), _paths([line for line in lines if not _runs(line)])


def _runs(line: bytes) -> bool:
    """Tell whether something of this line is executed: from Python 3.13 on, more than a line feed ends a line."""
    pieces = line.decode("utf-8", "surrogateescape").splitlines()
    return any(piece.startswith(_EXECUTED) for piece in pieces)


def _different(folders: Iterable[str] | None) -> list[str]:
    return list(dict.fromkeys(site_folders() if folders is None else folders))


def _files(folder: str) -> list[Path]:
    root = Path(folder)
    return sorted(path for path in root.iterdir() if path.name.endswith(".pth")) if root.is_dir() else []


def _lines(path: Path) -> list[bytes]:
    lines = (line.rstrip() for line in path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines())
    return [line for line in lines if line and (_runs(line) or not line.startswith(b"#"))]


def _executed(lines: list[bytes]) -> Fact:
    if not lines:
        return Fact.absent("python.pth")
    digest = hashlib.sha256(b"".join(line + b"\n" for line in sorted(lines))).hexdigest()
    return Fact.of("python.pth", f"lines:{len(lines)} sha256:{digest}")


def _paths(lines: list[bytes]) -> Fact:
    if not lines:
        return Fact.absent("python.pth_paths", scope="instance")
    text = b"; ".join(sorted(lines)).decode("utf-8", "backslashreplace")
    if len(text.encode("utf-8")) > MAX_VALUE:
        text = f"sha256:{hashlib.sha256(text.encode('utf-8')).hexdigest()}"
    return Fact.of("python.pth_paths", text, scope="instance")
