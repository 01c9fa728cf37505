# SPDX-License-Identifier: Apache-2.0
"""Which executed files validation is bound to, and how they are named."""

from __future__ import annotations

import hashlib
import sys
from types import ModuleType

import pytest

from weighmaster.core.environment import Fact
from weighmaster.probe.libraries import Origins, library_facts, preloaded, real_origins

SITE = "/opt/venv/lib/python3.11/site-packages"
ORIGINS = Origins(
    numeric=(f"{SITE}/numpy/", f"{SITE}/numpy.libs/", f"{SITE}/nvidia/", f"{SITE}/torch/"),
    installed=(f"{SITE}/", "/opt/python/lib/python3.11/lib-dynload/"),
    system=("/opt/python/lib/", "/usr/lib/"),
    preloaded=frozenset({"libhook.so"}),
)


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/usr/lib/libhook.so", "class"),  # (1)
        (f"{SITE}/yaml/libhook.so", "class"),
        (f"{SITE}/torch/lib/libtorch_cpu.so", "class"),  # (2)
        (f"{SITE}/torch/lib/libgomp.so.1", "class"),
        (f"{SITE}/numpy/_core/_multiarray_umath.so", "class"),
        (f"{SITE}/numpy.libs/libscipy_openblas64_-32a4b2a6.so", "class"),
        (f"{SITE}/nvidia/cublas/lib/libcublasLt.so.12", "class"),
        (f"{SITE}/numpy/random/_mt19937.so", "instance"),
        (f"{SITE}/torchvision/_C.so", "instance"),  # (3)
        (f"{SITE}/scipy.libs/libgomp.so.1", "instance"),
        ("/opt/python/lib/python3.11/lib-dynload/_ssl.so", "instance"),
        ("/usr/lib/x86_64-linux-gnu/libm.so.6", "class"),  # (4)
        ("/usr/lib/x86_64-linux-gnu/libc-2.31.so", "class"),
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.550.1", "class"),
        ("/opt/python/lib/libpython3.11.so.1.0", "class"),
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", "instance"),  # (5)
        ("/usr/lib/x86_64-linux-gnu/libcurl.so.4", "instance"),
        ("/usr/lib/x86_64-linux-gnu/libcap.so.2", "instance"),
        ("/opt/python/bin/python3.11", "class"),  # (6)
        ("/tmp/libssl.so.3", "class"),
        ("/home/me/.cache/kernel.so", "class"),
        ("/memfd:x", "class"),
        ("anon_inode:[x]", "class"),
        ("/usr/libevil/a.so", "class"),
    ],
)
def test_scope(path, scope):
    assert ORIGINS.scope(path) == scope


def maps_of(*paths) -> str:
    lines = []
    for path in paths:
        stat = path.stat()
        device = f"{stat.st_dev >> 8 & 0xFFF:02x}:{stat.st_dev & 0xFF | stat.st_dev >> 12 & 0xFFF00:02x}"
        lines.append(f"7f0000000000-7f0000001000 r-xp 00000000 {device} {stat.st_ino}   {path}\n")
    return "".join(lines)


def test_two_files_of_one_name_are_numbered_by_digest_class_first(tmp_path):
    paths = []
    for folder, content in (("a", b"2"), ("b", b"1"), ("c", b"1"), ("d", b"0")):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "libx.so")
        paths[-1].write_bytes(content)
    harmless = Origins(numeric=(), installed=(f"{tmp_path}/d/",), system=(), preloaded=frozenset())
    one, two = sorted(hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    expected = (
        Fact.of("lib.libx.so", one),
        Fact.of("lib.libx.so#2", two),
        Fact.of("lib.libx.so#3", hashlib.sha256(b"0").hexdigest(), scope="instance"),
    )
    assert library_facts(maps_of(*paths), harmless) == expected
    assert library_facts(maps_of(*reversed(paths)), harmless) == expected


def test_unreadable_beside_readable(tmp_path):
    path = tmp_path / "libx.so"
    path.write_bytes(b"1")
    gone = "7f0000000000-7f0000001000 r-xp 00000000 fe:00 {}   /gone/libx.so (deleted)\n"
    found = library_facts(maps_of(path) + gone.format(4) + gone.format(5), ORIGINS)
    assert [(fact.name, fact.status) for fact in found] == [
        ("lib.libx.so", "value"),
        ("lib.libx.so#2", "unreadable"),
        ("lib.libx.so#3", "unreadable"),
    ]


def test_changed_byte(tmp_path):
    path = tmp_path / "libx.so"
    path.write_bytes(b"1")
    (before,) = library_facts(maps_of(path), ORIGINS)
    path.write_bytes(b"22")
    (after,) = library_facts(maps_of(path), ORIGINS)
    assert (before.name, after.name) == ("lib.libx.so", "lib.libx.so")
    assert before.value != after.value


def test_name_that_is_no_fact_name(tmp_path):
    path = tmp_path / "a b\u00e9.so"
    path.write_bytes(b"1")
    (fact,) = library_facts(maps_of(path), ORIGINS)
    assert fact.name == "lib.a%20b%C3%A9.so"


def test_no_maps_is_unreadable(monkeypatch):
    monkeypatch.setattr("weighmaster.probe.libraries.read_maps", lambda: None)
    assert library_facts() == (Fact.unreadable("lib.maps"),)


def test_preloaded(tmp_path):
    real, link, listed = tmp_path / "libreal.so.1", tmp_path / "libl.so", tmp_path / "ld.so.preload"
    real.touch()
    link.symlink_to(real)
    assert preloaded("", listed) == frozenset()
    assert preloaded(f"{link}:libx.so liby.so", listed) == {"libl.so", "libreal.so.1", "libx.so", "liby.so"}
    listed.write_text("/usr/lib/libz.so\n")
    assert preloaded("", listed) == {"libz.so"}


def test_origins_of_imported_packages(tmp_path):
    torch = ModuleType("torch")
    torch.__path__ = [str(tmp_path / "torch")]
    origins = real_origins({"torch": torch})
    assert f"{tmp_path}/torch/" in origins.numeric
    assert f"{tmp_path}/nvidia/" in origins.numeric
    assert f"{tmp_path}/torch.libs/" in origins.numeric
    assert real_origins({}).numeric == ()
    assert real_origins({}).scope(sys.modules["_json"].__file__ or "") == "instance"
