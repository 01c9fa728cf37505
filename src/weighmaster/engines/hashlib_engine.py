# SPDX-License-Identifier: Apache-2.0
"""The reference engine: the standard library's SHA-256, threads across tensors and across ranges of large tensors.

hashlib releases the interpreter lock for inputs above 2,047 bytes, so threads scale; where Python is built on an
OpenSSL FIPS provider this is the FIPS path. Byte buffers stay within `_PIECE` per thread.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from weighmaster.core.digest import TensorDigest, leaf_digest, root_of_leaves, small_digests
from weighmaster.core.tensor import LEAF, TensorView
from weighmaster.engines.port import Progress, Wanted
from weighmaster.errors import StorageError

__all__ = ["HashlibEngine"]

_PIECE: Final = 16 * LEAF
"""Bytes asked of a reader at once: 1 MiB, so that the second digest finds them in cache.

A piece is dropped before the next one is read: the allocator then gives the same memory again, where two at a time
would cost a file reader a page fault per 4 KiB."""

_RANGE: Final = 8 << 20
"""Bytes of a large tensor that one task digests."""

_BATCH: Final = 4 << 20
"""Bytes of small tensors that one task digests (counted with padding): smaller tasks would cost more than they do."""

_TINY: Final = LEAF // 2
"""Bytes up to which the gate digest is no work for a second thread: both would wait for the interpreter lock."""


class HashlibEngine:
    """Digests with `hashlib`; see the module."""

    def __init__(self, threads: int | None = None) -> None:
        """Use up to `threads` threads; by default as many as CPUs that this process may run on."""
        self.threads = threads or len(os.sched_getaffinity(0))

    @property
    def name(self) -> str:
        """``hashlib-v1``."""
        return "hashlib-v1"

    def digest(
        self, views: Sequence[TensorView], *, wanted: Wanted = "both", progress: Progress | None = None
    ) -> tuple[TensorDigest, ...]:
        """Return the digests of `views`, in their order (`engines.port.DigestEngine`)."""
        report = progress or _silent
        if self.threads == 1:
            return tuple(_whole(view, wanted, report) for view in views)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="weighmaster-digest") as pool:
            try:
                # A tensor is cut where it would keep one thread busy while the others have nothing left to do. Cut, its
                # bytes are read once for each digest; whole, once for both.
                cut_above = max(_RANGE, sum(v.nbytes for v in views) // (2 * self.threads))
                return _Plan(pool, wanted, report, cut_above).run(views)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def leaves(self, view: TensorView, first: int, count: int) -> bytes:
        """Return the digests of leaves [first, first + count) of `view`, 32 bytes each."""
        return _leaf_range(view, first * LEAF, min((first + count) * LEAF, view.nbytes), _silent)


class _Plan:
    """Cut the work into tasks of some megabytes and put the results together in order."""

    def __init__(self, pool: ThreadPoolExecutor, wanted: Wanted, report: Progress, cut_above: int) -> None:
        self.pool, self.wanted, self.report, self.cut_above = pool, wanted, report, cut_above

    def run(self, views: Sequence[TensorView]) -> tuple[TensorDigest, ...]:
        waiting = [self._submit(group) for group in _groups(views, self.wanted)]
        out: list[TensorDigest] = []
        for group, futures, flat in waiting:
            if futures is None:
                out.extend(flat.result())
            else:
                leaves = b"".join(f.result() for f in futures)
                view = group[0]
                digest = flat.result()[0].sha256
                out.append(_joined(view, leaves, digest))
        return tuple(out)

    def _submit(
        self, group: tuple[TensorView, ...]
    ) -> tuple[tuple[TensorView, ...], list[Future[bytes]] | None, Future[tuple[TensorDigest, ...]]]:
        view = group[0]
        if view.nbytes <= self.cut_above or view.extent is None:
            # Small tensors together; a file always in one pass, so that it is read once.
            return group, None, self.pool.submit(self._wholes, group)
        flat = self.pool.submit(self._flat, view)
        ranges = range(0, view.nbytes, _RANGE)
        report = self.report if self.wanted == "gate" else _silent
        futures = [
            self.pool.submit(_leaf_range, view, start, min(start + _RANGE, view.nbytes), report) for start in ranges
        ]
        return group, futures, flat

    def _wholes(self, group: tuple[TensorView, ...]) -> tuple[TensorDigest, ...]:
        return tuple(_whole(view, self.wanted, self.report) for view in group)

    def _flat(self, view: TensorView) -> tuple[TensorDigest, ...]:
        """Digest flat, if wanted: a serial chain that runs beside the ranges of the tree."""
        text = ""
        if self.wanted == "both":
            state = hashlib.sha256()
            for piece in _pieces(view, 0, view.nbytes):
                state.update(piece)
                self.report(len(piece))
                del piece  # see `_PIECE`
            text = state.hexdigest()
        return (TensorDigest(sha256=text, fsverity64k="", leaves=b""),)


def _groups(views: Sequence[TensorView], wanted: Wanted) -> Iterator[tuple[TensorView, ...]]:
    group: list[TensorView] = []
    size = 0
    for view in views:
        if view.nbytes > _BATCH:
            if group:
                yield tuple(group)
                group, size = [], 0
            yield (view,)
            continue
        group.append(view)
        size += 0 if wanted == "gate" and view.nbytes <= _TINY else max(view.nbytes, LEAF)
        if size >= _BATCH:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def _whole(view: TensorView, wanted: Wanted, report: Progress) -> TensorDigest:
    """Digest one tensor in one pass."""
    if view.nbytes == 0:
        return TensorDigest(sha256=hashlib.sha256().hexdigest(), fsverity64k=root_of_leaves(b"", 0).hex(), leaves=b"")
    if view.nbytes <= LEAF:
        data = _read(view, 0, view.nbytes)
        report(view.nbytes)
        if wanted == "gate":
            return TensorDigest(sha256=hashlib.sha256(data).hexdigest(), fsverity64k="", leaves=b"")
        return small_digests(data)
    if wanted == "gate":
        return _joined(view, _leaf_range(view, 0, view.nbytes, report), "")
    flat, leaves = hashlib.sha256(), []
    for piece in _pieces(view, 0, view.nbytes):
        flat.update(piece)
        leaves += [leaf_digest(piece[i : i + LEAF]) for i in range(0, len(piece), LEAF)]
        report(len(piece))
        del piece
    return _joined(view, b"".join(leaves), flat.hexdigest())


def _joined(view: TensorView, leaves: bytes, sha256: str) -> TensorDigest:
    return TensorDigest(sha256=sha256, fsverity64k=root_of_leaves(leaves, view.nbytes).hex(), leaves=leaves)


def _leaf_range(view: TensorView, start: int, stop: int, report: Progress) -> bytes:
    out = []
    for piece in _pieces(view, start, stop):
        out += [leaf_digest(piece[i : i + LEAF]) for i in range(0, len(piece), LEAF)]
        report(len(piece))
        del piece
    return b"".join(out)


def _pieces(view: TensorView, start: int, stop: int) -> Iterator[memoryview]:
    for at in range(start, stop, _PIECE):
        yield _read(view, at, min(at + _PIECE, stop))


def _read(view: TensorView, start: int, stop: int) -> memoryview:
    """Read a range, and refuse a reader that gives less or more: a short read is not data."""
    data = view.read(start, stop)
    if data.nbytes != stop - start:
        raise StorageError(f"{view.name}: bytes {start} to {stop} asked for, {data.nbytes} read")
    return data


def _silent(_nbytes: int) -> None:
    """Report to nobody."""
