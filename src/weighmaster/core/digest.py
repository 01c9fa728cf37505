# SPDX-License-Identifier: Apache-2.0
"""tensor-digest v1: flat SHA-256 and the fs-verity digest (SHA-256, 64 KiB blocks, no salt) over the same bytes.

Sources: FIPS 180-4 (SHA-256); Linux kernel documentation, "fs-verity: read-only file-based authenticity protection",
sections "Merkle tree" and "fs-verity descriptor". Check the first with ``sha256sum`` and the second with
``fsverity digest --block-size=65536``.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from weighmaster.core.tensor import LEAF

__all__ = ["SCHEME", "TensorDigest", "digest_bytes", "leaf_digest", "root_of_leaves", "small_digests"]

SCHEME: Final = "tensor-digest-v1"
_ZEROS: Final = bytes(LEAF)
_DESCRIPTOR: Final = struct.Struct("<BBBBIQ64s32s144s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDigest:
    """Both digests of one tensor, and the digests of its leaves.

    Attributes:
        sha256: SHA-256 of B(t), 64 hexadecimal digits; empty where only the tree was asked for.
        fsverity64k: fs-verity digest of B(t), 64 hexadecimal digits; empty where only the flat digest was asked for.
        leaves: 32 bytes per 64 KiB leaf, in order; empty where the tree was not asked for.
    """

    sha256: str
    fsverity64k: str
    leaves: bytes


def leaf_digest(block: bytes | memoryview) -> bytes:
    """Return SHA-256 of one leaf, 1 to 65,536 bytes, zero-padded to 65,536."""
    state = hashlib.sha256(block)
    if len(block) < LEAF:
        state.update(_ZEROS[len(block) :])
    return state.digest()


def root_of_leaves(leaves: bytes, nbytes: int) -> bytes:
    """Return the fs-verity digest of `nbytes` bytes whose leaf digests are `leaves` (32 bytes each).

    Raises:
        ValueError: the number of leaves is not that of `nbytes`.
    """
    if len(leaves) != 32 * -(-nbytes // LEAF):
        raise ValueError(f"{nbytes} bytes have {-(-nbytes // LEAF)} leaves, found {len(leaves) / 32:g}")
    level = leaves
    while len(level) > 32:  # noqa: PLR2004  # bytes of one digest
        level = b"".join(leaf_digest(level[i : i + LEAF]) for i in range(0, len(level), LEAF))
    root = level or bytes(32)
    # version 1, SHA-256 (1), log2 of the block size, no salt, reserved, size, root, salt, reserved.
    return hashlib.sha256(_DESCRIPTOR.pack(1, 1, 16, 0, 0, nbytes, root, b"", b"")).digest()


def small_digests(data: bytes | memoryview) -> TensorDigest:
    """Return both digests of 1 to 65,536 bytes, hashing them once: the leaf continues the state of the flat digest."""
    flat = hashlib.sha256(data)
    tree = flat.copy()
    tree.update(_ZEROS[len(data) :])
    leaf = tree.digest()
    return TensorDigest(sha256=flat.hexdigest(), fsverity64k=root_of_leaves(leaf, len(data)).hex(), leaves=leaf)


def digest_bytes(data: bytes) -> TensorDigest:
    """Return both digests of `data`, in one thread: the reference that every engine is compared with."""
    leaves = b"".join(leaf_digest(data[i : i + LEAF]) for i in range(0, len(data), LEAF))
    return TensorDigest(
        sha256=hashlib.sha256(data).hexdigest(),
        fsverity64k=root_of_leaves(leaves, len(data)).hex(),
        leaves=leaves,
    )
