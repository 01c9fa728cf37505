# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rfc3161_client
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from weighmaster.errors import MalformedArtefact, SignatureFault, UsageError
from weighmaster.seal.bundle import MAX_TIMESTAMP, make_bundle, open_sealed, parse_bundle, with_timestamp
from weighmaster.seal.check import signature_records
from weighmaster.seal.keys import PrivateKey
from weighmaster.seal.timestamps import claimed_time, query, trusted_time
from weighmaster.seal.trust import TimestampAuthority, Trust

VALUE = b"a signature"
MOMENT = datetime(2030, 6, 1, 12, tzinfo=UTC)
NOW = datetime(2030, 9, 1, tzinfo=UTC)


@pytest.fixture
def trusted(world: SimpleNamespace, trust: Trust) -> Trust:
    made: Trust = world.trusting(trust)
    return made


def _refused(response: bytes, trust: Trust, value: bytes = VALUE) -> str:
    with pytest.raises(SignatureFault) as caught:
        trusted_time(response, value, "t.json", trust=trust, now=NOW)
    assert str(caught.value).startswith("t.json: ")
    return str(caught.value)


def test_a_timestamp_gives_its_moment(world: SimpleNamespace, trusted: Trust) -> None:
    response = world.stamp(MOMENT)(VALUE)
    assert trusted_time(response, VALUE, "t.json", trust=trusted, now=NOW) == MOMENT
    assert claimed_time(response, VALUE, "t.json") == MOMENT


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_hashes_that_are_believed(digest: str, world: SimpleNamespace, trusted: Trust) -> None:
    response = world.stamp(MOMENT, digest=digest)(VALUE)
    assert trusted_time(response, VALUE, "t.json", trust=trusted, now=NOW) == MOMENT


@pytest.mark.parametrize("digest", ["sha1", "sha224", "md5"])
def test_weak_hashes_are_not(digest: str, world: SimpleNamespace, trusted: Trust) -> None:
    text = _refused(world.stamp(MOMENT, digest=digest)(VALUE), trusted)
    assert "the timestamp uses another hash; expected SHA-256, 384 or 512, found " in text


@pytest.mark.requirement("REQ-SEA-14")
def test_the_timestamp_of_another_signature(world: SimpleNamespace, trusted: Trust) -> None:
    """Replay: a genuine timestamp, taken from another bundle."""
    text = _refused(world.stamp(MOMENT)(b"another signature"), trusted)
    assert text == (
        "t.json: the timestamp is over other bytes than this signature"
        f"; expected sha256 {hashlib.sha256(VALUE).hexdigest()}"
        f", found {hashlib.sha256(b'another signature').hexdigest()}"
    )


def test_the_timestamp_of_the_payload_is_not_one_of_the_signature(
    world: SimpleNamespace, trusted: Trust, alice: PrivateKey
) -> None:
    made = make_bundle(b'{"a":1}', alice)
    stamped = with_timestamp(made, world.stamp(MOMENT)(b'{"a":1}'), "b")
    records, (fault,) = signature_records(open_sealed((("b", stamped),)), trusted, now=NOW)
    assert records == ()
    assert "over other bytes than this signature" in str(fault)


@pytest.mark.requirement("REQ-SEA-14")
def test_an_authority_that_is_not_listed(world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust) -> None:
    """Mallory runs a timestamp authority with the names of the listed one."""
    root = pki.authority("Stamping root", key=pki.p256("Mallory"))
    stamper = pki.stamper("Stamper", root, key=pki.p256("Mallory's stamper"))
    text = _refused(world.stamp(MOMENT, by=stamper)(VALUE), trusted)
    assert text.startswith(
        "t.json: the timestamp of 2030-06-01T12:00:00Z does not hold"
        "; expected one by an authority listed in trust.json, found House TSA: validation failed"
    )


def test_the_certificate_of_the_listed_authority_over_a_token_of_another(
    world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    """Mallory signs with a key of their own and puts the genuine certificate in, which is public."""
    forger = pki.Issued(certificate=world.stamper.certificate, key=pki.p256("Mallory"))
    text = _refused(world.stamp(MOMENT, by=forger)(VALUE), trusted)
    assert "found House TSA: Error while verifying certificates" in text


def test_no_authority_is_listed(world: SimpleNamespace, trusted: Trust) -> None:
    text = _refused(world.stamp(MOMENT)(VALUE), replace(trusted, timestamp_authorities=()))
    assert text.endswith("found no timestamp authority is listed")


def test_the_authority_of_the_persons_stamps_nothing(
    world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    """Being listed for certificates is not being listed for time."""
    stamper = pki.stamper("Stamper", world.root)
    assert "House TSA: validation failed" in _refused(world.stamp(MOMENT, by=stamper)(VALUE), trusted)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"purposes": ()}, "no extended key usage"),
        ({"purposes": (ExtendedKeyUsageOID.CODE_SIGNING,)}, "1.3.6.1.5.5.7.3.3"),
        (
            {"purposes": (ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)},
            "a certificate for other purposes too",
        ),
        ({"critical": False}, "a certificate for other purposes too"),
    ],
)
def test_a_certificate_that_is_not_for_timestamps(
    options: Any, reason: str, world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    stamper = pki.stamper("Stamper", world.stamping_root, **options)
    text = _refused(world.stamp(MOMENT, by=stamper)(VALUE), trusted)
    assert text.endswith(f"found House TSA: {reason}")


@pytest.mark.parametrize(("first", "last"), [(-20, -10), (10, 20)])
@pytest.mark.parametrize("which", ["stamper", "root"])
def test_an_authority_that_was_not_valid_then(
    which: str, first: int, last: int, pki: SimpleNamespace, trusted: Trust, world: SimpleNamespace
) -> None:
    days = {"begin": MOMENT + timedelta(days=first), "end": MOMENT + timedelta(days=last)}
    root = pki.authority("Short root", **(days if which == "root" else {}))
    stamper = pki.stamper("Short stamper", root, **(days if which == "stamper" else {}))
    listed = TimestampAuthority(name="Short", certificates=(root.certificate,))
    text = _refused(world.stamp(MOMENT, by=stamper)(VALUE), replace(trusted, timestamp_authorities=(listed,)))
    assert f"one valid from {days['begin']:%Y-%m-%d}T12:00:00Z to {days['end']:%Y-%m-%d}T12:00:00Z" in text


def test_an_authority_that_expired_since_then_still_counts(
    pki: SimpleNamespace, trusted: Trust, world: SimpleNamespace
) -> None:
    end = MOMENT + timedelta(days=1)
    root = pki.authority("Short root", end=end)
    stamper = pki.stamper("Short stamper", root, end=end)
    listed = TimestampAuthority(name="Short", certificates=(root.certificate,))
    both = replace(trusted, timestamp_authorities=(*trusted.timestamp_authorities, listed))
    assert trusted_time(world.stamp(MOMENT, by=stamper)(VALUE), VALUE, "t", trust=both, now=NOW) == MOMENT


def test_intermediates_are_those_listed_and_no_roots(
    world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    between = pki.authority("Stamping CA", by=world.stamping_root)
    stamper = pki.stamper("Lower stamper", between)
    response = world.stamp(MOMENT, by=stamper, carrying=(stamper, between))(VALUE)
    assert "House TSA: validation failed" in _refused(response, trusted)
    listed = replace(trusted.timestamp_authorities[0], intermediates=(between.certificate,))
    with_it = replace(trusted, timestamp_authorities=(listed,))
    assert trusted_time(response, VALUE, "t", trust=with_it, now=NOW) == MOMENT
    other = replace(listed, certificates=(pki.authority("Other root").certificate,))
    assert "validation failed" in _refused(response, replace(trusted, timestamp_authorities=(other,)))


def test_a_token_without_its_certificate(world: SimpleNamespace, trusted: Trust) -> None:
    text = _refused(world.stamp(MOMENT, carrying=())(VALUE), trusted)
    assert text.endswith("found House TSA: 0 certificates of its signer")


@pytest.mark.parametrize(
    ("status", "found"),
    [("granted_with_mods", "granted with changes"), ("rejection", "rejected"), ("waiting", "waiting")],
)
def test_what_was_not_granted(status: str, found: str, world: SimpleNamespace, trusted: Trust) -> None:
    text = _refused(world.stamp(MOMENT, status=status)(VALUE), trusted)
    assert text == f"t.json: the timestamp authority did not grant the timestamp; expected granted, found {found}"


def test_a_refusal_without_a_token(trusted: Trust) -> None:
    assert _refused(bytes.fromhex("30053003020102"), trusted).endswith("expected granted, found rejected")
    assert "cannot be read" in _refused(bytes.fromhex("30053003020100"), trusted)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"garbage", b"\x30\x00", b"\x30\x80\x00\x00", b"\x30\x84\xff\xff\xff\xff"]
)
def test_garbage(data: bytes, trusted: Trust) -> None:
    text = _refused(data, trusted)
    assert text.startswith("t.json: its timestamp cannot be read; expected an RFC 3161 response, found ")


def test_bytes_after_the_response(world: SimpleNamespace, trusted: Trust) -> None:
    assert "cannot be read" in _refused(world.stamp(MOMENT)(VALUE) + b"\0", trusted)


def test_every_truncation(world: SimpleNamespace, trusted: Trust) -> None:
    response = world.stamp(MOMENT)(VALUE)
    for length in range(len(response)):
        _refused(response[:length], trusted)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # a flipped bit makes it negative
def test_no_flipped_bit_gives_another_moment(world: SimpleNamespace, trusted: Trust) -> None:
    """A flipped bit is refused, or changes nothing: two version numbers and the name of the signature algorithm."""
    response = world.stamp(MOMENT)(VALUE)
    unsigned = 0
    for bit in range(8 * len(response)):
        changed = bytearray(response)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert trusted_time(bytes(changed), VALUE, "t.json", trust=trusted, now=NOW) == MOMENT
            unsigned += 1
        except SignatureFault:
            pass
    assert unsigned <= 7 + 7 + 63


@pytest.mark.requirement("REQ-SEA-18")
def test_a_missing_library_is_a_fault(
    world: SimpleNamespace, trusted: Trust, alice: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bundle(b'{"a":1}', alice)
    stamped = with_timestamp(made, world.stamp(MOMENT)(parse_bundle(made, "b").signature.value), "b")
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    records, (fault,) = signature_records(open_sealed((("b.json", stamped),)), trusted, now=NOW)
    assert records == ()
    assert str(fault) == (
        "b.json: its timestamp cannot be verified"
        "; expected the package rfc3161-client (pip install 'weighmaster[time]'), found no such package"
    )
    assert len(signature_records(open_sealed((("b.json", made),)), trusted, now=NOW)[0]) == 1


def test_a_timestamp_stripped_off(world: SimpleNamespace, trusted: Trust) -> None:
    """Without its timestamp a bundle counts by the clock: an expired certificate then fails."""
    late = datetime(2032, 1, 1, tzinfo=UTC)
    stamped = open_sealed((("c.json", world.bundle(stamp=world.stamp(MOMENT))),))
    assert len(signature_records(stamped, trusted, now=late)[0]) == 1
    stripped = replace(stamped, signatures=(replace(stamped.signatures[0], timestamp=None),))
    _, (fault,) = signature_records(stripped, trusted, now=late)
    assert "expected one that is valid at 2032-01-01T00:00:00Z" in str(fault)


# -- the verifier is built anew ---------------------------------------------------------------------------------------


def test_trust_in_one_authority_does_not_leak_into_the_next_check(
    world: SimpleNamespace, pki: SimpleNamespace, trusted: Trust
) -> None:
    """Builders of the library share their lists of roots; ours never meet."""
    root = pki.authority("Second stamping root")
    stamper = pki.stamper("Second stamper", root)
    second = TimestampAuthority(name="Second", certificates=(root.certificate,))
    response, both = (
        world.stamp(MOMENT, by=stamper)(VALUE),
        replace(trusted, timestamp_authorities=(*trusted.timestamp_authorities, second)),
    )
    _refused(response, trusted)
    assert trusted_time(response, VALUE, "t", trust=both, now=NOW) == MOMENT
    _refused(response, trusted)
    assert both.timestamp_authorities[1].certificates == (root.certificate,)


def test_the_library_still_shares(world: SimpleNamespace, pki: SimpleNamespace) -> None:
    """Why they are built anew: when this fails, the library has changed, and the comment in the code can go."""
    first = rfc3161_client.VerifierBuilder(roots=[world.stamping_root.certificate])
    first.add_root_certificate(pki.authority("Another root").certificate)
    assert len(first._roots) == 2


# -- requests and OpenSSL ---------------------------------------------------------------------------------------------


def test_a_request_is_what_openssl_reads(tmp_path: Path) -> None:
    (tmp_path / "q.tsq").write_bytes(query(VALUE))
    text = subprocess.run(
        ["openssl", "ts", "-query", "-in", "q.tsq", "-text"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "Hash Algorithm: sha256" in text
    assert "Nonce: unspecified" in text
    assert "Certificate required: yes" in text
    assert hashlib.sha256(VALUE).hexdigest()[:32] in "".join(text.split()).replace("-", "")
    assert query(VALUE) == query(VALUE)


@pytest.fixture
def openssl(tmp_path: Path, pki: SimpleNamespace) -> Callable[[bytes], bytes]:
    """A timestamp authority run by OpenSSL; it carries the signer's certificate alone."""
    made: Callable[[bytes], bytes] = pki.openssl_authority(tmp_path / "tsa")
    return made


def test_a_timestamp_by_openssl_holds(
    openssl: Callable[[bytes], bytes], tmp_path: Path, trusted: Trust, alice: PrivateKey
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    value = parse_bundle(make_bundle(b'{"a":1}', alice), "b").signature.value
    response, now = openssl(query(value)), datetime.now(UTC)
    root = x509.load_pem_x509_certificate((tmp_path / "tsa" / "root.pem").read_bytes())
    listed = replace(trusted, timestamp_authorities=(TimestampAuthority(name="OpenSSL", certificates=(root,)),))
    assert before <= trusted_time(response, value, "b", trust=listed, now=now) <= now
    with pytest.raises(SignatureFault, match="House TSA: validation failed"):
        trusted_time(response, value, "b", trust=trusted, now=now)


def test_openssl_accepts_the_timestamps_of_these_tests(world: SimpleNamespace, tmp_path: Path) -> None:
    """The hand-made timestamps are genuine ones to another implementation, so that only the intended fault refuses."""
    (tmp_path / "r.tsr").write_bytes(world.stamp(MOMENT)(VALUE))
    (tmp_path / "value").write_bytes(VALUE)
    (tmp_path / "root.pem").write_text(world.stamping_root.pem)
    command = ["openssl", "ts", "-verify", "-in", "r.tsr", "-data", "value", "-CAfile", "root.pem"]
    done = subprocess.run(
        [*command, "-attime", str(int(MOMENT.timestamp()))], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Verification: OK" in done.stdout, done.stderr


# -- into a bundle ----------------------------------------------------------------------------------------------------


def test_a_timestamp_is_added_and_nothing_else_changes(world: SimpleNamespace, alice: PrivateKey) -> None:
    made = make_bundle(b'{"a":1}', alice)
    before, response = parse_bundle(made, "b"), world.stamp(MOMENT)(VALUE)
    after = parse_bundle(with_timestamp(made, response, "b"), "b")
    assert after.signature.timestamp == response
    assert replace(after, signature=replace(after.signature, timestamp=None)) == before


def test_a_second_timestamp_is_refused(world: SimpleNamespace, alice: PrivateKey) -> None:
    stamped = with_timestamp(make_bundle(b'{"a":1}', alice), world.stamp(MOMENT)(VALUE), "b")
    with pytest.raises(UsageError, match="b: expected a bundle without timestamp, found one with: it is not replaced"):
        with_timestamp(stamped, world.stamp(MOMENT)(VALUE), "b")


def test_a_timestamp_beyond_the_limit(alice: PrivateKey) -> None:
    made = make_bundle(b'{"a":1}', alice)
    assert parse_bundle(with_timestamp(made, b"x" * MAX_TIMESTAMP, "b"), "b").signature.timestamp is not None
    with pytest.raises(MalformedArtefact, match=r"signedTimestamp: expected at most 65536 bytes, found 65537"):
        with_timestamp(made, b"x" * (MAX_TIMESTAMP + 1), "b")
