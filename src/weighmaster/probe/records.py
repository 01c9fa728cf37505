# SPDX-License-Identifier: Apache-2.0
"""Digest what an installed distribution says about its files (RECORD), and check against the files that are in use.

Source of the format: "Recording installed projects", packaging.python.org (``path,sha256=urlsafe-base64,size``).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution
from pathlib import Path
from typing import Final

from weighmaster.probe.file_digests import file_sha256
from weighmaster.probe.modules import resolver

__all__ = ["Record", "installer_text", "modified_text", "parse_record", "record_value", "tree_value"]

Record = Mapping[str, str]
"""Path below the installation's root to SHA-256 in hexadecimal digits, sorted by path."""

_CODE: Final = (".py", ".so")
_PARSED: Final[dict[str, Record | None]] = {}


def installer_text(distribution: Distribution, file: str) -> str | None:
    """Return a file that the installer of a distribution wrote, or None where there is none that can be read."""
    try:
        return distribution.read_text(file)
    except (OSError, ValueError):  # ValueError: it is no UTF-8
        return None


def parse_record(text: str) -> Record | None:
    """Return the files of a RECORD that are the same wherever it is installed, or None where it is no CSV.

    Left out: files without a digest (bytecode, RECORD itself), scripts outside the root (their first line names the
    interpreter), and the folder of metadata (the installer writes there).
    """
    key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    if key not in _PARSED:
        _PARSED[key] = _parse(text)
    return _PARSED[key]


def _parse(text: str) -> Record | None:
    try:
        rows = [row for row in csv.reader(text.splitlines()) if len(row) >= 2]  # noqa: PLR2004  # path, digest, size
    except csv.Error:  # a field beyond csv.field_size_limit
        return None
    entries = {row[0]: _hexadecimal(row[1]) for row in rows if row[1].startswith("sha256=") and _moves(row[0])}
    return dict(sorted(entries.items()))


def _moves(path: str) -> bool:
    first = path.split("/", 1)[0]
    return (
        not path.startswith(("/", "..")) and not first.endswith((".dist-info", ".data")) and not path.endswith(".pyc")
    )


def _hexadecimal(entry: str) -> str:
    text = entry.removeprefix("sha256=")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
    except ValueError:
        return "unreadable"  # equal to no digest of a file


def record_value(record: Record, root: str, used: Iterable[str]) -> str | None:
    """Return the value of a ``python.NAME.record`` fact, or None where a file in use cannot be read.

    Args:
        record: from `parse_record`.
        root: folder that the record's paths are relative to.
        used: paths of the files that this process imported or mapped.

    Returns:
        ``record:`` and SHA-256 over the record's ``path,sha256`` lines. Where files in use are not what the record
        says, also ``modified:``, the first of them, and SHA-256 over all of them with what they really are.
    """
    lines = "".join(f"{path},{digest}\n" for path, digest in record.items())
    value = f"record:{hashlib.sha256(lines.encode('utf-8', 'surrogateescape')).hexdigest()}"
    deviations, base = [], f"{os.path.realpath(root).rstrip('/')}/"
    for path in sorted(set(map(resolver(), used))):
        found = file_sha256(path)
        if found is None:
            return None
        name = path.removeprefix(base) if path.startswith(base) else f"outside/{Path(path).name}"
        if record.get(name) != found:
            deviations.append((name, found))
    return f"{value} {modified_text(deviations)}" if deviations else value


def modified_text(deviations: list[tuple[str, str]]) -> str:
    """Return the first of some deviations by name, their number, and SHA-256 over their ``name,sha256`` lines."""
    lines = "".join(f"{path},{digest}\n" for path, digest in sorted(deviations))
    digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    first = min(deviations)[0].encode("utf-8", "backslashreplace").decode("utf-8")
    return f"modified:{first} files:{len(deviations)} sha256:{digest}"


def tree_value(folders: Iterable[str], *, without: frozenset[str] = frozenset()) -> str | None:
    """Return ``tree:`` and SHA-256 over all code below `folders` (an editable or otherwise unrecorded install).

    All of it, not what happens to be imported: else the value would depend on what a process did before. None where
    there is no code, or a file cannot be read.

    Args:
        folders: of packages.
        without: names right below a folder that are left out.
    """
    entries: dict[str, str | None] = {}
    for folder in folders:
        for path in _code_below(folder, without):
            entries[f"{Path(folder).name}{path.removeprefix(folder.rstrip('/'))}"] = file_sha256(path)
    if not entries or None in entries.values():
        return None
    lines = "".join(f"{path},{digest}\n" for path, digest in sorted(entries.items()))
    return f"tree:{hashlib.sha256(lines.encode('utf-8', 'surrogateescape')).hexdigest()}"


def _code_below(folder: str, without: frozenset[str]) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if root != folder or name not in without]
        yield from (f"{root}/{name}" for name in files if name.endswith(_CODE))
