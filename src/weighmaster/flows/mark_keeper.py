# SPDX-License-Identifier: Apache-2.0
"""Keep the high-water mark of one admission: at admission, and whenever a cycle of re-verification is complete."""

from __future__ import annotations

from dataclasses import dataclass

from weighmaster.flows.clock import WallClock
from weighmaster.flows.mark import MarkFile
from weighmaster.flows.trusted import Trusted

__all__ = ["MarkKeeper"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkKeeper:
    """What raises the mark.

    Attributes:
        file: the mark, or None where none is kept.
        trusted: what was admitted.
        wall: the wall clock.
    """

    file: MarkFile | None
    trusted: Trusted
    wall: WallClock

    def keep(self) -> None:
        """Raise the mark to what was admitted and to the present moment.

        Raises:
            NotAdmitted: another gate raised it above what was admitted here, or the clock was set back.
            StorageError: it cannot be written.
        """
        if self.file is not None:
            self.file.raise_to(self.trusted.found(self.wall()), self.trusted.verified)

    @property
    def not_covered(self) -> tuple[str, ...]:
        """What is not known about older manifests and trust files, in words."""
        if self.file is None:
            return ("rollback: no high-water mark is kept here; the trust file's minimum serial is the protection",)
        if self.trusted.mark is None:
            path = self.file.path
            return (f"rollback: there was no mark in {path} (a first start, or it was deleted); one is kept from now",)
        return ()
