# SPDX-License-Identifier: Apache-2.0
"""Set every imported file beside the RECORD of some installed distribution: modified, unlisted, or in a wrong place."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from weighmaster.core.environment import MAX_NAME, Fact, Scope
from weighmaster.probe.file_digests import file_sha256
from weighmaster.probe.modules import LoadedModule, in_standard_library, members, resolver
from weighmaster.probe.records import installer_text, modified_text, parse_record

__all__ = ["Installed", "import_facts", "installed"]

_MOVED: Final = "distutils"
"""The one module of the standard library that an installed distribution (setuptools) puts in its place, by design."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What all installed distributions say about their files.

    Attributes:
        roots: resolved installation folder, with its slash, to path below it to SHA-256 in hexadecimal digits; where
            two distributions claim one path, both digests, separated by a space.
    """

    roots: dict[str, dict[str, str]]

    def listed(self, path: str) -> tuple[str, str] | None:
        """Return the path below its root and the digest on record, or None where no RECORD lists this file."""
        for root, files in self.roots.items():
            name = path.removeprefix(root)
            if name != path and name in files:
                return name, files[name]
        return None


def installed() -> Installed:
    """Read the RECORD of every distribution that this interpreter finds."""
    roots: dict[str, dict[str, str]] = {}
    for distribution in importlib.metadata.distributions():
        record = parse_record(installer_text(distribution, "RECORD") or "")
        if record:
            files = roots.setdefault(os.path.realpath(str(distribution.locate_file(""))).rstrip("/") + "/", {})
            twice = {path: f"{files[path]} {record[path]}" for path in record.keys() & files.keys()}
            files |= record
            files |= twice
    return Installed(roots=roots)


def import_facts(
    modules: Iterable[LoadedModule], mapped: Iterable[str], *, covered: Iterable[str], where: Installed | None = None
) -> tuple[Fact, ...]:
    """Return ``python.shadowed``, ``python.modified`` and one ``python.outside.MODULE`` per module that nobody lists.

    Args:
        modules: the imported modules that have files.
        mapped: paths of files with executable mappings.
        covered: packages about which a ``python.NAME.record`` fact says all this.
        where: by default what is installed.
    """
    found = installed() if where is None else where
    loaded, resolve = tuple(modules), resolver()
    known, outside = members(loaded, covered), list[Fact]()
    modified, shadowed = dict[str, str | None](), dict[str, str | None]()
    for module in loaded:
        path = resolve(module.path)
        if in_standard_library(path):
            continue
        entry, digest = found.listed(path), file_sha256(path)
        recorded = entry is not None and digest is not None and digest in entry[1]
        if module.top in sys.stdlib_module_names and not (module.top == _MOVED and recorded):
            shadowed[module.name] = digest
        if entry is not None and not recorded:
            modified[entry[0]] = digest
        if entry is None and module not in known:
            outside.append(_outside(module.name, digest))
    modified |= _modified_libraries(mapped, found)
    return (_summary("python.modified", modified, "instance"), _summary("python.shadowed", shadowed, "class"), *outside)


def _modified_libraries(mapped: Iterable[str], where: Installed) -> Iterator[tuple[str, str | None]]:
    for path in set(mapped):  # the kernel gives resolved paths
        entry = where.listed(path)
        digest = None if entry is None else file_sha256(path)
        if entry is not None and (digest is None or digest not in entry[1]):
            yield entry[0], digest


def _outside(module: str, digest: str | None) -> Fact:
    spelled = module.encode("utf-8", "surrogatepass")
    name = f"python.outside.{quote(spelled, safe='.<>()$')}"
    name = name if len(name) <= MAX_NAME else f"python.outside.sha256:{hashlib.sha256(spelled).hexdigest()}"
    return Fact.unreadable(name, scope="instance") if digest is None else Fact.of(name, digest, scope="instance")


def _summary(name: str, found: dict[str, str | None], scope: Scope) -> Fact:
    if not found:
        return Fact.absent(name, scope=scope)
    digests = [(path, digest) for path, digest in found.items() if digest is not None]
    unread = len(digests) < len(found)
    return Fact.unreadable(name, scope=scope) if unread else Fact.of(name, modified_text(digests), scope=scope)
