# SPDX-License-Identifier: Apache-2.0
"""Inclusion proofs of RFC 9162 over any tree: each leaf has exactly one, and nothing else passes for it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from weighmaster.core.merkle import inclusion_proof, leaf_hash, root, root_from_proof

HASHES = st.binary(min_size=32, max_size=32)


@st.composite
def trees(draw: st.DrawFn, least: int = 1) -> tuple[list[bytes], int]:
    """Distinct leaves of a tree, and the index of one of them."""
    size = draw(st.integers(least, 70))
    seed = draw(st.binary(max_size=4))
    return [leaf_hash(seed + i.to_bytes(2)) for i in range(size)], draw(st.integers(0, size - 1))


def mth(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, as it is written there."""
    if len(leaves) == 1:
        return leaves[0]
    k = max(1 << i for i in range(8) if 1 << i < len(leaves))
    return hashlib.sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162, 2.1.3.1, as it is written there."""
    if len(leaves) == 1:
        return []
    k = max(1 << i for i in range(8) if 1 << i < len(leaves))
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def leads_to(leaf: bytes, index: int, size: int, proof: list[bytes], wanted: bytes) -> bool:
    try:
        return root_from_proof(leaf, index, size, proof) == wanted
    except ValueError:
        return False


@settings(deadline=None)
@given(trees())
def test_root_and_proof_are_those_of_the_standard(tree: tuple[list[bytes], int]) -> None:
    leaves, index = tree
    assert root(leaves) == mth(leaves)
    assert list(inclusion_proof(leaves, index)) == path(index, leaves)
    assert root_from_proof(leaves[index], index, len(leaves), inclusion_proof(leaves, index)) == mth(leaves)


@settings(deadline=None)
@given(trees(least=2), st.data())
def test_a_proof_is_of_one_leaf_at_one_index(tree: tuple[list[bytes], int], data: st.DataObject) -> None:
    leaves, index = tree
    size, wanted = len(leaves), root(leaves)
    proof = list(inclusion_proof(leaves, index))
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index))
    assert not leads_to(leaves[index], other, size, proof, wanted)
    assert not leads_to(leaves[other], index, size, proof, wanted)
    assert not leads_to(leaves[other], other, size, proof, wanted)
    for outside in (-1, size, size + 1):
        with pytest.raises(ValueError, match=f"leaf {outside} of a tree of {size}"):
            root_from_proof(leaves[index], outside, size, proof)


@settings(deadline=None)
@given(trees(least=2), st.data())
def test_another_sibling_order_or_length_is_another_root(tree: tuple[list[bytes], int], data: st.DataObject) -> None:
    leaves, index = tree
    size, wanted = len(leaves), root(leaves)
    proof = list(inclusion_proof(leaves, index))
    at = data.draw(st.integers(0, len(proof) - 1))
    sibling = data.draw(HASHES.filter(lambda h: h != proof[at]))
    changed = {
        "another": [*proof[:at], sibling, *proof[at + 1 :]],
        "gone": [*proof[:at], *proof[at + 1 :]],
        "more": [*proof[:at], sibling, *proof[at:]],
        "at the end": [*proof, sibling],
        "reversed": proof[::-1],
    }
    for kind, forged in changed.items():
        assert forged == proof or not leads_to(leaves[index], index, size, forged, wanted), kind


@settings(deadline=None)
@given(trees(), st.integers(1, 200))
def test_another_size_is_refused_or_leads_through_the_same_nodes(tree: tuple[list[bytes], int], size: int) -> None:
    """The size is signed beside the root; where a proof serves two sizes, leaf, index and root are the same in both."""
    leaves, index = tree
    assume(size != len(leaves))
    proof = list(inclusion_proof(leaves, index))
    shape = shape_of(index, len(leaves))
    if leads_to(leaves[index], index, size, proof, root(leaves)):
        assert shape_of(index, size) == shape
    elif index < size:
        assert shape_of(index, size) != shape


def shape_of(index: int, size: int) -> list[bool]:
    """On which side each sibling stands, from the leaf upwards."""
    if size == 1:
        return []
    k = 1 << (size - 1).bit_length() - 1
    return [*shape_of(index, k), True] if index < k else [*shape_of(index - k, size - k), False]


@settings(deadline=None)
@given(trees(least=2), st.data())
def test_an_inner_node_is_no_leaf(tree: tuple[list[bytes], int], data: st.DataObject) -> None:
    """A line that spells out two hashes does not pass for the node above them: leaves and nodes are hashed apart."""
    leaves, _ = tree
    even = data.draw(st.integers(0, len(leaves) // 2 - 1)) * 2
    forged = leaf_hash(leaves[even] + leaves[even + 1])
    proof = list(inclusion_proof(leaves, even))[1:]
    wanted, size = root(leaves), len(leaves)
    assert root_from_proof(leaves[even], even, size, [leaves[even + 1], *proof]) == wanted
    assert not any(leads_to(forged, index, size, proof, wanted) for index in range(size))
    assert not leads_to(forged, even // 2, (size + 1) // 2, proof, wanted)


@settings(deadline=None)
@given(trees(), st.integers())
def test_only_leaves_that_are_there_have_proofs(tree: tuple[list[bytes], int], index: int) -> None:
    leaves, _ = tree
    assume(not 0 <= index < len(leaves))
    with pytest.raises(IndexError, match=f"leaf {index} of {len(leaves)}"):
        inclusion_proof(leaves, index)
