# SPDX-License-Identifier: Apache-2.0
"""Read a pack: tensors rebuilt, each compared with its digest before it is handed out (spec/pack.md, 6).

Whoever wants to know where a pack comes from asks for its seal; here it is only consistent in itself.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from weighmaster.core.safetensors_header import show
from weighmaster.core.tensor import TensorView
from weighmaster.durable import MAX_DOCUMENT, read_whole
from weighmaster.errors import MalformedArtefact, SourceFault, StorageError, UsageError
from weighmaster.pack.backends import best
from weighmaster.pack.coder import Backend, decode_rows
from weighmaster.pack.digests import require_both_digests, require_gate_digest
from weighmaster.pack.directory import require_files
from weighmaster.pack.index import INDEX, pack_root, parse_index
from weighmaster.pack.index_rules import SHARD_INDEX
from weighmaster.pack.layout import HEADER, PLANES, Shape, front_of, parse_layout
from weighmaster.pack.packed import EXACT, FIVE, RAW, PackedFile, PackedTensor
from weighmaster.pack.shards import shard_header, stored_form
from weighmaster.safetensors_file import SafetensorsFile, open_regular

__all__ = ["Pack", "Rebuilt", "open_pack", "read_listed", "rebuild"]

_AHEAD: Final = 1 << 29
"""Bytes of rebuilt tensors that `Pack.items` keeps ready before they are asked for."""

_LARGE: Final = 1 << 26
"""Bytes of a tensor above which `Pack.items` gives it all threads."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rebuilt:
    """A tensor, or some of its rows.

    Attributes:
        dtype: a name of `core.dtype.DTYPES`.
        shape: elements per dimension.
        data: uint8 [bytes], little-endian, row-major.
    """

    dtype: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]


class Pack:
    """An open pack: a mapping of names to tensors. A context manager; `open_pack` makes it.

    Attributes:
        path: its directory.
        index: what it says of itself.
        root: the pack root, which a seal speaks of.
        backend: what decodes.
        threads: how many threads `read` and `items` use.
    """

    def __init__(self, path: Path, data: bytes, *, also: frozenset[str], backend: Backend, threads: int) -> None:
        """Open the pack in `path` whose index is `data`; `also` may be in the directory besides its files."""
        self.path, self.backend, self.threads = path, backend, threads
        self.index, self.root, self._index_size = parse_index(data, str(path / INDEX)), pack_root(data), len(data)
        self._entries = {tensor.name: tensor for tensor in self.index.tensors}
        require_files(path, self.index, also=also)
        with ExitStack() as stack:
            names = self.index.shards
            self._shards = tuple(stack.enter_context(SafetensorsFile(path / n, path / n)) for n in names)
            self._views = self._placed()
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the shards."""
        for shard in self._shards:
            shard.close()

    def _placed(self) -> dict[str, TensorView]:
        """Return where each tensor lies; every shard holds exactly what the index places in it."""
        views: dict[str, TensorView] = {}
        for i, shard in enumerate(self._shards):
            held = {view.name: view for view in shard.views()}
            listed = {tensor.name: tensor for tensor in self.index.tensors if tensor.shard == i}
            _require_held(shard, held, listed)
            forms = [stored_form(tensor, held[name].nbytes) for name, tensor in listed.items()]
            if shard.front() != shard_header(forms):
                expected = "the one header that these tensors have (spec/pack.md, 5)"
                raise MalformedArtefact(str(shard.path), "header", expected=expected, found="another")
            views |= held
        return views

    # -- what there is -----------------------------------------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """Return the names of the tensors, ascending by their UTF-8 bytes."""
        return tuple(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def entry(self, name: str) -> PackedTensor:
        """Return what the index says of a tensor.

        Raises:
            UsageError: there is no such tensor.
        """
        if name not in self._entries:
            raise UsageError(f"{self.path}: no tensor {show(name)} in it")
        return self._entries[name]

    def in_shard_order(self) -> tuple[tuple[PackedTensor, ...], ...]:
        """Return the tensors of each shard in the order of their bytes."""
        return tuple(tuple(self._entries[view.name] for view in shard.views()) for shard in self._shards)

    def blob_size(self, name: str) -> int:
        """Return the bytes that a tensor takes in its shard."""
        return self._views[self.entry(name).name].nbytes

    def nbytes(self) -> int:
        """Return the bytes that count: shards, index, and the index of the shards."""
        counted = {*self.index.shards, SHARD_INDEX}
        return self._index_size + sum(file.size for file in self.index.files if file.path in counted)

    def bits_per_weight(self) -> Fraction:
        """Return 8 x every byte needed to rebuild and check the tensors / elements of all tensors."""
        return Fraction(8 * self.nbytes(), max(self.index.elements, 1))

    # -- tensors -----------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Rebuilt:
        """Return a tensor, as `read`; an unknown name is a `KeyError` here."""
        if name not in self._entries:
            raise KeyError(name)
        return self.read(name)

    def read(self, name: str, *, threads: int | None = None) -> Rebuilt:
        """Rebuild a tensor and compare it with its digest.

        Raises:
            UsageError: there is no such tensor.
            MalformedArtefact: its blob breaks the format; names shard, tensor and field.
            TensorFault: its bytes are not those of the index.
            StorageError: it cannot be read, or there is no memory for it.
        """
        tensor, threads = self.entry(name), threads or self.threads
        data = self.rebuild(tensor, self.blob(name), threads=threads)
        require_gate_digest(tensor, data.data, threads)
        return Rebuilt(dtype=tensor.dtype, shape=tensor.shape, data=data)

    def read_rows(self, name: str, first: int, last: int) -> Rebuilt:
        """Rebuild rows [first, last) of a tensor's first dimension, decoding only the chunks that they lie in.

        THE WEAKER CHECK: header, tables, scales, CRC-32 and end states of these chunks are checked, the digest of the
        tensor is not, for it is over all rows. That finds damage, not an attacker. Tensors of codec ``raw-v1`` have no
        checksums of parts: they are read and compared whole.

        Raises:
            UsageError: there is no such tensor, or it has no such rows.
            MalformedArtefact: what is read of its blob breaks the format.
            TensorFault: the bytes of a ``raw-v1`` tensor are not those of the index.
            StorageError: it cannot be read, or there is no memory for it.
        """
        tensor = self.entry(name)
        if not tensor.shape or not 0 <= first <= last <= tensor.shape[0]:
            raise UsageError(f"{show(name)}: no rows {first} to {last} in shape {list(tensor.shape)}")
        width = math.prod(tensor.shape[1:]) * (tensor.nbytes // max(tensor.elements, 1))
        if tensor.codec == RAW or first == last:
            data = self.read(name).data[first * width : last * width]
        else:
            data = self._rows(tensor, first * width, last * width)
        return Rebuilt(dtype=tensor.dtype, shape=(last - first, *tensor.shape[1:]), data=data)

    def _rows(self, tensor: PackedTensor, begin: int, stop: int) -> npt.NDArray[np.uint8]:
        """Return bytes [begin, stop) of a coded tensor; only what they need of the blob is read."""
        view, file = self._views[tensor.name], self._file(tensor)
        blob = np.zeros(view.nbytes, np.uint8)  # memory that is not touched is not taken
        _fill(blob, view, 0, min(HEADER, view.nbytes))
        shape, front = front_of(blob.data[:HEADER], file)
        _require_form(tensor, shape, file)
        _fill(blob, view, 0, min(front, view.nbytes))
        layout = parse_layout(blob.data, file)
        width = shape.cols * shape.itemsize
        first, last = begin // width, -(-stop // width)
        chunks = layout.chunks[first // shape.band : -(-last // shape.band)]
        _fill(blob, view, chunks[0].begin, chunks[-1].stop)
        rows = decode_rows(layout, blob.data, first, last, self.backend, threads=self.threads)
        return rows[begin - first * width : stop - first * width]

    def items(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, Rebuilt]]:
        """Yield tensors with their names: read, decoded and checked ahead, in threads.

        Args:
            names: which, and in which order; by default all, as they lie.

        Raises:
            UsageError: there is no such tensor; otherwise as `read`.
        """
        wanted = [t for shard in self.in_shard_order() for t in shard] if names is None else map(self.entry, names)
        # One more, so that the next tensor is read while as many as were asked for are decoded.
        with ThreadPoolExecutor(self.threads + 1, thread_name_prefix="weighmaster-pack") as pool:
            waiting: deque[tuple[PackedTensor, Future[Rebuilt]]] = deque()
            try:
                for tensor in wanted:
                    while waiting and not self._has_room(waiting, tensor):
                        yield _next(waiting)
                    threads = self.threads if tensor.nbytes > _LARGE else 1
                    waiting.append((tensor, pool.submit(self.read, tensor.name, threads=threads)))
                while waiting:
                    yield _next(waiting)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _has_room(self, waiting: deque[tuple[PackedTensor, Future[Rebuilt]]], tensor: PackedTensor) -> bool:
        ahead = sum(t.nbytes for t, _ in waiting) + tensor.nbytes
        return ahead <= _AHEAD and len(waiting) < 2 * self.threads

    # -- parts, for those who check more -----------------------------------------------------------------------------

    def blob(self, name: str) -> memoryview:
        """Return the bytes of a tensor in its shard; nothing is checked.

        Raises:
            StorageError: they cannot be read.
        """
        view = self._views[self.entry(name).name]
        return view.read(0, view.nbytes)

    def rebuild(self, tensor: PackedTensor, blob: memoryview, *, threads: int = 1) -> npt.NDArray[np.uint8]:
        """Return the rebuilt bytes of a blob, NOT compared with a digest.

        Raises:
            MalformedArtefact: it breaks the format.
            StorageError: there is no memory for it.
        """
        return rebuild(tensor, blob, self._file(tensor), self.backend, threads=threads)

    def require_digests(self, tensor: PackedTensor, data: npt.NDArray[np.uint8]) -> None:
        """Compare rebuilt bytes with both digests of the index.

        Raises:
            TensorFault: one differs.
        """
        require_both_digests(tensor, data.data, self.threads)

    def front(self, shard: int) -> bytes:
        """Return what stands in a shard before its tensors."""
        return self._shards[shard].front()

    def read_file(self, path: str) -> bytes:
        """Return one of the other files, compared with its digest.

        Raises:
            UsageError: the index has no such file.
            SourceFault: its bytes are not those of the index.
            StorageError: it cannot be read.
        """
        entry = next((file for file in self.index.files if file.path == path), None)
        if entry is None:
            raise UsageError(f"{self.path}: no file {show(path)} in it")
        return read_listed(self.path, entry)

    def check_unchanged(self) -> None:
        """Check that no shard was written to or replaced since the pack was opened.

        Raises:
            SourceFault: one was.
        """
        for shard in self._shards:
            shard.check_unchanged()

    def _file(self, tensor: PackedTensor) -> str:
        return f"{self._shards[tensor.shard].path}: {show(tensor.name)}"


def read_listed(root: Path, entry: PackedFile) -> bytes:
    """Return a file that an index lists, compared with its digest.

    Raises:
        SourceFault: its bytes are not those of the index.
        StorageError: it cannot be read.
    """
    fd = open_regular(root / entry.path)
    with os.fdopen(fd, "rb") as stream:
        try:
            data = stream.read(entry.size + 1)
        except OSError as error:
            raise StorageError(f"{root}/{entry.path}: cannot be read: {error.strerror or error}") from error
    if (found := hashlib.sha256(data).hexdigest()) != entry.sha256:
        where = f"{root}/{entry.path}"
        raise SourceFault(where, "the file is not that of the index", expected=entry.sha256, found=found)
    return data


def open_pack(path: Path | str, *, backend: Backend | None = None, threads: int | None = None) -> Pack:
    """Open a pack: its index, the set of its files, and the headers of its shards are checked. No origin is.

    Args:
        path: its directory.
        backend: what decodes; by default the fastest that works here.
        threads: for `Pack.read` and `Pack.items`; by default as many as CPUs that this process may run on.

    Raises:
        UsageError: there is no pack.
        MalformedArtefact: index, files or headers break spec/pack.md; names file, field, what was expected and found.
        StorageError: a file cannot be read.
    """
    root = Path(path)
    if not (root / INDEX).exists():
        raise UsageError(f"{root}: no {INDEX} in it, so this is no pack, or one that was not finished")
    if (root / INDEX).is_symlink():
        raise MalformedArtefact(str(root / INDEX), "", expected="a regular file", found="a link")
    data = read_whole(root / INDEX, limit=MAX_DOCUMENT)
    return Pack(
        root,
        data,
        also=frozenset(),
        backend=backend or best(),
        threads=threads or len(os.sched_getaffinity(0)),
    )


def rebuild(
    tensor: PackedTensor, blob: memoryview, file: str, backend: Backend, *, threads: int = 1
) -> npt.NDArray[np.uint8]:
    """Return the rebuilt bytes of a tensor: uint8 [bytes]. They are not compared with a digest.

    Args:
        tensor: its entry in the index.
        blob: its bytes in the shard.
        file: names the blob in errors.
        backend: decodes.
        threads: for the chunks.

    Raises:
        MalformedArtefact: the blob breaks the format, or is not of the entry's codec, dtype or size.
        StorageError: there is no memory for it.
    """
    if tensor.codec == RAW:
        return np.frombuffer(blob, np.uint8)
    try:
        shape, _ = front_of(blob, file)
        _require_form(tensor, shape, file)  # before anything of that size is made
        layout = parse_layout(blob, file)
        return decode_rows(layout, blob, 0, shape.rows, backend, threads=threads)
    except MemoryError:
        raise StorageError(f"{file}: no memory for {tensor.nbytes} bytes") from None


def _next(waiting: deque[tuple[PackedTensor, Future[Rebuilt]]]) -> tuple[str, Rebuilt]:
    tensor, future = waiting.popleft()
    return tensor.name, future.result()


def _require_form(tensor: PackedTensor, shape: Shape, file: str) -> None:
    """Require that a header is of the elements, codec and dtype that the index gives."""
    if (elements := shape.rows * shape.cols) != tensor.elements:
        expected = f"{tensor.elements} elements, as in the index"
        raise MalformedArtefact(file, "header: rows and cols", expected=expected, found=str(elements))
    wanted, found = (tensor.codec, tensor.dtype), (EXACT if shape.codec == PLANES else FIVE, shape.dtype)
    if wanted != found:
        raise MalformedArtefact(file, "header", expected=" of ".join(wanted), found=" of ".join(found))


def _require_held(shard: SafetensorsFile, held: dict[str, TensorView], listed: dict[str, PackedTensor]) -> None:
    file = str(shard.path)
    for name in sorted(held.keys() | listed.keys()):
        if name not in listed:
            raise MalformedArtefact(
                file, show(name), expected="only tensors that the index places here", found="another"
            )
        if name not in held:
            raise MalformedArtefact(file, show(name), expected="a tensor that the index places here", found="none")
        tensor, view = listed[name], held[name]
        wanted = stored_form(tensor, tensor.nbytes if tensor.codec == RAW else view.nbytes)[1:3]
        if wanted != (view.dtype, view.shape):
            expected, found = (f"{dtype} of shape {list(shape)}" for dtype, shape in (wanted, (view.dtype, view.shape)))
            raise MalformedArtefact(file, show(name), expected=expected, found=found)


def _fill(blob: npt.NDArray[np.uint8], view: TensorView, begin: int, stop: int) -> None:
    blob[begin:stop] = np.frombuffer(view.read(begin, stop), np.uint8)
