# SPDX-License-Identifier: Apache-2.0
"""Keep a trust file: write a document with the signatures of its keepers, as a new file or as its next version."""

from __future__ import annotations

from pathlib import Path

from weighmaster.durable import read_whole, write_atomically
from weighmaster.errors import UsageError
from weighmaster.seal.bundle import Signer
from weighmaster.seal.trust import Trust
from weighmaster.seal.trust_chain import (
    MAX_FILE,
    amend,
    chain_to_bytes,
    countersign,
    missing_signatures,
    new_chain,
    parse_chain,
)

__all__ = ["write_trust"]


def write_trust(path: Path | str, trust: Trust, *keepers: Signer) -> str:
    """Write `trust` to `path`, signed by `keepers`, and return the fingerprint of its roots: the pin.

    A file that is there already is followed by the next version. Nothing is written unless the signatures suffice.

    Raises:
        UsageError: too few keepers sign, or one who is none.
        MalformedArtefact: the file that is there is no trust file.
        StorageError: it cannot be written.
    """
    file = Path(path)
    if file.exists():
        chain = amend(parse_chain(read_whole(file, limit=MAX_FILE), str(file)), trust)
    else:
        chain = new_chain(trust, str(file))
    for keeper in keepers:
        chain = countersign(chain, keeper)
    if missing := missing_signatures(chain):
        raise UsageError("; ".join(missing))
    write_atomically(file, chain_to_bytes(chain))
    return chain.current.trust.roots.fingerprint
