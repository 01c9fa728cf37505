# SPDX-License-Identifier: Apache-2.0
"""``weighmaster sign``: put a person's signature beside a manifest."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.printing import pairs
from weighmaster.cli.secrets_input import ask, passphrase_from
from weighmaster.cli.summary import identity, identity_pairs
from weighmaster.cli.verb import Outcome

if TYPE_CHECKING:
    from weighmaster.seal.keys import PrivateKey

DESCRIPTION: Final = """\
Sign the statement of a manifest, after checking that every file of the manifest belongs to it. The signature is a
Sigstore bundle beside the statement; earlier ones stay. Whose signatures count, and in which role, is said by the
trust file of those who verify."""

EXAMPLES: Final = (
    ("weighmaster sign manifest --key ana.key", "asks for the passphrase if the key is encrypted"),
    ("weighmaster sign manifest --key ben.key --role approver --passphrase-file ben.pass", "a second person approves"),
)

_PEEK: Final = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("manifest", metavar="DIR", type=Path, help="manifest directory")
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="private key in PEM, mode 0600")
    parser.add_argument("--role", choices=("signer", "approver"), default="signer", help="in the name of the bundle")
    parser.add_argument("--passphrase-file", metavar="FILE", type=Path, help="its first line is the passphrase")


def run(args: argparse.Namespace) -> Outcome:
    """Sign, and print what was signed as it stands in the bundle."""
    from weighmaster.core.statement_reader import parse_statement  # noqa: PLC0415  # not for the help
    from weighmaster.durable import read_whole  # noqa: PLC0415
    from weighmaster.seal.bundle import parse_bundle  # noqa: PLC0415

    key = _load(args)
    path = wm.sign(args.manifest, key, role=args.role)
    payload = parse_bundle(read_whole(path), str(path)).payload
    statement, digest = parse_statement(payload, str(path)), hashlib.sha256(payload).hexdigest()
    fingerprint = key.public.fingerprint
    document = {
        "result": "signed",
        **identity(statement),
        "bundle": str(path),
        "role": args.role,
        "fingerprint": fingerprint,
        "statementSha256": digest,
    }
    text = pairs(
        [*identity_pairs(statement), ("statement", f"SHA-256 {digest}"), ("key", fingerprint), ("bundle", str(path))]
    )
    return Outcome(document=document, text=text)


def _load(args: argparse.Namespace) -> PrivateKey:
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
