# SPDX-License-Identifier: Apache-2.0
"""The high-water mark: what a gate has seen, kept on disk, so that nothing older is believed again (spec/trust.md)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.fields import Fields
from weighmaster.core.instant import CLOCK_SLACK, instant_text
from weighmaster.durable import locked, read_whole, write_atomically
from weighmaster.errors import IdentityFault, MalformedArtefact, NotAdmitted, StorageError, UsageError
from weighmaster.seal.trust_chain import VerifiedTrust, verify_chain

__all__ = ["SCHEME", "Mark", "MarkFile", "mark_faults", "mark_to_bytes", "parse_mark"]

SCHEME: Final = "weighmaster-mark-v1"
_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The highest that one gate has seen of one product.

    Attributes:
        product: which the mark is about.
        roots: fingerprint of the roots in force.
        serial: of the manifest.
        time: latest moment that the gate was sure of.
        trust_sha256: of the trust document's bytes.
        trust_version: of the trust document.
    """

    product: str
    roots: str
    serial: int
    time: datetime
    trust_sha256: str
    trust_version: int

    @classmethod
    def of(cls, trust: VerifiedTrust, *, product: str, serial: int, time: datetime) -> Mark:
        """Return the mark of what is before the gate now."""
        return cls(
            product=product,
            roots=trust.trust.roots.fingerprint,
            serial=serial,
            time=time.replace(microsecond=0),
            trust_sha256=trust.sha256,
            trust_version=trust.trust.version,
        )

    def raised(self, found: Mark) -> Mark:
        """Return this mark raised to `found`, which has no fault against it: nothing goes down."""
        trust = max(self, found, key=lambda mark: mark.trust_version)
        return replace(trust, serial=max(self.serial, found.serial), time=max(self.time, found.time))


def mark_to_bytes(mark: Mark) -> bytes:
    """Return the file: one canonical line, and the SHA-256 of that line, so that damage is told from an old mark."""
    line = dumps(
        {
            "product": mark.product,
            "roots": mark.roots,
            "scheme": SCHEME,
            "serial": mark.serial,
            "time": instant_text(mark.time),
            "trustSha256": mark.trust_sha256,
            "trustVersion": mark.trust_version,
        }
    )
    return line + b"\n" + hashlib.sha256(line + b"\n").hexdigest().encode("ascii") + b"\n"


def parse_mark(data: bytes, file: str) -> Mark:
    """Read a mark strictly; `file` names it in errors.

    Raises:
        MalformedArtefact: it is damaged, or does not follow spec/trust.md.
    """
    line, feed, rest = data.partition(b"\n")
    expected = hashlib.sha256(line + b"\n").hexdigest()
    if not feed or rest != expected.encode("ascii") + b"\n":
        found = rest[:80].decode("ascii", "backslashreplace").rstrip("\n")
        raise MalformedArtefact(file, "line 2", expected=f"{expected}, SHA-256 of line 1", found=found or "none")
    fields = Fields(loads_canonical(line, file), file=file)
    fields.text("scheme", choices=(SCHEME,))
    mark = Mark(
        product=fields.text("product"),
        roots=fields.digest("roots"),
        serial=fields.integer("serial"),
        time=fields.instant("time"),
        trust_sha256=fields.digest("trustSha256"),
        trust_version=fields.integer("trustVersion", minimum=1),
    )
    fields.done()
    return mark


def mark_faults(mark: Mark, found: Mark, trust: VerifiedTrust) -> tuple[IdentityFault, ...]:
    """Return every way in which what is before the gate is older than what it has seen, or another (spec/trust.md).

    Args:
        mark: as it was kept.
        found: of what is before the gate; its time is that of the clock.
        trust: the trust document that `found` is about.
    """
    faults: list[IdentityFault] = []

    def add(subject: str, detail: str, expected: object, seen: object) -> None:
        faults.append(IdentityFault(subject, detail, expected=str(expected), found=str(seen)))

    if found.product != mark.product:  # (1)
        add("mark", "is about another product", found.product, mark.product)
    if found.trust_version < mark.trust_version:  # (2)
        detail = "older than one seen before (rollback)"
        add("trust version", detail, f">= {mark.trust_version}", found.trust_version)
    elif found.trust_version == mark.trust_version and found.trust_sha256 != mark.trust_sha256:  # (3)
        detail = f"another document than the one seen before as version {mark.trust_version}"
        add("trust document", detail, mark.trust_sha256, found.trust_sha256)
    _, broken = verify_chain(trust.chain, mark.roots)
    if broken:  # (4) the pin alone would let the keepers of a former set of roots back in
        add("trust roots", "are not followed from those seen before (rollback)", mark.roots, broken[0])
    if found.serial < mark.serial:  # (5)
        add("serial", "older than one seen before (rollback)", f">= {mark.serial}", found.serial)
    if found.time < mark.time - CLOCK_SLACK:  # (6)
        add("clock", "was set back", f">= {instant_text(mark.time - CLOCK_SLACK)}", instant_text(found.time))
    return tuple(faults)


class MarkFile:
    """A mark on disk. Several gates of one product may share it."""

    def __init__(self, path: Path | str) -> None:
        """Name the file; its directory must exist and be writable by the gate."""
        self.path = Path(path)

    def read(self) -> Mark | None:
        """Return the mark; None where there is no file.

        Raises:
            MalformedArtefact: it is damaged.
            StorageError: it cannot be read.
        """
        try:
            self.path.lstat()
            data = read_whole(self.path, limit=_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        except UsageError as error:  # a directory, or a link to nothing: not a first start
            raise StorageError(str(error)) from error
        return parse_mark(data, str(self.path))

    def raise_to(self, found: Mark, trust: VerifiedTrust) -> None:
        """Write the mark raised to `found`; read it again under a lock first, for another gate may have raised it.

        Raises:
            NotAdmitted: it has been raised meanwhile, above what is before this gate.
            StorageError: it cannot be written; the mark is as it was.
        """
        path = Path(os.path.realpath(self.path))  # the file itself: a link to it stays, and its lock is one for all
        with locked(path.parent):
            before = self.read()
            if before is not None and (faults := mark_faults(before, found, trust)):
                raise NotAdmitted(f"{self.path}: the mark stands higher", faults)
            after = found if before is None else before.raised(found)
            if after != before:
                write_atomically(path, mark_to_bytes(after), mode=0o600)
