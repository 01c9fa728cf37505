# SPDX-License-Identifier: Apache-2.0
"""``weighmaster sign``: put a person's signature beside a manifest."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Final

import weighmaster as wm
from weighmaster.cli.pack_summary import is_pack
from weighmaster.cli.printing import pairs
from weighmaster.cli.sign_pack import CLAIM, sign_this_pack
from weighmaster.cli.signing_key import add_key_arguments, load_signing_key
from weighmaster.cli.summary import identity, identity_pairs
from weighmaster.cli.verb import Outcome
from weighmaster.errors import UsageError

DESCRIPTION: Final = """\
Sign the statement of a manifest, after checking that every file of the manifest belongs to it. The signature is a
Sigstore bundle beside the statement; earlier ones stay. Whose signatures count, and in which role, is said by the
trust file of those who verify.

A directory with a pack.index is a pack: all of it is read, rebuilt and compared with its index, then its root is
signed. Who signs it first says of which product, version and serial it is; those after sign the same statement."""

EXAMPLES: Final = (
    ("weighmaster sign manifest --key ana.key", "asks for the passphrase if the key is encrypted"),
    ("weighmaster sign manifest --key ben.key --role approver --passphrase-file ben.pass", "a second person approves"),
    ("weighmaster sign manifest --key eva.key --certificate eva.pem", "Eva is known by a certificate of her authority"),
    (
        "weighmaster sign model.pack --key ana.key --product triage-summary --version 1.0 --serial 4",
        "a pack; the serial is of the same rising numbers as the product's manifests",
    ),
    (
        "weighmaster sign manifest --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --token weighing --key-label ana",
        "the key stays on its token; asks for the PIN",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("manifest", metavar="DIR", type=Path, help="manifest directory, or a pack")
    add_key_arguments(parser)
    text = (
        "X.509 certificate of the key in PEM, the leaf alone; the bundle carries it in place of the key's fingerprint"
    )
    parser.add_argument("--certificate", metavar="FILE", type=Path, help=text)
    parser.add_argument("--role", choices=("signer", "approver"), default="signer", help="in the name of the bundle")
    parser.add_argument("--product", metavar="P", help="of a pack that nobody signed yet: product that it is for")
    parser.add_argument("--version", metavar="V", help="of a pack that nobody signed yet: version of the product")
    serial = "of a pack that nobody signed yet: larger than that of any earlier manifest or pack of the product"
    parser.add_argument("--serial", metavar="N", type=int, help=serial)
    report = "of a pack that nobody signed yet: report.json to refer to, with its main figures; repeatable"
    parser.add_argument("--report", metavar="FILE", type=Path, action="append", default=[], help=report)


def run(args: argparse.Namespace) -> Outcome:
    """Sign, and print what was signed as it stands in the bundle."""
    if is_pack(args.manifest):
        return sign_this_pack(args)
    if given := [f"--{name}" for name in CLAIM if getattr(args, name) not in (None, [])]:
        raise UsageError(f"{', '.join(given)}: has no meaning for a manifest, whose statement says it")
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
