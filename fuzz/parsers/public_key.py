# SPDX-License-Identifier: Apache-2.0
"""seal.keys.load_public: a public key in PEM."""

from __future__ import annotations

from fuzz.harness import round_trip
from weighmaster.errors import KeyFault
from weighmaster.seal.keys import load_public

SEEDS = ()
_P256 = (
    b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAETKJEoh3QH6vszu92erSBBwMTv/BI\n"
    b"tvqQilKL6IVQVZQV8VWoEbaltQHAU+jIgd3MDkLeEe3axfB7hZ/R8PU4WA=="
)
_SPKI = b"-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n"
INPUTS = (
    _SPKI % _P256,
    _SPKI % b"MCowBQYDK2VwAyEAendTCl+bBeCp+GM1UPIGD0v4KOw6L/L55DUaiM9HzNI=",
    _SPKI % b"MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",  # of small order
    b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
    b"-----BEGIN RSA PUBLIC KEY-----\nMAYCAQMCAQM=\n-----END RSA PUBLIC KEY-----\n",
    b"-----BEGIN PRIVATE KEY-----\n",
)


def one(data: bytes) -> None:
    """A key is written in one spelling and read as the same key; all else is a KeyFault."""
    round_trip(data, read=load_public, write=lambda key: key.pem, canonical=False, refusals=(KeyFault,))
