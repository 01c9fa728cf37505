# SPDX-License-Identifier: Apache-2.0
"""tensor-digest v1 of a tensor in memory, on several threads (spec/tensor-digest.md)."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from weighmaster.core.digest import leaf_digest, root_of_leaves
from weighmaster.core.tensor import LEAF
from weighmaster.errors import TensorFault
from weighmaster.pack.packed import PackedTensor

__all__ = ["require_both_digests", "require_gate_digest", "tree_digest"]


def tree_digest(data: memoryview, threads: int = 1) -> str:
    """Return the fs-verity digest of `data`."""
    size = data.nbytes
    step = max(LEAF, -(-size // (threads * LEAF)) * LEAF)
    parts = [data[at : at + step] for at in range(0, size, step)]
    if len(parts) < 2:  # noqa: PLR2004  # nothing to share
        leaves = list(map(_leaves, parts))
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="weighmaster-digest") as pool:
            leaves = list(pool.map(_leaves, parts))
    return root_of_leaves(b"".join(leaves), size).hex()


def _leaves(part: memoryview) -> bytes:
    return b"".join(leaf_digest(part[at : at + LEAF]) for at in range(0, part.nbytes, LEAF))


def require_gate_digest(tensor: PackedTensor, data: memoryview, threads: int = 1) -> None:
    """Compare a rebuilt tensor with the digest that gates compare: the tree above 65,536 bytes, flat up to that.

    Raises:
        TensorFault: it differs.
    """
    if data.nbytes > LEAF:
        _require(tensor, "fs-verity digest", tensor.fsverity64k, tree_digest(data, threads))
    else:
        _require(tensor, "SHA-256", tensor.sha256, hashlib.sha256(data).hexdigest())


def require_both_digests(tensor: PackedTensor, data: memoryview, threads: int = 1) -> None:
    """Compare a rebuilt tensor with both of its digests.

    Raises:
        TensorFault: one differs.
    """
    _require(tensor, "SHA-256", tensor.sha256, hashlib.sha256(data).hexdigest())
    _require(tensor, "fs-verity digest", tensor.fsverity64k, tree_digest(data, threads))


def _require(tensor: PackedTensor, what: str, expected: str, found: str) -> None:
    if expected != found:
        raise TensorFault(tensor.name, f"bytes differ ({what})", expected=expected, found=found)
