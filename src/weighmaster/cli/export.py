# SPDX-License-Identifier: Apache-2.0
"""``weighmaster export``: write what is weighed in formats that tools of others check."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import weighmaster as wm
from weighmaster.cli.printing import count, pairs
from weighmaster.cli.signing_key import key_from_file
from weighmaster.cli.summary import identity, identity_pairs
from weighmaster.cli.verb import Outcome, common

DESCRIPTION: Final = """\
Write what is weighed, and whom you believe, in formats that tools of others check. Of a dump nothing is exported that
differs from the manifest; the manifest's own signatures are not checked. A trust file must hold from its pin."""

EXAMPLES: Final = (
    (
        "weighmaster export oms manifest --dump dump --key ana.key -o model.sig",
        "an OpenSSF Model Signing bundle over the files that weighmaster dump wrote",
    ),
    (
        "model_signing verify key dump --signature model.sig --public_key ana.key.pub",
        "the check by the OpenSSF tool, which knows nothing of Weighmaster",
    ),
    (
        "weighmaster export trusted-root trust.json --roots $PIN -o trusted_root.json",
        "the authorities of a trust file as cosign and other Sigstore verifiers read them (--trusted-root)",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the formats, and their arguments."""
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    text = "sign the files of a dump as OpenSSF Model Signing v1.0 does; data types and shapes are not in that format"
    oms = formats.add_parser("oms", help=text, description=text, allow_abbrev=False)
    oms.add_argument("manifest", metavar="DIR", type=Path, help="manifest directory")
    oms.add_argument("--dump", metavar="DUMP", type=Path, required=True, help="directory that weighmaster dump wrote")
    oms.add_argument("--key", metavar="FILE", type=Path, required=True, help="private ECDSA P-256 key, mode 0600")
    oms.add_argument("--passphrase-file", metavar="FILE", type=Path, help="its first line is the passphrase")
    oms.add_argument("-o", "--out", metavar="SIG", type=Path, required=True, help="file of the bundle; a new one")
    common(oms)
    text = "write the certification and timestamp authorities of a trust file as a Sigstore trusted root"
    root = formats.add_parser("trusted-root", help=text, description=text, allow_abbrev=False)
    root.add_argument("trust", metavar="TRUST", type=Path, help="trust file")
    pin = "fingerprint of the roots at which the trust file must begin; keep it apart from the file"
    root.add_argument("--roots", metavar="PIN", required=True, help=pin)
    root.add_argument(
        "-o", "--out", metavar="FILE", type=Path, required=True, help="trusted root; a former one is replaced"
    )
    common(root)


def run(args: argparse.Namespace) -> Outcome:
    """Export in the format that was asked for."""
    return _oms(args) if args.format == "oms" else _trusted_root(args)


def _trusted_root(args: argparse.Namespace) -> Outcome:
    """Verify the trust file, and write its authorities."""
    from weighmaster.flows.clock import wall_clock  # noqa: PLC0415  # not for the help
    from weighmaster.flows.trusted_root import export_trusted_root  # noqa: PLC0415

    verified = wm.read_trust(args.trust, args.roots, wall_clock())
    done = export_trusted_root(verified, args.out)
    document = {
        "result": "exported",
        "format": "sigstore-trusted-root-v0.1",
        "trustVersion": verified.trust.version,
        "trustSha256": verified.sha256,
        "trustedRoot": str(done.path),
        "authorities": done.authorities,
        "timestampAuthorities": done.timestamp_authorities,
    }
    rows = [
        ("trust file", f"{args.trust}, version {verified.trust.version}, holds from the pinned roots"),
        ("written", str(done.path)),
        *(("authority", name) for name in done.authorities),
        *(("timestamps", name) for name in done.timestamp_authorities),
        ("NOT in it", "persons, roles, thresholds, bare keys and revocations: the format has no place for them"),
    ]
    return Outcome(document=document, text=pairs(rows))


def _oms(args: argparse.Namespace) -> Outcome:
    """Compare the dump with the manifest, and sign it."""
    from weighmaster.flows.oms import export_oms  # noqa: PLC0415  # not for the help

    manifest = wm.read_unsigned(args.manifest)
    key = key_from_file(args.key, args.passphrase_file)
    done = export_oms(manifest, args.dump, key, args.out)
    document = {
        "result": "exported",
        "format": "oms-v1",
        **identity(manifest.statement),
        "signaturesChecked": False,
        "bundle": str(done.path),
        "files": done.files,
        "omsRoot": done.root,
        "fingerprint": key.public.fingerprint,
    }
    rows = [
        *identity_pairs(manifest.statement),
        ("signatures", "not checked"),
        ("written", f"{done.path}: {count(done.files, 'file')} of {args.dump}, each as the manifest says"),
        ("key", key.public.fingerprint),
        ("NOT bound", "data types, shapes and strides, except through the digest of index.jsonl"),
        ("check", f"model_signing verify key {args.dump} --signature {done.path} --public_key FILE"),
    ]
    return Outcome(document=document, text=pairs(rows))
