# SPDX-License-Identifier: Apache-2.0
"""``weighmaster sign``: put a person's signature beside a manifest."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Final

import weighmaster as wm
from weighmaster.cli.printing import pairs
from weighmaster.cli.signing_key import add_key_arguments, load_signing_key
from weighmaster.cli.summary import identity, identity_pairs
from weighmaster.cli.verb import Outcome

DESCRIPTION: Final = """\
Sign the statement of a manifest, after checking that every file of the manifest belongs to it. The signature is a
Sigstore bundle beside the statement; earlier ones stay. Whose signatures count, and in which role, is said by the
trust file of those who verify."""

EXAMPLES: Final = (
    ("weighmaster sign manifest --key ana.key", "asks for the passphrase if the key is encrypted"),
    ("weighmaster sign manifest --key ben.key --role approver --passphrase-file ben.pass", "a second person approves"),
    ("weighmaster sign manifest --key eva.key --certificate eva.pem", "Eva is known by a certificate of her authority"),
    (
        "weighmaster sign manifest --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --token weighing --key-label ana",
        "the key stays on its token; asks for the PIN",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("manifest", metavar="DIR", type=Path, help="manifest directory")
    add_key_arguments(parser)
    text = (
        "X.509 certificate of the key in PEM, the leaf alone; the bundle carries it in place of the key's fingerprint"
    )
    parser.add_argument("--certificate", metavar="FILE", type=Path, help=text)
    parser.add_argument("--role", choices=("signer", "approver"), default="signer", help="in the name of the bundle")


def run(args: argparse.Namespace) -> Outcome:
    """Sign, and print what was signed as it stands in the bundle."""
    from weighmaster.core.statement_reader import parse_statement  # noqa: PLC0415  # not for the help
    from weighmaster.durable import read_whole  # noqa: PLC0415
    from weighmaster.seal.bundle import parse_bundle  # noqa: PLC0415
    from weighmaster.seal.certificates import load_certificate  # noqa: PLC0415

    key = load_signing_key(args)
    certificate = None if args.certificate is None else load_certificate(args.certificate)
    path = wm.sign(args.manifest, key, role=args.role, certificate=certificate)
    payload = parse_bundle(read_whole(path), str(path)).payload
    statement, digest = parse_statement(payload, str(path)), hashlib.sha256(payload).hexdigest()
    fingerprint = key.public.fingerprint
    document = {
        "result": "signed",
        **identity(statement),
        "bundle": str(path),
        "role": args.role,
        "fingerprint": fingerprint,
        "certificate": None if args.certificate is None else str(args.certificate),
        "statementSha256": digest,
    }
    text = pairs(
        [*identity_pairs(statement), ("statement", f"SHA-256 {digest}"), ("key", fingerprint), ("bundle", str(path))]
    )
    return Outcome(document=document, text=text)
