# SPDX-License-Identifier: Apache-2.0
"""Known-answer tests of the digests, run before anything is weighed or admitted; their number is pinned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from weighmaster.core.digest import TensorDigest, digest_bytes
from weighmaster.core.merkle import leaf_hash, root
from weighmaster.errors import SelfTestFault

__all__ = ["COUNT", "digest_faults"]

COUNT: Final = 13
"""Comparisons made by `digest_faults`: it cannot shrink in silence."""

_FLAT: Final[tuple[tuple[bytes, str], ...]] = (
    # FIPS 180-4 examples (NIST CSRC), one block, two blocks, none.
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
)
_TREE: Final[tuple[tuple[int, str], ...]] = (
    # fs-verity digests of n bytes (7 i + 3) mod 256, as `fsverity digest --block-size=65536` prints them.
    (0, "37a711c20e34543da6c1507ccc4e04258a1725cc672518b1c6d5d03104fb9e95"),
    (1, "276e1929ea34817414116abe3393cbe3455c98a83f171f41f7535d9dbb6828a8"),
    (65_536, "8ba011101cd8182d035bc08c6a64875aeddada046502e74e0f84d1f0b7c51a74"),
    (65_537, "7365fdb7f75336dee842ded617789641d6146e48f656ac15acce7b326cf1fe29"),
    (1_000_000, "7251dbc858fd5ab130f4aa20b60b0bb9e3e577d52cbd91bcdc66bf7762323e24"),
)
_RFC6962_ROOTS: Final[tuple[tuple[int, str], ...]] = (
    # Roots over the first n of the test leaves of the certificate-transparency project.
    (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
)
_RFC6962_LEAVES: Final = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)


def pattern(nbytes: int) -> bytes:
    """Return the test bytes (7 i + 3) mod 256."""
    period = bytes((7 * i + 3) & 255 for i in range(256))
    return (period * (nbytes // 256 + 1))[:nbytes]


def digest_faults(digest: Callable[[bytes], TensorDigest] = digest_bytes) -> tuple[SelfTestFault, ...]:
    """Compare `digest` and the Merkle tree with known answers; return a fault for each wrong one.

    Args:
        digest: the routine to test: bytes to both digests.
    """
    checks: list[tuple[str, str, str]] = []
    checks += [(f"SHA-256 of {len(m)} bytes", want, digest(m).sha256) for m, want in _FLAT]
    checks += [(f"fs-verity of {n} bytes", want, digest(pattern(n)).fsverity64k) for n, want in _TREE]
    leaves = [leaf_hash(bytes.fromhex(h)) for h in _RFC6962_LEAVES]
    checks += [(f"Merkle root of {n} leaves", want, root(leaves[:n]).hex()) for n, want in _RFC6962_ROOTS]
    faults = [SelfTestFault(what, "wrong answer", expected=e, found=f) for what, e, f in checks if e != f]
    if len(checks) != COUNT:
        faults.append(SelfTestFault("self-test", "tests are missing", expected=str(COUNT), found=str(len(checks))))
    return tuple(faults)
