# SPDX-License-Identifier: Apache-2.0
"""The key that signs, as every verb that signs takes it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.secrets_input import ask, passphrase_from

if TYPE_CHECKING:
    from weighmaster.seal.keys import PrivateKey

__all__ = ["add_key_arguments", "load_signing_key"]

_PEEK: Final = 1 << 16


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="private key in PEM, mode 0600")
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="its first line is the passphrase")


def load_signing_key(args: argparse.Namespace) -> PrivateKey:
    """Return the key; ask for its passphrase where it is encrypted and no file was given."""
    passphrase = None
    if args.passphrase_file is not None:
        passphrase = passphrase_from(args.passphrase_file)
    elif _is_encrypted(args.key):
        passphrase = ask(f"Passphrase for {args.key}: ")
    return wm.load_private(args.key, passphrase)


def _is_encrypted(path: Path) -> bool:
    """Peek whether a passphrase is to be asked for; `load_private` checks the file, and says what is wrong with it."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return b"ENCRYPTED" in file.read(_PEEK)
    except OSError:
        return False
