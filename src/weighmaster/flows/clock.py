# SPDX-License-Identifier: Apache-2.0
"""The wall clock. Only flows and the command line read it; formats and checks take the moment as an argument."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["wall_clock"]


def wall_clock() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(UTC)
