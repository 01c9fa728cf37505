# SPDX-License-Identifier: Apache-2.0
"""What weights were made from: the pack, its encoder and its parents, and what reports measured (spec/manifest.md).

`Encoder` and `Report` stand in the statement of a pack as well (`core.pack_statement`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from weighmaster.core.fields import Fields
from weighmaster.core.source import path_problem
from weighmaster.errors import MalformedArtefact

__all__ = [
    "METRIC_VALUE",
    "PACK_FORMAT",
    "PROFILES",
    "Derivation",
    "Encoder",
    "Parent",
    "Report",
    "calibration_problems",
    "read_derivation",
    "read_encoder",
    "read_report",
]

PACK_FORMAT: Final = "weighmaster-pack-v1"
PROFILES: Final = ("calibrated", "datafree", "exact")
METRIC_VALUE: Final = re.compile(r"-?(0|[1-9][0-9]{0,308})(\.[0-9]{1,400})?")
_METRIC_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_BITS: Final = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,20})?")
_HEX256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Who chose the levels of a pack, and how.

    Attributes:
        name: of the program.
        version: of the program.
        profile: one of `PROFILES`.
        bits: per weight, as they were asked for: a decimal string; None for ``exact``.
    """

    name: str
    version: str
    profile: str
    bits: str | None

    def __post_init__(self) -> None:
        """Refuse what no pack has.

        Raises:
            ValueError: an empty name or version, an unknown profile, or bits that do not fit it.
        """
        if not self.name or not self.version:
            raise ValueError("encoder: name and version must not be empty")
        if self.profile not in PROFILES:
            raise ValueError(f"encoder: expected a profile of {', '.join(PROFILES)}, found {self.profile!r}")
        if (self.bits is None) != (self.profile == "exact"):
            raise ValueError(
                f"encoder: bits stand with every profile but exact, found {self.bits or 'null'} with {self.profile}"
            )
        if self.bits is not None and not _BITS.fullmatch(self.bits):
            raise ValueError(f"encoder: expected bits as a decimal number in a string, found {self.bits[:80]!r}")

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"bits": self.bits, "name": self.name, "profile": self.profile, "version": self.version}

    def __str__(self) -> str:
        bits = "" if self.bits is None else f", {self.bits} bits per weight asked for"
        return f"{self.name} {self.version}, profile {self.profile}{bits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """One weight file that was packed: path, SHA-256 and length in bytes."""

    path: str
    sha256: str
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report by its digest, and the few figures of it that are signed along.

    Attributes:
        format: id of the report's format.
        sha256: of the file.
        metrics: name and decimal string, strictly ascending by name.
    """

    format: str
    sha256: str
    metrics: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no reference to a report.

        Raises:
            ValueError: an empty format, no digest, names out of order or of another form, or a value that is no number.
        """
        if not self.format:
            raise ValueError("report: the format must not be empty")
        if not _HEX256.fullmatch(self.sha256):
            raise ValueError(f"report: expected 64 lowercase hexadecimal digits, found {self.sha256[:80]!r}")
        for name, value in self.metrics:
            if not _METRIC_NAME.fullmatch(name):
                raise ValueError(f"report: {name[:80]!r} is no name of a metric")
            if not METRIC_VALUE.fullmatch(value):
                raise ValueError(f"report: {name}: expected a decimal number in a string, found {value[:80]!r}")
        for (before, _), (after, _) in pairwise(self.metrics):
            if before >= after:
                raise ValueError(f"report: metrics are not strictly ascending: {after!r} after {before!r}")

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        metrics = [{"name": name, "value": value} for name, value in self.metrics]
        return {"format": self.format, "metrics": metrics, "sha256": self.sha256}

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self.metrics)
        return f"{self.format}, SHA-256 {self.sha256}{': ' if figures else ''}{figures}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """Where weights come from that a pack rebuilt.

    Attributes:
        pack: the pack root.
        encoder: of the pack.
        calibration: SHA-256 of the tokens that it was calibrated on, or None.
        parents: the weight files that were packed, strictly ascending by the UTF-8 bytes of their paths.
        reports: what was measured; each is among the statement's `validation`, by its digest.
    """

    pack: str
    encoder: Encoder
    calibration: str | None
    parents: tuple[Parent, ...]
    reports: tuple[Report, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no derivation.

        Raises:
            ValueError: no parent, parents out of order, a path that leads elsewhere, a report that stands twice, or a
                calibration that does not fit the profile.
        """
        for problem in self._problems():
            raise ValueError(f"derivation: {problem}")

    def _problems(self) -> Iterator[str]:
        yield from calibration_problems(self.encoder, self.calibration)
        if not self.parents:
            yield "no weight file was packed"
        for parent in self.parents:
            if problem := path_problem(parent.path):
                yield f"expected a relative path, found {problem}"
        for before, after in pairwise(self.parents):
            if before.path.encode("utf-8") >= after.path.encode("utf-8"):
                yield f"parents are not strictly ascending: {after.path!r} after {before.path!r}"
        if len({r.sha256 for r in self.reports}) != len(self.reports):
            yield "a report stands twice"

    def to_json(self) -> dict[str, object]:
        """Return the JSON object."""
        return {
            "calibration": self.calibration,
            "encoder": self.encoder.to_json(),
            "format": PACK_FORMAT,
            "pack": self.pack,
            "parents": [{"bytes": str(p.nbytes), "path": p.path, "sha256": p.sha256} for p in self.parents],
            "reports": [r.to_json() for r in self.reports],
        }


def calibration_problems(encoder: Encoder, calibration: str | None) -> Iterator[str]:
    """Yield what is wrong with a calibration: it stands exactly where the encoder was calibrated."""
    if (calibration is not None) != (encoder.profile == "calibrated"):
        found = f"found {calibration or 'null'} with {encoder.profile}"
        yield f"a calibration stands with the profile calibrated alone, {found}"


def read_derivation(fields: Fields) -> Derivation:
    """Read the object; the caller refuses keys left over.

    Raises:
        MalformedArtefact: a field is missing or wrong.
    """
    fields.text("format", choices=(PACK_FORMAT,))
    encoder = read_encoder(fields.nested("encoder"))
    pack, calibration = fields.digest("pack"), fields.optional_digest("calibration")
    parents, reports = fields.objects("parents", _read_parent), fields.objects("reports", read_report)
    try:
        return Derivation(pack=pack, encoder=encoder, calibration=calibration, parents=parents, reports=reports)
    except ValueError as error:
        raise MalformedArtefact(fields.file, fields.path, expected="a derivation", found=str(error)) from None


def read_encoder(fields: Fields) -> Encoder:
    """Read an encoder, whole.

    Raises:
        MalformedArtefact: a field is missing, wrong or unknown.
    """
    name, version, profile = fields.text("name"), fields.text("version"), fields.text("profile", choices=PROFILES)
    bits = fields.optional_text("bits")
    fields.done()
    try:
        return Encoder(name=name, version=version, profile=profile, bits=bits)
    except ValueError as error:
        raise MalformedArtefact(fields.file, fields.path, expected="an encoder", found=str(error)) from None


def _read_parent(fields: Fields) -> Parent:
    return Parent(path=fields.text("path"), nbytes=fields.decimal("bytes"), sha256=fields.digest("sha256"))


def read_report(fields: Fields) -> Report:
    """Read a reference to a report; the caller refuses keys left over.

    Raises:
        MalformedArtefact: a field is missing or wrong.
    """
    scheme, sha256 = fields.text("format"), fields.digest("sha256")
    metrics = fields.objects("metrics", lambda f: (f.text("name"), f.text("value")))
    try:
        return Report(format=scheme, sha256=sha256, metrics=metrics)
    except ValueError as error:
        raise MalformedArtefact(fields.file, fields.path, expected="a report", found=str(error)) from None
