# SPDX-License-Identifier: Apache-2.0
"""Qualify an installation and its operation (IQ and OQ): run every numbered check, and report each of them."""

from __future__ import annotations

import importlib.metadata
import platform
import ssl
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from weighmaster.core.instant import instant_text
from weighmaster.core.qualification import Qualification, missing_faults
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.engines.port import DigestEngine
from weighmaster.flows.operation import OPERATION_NUMBERS, operation_checks
from weighmaster.probe.installation import INSTALLATION_NUMBERS, installation_checks

__all__ = ["NUMBERS", "installed", "qualify"]

NUMBERS: Final = (*INSTALLATION_NUMBERS, *OPERATION_NUMBERS)
"""Every check of a report, in order."""

_PACKAGES: Final = ("weighmaster", "cryptography", "torch", "transformers", "numpy", "safetensors", "bitsandbytes")


def qualify(version: str, clock: Callable[[], datetime], *, engine: DigestEngine | None = None) -> Qualification:
    """Run all checks in a temporary folder, which is removed; neither a runtime nor a network is needed.

    Args:
        version: what the package that runs says of itself.
        clock: the wall clock, in UTC.
        engine: digest engine; by default hashlib on all CPUs.
    """
    started = instant_text(clock())
    with tempfile.TemporaryDirectory(prefix="weighmaster-") as folder:
        checks = (*installation_checks(version), *operation_checks(Path(folder), engine or HashlibEngine()))
    failed = tuple(check.fault() for check in checks if not check.passed)
    return Qualification(
        started=started,
        ended=instant_text(clock()),
        host=dict(_host()),
        packages={name: installed(name) for name in _PACKAGES},
        checks=checks,
        faults=(*missing_faults(checks, NUMBERS), *failed),
    )


def _host() -> Iterator[tuple[str, str]]:
    yield "host name", platform.node()
    yield "operating system", platform.platform()
    yield "machine", platform.machine()
    yield "python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "openssl of the interpreter", ssl.OPENSSL_VERSION


def installed(name: str) -> str:
    """Return the version of an installed distribution, or ``not installed``."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
