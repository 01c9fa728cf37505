# SPDX-License-Identifier: Apache-2.0
"""Take a composite tensor apart: subclasses that wrap others, and sparse layouts."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

__all__ = ["parts_of"]


def parts_of(tensor: torch.Tensor) -> tuple[list[tuple[str, torch.Tensor]], object] | None:
    """Return the tensors that a composite tensor consists of, and its context; None for a plain one."""
    composite: Any = tensor  # the protocol of torch.utils._python_dispatch cannot be expressed beside torch.Tensor
    if is_traceable_wrapper_subclass(composite):
        names, context = composite.__tensor_flatten__()
        return [(n, getattr(tensor, n)) for n in names], context
    if tensor.layout is torch.sparse_coo:
        return [("indices", tensor._indices()), ("values", tensor._values())], tuple(tensor.shape)
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        inner = [
            ("crow_indices", tensor.crow_indices()),
            ("col_indices", tensor.col_indices()),
            ("values", tensor.values()),
        ]
        return inner, tuple(tensor.shape)
    return None
