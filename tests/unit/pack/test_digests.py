# SPDX-License-Identifier: Apache-2.0
"""The digests of rebuilt tensors are those of the reference, on any number of threads."""

from __future__ import annotations

import pytest

from weighmaster.core.digest import digest_bytes
from weighmaster.errors import TensorFault
from weighmaster.pack.digests import require_both_digests, require_gate_digest, tree_digest
from weighmaster.pack.packed import PackedTensor

SIZES = [0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_003]


def entry(data: bytes, **changes: str) -> PackedTensor:
    digest = digest_bytes(data)
    fields = {"sha256": digest.sha256, "fsverity64k": digest.fsverity64k} | changes
    return PackedTensor(name="t", dtype="uint8", shape=(len(data),), codec="raw-v1", shard=0, blob="", **fields)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_as_the_reference(size: int, threads: int):
    data = bytes(i * 7 & 255 for i in range(size))
    assert tree_digest(memoryview(data), threads) == digest_bytes(data).fsverity64k
    require_gate_digest(entry(data), memoryview(data), threads)
    require_both_digests(entry(data), memoryview(data), threads)


@pytest.mark.parametrize(
    ("size", "field", "what"), [(65_536, "sha256", "SHA-256"), (65_537, "fsverity64k", "fs-verity digest")]
)
def test_the_gate_digest_is_flat_up_to_one_leaf(size: int, field: str, what: str):
    data = bytes(size)
    with pytest.raises(TensorFault) as caught:
        require_gate_digest(entry(data, **{field: "0" * 64}), memoryview(data))
    digest = digest_bytes(data)
    assert (caught.value.subject, caught.value.detail) == ("t", f"bytes differ ({what})")
    assert (caught.value.expected, caught.value.found) == ("0" * 64, getattr(digest, field))


@pytest.mark.parametrize("field", ["sha256", "fsverity64k"])
def test_both_digests_count(field: str):
    with pytest.raises(TensorFault, match="bytes differ"):
        require_both_digests(entry(b"x", **{field: "0" * 64}), memoryview(b"x"))
