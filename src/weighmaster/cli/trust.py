# SPDX-License-Identifier: Apache-2.0
"""``weighmaster trust``: say whose signatures count, and which weights each product may run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import weighmaster as wm
from weighmaster.cli.signing_key import add_key_arguments, load_signing_key
from weighmaster.cli.trust_arguments import moment, named_key, threshold
from weighmaster.cli.verb import Outcome, common
from weighmaster.errors import MalformedArtefact, UsageError

if TYPE_CHECKING:
    from weighmaster.seal.trust_chain import Chain

DESCRIPTION: Final = """\
Make, change and sign a trust file: who keeps it, whose signatures count, and per product who must sign, which roots and
serials are accepted, which are revoked.

A trust file counts once enough of its keepers signed it (trust sign). Every change makes a new version, unsigned, which
halts whoever verifies with it. So a version that somebody signed is not changed in place: -o writes the next one to
another file; change that further, have it signed, then put it in place of the first. The fingerprint of its roots,
which trust sign and trust show print, is the one value that verifiers must be given by another way than the file; it
stays the same until the keepers change (trust rotate), and a verifier with the old one can follow."""

EXAMPLES: Final = (
    (
        "weighmaster trust init trust.json --root Rosa=rosa.key.pub --expires 2027-11-24",
        "a new file that trusts nobody yet, kept by Rosa",
    ),
    ("weighmaster trust add-key trust.json --person 'Ana Diaz' --key ana.key.pub --role signer", "Ana may sign"),
    (
        "weighmaster trust add-product trust.json --product triage-encoder --require signer=1 --require approver=1",
        "two roles must be filled",
    ),
    ("weighmaster trust sign trust.json --key rosa.key", "Rosa signs; prints the fingerprint to pin"),
    (
        "weighmaster trust revoke-key trust.json -o next.json 3f1c...",
        "a new version, in which nothing that this key signed counts; trust.json stays in force until replaced",
    ),
    (
        "weighmaster trust rotate trust.json -o next.json --add-root Ben=ben.key.pub --remove-root 77ab...",
        "Ben takes over; enough of the old keepers and of the new ones must sign next.json",
    ),
    ("weighmaster trust show trust.json --roots 9f86...", "verify it from this pin, and print it"),
)

_ROLES: Final = ("approver", "signer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs below this one, and their arguments."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def below(name: str, text: str) -> argparse.ArgumentParser:
        inner = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        inner.add_argument("file", metavar="FILE", type=Path, help="the trust file")
        common(inner)
        return inner

    def change(name: str, text: str) -> argparse.ArgumentParser:
        inner = below(name, text)
        new = "new file for the changed version; FILE stays as it is (needed once somebody signed the version in FILE)"
        inner.add_argument("-o", "--out", metavar="NEW", type=Path, help=new)
        return inner

    _add_keepers(
        below("init", "make a new trust file that trusts nobody; never over another file"),
        below("sign", "sign the current version as one of its keepers"),
        change("rotate", "change the keepers"),
        change("extend", "set another expiry"),
    )
    _add_persons(
        change("add-key", "trust one more public key"),
        change("add-authority", "trust the certificates of an authority of your own"),
        change("add-identity", "say whom an authority's certificates name"),
        change("add-timestamp-authority", "believe the timestamps of an authority"),
    )
    _add_product(change("add-product", "add a product, or change what is given of one that is there"))
    _add_revocations(
        change("end-key", "set the last moment at which a key's signatures count"),
        change("revoke-key", "let nothing that a key signed count"),
        change("revoke-identity", "let nothing that was signed under a name count"),
        change("revoke-certificate", "let nothing that was signed with a certificate count"),
        change("revoke-root", "never accept these weights for a product again"),
    )
    show = below("show", "verify a trust file and print it")
    pin = "fingerprint of the roots at which it must begin; without it nothing is verified"
    show.add_argument("--roots", metavar="PIN", help=pin)


def _add_keepers(
    init: argparse.ArgumentParser,
    sign: argparse.ArgumentParser,
    rotate: argparse.ArgumentParser,
    extend: argparse.ArgumentParser,
) -> None:
    keeper = "a keeper and their public key; repeatable"
    expiry = "first moment at which it is in force no more: YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ"
    number = "persons of the keepers who must sign each version"
    init.add_argument("--root", metavar="PERSON=PUB", type=named_key, action="append", required=True, help=keeper)
    init.add_argument("--threshold", metavar="N", type=int, default=1, help=f"{number} (default: 1)")
    for parser in (init, extend):
        parser.add_argument("--expires", metavar="DATE", type=moment, required=True, help=expiry)
    add_key_arguments(sign)
    rotate.add_argument("--add-root", metavar="PERSON=PUB", type=named_key, action="append", default=[], help=keeper)
    gone = "fingerprint of a key that keeps it no longer; repeatable"
    rotate.add_argument("--remove-root", metavar="PRINT", action="append", default=[], help=gone)
    rotate.add_argument("--threshold", metavar="N", type=int, help=f"{number} (default: as before)")


def _add_persons(
    key: argparse.ArgumentParser,
    authority: argparse.ArgumentParser,
    identity: argparse.ArgumentParser,
    stamper: argparse.ArgumentParser,
) -> None:
    key.add_argument("--key", metavar="PUB", type=Path, required=True, help="public key in PEM")
    key.add_argument("--not-after", metavar="DATE", type=moment, help="last moment at which its signatures count")
    identity.add_argument("--authority", metavar="NAME", required=True, help="name of the authority")
    subject = "email:, uri: or dns: and the subject alternative name of the certificate"
    identity.add_argument("--subject", metavar="NAME", required=True, help=subject)
    for parser in (key, identity):
        parser.add_argument("--person", required=True, help="who that is, in one spelling: thresholds count persons")
        text = "what may be signed; repeatable"
        parser.add_argument("--role", choices=_ROLES, action="append", required=True, help=text)
    for parser in (authority, stamper):
        parser.add_argument("--name", required=True, help="name of the authority in this file")
        text = "root certificate in PEM"
        parser.add_argument("--certificate", metavar="FILE", type=Path, required=True, help=text)
        text = "certificate between root and leaves, in PEM; repeatable"
        parser.add_argument("--intermediate", metavar="FILE", type=Path, action="append", default=[], help=text)


def _add_product(product: argparse.ArgumentParser) -> None:
    product.add_argument("--product", required=True, help="name, as manifests give it")
    persons = "persons who must sign in a role (default: signer=1); repeatable, in place of those before"
    product.add_argument("--require", metavar="ROLE=N", type=threshold, action="append", help=persons)
    waivers = "persons who must sign a waiver; without it no waiver is accepted; repeatable, in place of those before"
    product.add_argument("--require-waiver", metavar="ROLE=N", type=threshold, action="append", help=waivers)
    accepted = "accept these roots alone; repeatable, in place of those before"
    product.add_argument("--accept-root", metavar="ROOT", action="append", help=accepted)
    product.add_argument("--minimum-serial", metavar="N", type=int, help="least serial accepted; it never goes down")
    product.add_argument("--max-excluded-bytes", metavar="N", type=int, help="consumed bytes that may stay unverified")


def _add_revocations(
    ended: argparse.ArgumentParser,
    key: argparse.ArgumentParser,
    identity: argparse.ArgumentParser,
    certificate: argparse.ArgumentParser,
    root: argparse.ArgumentParser,
) -> None:
    for parser in (ended, key):
        parser.add_argument("fingerprint", metavar="FINGERPRINT", help="of the key, as trust show prints it")
    last = "last moment; a signature without a timestamp counts as made now"
    ended.add_argument("--not-after", metavar="DATE", type=moment, required=True, help=last)
    identity.add_argument("subject", metavar="SUBJECT", help="the name, as trust show prints it")
    certificate.add_argument("serial", metavar="SERIAL", help="serial number in lowercase hexadecimal")
    for parser in (identity, certificate):
        parser.add_argument("--authority", metavar="NAME", required=True, help="name of the authority")
    root.add_argument("root", metavar="ROOT", help="64 hexadecimal digits")
    root.add_argument("--product", required=True, help="name, as manifests give it")


def run(args: argparse.Namespace) -> Outcome:
    """Read, change, write, show."""
    from weighmaster.cli.trust_show import shown  # noqa: PLC0415  # not for the help
    from weighmaster.durable import read_whole, write_atomically  # noqa: PLC0415
    from weighmaster.flows.clock import wall_clock  # noqa: PLC0415
    from weighmaster.seal.trust_chain import (  # noqa: PLC0415
        MAX_FILE,
        chain_to_bytes,
        countersign,
        new_chain,
        parse_chain,
    )

    now, target = wall_clock(), args.file
    if args.action == "init":
        chain: Chain = new_chain(_fitting(_first, args), str(target))
        write_atomically(target, chain_to_bytes(chain), replace=False)
        return shown(chain, now)
    chain = parse_chain(read_whole(args.file, limit=MAX_FILE), str(args.file))
    if args.action == "show":
        return shown(chain, now, args.roots)
    if args.action == "sign":
        after = countersign(chain, load_signing_key(args))
    else:
        after, target = _amended(chain, args), args.out or args.file
    write_atomically(target, chain_to_bytes(after), replace=target is args.file)
    return shown(replace(after, file=str(target)), now)


def _amended(chain: Chain, args: argparse.Namespace) -> Chain:
    """Return the changed chain; a version that somebody signed is not lost for it."""
    from weighmaster.cli.trust_change import changed  # noqa: PLC0415
    from weighmaster.seal.trust_chain import amend  # noqa: PLC0415

    head = chain.current
    if args.out is None and head.signatures:
        why = "the change would be unsigned and halt whoever verifies with it"
        how = f"give -o NEW, have NEW signed, then put it in place of {args.file}"
        raise UsageError(f"{args.file}: version {head.trust.version} is signed and not changed in place: {why}; {how}")
    trust = _fitting(lambda given: changed(head.trust, given), args)
    if trust == head.trust:
        raise UsageError(f"{args.file}: version {head.trust.version} says so already; nothing was written")
    return amend(chain, trust)


def _fitting(made: Callable[[argparse.Namespace], wm.Trust], args: argparse.Namespace) -> wm.Trust:
    """Return what the arguments make; what the format does not have is then the call's fault and not the file's."""
    try:
        return made(args)
    except MalformedArtefact as error:
        if error.file != str(args.file):
            raise
        raise UsageError(
            f"{error.field}: expected {error.expected}, found {error.found}; nothing was written"
        ) from None


def _first(args: argparse.Namespace) -> wm.Trust:
    keys = tuple(wm.RootKey(person=person, key=wm.load_public(path)) for person, path in args.root)
    roots = wm.Roots(keys=keys, threshold=args.threshold)
    return wm.Trust(expires=args.expires, roots=roots, file=str(args.file))
