# SPDX-License-Identifier: Apache-2.0
"""core.merkle.root_from_proof, beside the recursive definition of RFC 9162.

An input is: index and size (8 bytes each, big endian), the leaf, and siblings, 32 bytes each.
"""

from __future__ import annotations

import hashlib

from fuzz.harness import refused_or_read, require
from weighmaster.core import merkle

SEEDS = ()
INPUTS = tuple(
    index.to_bytes(8) + size.to_bytes(8) + bytes(32) + bytes(range(32)) * count
    for index, size, count in ((0, 1, 0), (1, 2, 1), (2, 3, 1), (4, 7, 3), (6, 7, 2), (5, 5, 0), (0, 2**63, 63))
)


def one(data: bytes) -> None:
    """Both come to the same root, or both refuse; another sibling is another root."""
    index, size = int.from_bytes(data[:8]), int.from_bytes(data[8:16])
    leaf, rest = data[16:48], data[48:]
    proof = [rest[i : i + 32] for i in range(0, len(rest), 32)]
    root = refused_or_read(data, lambda _: merkle.root_from_proof(leaf, index, size, proof), (ValueError,))
    require(root == (_root(leaf, index, size, proof) if index < size else None), "not the root of RFC 9162")
    if root is not None and proof:
        other = [bytes(32) if proof[0] != bytes(32) else bytes([1] * 32), *proof[1:]]
        require(merkle.root_from_proof(leaf, index, size, other) != root, "another sibling, the same root")


def _root(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    if size == 1 or not proof:
        return leaf if size == 1 and not proof else None
    split = 1 << (size - 1).bit_length() - 1
    left = index < split
    below = _root(leaf, index if left else index - split, split if left else size - split, proof[:-1])
    if below is None:
        return None
    return hashlib.sha256(b"\1" + (below + proof[-1] if left else proof[-1] + below)).digest()
