# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree of a table against RFC 9162: known roots, a recursive second writing, and every proof up to 33."""

from __future__ import annotations

import hashlib

import pytest

from weighmaster.core.merkle import inclusion_proof, leaf_hash, root, root_from_proof

INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
KNOWN = {  # the test leaves of the certificate-transparency project, as in the reference tests of RFC 6962
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
PROOF_OF_5_IN_8 = [
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]
MANY = [leaf_hash(b"row %d" % i) for i in range(33)]
PAIRS = [(i, n) for n in range(1, 34) for i in range(n)]


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, written as the definition has it."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


@pytest.mark.requirement("REQ-MAN-02")
@pytest.mark.parametrize("n", KNOWN)
def test_known_roots(n: int) -> None:
    assert root(LEAVES[:n]).hex() == KNOWN[n]


def test_known_proof() -> None:
    assert [p.hex() for p in inclusion_proof(LEAVES, 5)] == PROOF_OF_5_IN_8


@pytest.mark.parametrize("n", range(34))
def test_roots_follow_the_definition(n: int) -> None:
    assert root(iter(MANY[:n])) == tree_hash(MANY[:n])


@pytest.mark.requirement("REQ-MAN-06")
def test_every_proof_leads_to_the_root() -> None:
    for i, n in PAIRS:
        assert root_from_proof(MANY[i], i, n, inclusion_proof(MANY[:n], i)) == root(MANY[:n]), (i, n)


def leads(leaf: bytes, index: int, size: int, proof: tuple[bytes, ...]) -> bytes | None:
    try:
        return root_from_proof(leaf, index, size, proof)
    except ValueError:
        return None


@pytest.mark.requirement("REQ-MAN-06")
def test_no_spoilt_proof_leads_to_the_root() -> None:
    """Wrong leaf, wrong index, cut, extended, flipped, swapped: each of them, for each leaf of each tree."""
    for i, n in PAIRS:
        good, proof = root(MANY[:n]), inclusion_proof(MANY[:n], i)
        assert leads(leaf_hash(b"other"), i, n, proof) != good
        assert all(leads(MANY[i], j, n, proof) != good for j in range(n) if j != i), (i, n)
        assert leads(MANY[i], i, n, (*proof, bytes(32))) is None
        for k, part in enumerate(proof):
            assert leads(MANY[i], i, n, proof[:k] + proof[k + 1 :]) is None
            flipped = bytes([part[0] ^ 1]) + part[1:]
            assert leads(MANY[i], i, n, (*proof[:k], flipped, *proof[k + 1 :])) != good
        if len(proof) > 1:
            assert leads(MANY[i], i, n, proof[::-1]) != good


def test_messages_of_proofs_that_do_not_fit() -> None:
    proof = inclusion_proof(MANY[:8], 2)
    with pytest.raises(ValueError, match=r"^the proof is too short$"):
        root_from_proof(MANY[2], 2, 8, proof[:-1])
    with pytest.raises(ValueError, match=r"^the proof is too long$"):
        root_from_proof(MANY[2], 2, 8, (*proof, proof[0]))
    with pytest.raises(ValueError, match=r"^leaf 8 of a tree of 8$"):
        root_from_proof(MANY[2], 8, 8, proof)
    with pytest.raises(ValueError, match=r"^leaf 0 of a tree of 0$"):
        root_from_proof(MANY[0], 0, 0, ())
    with pytest.raises(IndexError, match=r"^leaf 8 of 8$"):
        inclusion_proof(MANY[:8], 8)
    with pytest.raises(IndexError, match=r"^leaf -1 of 8$"):
        inclusion_proof(MANY[:8], -1)


def test_a_node_is_no_leaf() -> None:
    """Second preimages: the bytes of an inner node, taken as a line, hash to something else."""
    inner = b"\x01" + MANY[0] + MANY[1]
    assert leaf_hash(inner) != root(MANY[:2])
    assert leaf_hash(inner[1:]) != root(MANY[:2])
