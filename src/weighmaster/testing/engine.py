# SPDX-License-Identifier: Apache-2.0
"""What every digest engine must do (`engines.port.DigestEngine`)."""

from __future__ import annotations

from weighmaster.core.digest import digest_bytes
from weighmaster.core.selftest import pattern
from weighmaster.core.tensor import LEAF, TensorView, view_of_bytes
from weighmaster.engines.port import DigestEngine

__all__ = ["EngineSuite"]

SIZES = (0, 1, 63, 64, 65, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF, 17 * LEAF + 5, 9_000_001)
"""Bytes: around blocks, leaves and ranges."""


class EngineSuite:
    """Subclass it, return your engine from `make_engine`, and run pytest."""

    def make_engine(self) -> DigestEngine:
        """Return the engine under test."""
        raise NotImplementedError

    def views(self) -> tuple[TensorView, ...]:
        """Return one tensor per size of `SIZES`, over host bytes."""
        return tuple(view_of_bytes(f"t{n}", pattern(n)) for n in SIZES)

    def test_both_digests_are_those_of_the_reference(self) -> None:
        """Flat digest, tree and leaves equal `core.digest.digest_bytes`."""
        for view, found in zip(self.views(), self.make_engine().digest(self.views()), strict=True):
            assert found == digest_bytes(bytes(view.read(0, view.nbytes))), view.name

    def test_the_gate_digest_is_that_of_the_reference(self) -> None:
        """The tree above one leaf, flat up to that."""
        found = self.make_engine().digest(self.views(), wanted="gate")
        for view, digest in zip(self.views(), found, strict=True):
            expected = digest_bytes(bytes(view.read(0, view.nbytes)))
            if view.nbytes > LEAF:
                assert digest.fsverity64k == expected.fsverity64k, view.name
            else:
                assert digest.sha256 == expected.sha256, view.name

    def test_a_range_of_leaves(self) -> None:
        """Any range of leaves equals that part of the whole."""
        view = self.views()[-1]
        whole = digest_bytes(bytes(view.read(0, view.nbytes))).leaves
        for first, count in ((0, 1), (3, 7), (130, 64)):
            assert self.make_engine().leaves(view, first, count) == whole[32 * first : 32 * (first + count)]

    def test_one_bit_changes_both_digests(self) -> None:
        """First, middle and last bit."""
        data = bytearray(pattern(3 * LEAF + 1))
        before = self.make_engine().digest([view_of_bytes("t", bytes(data))])[0]
        for at in (0, len(data) // 2, len(data) - 1):
            data[at] ^= 1
            after = self.make_engine().digest([view_of_bytes("t", bytes(data))])[0]
            data[at] ^= 1
            assert after.sha256 != before.sha256, at
            assert after.fsverity64k != before.fsverity64k, at
