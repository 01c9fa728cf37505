# SPDX-License-Identifier: Apache-2.0
"""``weighmaster keygen``: make a key pair for signing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from weighmaster.cli.printing import pairs
from weighmaster.cli.secrets_input import ask_twice, passphrase_from
from weighmaster.cli.verb import Outcome
from weighmaster.errors import UsageError

DESCRIPTION: Final = """\
Make a key pair: PATH holds the private key (PKCS#8 PEM, mode 0600), PATH.pub the public one (SPKI PEM).
Existing files are never overwritten, and the private key is never printed. One key belongs to one person."""

EXAMPLES: Final = (
    ("weighmaster keygen ana.key", "ECDSA P-256, encrypted with a passphrase that is asked for twice"),
    ("weighmaster keygen ci.key --type ed25519 --passphrase-file ci.pass", "the passphrase comes from a file"),
    ("weighmaster keygen test.key --no-passphrase", "not encrypted: for tests"),
)

_KINDS: Final = {"ed25519": "ed25519", "p256": "ecdsa-p256-sha256"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="PATH", type=Path, help="where the private key is written")
    parser.add_argument("--type", choices=("p256", "ed25519"), default="p256", help="kind of key (default: p256)")
    protection = parser.add_mutually_exclusive_group()
    text = "file whose first line is the passphrase; mode 0600"
    protection.add_argument("--passphrase-file", metavar="FILE", type=Path, help=text)
    protection.add_argument("--no-passphrase", action="store_true", help="do not encrypt the private key")


def run(args: argparse.Namespace) -> Outcome:
    """Make the pair."""
    from weighmaster.seal.keys import KEY_KINDS, generate, write_private, write_public  # noqa: PLC0415  # not for the help

    public_path = args.path.with_name(f"{args.path.name}.pub")
    for path in (args.path, public_path):
        if path.exists():
            raise UsageError(f"{path}: exists already and is not overwritten")
    passphrase = _passphrase(args)
    key = generate(next(kind for kind in KEY_KINDS if kind == _KINDS[args.type]))
    write_public(public_path, key.public)
    try:
        write_private(args.path, key, passphrase)
    except BaseException:
        public_path.unlink()  # made a moment ago, of use to nobody without its other half
        raise
    document = {
        "result": "key",
        "kind": key.public.kind,
        "fingerprint": key.public.fingerprint,
        "privateKey": str(args.path),
        "publicKey": str(public_path),
        "encrypted": passphrase is not None,
    }
    text = pairs(
        [
            ("fingerprint", key.public.fingerprint),
            ("kind", key.public.kind),
            ("private key", f"{args.path} ({'encrypted' if passphrase else 'NOT encrypted'}, mode 0600)"),
            ("public key", str(public_path)),
        ]
    )
    return Outcome(document=document, text=text)


def _passphrase(args: argparse.Namespace) -> bytes | None:
    if args.no_passphrase:
        return None
    if args.passphrase_file is not None:
        return passphrase_from(args.passphrase_file)
    return ask_twice("Passphrase for the new key: ")
