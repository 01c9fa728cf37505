# SPDX-License-Identifier: Apache-2.0
"""``weighmaster trust``: say whose signatures count, and which weights each product may run."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import weighmaster as wm
from weighmaster.cli.printing import pairs
from weighmaster.cli.verb import Outcome, common
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.seal.trust import ProductRule, RoleThreshold, Trust

DESCRIPTION: Final = """\
Make and change a trust file: the keys of persons, and per product who must sign, which roots and serials are accepted,
which are revoked. The file is not itself signed: whoever can write it decides what is trusted. Keep it where only its
owner can."""

EXAMPLES: Final = (
    ("weighmaster trust init trust.json", "a new file that trusts nobody"),
    ("weighmaster trust add-key trust.json --person 'Ana Diaz' --key ana.key.pub --role signer", "Ana may sign"),
    (
        "weighmaster trust add-product trust.json --product triage-encoder --require signer=1 --require approver=1",
        "two roles must be filled",
    ),
    ("weighmaster trust revoke-key trust.json 3f1c...", "nothing that this key signed counts any more"),
    ("weighmaster trust show trust.json", "print it"),
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

    below("init", "make a new trust file that trusts nobody; never over another file")
    key = below("add-key", "trust one more public key")
    key.add_argument("--person", required=True, help="whose key it is, in one spelling: thresholds count persons")
    key.add_argument("--key", metavar="PUB", type=Path, required=True, help="public key in PEM")
    key.add_argument("--role", choices=_ROLES, action="append", required=True, help="what it may sign as; repeatable")
    product = below("add-product", "add a product, or change what is given of one that is there")
    product.add_argument("--product", required=True, help="name, as manifests give it")
    persons = "persons who must sign in a role (default: signer=1); repeatable"
    product.add_argument("--require", metavar="ROLE=N", type=_threshold, action="append", help=persons)
    product.add_argument("--accept-root", metavar="ROOT", action="append", help="accept these roots alone; repeatable")
    product.add_argument("--minimum-serial", metavar="N", type=int, help="least serial accepted; it never goes down")
    product.add_argument("--max-excluded-bytes", metavar="N", type=int, help="consumed bytes that may stay unverified")
    below("revoke-key", "let nothing that a key signed count").add_argument("fingerprint", metavar="FINGERPRINT")
    root = below("revoke-root", "never accept these weights for a product again")
    root.add_argument("root", metavar="ROOT", help="64 hexadecimal digits")
    root.add_argument("--product", required=True, help="name, as manifests give it")
    below("show", "print a trust file")


def _threshold(text: str) -> tuple[str, int]:
    role, equals, number = text.partition("=")
    if role not in _ROLES or not equals or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"expected ROLE=N, with a role of {', '.join(_ROLES)}, found {text!r}")
    return role, int(number)


def run(args: argparse.Namespace) -> Outcome:
    """Read, change, write, show."""
    from weighmaster.durable import read_whole, write_atomically  # noqa: PLC0415  # not for the help
    from weighmaster.seal.trust import trust_to_bytes  # noqa: PLC0415

    if args.action == "init":
        trust = wm.Trust(file=str(args.file))
        write_atomically(args.file, trust_to_bytes(trust), replace=False)
        return _shown(trust)
    trust = wm.parse_trust(read_whole(args.file), str(args.file))
    changed = _changed(trust, args)
    if changed is not trust:
        write_atomically(args.file, trust_to_bytes(changed))
    return _shown(changed)


def _changed(trust: Trust, args: argparse.Namespace) -> Trust:
    from weighmaster.seal.trust import with_key, with_product, with_revoked_key, with_revoked_root  # noqa: PLC0415

    if args.action == "add-key":
        return with_key(trust, person=args.person, key=wm.load_public(args.key), roles=tuple(sorted(set(args.role))))
    if args.action == "add-product":
        return with_product(trust, _rule(trust.product(args.product), args))
    if args.action == "revoke-key":
        return with_revoked_key(trust, args.fingerprint)
    if args.action == "revoke-root":
        return with_revoked_root(trust, product=args.product, root=args.root)
    return trust


def _rule(former: ProductRule | None, args: argparse.Namespace) -> ProductRule:
    """Return the rule: what is given on the command line; what is not stays as it was."""
    given: dict[str, Any] = {}
    if args.require or former is None:
        given["required_roles"] = _thresholds(args.require or [("signer", 1)])
    if args.accept_root:
        given["accepted_roots"] = tuple(args.accept_root)
    if args.minimum_serial is not None:
        given["minimum_serial"] = args.minimum_serial
    if args.max_excluded_bytes is not None:
        given["max_excluded_bytes"] = args.max_excluded_bytes
    return wm.ProductRule(product=args.product, **given) if former is None else replace(former, **given)


def _thresholds(given: list[tuple[str, int]]) -> tuple[RoleThreshold, ...]:
    roles = [role for role, _ in given]
    if len(set(roles)) != len(roles):
        raise UsageError(f"--require: expected each role once, found {', '.join(roles)}")
    return tuple(wm.RoleThreshold(role=role, threshold=number) for role, number in sorted(given))


def _shown(trust: Trust) -> Outcome:
    document = {
        "result": "trust",
        "file": trust.file,
        "keys": [
            {
                "person": k.person,
                "fingerprint": k.key.fingerprint,
                "kind": k.key.kind,
                "roles": k.roles,
                "revoked": k.revoked,
            }
            for k in trust.keys
        ],
        "products": [
            {
                "product": p.product,
                "requiredRoles": [{"role": r.role, "threshold": r.threshold} for r in p.required_roles],
                "acceptedRoots": p.accepted_roots,
                "minimumSerial": p.minimum_serial,
                "revokedRoots": p.revoked_roots,
                "maxExcludedBytes": str(p.max_excluded_bytes),
            }
            for p in trust.products
        ],
    }
    rows = [("trust file", f"{trust.file} (not itself signed)")]
    for k in trust.keys:
        state = "REVOKED, " if k.revoked else ""
        rows.append(("key", f"{k.person}: {state}{' and '.join(k.roles)}, {k.key.kind}\n{k.key.fingerprint}"))
    rows += [("product", "\n".join(_rule_lines(p))) for p in trust.products]
    return Outcome(document=document, text=pairs(rows))


def _rule_lines(rule: ProductRule) -> list[str]:
    required = ", ".join(f"{r.role}={r.threshold}" for r in rule.required_roles)
    accepted = ", ".join(rule.accepted_roots) or "any that is signed"
    return [
        f"{rule.product}: required {required}; minimum serial {rule.minimum_serial}",
        f"accepted roots: {accepted}",
        f"revoked roots: {', '.join(rule.revoked_roots) or 'none'}",
        f"consumed bytes that may stay unverified: at most {rule.max_excluded_bytes:,}",
    ]
