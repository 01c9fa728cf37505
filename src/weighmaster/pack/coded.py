# SPDX-License-Identifier: Apache-2.0
"""What an encoder gives back for a tensor, and what every encoder can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from weighmaster.core.tensor import TensorView

__all__ = ["Coded", "Encoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A tensor as it goes into a pack.

    Attributes:
        codec: ``five-v1``, ``exact-v1``, or ``raw-v1``, whose blob is the tensor's own bytes.
        blob: the bytes.
        squared_error: sum over the elements of the square of what will be rebuilt less what was there.
        squared: sum over the elements of their squares.
    """

    codec: str
    blob: bytes
    squared_error: float
    squared: float


class Encoder(Protocol):
    """A plan for one model."""

    @property
    def profile(self) -> str:
        """``datafree``, ``calibrated`` or ``exact``."""

    def parameters(self) -> dict[str, str]:
        """Return what the index says of the encoder, numbers as decimal strings."""

    def encode(self, view: TensorView) -> Coded:
        """Code one tensor. The same plan gives the same bytes."""

    def state(self) -> bytes:
        """Return what `plan.resume` needs to go on with the same plan: canonical JSON."""
