# SPDX-License-Identifier: Apache-2.0
"""securesystemslib on our envelopes: the seal's, and one of the trust file with a threshold of keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from typing import Any

import pytest
from interop.bundles import GENUINE, encode, flipped, ours, seal_cases
from interop.conftest import Release
from interop.verdicts import BOTH, LAXER, NEITHER, Verdicts, refusing

from weighmaster.core.canonical import dumps
from weighmaster.seal.dsse import pae
from weighmaster.seal.keys import PrivateKey, PublicKey
from weighmaster.seal.trust import RootKey, Roots, Trust
from weighmaster.seal.trust_chain import (
    SCHEME,
    VerifiedTrust,
    chain_to_bytes,
    countersign,
    new_chain,
    open_trust,
    parse_chain,
)
from weighmaster.seal.trust_document import PAYLOAD_TYPE

dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib: not installed")
signer = pytest.importorskip("securesystemslib.signer")
formats = pytest.importorskip("securesystemslib.exceptions")

TOOL, VERSION = "securesystemslib", version_of("securesystemslib")
REFUSALS = (formats.VerificationError, formats.FormatError, ValueError, KeyError)
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


NOW = datetime(2030, 1, 1, tzinfo=UTC)


def trust_file(a: PrivateKey, b: PrivateKey, *, threshold: int = 2) -> bytes:
    """Return a trust file that Rosa and Sam keep and both signed."""
    keepers = (RootKey(person="Rosa", key=a.public), RootKey(person="Sam", key=b.public))
    trust = Trust(expires=datetime(2100, 1, 1, tzinfo=UTC), roots=Roots(keys=keepers, threshold=threshold))
    return chain_to_bytes(countersign(countersign(new_chain(trust, "trust.json"), a), b))


def trust_envelope(payload: bytes, *keys: PrivateKey) -> dict[str, Any]:
    """Return a DSSE envelope as a trust file has it, signed by these keys."""
    signatures = [{"keyid": k.public.fingerprint, "sig": encode(k.sign(pae(PAYLOAD_TYPE, payload)))} for k in keys]
    return {"payload": encode(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}


def open_envelope(envelope: dict[str, Any], pin: str) -> VerifiedTrust:
    """Open a trust file of this one envelope, as every gate does."""
    return open_trust(dumps({"scheme": SCHEME, "envelopes": [envelope]}), "trust.json", roots=pin, now=NOW)


def trust_cases(a: PrivateKey, b: PrivateKey, stranger: PrivateKey) -> dict[str, tuple[dict[str, Any], str]]:
    good = json.loads(trust_file(a, b))["envelopes"][0]
    payload = base64.b64decode(good["payload"])
    one, two = good["signatures"]
    return {
        "as we wrote it": (good, BOTH),
        "signed for the test": (trust_envelope(payload, a, b), BOTH),
        "in the other order": ({**good, "signatures": [two, one]}, BOTH),
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
        "payload of another document": (
            {**good, "payload": json.loads(trust_file(a, b, threshold=1))["envelopes"][0]["payload"]}, NEITHER),
    }  # fmt: skip


@pytest.mark.requirement("REQ-INT-02")
def test_trust_envelopes_with_a_threshold_of_two(release: Release, verdicts: Verdicts) -> None:
    keys = [release.key.public, release.edwards.public]
    theirs = [their_key(k, k.fingerprint) for k in keys]
    pin = parse_chain(trust_file(release.key, release.edwards), "trust.json").current.trust.roots.fingerprint
    cases = trust_cases(release.key, release.edwards, release.other)
    found = {
        case: verdicts.ask(
            TOOL,
            VERSION,
            f"trust envelope: {case}",
            ours=lambda envelope=envelope: open_envelope(envelope, pin),
            theirs=refusing(REFUSALS, lambda envelope=envelope: verify(envelope, theirs, 2)),
        )
        for case, (envelope, _) in cases.items()
    }
    assert found == {case: wanted for case, (_, wanted) in cases.items()}


def sign_by_theirs(payload: bytes, keys: Sequence[PrivateKey]) -> dict[str, Any]:
    """Return an envelope that the library's own signers signed, under the key names of a trust file."""
    envelope = dsse.Envelope(payload, PAYLOAD_TYPE, {})
    for key in keys:
        envelope.sign(signer.CryptoSigner(key._key, their_key(key.public, key.public.fingerprint)))
    found: dict[str, Any] = envelope.to_dict()
    return found


@pytest.mark.requirement("REQ-INT-02")
def test_we_open_a_trust_file_that_the_library_signed(release: Release, verdicts: Verdicts) -> None:
    both = (release.key, release.edwards)
    data = trust_file(*both)
    trust = parse_chain(data, "trust.json").current
    theirs = [their_key(k.public, k.public.fingerprint) for k in both]
    for case, keys, wanted in (("both", both, BOTH), ("one", both[:1], NEITHER)):
        envelope = sign_by_theirs(trust.payload, keys)
        found = verdicts.ask(
            TOOL,
            VERSION,
            f"trust envelope signed by the library, {case} of two",
            ours=lambda envelope=envelope: open_envelope(envelope, trust.trust.roots.fingerprint),
            theirs=refusing(REFUSALS, lambda envelope=envelope: verify(envelope, theirs, 2)),
        )
        assert found == wanted
