# SPDX-License-Identifier: Apache-2.0
"""Files that the model is made of and evidence about them, as the signed statement lists both; comparing such lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from weighmaster.errors import SourceFault

__all__ = ["CODE_SUFFIXES", "EVIDENCE_KINDS", "ROLES", "Evidence", "Source", "path_problem", "source_faults"]

ROLES: Final = ("code", "config", "other", "preprocessor", "template", "tokenizer", "weights")
"""What a file is for; by its name alone, as the closed table of `capture.sources` says."""

CODE_SUFFIXES: Final = (".py", ".pyc", ".so", ".cu", ".cpp", ".cubin", ".ptx")
"""Ends of the names of files of role ``code``: what an interpreter or a loader would run."""

EVIDENCE_KINDS: Final = ("cosign-blob", "in-toto", "oms-v1")
"""What others sign about files: the bytes of one file; an in-toto statement with files as subjects; a whole model."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A bundle made by others that was verified when the model was weighed: a pointer for auditors, not trust.

    Attributes:
        kind: one of `EVIDENCE_KINDS`.
        sha256: of the bundle file.
        key: fingerprint of the public key under which its signature held.
        files: sources that it speaks of.
    """

    kind: str
    sha256: str
    key: str
    files: int

    def __post_init__(self) -> None:
        """Refuse values that no evidence can have.

        Raises:
            ValueError: a field is outside of its description above.
        """
        if self.kind not in EVIDENCE_KINDS:
            raise ValueError(f"kind: expected one of {', '.join(EVIDENCE_KINDS)}, found {self.kind!r}")
        for name, value in (("sha256", self.sha256), ("key", self.key)):
            if not _HEX256.fullmatch(value):
                raise ValueError(f"{name}: expected 64 lowercase hexadecimal digits, found {value!r}")
        if isinstance(self.files, bool) or self.files < 1:
            raise ValueError(f"files: expected a count from 1, found {self.files!r}")

    def to_json(self) -> dict[str, object]:
        """Return the evidence as it stands in the statement."""
        return {"kind": self.kind, "sha256": self.sha256, "key": self.key, "files": self.files}


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
