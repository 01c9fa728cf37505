# SPDX-License-Identifier: Apache-2.0
"""The fastest codec that is right is in use; one that is wrong never is, and it is said which."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest

from weighmaster.pack import answers, backends, native, quantize
from weighmaster.pack.coder import NumpyBackend
from weighmaster.pack.native import NativeBackend


@pytest.fixture
def fresh():
    backends._tested.cache_clear()
    yield
    backends._tested.cache_clear()


class Wrong(NativeBackend):
    """Rebuilds one byte wrongly; `name` is that of the path that it stands for."""

    def decode(self, layout, blob, chunks, out):
        super().decode(layout, blob, chunks, out)
        out[-1] ^= 1


class Credulous(NativeBackend):
    """Finds nothing wrong with any chunk."""

    def decode(self, layout, blob, chunks, out):
        try:
            super().decode(layout, blob, chunks, out)
        except ValueError:
            raise
        except Exception:  # noqa: BLE001
            return


def compiler():
    """Whether an extension can be built here: the compiler that Python names, and Python's headers."""
    name = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(name) is not None and (
        subprocess.run(
            [name, "-E", "-I", sysconfig.get_path("include"), "-"],
            input=b"#include <Python.h>\n",
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


@pytest.mark.skipif(not compiler(), reason="no compiler here: the package works without the extension")
def test_where_a_compiler_is_the_extension_was_built():
    """An optional extension that fails to build is skipped in silence by the build: this is what would notice."""
    assert "c" in native.paths()
    assert isinstance(backends.best(), NativeBackend)


@pytest.mark.requirement("REQ-PAC-01")
def test_every_backend_that_is_there_is_right_and_numpy_comes_last():
    names = [backend.name for backend in backends.available()]
    assert names == [*native.paths(), "numpy"]
    assert backends.faults() == ()
    assert backends.describe() == (native.paths()[0] if native.paths() else "numpy: slow, no compiled codec here")


@pytest.mark.skipif("linux" not in sys.platform, reason="reads /proc/cpuinfo")
def test_the_paths_of_this_cpu_are_found():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        flags = next((line for line in file if line.startswith(("flags", "Features"))), "").split()
    if native.paths() and "avx2" in flags:
        assert "avx2" in native.paths()
    if native.paths():
        assert ("avx512" in native.paths()) == ("avx512f" in flags)


def test_the_numpy_codec_knows_the_answers():
    assert answers.codec_faults(NumpyBackend()) == ()


@pytest.mark.requirement("REQ-PAC-12")
@pytest.mark.skipif(not native.paths(), reason="no compiled codec here")
@pytest.mark.parametrize("kind", [Wrong, Credulous])
def test_a_wrong_codec_is_not_handed_out_and_is_named(kind, fresh, monkeypatch):
    bad = native.paths()[0]
    monkeypatch.setattr(backends, "NativeBackend", lambda name: (kind if name == bad else NativeBackend)(name))
    names = [backend.name for backend in backends.available()]
    assert bad not in names
    assert names[-1] == "numpy"
    assert backends.best().name == (native.paths()[1] if len(native.paths()) > 1 else "numpy")
    assert backends.describe().endswith(f"wrong answers, not in use: {bad}")
    assert backends.faults()
    assert all(f"codec {bad}" in str(fault) for fault in backends.faults())


def test_without_the_extension_numpy_does_it_and_that_is_said(fresh, monkeypatch):
    monkeypatch.setattr(backends, "paths", lambda: ())
    assert [backend.name for backend in backends.available()] == ["numpy"]
    assert backends.describe() == "numpy: slow, no compiled codec here"
    levels, none = np.array([[3]], np.int16), np.zeros(1, np.int8)
    assert (backends.histogram(levels, none, none) == quantize.histogram(levels, none, none)).all()
    data, one = np.array([0x4040], np.uint16).view(np.uint8), np.array([0x3F80], np.uint16)
    assert backends.quantize(data, "bfloat16", 1, 1, one, one).tolist() == [[3]]
    assert backends.energies(data, "bfloat16", 1, 1)[0].tolist() == [9.0]


def test_the_number_of_answers_is_pinned(monkeypatch):
    monkeypatch.setattr(answers, "_CASES", answers._CASES[:-1])
    faults = answers.codec_faults(NumpyBackend())
    assert [fault.expected for fault in faults] == [str(answers.COUNT)]


@pytest.mark.skipif(not native.paths(), reason="no compiled codec here")
@pytest.mark.parametrize("name", native.paths())
def test_a_codec_of_another_layout_of_symbols_is_caught(name, monkeypatch):
    """Known answers cover tables that start above symbol 0 and below it."""
    lowest = {table.lowest for case in answers._CASES for table in answers._matrix(case)[0].tables if table}
    assert min(lowest) < 0 < max(lowest)
