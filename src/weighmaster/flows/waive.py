# SPDX-License-Identifier: Apache-2.0
"""Waive: sign one's consent to named differences from the environment that a manifest was validated in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from weighmaster.core.environment import Environment
from weighmaster.core.judgement import Difference, judge
from weighmaster.core.waiver import WaivedFact, Waiver, parse_waiver
from weighmaster.durable import read_whole, write_atomically
from weighmaster.errors import UsageError
from weighmaster.flows.artefact import Manifest
from weighmaster.seal.bundle import MAX_BUNDLE, Signer, make_bundle, parse_bundle

__all__ = ["countersign", "waive"]


def waive(
    manifest: Manifest,
    found: Environment,
    key: Signer,
    out: Path,
    *,
    facts: Sequence[str],
    reason: str,
    expires: datetime,
) -> Waiver:
    """Sign a waiver for differences under change control, and write its bundle to `out`.

    Args:
        manifest: whose environment is the validated one; who signed it is not asked here.
        found: the environment in which the model is to run.
        key: of the person who consents.
        out: a new file.
        facts: names; each must differ, and its rule must ask for change control.
        reason: why, for people.
        expires: the moment from which the waiver counts no more.

    Raises:
        UsageError: a fact that does not differ or cannot be waived, an empty reason, or `out` exists.
    """
    if manifest.environment is None or manifest.policy is None:
        raise UsageError("the manifest has no environment, so there is nothing to waive")
    differences = {d.fact: d for d in judge(manifest.environment, found, manifest.policy)}
    try:
        waiver = Waiver(
            product=manifest.statement.product,
            root=manifest.root,
            policy_sha256=manifest.policy.sha256,
            reason=reason,
            expires=expires,
            facts=tuple(_waived(name, differences.get(name)) for name in sorted(set(facts))),
        )
    except ValueError as error:
        raise UsageError(f"no such waiver can be made: {error}") from None
    write_atomically(out, make_bundle(waiver.to_bytes(), key), replace=False)
    return waiver


def _waived(name: str, difference: Difference | None) -> WaivedFact:
    if difference is None:
        raise UsageError(f"{name}: is no difference between the two environments under the policy of the manifest")
    if difference.level != "change-control":
        raise UsageError(
            f"{name}: only what is under change control can be waived; expected a rule with change-control, "
            f"found {difference.decided}"
        )
    return WaivedFact.of(difference)


def countersign(manifest: Manifest, bundle: Path, key: Signer, out: Path) -> Waiver:
    """Sign the payload of another person's waiver, byte for byte, and write a bundle of one's own to `out`.

    Raises:
        UsageError: the waiver is not for this manifest, or `out` exists.
        MalformedArtefact: the bundle or its payload does not follow its specification.
    """
    payload = parse_bundle(read_whole(bundle, limit=MAX_BUNDLE), str(bundle)).payload
    waiver = parse_waiver(payload, str(bundle))
    policy = manifest.policy.sha256 if manifest.policy is not None else "none"
    expected, found = (
        (manifest.statement.product, manifest.root, policy),
        (waiver.product, waiver.root, waiver.policy_sha256),
    )
    if expected != found:
        raise UsageError(f"{bundle}: is not for this manifest; expected {expected}, found {found}")
    write_atomically(out, make_bundle(payload, key), replace=False)
    return waiver
