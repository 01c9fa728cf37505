# SPDX-License-Identifier: Apache-2.0
"""Step 1: known answers for the digests and for the engine that will be used."""

from __future__ import annotations

from weighmaster.core.digest import TensorDigest
from weighmaster.core.selftest import COUNT, digest_faults
from weighmaster.core.tensor import view_of_bytes
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.engines.port import DigestEngine
from weighmaster.errors import NotWeighed, SelfTestFault

__all__ = ["require_self_test", "self_test"]


def self_test(engine: DigestEngine | None = None) -> tuple[int, tuple[SelfTestFault, ...]]:
    """Run the known answers through the reference and through `engine`; return how many ran, and the wrong ones."""
    engine = engine or HashlibEngine()
    faults = (*digest_faults(), *digest_faults(lambda data: _through(engine, data)))
    return 2 * COUNT, faults


def _through(engine: DigestEngine, data: bytes) -> TensorDigest:
    return engine.digest([view_of_bytes("self-test", data)])[0]


def require_self_test(engine: DigestEngine | None = None) -> None:
    """Raise where a known answer is wrong.

    Raises:
        NotWeighed: with each `SelfTestFault`.
    """
    _, faults = self_test(engine)
    if faults:
        raise NotWeighed("the self-test failed", faults)
