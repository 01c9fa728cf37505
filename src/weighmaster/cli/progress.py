# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error, where that is a terminal: bytes done, of how many, and the rate."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Final, Self

__all__ = ["ProgressBar", "amount"]

_INTERVAL: Final = 0.1
"""Seconds between two drawings."""

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP: Final = 1000


class ProgressBar:
    """A context manager whose object is called with numbers of bytes, from any thread."""

    def __init__(
        self, total: int | None, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Count up to `total` bytes, or without an end where it is not known; draw on `stream` (standard error)."""
        self.total, self._clock = total, clock
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._lock = threading.Lock()
        self._done, self._start, self._drawn = 0, clock(), clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, nbytes: int) -> None:
        """Count `nbytes` more."""
        with self._lock:
            self._done += nbytes
            now = self._clock()
            if self._shown and now - self._drawn >= _INTERVAL:
                self._drawn = now
                self._stream.write(f"\r\x1b[K{self.line(now)}")
                self._stream.flush()

    def line(self, now: float) -> str:
        """Return what is drawn at the time `now`."""
        rate = int(self._done / max(now - self._start, 1e-9))
        if not self.total:
            return f"{amount(self._done)}  {amount(rate)}/s"
        percent = min(100 * self._done // self.total, 100)
        return f"{amount(self._done)} / {amount(self.total)}  {percent} %  {amount(rate)}/s"


def amount(nbytes: int) -> str:
    """Return a number of bytes in decimal units, three digits or more: ``0 B``, ``999 B``, ``1.20 GB``."""
    size, unit = float(nbytes), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{nbytes} B" if unit == 0 else f"{size:.2f} {_UNITS[unit]}"
