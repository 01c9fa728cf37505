# SPDX-License-Identifier: Apache-2.0
"""tensor-digest v1 against hashlib, a second writing of the fs-verity tree, and the fsverity command."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from weighmaster.core.digest import digest_bytes, leaf_digest, root_of_leaves, small_digests
from weighmaster.core.selftest import pattern

SIZES = (0, 1, 65_535, 65_536, 65_537, 2**20, 5_000_000)
BLOCK = 65_536
EMPTY_TREE = "37a711c20e34543da6c1507ccc4e04258a1725cc672518b1c6d5d03104fb9e95"


def tree_by_hand(data: bytes) -> str:
    """The fs-verity digest, level by level as the kernel's documentation draws it."""
    level = [data[i : i + BLOCK] for i in range(0, len(data), BLOCK)]
    root = bytes(32)
    while level:
        digests = b"".join(hashlib.sha256(block.ljust(BLOCK, b"\0")).digest() for block in level)
        root = digests[:32]
        level = [digests[i : i + BLOCK] for i in range(0, len(digests), BLOCK)] if len(digests) > 32 else []
    head = bytes([1, 1, 16, 0]) + bytes(4) + len(data).to_bytes(8, "little")
    return hashlib.sha256(head + root.ljust(64, b"\0") + bytes(32) + bytes(144)).hexdigest()


@pytest.mark.parametrize("nbytes", SIZES)
def test_both_digests_are_those_of_a_second_writing(nbytes: int) -> None:
    data = pattern(nbytes)
    digest = digest_bytes(data)
    assert digest.sha256 == hashlib.sha256(data).hexdigest()
    assert digest.fsverity64k == tree_by_hand(data)
    assert len(digest.leaves) == 32 * -(-nbytes // BLOCK)


@pytest.mark.requirement("REQ-DIG-01")
@pytest.mark.skipif(shutil.which("fsverity") is None, reason="the fsverity command is not installed; CI installs it")
@pytest.mark.parametrize("nbytes", SIZES)
def test_fsverity_command_gives_the_same_digest(nbytes: int, tmp_path: Path) -> None:
    file = tmp_path / "tensor"
    file.write_bytes(pattern(nbytes))
    command = ["fsverity", "digest", "--block-size=65536", "--hash-alg=sha256", "--compact", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest_bytes(pattern(nbytes)).fsverity64k


@pytest.mark.parametrize("nbytes", [1, 2, 4096, 65_535, 65_536])
def test_small_tensors_are_hashed_once_with_the_same_result(nbytes: int) -> None:
    assert small_digests(pattern(nbytes)) == digest_bytes(pattern(nbytes))
    assert small_digests(memoryview(pattern(nbytes))) == digest_bytes(pattern(nbytes))


@pytest.mark.requirement("REQ-DIG-03")
@pytest.mark.parametrize("at", [0, 65_535, 65_536, 199_999])
@pytest.mark.parametrize("bit", [1, 128])
def test_any_flipped_bit_changes_both_digests_and_one_leaf(at: int, bit: int) -> None:
    data = bytearray(pattern(200_000))
    before = digest_bytes(bytes(data))
    data[at] ^= bit
    after = digest_bytes(bytes(data))
    assert before.sha256 != after.sha256
    assert before.fsverity64k != after.fsverity64k
    differing = [i for i in range(4) if before.leaves[32 * i : 32 * i + 32] != after.leaves[32 * i : 32 * i + 32]]
    assert differing == [at // BLOCK]


@pytest.mark.requirement("REQ-DIG-04")
def test_length_is_bound_although_leaves_are_padded() -> None:
    """Two inputs with the same padded leaf have the same leaf digest, and different digests."""
    assert leaf_digest(b"a") == leaf_digest(b"a\0")
    assert digest_bytes(b"a").fsverity64k != digest_bytes(b"a\0").fsverity64k
    assert digest_bytes(b"").fsverity64k == EMPTY_TREE
    assert digest_bytes(b"\0").fsverity64k != EMPTY_TREE


def test_swapped_leaves_change_the_root() -> None:
    a, b = bytes([1]) * BLOCK, bytes([2]) * BLOCK
    assert digest_bytes(a + b).fsverity64k != digest_bytes(b + a).fsverity64k


def test_an_inner_level_is_no_input_of_the_same_digest() -> None:
    """The descriptor tells a tree over leaves from data that look like its inner level."""
    data = pattern(3 * BLOCK)
    assert digest_bytes(digest_bytes(data).leaves).fsverity64k != digest_bytes(data).fsverity64k


@pytest.mark.parametrize(
    ("leaves", "nbytes", "message"),
    [
        (b"", 1, "^1 bytes have 1 leaves, found 0$"),
        (bytes(32), 0, "^0 bytes have 0 leaves, found 1$"),
        (bytes(32), BLOCK + 1, "^65537 bytes have 2 leaves, found 1$"),
        (bytes(31), 1, "^1 bytes have 1 leaves, found 0.96875$"),
    ],
)
def test_number_of_leaves_must_fit(leaves: bytes, nbytes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        root_of_leaves(leaves, nbytes)


def test_three_levels() -> None:
    """2,048 leaves fill one block of the level above them; one more needs a level on top."""
    leaves = b"".join(hashlib.sha256(bytes([i & 255, i >> 8])).digest() for i in range(2049))
    level = leaf_digest(leaves[:BLOCK]) + leaf_digest(leaves[BLOCK:])
    top = leaf_digest(level)
    head = bytes([1, 1, 16, 0]) + bytes(4) + (2049 * BLOCK).to_bytes(8, "little")
    expected = hashlib.sha256(head + top + bytes(32 + 32 + 144)).digest()
    assert root_of_leaves(leaves, 2049 * BLOCK) == expected
