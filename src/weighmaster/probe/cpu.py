# SPDX-License-Identifier: Apache-2.0
"""Facts about the processor, from /proc/cpuinfo: what kernels are chosen by, and how many cores they are split over."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from weighmaster.core.environment import Fact, Scope

__all__ = ["cpu_facts", "parse_cpuinfo"]

_CPUINFO: Final = Path("/proc/cpuinfo")

_KEYS: Final[tuple[tuple[str, tuple[str, ...], Scope], ...]] = (
    ("cpu.vendor", ("vendor_id", "CPU implementer"), "class"),
    ("cpu.family", ("cpu family", "CPU architecture"), "class"),
    ("cpu.model", ("model", "CPU part"), "class"),
    ("cpu.stepping", ("stepping", "CPU variant"), "class"),
    ("cpu.revision", ("CPU revision",), "class"),
    ("cpu.cache", ("cache size",), "class"),
    ("cpu.name", ("model name",), "instance"),
    ("cpu.microcode", ("microcode",), "instance"),
)
"""Fact, keys of /proc/cpuinfo (x86, Arm), scope."""

_FLAGS: Final = ("flags", "Features")
_ISA: Final = (
    "3dnow",
    "abm",
    "adx",
    "aes",
    "amx",
    "asimd",
    "avx",
    "bf16",
    "bmi",
    "crc32",
    "f16c",
    "fcma",
    "fhm",
    "fma",
    "fp",
    "gfni",
    "half",
    "i8mm",
    "mmx",
    "movbe",
    "neon",
    "pclmulqdq",
    "popcnt",
    "sme2",
    "smeb",
    "smef",
    "smei",
    "sse",
    "ssse3",
    "sve",
    "vaes",
    "vfp",
    "vpclmulqdq",
    "xop",
)
"""Beginnings of the flags by which numeric libraries choose code (not ``sme``: on x86 that is memory encryption)."""

Processor = dict[str, str]


def parse_cpuinfo(text: str) -> tuple[Processor, ...]:
    """Return one mapping per logical processor; blocks without a processor number (Arm's tail) are left out."""
    blocks = ([line.partition(":") for line in block.splitlines()] for block in text.split("\n\n"))
    processors = ({key.strip(): value.strip() for key, colon, value in block if colon} for block in blocks)
    return tuple(processor for processor in processors if "processor" in processor)


def cpu_facts(text: str | None = None) -> tuple[Fact, ...]:
    """Return the facts of the group ``cpu``; a property in which the processors differ is unreadable.

    Args:
        text: of a cpuinfo file; by default that of this machine.
    """
    if text is None:
        try:
            text = _CPUINFO.read_text("utf-8", "replace")
        except OSError:
            return (Fact.unreadable("cpu.info"), _affinity())
    processors = parse_cpuinfo(text)
    if not processors:
        return (Fact.unreadable("cpu.info"), _affinity())
    facts = [_uniform(name, processors, keys, scope) for name, keys, scope in _KEYS]
    return (
        *facts,
        *_flag_facts(_uniform("cpu.flags", processors, _FLAGS, "instance")),
        _cores(processors),
        _affinity(),
    )


def _uniform(name: str, processors: tuple[Processor, ...], keys: tuple[str, ...], scope: Scope) -> Fact:
    found = {next((p[key] for key in keys if key in p), None) for p in processors}
    if len(found) != 1:
        return Fact.unreadable(name, scope=scope)
    value = found.pop()
    return Fact.absent(name, scope=scope) if value is None else Fact.of(name, value, scope=scope)


def _flag_facts(flags: Fact) -> tuple[Fact, ...]:
    """Return the ISA flags as a class fact, and all flags and their digest as instance facts."""
    if flags.value is None:
        return (flags, Fact(name="cpu.isa", status=flags.status, value=None, scope="class"))
    every = sorted(set(flags.value.split()))
    isa = [flag for flag in every if flag.startswith(_ISA)]
    text = " ".join(every)
    return (
        Fact.of("cpu.flags", text, scope="instance"),
        Fact.of("cpu.flags_sha256", hashlib.sha256(text.encode("utf-8")).hexdigest(), scope="instance"),
        Fact.of("cpu.isa", " ".join(isa)),
    )


def _cores(processors: tuple[Processor, ...]) -> Fact:
    cores = {(p.get("physical id", "0"), p["core id"]) for p in processors if "core id" in p}
    return Fact.of("cpu.cores", str(len(cores))) if cores else Fact.absent("cpu.cores")


def _affinity() -> Fact:
    try:
        return Fact.of("cpu.affinity", str(len(os.sched_getaffinity(0))))
    except (OSError, AttributeError):
        return Fact.unreadable("cpu.affinity")
