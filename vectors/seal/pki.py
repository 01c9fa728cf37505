# SPDX-License-Identifier: Apache-2.0
"""Make certificates and timestamps for tests, right ones and wrong ones; the same bytes every time.

The keys follow from labels, and ECDSA signatures use the nonce of RFC 6979. Nothing here is for use: whoever trusts one
of these authorities trusts everybody. The timestamps are put together by hand, because a timestamp authority that does
its duty makes none at another time than now, and none that is wrong.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

CODE_SIGNING: Final = ExtendedKeyUsageOID.CODE_SIGNING
TIME_STAMPING: Final = ExtendedKeyUsageOID.TIME_STAMPING
BEGIN: Final = datetime(2030, 1, 1, tzinfo=UTC)
END: Final = datetime(2031, 1, 1, tzinfo=UTC)

_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def seed(label: str) -> bytes:
    """Return 32 bytes that follow from the label."""
    return hashlib.sha256(f"weighmaster test key, trusted by nobody: {label}".encode()).digest()


def p256(label: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 test key of this label."""
    return ec.derive_private_key(int.from_bytes(seed(label)), ec.SECP256R1())


def edwards(label: str) -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 test key of this label."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed(label))


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode("ascii")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in _USAGES})


def issue(
    subject: str,
    *,
    by: Issued | None = None,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    begin: datetime = BEGIN,
    end: datetime = END,
    serial: int | None = None,
) -> Issued:
    """Return a certificate with these extensions, as pairs of extension and whether critical, and key identifiers.

    Args:
        subject: common name; without `key`, also the label of a P-256 key.
        by: who issues it; None for a certificate signed by itself.
        key: private key of the holder.
        extensions: in their order.
        begin: first moment of validity.
        end: last moment of validity.
        serial: serial number; without it, one that follows from the subject.
    """
    own = p256(subject) if key is None else key
    signing, issuer = (own, subject) if by is None else (by.key, by.certificate.subject)
    builder = x509.CertificateBuilder(
        subject_name=_name(subject),
        issuer_name=_name(issuer) if isinstance(issuer, str) else issuer,
        public_key=own.public_key(),
        serial_number=int.from_bytes(seed(f"serial {subject}")[:8]) if serial is None else serial,
        not_valid_before=begin,
        not_valid_after=end,
    )
    for extension, critical in [*extensions, *_identifiers(own, by)]:
        builder = builder.add_extension(extension, critical)
    elliptic = isinstance(signing, ec.EllipticCurvePrivateKey)
    algorithm = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = builder.sign(signing, algorithm, ecdsa_deterministic=True if elliptic else None)
    return Issued(certificate=made, key=own)


def _identifiers(key: CertificateIssuerPrivateKeyTypes, by: Issued | None) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the identifiers of own and issuer's key, which RFC 5280 asks for and a strict OpenSSL misses otherwise."""
    own = (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    if by is None:
        return [own]
    return [own, (x509.AuthorityKeyIdentifier.from_issuer_public_key(by.certificate.public_key()), False)]


def authority(subject: str, *, by: Issued | None = None, path_length: int | None = None, **options: Any) -> Issued:
    """Return a certification authority: a root, or an intermediate one if issued `by` another."""
    extensions = [(x509.BasicConstraints(ca=True, path_length=path_length), True), (_usage("key_cert_sign"), True)]
    return issue(subject, by=by, extensions=extensions, **options)


def leaf(
    subject: str,
    by: Issued,
    *names: x509.GeneralName,
    purposes: Sequence[ObjectIdentifier] = (CODE_SIGNING,),
    **options: Any,
) -> Issued:
    """Return a certificate for signing, with these subject alternative names and extended key usages."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [(_usage("digital_signature"), True)]
    if purposes:
        extensions.append((x509.ExtendedKeyUsage(purposes), False))
    if names:
        extensions.append((x509.SubjectAlternativeName(names), False))
    return issue(subject, by=by, extensions=extensions, **options)


def stamper(
    subject: str,
    by: Issued,
    *,
    purposes: Sequence[ObjectIdentifier] = (TIME_STAMPING,),
    critical: bool = True,
    **options: Any,
) -> Issued:
    """Return the certificate of a timestamp authority."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [(_usage("digital_signature"), True)]
    if purposes:
        extensions.append((x509.ExtendedKeyUsage(purposes), critical))
    return issue(subject, by=by, extensions=extensions, **options)


def timestamp(
    value: bytes,
    by: Issued,
    moment: datetime | str,
    *,
    status: str = "granted",
    digest: str = "sha256",
    carrying: Sequence[Issued] | None = None,
) -> bytes:
    """Return a timestamp response (RFC 3161) over `value`, in DER.

    Args:
        value: what is stamped.
        by: the timestamp authority.
        moment: genTime; as text, exactly these characters.
        status: of the response; a token is there in any case.
        digest: hash of the message imprint.
        carrying: certificates in the token; without it, the authority's own.
    """
    text = moment if isinstance(moment, str) else moment.strftime("%Y%m%d%H%M%SZ")
    info = tsp.TSTInfo(
        {
            "version": "v1",
            "policy": "1.2.3.4.1",
            "message_imprint": {
                "hash_algorithm": {"algorithm": digest},
                "hashed_message": hashlib.new(digest, value).digest(),
            },
            "serial_number": 1,
            "gen_time": core.GeneralizedTime(contents=text.encode("ascii")),
        }
    ).dump()
    holder = asn1_x509.Certificate.load(by.der)
    certificates = [asn1_x509.Certificate.load(c.der) for c in ((by,) if carrying is None else carrying)]
    signed = cms.SignedData(
        {
            "version": "v3",
            "digest_algorithms": [{"algorithm": "sha256"}],
            "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(info)},
            "certificates": certificates,
            "signer_infos": [_signer_info(info, by, holder)],
        }
    )
    token = cms.ContentInfo({"content_type": "signed_data", "content": signed})
    return tsp.TimeStampResp({"status": {"status": status}, "time_stamp_token": token}).dump()


def _signer_info(info: bytes, by: Issued, holder: asn1_x509.Certificate) -> cms.SignerInfo:
    identifier = {"hash_algorithm": {"algorithm": "sha256"}, "cert_hash": hashlib.sha256(by.der).digest()}
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "message_digest", "values": [hashlib.sha256(info).digest()]},
            {"type": "signing_certificate_v2", "values": [tsp.SigningCertificateV2({"certs": [identifier]})]},
        ]
    )
    if not isinstance(by.key, ec.EllipticCurvePrivateKey):
        raise TypeError("expected a P-256 key of a timestamp authority")
    signature = by.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    number = {"issuer": holder.issuer, "serial_number": holder.serial_number}
    return cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.IssuerAndSerialNumber(number),
            "digest_algorithm": {"algorithm": "sha256"},
            "signed_attrs": attributes,
            "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
            "signature": signature,
        }
    )


_OPENSSL: Final = """\
[tsa]
default_tsa = own
[own]
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
accuracy = secs:1
"""
# No `certs`: OpenSSL 3.0 writes more than one certificate in an order that strict DER readers refuse.


def openssl_authority(directory: Path) -> Callable[[bytes], bytes]:
    """Make a timestamp authority that OpenSSL runs; return what turns a query into a response, by the true time.

    Args:
        directory: where its files are made; ``root.pem`` in it is the certificate to trust.
    """
    years = {"begin": datetime(2020, 1, 1, tzinfo=UTC), "end": datetime(2120, 1, 1, tzinfo=UTC)}
    root = authority("OpenSSL stamping root", **years)
    own = stamper("OpenSSL stamper", root, **years)
    directory.mkdir(parents=True)
    key = own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = {"root.pem": root.pem, "tsa.pem": own.pem, "tsa.key": key.decode("ascii"), "serial": "01\n"}
    for name, text in {**files, "tsa.cnf": _OPENSSL}.items():
        (directory / name).write_text(text)

    def reply(request: bytes) -> bytes:
        (directory / "q.tsq").write_bytes(request)
        command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "q.tsq", "-out", "r.tsr"]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
        return (directory / "r.tsr").read_bytes()

    return reply
