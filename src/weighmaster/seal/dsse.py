# SPDX-License-Identifier: Apache-2.0
"""The bytes that are signed: the pre-authentication encoding of DSSE v1 (spec/seal.md)."""

from __future__ import annotations

from typing import Final

__all__ = ["PAYLOAD_TYPE", "pae"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""The only payload type that is written or accepted: the payload is an in-toto statement."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: type and payload, each preceded by its length in bytes.

    The lengths make the encoding injective: no two pairs of type and payload give the same bytes.

    Source: DSSE v1, https://github.com/secure-systems-lab/dsse, protocol.md, "Signature definition".
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
