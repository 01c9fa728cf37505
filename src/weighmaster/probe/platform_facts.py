# SPDX-License-Identifier: Apache-2.0
"""Facts about operating system, C library, host and container."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from weighmaster.core.environment import Fact

__all__ = ["platform_facts"]

_PRELOAD: Final = Path("/etc/ld.so.preload")


def platform_facts(environ: Mapping[str, str] | None = None) -> tuple[Fact, ...]:
    """Return the facts of the group ``platform``.

    Args:
        environ: where ``IMAGE_DIGEST`` is looked up (a container cannot read its own image digest); by default
            the environment of this process.
    """
    image = (os.environ if environ is None else environ).get("IMAGE_DIGEST")
    host = hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()
    return (
        Fact.of("platform.byte_order", sys.byteorder),
        Fact.of("platform.host_sha256", host, scope="instance"),
        _image(image),
        Fact.of("platform.kernel", platform.release(), scope="instance"),
        _preload_file(_PRELOAD),
        _libc(),
        Fact.of("platform.machine", platform.machine()),
        _system(),
        Fact.of("platform.system", platform.system()),
    )


def _image(digest: str | None) -> Fact:
    name = "platform.image"
    if not digest:
        return Fact.absent(name, scope="instance")
    if not digest.isascii() or len(digest) > 1024:  # noqa: PLR2004  # a reference with a digest is far shorter
        return Fact.unreadable(name, scope="instance")
    return Fact.of(name, digest, scope="instance")


def _preload_file(path: Path) -> Fact:
    """Return the digest of the file that makes the loader load libraries into every process."""
    name = "platform.ld_so_preload"
    try:
        return Fact.of(name, hashlib.sha256(path.read_bytes()).hexdigest())
    except FileNotFoundError:
        return Fact.absent(name)
    except OSError:
        return Fact.unreadable(name)


def _libc() -> Fact:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError, AttributeError):
        version = None  # another C library: its own file is a library fact
    return Fact.absent("platform.libc") if not version else Fact.of("platform.libc", version)


def _system() -> Fact:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return Fact.absent("platform.os", scope="instance")
    text = f"{release.get('ID', 'linux')} {release.get('VERSION_ID', '')}".rstrip()
    return Fact.of("platform.os", text, scope="instance")
