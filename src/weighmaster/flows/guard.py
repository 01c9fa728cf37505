# SPDX-License-Identifier: Apache-2.0
"""The switch between a model and its forward pass: closed until admitted, closed again on lease end or revocation."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator

from weighmaster.errors import IdentityFault, NotAdmitted

__all__ = ["Clock", "Guard", "boot_clock"]

Clock = Callable[[], float]
"""Seconds from an arbitrary start, never set back: the wall clock plays no part in a lease."""

_probing: contextvars.ContextVar[bool] = contextvars.ContextVar("weighmaster_probing", default=False)


def boot_clock() -> float:
    """Return seconds since boot, time in suspension included (``CLOCK_BOOTTIME``, clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Guard:
    """Says whether forward passes may run. Thread-safe; once revoked it never opens again."""

    def __init__(self, clock: Clock = boot_clock) -> None:
        """Begin closed. `clock` measures leases."""
        self._clock = clock
        self._lock = threading.Lock()
        self._until: float | None = None
        self._revoked: str | None = None

    def open(self, lease: float) -> None:
        """Let passes run for `lease` seconds from now, unless revoked."""
        with self._lock:
            self._until = self._clock() + lease

    def revoke(self, reason: str) -> None:
        """Close for good."""
        with self._lock:
            self._revoked = self._revoked or reason

    @property
    def revoked(self) -> str | None:
        """The reason of the revocation, or None."""
        return self._revoked

    @property
    def remaining(self) -> float:
        """Seconds left of the lease; 0 where it is closed."""
        with self._lock:
            if self._revoked or self._until is None:
                return 0.0
            return max(0.0, self._until - self._clock())

    def check(self) -> None:
        """Return where a pass may run.

        Raises:
            NotAdmitted: not admitted yet, lease ran out, or revoked.
        """
        if _probing.get():
            return
        self.require_not_revoked()
        with self._lock:
            until = self._until
        if until is None:
            raise _blocked("the model has not been admitted", "no admission")
        late = self._clock() - until
        if late >= 0:
            raise _blocked("the lease ran out before a re-verification renewed it", f"{late:.1f} s after its end")

    def require_not_revoked(self) -> None:
        """Return unless it was closed for good.

        Raises:
            NotAdmitted: it was.
        """
        if self._revoked is not None:
            raise _blocked("the admission was revoked", self._revoked)

    @staticmethod
    @contextlib.contextmanager
    def probing() -> Iterator[None]:
        """Let the gate's own probe runs of this thread pass."""
        token = _probing.set(True)
        try:
            yield
        finally:
            _probing.reset(token)


def _blocked(detail: str, found: str) -> NotAdmitted:
    fault = IdentityFault("admission", detail, expected="an admission in force", found=found)
    return NotAdmitted("forward pass blocked", [fault])
