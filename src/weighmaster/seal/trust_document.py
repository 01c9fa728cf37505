# SPDX-License-Identifier: Apache-2.0
"""Read and write a trust document: canonical JSON, every key required, nothing else (spec/trust.md, "Document")."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.fields import Fields
from weighmaster.core.instant import instant_text
from weighmaster.errors import KeyFault
from weighmaster.seal.certificates import parse_certificate
from weighmaster.seal.keys import PublicKey, load_public
from weighmaster.seal.trust import (
    Authority,
    Identity,
    ProductRule,
    RoleThreshold,
    RootKey,
    Roots,
    TimestampAuthority,
    Trust,
    TrustedKey,
)

__all__ = ["PAYLOAD_TYPE", "parse_document", "product_to_json", "trust_to_bytes"]

PAYLOAD_TYPE: Final = "application/vnd.weighmaster.trust.v1+json"
"""The DSSE payload type of a trust document: a signature over it is never one over a statement."""


def parse_document(data: bytes, file: str) -> Trust:
    """Read the bytes of a trust document strictly; whether its keepers signed them is for `trust_chain`.

    Raises:
        MalformedArtefact: it does not follow spec/trust.md; the message names file and field.
    """
    fields = Fields(loads_canonical(data, file), file=file)
    trust = Trust(
        version=fields.integer("version", minimum=1),
        expires=fields.instant("expires"),
        roots=_read_roots(fields.nested("roots")),
        keys=fields.objects("keys", _read_key),
        authorities=fields.objects("authorities", _read_authority),
        identities=fields.objects("identities", _read_identity),
        timestamp_authorities=fields.objects("timestampAuthorities", _read_timestamp_authority),
        products=fields.objects("products", _read_product),
        file=file,
    )
    fields.done()
    return trust


def _read_roots(fields: Fields) -> Roots:
    roots = Roots(keys=fields.objects("keys", _read_root_key), threshold=fields.integer("threshold", minimum=1))
    fields.done()
    return roots


def _read_root_key(fields: Fields) -> RootKey:
    return RootKey(person=fields.text("person"), key=_read_public(fields))


def _read_key(fields: Fields) -> TrustedKey:
    return TrustedKey(
        person=fields.text("person"),
        key=_read_public(fields),
        roles=fields.texts("roles"),
        not_after=fields.optional_instant("notAfter"),
        revoked=fields.boolean("revoked"),
    )


def _read_public(fields: Fields) -> PublicKey:
    """Return the key; its PEM has one spelling, so that no comment or second key hides beside it."""
    text = fields.text("publicKey")
    try:
        key = load_public(text.encode("utf-8"))
    except KeyFault as fault:
        raise fields.fault("publicKey", "a public key", str(fault)) from None
    if key.pem.decode("ascii") != text:
        raise fields.fault("publicKey", "the PEM exactly as `openssl pkey -pubin` writes it", "another spelling")
    return key


def _read_authority(fields: Fields) -> Authority:
    return Authority(
        name=fields.text("name"),
        certificate=_certificate(fields, "certificate", fields.text("certificate")),
        intermediates=_certificates(fields, "intermediates"),
        revoked_serials=fields.texts("revokedSerials"),
    )


def _certificates(fields: Fields, key: str) -> tuple[x509.Certificate, ...]:
    return tuple(_certificate(fields, f"{key}[{i}]", text) for i, text in enumerate(fields.texts(key)))


def _certificate(fields: Fields, key: str, text: str) -> x509.Certificate:
    """Return the certificate; its PEM has one spelling, as that of a key."""
    try:
        certificate = parse_certificate(text.encode("utf-8"), pem=True)
    except ValueError as error:
        raise fields.fault(key, "an X.509 certificate in PEM", str(error)) from None
    if certificate.public_bytes(Encoding.PEM).decode("ascii") != text:
        raise fields.fault(key, "the PEM exactly as `openssl x509` writes it", "another spelling")
    return certificate


def _read_identity(fields: Fields) -> Identity:
    return Identity(
        person=fields.text("person"),
        authority=fields.text("authority"),
        subject=fields.text("subject"),
        roles=fields.texts("roles"),
        revoked=fields.boolean("revoked"),
    )


def _read_timestamp_authority(fields: Fields) -> TimestampAuthority:
    return TimestampAuthority(
        name=fields.text("name"),
        certificates=_certificates(fields, "certificates"),
        intermediates=_certificates(fields, "intermediates"),
    )


def _read_product(fields: Fields) -> ProductRule:
    return ProductRule(
        product=fields.text("product"),
        required_roles=fields.objects("requiredRoles", _read_threshold),
        accepted_roots=fields.texts("acceptedRoots"),
        minimum_serial=fields.integer("minimumSerial"),
        revoked_roots=fields.texts("revokedRoots"),
        max_excluded_bytes=fields.decimal("maxExcludedBytes"),
        waiver_roles=fields.objects("waiverRoles", _read_threshold),
    )


def _read_threshold(fields: Fields) -> RoleThreshold:
    return RoleThreshold(role=fields.text("role"), threshold=fields.integer("threshold", minimum=1))


def trust_to_bytes(trust: Trust) -> bytes:
    """Return the document in canonical form, all lists in their order: the bytes that keepers sign."""
    return dumps(
        {
            "version": trust.version,
            "expires": instant_text(trust.expires),
            "roots": trust.roots.document(),
            "keys": [_key_to_json(key) for key in trust.keys],
            "authorities": [_authority_to_json(authority) for authority in trust.authorities],
            "identities": [_identity_to_json(identity) for identity in trust.identities],
            "timestampAuthorities": [
                {"name": t.name, "certificates": _pems(t.certificates), "intermediates": _pems(t.intermediates)}
                for t in trust.timestamp_authorities
            ],
            "products": [product_to_json(rule) for rule in trust.products],
        }
    )


def _key_to_json(key: TrustedKey) -> dict[str, object]:
    return {
        "person": key.person,
        "publicKey": key.key.pem.decode("ascii"),
        "roles": key.roles,
        "notAfter": None if key.not_after is None else instant_text(key.not_after),
        "revoked": key.revoked,
    }


def _authority_to_json(authority: Authority) -> dict[str, object]:
    return {
        "name": authority.name,
        "certificate": _pems((authority.certificate,))[0],
        "intermediates": _pems(authority.intermediates),
        "revokedSerials": authority.revoked_serials,
    }


def _pems(certificates: tuple[x509.Certificate, ...]) -> list[str]:
    return [certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in certificates]


def _identity_to_json(identity: Identity) -> dict[str, object]:
    return {
        "person": identity.person,
        "authority": identity.authority,
        "subject": identity.subject,
        "roles": identity.roles,
        "revoked": identity.revoked,
    }


def product_to_json(rule: ProductRule) -> dict[str, object]:
    """Return the JSON object of one product's rule."""
    return {
        "product": rule.product,
        "requiredRoles": [{"role": r.role, "threshold": r.threshold} for r in rule.required_roles],
        "acceptedRoots": rule.accepted_roots,
        "minimumSerial": rule.minimum_serial,
        "revokedRoots": rule.revoked_roots,
        "maxExcludedBytes": str(rule.max_excluded_bytes),
        "waiverRoles": [{"role": r.role, "threshold": r.threshold} for r in rule.waiver_roles],
    }
