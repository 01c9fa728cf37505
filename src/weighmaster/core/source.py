# SPDX-License-Identifier: Apache-2.0
"""A file that the model is made of, as the signed statement lists it, and the pure comparison of two such lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from weighmaster.errors import SourceFault

__all__ = ["ROLES", "Source", "path_problem", "source_faults"]

ROLES: Final = ("code", "config", "other", "preprocessor", "template", "tokenizer", "weights")
"""What a file is for; by its name alone, as the closed table of `capture.sources` says."""

_HEX256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file.

    Attributes:
        path: relative to the model directory, ``/`` between its parts, no ``.`` or ``..`` among them.
        role: one of `ROLES`.
        nbytes: length in bytes.
        sha256: of the whole file, 64 lowercase hexadecimal digits.
    """

    path: str
    role: str
    nbytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Refuse values that no file can have.

        Raises:
            ValueError: a field is outside of its description above.
        """
        problem = path_problem(self.path)
        if problem is not None:
            raise ValueError(f"path: {problem}")
        if self.role not in ROLES:
            raise ValueError(f"role: expected one of {', '.join(ROLES)}, found {self.role!r}")
        if isinstance(self.nbytes, bool) or self.nbytes < 0:
            raise ValueError(f"nbytes: expected a count, found {self.nbytes!r}")
        if not _HEX256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 lowercase hexadecimal digits, found {self.sha256!r}")


def path_problem(path: str) -> str | None:
    """Say what keeps `path` from being a plain relative path with ``/``, or return None."""
    shown = repr(path[:200])
    if not path or "\0" in path or "\\" in path:
        return f"{shown}, which is empty or holds a NUL or a backslash"
    if any(part in {"", ".", ".."} for part in path.split("/")):
        return f"{shown}, which is absolute or has an empty, '.' or '..' part"
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return f"{shown}, which is not Unicode text"
    return None


def source_faults(validated: tuple[Source, ...], found: tuple[Source, ...]) -> tuple[SourceFault, ...]:
    """Compare the files found here with the validated ones: one fault per file, ordered by path.

    A file of any role that is missing, extra or changed is a fault. A path that a list holds twice is one as well:
    which of the two entries would count is nobody's to choose. `Source.role` follows from the path and is not compared.
    """
    return tuple(_faults(validated, found))


def _faults(validated: tuple[Source, ...], found: tuple[Source, ...]) -> Iterator[SourceFault]:
    want, have = {s.path: s for s in validated}, {s.path: s for s in found}
    twice = _twice(validated) | _twice(found)
    for path in sorted(want.keys() | have.keys()):
        if path in twice:
            yield SourceFault(path, "the file is listed twice", expected="one entry", found="two or more")
        else:
            yield from _compare(path, want.get(path), have.get(path))


def _twice(sources: tuple[Source, ...]) -> set[str]:
    seen: set[str] = set()
    out: set[str] = set()
    for source in sources:
        (out if source.path in seen else seen).add(source.path)
    return out


def _compare(path: str, want: Source | None, have: Source | None) -> Iterator[SourceFault]:
    if want is None and have is not None:
        detail = f"a file that was not validated is here ({have.role}, {have.nbytes} bytes)"
        yield SourceFault(path, detail, expected=None, found=have.sha256)
    elif want is not None and have is None:
        detail = f"a validated file is missing ({want.role}, {want.nbytes} bytes)"
        yield SourceFault(path, detail, expected=want.sha256, found=None)
    elif want is not None and have is not None and (want.sha256, want.nbytes) != (have.sha256, have.nbytes):
        detail = f"the file is not the validated one ({want.role}, {want.nbytes} bytes validated, {have.nbytes} here)"
        yield SourceFault(path, detail, expected=want.sha256, found=have.sha256)
