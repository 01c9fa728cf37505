# SPDX-License-Identifier: Apache-2.0
"""Print results and errors. Names in a manifest are other people's text: what is not printable is escaped."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from weighmaster.core.canonical import dumps

__all__ = ["columns", "count", "pairs", "print_error", "print_result", "printable", "share"]


def print_result(result: Mapping[str, object] | str) -> None:
    """Write a result to standard output: a mapping as one canonical JSON document, a text line by line.

    Raises:
        OSError: it could not be written.
    """
    if isinstance(result, str):
        _write(sys.stdout, result)
    else:
        _write(sys.stdout, dumps(_clean(result)).decode("utf-8"))


def print_error(text: str) -> None:
    """Write a message to standard error; where that is closed there is nobody to tell, and the exit code remains."""
    with contextlib.suppress(OSError, ValueError):
        _write(sys.stderr, text)


def _write(stream: IO[str] | None, text: str) -> None:
    if stream is None:  # the process was started without it
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    lines = "".join(f"{printable(line)}\n" for line in text.split("\n"))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(lines.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def printable(text: str) -> str:
    r"""Return `text` with control characters, direction marks and lone surrogates escaped (``\x1b``, ``\u202e``)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _clean(value: object) -> object:
    """Return a document without lone surrogates (bytes of paths that are no text), which JSON cannot hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Return lines of a label and a value, the values in one column; several lines of a value are indented."""
    listed = list(rows)
    width = max((len(label) for label, _ in listed), default=0)
    indent = "\n" + " " * (width + 2)
    return "\n".join(f"{label:{width}}  {value.replace(chr(10), indent)}".rstrip() for label, value in listed)


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a header, columns parted by two spaces."""
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def count(number: int, what: str) -> str:
    """Return a number with its noun: ``1 tensor``, ``1,204 tensors``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def share(part: int, whole: int) -> str:
    """Return a percentage that is never rounded up: 100 % is only said of all."""
    if whole == 0:
        return "nothing to share"
    return f"{part * 10_000 // whole / 100:.2f} %" if part != whole else "100 %"
