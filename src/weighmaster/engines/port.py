# SPDX-License-Identifier: Apache-2.0
"""What every digest engine offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from weighmaster.core.digest import TensorDigest
from weighmaster.core.tensor import TensorView

__all__ = ["DigestEngine", "Progress", "Wanted"]

Progress: TypeAlias = Callable[[int], None]
"""Called with a number of bytes that were just digested, from any thread."""

Wanted: TypeAlias = Literal["both", "gate"]
"""``both`` digests of every tensor; or the ``gate`` digest alone: the tree above one leaf, flat up to that."""


class DigestEngine(Protocol):
    """Computes tensor-digest v1 where the tensors lie."""

    @property
    def name(self) -> str:
        """Id of the engine, recorded in the manifest's method, such as ``hashlib-v1``."""

    def digest(
        self, views: Sequence[TensorView], *, wanted: Wanted = "both", progress: Progress | None = None
    ) -> tuple[TensorDigest, ...]:
        """Return the digests of `views`, in their order. Reads only.

        Raises:
            StorageError: a reader gave less or more bytes than it was asked for; otherwise what the readers raise.
        """

    def leaves(self, view: TensorView, first: int, count: int) -> bytes:
        """Return the digests of leaves [first, first + count) of `view`, 32 bytes each."""
