# SPDX-License-Identifier: Apache-2.0
"""The wall clock: read here and in the command line alone, and handed down as a value."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["WallClock", "wall_clock"]

WallClock = Callable[[], datetime]
"""Returns the present moment, aware and in UTC."""


def wall_clock() -> datetime:
    """Return the present moment as the operating system has it."""
    return datetime.now(UTC)
