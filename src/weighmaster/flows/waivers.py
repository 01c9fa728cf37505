# SPDX-License-Identifier: Apache-2.0
"""Decide which waivers hold, and which differences they cover. The numbers are those of spec/waiver.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from weighmaster.core.instant import instant_text
from weighmaster.core.judgement import Difference
from weighmaster.core.waiver import Waiver, parse_waiver
from weighmaster.durable import read_whole
from weighmaster.errors import EnvironmentFault
from weighmaster.flows.trusted import Trusted
from weighmaster.seal.bundle import MAX_BUNDLE, Sealed, parse_bundle
from weighmaster.seal.check import SignerRecord, signature_records, threshold_faults
from weighmaster.seal.trust import ProductRule, Trust

__all__ = ["Bundles", "CheckedWaiver", "WaiverSubject", "change_control_fault", "check_waivers", "read_waivers"]

Bundles = tuple[tuple[str, bytes], ...]
"""File name and bytes of each bundle; a countersignature is a further bundle over the same payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiverSubject:
    """What a waiver must be about: a manifest that is trusted already.

    Attributes:
        product: as its statement names it.
        root: identity of its weights.
        policy_sha256: digest of its environment policy.
        persons: who signed it.
        keys: fingerprints of the keys that signed it.
        trust: what is trusted.
    """

    product: str
    root: str
    policy_sha256: str
    persons: frozenset[str]
    keys: frozenset[str]
    trust: Trust

    @classmethod
    def of(cls, trusted: Trusted) -> Self:
        """Return the subject that this manifest is.

        Raises:
            ValueError: it has no environment, so there is nothing to waive.
        """
        environment = trusted.manifest.statement.environment
        if environment is None:
            raise ValueError("a manifest without an environment has nothing to waive")
        return cls(
            product=trusted.manifest.statement.product,
            root=trusted.manifest.root,
            policy_sha256=environment.policy_sha256,
            persons=frozenset(s.person for s in trusted.signers),
            keys=frozenset(s.fingerprint for s in trusted.signers),
            trust=trusted.trust,
        )


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


def check_waivers(bundles: Bundles, subject: WaiverSubject, now: datetime) -> tuple[CheckedWaiver, ...]:
    """Verify waivers against what they must be about.

    Args:
        bundles: as they were read.
        subject: the manifest that is trusted already.
        now: the moment at which they must not have expired.

    Raises:
        MalformedArtefact: a bundle or a signed payload does not follow its specification.
    """
    sealed: dict[bytes, Sealed] = {}
    for name, data in bundles:  # (1)
        bundle = parse_bundle(data, name)
        before = sealed[bundle.payload].signatures if bundle.payload in sealed else ()
        sealed[bundle.payload] = Sealed(payload=bundle.payload, signatures=(*before, bundle.signature))
    return tuple(_check(one, subject, now) for one in sealed.values())


def _check(sealed: Sealed, subject: WaiverSubject, now: datetime) -> CheckedWaiver:
    files = tuple(s.file for s in sealed.signatures)
    rule = subject.trust.product(subject.product)
    if rule is None or not rule.waiver_roles:  # (2)
        problem = f"{subject.trust.file} accepts no waiver for {subject.product}"
        return CheckedWaiver(files=files, waiver=None, signers=(), problems=(problem,))
    signers, faults = _signers(sealed, subject.trust, rule, now)
    if faults:  # nothing is parsed over which no signature holds
        return CheckedWaiver(files=files, waiver=None, signers=signers, problems=faults)
    waiver = parse_waiver(sealed.payload, files[0])  # (5)
    problems = (*_same_person(signers, subject), *_mismatches(waiver, subject, now))
    return CheckedWaiver(files=files, waiver=waiver, signers=signers, problems=problems)


def _signers(
    sealed: Sealed, trust: Trust, rule: ProductRule, now: datetime
) -> tuple[tuple[SignerRecord, ...], tuple[str, ...]]:
    """Check each signature (3), and that the roles are filled (4)."""
    signers, faults = signature_records(sealed, trust, now=now)
    return signers, tuple(map(str, (*faults, *threshold_faults(rule.product, rule.waiver_roles, signers))))


def _same_person(signers: tuple[SignerRecord, ...], subject: WaiverSubject) -> Iterator[str]:
    for person in sorted({s.person for s in signers} & subject.persons):  # (6)
        yield f"{person} signed the manifest too, and who signed it does not waive its environment"
    for signer in signers:  # one key is one person, whatever names certificates give its holder
        if signer.fingerprint in subject.keys and signer.person not in subject.persons:
            yield f"{signer.person} signed with a key that signed the manifest, for another person"


def _mismatches(waiver: Waiver, subject: WaiverSubject, now: datetime) -> Iterator[str]:
    for what, expected, found in (
        ("product", subject.product, waiver.product),  # (7)
        ("root", subject.root, waiver.root),  # (8)
        ("policy", subject.policy_sha256, waiver.policy_sha256),  # (9)
    ):
        if expected != found:
            yield f"it is for another {what}: expected {expected}, found {found}"
    if not now < waiver.expires:  # (10)
        yield f"it expired at {instant_text(waiver.expires)}, and it is {instant_text(now)}"


def change_control_fault(difference: Difference, waivers: tuple[CheckedWaiver, ...]) -> EnvironmentFault:
    """Return the finding of a difference under change control: known answers are not recorded yet, so it halts (11)."""
    about = [str(w) for w in waivers if w.covers(difference)] or [str(w) for w in waivers if w.waiver is None]
    if not about:
        given = "no waiver was given" if not waivers else "no waiver given covers this fact with these values"
        about = [given]
    said = "; ".join(about)
    return difference.fault(
        f"; served only under a waiver and known answers: {said}; this version has no known answers, so it halts"
    )
