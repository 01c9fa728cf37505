# SPDX-License-Identifier: Apache-2.0
"""``weighmaster timestamp``: show when a signature was there, by a timestamp authority (RFC 3161)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from weighmaster.cli.printing import pairs
from weighmaster.cli.verb import Outcome, common

DESCRIPTION: Final = """\
Put a timestamp over its signature into a bundle. With it, the signature counts as made at that moment: a certificate
that has expired since then, or a key that has been retired, still does. The authority must be one that the trust file
of those who verify lists; nothing is trusted for where a timestamp came from.

Where there is no network, carry files: request writes what an authority is asked, attach takes what it answered."""

EXAMPLES: Final = (
    ("weighmaster timestamp fetch manifest/signer-1.sigstore.json --url https://tsa.example.org/tsr", "over a network"),
    ("weighmaster timestamp request manifest/signer-1.sigstore.json -o query.tsq", "across a gap: what to ask"),
    ("weighmaster timestamp attach manifest/signer-1.sigstore.json --response reply.tsr", "and what was answered"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs below this one, and their arguments."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def below(name: str, text: str) -> argparse.ArgumentParser:
        inner = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        inner.add_argument("bundle", metavar="BUNDLE", type=Path, help="a signature: ROLE-N.sigstore.json")
        common(inner)
        return inner

    request = below("request", "write a request over the signature of a bundle, for `openssl ts` or any authority")
    request.add_argument("-o", "--out", metavar="FILE", type=Path, required=True, help="new file for the request (DER)")
    attach = below("attach", "put an authority's response into the bundle, if it is over its signature")
    attach.add_argument("--response", metavar="FILE", type=Path, required=True, help="the response (DER)")
    fetch = below("fetch", "ask an authority on the network and put its response into the bundle")
    fetch.add_argument("--url", required=True, help="of the authority: http or https; redirections are not followed")


def run(args: argparse.Namespace) -> Outcome:
    """Ask, or attach."""
    from weighmaster.durable import read_whole  # noqa: PLC0415  # not for the help
    from weighmaster.flows.stamp import attach_timestamp, fetch_timestamp, timestamp_query  # noqa: PLC0415
    from weighmaster.seal.bundle import MAX_TIMESTAMP  # noqa: PLC0415

    if args.action == "request":
        return _requested(args, timestamp_query(args.bundle))
    if args.action == "fetch":
        response = fetch_timestamp(args.url, timestamp_query(args.bundle))
    else:
        response = read_whole(args.response, limit=MAX_TIMESTAMP)
    moment = attach_timestamp(args.bundle, response)
    text = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Outcome(
        document={"result": "stamped", "bundle": str(args.bundle), "claimedTime": text},
        text=pairs(
            [("claimed time", f"{text} (the authority is checked by whoever verifies)"), ("bundle", str(args.bundle))]
        ),
    )


def _requested(args: argparse.Namespace, request: bytes) -> Outcome:
    from weighmaster.durable import write_atomically  # noqa: PLC0415  # not for the help

    write_atomically(args.out, request, replace=False)
    return Outcome(
        document={"result": "request", "bundle": str(args.bundle), "request": str(args.out)},
        text=pairs([("request", str(args.out)), ("bundle", str(args.bundle))]),
    )
