# SPDX-License-Identifier: Apache-2.0
"""Make the code of a model compute in float64 throughout, and name the operators that did not.

Code of models asks for float32 in places whatever the model is in: eager attention's softmax, RMS norms, rotary tables.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["Watch", "Widen"]

_NARROW: Final = frozenset({torch.float32, torch.bfloat16, torch.float16})


class Widen(TorchFunctionMode):
    """Reads float64 wherever code asks for a narrower floating type, and counts how often it did, in `widened`."""

    def __init__(self) -> None:
        """Begin to count."""
        super().__init__()
        self.widened = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` with float64 in the place of narrower types."""
        name = getattr(func, "__name__", "")
        if name in ("float", "half", "bfloat16") and args and isinstance(args[0], torch.Tensor):
            self.widened += 1
            return args[0].double()
        return func(*tree_map(self._wide, args), **tree_map(self._wide, kwargs or {}))

    def _wide(self, value: Any) -> Any:
        if isinstance(value, torch.dtype) and value in _NARROW:
            self.widened += 1
            return torch.float64
        return value


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class is not annotated
    """Keeps the names of operators that gave a narrower floating tensor than float64, in `narrow`."""

    def __init__(self) -> None:
        """Begin to watch."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.narrow: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` and look at what it gives."""
        given = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, torch.Tensor) and leaf.dtype in _NARROW for leaf in tree_leaves(given)):
            self.narrow.add(str(func))
        return given
