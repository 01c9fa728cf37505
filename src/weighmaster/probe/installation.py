# SPDX-License-Identifier: Apache-2.0
"""Installation checks: is what runs here the installed distribution, whole, and do interpreter and packages fit.

Sources: "Recording installed projects" (RECORD) and "Core metadata specifications" (Requires-Dist, Requires-Python),
packaging.python.org.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Final, TypeAlias

from weighmaster.core.qualification import Check
from weighmaster.probe.file_digests import file_sha256
from weighmaster.probe.records import parse_record, record_value

__all__ = ["INSTALLATION_NUMBERS", "TOOL_EXTRAS", "installation_checks", "within"]

INSTALLATION_NUMBERS: Final = ("IQ-01", "IQ-02", "IQ-03", "IQ-04", "IQ-05", "IQ-06", "IQ-07", "IQ-08")
"""The checks of `installation_checks`: their number cannot shrink in silence."""

TOOL_EXTRAS: Final = ("bench", "demo", "dev", "fuzz", "interop", "release")
"""Extras of those who work on the project; what serves a model is in the others."""

Outcome: TypeAlias = tuple[str, str, bool]
"""Expected, found, passed."""

_NAME: Final = "weighmaster"
_SHOWN: Final = 5
_CODE: Final = (".py", ".pyc", ".so")
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*\(?([^();]*)\)?\s*(?:;\s*(.*))?")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_BOUND: Final = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9]+(?:\.[0-9]+)*)")
_RELEASE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)*)(?:\.?post[0-9]+)?(?:\+[A-Za-z0-9.]+)?")


def installation_checks(
    version: str, *, distribution: Distribution | None = None, package: Path | None = None
) -> tuple[Check, ...]:
    """Run the checks of `INSTALLATION_NUMBERS` and return them, passed or not.

    Args:
        version: what the package that runs says of itself.
        distribution: by default the one that is installed here under our name.
        package: folder of the package that runs; by default this one.
    """
    package = package or Path(__file__).resolve().parents[1]
    try:
        found = distribution or importlib.metadata.distribution(_NAME)
    except PackageNotFoundError:
        return tuple(
            Check(number=n, what="installation", expected=f"distribution {_NAME}", found="none", passed=False)
            for n in INSTALLATION_NUMBERS
        )
    checks: tuple[tuple[str, Callable[[], Outcome]], ...] = (
        (
            "version of the package is that of its distribution",
            lambda: (found.version, version, found.version == version),
        ),
        ("code that runs is that of the installed distribution", lambda: _place(found, package)),
        ("files are those of RECORD", lambda: _recorded(found, package)),
        ("no code beside the files of RECORD", lambda: _unrecorded(found, package)),
        ("Python is in the range", lambda: _python(found)),
        ("required packages are there, in their ranges", lambda: _required(found)),
        ("optional packages that are there are in their ranges", lambda: _optional(found)),
        ("operating system", _system),
    )
    return tuple(_run(number, *check) for number, check in zip(INSTALLATION_NUMBERS, checks, strict=True))


def _run(number: str, what: str, check: Callable[[], Outcome]) -> Check:
    expected, found, passed = check()
    return Check(number=number, what=what, expected=expected, found=found, passed=passed)


def _place(distribution: Distribution, package: Path) -> Outcome:
    expected, found = os.path.realpath(str(distribution.locate_file(_NAME))), os.path.realpath(package)
    return expected, found, expected == found


def _record(distribution: Distribution) -> dict[str, str]:
    """Return the recorded files of the package, and none where it was installed in a way that records none."""
    record = parse_record(distribution.read_text("RECORD") or "") or {}
    return {path: digest for path, digest in record.items() if path.startswith(f"{_NAME}/")}


_NONE_RECORDED: Final = "RECORD names no file of the package (an editable installation?)"


def _recorded(distribution: Distribution, package: Path) -> Outcome:
    record = _record(distribution)
    wrong = [p for p, digest in record.items() if file_sha256(str(package.parent / p)) != digest]
    expected = f"{len(record)} files with the recorded SHA-256" if record else "files with the recorded SHA-256"
    if not record:
        return expected, _NONE_RECORDED, False
    if wrong:
        return expected, f"{len(wrong)} that are not: {_named(wrong)}", False
    return expected, f"{len(record)} files, {record_value(record, str(package.parent), ())}", True


def _unrecorded(distribution: Distribution, package: Path) -> Outcome:
    record = _record(distribution)
    if not record:
        return "none", _NONE_RECORDED, False
    here = (p.relative_to(package.parent) for p in package.rglob("*") if p.suffix in _CODE)
    extra = sorted(p.as_posix() for p in here if "__pycache__" not in p.parts and p.as_posix() not in record)
    return "none", f"{len(extra)}: {_named(extra)}" if extra else "none", not extra


def _named(paths: list[str]) -> str:
    return ", ".join(paths[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")


def _python(distribution: Distribution) -> Outcome:
    wanted, found = str(distribution.metadata["Requires-Python"]), platform.python_version()
    return wanted, f"{platform.python_implementation()} {found}", within(found, wanted)


def _required(distribution: Distribution) -> Outcome:
    wanted = [(name, bounds) for name, bounds, extra in _requirements(distribution) if extra is None]
    found = [(name, bounds, _installed(name)) for name, bounds in wanted]
    passed = bool(found) and all(v is not None and within(v, bounds) for _, bounds, v in found)
    return _texts(wanted), _texts((name, v or "not installed") for name, _, v in found), passed


def _optional(distribution: Distribution) -> Outcome:
    wanted = {
        (name, bounds)
        for name, bounds, extra in _requirements(distribution)
        if extra is not None and extra not in TOOL_EXTRAS and name != _NAME
    }
    found = [(name, bounds, _installed(name)) for name, bounds in sorted(wanted)]
    passed = all(v is None or within(v, bounds) for _, bounds, v in found)
    return _texts(sorted(wanted)), _texts((name, v or "not installed") for name, _, v in found), passed


def _requirements(distribution: Distribution) -> Iterator[tuple[str, str, str | None]]:
    """Yield name, bounds and extra of each requirement in the metadata."""
    for text in distribution.requires or ():
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None:
            yield text, "what this version can read", None
            continue
        extra = _EXTRA.search(match[3] or "")
        yield match[1], match[2].strip(), extra[1] if extra else None


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except PackageNotFoundError:
        return None


def _texts(pairs: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {value}".rstrip() for name, value in pairs) or "none"


def within(version: str, bounds: str) -> bool:
    """Tell whether a version lies within bounds such as ``>=44,<60``; what cannot be compared does not.

    Pre-releases lie in no range; post-releases and local parts (``2.13.0+cpu``) count as the release.
    """
    release = _RELEASE.fullmatch(version)
    if release is None:
        return False
    return all(_holds(release[1], bound.strip()) for bound in bounds.split(",") if bound.strip())


def _holds(release: str, bound: str) -> bool:
    match = _BOUND.fullmatch(bound)
    if match is None:
        return False
    have, want = _numbers(release), _numbers(match[2])
    return {
        ">=": have >= want,
        "<=": have <= want,
        "==": have == want,
        "!=": have != want,
        "<": have < want,
        ">": have > want,
    }[match[1]]


def _numbers(release: str) -> tuple[int, ...]:
    """Return the numbers without zeros at the end: 1.0 and 1 are one release."""
    numbers = [int(part) for part in release.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _system() -> Outcome:
    return "Linux", platform.system(), sys.platform == "linux"
