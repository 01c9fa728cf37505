# SPDX-License-Identifier: Apache-2.0
"""``weighmaster sign PACK``: put a person's signature over the root of a pack."""

from __future__ import annotations

import argparse
import hashlib
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.printing import pairs
from weighmaster.cli.progress import ProgressBar
from weighmaster.cli.signing_key import load_signing_key
from weighmaster.cli.summary import pack_identity, pack_statement_pairs
from weighmaster.cli.verb import Outcome
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.flows.pack_seal import PackClaim

__all__ = ["CLAIM", "sign_this_pack"]

CLAIM: Final = ("product", "version", "serial", "report")
"""Arguments that say what a pack is; from its first signer alone."""


def sign_this_pack(args: argparse.Namespace) -> Outcome:
    """Sign, and print what was signed as it stands in the bundle."""
    from weighmaster.core.pack_statement import parse_pack_statement  # noqa: PLC0415  # not for the help
    from weighmaster.durable import read_whole  # noqa: PLC0415
    from weighmaster.seal.bundle import parse_bundle  # noqa: PLC0415
    from weighmaster.seal.certificates import load_certificate  # noqa: PLC0415

    claim, key = _claim(args), load_signing_key(args)
    certificate = None if args.certificate is None else load_certificate(args.certificate)
    with ProgressBar(None) as progress:
        path = wm.sign_pack(args.manifest, key, claim=claim, role=args.role, certificate=certificate, progress=progress)
    payload = parse_bundle(read_whole(path), str(path)).payload
    statement, digest = parse_pack_statement(payload, str(path)), hashlib.sha256(payload).hexdigest()
    fingerprint = key.public.fingerprint
    document = {
        "result": "signed",
        "kind": "pack",
        **pack_identity(statement),
        "bundle": str(path),
        "role": args.role,
        "fingerprint": fingerprint,
        "certificate": None if args.certificate is None else str(args.certificate),
        "statementSha256": digest,
    }
    rows = [
        *pack_statement_pairs(statement),
        ("statement", f"SHA-256 {digest}"),
        ("key", fingerprint),
        ("bundle", str(path)),
    ]
    return Outcome(document=document, text=pairs(rows))


def _claim(args: argparse.Namespace) -> PackClaim | None:
    """Return what the arguments say of the pack, or None where they say nothing."""
    from weighmaster.flows.derived import read_reference, reports_of  # noqa: PLC0415  # not for the help
    from weighmaster.flows.pack_seal import PackClaim  # noqa: PLC0415

    given = [getattr(args, name) for name in CLAIM[:3]]
    if given == [None, None, None] and not args.report:
        return None
    if None in given:
        raise UsageError("of a pack that nobody signed yet: expected --product, --version and --serial, found not all")
    with wm.open_pack(args.manifest) as pack:
        reports = reports_of(pack.root, [read_reference(path) for path in args.report])
    return PackClaim(product=args.product, version=args.version, serial=args.serial, reports=reports)
