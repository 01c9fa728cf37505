# SPDX-License-Identifier: Apache-2.0
"""securesystemslib on our envelopes: the seal's, and one of the trust file with a threshold of keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import Any

import pytest
from interop.bundles import GENUINE, encode, flipped, ours, seal_cases
from interop.conftest import Release
from interop.verdicts import BOTH, LAXER, NEITHER, Verdicts, refusing

from weighmaster.core.canonical import dumps
from weighmaster.seal.dsse import pae
from weighmaster.seal.keys import InvalidSignature, PrivateKey, PublicKey

dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib: not installed")
signer = pytest.importorskip("securesystemslib.signer")
formats = pytest.importorskip("securesystemslib.exceptions")

TOOL, VERSION = "securesystemslib", version_of("securesystemslib")
REFUSALS = (formats.VerificationError, formats.FormatError, ValueError, KeyError)
TRUST_TYPE = "application/vnd.weighmaster.trust.v1+json"
# It is handed the envelope alone and sees nothing of what stands around it.
LAX = {
    "base64_pad_bits",
    "log_entry",
    "media_type",
    "unknown_key",
    "hint_of_another_key",
    "key_twice",
}


def their_key(key: PublicKey, keyid: str) -> Any:
    edwards = key.kind == "ed25519"
    raw = key._key.public_bytes_raw().hex() if edwards else key.pem.decode()
    kind = ("ed25519", "ed25519") if edwards else ("ecdsa", "ecdsa-sha2-nistp256")
    return signer.SSlibKey(keyid, *kind, {"public": raw})


def verify(envelope: dict[str, Any], keys: Sequence[Any], threshold: int) -> None:
    """Verify a copy: `from_dict` takes the signatures out of what it is given."""
    dsse.Envelope.from_dict(json.loads(json.dumps(envelope))).verify(list(keys), threshold)


def seal_verdict(verdicts: Verdicts, case: str, data: bytes, key: PublicKey) -> str:
    return verdicts.ask(
        TOOL,
        VERSION,
        f"{case}, {key.kind}",
        ours=lambda: ours(data, key),
        theirs=refusing(REFUSALS, lambda: verify(json.loads(data)["dsseEnvelope"], [their_key(key, "")], 1)),
    )


@pytest.mark.requirement("REQ-INT-02")
@pytest.mark.parametrize("kind", ["signer", "edwards"])
def test_seals(kind: str, release: Release, verdicts: Verdicts) -> None:
    key = release.key if kind == "signer" else release.edwards
    cases = seal_cases(release.manifest.payload, key, release.other)
    found = {case: seal_verdict(verdicts, case, data, key.public) for case, data in cases.items()}
    assert found == {c: BOTH if c in GENUINE else LAXER if c in LAX else NEITHER for c in cases}


def test_another_key(release: Release, verdicts: Verdicts) -> None:
    data = seal_cases(release.manifest.payload, release.key, release.other)["genuine"]
    assert seal_verdict(verdicts, "verified with another key", data, release.other.public) == NEITHER


# -- the envelope of a trust file: several signatures, each named by the fingerprint of its key -----------------------


def trust_envelope(payload: bytes, *keys: PrivateKey) -> dict[str, Any]:
    """Return a DSSE envelope as a trust file has it."""
    signatures = [{"keyid": k.public.fingerprint, "sig": encode(k.sign(pae(TRUST_TYPE, payload)))} for k in keys]
    return {"payload": encode(payload), "payloadType": TRUST_TYPE, "signatures": signatures}


def two_of(keys: Sequence[PublicKey], envelope: dict[str, Any]) -> None:
    """Verify by the rule of the trust file in the fewest words: distinct listed keys, all verify, at least two."""
    message = pae(envelope["payloadType"], base64.b64decode(envelope["payload"]))
    listed = {k.fingerprint: k for k in keys}
    named = [s["keyid"] for s in envelope["signatures"]]
    if len(set(named)) < 2 or len(set(named)) != len(named) or not set(named) <= set(listed):
        raise InvalidSignature
    for signature in envelope["signatures"]:
        listed[signature["keyid"]].verify(base64.b64decode(signature["sig"]), message)


def trust_cases(a: PrivateKey, b: PrivateKey, stranger: PrivateKey) -> dict[str, tuple[dict[str, Any], str]]:
    payload = dumps({"expires": "2030-01-01T00:00:00Z", "version": 1})
    good = trust_envelope(payload, a, b)
    one, two = good["signatures"]
    return {
        "two of two": (good, BOTH),
        "one of two": ({**good, "signatures": [one]}, NEITHER),
        "one key twice": ({**good, "signatures": [one, one]}, NEITHER),
        "one key twice, signed twice": (trust_envelope(payload, a, a), NEITHER),
        "a stranger for the second": (trust_envelope(payload, a, stranger), NEITHER),
        "a stranger under the second's name": ({**good, "signatures": [
            one, {**trust_envelope(payload, stranger)["signatures"][0], "keyid": two["keyid"]}]}, NEITHER),
        "payload bit": ({**good, "payload": flipped(good["payload"])}, NEITHER),
        "signature bit": ({**good, "signatures": [one, {**two, "sig": flipped(two["sig"])}]}, NEITHER),
        "relabelled": ({**good, "payloadType": "application/vnd.in-toto+json"}, NEITHER),
        "signatures swapped": ({**good, "signatures": [
            {**one, "sig": two["sig"]}, {**two, "sig": one["sig"]}]}, NEITHER),
        "a stranger beside two": (trust_envelope(payload, a, b, stranger), LAXER),
    }  # fmt: skip


@pytest.mark.requirement("REQ-INT-02")
def test_trust_envelopes_with_a_threshold_of_two(release: Release, verdicts: Verdicts) -> None:
    keys = [release.key.public, release.edwards.public]
    theirs = [their_key(k, k.fingerprint) for k in keys]
    cases = trust_cases(release.key, release.edwards, release.other)
    found = {
        case: verdicts.ask(
            TOOL,
            VERSION,
            f"trust envelope: {case}",
            ours=lambda envelope=envelope: two_of(keys, envelope),
            theirs=refusing(REFUSALS, lambda envelope=envelope: verify(envelope, theirs, 2)),
        )
        for case, (envelope, _) in cases.items()
    }
    assert found == {case: wanted for case, (_, wanted) in cases.items()}
