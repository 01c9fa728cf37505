# SPDX-License-Identifier: Apache-2.0
"""Facts about operating system, host and container."""

from __future__ import annotations

import hashlib
import platform

import pytest

from weighmaster.core.environment import Fact
from weighmaster.probe import platform_facts as module
from weighmaster.probe.platform_facts import platform_facts


def facts(environ=None):
    return {fact.name: fact for fact in platform_facts(environ or {})}


def test_scopes():
    bound = {name for name, fact in facts().items() if fact.scope == "class"}
    assert bound == {
        "platform.byte_order",
        "platform.ld_so_preload",
        "platform.libc",
        "platform.machine",
        "platform.system",
    }


@pytest.mark.requirement("REQ-ENV-05")
def test_host_name_is_not_recorded():
    found = facts()
    assert found["platform.host_sha256"].value == hashlib.sha256(platform.node().encode()).hexdigest()
    assert platform.node() not in [fact.value for fact in found.values()]


@pytest.mark.parametrize(
    ("environ", "fact"),
    [
        ({}, Fact.absent("platform.image", scope="instance")),
        ({"IMAGE_DIGEST": ""}, Fact.absent("platform.image", scope="instance")),
        ({"IMAGE_DIGEST": "sha256:ab"}, Fact.of("platform.image", "sha256:ab", scope="instance")),
        ({"IMAGE_DIGEST": "x" * 2000}, Fact.unreadable("platform.image", scope="instance")),
        ({"IMAGE_DIGEST": "\udcff"}, Fact.unreadable("platform.image", scope="instance")),
    ],
)
def test_image(environ, fact):
    assert facts(environ)["platform.image"] == fact


def test_file_of_the_loader(monkeypatch, tmp_path):
    path = tmp_path / "ld.so.preload"
    monkeypatch.setattr(module, "_PRELOAD", path)
    assert facts()["platform.ld_so_preload"].status == "absent"
    path.write_bytes(b"/lib/x.so\n")
    assert facts()["platform.ld_so_preload"].value == hashlib.sha256(b"/lib/x.so\n").hexdigest()
    path.unlink()
    path.mkdir()
    assert facts()["platform.ld_so_preload"].status == "unreadable"
