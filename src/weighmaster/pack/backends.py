# SPDX-License-Identifier: Apache-2.0
"""Which backends are there, and the fastest of them."""

from __future__ import annotations

from weighmaster.pack.coder import Backend, NumpyBackend

__all__ = ["available", "best", "describe"]


def available() -> tuple[Backend, ...]:
    """Return the backends that work here, in order of preference."""
    return (NumpyBackend(),)


def best() -> Backend:
    """Return the fastest backend that works here."""
    return available()[0]


def describe() -> str:
    """Say which backend is used, for people."""
    return "numpy: slow, no compiled codec here"
