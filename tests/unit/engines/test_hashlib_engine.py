# SPDX-License-Identifier: Apache-2.0
"""The reference engine gives the digests of `core.digest`, whatever the sizes, threads and order of the work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from weighmaster.core.digest import digest_bytes
from weighmaster.core.selftest import digest_faults, pattern
from weighmaster.core.tensor import Extent, TensorView
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.errors import SourceFault, StorageError

SIZES = (0, 1, 65_535, 65_536, 65_537, 2**20, 2**20 + 1, 4_194_304, 4_194_305, 8_388_608, 8_388_609, 17_000_001)
"""Around the bounds of leaf, piece, batch and range."""

DATA = {n: pattern(n) for n in SIZES}
EXPECTED = {n: digest_bytes(DATA[n]) for n in SIZES}


def view(
    name: str, data: bytes, *, memory: bool = True, read: Callable[[int, int], memoryview] | None = None
) -> TensorView:
    return TensorView(
        name=name,
        dtype="uint8",
        shape=(len(data),),
        stride=(1,),
        nbytes=len(data),
        layout="strided",
        role="parameter",
        extent=Extent(device="cpu", address=4096, nbytes=len(data)) if memory else None,
        read=read or (lambda start, stop: memoryview(data)[start:stop]),
    )


@pytest.mark.requirement("REQ-DIG-02")
@pytest.mark.parametrize("memory", [True, False], ids=["memory", "file"])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_both_digests_and_leaves_of_all_sizes(threads: int, memory: bool) -> None:
    views = [view(str(n), DATA[n], memory=memory) for n in SIZES]
    assert HashlibEngine(threads).digest(views) == tuple(EXPECTED[n] for n in SIZES)


@pytest.mark.requirement("REQ-DIG-02")
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_gate_digests_of_all_sizes(threads: int) -> None:
    digests = HashlibEngine(threads).digest([view(str(n), DATA[n]) for n in SIZES], wanted="gate")
    for n, digest in zip(SIZES, digests, strict=True):
        if 0 < n <= 65_536:
            assert (digest.sha256, digest.fsverity64k, digest.leaves) == (EXPECTED[n].sha256, "", b"")
        elif n:
            assert digest.sha256 == ""
            assert (digest.fsverity64k, digest.leaves) == (EXPECTED[n].fsverity64k, EXPECTED[n].leaves)
        else:
            assert digest == EXPECTED[0]


@pytest.mark.parametrize("threads", [1, 3])
def test_results_stand_in_the_order_of_the_views(threads: int) -> None:
    """Small, large and small again: batches end in the middle of the list."""
    pieces = [pattern(100 + i) if i % 7 else pattern(5_000_000 + i) for i in range(60)]
    digests = HashlibEngine(threads).digest([view(str(i), data) for i, data in enumerate(pieces)])
    assert digests == tuple(digest_bytes(data) for data in pieces)


def test_nothing_to_do() -> None:
    assert HashlibEngine(2).digest([]) == ()


@pytest.mark.parametrize("wanted", ["both", "gate"])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_progress_sums_to_the_bytes(threads: int, wanted: str) -> None:
    seen: list[int] = []
    lock = threading.Lock()

    def progress(nbytes: int) -> None:
        with lock:
            seen.append(nbytes)

    views = [view(str(n), DATA[n], memory=n % 2 == 0) for n in SIZES]
    HashlibEngine(threads).digest(views, wanted=wanted, progress=progress)  # type: ignore[arg-type]
    assert sum(seen) == sum(SIZES)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 260), (3, 2), (259, 1), (200, 100)])
def test_leaves_of_a_range(first: int, count: int) -> None:
    n = 17_000_001
    found = HashlibEngine(1).leaves(view("w", DATA[n]), first, count)
    assert found == EXPECTED[n].leaves[32 * first : 32 * (first + count)]


def test_a_range_sees_a_flipped_bit_in_its_leaf_only() -> None:
    data = bytearray(DATA[2**20])
    data[5 * 65_536] ^= 4
    found = HashlibEngine(1).leaves(view("w", bytes(data)), 0, 16)
    differing = [i for i in range(16) if found[32 * i : 32 * i + 32] != EXPECTED[2**20].leaves[32 * i : 32 * i + 32]]
    assert differing == [5]


@pytest.mark.parametrize("nbytes", [10, 2**20, 17_000_001])
@pytest.mark.parametrize("threads", [1, 2])
def test_exceptions_of_readers_come_through(threads: int, nbytes: int) -> None:
    def read(start: int, stop: int) -> memoryview:
        raise SourceFault("model.safetensors", "the file went away")

    views = [view("good", DATA[65_537]), view("bad", DATA.get(nbytes, pattern(nbytes)), read=read)]
    with pytest.raises(SourceFault, match=r"^model\.safetensors: the file went away$"):
        HashlibEngine(threads).digest(views)


@pytest.mark.requirement("REQ-DIG-05")
@pytest.mark.parametrize("lost", [1, -1])
@pytest.mark.parametrize("nbytes", [10, 2**20, 17_000_001])
def test_a_short_or_long_read_is_not_taken_for_data(nbytes: int, lost: int) -> None:
    data = DATA.get(nbytes, pattern(nbytes)) + b"\0"

    def read(start: int, stop: int) -> memoryview:
        return memoryview(data)[start : stop - lost]

    with pytest.raises(StorageError, match=r"^w: bytes 0 to (\d+) asked for, \d+ read$"):
        HashlibEngine(2).digest([view("w", data[:-1], read=read)])


def test_workers_end_with_the_call_also_after_an_exception() -> None:
    def read(start: int, stop: int) -> memoryview:
        raise OSError("gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        HashlibEngine(4).digest([view(str(i), DATA[2**20], read=read) for i in range(8)])
    assert threading.active_count() == before


def test_it_passes_the_self_test() -> None:
    assert digest_faults(lambda data: HashlibEngine(2).digest([view("x", data)])[0]) == ()


def test_name_and_default_threads() -> None:
    assert HashlibEngine().name == "hashlib-v1"
    assert HashlibEngine().threads == len(os.sched_getaffinity(0))
