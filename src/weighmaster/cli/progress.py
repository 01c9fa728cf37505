# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error, where that is a terminal: bytes done, of how many, the rate, the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Final, Protocol, Self

__all__ = ["ProgressBar", "StageBar", "StageStep", "amount", "duration"]

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
        self.total, self._clock, self.label = total, clock, ""
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
                self._stream.write(f"\r\x1b[K{self.label}{self.line(now)}")
                self._stream.flush()

    def line(self, now: float) -> str:
        """Return what is drawn at the time `now`."""
        rate = int(self._done / max(now - self._start, 1e-9))
        if not self.total:
            return f"{amount(self._done)}  {amount(rate)}/s"
        percent = min(100 * self._done // self.total, 100)
        return f"{amount(self._done)} / {amount(self.total)}  {percent} %  {amount(rate)}/s{self._left(rate)}"

    def _left(self, rate: int) -> str:
        left = (self.total or 0) - self._done
        return f"  {duration(left // rate)} left" if rate and left > 0 else ""


class StageBar:
    """A progress bar for work of several stages, each with bytes and tensors of its own. A context manager.

    It is called with steps: anything that has `stage`, `nbytes`, `total`, `tensors` and `of_tensors`.
    """

    def __init__(self, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw on `stream` (standard error)."""
        self._stream, self._clock = stream, clock
        self._stage, self._tensors = "", 0
        self._bar: ProgressBar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def __call__(self, step: StageStep) -> None:
        """Count a step; a new stage begins a new bar."""
        if self._bar is None or step.stage != self._stage:
            self._stage, self._tensors = step.stage, 0
            self._bar = ProgressBar(step.total, self._stream, self._clock)
        self._tensors += step.tensors
        of = f"{self._tensors:,} of {step.of_tensors:,} tensors  " if step.of_tensors else ""
        self._bar.label = f"{step.stage}  {of}"
        self._bar(step.nbytes)


class StageStep(Protocol):
    """Some bytes and tensors of a stage that are done."""

    @property
    def stage(self) -> str:
        """What is being done."""

    @property
    def nbytes(self) -> int:
        """Bytes that were just done."""

    @property
    def total(self) -> int:
        """Bytes of the stage."""

    @property
    def tensors(self) -> int:
        """Tensors that were just done."""

    @property
    def of_tensors(self) -> int:
        """Tensors of the stage, 0 where there are none."""


def duration(seconds: int) -> str:
    """Return a time in two units: ``59 s``, ``2 min 05 s``, ``3 h 20 min``."""
    minutes, left = divmod(seconds, 60)
    if not minutes:
        return f"{left} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02} min" if hours else f"{minutes} min {left:02} s"


def amount(nbytes: int) -> str:
    """Return a number of bytes in decimal units, three digits or more: ``0 B``, ``999 B``, ``1.20 GB``."""
    size, unit = float(nbytes), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{nbytes} B" if unit == 0 else f"{size:.2f} {_UNITS[unit]}"
