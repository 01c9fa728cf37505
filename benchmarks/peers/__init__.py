# SPDX-License-Identifier: Apache-2.0
"""The quantizers of others, each asked for the tensors that it rebuilds and for every byte that it needs to do so.

A peer is a function from the tensors of a model (names of the checkpoint, dtypes of the checkpoint) to one or more
`Rebuilt`. All matrices are quantized, embeddings and heads included, and vectors (norms, biases) stay as they are;
the bytes counted are those of the tensors alone: file headers, names and indices are not held against a peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Peer", "Rebuilt", "Tensors", "each_matrix", "nbytes_of", "parameters"]

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a method makes of a model.

    Attributes:
        name: the method, short; the key in results.
        what: what exactly was run, for print.
        nbytes: bytes of everything that the tensors are rebuilt from.
        tensors: the rebuilt tensors, float32.
        calibrated: whether the method saw text.
        key: digest of what the tensors were rebuilt from, by which an earlier measurement is found again; may be empty.
    """

    name: str
    what: str
    nbytes: int
    tensors: dict[str, torch.Tensor]
    calibrated: bool = False
    key: str = ""


Peer = Callable[[Tensors], Iterable[Rebuilt]]


def parameters(tensors: Tensors) -> int:
    """Return the number of all parameters."""
    return sum(tensor.numel() for tensor in tensors.values())


def nbytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of tensors that are kept as they are."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def each_matrix(
    tensors: Tensors, one: Callable[[str, torch.Tensor], tuple[torch.Tensor, int]], *, skip: Iterable[str] = ()
) -> tuple[dict[str, torch.Tensor], int]:
    """Quantize every matrix by `one`, which gives the rebuilt matrix and its bytes; keep everything else.

    Args:
        tensors: of the model.
        one: from a name and a float32 matrix to the rebuilt one and its bytes.
        skip: names of matrices that are kept as they are.

    Returns:
        The tensors, float32, and the bytes of all of them.
    """
    kept = {name for name, tensor in tensors.items() if tensor.ndim != 2} | set(skip)
    out: dict[str, torch.Tensor] = {name: tensors[name].float() for name in kept}
    nbytes = nbytes_of(tensors[name] for name in kept)
    for name, matrix in _matrices(tensors, kept):
        rebuilt, count = one(name, matrix)
        out[name] = rebuilt.float().reshape(matrix.shape)
        nbytes += count
    return out, nbytes


def _matrices(tensors: Tensors, kept: set[str]) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, tensor.float()) for name, tensor in tensors.items() if name not in kept)
