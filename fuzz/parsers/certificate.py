# SPDX-License-Identifier: Apache-2.0
"""seal.certificates.parse_certificate: a certificate in DER, read to its last field."""

from __future__ import annotations

import runpy
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fuzz.harness import ROOT, refused_or_read, require
from weighmaster.errors import KeyFault
from weighmaster.seal.certificates import certified_key, parse_certificate, subjects

PKI: Final = runpy.run_path(str(ROOT / "vectors" / "seal" / "pki.py"))
AUTHORITY: Final = PKI["authority"]("Root CA")
SEEDS = ()
INPUTS = (AUTHORITY.der, PKI["leaf"]("Carol", AUTHORITY, x509.RFC822Name("carol@example.org")).der)


def one(data: bytes) -> None:
    """What is accepted is written as it was read; asking for its key and its names raises nothing but words."""
    certificate = refused_or_read(data, parse_certificate, (ValueError,))
    if certificate is None:
        return
    require(certificate.public_bytes(Encoding.DER) == data, "accepted, and written otherwise than it was read")
    refused_or_read(data, lambda _: certified_key(certificate), (KeyFault,))
    refused_or_read(data, lambda _: subjects(certificate), ())
