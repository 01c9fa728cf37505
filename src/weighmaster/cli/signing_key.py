# SPDX-License-Identifier: Apache-2.0
"""The key that signs, as every verb that signs takes it: a file, or a token."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.secrets_input import ask, passphrase_from
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.seal.bundle import Signer
    from weighmaster.seal.keys import PrivateKey

__all__ = ["add_key_arguments", "key_from_file", "load_signing_key"]

_PEEK: Final = 1 << 16
_FILE: Final = {"passphrase_file": "--passphrase-file"}
_TOKEN: Final = {"token": "--token", "key_label": "--key-label", "pin_file": "--pin-file"}


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--key", metavar="FILE", type=Path, help="private key in PEM, mode 0600")
    text = "in place of --key: PKCS#11 library of a token that holds the key"
    which.add_argument("--pkcs11-module", metavar="FILE", type=Path, help=text)
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="its first line is the passphrase")
    parser.add_argument("--token", metavar="LABEL", help="label of the token")
    parser.add_argument("--key-label", metavar="LABEL", help="label of the key pair on the token")
    text = "its first line is the PIN of the token, mode 0600; without it the PIN is asked for"
    parser.add_argument("--pin-file", metavar="FILE", type=Path, help=text)


def load_signing_key(args: argparse.Namespace) -> Signer:
    """Return the key; ask for its passphrase or PIN where one is needed and no file was given.

    Raises:
        UsageError: arguments of the other way are given, or some of this one are missing.
        KeyFault: the key cannot be read, or the token does not give it.
    """
    if args.pkcs11_module is None:
        _require_none(args, _TOKEN, "--pkcs11-module")
        return key_from_file(args.key, args.passphrase_file)
    _require_none(args, _FILE, "--key")
    if args.token is None or args.key_label is None:
        raise UsageError("--pkcs11-module: expected --token LABEL and --key-label LABEL with it, found not both")
    return _from_token(args)


def _require_none(args: argparse.Namespace, options: dict[str, str], owner: str) -> None:
    given = [option for name, option in options.items() if getattr(args, name) is not None]
    if given:
        raise UsageError(f"{', '.join(given)}: expected only with {owner}, found without it")


def _from_token(args: argparse.Namespace) -> Signer:
    from weighmaster.seal.pkcs11 import open_token_key  # noqa: PLC0415  # not for the help

    pin = ask(f"PIN of {args.token}: ") if args.pin_file is None else passphrase_from(args.pin_file)
    return open_token_key(args.pkcs11_module, token=args.token, label=args.key_label, pin=pin)


def key_from_file(path: Path, passphrase_file: Path | None) -> PrivateKey:
    """Return the key in a file; ask for its passphrase where one is needed and no file of it was given.

    Raises:
        UsageError: a passphrase is needed and standard input is no terminal.
        KeyFault: the key or the passphrase cannot be read.
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
