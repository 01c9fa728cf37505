# SPDX-License-Identifier: Apache-2.0
"""Processor facts from texts as Linux writes them."""

from __future__ import annotations

import pytest

from weighmaster.core.environment import Fact
from weighmaster.probe.cpu import cpu_facts

X86 = """\
processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 207
model name\t: Intel(R) Xeon(R) Processor
stepping\t: 2
microcode\t: {microcode}
cache size\t: 266240 KB
physical id\t: 0
core id\t\t: {core}
flags\t\t: {flags}
power management:

"""
ARM = """\
processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd sve bf16 atomics
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1

Hardware\t: something
"""


def x86(number: int, *, core: int = 0, flags: str = "fpu sse2 avx2 ibpb", microcode: str = "0x1") -> str:
    return X86.format(number=number, core=core, flags=flags, microcode=microcode)


def facts(text: str) -> dict[str, Fact]:
    return {fact.name: fact for fact in cpu_facts(text)}


def test_x86():
    found = facts(x86(0) + x86(1) + x86(2, core=1))
    values = {name: fact.value for name, fact in found.items() if fact.scope == "class"}
    del values["cpu.affinity"]
    assert values == {
        "cpu.vendor": "GenuineIntel",
        "cpu.family": "6",
        "cpu.model": "207",
        "cpu.stepping": "2",
        "cpu.revision": None,
        "cpu.cache": "266240 KB",
        "cpu.isa": "avx2 fpu sse2",
        "cpu.cores": "2",
    }
    assert found["cpu.revision"].status == "absent"
    assert found["cpu.microcode"] == Fact.of("cpu.microcode", "0x1", scope="instance")
    assert found["cpu.flags"].value == "avx2 fpu ibpb sse2"


def test_arm():
    found = facts(ARM)
    read = ("cpu.vendor", "cpu.family", "cpu.model", "cpu.stepping", "cpu.revision", "cpu.isa")
    assert [found[name].value for name in read] == ["0x41", "8", "0xd40", "0x1", "1", "asimd bf16 fp sve"]
    assert found["cpu.cores"].status == "absent"


def test_processors_that_differ_are_unreadable():
    found = facts(x86(0) + x86(1, flags="fpu sse2", microcode="0x2"))
    assert [name for name, fact in found.items() if fact.status == "unreadable"] == [
        "cpu.microcode",
        "cpu.flags",
        "cpu.isa",
    ]
    assert found["cpu.isa"].scope == "class"


def test_a_lost_instruction_set_is_a_class_fact_and_a_lost_mitigation_is_not():
    whole = facts(x86(0))
    assert facts(x86(0, flags="fpu sse2 ibpb"))["cpu.isa"] != whole["cpu.isa"]
    assert facts(x86(0, flags="fpu sse2 avx2"))["cpu.isa"] == whole["cpu.isa"]
    assert facts(x86(0, flags="fpu sse2 avx2"))["cpu.flags_sha256"] != whole["cpu.flags_sha256"]
    assert "smep" not in (facts(x86(0, flags="smep sme fpu"))["cpu.isa"].value or "")


@pytest.mark.parametrize("text", ["", "no colon here\n\n", "vendor_id : x\n\n"])
def test_no_processor_is_unreadable_not_absent(text):
    assert facts(text)["cpu.info"] == Fact.unreadable("cpu.info")


def test_this_machine():
    found = {fact.name: fact for fact in cpu_facts()}
    assert int(found["cpu.affinity"].value or 0) >= 1
