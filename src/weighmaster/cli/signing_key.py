# SPDX-License-Identifier: Apache-2.0
"""Load the private key that signs, with its passphrase from a file or the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.secrets_input import ask, passphrase_from

if TYPE_CHECKING:
    from weighmaster.seal.keys import PrivateKey

__all__ = ["signing_key"]

_PEEK: Final = 1 << 16


def signing_key(path: Path, passphrase_file: Path | None) -> PrivateKey:
    """Return the key; ask for a passphrase only where the key is encrypted and no file is given.

    Raises:
        KeyFault: the key or the passphrase file cannot be used.
        UsageError: a passphrase is needed and standard input is no terminal.
    """
    passphrase = None
    if passphrase_file is not None:
        passphrase = passphrase_from(passphrase_file)
    elif _is_encrypted(path):
        passphrase = ask(f"Passphrase for {path}: ")
    return wm.load_private(path, passphrase)


def _is_encrypted(path: Path) -> bool:
    """Peek whether a passphrase is to be asked for; `load_private` checks the file, and says what is wrong with it."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return b"ENCRYPTED" in file.read(_PEEK)
    except OSError:
        return False
