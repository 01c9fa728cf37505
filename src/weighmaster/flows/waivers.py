# SPDX-License-Identifier: Apache-2.0
"""Decide which waivers hold, and which differences they cover. The numbers are those of spec/waiver.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from weighmaster.core.instant import instant_text
from weighmaster.core.judgement import Difference
from weighmaster.core.waiver import Waiver, parse_waiver
from weighmaster.durable import read_whole
from weighmaster.errors import EnvironmentFault
from weighmaster.flows.trusted import Trusted
from weighmaster.seal.bundle import MAX_BUNDLE, Sealed, parse_bundle
from weighmaster.seal.check import SignerRecord, signature_faults
from weighmaster.seal.trust import ProductRule

__all__ = ["Bundles", "CheckedWaiver", "change_control_fault", "check_waivers", "read_waivers"]

Bundles = tuple[tuple[str, bytes], ...]
"""File name and bytes of each bundle; a countersignature is a further bundle over the same payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedWaiver:
    """A waiver and what became of its verification.

    Attributes:
        files: the bundles that carry its signatures.
        waiver: what it says, or None where its signatures do not hold: then nothing in it was read.
        signers: whose signatures hold.
        problems: why it does not hold; empty where it does.
    """

    files: tuple[str, ...]
    waiver: Waiver | None
    signers: tuple[SignerRecord, ...]
    problems: tuple[str, ...]

    def covers(self, difference: Difference) -> bool:
        """Tell whether it is about this very difference; whether it holds is another question."""
        return self.waiver is not None and any(fact.covers(difference) for fact in self.waiver.facts)

    def __str__(self) -> str:
        name = " and ".join(self.files)
        if self.problems or self.waiver is None:
            return f"waiver {name} does not hold: {'; '.join(self.problems)}"
        persons = ", ".join(sorted({s.person for s in self.signers}))
        return f"waiver {name} holds (signed by {persons}, until {instant_text(self.waiver.expires)})"


def read_waivers(paths: Iterable[Path | str]) -> Bundles:
    """Read bundles of waivers, without believing any.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: a file is too large for a bundle.
    """
    return tuple((str(path), read_whole(Path(path), limit=MAX_BUNDLE)) for path in paths)


def check_waivers(bundles: Bundles, trusted: Trusted, now: datetime) -> tuple[CheckedWaiver, ...]:
    """Verify waivers against a manifest that is trusted already.

    Args:
        bundles: as they were read.
        trusted: the manifest, who signed it, and what is trusted.
        now: the moment at which they must not have expired.

    Raises:
        MalformedArtefact: a bundle or a signed payload does not follow its specification.
    """
    sealed: dict[bytes, Sealed] = {}
    for name, data in bundles:  # (1), (2)
        bundle = parse_bundle(data, name)
        before = sealed[bundle.payload].signatures if bundle.payload in sealed else ()
        sealed[bundle.payload] = Sealed(payload=bundle.payload, signatures=(*before, bundle.signature))
    return tuple(_check(one, trusted, now) for one in sealed.values())


def _check(sealed: Sealed, trusted: Trusted, now: datetime) -> CheckedWaiver:
    files = tuple(s.file for s in sealed.signatures)
    product = trusted.manifest.statement.product
    rule = trusted.trust.product(product)
    if rule is None or not rule.waiver_roles:  # (3)
        problem = f"{trusted.trust.file} accepts no waiver for {product}"
        return CheckedWaiver(files=files, waiver=None, signers=(), problems=(problem,))
    signers, faults = _signers(sealed, trusted, rule)
    if faults:  # nothing is parsed over which no signature holds
        return CheckedWaiver(files=files, waiver=None, signers=signers, problems=faults)
    waiver = parse_waiver(sealed.payload, files[0])  # (6)
    problems = (*_same_person(signers, trusted), *_mismatches(waiver, trusted, now))
    return CheckedWaiver(files=files, waiver=waiver, signers=signers, problems=problems)


def _signers(sealed: Sealed, trusted: Trusted, rule: ProductRule) -> tuple[tuple[SignerRecord, ...], tuple[str, ...]]:
    """Check the signatures as those of a manifest of which the required roles are the waiver's: (4), (5)."""
    asked = replace(rule, required_roles=rule.waiver_roles)
    products = tuple(asked if p.product == rule.product else p for p in trusted.trust.products)
    signers, faults = signature_faults(sealed, replace(trusted.trust, products=products), rule.product)
    return signers, tuple(str(fault) for fault in faults)


def _same_person(signers: tuple[SignerRecord, ...], trusted: Trusted) -> Iterator[str]:
    both = {s.person for s in signers} & {s.person for s in trusted.signers}  # (7)
    for person in sorted(both):
        yield f"{person} signed the manifest too, and who signed it does not waive its environment"


def _mismatches(waiver: Waiver, trusted: Trusted, now: datetime) -> Iterator[str]:
    statement = trusted.manifest.statement
    policy = statement.environment.policy_sha256 if statement.environment else "none"
    for what, expected, found in (
        ("product", statement.product, waiver.product),  # (8)
        ("root", trusted.manifest.root, waiver.root),  # (9)
        ("policy", policy, waiver.policy_sha256),  # (10)
    ):
        if expected != found:
            yield f"it is for another {what}: expected {expected}, found {found}"
    if not now < waiver.expires:  # (11)
        yield f"it expired at {instant_text(waiver.expires)}, and it is {instant_text(now)}"


def change_control_fault(difference: Difference, waivers: tuple[CheckedWaiver, ...]) -> EnvironmentFault:
    """Return the finding of a difference under change control: known answers are not recorded yet, so it halts (12)."""
    about = [str(w) for w in waivers if w.covers(difference)] or [str(w) for w in waivers if w.waiver is None]
    if not about:
        given = "no waiver was given" if not waivers else "no waiver given covers this fact with these values"
        about = [given]
    said = "; ".join(about)
    return difference.fault(
        f"; served only under a waiver and known answers: {said}; this version has no known answers, so it halts"
    )
