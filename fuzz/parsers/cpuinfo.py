# SPDX-License-Identifier: Apache-2.0
"""probe.cpu.parse_cpuinfo, and the facts that are made of it; never refused."""

from __future__ import annotations

from fuzz.harness import refused_or_read, require
from weighmaster.core.environment import Environment, parse_environment
from weighmaster.probe.cpu import cpu_facts, parse_cpuinfo

SEEDS = ()
INPUTS = (
    (
        b"processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: X\nflags\t\t: fpu avx avx2 sme\ncore id\t: 0\n\n"
        b"processor\t: 1\nvendor_id\t: GenuineIntel\nmodel name\t: X\nflags\t\t: fpu avx avx2 sme\ncore id\t: 0\n\n"
    ),
    b"processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n\nHardware\t: Y\n",
)


def one(data: bytes) -> None:
    """Processors have numbers; the facts make an environment that is read as it was written."""
    text = data.decode("utf-8", "replace")
    processors = refused_or_read(data, lambda _: parse_cpuinfo(text), ()) or ()
    require(all("processor" in processor for processor in processors), "a processor without a number")
    written = Environment.of(cpu_facts(text)).to_bytes()
    require(parse_environment(written, "file").to_bytes() == written, "facts that are read otherwise")
