# SPDX-License-Identifier: Apache-2.0
"""Print a trust file: its state, who keeps it, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import weighmaster as wm
from weighmaster.cli.printing import pairs
from weighmaster.cli.verb import Outcome
from weighmaster.core.instant import instant_text
from weighmaster.errors import NotAdmitted
from weighmaster.seal.trust_chain import Chain, expiry_faults, missing_signatures, verify_chain
from weighmaster.seal.trust_document import product_to_json

__all__ = ["shown"]


def shown(chain: Chain, now: datetime, roots: str | None = None) -> Outcome:
    """Return the current version for print.

    Args:
        chain: the trust file.
        now: moment at which it must be in force.
        roots: the pin, or None where nothing is to be verified.

    Raises:
        NotAdmitted: a pin was given, and the file does not hold from there.
    """
    trust, missing, late = chain.current.trust, missing_signatures(chain), expiry_faults(chain.current.trust, now)
    if roots is not None:
        _, faults = verify_chain(chain, roots)
        if faults or late:
            raise NotAdmitted(f"{chain.file}: the trust file does not hold", (*faults, *late))
    state = _state(missing, expired=bool(late), pinned=roots is not None)
    document = {
        "result": "trust",
        "file": chain.file,
        "state": state,
        "pinned": roots is not None,
        "version": trust.version,
        "expires": instant_text(trust.expires),
        "rootsFingerprint": trust.roots.fingerprint,
        "missing": missing,
        "rotations": [e.trust.roots.fingerprint for e in chain.envelopes[:-1]],
        "roots": {
            "threshold": trust.roots.threshold,
            "keys": [{"person": k.person, "fingerprint": k.key.fingerprint} for k in trust.roots.keys],
        },
        "keys": [_key_document(k) for k in trust.keys],
        "authorities": [
            {"name": a.name, "subject": a.certificate.subject.rfc4514_string(), "revokedSerials": a.revoked_serials}
            for a in trust.authorities
        ],
        "identities": [
            {"person": i.person, "authority": i.authority, "subject": i.subject, "roles": i.roles, "revoked": i.revoked}
            for i in trust.identities
        ],
        "timestampAuthorities": [{"name": t.name} for t in trust.timestamp_authorities],
        "products": [product_to_json(p) for p in trust.products],
    }
    rows = [("trust file", f"{chain.file}, version {trust.version}"), ("state", state)]
    rows += [("", line) for line in missing]
    return Outcome(document=document, text=pairs((*rows, *_rows(trust))))


def _state(missing: tuple[str, ...], *, expired: bool, pinned: bool) -> str:
    if missing:
        return "NOT IN FORCE: signatures are missing (weighmaster trust sign)"
    if expired:
        return "NOT IN FORCE: it has expired"
    return "holds from the pinned roots" if pinned else "signed by its keepers; not verified from a pin (--roots)"


def _key_document(key: wm.TrustedKey) -> dict[str, object]:
    return {
        "person": key.person,
        "fingerprint": key.key.fingerprint,
        "kind": key.key.kind,
        "roles": key.roles,
        "notAfter": None if key.not_after is None else instant_text(key.not_after),
        "revoked": key.revoked,
    }


def _rows(trust: wm.Trust) -> Iterator[tuple[str, str]]:
    yield "expires", instant_text(trust.expires)
    keepers = [f"{k.person}, {k.key.kind}\n{k.key.fingerprint}" for k in trust.roots.keys]
    yield "roots", f"{trust.roots.fingerprint} (pin this)\nat least {trust.roots.threshold} of these persons sign"
    yield from (("keeper", keeper) for keeper in keepers)
    for key in trust.keys:
        until = "" if key.not_after is None else f", not after {instant_text(key.not_after)}"
        state = "REVOKED, " if key.revoked else ""
        yield "key", f"{key.person}: {state}{' and '.join(key.roles)}, {key.key.kind}{until}\n{key.key.fingerprint}"
    for authority in trust.authorities:
        revoked = f"\nrevoked certificates: {', '.join(authority.revoked_serials)}" if authority.revoked_serials else ""
        yield "authority", f"{authority.name}: {authority.certificate.subject.rfc4514_string()}{revoked}"
    for i in trust.identities:
        state = "REVOKED, " if i.revoked else ""
        yield "identity", f"{i.person}: {state}{' and '.join(i.roles)}, {i.subject} of {i.authority}"
    yield from (("timestamps", t.name) for t in trust.timestamp_authorities)
    yield from (("product", "\n".join(_rule_lines(rule))) for rule in trust.products)


def _rule_lines(rule: wm.ProductRule) -> list[str]:
    accepted = ", ".join(rule.accepted_roots) or "any that is signed"
    return [
        f"{rule.product}: required {_required(rule.required_roles)}; minimum serial {rule.minimum_serial}",
        f"accepted roots: {accepted}",
        f"revoked roots: {', '.join(rule.revoked_roots) or 'none'}",
        f"consumed bytes that may stay unverified: at most {rule.max_excluded_bytes:,}",
        f"waivers: {_required(rule.waiver_roles) or 'none accepted'}",
    ]


def _required(thresholds: tuple[wm.RoleThreshold, ...]) -> str:
    return ", ".join(f"{r.role}={r.threshold}" for r in thresholds)
