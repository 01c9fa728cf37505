# SPDX-License-Identifier: Apache-2.0
"""Whatever lies in the place of a certificate or a timestamp is refused with the promised fault, or changes nothing."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weighmaster.errors import KeyFault, SignatureFault
from weighmaster.seal.bundle import make_bundle, parse_bundle
from weighmaster.seal.certificates import certified
from weighmaster.seal.keys import PrivateKey
from weighmaster.seal.timestamps import trusted_time
from weighmaster.seal.trust import Authority, Identity, RootKey, Roots, TimestampAuthority, Trust

PKI = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "vectors" / "seal" / "pki.py")))
NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
VALUE = b"a signature"
ROOT, STAMPING = PKI.authority("Root"), PKI.authority("Stamping root")
CAROL = PKI.leaf("Carol", ROOT, x509.RFC822Name("carol@example.org"))
STAMP = PKI.timestamp(VALUE, PKI.stamper("Stamper", STAMPING), NOW)
TRUST = Trust(
    expires=datetime(2100, 1, 1, tzinfo=UTC),
    roots=Roots(keys=(RootKey(person="Rosa", key=PrivateKey(PKI.p256("Rosa")).public),), threshold=1),
    authorities=(Authority(name="House", certificate=ROOT.certificate),),
    identities=(Identity(person="Carol", authority="House", subject="email:carol@example.org", roles=("signer",)),),
    timestamp_authorities=(TimestampAuthority(name="House", certificates=(STAMPING.certificate,)),),
)


@st.composite
def edits(draw: st.DrawFn, data: bytes) -> bytes:
    """Return `data` with some bytes replaced, dropped or put in, at up to three places."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(out)))
        out[start : start + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(out)


def _outcome(work: Callable[[], Any]) -> Any:
    """Return what `work` returns, or the fault that it is promised to raise; let any other exception through."""
    try:
        return work()
    except (SignatureFault, KeyFault) as fault:
        return fault


pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


@settings(deadline=None, max_examples=300)
@given(edits(STAMP) | st.binary(max_size=80))
@example(STAMP)
def test_timestamps(data: bytes) -> None:
    outcome = _outcome(lambda: trusted_time(data, VALUE, "t", trust=TRUST, now=NOW))
    assert outcome == NOW if isinstance(outcome, datetime) else outcome.subject == "t"


@settings(deadline=None, max_examples=300)
@given(edits(CAROL.der) | st.binary(max_size=80))
@example(CAROL.der)
def test_certificates(data: bytes) -> None:
    outcome = _outcome(lambda: certified(data, "c", TRUST, NOW))
    if isinstance(outcome, SignatureFault):
        assert outcome.subject == "c"
    else:
        certificate = x509.load_der_x509_certificate(data)
        assert outcome.person == "Carol"
        assert certificate.tbs_certificate_bytes == CAROL.certificate.tbs_certificate_bytes


@given(edits(CAROL.der))
def test_a_bundle_carries_only_a_certificate_of_its_key(data: bytes) -> None:
    made = _outcome(lambda: make_bundle(b"payload", PrivateKey(CAROL.key), certificate=data))
    if isinstance(made, KeyFault):
        assert "the certificate" in str(made)
    else:
        assert parse_bundle(made, "b").signature.certificate == data
