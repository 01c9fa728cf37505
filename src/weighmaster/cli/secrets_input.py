# SPDX-License-Identifier: Apache-2.0
"""Passphrases: from a file or from a terminal, never from an argument or an environment variable."""

from __future__ import annotations

import getpass
import os
import stat
import sys
from pathlib import Path
from typing import Final

from weighmaster.errors import KeyFault, UsageError

__all__ = ["ask", "ask_twice", "passphrase_from"]

_LIMIT: Final = 4096
_OTHERS: Final = 0o077


def passphrase_from(path: Path) -> bytes:
    """Return the first line of a file that nobody but its owner may read; a pipe is taken too.

    Raises:
        KeyFault: the file cannot be read, is readable by others, empty, or longer than a line of 4,096 bytes.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & _OTHERS:
                found = f"{stat.S_IMODE(mode):04o}"
                raise KeyFault(f"{path}: expected mode 0600 (readable by its owner alone), found {found}")
            line = file.readline(_LIMIT + 1).rstrip(b"\r\n")
    except OSError as error:
        raise KeyFault(f"{path}: cannot be read: {error.strerror or error}") from None
    if not 0 < len(line) <= _LIMIT:
        raise KeyFault(f"{path}: expected a passphrase of 1 to {_LIMIT} bytes in the first line, found {len(line)}")
    return line


def ask(prompt: str) -> bytes:
    """Ask for a passphrase on the terminal, without echo.

    Raises:
        UsageError: standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("a passphrase is needed and standard input is no terminal: give --passphrase-file FILE")
    return getpass.getpass(prompt).encode("utf-8")


def ask_twice(prompt: str) -> bytes:
    """Ask for a new passphrase twice.

    Raises:
        UsageError: standard input is no terminal, or the two differ.
    """
    first = ask(prompt)
    if first != ask("The same again: "):
        raise UsageError("the two passphrases differ; nothing was written")
    return first
