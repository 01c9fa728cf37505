# SPDX-License-Identifier: Apache-2.0
"""What each action of ``weighmaster trust`` makes of a trust document."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cryptography import x509

import weighmaster as wm
from weighmaster.errors import UsageError
from weighmaster.seal import trust_edit as edit
from weighmaster.seal.certificates import load_certificate, parse_certificate

__all__ = ["changed"]


def changed(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    """Return `trust` as the action leaves it.

    Raises:
        UsageError: what is to be changed is not there, or is there already.
        MalformedArtefact: the result would not follow the format.
    """
    return _ACTIONS[args.action](trust, args)


def _extend(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    return replace(trust, expires=args.expires)


def _rotate(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    for gone in args.remove_root:
        if trust.roots.key(gone) is None:
            raise UsageError(f"--remove-root: expected a root key of {trust.file}, found {gone}")
    kept = tuple(k for k in trust.roots.keys if k.key.fingerprint not in args.remove_root)
    new = tuple(wm.RootKey(person=person, key=wm.load_public(path)) for person, path in args.add_root)
    number = trust.roots.threshold if args.threshold is None else args.threshold
    return replace(trust, roots=wm.Roots(keys=(*kept, *new), threshold=number))


def _add_key(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    key = wm.TrustedKey(person=args.person, key=wm.load_public(args.key), roles=_roles(args), not_after=args.not_after)
    return edit.with_key(trust, key)


def _roles(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(sorted(set(args.role)))


def _add_authority(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    root, between = _certificate(args.certificate), tuple(_certificate(path) for path in args.intermediate)
    return edit.with_authority(trust, wm.Authority(name=args.name, certificate=root, intermediates=between))


def _add_timestamp_authority(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    root, between = _certificate(args.certificate), tuple(_certificate(path) for path in args.intermediate)
    stamper = wm.TimestampAuthority(name=args.name, certificates=(root,), intermediates=between)
    return edit.with_timestamp_authority(trust, stamper)


def _certificate(path: Path) -> x509.Certificate:
    return parse_certificate(load_certificate(path))


def _add_identity(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    identity = wm.Identity(person=args.person, authority=args.authority, subject=args.subject, roles=_roles(args))
    return edit.with_identity(trust, identity)


def _add_product(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    """Add the rule: what is given on the command line; what is not stays as it was."""
    former, given = trust.product(args.product), dict[str, Any]()
    if args.require or former is None:
        given["required_roles"] = _thresholds("--require", args.require or [("signer", 1)])
    if args.require_waiver:
        given["waiver_roles"] = _thresholds("--require-waiver", args.require_waiver)
    if args.accept_root:
        given["accepted_roots"] = tuple(args.accept_root)
    if args.minimum_serial is not None:
        given["minimum_serial"] = args.minimum_serial
    if args.max_excluded_bytes is not None:
        given["max_excluded_bytes"] = args.max_excluded_bytes
    rule = wm.ProductRule(product=args.product, **given) if former is None else replace(former, **given)
    return edit.with_product(trust, rule)


def _thresholds(option: str, given: list[tuple[str, int]]) -> tuple[wm.RoleThreshold, ...]:
    roles = [role for role, _ in given]
    if len(set(roles)) != len(roles):
        raise UsageError(f"{option}: expected each role once, found {', '.join(roles)}")
    return tuple(wm.RoleThreshold(role=role, threshold=number) for role, number in sorted(given))


def _revoke_identity(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    return edit.with_revoked_identity(trust, authority=args.authority, subject=args.subject)


def _revoke_certificate(trust: wm.Trust, args: argparse.Namespace) -> wm.Trust:
    return edit.with_revoked_serial(trust, authority=args.authority, serial=args.serial)


_ACTIONS: Final[dict[str, Callable[[wm.Trust, argparse.Namespace], wm.Trust]]] = {
    "add-authority": _add_authority,
    "add-identity": _add_identity,
    "add-key": _add_key,
    "add-product": _add_product,
    "add-timestamp-authority": _add_timestamp_authority,
    "end-key": lambda trust, args: edit.with_end_of_key(trust, args.fingerprint, args.not_after),
    "extend": _extend,
    "revoke-certificate": _revoke_certificate,
    "revoke-identity": _revoke_identity,
    "revoke-key": lambda trust, args: edit.with_revoked_key(trust, args.fingerprint),
    "revoke-root": lambda trust, args: edit.with_revoked_root(trust, product=args.product, root=args.root),
    "rotate": _rotate,
}
