# SPDX-License-Identifier: Apache-2.0
"""``weighmaster waive``: sign one's consent to differences from the validated environment, until a day."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.printing import pairs
from weighmaster.cli.signing_key import add_key_arguments, load_signing_key
from weighmaster.cli.verb import Outcome
from weighmaster.core.instant import instant_text, parse_instant
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.core.environment import Environment
    from weighmaster.core.waiver import Reading, Waiver

DESCRIPTION: Final = """\
Sign a waiver: consent to named differences from the environment that a manifest was validated in, with exactly the two
values that stand there, until a day. Only facts whose rule says change-control can be waived, and who signed the
manifest cannot waive. Whose waivers count is said by the trust file (waiverRoles).

A waiver does not make this version serve: under change control it serves only with passing known answers as well, and
this version has none. The fault says whether the waiver holds."""

EXAMPLES: Final = (
    (
        "weighmaster waive manifest --environment here.json --fact gpu.driver --reason CR-118 "  # noqa: ISC004
        "--expires 2027-01-31T00:00:00Z --key ben.key -o ben.waiver.sigstore.json",
        "one fact, as it stands in a document of weighmaster environment -o",
    ),
    (
        "weighmaster waive manifest --countersign ben.waiver.sigstore.json --key eva.key -o eva.waiver.sigstore.json",
        "a second person signs the same waiver",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("manifest", metavar="DIR", type=Path, help="manifest directory: its environment is the validated one")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--environment", metavar="FILE", type=Path, help="where it is to run: an environment document")
    source.add_argument("--from-manifest", metavar="DIR", type=Path, help="where it is to run: that of a manifest")
    source.add_argument("--countersign", metavar="WAIVER", type=Path, help="sign the payload of this waiver too")
    add("--fact", metavar="NAME", action="append", default=[], help="fact that may differ; repeatable")
    add("--reason", metavar="TEXT", help="why, for people")
    add("--expires", metavar="TIME", type=_moment, help="moment from which it counts no more: YYYY-MM-DDTHH:MM:SSZ")
    add_key_arguments(parser)
    add("-o", "--out", metavar="WAIVER", type=Path, required=True, help="new file for the bundle")


def _moment(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(args: argparse.Namespace) -> Outcome:
    """Sign, and print what was signed."""
    from weighmaster.flows.waive import countersign, waive  # noqa: PLC0415  # not for the help

    _check(args)
    manifest, key = wm.read_unsigned(args.manifest), load_signing_key(args)
    if args.countersign is not None:
        waiver = countersign(manifest, args.countersign, key, args.out)
    else:
        waiver = waive(manifest, _found(args), key, args.out, facts=args.fact, reason=args.reason, expires=args.expires)
    return _outcome(waiver, args.out, key.public.fingerprint)


def _check(args: argparse.Namespace) -> None:
    given = bool(args.fact), args.reason is not None, args.expires is not None
    if args.countersign is not None and any(given):
        raise UsageError("--countersign: the waiver says already which facts, why and until when")
    if args.countersign is None and not all(given):
        raise UsageError("expected --fact, --reason and --expires, found not all of them")


def _found(args: argparse.Namespace) -> Environment:
    from weighmaster.core.environment import parse_environment  # noqa: PLC0415  # not for the help
    from weighmaster.durable import read_whole  # noqa: PLC0415

    if args.environment is not None:
        return parse_environment(read_whole(args.environment), str(args.environment))
    environment = wm.read_unsigned(args.from_manifest).environment
    if environment is None:
        raise UsageError(f"{args.from_manifest}: expected a manifest with an environment, found one of files")
    return environment


def _outcome(waiver: Waiver, out: Path, fingerprint: str) -> Outcome:
    document = {
        "result": "waived",
        "product": waiver.product,
        "root": waiver.root,
        "policySha256": waiver.policy_sha256,
        "reason": waiver.reason,
        "expires": instant_text(waiver.expires),
        "facts": [fact.document() for fact in waiver.facts],
        "bundle": str(out),
        "fingerprint": fingerprint,
    }
    rows = [
        ("product", waiver.product),
        ("root", waiver.root),
        ("policy", f"SHA-256 {waiver.policy_sha256}"),
        ("facts", "\n".join(_fact_lines(waiver))),
        ("reason", waiver.reason),
        ("expires", instant_text(waiver.expires)),
        ("key", fingerprint),
        ("bundle", str(out)),
    ]
    return Outcome(document=document, text=pairs(rows))


def _fact_lines(waiver: Waiver) -> Iterator[str]:
    for fact in waiver.facts:
        yield f"{fact.fact}: validated {_shown(fact.validated)}, found {_shown(fact.found)}"


def _shown(reading: Reading | None) -> str:
    return "nothing" if reading is None else reading[0] if reading[1] is None else repr(reading[1])
