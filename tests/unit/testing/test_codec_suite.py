# SPDX-License-Identifier: Apache-2.0
"""The shipped suite of the codec, run on every backend that works here, and on ones with a defect."""

from __future__ import annotations

import numpy as np
import pytest

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.backends import available
from weighmaster.pack.coder import NumpyBackend
from weighmaster.testing import CodecSuite

for _backend in available():  # a class for each, so that each check of each is a test of its own

    def _make(self, backend=_backend):
        return backend

    globals()[f"TestBackend_{_backend.name}"] = type(
        f"TestBackend_{_backend.name}", (CodecSuite,), {"make_backend": _make}
    )


def suite_of(backend: NumpyBackend) -> CodecSuite:
    class Suite(CodecSuite):
        def make_backend(self):
            return backend

    return Suite()


class OneUnitOff(NumpyBackend):
    """Rounds one element otherwise."""

    def decode(self, layout, blob, chunks, out):
        super().decode(layout, blob, chunks, out)
        if layout.shape.rows == 5:
            out[0] ^= 1


class Unaligned(NumpyBackend):
    """Writes a byte beyond its part of the output."""

    def decode(self, layout, blob, chunks, out):
        super().decode(layout, blob, chunks, out)
        whole = out.base if out.base is not None else out
        if whole.ndim == 1 and len(whole) > len(out):
            whole[-1] = 1


class Careless(NumpyBackend):
    """Decodes what it should refuse."""

    def decode(self, layout, blob, chunks, out):
        try:
            super().decode(layout, blob, chunks, out)
        except MalformedArtefact:
            out[:] = 0


class OtherCode(NumpyBackend):
    """Writes another order of words, which no decoder reads."""

    def encode(self, layout, symbols):
        return [(words, body[:128] + body[:127:-1]) for words, body in super().encode(layout, symbols)]


@pytest.mark.parametrize(
    ("backend", "check"),
    [
        (OneUnitOff(), CodecSuite.test_blobs_are_rebuilt_as_the_reference_rebuilds_them),
        (OneUnitOff(), CodecSuite.test_nothing_is_lost_of_planes),
        (Unaligned(), CodecSuite.test_bytes_may_lie_anywhere),
        (Careless(), CodecSuite.test_every_flipped_bit_of_a_body_is_refused),
        (Careless(), CodecSuite.test_a_body_with_a_right_checksum_is_refused_all_the_same),
        (Careless(), CodecSuite.test_patches_are_held_to_their_chunk),
        (OtherCode(), CodecSuite.test_levels_are_coded_as_the_reference_codes_them),
        (OtherCode(), CodecSuite.test_planes_are_coded_as_the_reference_codes_them),
    ],
)
def test_the_suite_finds_a_wrong_backend(backend, check):
    with pytest.raises(AssertionError):
        check(suite_of(backend))


class Flushed(NumpyBackend):
    """Computes with subnormal numbers that the mode of the processor takes away."""

    def decode(self, layout, blob, chunks, out):
        super().decode(layout, blob, chunks, out)
        if layout.shape.dtype == "float32":
            out[:] = (out.view(np.float32) * np.float32(0.5) * np.float32(2)).view(np.uint8)


def test_the_suite_finds_a_backend_that_the_mode_changes():
    with pytest.raises(AssertionError):
        suite_of(Flushed()).test_flushing_of_subnormal_numbers_changes_nothing()
